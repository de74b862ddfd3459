"""An error of the disk at every call: what was acknowledged before is kept, and a log that broke ends the process.

As test_fault_crash, but the call fails with EIO, ENOSPC, EDQUOT or EROFS, once or from then on, is interrupted, or writes
one byte. The server may refuse requests, or end; it may not answer 2xx to what it cannot keep."""

from pathlib import Path

import pytest

from fault.sampling import Folders, complain, each, sample, say
from fault.test_fault_crash import count_calls, folder_rig

pytestmark = pytest.mark.once

CASES = 17
FAULTS = ["EIO", "EIO:on", "ENOSPC", "ENOSPC:on", "EDQUOT", "EROFS:on", "EINTR", "short"]
# A log that broke; a start that the disk did not allow.
EXITS = {0, 70, 1, 65, 74, 75}


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


def cases_of(kinds):
    cases = []
    for number, kind in enumerate(kinds, 1):
        cases += [(number, fault) for fault in FAULTS if fault != "short" or kind == "write"]
    return cases


def fail_once(make_rig, folders, number, fault):
    with folders.one() as folder:
        rig = make_rig(Path(folder))
        try:
            code = rig.run(rig.shim(fail=f"{number}:{fault}"))
            assert code in EXITS, f"exit {code}:\n{rig.servers[-1].stderr}"
            if fault in ("EINTR", "short"):
                wrong = [one.entry() for one in rig.sent.values() if one.verdict == "open"]
                assert code == 0 and not wrong, f"not an error, but exit {code}, {wrong}:\n{rig.servers[-1].stderr}"
            rig.recover()
            violations = rig.judge()
            assert not violations, f"{violations}"
            return code
        finally:
            rig.close()


def fail_everywhere(eider_binary, folders, count):
    make_rig = folder_rig(eider_binary)
    kinds = count_calls(make_rig, folders)
    failures, exits = [], {}
    for number, fault in each(sample(cases_of(kinds), count, "errors of the disk"), "errors of the disk"):
        try:
            code = fail_once(make_rig, folders, number, fault)
            exits[code] = exits.get(code, 0) + 1
        except Exception as error:
            complain(failures, f"{number} ({kinds[number - 1]}) {fault}: {error}")
    say(f"errors of the disk: exit statuses {exits}, {len(failures)} failures")
    assert not failures, f"{len(failures)} failures:\n" + "\n".join(failures[:5])


def test_errors_of_the_disk(eider_binary, folders):
    fail_everywhere(eider_binary, folders, CASES)


def test_a_signal_ends_no_start_and_no_flush(eider_binary, folders):
    """Also where a folder or a file is made outside the log: at the start, and in the lake."""
    make_rig = folder_rig(eider_binary)
    kinds = count_calls(make_rig, folders)
    last_folder = len(kinds) - kinds[::-1].index("mkdir")
    for number in (kinds.index("mkdir") + 1, kinds.index("create") + 1, last_folder):
        fail_once(make_rig, folders, number, "EINTR")


@pytest.mark.long
def test_errors_of_the_disk_at_every_call(eider_binary, folders, no_deadline):
    fail_everywhere(eider_binary, folders, 1 << 30)
