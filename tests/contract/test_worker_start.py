"""What a small query costs before and besides its statement: docs/adr/0015. Counts, not times: those hold on a busy machine."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow
import pytest

from harness.snapshot_client import InFlight, Sidecar, error_of
from harness.snapshot_processes import SPARE, children_named, workers, zygote

pytestmark = pytest.mark.once  # sanitizers have memory of their own

NO_CACHE = {"Cache-Control": "no-cache"}
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
NO_LARGE_PAGES = not LARGE_PAGES.exists() or "[never]" in LARGE_PAGES.read_text()


@pytest.fixture
def server(start_eider):
    return start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "DUCKDB_THREADS": "1", "EIDER_QUERY_TIMEOUT_MS": 20000})


@pytest.fixture
def far(server, s3, s3_proxy):
    """A client whose store stands behind a proxy."""
    sidecar = Sidecar(server.snapshot, s3, endpoint=s3_proxy.endpoint)
    sidecar.put_table("t.parquet", pyarrow.table({"a": [1, 2, 3]}))
    return sidecar


def count(sidecar, **fields):
    body = sidecar.query_body("SELECT count(*) AS n FROM t", {"t": "t.parquet"}, **fields)
    return sidecar.post("/query", body, headers=NO_CACHE)


def rows_of(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


def page_faults(server):
    """Of the zygote, and of those of its children that have ended."""
    fields = Path(f"/proc/{zygote(server)}/stat").read_text().rpartition(")")[2].split()
    return int(fields[7]), int(fields[8])


def faults_of(server, wait_until, queries, run):
    wait_until(lambda: not workers(server), 10, "no worker is left")
    before = page_faults(server)
    run()
    wait_until(lambda: not workers(server), 10, "no worker is left")
    return [(after - then) / queries for after, then in zip(page_faults(server), before)]


# ---- memory that a worker has to make its own ----
@pytest.mark.skipif(NO_LARGE_PAGES, reason="without large pages, of which the kernel has none, a fork copies others")
def test_a_worker_copies_few_pages(server, far, wait_until):
    """162 faults, of 248 before; 58 more where its allocations fill gaps in the zygote's heap, 17 more without the
    engine's constants in a large page, 10 more when the engine's allocator has nothing at hand."""
    for _ in range(60):
        rows_of(count(far))  # after 50 forks the zygote has moved its pages
    wait_until(lambda: children_named(server, SPARE), 10, "a worker waits for its job")
    run = lambda: [rows_of(count(far)) for _ in range(15)]  # noqa: E731
    rounds = [faults_of(server, wait_until, 15, run) for _ in range(4)]
    # On a busy machine a statement may be joined by another thread, with a stack and more of its own.
    assert min(of_worker for _, of_worker in rounds) < 176
    assert min(of_zygote for of_zygote, _ in rounds) < 12


def test_grants_that_differ_cost_no_memory_to_be_given_back(server, far, wait_until):
    """Jobs that run together are granted unlike amounts; setting one took the zygote 20 faults, and a worker as many."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: rows_of(count(far)), range(60)))
        run = lambda: list(pool.map(lambda _: rows_of(count(far)), range(60)))  # noqa: E731
        rounds = [faults_of(server, wait_until, 60, run) for _ in range(2)]
    assert min(of_zygote for of_zygote, _ in rounds) < 12


def test_the_engine_has_the_limit_of_its_job(start_eider, s3):
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "DUCKDB_MEMORY_LIMIT": "128MB"})
    large = Sidecar(server.snapshot, s3).query("SELECT count(DISTINCT i) AS v FROM range(100000000) AS t(i)")
    assert "/122.0 MiB used" in error_of(large, 422)


# ---- a job begins before all is known ----
def test_a_worker_reads_the_statement_while_the_store_is_asked(server, far, s3_proxy, wait_until):
    held = s3_proxy.stall(method="HEAD", key="t.parquet")
    call = InFlight(count, far)
    s3_proxy.wait_for(method="HEAD", key="t.parquet")
    wait_until(lambda: workers(server), 5, "a worker has the job")
    assert not call.done()
    held.release()
    assert rows_of(call.result(10)) == [{"n": 3}]


def test_a_result_that_may_be_in_memory_takes_no_worker_before_that_is_known(server, far, s3_proxy, wait_until):
    body = far.query_body("SELECT count(*) AS n FROM t", {"t": "t.parquet"})
    assert rows_of(far.post("/query", body)) == [{"n": 3}]
    wait_until(lambda: not workers(server) and children_named(server, SPARE), 10, "only a spare is left")
    held = s3_proxy.stall(method="HEAD", key="t.parquet")
    s3_proxy.forget()
    before = page_faults(server)[1], children_named(server, SPARE)
    call = InFlight(far.post, "/query", body)
    s3_proxy.wait_for(method="HEAD", key="t.parquet")
    held.release()
    answer = call.result(10)
    assert answer.headers["X-Cache"] == "hit"
    assert (page_faults(server)[1], children_named(server, SPARE)) == before


def test_a_job_that_was_begun_ends_with_its_object(server, far, wait_until):
    """The store says no while the worker has the statement already."""
    for _ in range(3):
        body = far.query_body("SELECT count(*) AS n FROM t", {"t": "absent.parquet"})
        error_of(far.post("/query", body, headers=NO_CACHE), 502)
    wait_until(lambda: not workers(server), 5, "no worker is left")
    assert rows_of(count(far)) == [{"n": 3}]


def test_a_worker_that_comes_too_late_is_not_left(server, far, wait_until):
    """Its deadline passes before the zygote gets to it; what waits in its socket is the job all the same."""
    assert rows_of(count(far)) == [{"n": 3}]
    stopped = zygote(server)
    os.kill(stopped, signal.SIGSTOP)
    try:
        error_of(count(far, timeout_ms=300), 504)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert rows_of(count(far)) == [{"n": 3}]
    wait_until(lambda: not workers(server), 5, "no worker is left")


def test_a_large_statement_waits_for_its_worker(server, far):
    """More than the socket holds, and for longer than who does not read is waited for."""
    pid = zygote(server)
    for spare in children_named(server, SPARE):
        os.kill(spare, signal.SIGSTOP)
    os.kill(pid, signal.SIGSTOP)
    text = "SELECT 1 AS n /* " + "x" * 600_000 + " */"
    call = InFlight(far.post, "/query", far.query_body(text, {}), headers=NO_CACHE)
    try:
        with pytest.raises(AssertionError):
            call.wait(6)
    finally:
        for stopped in [pid, *children_named(server, SPARE)]:
            os.kill(stopped, signal.SIGCONT)
    assert rows_of(call.result(10)) == [{"n": 1}]
