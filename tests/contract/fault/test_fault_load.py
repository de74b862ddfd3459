"""Minutes of load: kill -9 again and again, a store that is away, a disk that is full. The long tier's."""

import contextlib
import os
import random
import signal
import threading
import time

import pytest

from fault.sampling import SEED, percentile, say
from harness.fault_clients import Clients
from harness.fault_rig import Rig
from harness.fault_scenario import exchange
from harness.lakes import S3Lake
from harness.snapshot_processes import WORKER, children_named
from harness.waiting import wait_until

pytestmark = [pytest.mark.once, pytest.mark.long]

CYCLES = int(os.environ.get("EIDER_FAULT_CYCLES") or 200)
OUTAGE_SECONDS = float(os.environ.get("EIDER_FAULT_OUTAGE") or 180)
CLIENTS = 64


class Life:
    """The server that runs now, and its end. A pause is a wait for a moment, not for a condition."""

    def __init__(self, rig):
        self.rig = rig
        self.server = None
        self._pause = threading.Event()

    def address(self):
        server = self.server
        return server.address() if server is not None else None

    def begin(self):
        server = self.rig.start()
        assert server.running(), f"no start, exit {server.returncode}:\n{server.stderr}"
        self.server = server

    def pass_time(self, seconds):
        self._pause.wait(seconds)
        assert self.server is None or self.server.running(), f"died by itself:\n{self.server.stderr[-3000:]}"

    def kill(self):
        server, self.server = self.server, None
        server.kill()

    def kill_worker(self):
        for pid in children_named(self.server, WORKER):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def freeze(self, seconds):
        self.server.send(signal.SIGSTOP)
        self._pause.wait(seconds)
        self.server.send(signal.SIGCONT)


def seconds_of_an_empty_start(binary, folder):
    rig = Rig(binary, folder, plan=[])
    try:
        assert rig.end(rig.start()) == 0
        return rig.ready_seconds
    finally:
        rig.close()


def test_200_kills_under_64_clients(eider_binary, tmp_path, no_deadline):
    rng = random.Random(SEED)
    rig = Rig(eider_binary, tmp_path, env={"EIDER_FLUSH_AGE_MS": "300", "EIDER_LOG_SEGMENT": "4MiB"}, plan=[])
    life = Life(rig)
    clients = Clients(CLIENTS, life.address, seed=SEED)
    servers = workers = stops = 0
    empty = []  # what a start takes that has nothing to recover, on this machine and beside the same clients
    try:
        life.begin()
        clients.start()
        for cycle in range(CYCLES):
            life.pass_time(rng.uniform(0.2, 2.0))
            if cycle % 20 == 19:
                life.freeze(rng.uniform(0.5, 5.0))
                stops += 1
                empty += seconds_of_an_empty_start(eider_binary, tmp_path / f"empty-{cycle}")
            if cycle % 2 == 0:
                with contextlib.suppress(AssertionError):  # no worker within the second: nothing to hit
                    workers += wait_until(life.kill_worker, 1, interval=0.001)
            else:
                life.kill()
                life.begin()
                servers += 1
        clients.stop()
        code = rig.end(life.server)
        assert code == 0, life.server.stderr[-3000:]
        rig.recover(retry=False)
        say(f"{servers} kills of the server, {workers} of a worker, {stops} stops; {len(clients.sent)} requests, "
            f"statuses {clients.statuses}; ready again in {percentile(rig.ready_seconds, 0.5):.2f} s, "
            f"p99 {percentile(rig.ready_seconds, 0.99):.2f} s, worst {max(rig.ready_seconds):.2f} s; "
            f"with nothing to recover {percentile(empty, 0.5):.2f} s")  # fmt: skip
        violations = rig.judge(clients.journal())
        assert not violations, f"{len(violations)} violations: {violations[:20]}"
        assert not clients.problems, clients.problems[:10]
        assert clients.acked() > 1000
        assert percentile(rig.ready_seconds, 0.5) <= 2.0 + percentile(empty, 0.5)  # 64 clients are at the door
    finally:
        clients._stop.set()
        life.server = None
        rig.close()


def test_a_store_that_is_away_for_minutes(eider_binary, tmp_path, s3, s3_proxy, no_deadline):
    lake = S3Lake(s3, s3.make_bucket("outage"), "lake", s3_proxy.endpoint)
    env = {"EIDER_LOG_MAX": "48MiB", "EIDER_LOG_SEGMENT": "4MiB", "EIDER_FLUSH_AGE_MS": "1000"}
    rig = Rig(eider_binary, tmp_path, lake, env, plan=[])
    life = Life(rig)
    clients = Clients(8, life.address, batches=False, pad=500, seed=SEED)
    try:
        life.begin()
        clients.start()
        life.pass_time(5)
        with s3_proxy.refused():
            began = time.monotonic()
            wait_until(lambda: clients.statuses.get(503), OUTAGE_SECONDS, "503 when the budget is spent")
            filled = time.monotonic() - began
            life.pass_time(max(0.0, OUTAGE_SECONDS - filled))
            assert exchange(life.address(), "GET", "/health/ready")[0] == 503
            assert exchange(life.address(), "GET", "/health/live")[0] == 200
        began = time.monotonic()
        clients.stop()
        wait_until(lambda: '"rows":0' in exchange(life.address(), "GET", "/health/ready")[1], 180,
                   lambda: exchange(life.address(), "GET", "/health/ready")[1])  # fmt: skip
        drained = time.monotonic() - began
        wait_until(lambda: exchange(life.address(), "GET", "/health/ready")[0] == 200, 20,
                   lambda: exchange(life.address(), "GET", "/health/ready")[1])  # fmt: skip
        assert rig.end(life.server) == 0
        say(f"store away for {OUTAGE_SECONDS:.0f} s: full after {filled:.1f} s, drained in {drained:.1f} s; "
            f"{len(clients.sent)} requests, statuses {clients.statuses}")  # fmt: skip
        violations = rig.judge(clients.journal())
        assert not violations, f"{len(violations)} violations: {violations[:20]}"
        assert not clients.problems, clients.problems[:10]
        assert set(clients.statuses) <= {200, 503}, clients.statuses
        assert clients.retry_after and all(text and 1 <= int(text) <= 360 for text in clients.retry_after)
    finally:
        clients._stop.set()
        life.server = None
        rig.close()


@pytest.mark.parametrize("free_min", ["4MiB", "0"])
def test_a_full_disk_refuses_and_recovers(eider_binary, small_disk, s3, s3_proxy, no_deadline, free_min):
    lake = S3Lake(s3, s3.make_bucket("disk"), "lake", s3_proxy.endpoint)
    env = {"EIDER_LOG_FREE_MIN": free_min, "EIDER_LOG_SEGMENT": "1MiB", "EIDER_FLUSH_AGE_MS": "300"}
    rig = Rig(eider_binary, small_disk, lake, env | {"EIDER_CACHE_MAX": "0"}, plan=[])
    life = Life(rig)
    clients = Clients(8, life.address, batches=False, pad=2000, seed=SEED)
    try:
        life.begin()
        clients.start()
        for _ in range(3):
            before = clients.statuses.get(503, 0)
            with s3_proxy.refused():
                wait_until(lambda: clients.statuses.get(503, 0) > before + 20, 120, "the full disk is told")
                life.pass_time(2)
            told = clients.statuses.get(200, 0)
            wait_until(lambda: clients.statuses.get(200, 0) > told + 100, 120, "records are taken again")
        clients.stop()
        assert rig.end(life.server) == 0
        rig.recover(retry=False)
        say(f"full disk, {free_min} kept free: {len(clients.sent)} requests, statuses {clients.statuses}")
        violations = rig.judge(clients.journal())
        assert not violations, f"{len(violations)} violations: {violations[:20]}"
        assert not clients.problems, clients.problems[:10]
    finally:
        clients._stop.set()
        life.server = None
        rig.close()
