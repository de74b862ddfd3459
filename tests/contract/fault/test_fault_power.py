"""The power is cut: of what was not synced any part may be on the disk, and nothing acknowledged is lost.

One run of the scenario is recorded (harness.fault_trace), the disks that a power cut may leave are made from it
(harness.fault_images), the real server starts on each, drains, and harness.lake_oracle judges the lake by the answers
that had left before the cut. With libeatmydata preloaded nothing is synced, and the same test has to fail."""

import random
from pathlib import Path

import pytest
import requests

from fault.sampling import SEED, Folders, complain, each, percentile, sample, say
from harness import fault_trace
from harness.fault_images import Recording
from harness.fault_rig import Rig
from harness.fault_scenario import REFUSED_STATUSES

pytestmark = pytest.mark.once

IMAGES = 40  # of the default suite
CONTROL_IMAGES = 30
EATMYDATA = ("/usr/lib/x86_64-linux-gnu/libeatmydata.so", "/usr/lib/aarch64-linux-gnu/libeatmydata.so")


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


class Power:
    """One recorded run, and the judgement of its images."""

    def __init__(self, binary, folder, before=()):
        self.binary = binary
        self.rig = Rig(binary, folder)
        self.rig.run(self.rig.shim(trace=True, before=before))
        self.rig.close()
        self.recording = Recording(fault_trace.read_trace(self.rig.trace_file))
        self.root = str(self.rig.data.resolve())
        rng = random.Random(SEED)
        self.cuts = self.recording.cuts()
        self.images = [image for cut in self.cuts for image in self.recording.images(cut, rng)]
        self.ready_seconds = []

    def journal(self, at):
        """What the clients knew when the power went."""
        answers = self.recording.answers(at)
        entries = []
        for sent in self.rig.sent.values():
            statuses = answers.get(sent.req, [])
            verdict = "open"
            if any(200 <= status < 300 for status in statuses):
                verdict = "acked"
            elif statuses and all(status in REFUSED_STATUSES for status in statuses):
                verdict = "refused"
            entries.append(sent.entry(verdict))
        return entries

    def complaints(self, image, folder):
        """What is wrong after a start on the image."""
        rig = Rig(self.binary, folder)
        try:
            self.recording.build(image, self.root, str(rig.data))
            server = rig.start()
            if not server.running():
                return [f"no start, exit {server.returncode}: {server.stderr[-600:]}"]
            code = rig.end(server)
            if code != 0:
                return [f"exit {code} after the drain: {server.stderr[-600:]}"]
            self.ready_seconds += rig.ready_seconds
            return rig.judge(self.journal(image.at))
        finally:
            rig.close()


def judge_images(power, folders, chosen, is_enough=None):
    failures = []
    for image in each(chosen, "images of power cuts"):
        with folders.one() as folder:
            try:
                complaints = power.complaints(image, Path(folder))
            except AssertionError as error:
                complaints = [str(error)]
        if complaints:
            complain(failures, f"{image}: {complaints[:3]}")
            if is_enough is not None and is_enough(failures[-1]):
                break
    return failures


def cut_everywhere(eider_binary, folders, tmp_path, count):
    power = Power(eider_binary, tmp_path / "recorded")
    syncs = sum(call.kind in fault_trace.SYNCS for call in power.recording.calls)
    say(f"recorded: {len(power.recording.calls)} calls, {syncs} syncs, {len(power.cuts)} cuts")
    disks = power.recording.different(power.images)
    say(f"{len(power.images)} images, {len(disks)} different disks")
    chosen = sample(disks, count, "images of power cuts")
    failures = judge_images(power, folders, chosen)
    say(f"power cuts: {len(chosen)} images, {len(failures)} failures, ready again p99 "
        f"{percentile(power.ready_seconds, 0.99):.2f} s")  # fmt: skip
    assert syncs > 20
    assert not failures, f"{len(failures)} of {len(chosen)} images:\n" + "\n".join(failures[:5])


def test_power_cuts(eider_binary, folders, tmp_path):
    cut_everywhere(eider_binary, folders, tmp_path, IMAGES)


@pytest.mark.long
def test_power_cuts_everywhere(eider_binary, folders, tmp_path, no_deadline):
    cut_everywhere(eider_binary, folders, tmp_path, 1 << 30)


def test_power_cuts_without_syncs_lose_records(eider_binary, folders, tmp_path):
    """The control: where nothing is ever synced, the test above must see losses."""
    library = next((path for path in EATMYDATA if Path(path).exists()), None)
    assert library, "libeatmydata is missing: tools/packages.sh test"
    power = Power(eider_binary, tmp_path / "recorded", before=[library])
    assert not [call for call in power.recording.calls if call.kind in fault_trace.SYNCS], "it did sync"
    chosen = sample(power.images, CONTROL_IMAGES, "images without syncs")
    failures = judge_images(power, folders, chosen, is_enough=lambda failure: "is lost" in failure)
    say(f"without syncs: {failures}")
    assert any("is lost" in failure for failure in failures), "the power-loss test does not notice that nothing is synced"


def write_to_a_database(url):
    """The server may be killed meanwhile."""
    try:
        done = requests.post(f"{url}/api/v1/duckdb/query", json={"query": "CREATE TABLE kept (a INTEGER)"}, timeout=20)
    except requests.exceptions.RequestException:
        return
    assert done.status_code == 200, done.text


def test_folders_of_a_start_that_was_killed_are_synced_by_the_next(eider_binary, folders):
    """A folder is there, but whoever made it died before its name was durable: all that is ever written in it would
    be gone with a later power cut."""

    def life(folder, **settings):
        """What it did until it was ready, and from then on."""
        rig = Rig(eider_binary, folder, env={"EIDER_LAKE": str(folder / "data" / "other")})  # not made by the rig
        try:
            server = rig.start(rig.shim(trace=True, **settings))
            ready = len(fault_trace.read_trace(rig.trace_file))
            if server.running():
                write_to_a_database(server.url)
            rig.end(server)
            calls = fault_trace.read_trace(rig.trace_file)
            return [[call for call in part if call.kind != "reply"] for part in (calls[:ready], calls[ready:])]
        finally:
            rig.close()

    with folders.one() as folder:
        start, since = life(Path(folder))
        root = str((Path(folder) / "data").resolve())
    made = {call.path[len(root) :]: number for number, call in enumerate(start + since, 1) if call.kind == "mkdir"}
    for name in ("/log", "/log/plans", "/log/records", "/other", "/db"):
        with folders.one() as folder:
            life(Path(folder), kill=f"{made[name]}:after")
            (Path(folder) / "trace").unlink()
            start, since = life(Path(folder))
            root = str((Path(folder) / "data").resolve())
            again = [call for call in start + since if call.kind == "mkdir" and call.path == root + name]
            assert not again, "it was not killed"
            synced = [call.path for call in (since if name == "/db" else start) if call.kind == "fsync"]
            assert str(Path(root + name).parent) in synced, f"the name of {name} is not durable: {synced}"
