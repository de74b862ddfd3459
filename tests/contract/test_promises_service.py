"""The promises of the service: P24 to P29."""

import json
import signal
import statistics
import threading
import time

import pytest

from harness.fault_rig import Rig, answer_of
from harness.fault_scenario import Sent, exchange, send
from harness.fault_trace import write_clock
from harness.ingest_client import in_parallel
from harness.lakes import S3Lake
from harness.waiting import wait_until

pytestmark = pytest.mark.once

NDJSON = {"Content-Type": "application/x-ndjson"}
HOUR = 3600


@pytest.fixture
def rig(eider_binary, tmp_path):
    made = Rig(eider_binary, tmp_path, plan=[])
    yield made
    made.close()


@pytest.fixture
def s3_rig(eider_binary, tmp_path, s3, s3_proxy):
    lake = S3Lake(s3, s3.make_bucket("promises"), "lake", s3_proxy.endpoint)
    made = Rig(eider_binary, tmp_path, lake, plan=[])
    made.proxy = s3_proxy
    yield made
    made.close()


# ---- P24: SIGTERM ----


def test_p24_sigterm_takes_buffered_rows_to_the_lake(rig):
    server = rig.start()
    sent = [Sent(1, "alpha", "stream"), Sent(2, "beta", "rows", 10)]
    for one in sent:
        assert send(server.address(), one)[0] == 200
    began = time.monotonic()
    assert rig.end(server) == 0
    assert time.monotonic() - began < 30
    assert rig.judge([one.entry() for one in sent]) == []


def test_p24_sigterm_without_the_store_keeps_the_rows_for_the_next_start(s3_rig):
    rig = s3_rig
    rig.env["EIDER_DRAIN_MS"] = "2000"
    server = rig.start()
    sent = [Sent(1, "alpha", "stream"), Sent(2, "beta", "rows", 10)]
    with rig.proxy.refused():
        for one in sent:
            assert send(server.address(), one)[0] == 200
        began = time.monotonic()
        assert rig.end(server) == 0
        assert time.monotonic() - began < 10
    assert rig.lake.keys("data/") == []
    rig.recover(retry=False)
    assert rig.judge([one.entry() for one in sent]) == []


def test_p24_a_second_sigterm_ends_at_once_and_loses_nothing(s3_rig):
    rig = s3_rig
    server = rig.start()
    sent = [Sent(1, "alpha", "stream"), Sent(2, "beta", "rows", 10)]
    for one in sent:
        assert send(server.address(), one)[0] == 200
    stalled = rig.proxy.stall(times=100)
    server.send(signal.SIGTERM)
    wait_until(lambda: server.events("server.signal"), 10)
    began = time.monotonic()
    server.send(signal.SIGTERM)
    server.wait()
    assert time.monotonic() - began < 5
    stalled.release()
    rig.proxy.clear()
    rig.recover(retry=False)
    assert rig.judge([one.entry() for one in sent]) == []


# ---- P25: memory ----


def peak_mib(server):
    with open(f"/proc/{server.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


@pytest.mark.slow
def test_p25_memory_does_not_grow_with_bodies_or_backlog(rig):
    """More than 1 GB of rows in 8 bodies at a time: what waits for the disk is limited, and so are pieces of bodies."""
    rig.env |= {"EIDER_LOG_SEGMENT": "16MiB", "EIDER_FLUSH_BYTES": "1GiB"}
    server = rig.start()
    assert send(server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
    before = peak_mib(server)
    line = json.dumps({"req": 1, "n": 2, "of": 1, "pad": "x" * 1900}) + "\n"
    body = line * 8000

    def fill(number):
        return exchange(server.address(), "POST", "/tables/beta/rows", body, NDJSON)[0]

    answers = in_parallel(fill, range(80), 8)
    assert set(answers) <= {200, 503} and 200 in answers, answers
    grown = peak_mib(server) - before
    print(f"{sum(answer == 200 for answer in answers)} bodies of {len(body) >> 20} MiB: {grown:.0f} MiB more")
    assert grown < 200, f"{grown:.0f} MiB more after 1.1 GB of rows"


# ---- P26: overload ----


def test_p26_the_excess_is_refused_fast_and_the_rest_is_served(s3_rig):
    rig = s3_rig
    rig.env |= {"EIDER_MAX_CONCURRENT_INGESTS": "2", "EIDER_MAX_INGEST_QUEUE": "4"}
    server = rig.start()
    assert send(server.address(), Sent(1, "alpha", "batch", 2))[0] == 200
    stalled = rig.proxy.stall(times=100, method="PUT")
    sent = [Sent(number, "alpha", "batch", 2) for number in range(10, 50)]
    took = []

    def ask(one):
        began = time.monotonic()
        status, _ = send(server.address(), one)
        if status == 503:
            took.append(time.monotonic() - began)
        return status

    threads = [threading.Thread(target=ask, args=(one,)) for one in sent]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(took) >= len(sent) - 6, 10, lambda: f"the excess is refused: {len(took)}")
    assert statistics.median(took) < 0.5, took
    began = time.monotonic()
    assert send(server.address(), Sent(60, "alpha", "batch", 2))[0] == 503
    assert time.monotonic() - began < 0.05 * 4
    stalled.release()
    rig.proxy.clear()
    for thread in threads:
        thread.join(60)
    assert sum(one.verdict == "acked" for one in sent) == 6
    assert send(server.address(), Sent(61, "alpha", "batch", 2))[0] == 200, "back to work within the next request"
    assert rig.end(server) == 0
    entries = [one.entry() for one in sent]
    entries += [Sent(number, "alpha", "batch", 2).entry("acked") for number in (1, 61)]
    assert rig.judge(entries) == []


# ---- P27: health ----


def test_p27_ready_says_no_when_records_wait_too_long_and_yes_afterwards(s3_rig):
    rig = s3_rig
    rig.env |= {"EIDER_BACKLOG_AGE_MAX_MS": "500", "EIDER_FLUSH_AGE_MS": "200"}
    server = rig.start()
    ask = lambda path: exchange(server.address(), "GET", path)  # noqa: E731
    assert ask("/health/ready")[0] == 200
    with rig.proxy.refused():
        assert send(server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
        wait_until(lambda: ask("/health/ready")[0] == 503, 10, "not ready with an old backlog")
        body = ask("/health/ready")[1]
        assert json.loads(body)["status"] == "not ready" and json.loads(body)["backlog"]["rows"] == 2
        assert ask("/health/live") == (200, '{"status":"live"}')
        for secret in (rig.lake.server.secret_key, str(rig.data), rig.lake.bucket):
            assert secret not in body, body
    wait_until(lambda: ask("/health/ready")[0] == 200, 90, "ready again, by itself")
    assert rig.end(server) == 0
    assert rig.judge([Sent(1, "alpha", "rows", 2).entry("acked")]) == []


def test_p27_health_is_cheap(rig):
    server = rig.start()
    import http.client

    for path in ("/health/live", "/health/ready"):
        connection = http.client.HTTPConnection(*server.address(), timeout=10)
        took = []
        for _ in range(200):
            began = time.monotonic()
            connection.request("GET", path)
            connection.getresponse().read()
            took.append(time.monotonic() - began)
        connection.close()
        assert statistics.median(took) < 0.005, f"{path}: {statistics.median(took) * 1000:.2f} ms"


# ---- P29: clocks ----


def test_p29_steps_of_the_clock_change_no_durability_no_order_and_no_key(rig):
    clock = rig.folder / "clock"
    write_clock(clock, 0)
    server = rig.start(rig.shim(clock=clock))
    sent, positions, first = [], [], {}

    def ask(number, key=None):
        one = Sent(number, "alpha", "rows", 2, key=key)
        status, body = send(server.address(), one)
        assert status == 200, body
        return one, json.loads(body)

    for step, offset in enumerate((0, HOUR, -HOUR, 0, -2 * HOUR, HOUR)):
        write_clock(clock, offset)
        one, body = ask(step + 1, f"key-{step}")
        sent.append(one)
        positions.append(body["position"])
        first[one.key] = body
        for earlier in list(sent):
            again = json.loads(send(server.address(), earlier)[1])
            assert answer_of(json.dumps(again)) == first[earlier.key], "a step of the clock forgot a key"
        if step == 2:
            assert exchange(server.address(), "POST", "/flush?table_name=alpha")[0] == 200
        if step in (1, 3):
            assert server.kill() == -9
            server = rig.start(rig.shim(clock=clock))
    assert positions == sorted(positions) and len(set(positions)) == len(positions)
    assert rig.end(server) == 0
    assert rig.judge([one.entry() for one in sent]) == []


@pytest.mark.parametrize("offset", [HOUR, -HOUR])
def test_p29_a_wrong_clock_delays_the_store_at_most(s3_rig, offset):
    rig = s3_rig
    clock = rig.folder / "clock"
    write_clock(clock, 0)
    server = rig.start(rig.shim(clock=clock))
    assert send(server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
    write_clock(clock, offset)
    assert send(server.address(), Sent(2, "alpha", "rows", 2))[0] == 200
    flush = lambda: exchange(server.address(), "POST", "/flush?table_name=alpha")[0] == 200  # noqa: E731
    wait_until(flush, 60, "a flush with a wrong clock", 0.2)
    assert rig.end(server) == 0
    assert rig.judge([Sent(number, "alpha", "rows", 2).entry("acked") for number in (1, 2)]) == []
