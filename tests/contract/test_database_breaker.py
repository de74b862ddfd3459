"""P22: faults of engine and disk open the breaker of a database; what a client does wrong never does. Half open, it lets
exactly one request through at a time."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.hosted import LISTENER, Hosted
from harness.raw_http import RawConnection
from harness.snapshot_client import InFlight
from harness.snapshot_processes import kill

pytestmark = pytest.mark.once

SLOW = "SELECT count(*) FROM range(100000000000) r(i) WHERE i % 7 = 3"
THRESHOLD = 5


@pytest.fixture
def hosted(start_eider):
    one = Hosted(start_eider({**LISTENER, "DUCKDB_CIRCUIT_BREAKER_RECOVERY_TIMEOUT": 1, "DUCKDB_MEMORY_LIMIT": "256MB"}))
    one.rows("CREATE TABLE t AS SELECT i AS a FROM range(1000) r(i)")
    return one


def running(hosted, name="default"):
    info = hosted.info(name)
    return info["running"] if info else 0


def die_in(hosted, wait_until, sql=SLOW):
    """The process is killed while a query runs in it; the query is told so."""
    call = InFlight(hosted.query, sql)
    wait_until(lambda: running(hosted), 20, "the query runs")
    hosted.kill_process()
    answer = call.result()
    assert answer.status_code == 503, answer.text


def open_breaker(hosted, wait_until):
    hosted.reset_breaker()
    for _ in range(THRESHOLD):
        assert hosted.breaker()["state"] == "closed"
        die_in(hosted, wait_until)
    assert hosted.breaker()["state"] == "open"


def is_refused(answer):
    return answer.status_code == 503 and "Circuit breaker 'duckdb' is OPEN" in answer.text


def test_what_clients_do_wrong_never_opens_it(start_eider, wait_until):
    """Here one failure would."""
    env = {"DUCKDB_CIRCUIT_BREAKER_FAILURE_THRESHOLD": 1, "DUCKDB_MEMORY_LIMIT": "128MB", "EIDER_DATABASE_TEMP_MAX": 0}
    hosted = Hosted(start_eider({**LISTENER, **env}))
    hosted.rows("CREATE TABLE t AS SELECT i AS a FROM range(1000) r(i)")
    for sql in ("SELEC 1", "FROM nowhere", "SELECT 1/", "INSERT INTO t VALUES ('x')", "COPY t TO 'x'", "SELECT 'a'::INT"):
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _, text=sql: hosted.query(text).status_code, range(17))) == {400}
    for _ in range(2):
        with RawConnection(hosted.server.address("analytics")) as connection:
            body = b'{"query":"' + SLOW.encode() + b'"}'
            head = f"POST /api/v1/duckdb/query HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.send(head.encode() + body)
            wait_until(lambda: running(hosted), 20, "it runs")
        wait_until(lambda: not running(hosted), 20, "it is over")
    with ThreadPoolExecutor(6) as pool:
        late = [pool.submit(hosted.query, SLOW, timeout_seconds=1) for _ in range(6)]
        assert [call.result().status_code for call in late] == [408] * 6
    answer = hosted.query("SELECT max(len(l)) FROM (SELECT list(i) AS l FROM range(1300000000) r(i))")
    assert answer.status_code == 503 and "Memory limit exceeded" in answer.text, answer.text
    assert hosted.value("SELECT count(*) FROM t") == 1000
    state = hosted.breaker()
    assert state["state"] == "closed" and state["failure_count"] == 0, state
    assert state["metrics"]["circuit_open_count"] == 0


def test_five_deaths_open_it_and_three_successes_close_it(hosted, wait_until):
    open_breaker(hosted, wait_until)
    refused = hosted.query("SELECT 1")
    assert is_refused(refused) and int(refused.headers["Retry-After"]) >= 1
    assert is_refused(hosted.batch(["SELECT 1"]))
    hosted.make("other")
    assert hosted.rows("SELECT 1", "other") == [[1]]  # nobody else's
    wait_until(lambda: hosted.query("SELECT 1").status_code == 200, 10, "the first probe")
    assert hosted.breaker()["state"] == "half_open"
    assert hosted.query("SELEC").status_code == 400  # says nothing of the engine
    assert hosted.query("SELECT 2").status_code == 200
    assert hosted.breaker()["state"] == "half_open"
    assert hosted.query("SELECT 3").status_code == 200
    state = hosted.breaker()
    assert state["state"] == "closed" and state["failure_count"] == 0
    assert hosted.value("SELECT count(*) FROM t") == 1000


def test_half_open_lets_one_through(hosted, wait_until):
    """Many clients at once, and a probe that takes its time: all others are refused until it ends."""
    open_breaker(hosted, wait_until)
    wait_until(lambda: hosted.breaker()["seconds_until_retry"] in (None, 0), 10, "the wait is over")
    before = hosted.breaker()["metrics"]["total_requests"]
    with ThreadPoolExecutor(24) as pool:
        calls = [pool.submit(hosted.query, SLOW, timeout_seconds=5) for _ in range(24)]
        wait_until(lambda: sum(call.done() for call in calls) >= 23, 10, "all but the probe are refused")
        wait_until(lambda: running(hosted) == 1, 10, "the probe has its process, and runs alone")
        answers = [call.result() for call in calls]
    assert sorted(answer.status_code for answer in answers) == [408] + [503] * 23
    assert all(is_refused(answer) for answer in answers if answer.status_code == 503)
    assert hosted.breaker()["metrics"]["total_requests"] == before + 1
    assert hosted.query("SELECT 1").status_code == 200  # a probe that said nothing has left its place


def test_a_failed_probe_doubles_the_wait_and_a_reset_ends_it(hosted, wait_until):
    open_breaker(hosted, wait_until)
    waits = []
    for _ in range(2):
        wait_until(lambda: hosted.breaker()["seconds_until_retry"] in (None, 0), 20, "the wait is over")
        die_in(hosted, wait_until)
        state = hosted.breaker()
        assert state["state"] == "open", state
        waits.append(state["seconds_until_retry"])
    assert 1 < waits[0] <= 2 < waits[1] <= 4, waits
    assert is_refused(hosted.query("SELECT 1"))
    hosted.reset_breaker()
    state = hosted.breaker()
    assert (state["state"], state["failure_count"], state["next_attempt_time"]) == ("closed", 0, None)
    assert hosted.query("SELECT 1").status_code == 200
    open_breaker(hosted, wait_until)
    assert 0 < hosted.breaker()["seconds_until_retry"] <= 1


def test_health_checks_are_no_probes(hosted, wait_until):
    open_breaker(hosted, wait_until)
    before = hosted.breaker()["metrics"]["total_requests"]
    for _ in range(5):
        assert hosted.request("GET", "/health").json()["query_test"]["success"] is True
    state = hosted.breaker()
    assert state["metrics"]["total_requests"] == before and state["state"] != "closed"
