"""Statements that do not listen, and statements that want everything, of one hosted database: gone in time, with a clear
answer to whoever is beside them, and what was acknowledged stays. Memory, spilled disk and files are bounded."""

import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.eider_process import EiderFactory
from harness.hosted import LISTENER, Hosted
from harness.snapshot_client import InFlight
from harness.snapshot_processes import gone, resident_bytes
from harness.waiting import DeadlinePassed
from hostile.test_hostile_limits import DEAF

pytestmark = pytest.mark.once

GONE = 1.2  # after the deadline: the interrupt that is ignored for a second, SIGKILL, and memory given back
TRIES = 4
CHOSEN = ("levenshtein", "damerau", "jaro", "repeat", "transform", "sort", "regexp", "printf")
TEN_GIGABYTES = "SELECT max(len(l)) FROM (SELECT list(i) AS l FROM range(1300000000) t(i))"


def ends_soon(pid, wait_until):
    """The answer may be there a moment before the process has left."""
    try:
        return wait_until(lambda: gone(pid), 1)
    except DeadlinePassed:
        return False


def is_busy():
    return os.getloadavg()[0] > 1.5 * os.cpu_count()


@pytest.fixture(scope="module")
def deaf_server(eider_binary, tmp_path_factory):
    factory = EiderFactory(eider_binary, lambda: tmp_path_factory.mktemp("deaf"))
    # One failure that counted would open the breaker.
    env = {**LISTENER, "DUCKDB_MEMORY_LIMIT": "2GB", "DUCKDB_CIRCUIT_BREAKER_FAILURE_THRESHOLD": 1}
    hosted = Hosted(factory(env))
    hosted.rows("CREATE TABLE t(a INTEGER)")
    yield hosted
    factory.finish()


@pytest.mark.parametrize("sql", [DEAF[name] for name in CHOSEN], ids=CHOSEN)
def test_a_statement_that_does_not_listen(deaf_server, wait_until, record_property, sql):
    """408 within the deadline and 1.2 s; when it took the process along, the next request has another one."""
    hosted = deaf_server
    written = hosted.value("INSERT INTO t SELECT count(*) FROM t")
    rows = hosted.value("SELECT count(*) FROM t")
    assert written == 1
    measured = []
    while not measured or (measured[-1] > 1 + GONE and len(measured) < TRIES):
        pid = hosted.process()
        beside = InFlight(hosted.query, "SELECT count(*) FROM range(100000000000) r(i) WHERE i % 7 = 3", timeout_seconds=20)
        wait_until(lambda: hosted.info()["running"] == 1, 30, "somebody is beside it")
        began = time.monotonic()
        answer = hosted.query(sql, timeout_seconds=1)
        measured.append(time.monotonic() - began)
        assert answer.status_code == 408 or "Memory limit exceeded" in answer.text, answer.text
        if ends_soon(pid, wait_until):
            neighbour = beside.result()
            assert neighbour.status_code == 503 and "process of this database ended" in neighbour.text
        else:
            hosted.kill_process()  # it stopped when it was told to: the one beside it need not go on for 20 s
            beside.wait()
            hosted.reset_breaker()
        wait_until(lambda: hosted.query("SELECT 1").status_code == 200, 30, "another process")
    record_property("answered_after_s", round(min(measured), 3))
    assert min(measured) <= 1 + GONE or is_busy(), measured
    assert hosted.value("SELECT count(*) FROM t") == rows
    state = hosted.breaker()
    assert state["state"] == "closed", state


def test_fifty_small_queries_beside_one_that_wants_ten_gigabytes(start_eider):
    hosted = Hosted(start_eider({**LISTENER, "DUCKDB_MEMORY_LIMIT": "512MB"}))
    hosted.rows("CREATE TABLE t AS SELECT i AS a FROM range(1000) r(i)")
    done = threading.Event()
    large, most = [], []

    def want_much():
        while not done.is_set():
            large.append(hosted.query(TEN_GIGABYTES))

    def look():
        while not done.wait(0.02):
            most.append(max((resident_bytes(pid, "VmHWM") for pid in hosted.processes()), default=0))

    wanting, looking = InFlight(want_much), InFlight(look)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: hosted.query("SELECT sum(a) FROM t WHERE a % 2 = 0"), range(50)))
    done.set()
    wanting.wait()
    looking.wait()
    assert [answer.text for answer in answers if answer.status_code != 200] == []
    assert large
    for answer in large:
        assert answer.status_code == 503 and "Memory limit exceeded" in answer.text, answer.text
    assert max(most) < 1 << 30
    assert hosted.breaker()["state"] == "closed"


WIDE = (
    "CREATE TEMP TABLE w AS SELECT md5(i::VARCHAR) AS a, md5((i + 1)::VARCHAR) AS b FROM range(4000000) r(i); FROM w LIMIT 1"
)


def spilled(hosted):
    return sum(path.stat().st_size for path in (hosted.folder / "tmp-default").iterdir())


def test_what_is_spilled_is_bounded_and_goes(start_eider, wait_until):
    env = {**LISTENER, "DUCKDB_MEMORY_LIMIT": "128MB", "EIDER_DATABASE_TEMP_MAX": "16MiB"}
    hosted = Hosted(start_eider(env))
    hosted.rows("CREATE TABLE t AS SELECT 1 AS a")
    most = []
    call = InFlight(hosted.query, WIDE, timeout_seconds=60)

    def over():
        most.append(spilled(hosted))
        return call.done()

    wait_until(over, 90, "an answer", 0.01)
    answer = call.result()
    assert answer.status_code == 503 and "Memory limit exceeded" in answer.text, answer.text
    assert 0 < max(most) <= 17 << 20, max(most)
    assert hosted.rows("FROM t") == [[1]]
    assert hosted.breaker()["state"] == "closed"
    wait_until(lambda: spilled(hosted) == 0, 10, "what was spilled is gone")


def fill_until_refused(hosted):
    """Tables of 4 MB each, until one is refused -> (how many were acknowledged, the refusal)"""
    for number in range(100):
        answer = hosted.query(
            f"CREATE TABLE t{number} AS SELECT hash(i + {number} * 1000000) AS a FROM range(500000) r(i)", timeout_seconds=60
        )
        if answer.status_code != 200:
            return number, answer
        hosted.query("CHECKPOINT")
    raise AssertionError("it was never refused")


def whole(hosted, count):
    for number in range(count):
        there = f"(SELECT sum(a::HUGEINT) FROM t{number})"
        wanted = f"(SELECT sum(hash(i + {number} * 1000000)::HUGEINT) FROM range(500000) r(i))"
        assert hosted.rows(f"SELECT {there} = {wanted}") == [[True]]
    return True


def is_refused_without_damage(hosted, wait_until, make_room):
    """The statement that finds no room says so; every table before it is whole, then and after a restart of its process;
    room that is made is used."""
    hosted.rows("CREATE TABLE small(a INTEGER)")
    count, answer = fill_until_refused(hosted)
    assert count >= 2 and answer.status_code == 507, answer.text
    assert "Storage limit exceeded" in answer.text
    assert "larger than its limit, or the disk is full" in answer.text and str(hosted.folder) not in answer.text
    hosted.reset_breaker()
    wait_until(lambda: whole(hosted, count), 20, "every table that was acknowledged is whole")
    hosted.kill_process()
    wait_until(lambda: whole(hosted, count), 20, "and after it was opened again")
    assert not hosted.set_aside()
    make_room()
    hosted.reset_breaker()
    wait_until(lambda: hosted.query("INSERT INTO small VALUES (1)").status_code == 200, 20, "and used")


def test_the_size_of_a_file_is_bounded_without_damage(start_eider, wait_until):
    hosted = Hosted(start_eider({**LISTENER, "EIDER_DATABASE_FILE_MAX": "24MiB"}))
    is_refused_without_damage(hosted, wait_until, lambda: hosted.rows("DROP TABLE t0"))
    assert hosted.path().stat().st_size <= 24 << 20


def test_a_full_disk_damages_nothing(start_eider, small_disk, wait_until):
    path = small_disk / "default.duckdb"
    hosted = Hosted(start_eider({**LISTENER, "DUCKDB_DATABASE_PATH": str(path)}))
    hosted.folder = small_disk
    larger = ["mount", "-o", "remount,size=64m", str(small_disk)]
    is_refused_without_damage(hosted, wait_until, lambda: subprocess.run(larger, check=True))
    assert hosted.server.stop() == 0
