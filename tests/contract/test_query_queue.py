"""Slots, queues, deadlines and clients that leave. Checks 29, 30, 31 and 34."""

import signal
import time

import pyarrow
import pytest
import requests

from harness.snapshot_client import (
    ENDLESS,
    InFlight,
    RawPost,
    Sidecar,
    column,
    error_of,
)
from harness.snapshot_processes import busy_worker, gone, resident_bytes, workers

QUERY_FULL = "sidecar is busy (queue full: 1/1); retry shortly. Please retry in a few seconds."
SNAPSHOT_FULL = "sidecar snapshot queue is full (1/1); retry shortly"
COLUMNS = [column("a", "BIGINT")]


@pytest.fixture
def narrow(start_eider, s3, s3_proxy):
    """One slot and one place in each queue; S3 through the proxy. -> (server, sidecar)"""
    server = start_eider(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "SIDECAR_MAX_CONCURRENT_QUERIES": 1,
            "SIDECAR_MAX_QUERY_QUEUE": 1,
            "SIDECAR_MAX_CONCURRENT_SNAPSHOTS": 1,
            "SIDECAR_MAX_SNAPSHOT_QUEUE": 1,
            "EIDER_QUERY_TIMEOUT_MS": 20000,
            "EIDER_SNAPSHOT_TIMEOUT_MS": 20000,
        }
    )
    sidecar = Sidecar(server.snapshot, s3, endpoint=s3_proxy.endpoint)
    for name in ("one", "two", "three"):
        sidecar.put_table(f"{name}.parquet", pyarrow.table({"a": [1]}))
    return server, sidecar


def held_query(sidecar, s3_proxy, name):
    """A query that has its slot and stays in it until the stall is released: (the call, the stall)."""
    stall = s3_proxy.stall(times=100, key=f"{name}.parquet")
    call = InFlight(sidecar.query, "SELECT a FROM t", {"t": f"{name}.parquet"})
    s3_proxy.wait_for(1, key=f"{name}.parquet")
    return call, stall


def busy(answer, text):
    """The 503 of a full queue, as the contract has it, with Retry-After."""
    assert answer.status_code == 503, answer.text
    body = answer.json()
    assert body["error"] == text
    assert (body["queue_running"], body["queue_queued"]) == (1, 1)
    assert body.get("status", "busy") == "busy"
    assert set(body) <= {"error", "status", "queue_running", "queue_queued"}
    assert 1 <= int(answer.headers["Retry-After"]) <= 5


def second_and_third(call, wait_until):
    """Two calls behind a held one: exactly one is refused at once, the other waits. -> (refused, waiting)"""
    pair = [InFlight(call), InFlight(call)]
    wait_until(lambda: any(one.done() for one in pair), 5, "one of two calls is refused")
    refused, waiting = pair if pair[0].done() else reversed(pair)
    assert not waiting.done()
    return refused.result(), waiting


# ---- 29: full queues ----
def test_a_full_query_queue_is_503_and_recovers(narrow, s3_proxy, wait_until):
    _, sidecar = narrow
    first, stall = held_query(sidecar, s3_proxy, "one")
    refused, waiting = second_and_third(lambda: sidecar.query("SELECT 2 AS v"), wait_until)
    busy(refused, QUERY_FULL)
    assert not first.done() and not waiting.done()
    # Validation and the routes without a queue are not concerned.
    assert error_of(sidecar.query(""), 400) == "sql must be a non-empty string"
    assert sidecar.get("/health").status_code == 200
    assert sidecar.get("/snapshot-queue-stats").json()["running"] == 0
    sidecar.write("while-busy.parquet", [{"a": 1}], COLUMNS)
    stall.release()
    assert first.result().json()["rows"] == [{"a": 1}]
    assert waiting.result().json()["rows"] == [{"v": 2}]
    for _ in range(3):
        sidecar.alive()


def test_a_full_snapshot_queue_is_503_and_recovers(narrow, s3_proxy, wait_until):
    _, sidecar = narrow
    stall = s3_proxy.stall(times=100, method="PUT")
    first = InFlight(sidecar.snapshot, "first.parquet", [{"a": 1}], COLUMNS)
    s3_proxy.wait_for(1, method="PUT")
    assert sidecar.get("/snapshot-queue-stats").json() == {"maxConcurrent": 1, "maxQueue": 1, "running": 1, "queued": 0}
    second = InFlight(sidecar.snapshot, "second.parquet", [{"a": 2}], COLUMNS)
    wait_until(lambda: sidecar.get("/snapshot-queue-stats").json()["queued"] == 1, 5, "the second waits")
    refused = sidecar.snapshot("third.parquet", [{"a": 3}], COLUMNS)
    busy(refused, SNAPSHOT_FULL)
    assert refused.json() == {"error": SNAPSHOT_FULL, "status": "busy", "queue_running": 1, "queue_queued": 1}
    assert error_of(sidecar.snapshot("x", [], []), 400) == "columns must be non-empty"
    sidecar.alive()
    stall.release()
    assert first.result().status_code == 200 and second.result().status_code == 200
    assert sidecar.keys("first") + sidecar.keys("second") + sidecar.keys("third") == ["first.parquet", "second.parquet"]
    assert sidecar.get("/snapshot-queue-stats").json() == {"maxConcurrent": 1, "maxQueue": 1, "running": 0, "queued": 0}
    sidecar.write("third.parquet", [{"a": 3}], COLUMNS)


@pytest.mark.once
@pytest.mark.parametrize("error", ["selec 1", "SELECT * FROM nowhere", "SELECT 'x'::INT"])
def test_errors_free_their_slot(narrow, error):
    _, sidecar = narrow
    for _ in range(5):
        error_of(sidecar.query(error), 400)
        error_of(sidecar.snapshot("x.parquet", [{"a": "x"}], COLUMNS), 400)
    sidecar.alive()
    sidecar.write("y.parquet", [{"a": 1}], COLUMNS)


def test_a_queue_is_first_in_first_out(start_eider, s3, s3_proxy, wait_until):
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "SIDECAR_MAX_CONCURRENT_SNAPSHOTS": 1})
    sidecar = Sidecar(server.snapshot, s3, endpoint=s3_proxy.endpoint)
    stall = s3_proxy.stall(times=100, method="PUT")
    calls = []
    for number in range(6):
        calls.append(InFlight(sidecar.snapshot, f"{number}.parquet", [{"a": number}], COLUMNS))
        wait_until(lambda: sum(_running_and_queued(sidecar)) == len(calls), 5, "the call is in")
    s3_proxy.wait_for(1, method="PUT")
    stall.release()
    assert [call.result().status_code for call in calls] == [200] * 6
    assert [one.key.rpartition("/")[2] for one in s3_proxy.requests(method="PUT")] == [f"{n}.parquet" for n in range(6)]


def _running_and_queued(sidecar):
    stats = sidecar.get("/snapshot-queue-stats").json()
    return stats["running"], stats["queued"]


# ---- 30: slow queries do not stand in the way ----
@pytest.mark.once
@pytest.mark.slow
def test_eight_slow_queries_do_not_slow_a_trivial_one(start_eider, s3, wait_until):
    server = start_eider(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "SIDECAR_MAX_CONCURRENT_QUERIES": 12,
            "DUCKDB_MEMORY_LIMIT": "256MB",
            "DUCKDB_THREADS": 1,
            "EIDER_QUERY_TIMEOUT_MS": 8000,
        }
    )
    sidecar = Sidecar(server.snapshot, s3)
    slow = [InFlight(sidecar.query, ENDLESS) for _ in range(8)]
    wait_until(lambda: len(workers(server)) >= 8, 5, "eight workers")
    for _ in range(5):
        started = time.monotonic()
        sidecar.alive()
        assert sidecar.get("/health").status_code == 200
        assert time.monotonic() - started < 2
    assert not any(call.done() for call in slow)
    for call in slow:
        error_of(call.result(), 504)


# ---- deadlines ----
def test_a_waiting_query_meets_its_deadline_too(start_eider, s3, wait_until):
    """No request lasts longer than its deadline, in the queue or out of it."""
    server = start_eider(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "SIDECAR_MAX_CONCURRENT_QUERIES": 1,
            "EIDER_QUERY_TIMEOUT_MS": 1500,
        }
    )
    sidecar = Sidecar(server.snapshot, s3)
    started = time.monotonic()
    calls = [InFlight(sidecar.query, ENDLESS) for _ in range(3)]
    for call in calls:
        error_of(call.result(), 504)
    assert time.monotonic() - started < 3.5
    sidecar.alive()


# ---- 31: clients that leave ----
def test_a_client_that_leaves_frees_its_slot(narrow, wait_until):
    server, sidecar = narrow
    for _ in range(3):
        client = RawPost(sidecar.base, "/query", sidecar.query_body(ENDLESS))
        worker = busy_worker(server)
        client.close()
        left = time.monotonic()
        wait_until(lambda: gone(worker), 1, "the worker is gone")
        sidecar.alive()
        assert time.monotonic() - left < 1.5


def test_a_client_that_leaves_while_its_query_reads_s3(narrow, s3_proxy, wait_until):
    server, sidecar = narrow
    s3_proxy.stall(times=100, key="one.parquet")
    client = RawPost(sidecar.base, "/query", sidecar.query_body("SELECT a FROM t", {"t": "one.parquet"}))
    s3_proxy.wait_for(1, key="one.parquet")
    client.close()
    left = time.monotonic()
    assert sidecar.rows("SELECT a FROM t", {"t": "two.parquet"}) == [(1,)]
    assert time.monotonic() - left < 1.5


def test_a_client_that_leaves_the_queue_is_never_served(narrow, s3_proxy, wait_until):
    """Its table's object is not asked for, not even by a HEAD."""
    _, sidecar = narrow
    first, stall = held_query(sidecar, s3_proxy, "one")
    waiting = []

    def in_the_queue():
        """The one place is taken when another call is refused. A call that came first leaves again: once more."""
        while waiting:
            waiting.pop().close()
        waiting.append(RawPost(sidecar.base, "/query", sidecar.query_body("SELECT a FROM t", {"t": "two.parquet"})))
        return _refused(sidecar)

    wait_until(in_the_queue, 30, "the queue is full")
    waiting.pop().close()  # free again when another call waits
    third = wait_until(lambda: _waits(sidecar, "three"), 5, "the place in the queue is free again")
    stall.release()
    assert first.result().status_code == 200
    assert third.result().json()["rows"] == [{"a": 1}]
    assert s3_proxy.count(key="three.parquet") > 0
    assert s3_proxy.count(key="two.parquet") == 0


def _refused(sidecar):
    try:
        return sidecar.post("/query", sidecar.query_body("SELECT 1"), timeout=1).status_code == 503
    except requests.Timeout:
        return False


def _waits(sidecar, name):
    call = InFlight(sidecar.query, "SELECT a FROM t", {"t": f"{name}.parquet"})
    try:
        answer = call.result(0.3)
    except AssertionError:
        return call
    assert answer.status_code == 503
    return None


def test_a_snapshot_whose_client_leaves_the_queue_is_not_uploaded(narrow, s3_proxy, wait_until):
    _, sidecar = narrow
    stall = s3_proxy.stall(times=100, method="PUT")
    first = InFlight(sidecar.snapshot, "first.parquet", [{"a": 1}], COLUMNS)
    s3_proxy.wait_for(1, method="PUT")
    client = RawPost(sidecar.base, "/snapshot", sidecar.snapshot_body("orphan.parquet", [{"a": 2}], COLUMNS))
    wait_until(lambda: _running_and_queued(sidecar) == (1, 1), 5, "it waits")
    client.close()
    wait_until(lambda: _running_and_queued(sidecar) == (1, 0), 1.5, "its place is free")
    stall.release()
    assert first.result().status_code == 200
    sidecar.write("next.parquet", [{"a": 3}], COLUMNS)
    assert s3_proxy.count(key="orphan") == 0
    assert sidecar.keys("orphan") == []


def test_a_snapshot_whose_client_leaves_frees_its_slot(narrow, s3_proxy, wait_until):
    """The upload is broken off: the store is not left with an object that the client believes to have failed."""
    _, sidecar = narrow
    s3_proxy.stall(times=1, method="PUT")
    client = RawPost(sidecar.base, "/snapshot", sidecar.snapshot_body("left.parquet", [{"a": 2}], COLUMNS))
    s3_proxy.wait_for(1, method="PUT")
    client.close()
    wait_until(lambda: _running_and_queued(sidecar) == (0, 0), 1.5, "the slot is free")
    assert s3_proxy.count(method="PUT") == 1
    sidecar.write("next.parquet", [{"a": 3}], COLUMNS)


# ---- 34: SIGTERM ----
@pytest.mark.parametrize("kind", ["query", "snapshot"])
def test_sigterm_lets_requests_finish(narrow, s3_proxy, wait_until, kind):
    server, sidecar = narrow
    if kind == "query":
        call, stall = held_query(sidecar, s3_proxy, "one")
    else:
        stall = s3_proxy.stall(times=100, method="PUT")
        call = InFlight(sidecar.snapshot, "last.parquet", [{"a": 1}], COLUMNS)
        s3_proxy.wait_for(1, method="PUT")
    stopped = InFlight(server.stop, signal.SIGTERM)
    wait_until(lambda: not _accepts(sidecar), 5, "no new requests are taken")
    assert not call.done() and not stopped.done()
    stall.release()
    answer = call.result()
    assert answer.status_code == 200, answer.text
    assert stopped.result() == 0


def _accepts(sidecar):
    try:
        return requests.get(sidecar.base + "/health", timeout=2).status_code == 200
    except requests.RequestException:
        return False


# ---- memory in total ----
@pytest.mark.once
@pytest.mark.slow
def test_many_memory_hungry_queries_do_not_take_many_times_the_memory(start_eider, s3, wait_until):
    """Item 4: the limit is one query's; the server bounds the sum by reservation."""
    server = start_eider(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "DUCKDB_MEMORY_LIMIT": "300MB",
            "DUCKDB_THREADS": 1,
            "EIDER_QUERY_TIMEOUT_MS": 15000,
        }
    )
    sidecar = Sidecar(server.snapshot, s3)
    hungry = "SELECT count(DISTINCT md5(i::VARCHAR)) FROM range(30000000) AS t(i)"
    calls = [InFlight(sidecar.query, hungry) for _ in range(12)]
    seen = [0]

    def done():
        seen.append(sum(resident_bytes(pid) for pid in workers(server)))
        return all(call.done() for call in calls)

    wait_until(done, 60, "all calls have an answer")
    assert max(seen) < 12 * 400 << 20
    for call in calls:
        error_of(call.result(), 422, 504)
    assert resident_bytes(server.pid) < 300 << 20
    sidecar.alive()
