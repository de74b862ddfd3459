"""A crash at every call that durability depends on: nothing acknowledged is lost, nothing is in the lake twice.

The scenario (harness.fault_scenario) runs once and its calls are counted; then once for each call and each moment
(before it, after half of its bytes, after it), where the server is killed. It starts again on the same folder, requests
with a key are sent again, SIGTERM drains it, and harness.lake_oracle, which knows pyarrow and not the server, judges the
lake. The default suite runs a sample of the points, the long tier all of them."""

import random
import re
from pathlib import Path

import pytest

from fault.sampling import SEED, Folders, complain, each, percentile, sample, say
from harness import fault_trace
from harness.fault_proxy import FaultProxy
from harness.fault_rig import Rig
from harness.fault_scenario import BLOCKED_DATE
from harness.lakes import S3Lake

pytestmark = pytest.mark.once

POINTS = 24  # of the default suite
SEVERAL_POINTS = 6
S3_POINTS = 10
REQUEST_POINTS = 10
NESTED = 6
POINTS_ALL = 1 << 30
READY_SECONDS_MAX = 2.0
# A request or two is enough for an object: most flushes of the scenario make several of one day.
SEVERAL_OBJECTS = {"EIDER_OBJECT_BYTES": "64KiB"}
PART = re.compile(r"-p\d{5}\.parquet$")


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


class S3Rigs:
    """Each rig has a prefix of its own in one bucket, behind a proxy of its own that refuses the blocked partition."""

    def __init__(self, s3):
        self.s3 = s3
        self.bucket = s3.make_bucket("fault")
        self.made = 0

    def rig(self, binary, folder, env=None):
        self.made += 1
        proxy = FaultProxy(self.s3.port)
        proxy.fail(403, times=1 << 30, code="AccessDenied", key=f"year={BLOCKED_DATE[:4]}")
        rig = Rig(binary, folder, S3Lake(self.s3, self.bucket, f"lake-{self.made}", proxy.endpoint), env)
        rig.proxy = proxy
        return rig


@pytest.fixture
def s3_rigs(s3):
    return S3Rigs(s3)


def count_calls(make_rig, folders):
    """The kinds of the calls of one undisturbed run, in order, which must itself be without complaint."""
    with folders.one() as folder:
        rig = make_rig(Path(folder))
        try:
            code = rig.run(rig.shim(trace=True))
            assert code == 0, f"exit {code} of the undisturbed run:\n{rig.servers[-1].stderr}"
            unanswered = [str(one.entry()) for one in rig.sent.values() if one.verdict == "open"]
            assert not unanswered, f"requests of the undisturbed run failed: {unanswered}"
            assert rig.judge() == []
            parts = [key for key in rig.lake.keys("data/") if PART.search(key)]
            assert bool(parts) == ("EIDER_OBJECT_BYTES" in rig.env), f"objects that are parts of a flush: {parts}"
            return [call.kind for call in fault_trace.read_trace(rig.trace_file) if call.kind != "reply"]
        finally:
            rig.close()


def points_of(kinds):
    points = []
    for number, kind in enumerate(kinds, 1):
        points += [(number, "before"), (number, "after")] + ([(number, "half")] if kind == "write" else [])
    return points


def crash(make_rig, folders, setting, nested=()):
    """One life that ends at a point, more that end while they recover, and one that has to be right."""
    with folders.one() as folder:
        rig = make_rig(Path(folder))
        try:
            code = rig.run(rig.shim(kill=setting))
            assert code in (0, -9), f"exit {code}:\n{rig.servers[-1].stderr}"
            for number in nested:
                server = rig.start(rig.shim(kill=f"{number}:after"))
                rig.end(server)
            rig.recover()
            violations = rig.judge()
            assert not violations, f"killed at {setting}, then {nested}: {violations}"
            return code == -9, rig.ready_seconds
        finally:
            rig.close()


def crash_everywhere(make_rig, folders, count, what):
    kinds = count_calls(make_rig, folders)
    failures, crashed, first, ready = [], 0, [], []
    chosen = sample(points_of(kinds), count, f"{what}: crash points")
    for number, moment in each(chosen, what):
        try:
            died, seconds = crash(make_rig, folders, f"{number}:{moment}")
            crashed += died
            first += seconds[:-1]
            ready.append(seconds[-1])
        except Exception as error:  # all points are tried before the first failure is shown
            complain(failures, f"{number}:{moment} ({kinds[number - 1]}): {error}")
    say(f"{what}: {crashed} crashes, {len(failures)} failures, ready again in {percentile(ready, 0.5):.2f} s, "
        f"p99 {percentile(ready, 0.99):.2f} s; the first time {percentile(first, 0.5):.2f} s, "
        f"p99 {percentile(first, 0.99):.2f} s")  # fmt: skip
    assert not failures, f"{len(failures)} of {len(chosen)} points:\n" + "\n".join(failures[:5])
    assert crashed > len(chosen) // 2, "the points are not where the calls are"
    # What a start on an empty folder takes is the machine's doing: other work runs beside this.
    part = 0.99 if count == POINTS_ALL else 0.5
    assert percentile(ready, part) <= READY_SECONDS_MAX + percentile(first, part)


def folder_rig(binary, env=None):
    return lambda folder: Rig(binary, folder, env=env)


def test_crash_points_of_a_lake_in_a_folder(eider_binary, folders):
    crash_everywhere(folder_rig(eider_binary), folders, POINTS, "folder")


def test_crash_points_of_flushes_of_several_objects(eider_binary, folders):
    crash_everywhere(folder_rig(eider_binary, SEVERAL_OBJECTS), folders, SEVERAL_POINTS, "several objects")


def test_crash_points_of_a_lake_in_s3(eider_binary, folders, s3_rigs):
    crash_everywhere(lambda folder: s3_rigs.rig(eider_binary, folder), folders, S3_POINTS, "S3")


@pytest.mark.long
def test_every_crash_point_of_a_lake_in_a_folder(eider_binary, folders, no_deadline):
    crash_everywhere(folder_rig(eider_binary), folders, POINTS_ALL, "folder")


@pytest.mark.long
def test_every_crash_point_of_flushes_of_several_objects(eider_binary, folders, no_deadline):
    crash_everywhere(folder_rig(eider_binary, SEVERAL_OBJECTS), folders, POINTS_ALL, "several objects")


@pytest.mark.long
def test_every_crash_point_of_a_lake_in_s3(eider_binary, folders, s3_rigs, no_deadline):
    crash_everywhere(lambda folder: s3_rigs.rig(eider_binary, folder), folders, POINTS_ALL, "S3")


# ---- at the requests to the store ----


def crash_at_requests(eider_binary, folders, s3_rigs, count, env=None):
    """Killed when the store has a request and has not answered it, and when it has and nobody knows."""

    def life(number, after):
        with folders.one() as folder:
            rig = s3_rigs.rig(eider_binary, Path(folder), env)
            try:
                if number is not None:
                    add = rig.proxy.after if after else rig.proxy.before
                    add(lambda: rig.servers[0].process.kill(), skip=number)
                rig.run()
                requests = rig.proxy.count()
                rig.recover()
                violations = rig.judge()
                assert not violations, f"killed {'after' if after else 'before'} request {number}: {violations}"
                return requests
            finally:
                rig.close()
                rig.proxy.close()

    total = life(None, False)
    points = [(number, after) for number in range(total) for after in (False, True)]
    failures = []
    for number, after in each(sample(points, count, "requests to the store"), "requests to the store"):
        try:
            life(number, after)
        except Exception as error:
            complain(failures, f"{'after' if after else 'before'} request {number}: {error}")
    assert not failures, f"{len(failures)} points:\n" + "\n".join(failures[:5])


def test_crash_at_requests_to_the_store(eider_binary, folders, s3_rigs):
    crash_at_requests(eider_binary, folders, s3_rigs, REQUEST_POINTS)


@pytest.mark.long
def test_crash_at_every_request_to_the_store(eider_binary, folders, s3_rigs, no_deadline):
    crash_at_requests(eider_binary, folders, s3_rigs, POINTS_ALL)


@pytest.mark.long
def test_crash_at_every_request_of_flushes_of_several_objects(eider_binary, folders, s3_rigs, no_deadline):
    crash_at_requests(eider_binary, folders, s3_rigs, POINTS_ALL, SEVERAL_OBJECTS)


# ---- while it recovers ----


def nested(eider_binary, folders, count):
    make_rig = folder_rig(eider_binary)
    total = len(count_calls(make_rig, folders))
    rng = random.Random(SEED)
    failures = []
    cases = [
        (rng.randrange(total // 4, total), [rng.randrange(1, 60) for _ in range(rng.randrange(1, 4))])
        for _ in range(count)
    ]
    cases = sample(cases, count, "nested kills")
    for first, more in each(cases, "nested kills"):
        try:
            crash(make_rig, folders, f"{first}:after", more)
        except Exception as error:
            complain(failures, f"{first}, then {more}: {error}")
    say(f"nested kills: {len(cases)} cases, {len(failures)} failures")
    assert not failures, "\n".join(failures[:5])


def test_crashes_while_recovering(eider_binary, folders):
    nested(eider_binary, folders, NESTED)


@pytest.mark.long
def test_many_crashes_while_recovering(eider_binary, folders, no_deadline):
    nested(eider_binary, folders, 200)
