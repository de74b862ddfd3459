"""P21: a database that was open when its process or server died opens again: with its own log, whatever is in it, however
long that takes and whatever happens meanwhile; and no other database waits for it."""

import os
import signal

import pytest

from harness.hosted import LISTENER, Hosted
from harness.snapshot_client import InFlight

pytestmark = pytest.mark.once

BEFORE = (
    "CREATE TABLE t AS SELECT i AS a, 'b' AS b, {'x': i, 'y': i} AS s FROM range(100) r(i); CREATE SEQUENCE q; CHECKPOINT"
)
ALTERS = [
    "ALTER TABLE t ALTER b TYPE INTEGER USING length(b)",
    "ALTER TABLE t ALTER a SET DEFAULT nextval('q')",
    "ALTER TABLE t ADD COLUMN s.z INTEGER",
    "ALTER TABLE t DROP COLUMN s.y",
    "ALTER TABLE t RENAME COLUMN s.x TO w",
]
SLOW = "SELECT count(*) FROM range(100000000000) r(i) WHERE i % 7 = 3"


def test_a_log_with_an_alter_is_replayed(start_eider):
    """The engine alone cannot open such a file: it binds what is altered before there is a database to bind it in."""
    hosted = Hosted(start_eider({**LISTENER, "EIDER_DATABASES_OPEN_MAX": 20}))
    names = {f"d{number}": sql for number, sql in enumerate(ALTERS)}
    seen = {}
    for name, sql in {**names, "memory": ALTERS[0], "temp": ALTERS[0]}.items():
        hosted.make(name)
        hosted.rows(BEFORE, name)
        hosted.rows(sql, name)
        hosted.rows("INSERT INTO t(a) VALUES (1000)", name)
        seen[name] = hosted.rows("SELECT a, b, s FROM t ORDER BY a", name), hosted.rows("SELECT current_database()", name)
    hosted.server.kill()
    hosted = Hosted(start_eider({**LISTENER, "EIDER_DATABASES_OPEN_MAX": 20}, data=hosted.server.data))
    for name, expected in seen.items():
        found = hosted.rows("SELECT a, b, s FROM t ORDER BY a", name), hosted.rows("SELECT current_database()", name)
        assert found == expected, name
        assert not hosted.set_aside(name)
        hosted.rows("INSERT INTO t(a) VALUES (1001)", name)


def slow_to_open(hosted, inserts=4):
    """A log whose replay takes long enough to do something meanwhile."""
    hosted.make("slow")
    hosted.rows("CREATE TABLE t(a BIGINT PRIMARY KEY)", "slow")
    for number in range(inserts):
        hosted.rows(f"INSERT INTO t SELECT i FROM range({number * 100000}, {(number + 1) * 100000}) r(i)", "slow")
    assert hosted.log("slow").stat().st_size > 0


def while_it_opens(hosted, wait_until, number):
    """Sends the process that opens the database a signal -> (the process, the request that wants it open)"""
    before = set(hosted.processes())
    calls = []

    def opens():
        if not calls or calls[-1].done():  # soon after a failure it is told to come again
            calls.append(InFlight(hosted.query, "SELECT count(*) FROM t", "slow", timeout_seconds=1))
        return set(hosted.processes()) - before

    pid = wait_until(opens, 30, "a process opens it", 0.001).pop()
    os.kill(pid, number)
    return pid, calls[-1]


def test_one_crash_after_other_failures_is_no_reason_to_set_it_aside(start_eider, wait_until):
    hosted = Hosted(start_eider({**LISTENER, "DUCKDB_CIRCUIT_BREAKER_FAILURE_THRESHOLD": 64}))
    slow_to_open(hosted)
    hosted.kill_process("slow")
    away = hosted.path("slow").with_suffix(".away")
    hosted.path("slow").rename(away)
    hosted.path("slow").mkdir()

    def fails_twice():
        return hosted.query("SELECT 1", "slow").status_code == 503 and hosted.breaker("slow")["failure_count"] >= 2

    wait_until(fails_twice, 20, "it could not be opened twice")
    hosted.path("slow").rmdir()
    away.rename(hosted.path("slow"))
    wait_until(lambda: hosted.request("GET", "/databases/slow").status_code == 200, 10, "it is there")
    _, call = while_it_opens(hosted, wait_until, signal.SIGSEGV)
    call.wait()
    wait_until(lambda: hosted.query("SELECT 1", "slow").status_code == 200, 30, "it opens again")
    assert hosted.value("SELECT count(*) FROM t", "slow") == 400000
    assert not hosted.set_aside("slow")


def test_an_opening_outlasts_the_request_that_began_it(start_eider, wait_until):
    hosted = Hosted(start_eider(LISTENER))
    slow_to_open(hosted)
    hosted.kill_process("slow")
    pid, call = while_it_opens(hosted, wait_until, signal.SIGSTOP)
    try:
        assert call.result(20).status_code == 408  # its own deadline
        assert hosted.query("SELECT 1").status_code == 200
        later = InFlight(hosted.query, "SELECT count(*) FROM t", "slow")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert later.result().json()["data"] == [[400000]]
    assert hosted.process("slow") == pid


def test_an_opening_has_an_end(start_eider, wait_until):
    hosted = Hosted(start_eider({**LISTENER, "EIDER_DATABASE_COPY_TIMEOUT_MS": 3000}))
    slow_to_open(hosted, 1)
    hosted.kill_process("slow")
    while_it_opens(hosted, wait_until, signal.SIGSTOP)
    wait_until(lambda: "EIDER_DATABASE_COPY_TIMEOUT_MS" in hosted.query("SELECT 1", "slow").text, 30, "it is given up")
    wait_until(lambda: hosted.query("SELECT 1", "slow").status_code == 200, 30, "it opens again")
    assert not hosted.set_aside("slow")


def test_one_database_leaves_memory_for_another(start_eider, wait_until):
    """Also where one alone may have all there is."""
    hosted = Hosted(start_eider({**LISTENER, "DUCKDB_MEMORY_LIMIT": "1000GB", "EIDER_DATABASES_OPEN_MAX": 3}))
    for name in ("a", "b", "c"):
        hosted.make(name)
    call = InFlight(hosted.query, SLOW, "a", timeout_seconds=20)
    wait_until(lambda: hosted.info("a")["running"] == 1, 20, "the first one is used")
    assert hosted.rows("SELECT 1", "b", timeout_seconds=10) == [[1]]
    assert hosted.rows("SELECT 1", "c", timeout_seconds=10) == [[1]]
    first, second, third = (hosted.info(name)["memory_limit_bytes"] for name in ("a", "b", "c"))
    assert abs(first - 2 * second) < 2 and abs(second - third) < 2, (first, second, third)
    hosted.kill_process("a")
    call.wait()


def test_a_death_for_lack_of_memory_is_no_failure(start_eider, wait_until):
    """As when the container is full: the kernel ends the largest."""
    hosted = Hosted(start_eider({**LISTENER, "DUCKDB_MEMORY_LIMIT": "256MB"}))
    hosted.rows("CREATE TABLE t AS SELECT 1 AS a")
    assert hosted.value("SELECT count(DISTINCT md5(i::VARCHAR)) FROM range(2000000) r(i)") == 2000000
    call = InFlight(hosted.query, SLOW)
    wait_until(lambda: hosted.info()["running"] == 1, 20, "the query runs")
    hosted.kill_process()
    answer = call.result()
    assert answer.status_code == 503 and "protocol" not in answer.text
    assert hosted.breaker()["failure_count"] == 0
    wait_until(lambda: len(hosted.server.events("engine.database_died")) == 1, 10, "its death is told")
