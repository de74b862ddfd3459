"""The result cache of hosted databases: who asks after a change was acknowledged, or seen by anybody, sees it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from harness.eider_process import EiderFactory
from harness.hosted import LISTENER, Hosted
from harness.waiting import wait_until

COUNTERS = 3
SECONDS = 4
ALL = "SELECT n FROM counters ORDER BY k"


@pytest.fixture(scope="module")
def hosted(eider_binary, tmp_path_factory):
    factory = EiderFactory(eider_binary, lambda: tmp_path_factory.mktemp("cache"))
    one = Hosted(factory(LISTENER))
    one.rows(f"CREATE TABLE counters AS SELECT k::INTEGER AS k, 0 AS n FROM range({COUNTERS}) AS t(k)")
    yield one
    factory.finish()


def ask(hosted, sql, headers=None):
    """(rows, X-Cache); from memory, where that is allowed."""
    answer = hosted.request("POST", "/query", json={"query": sql}, headers={"Cache-Control": "", **(headers or {})})
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}\n{sql}"
    return answer.json()["data"], answer.headers["X-Cache"]


class Witness:
    """What has been acknowledged, or seen, of each counter so far: no answer asked for later may have less."""

    def __init__(self):
        self._lock = threading.Lock()
        self._known = [0] * COUNTERS
        self.hits = 0

    def look(self, hosted, headers=None):
        with self._lock:
            before = list(self._known)
        rows, cache = ask(hosted, ALL, headers)
        found = [row[0] for row in rows]
        assert all(now >= then for now, then in zip(found, before)), f"{cache}: {found} after {before}"
        self.learn(found)
        with self._lock:
            self.hits += cache == "hit"

    def learn(self, found):
        with self._lock:
            self._known = [max(pair) for pair in zip(self._known, found)]


def test_no_answer_is_older_than_what_was_known_when_it_was_asked_for(hosted):
    witness = Witness()
    end = monotonic() + SECONDS

    def write(number):
        count = 0
        while monotonic() < end:
            count += 1
            hosted.rows(f"UPDATE counters SET n = {count} WHERE k = {number}")
            witness.learn([count if k == number else 0 for k in range(COUNTERS)])
            for _ in range(10):
                witness.look(hosted)
        return count

    def read(headers):
        while monotonic() < end:
            witness.look(hosted, headers)
        return 1

    fresh = {"Cache-Control": "no-cache"}
    with ThreadPoolExecutor(COUNTERS + 3) as pool:
        work = [pool.submit(write, number) for number in range(COUNTERS)]
        work += [pool.submit(read, headers) for headers in (None, None, fresh)]
        assert all(one.result() > 0 for one in work)
    assert witness.hits > 0


def test_what_others_have_seen_of_a_request_that_still_runs_is_not_taken_back(hosted):
    """Its first statement is committed, its second runs: nothing of it has been acknowledged."""
    sql = "SELECT count(*) FROM seen"
    hosted.rows("CREATE TABLE seen(a INTEGER)")
    assert [ask(hosted, sql) for _ in range(2)] == [([[0]], "miss"), ([[0]], "hit")]
    slow = "SELECT sum(sqrt(a.range * b.range)) FROM range(6000) a, range(5000) b"
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(hosted.rows, f"INSERT INTO seen VALUES (1); {slow}")
        wait_until(lambda: hosted.value(sql) == 1, 30, "the row is seen")
        found = ask(hosted, sql)
        assert not work.done(), "the second statement is too short for this test"
        work.result()
    assert found == ([[1]], "miss")


def test_a_statement_asked_again_is_answered_from_memory_until_the_next_change(hosted):
    sql = "SELECT count(*) FROM counters"
    ask(hosted, sql)
    assert ask(hosted, sql) == ([[COUNTERS]], "hit")
    hosted.rows("CREATE TABLE another(a INTEGER)")
    assert ask(hosted, sql) == ([[COUNTERS]], "miss")


@pytest.mark.parametrize(
    "body",
    [
        "VIEW {} AS SELECT random() AS a",
        "VIEW {} AS SELECT now() AS a",
        "VIEW {} AS SELECT a FROM (SELECT uuid() AS a) WHERE a IS NOT NULL",
        "VIEW {} AS SELECT n AS a FROM counters TABLESAMPLE 50%",
        "VIEW {} AS SELECT count(*) AS a FROM duckdb_tables()",
        "VIEW {} AS SELECT n AS a FROM counters WHERE n < (SELECT epoch(current_date))",
    ],
)
def test_what_a_view_hides_is_not_kept(hosted, body):
    hosted.rows("CREATE OR REPLACE " + body.format("hides"))
    assert [ask(hosted, "SELECT a FROM hides")[1] for _ in range(3)] == ["miss"] * 3


def test_a_view_over_tables_alone_is_kept(hosted):
    hosted.rows("CREATE OR REPLACE VIEW plain AS SELECT k + 1 AS a FROM counters WHERE k IN (SELECT max(k) FROM counters)")
    assert [ask(hosted, "SELECT a FROM plain") for _ in range(2)] == [([[COUNTERS]], "miss"), ([[COUNTERS]], "hit")]


def test_a_macro_that_asks_a_sequence_changes_something(hosted):
    hosted.rows("CREATE SEQUENCE numbers")
    hosted.rows("CREATE MACRO take() AS nextval('numbers')")
    found = [ask(hosted, "SELECT take()") for _ in range(4)]
    values = [rows[0][0] for rows, _ in found]
    assert values == sorted(set(values))
    assert {cache for _, cache in found} == {"miss"}
