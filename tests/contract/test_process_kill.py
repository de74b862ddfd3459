"""SIGKILL for workers, the zygote and the server: each costs one request at most, and leaves nobody behind."""

import http.client
import os
import signal
import time

import pyarrow
import pytest

from harness.snapshot_client import (
    ENDLESS,
    InFlight,
    RawPost,
    Sidecar,
    column,
    error_of,
)
from harness.snapshot_processes import (
    SPARE,
    ZYGOTE,
    busy_worker,
    children_named,
    gone,
    kill,
    processor_ticks,
    workers,
    zygote,
)

pytestmark = pytest.mark.once  # servers that are started and ended, again and again

COLUMNS = [column("a", "BIGINT")]
COUNTED = "SELECT sum(i % 7) AS v FROM range({}) AS t(i)"


@pytest.fixture
def server(start_eider):
    return start_eider(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "DUCKDB_MEMORY_LIMIT": "256MB",
            "DUCKDB_THREADS": "1",
            "EIDER_QUERY_TIMEOUT_MS": 20000,
        }
    )


@pytest.fixture
def sidecar(server, s3):
    return Sidecar(server.snapshot, s3)


def server_error(answer):
    """Any 5xx in the error shape."""
    assert 500 <= answer.status_code < 600, f"{answer.status_code}: {answer.text[:300]}"
    return error_of(answer, answer.status_code)


def works_again(sidecar, wait_until, deadline=5):
    def works():
        answer = sidecar.query("SELECT 42 AS v")
        return answer.status_code == 200 and answer.json()["rows"] == [{"v": 42}]

    wait_until(works, deadline, "a query works")


# ---- workers ----
def test_a_killed_worker_costs_its_request(server, sidecar):
    for _ in range(3):
        call = InFlight(sidecar.query, ENDLESS)
        worker = busy_worker(server)
        kill(worker)
        server_error(call.result(5))
        sidecar.alive()


def test_a_spare_worker_that_is_killed_costs_nothing(server, sidecar, wait_until):
    """The next job's worker waits, one at a time; the zygote forks another when it is gone."""
    for _ in range(3):
        wait_until(lambda: len(children_named(server, SPARE)) == 1, 10, "a worker waits for its job")
        kill(children_named(server, SPARE)[0])
        sidecar.alive()


def test_spares_that_die_at_once_are_not_forked_again_without_a_pause(server, sidecar, wait_until):
    """Whatever ends them would end the next one too: the pauses before each grow, 50 ms to 2 s. Jobs do not wait."""
    started = time.monotonic()
    for _ in range(6):
        kill(wait_until(lambda: children_named(server, SPARE), 10, "a worker waits for its job", interval=0.001)[0])
    assert time.monotonic() - started > 1
    sidecar.alive()
    wait_until(lambda: children_named(server, SPARE), 10, "a worker waits for its job again")


@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGBUS])
def test_a_crashed_worker_costs_its_request(server, sidecar, signum):
    call = InFlight(sidecar.query, ENDLESS)
    os.kill(busy_worker(server), signum)
    server_error(call.result(5))
    sidecar.alive()


def test_a_stopped_worker_is_killed_at_the_deadline(start_eider, s3, wait_until):
    """SIGSTOP: it can neither answer nor look at a cancel."""
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "EIDER_QUERY_TIMEOUT_MS": 2000})
    sidecar = Sidecar(server.snapshot, s3)
    call = InFlight(sidecar.query, ENDLESS)
    worker = busy_worker(server)
    os.kill(worker, signal.SIGSTOP)
    error_of(call.result(5), 504)
    wait_until(lambda: gone(worker), 1.2, "the worker is gone")
    sidecar.alive()


def test_only_the_killed_one_of_many_fails(server, sidecar, wait_until):
    slow = InFlight(sidecar.query, ENDLESS)
    worker = busy_worker(server)
    others = [InFlight(sidecar.query, COUNTED.format(30000000)) for _ in range(3)]
    kill(worker)
    server_error(slow.result(5))
    for call in others:
        assert call.result().status_code == 200


def test_a_worker_killed_while_it_sends_rows(server, sidecar, wait_until):
    """The head is out: the body must be cut, not ended."""
    sql = "SELECT i, repeat('x', 100) AS s FROM range(1000000000000) AS t(i)"
    client = RawPost(sidecar.base, "/query", sidecar.query_body(sql), receive_buffer=65536)
    answer = client.answer()
    assert answer.status == 200

    def sending():
        assert answer.read(1 << 20)
        return [pid for pid in workers(server) if processor_ticks(pid) >= 10]

    kill(wait_until(sending, 20, "the worker sends")[0])
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        while answer.read(1 << 20):
            pass
        raise AssertionError("the body ended as if it were whole")
    client.close()
    sidecar.alive()


def test_workers_killed_under_snapshots(server, sidecar, s3, wait_until):
    """Whatever a snapshot was doing when its worker died: an error and no object, or a whole object."""
    data = [{"a": number, "s": f"text {number}"} for number in range(60000)]
    columns = [column("a", "BIGINT", "created_at"), column("s", "VARCHAR")]
    for number in range(6):
        idle = set(workers(server))
        call = InFlight(sidecar.snapshot, f"killed-{number}.parquet", data, columns)
        wait_until(lambda: call.done() or set(workers(server)) - idle, 20, "a worker, or an answer")
        for pid in set(workers(server)) - idle:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        answer = call.result()
        if answer.status_code == 200:
            assert sidecar.parquet(f"killed-{number}.parquet").metadata.num_rows == len(data)
        else:
            server_error(answer)
            assert sidecar.keys(f"killed-{number}") == []
        assert sidecar.get("/snapshot-queue-stats").json()["running"] == 0
    sidecar.write("after.parquet", [{"a": 1}], COLUMNS)


# ---- the zygote ----
def test_the_zygote_is_one_process_with_one_thread(server, sidecar):
    sidecar.alive()
    assert len(children_named(server, ZYGOTE)) == 1
    assert len(os.listdir(f"/proc/{zygote(server)}/task")) == 1


def test_the_zygote_killed_while_idle(server, sidecar, wait_until):
    for _ in range(3):
        before = zygote(server)
        kill(before)
        killed = time.monotonic()
        works_again(sidecar, wait_until)
        assert time.monotonic() - killed < 5
        assert zygote(server) != before
    assert len(children_named(server, ZYGOTE)) == 1


def test_the_zygote_killed_under_running_queries(server, sidecar, wait_until):
    """Running queries live on; at most one request, the one that was being started, fails."""
    calls = [InFlight(sidecar.query, COUNTED.format(60000000)) for _ in range(4)]
    busy_worker(server)
    kill(zygote(server))
    works_again(sidecar, wait_until)
    answers = [call.result() for call in calls]
    failed = [answer for answer in answers if answer.status_code != 200]
    for answer in failed:
        server_error(answer)
    assert len(failed) <= 1
    expected = {answer.text for answer in answers if answer.status_code == 200}
    assert len(expected) == 1
    sidecar.alive()


@pytest.mark.once
def test_the_zygote_killed_again_and_again_under_load(server, sidecar, wait_until):
    """Ten kills while queries come one after another: a kill costs one request, and never the server."""
    failures = 0
    for _ in range(10):
        call = InFlight(sidecar.query, "SELECT count(*) AS v FROM range(2000000)")
        for pid in children_named(server, ZYGOTE):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        answer = call.result(10)
        failures += answer.status_code != 200
        if answer.status_code != 200:
            server_error(answer)
        works_again(sidecar, wait_until)
    assert failures <= 10
    for _ in range(5):
        sidecar.alive()


def test_a_stopped_zygote_does_not_hold_requests_for_ever(start_eider, s3, wait_until):
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "EIDER_QUERY_TIMEOUT_MS": 3000})
    sidecar = Sidecar(server.snapshot, s3)
    sidecar.alive()
    stopped = zygote(server)
    os.kill(stopped, signal.SIGSTOP)
    try:
        answer = InFlight(sidecar.query, "SELECT 42 AS v").result(8)
        if answer.status_code != 200:
            error_of(answer, 500, 503, 504)
    finally:
        if not gone(stopped):
            os.kill(stopped, signal.SIGCONT)
    works_again(sidecar, wait_until)


def test_a_killed_zygote_does_not_stop_snapshots(server, sidecar, wait_until):
    kill(zygote(server))

    def works():
        return sidecar.snapshot("z.parquet", [{"a": 1}], COLUMNS).status_code == 200

    wait_until(works, 5, "a snapshot works")
    assert sidecar.rows("SELECT a FROM t", {"t": "z.parquet"}) == [(1,)]


# ---- the server ----
def test_nobody_survives_a_killed_server(server, sidecar, wait_until):
    calls = [InFlight(sidecar.query, ENDLESS) for _ in range(3)]
    busy_worker(server)
    family = [zygote(server), *workers(server)]
    server.send(signal.SIGKILL)
    wait_until(lambda: all(gone(pid) for pid in family), 5, "zygote and workers are gone")
    server.kill()
    for call in calls:
        with pytest.raises(OSError):
            call.result(5)


def test_a_new_server_starts_in_the_folder_of_a_killed_one(start_eider, s3):
    settings = {"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0"}
    first = start_eider(settings)
    sidecar = Sidecar(first.snapshot, s3)
    sidecar.put_table("x.parquet", pyarrow.table({"a": [1]}))
    assert sidecar.rows("SELECT a FROM t", {"t": "x.parquet"}) == [(1,)]
    first.kill()
    second = start_eider(settings, data=first.data)
    assert Sidecar(second.snapshot, s3, sidecar.bucket).rows("SELECT a FROM t", {"t": "x.parquet"}) == [(1,)]


def test_sigterm_ends_the_whole_family(server, sidecar):
    """stop() waits for the exit code and for all children."""
    sidecar.alive()
    assert server.stop() == 0
    assert server.children() == []
