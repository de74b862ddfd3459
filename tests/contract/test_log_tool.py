"""`eider log inspect` and `eider log verify`, on logs that a second writer made from the description of the format
(harness/log_files.py), and on what a server leaves."""

import fcntl
import hashlib
import json
import re

import pytest

from conftest import _factory
from harness import log_files
from harness.ingest_client import accepted, post_batch
from harness.lakes import FolderLake
from harness.log_files import Record, Segment
from harness.rows_client import NDJSON, NO_FLUSH, buffered, flushed

OK, FAILED, USAGE, DAMAGED = 0, 1, 2, 65
USER = 17


def make_segment(number, first, payloads, previous=None, replaces=None, writer=b"w" * 16, salt=b"saltsalt"):
    """A prologue, the payloads, and a heartbeat."""
    kinds = [log_files.PROLOGUE] + [USER] * len(payloads) + [log_files.HEARTBEAT]
    contents = [b"what came before", *payloads, b""]
    records = [Record(first + i, kind, bytes_, durable=first + i - 1) for i, (kind, bytes_) in enumerate(zip(kinds, contents))]
    previous = first - 1 if previous is None else previous
    return Segment(number, previous, first, replaces or number, writer, salt, records)


@pytest.fixture
def log(tmp_path):
    """Two segments: sequences 1..5 and 6..9."""
    folder = tmp_path / "log"
    log_files.write_log(folder, [make_segment(1, 1, [b"one", b"x" * 3000, b""]), make_segment(2, 6, [b"four", b"five"])])
    return folder


def state(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def flip(folder, number, offset):
    path = folder / f"{number:020}.wal"
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


def place_of(folder, sequence):
    """Segment and offset of a record's header."""
    for segment in log_files.read_log(folder):
        for record in segment.records:
            if record.sequence == sequence:
                return segment.number, record.offset - 40
    raise AssertionError(f"no record {sequence}")


def test_a_whole_log(log, run_eider):
    before = state(log)
    done = run_eider("log", "verify", str(log))
    assert (done.returncode, done.stderr) == (OK, "")
    assert done.stdout.splitlines()[0] == f"writer {(b'w' * 16).hex()}, epoch 1"
    assert done.stdout.splitlines()[-1] == "ok: 2 segments, 5 records with 3011 bytes, 0 torn at the end"
    assert state(log) == before, "verify has changed something"


def test_inspect_prints_each_record(log, run_eider):
    before = state(log)
    done = run_eider("log", "inspect", str(log))
    assert (done.returncode, done.stderr) == (OK, "")
    lines = re.findall(r"^  (\d+)  offset (\d+)  (prologue|heartbeat|type \d+)  (\d+) bytes", done.stdout, re.MULTILINE)
    expected = [record for segment in log_files.read_log(log) for record in segment.records]
    names = {log_files.PROLOGUE: "prologue", log_files.HEARTBEAT: "heartbeat", USER: "type 17"}
    assert lines == [(str(r.sequence), str(r.offset - 40), names[r.type], str(len(r.payload))) for r in expected]
    assert len(re.findall(r"^segment \d+: 65536 bytes, ", done.stdout, re.MULTILINE)) == 2
    assert state(log) == before


@pytest.mark.parametrize("sequence", range(1, 9))
def test_damage_is_found_and_named(log, run_eider, sequence):
    segment, offset = place_of(log, sequence)
    flip(log, segment, offset + 20)
    before = state(log)
    done = run_eider("log", "verify", str(log))
    assert done.returncode == DAMAGED
    assert f"segment {segment}, offset {offset}: " in done.stderr
    assert state(log) == before, "a damaged log has to stay as it is"


def test_a_torn_end_is_no_damage(log, run_eider):
    """The last record, a heartbeat: nothing after it says that it was acknowledged."""
    segment, offset = place_of(log, 9)
    flip(log, segment, offset + 20)
    done = run_eider("log", "verify", str(log))
    assert (done.returncode, done.stderr) == (OK, "")
    assert "then 1 torn, never acknowledged" in done.stdout


def test_a_record_that_ends_in_zeros_is_whole(tmp_path, run_eider):
    """The file goes on with zeros after the last record, as a segment does that is not full."""
    segment = make_segment(1, 1, [b"one", bytes(1200 << 10)])
    segment.records.pop()  # the heartbeat
    log_files.write_log(tmp_path / "log", [segment], 8 << 20)
    done = run_eider("log", "verify", str(tmp_path / "log"))
    assert (done.returncode, done.stderr) == (OK, "")
    assert done.stdout.splitlines()[-1] == f"ok: 1 segments, 2 records with {3 + (1200 << 10)} bytes, 0 torn at the end"


def test_a_bad_header_and_a_missing_segment(log, run_eider):
    log_files.write_log(log.parent / "three", [make_segment(n, 1 + 3 * n, [b"x"]) for n in (1, 2, 3)])
    flip(log, 1, 60)
    done = run_eider("log", "verify", str(log))
    assert (done.returncode, "segment 1, offset 0: " in done.stderr) == (DAMAGED, True)
    (log.parent / "three" / f"{2:020}.wal").unlink()
    done = run_eider("log", "verify", str(log.parent / "three"))
    assert (done.returncode, "segment 2, offset 0: the segment is missing" in done.stderr) == (DAMAGED, True)


def test_a_replaced_segment_is_left_out(tmp_path, run_eider):
    folder = tmp_path / "log"
    old, copy = make_segment(1, 1, [b"one", b"two"]), make_segment(2, 1, [b"one", b"two"], replaces=1, salt=b"another.")
    log_files.write_log(folder, [old, copy])
    flip(folder, 1, place_of(folder, 2)[1] + 3)  # whatever has become of it
    done = run_eider("log", "verify", str(folder))
    assert (done.returncode, done.stderr) == (OK, "")
    assert done.stdout.count("replaced by a later one") == 1
    assert "2 records with 6 bytes" in done.stdout


def test_a_log_in_use_and_no_log_at_all(log, run_eider, tmp_path):
    with open(log / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run_eider("log", "verify", str(log))
        assert (done.returncode, "a process uses this log" in done.stderr) == (FAILED, True)
    assert run_eider("log", "verify", str(log)).returncode == OK
    assert run_eider("log", "verify", str(tmp_path)).returncode == FAILED
    assert run_eider("log", "verify", str(tmp_path / "nothing")).returncode == FAILED


def test_usage(run_eider):
    for words in (["log"], ["log", "inspect"], ["log", "mend", "x"], ["log", "verify", "a", "b"]):
        done = run_eider(*words)
        assert (done.returncode, done.stdout) == (USAGE, "")
        assert "usage: eider log" in done.stderr
    assert "usage: eider log inspect DIR" in run_eider("log", "--help").stdout


# ---- what a server leaves ----

RECORDS_TYPES, PLANS_TYPES = {log_files.PROLOGUE, 16, 17}, {log_files.PROLOGUE, 32, 33, 34}
DAYS = ["2025-03-01", "2025-03-04"]


@pytest.fixture(scope="module")
def left(eider_binary, tmp_path_factory):
    """The folder of a server's two logs: buffered rows of two days with a key, flushed, then one more; and a batch."""
    factory = _factory(eider_binary, tmp_path_factory)
    server = factory({"EIDER_INGEST_LISTEN": "127.0.0.1:0", **NO_FLUSH}, lake=FolderLake())
    declared = {"columns": [{"name": "at", "type": "DATE"}], "partition_by": "at"}
    assert server.request("PUT", "/tables/alpha", json=declared).status_code == 200
    body = "".join(json.dumps({"at": day, "v": 1}) + "\n" for day in DAYS)
    headers = {"Content-Type": NDJSON, "Idempotency-Key": "once"}
    assert server.post("/tables/alpha/rows", data=body, headers=headers).status_code == 200
    flushed(server, "alpha")
    buffered(server, "alpha", {"at": DAYS[0]})
    accepted(server, post_batch(server, "beta", [{"v": 1}, {"v": 2}, {"v": 3}], "2025-03-09"))
    server.kill()  # a stop would flush
    yield server.data / "log"
    factory.finish()


def described(run_eider, folder):
    done = run_eider("log", "inspect", str(folder))
    assert (done.returncode, done.stderr) == (OK, "")
    return re.findall(r"^  \d+  offset .* durable to \d+  (\S.*)$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["records", "plans"])
def test_what_a_server_leaves_is_whole(name, left, run_eider):
    done = run_eider("log", "verify", str(left / name))
    assert (done.returncode, done.stderr) == (OK, "")
    types = set()
    for segment in log_files.read_log(left / name):
        assert segment.records[0].type == log_files.PROLOGUE
        types |= {record.type for record in segment.records} - {log_files.HEARTBEAT}
    assert types == (RECORDS_TYPES if name == "records" else PLANS_TYPES)


def test_inspect_says_what_rows_are(left, run_eider):
    lines = described(run_eider, left / "records")
    assert lines[0] == "tables: 0"
    rows = [re.sub(r"arrived [-0-9T:.]+Z", "arrived T", line) for line in lines if line.startswith("rows: ")]
    assert rows == [
        f"rows: table alpha, 2 rows, days {DAYS[0]} {DAYS[1]}, buffered, group 0, last yes, key yes, arrived T, "
        "request 2 rows and 0 dead",
        f"rows: table alpha, 1 rows, days {DAYS[0]}, buffered, group 0, last yes, key no, arrived T, request 1 rows and 0 dead",
        "rows: table beta, 3 rows, days 2025-03-09, batch, group 0, last yes, key no, arrived T, request 3 rows and 0 dead",
    ]
    schemas = [line for line in lines if line.startswith("schema: ")]
    assert "schema: table alpha, 3 columns: at DATE, _rest VARCHAR, v BIGINT" in schemas
    assert len(rows) + len(schemas) + 1 == len(lines)


def test_inspect_says_what_plans_are(left, run_eider):
    lines = described(run_eider, left / "plans")
    (plan,) = [line for line in lines if line.startswith("plan: ")]
    found = re.fullmatch(r"plan: table alpha, positions (\d+)-(\d+), made \S+Z, 2 objects: (\S+) with 1 rows of (\S+), "
                         r"(\S+) with 1 rows of (\S+)", plan)
    assert found, plan
    first, last, one, one_day, other, other_day = found.groups()
    assert [one_day, other_day] == DAYS
    assert all(key.startswith("data/alpha/year=2025/month=03/day=0") and f"-r{int(first):016}-{int(last):016}." in key for key in (one, other))
    assert f"committed: table alpha, position {last}" in lines
    assert len([line for line in lines if re.fullmatch(r"stored: table beta, position \d+", line)]) == 1
