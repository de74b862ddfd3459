"""P20: what a request to a hosted database leaves behind is in the database, or it is gone with the request."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.analytics_client import error_of
from harness.eider_process import EiderFactory
from harness.hosted import LISTENER, Hosted
from harness.snapshot_client import InFlight

LOOKS = 12  # more than there are slots: every one of them is asked
LEFT_OPEN = "BEGIN; INSERT INTO kept VALUES (99)"


@pytest.fixture(scope="module")
def hosted(eider_binary, tmp_path_factory):
    factory = EiderFactory(eider_binary, lambda: tmp_path_factory.mktemp("state"))
    one = Hosted(factory(LISTENER))
    one.rows("CREATE TABLE kept(a INTEGER); CREATE SCHEMA other; CREATE TABLE other.only_there(a INTEGER)")
    yield one
    factory.finish()


def everywhere(hosted, sql):
    """The statuses of the same statement in all slots at once, and once after."""
    with ThreadPoolExecutor(LOOKS) as pool:
        answers = list(pool.map(lambda _: hosted.query(sql), range(LOOKS)))
    return [answer.status_code for answer in answers] + [hosted.query(sql).status_code]


@pytest.mark.parametrize(
    "leave, look",
    [
        ("CREATE TEMP TABLE mine(a INTEGER)", "FROM mine"),
        ("CREATE TEMP TABLE again(a INTEGER)", "FROM temp.main.again"),
        ("CREATE TEMP VIEW seen AS SELECT 1", "FROM seen"),
        ("CREATE TEMP MACRO plus(a) AS a + 1", "SELECT plus(1)"),
        ("CREATE TEMP MACRO rows() AS TABLE SELECT 1", "FROM rows()"),
        ("CREATE TEMP SEQUENCE counter", "SELECT nextval('counter')"),
        ("CREATE TEMP TYPE mood AS ENUM ('good')", "SELECT 'good'::mood"),
    ],
)
def test_what_is_temporary_ends_with_its_request(hosted, leave, look):
    """One request that makes and uses it, and no other that finds it."""
    answer = hosted.query(f"{leave}; {look}")
    assert answer.status_code == 200, answer.text
    assert set(everywhere(hosted, look)) == {400}
    assert hosted.query(leave).status_code == 200  # it is not there already


@pytest.mark.parametrize(
    "sql",
    [
        "SET VARIABLE secret = 42",
        "SET search_path = 'other'",
        "SET SESSION TimeZone = 'Asia/Tokyo'",
        "SET threads = 1",
        "RESET threads",
        "USE other",
        "PREPARE named AS SELECT 42",
        "SELECT 1; SET VARIABLE secret = 42",
        "PRAGMA disable_optimizer",
    ],
)
def test_what_would_stay_in_a_session_is_refused(hosted, sql):
    answer = hosted.query(sql)
    assert answer.status_code == 400 and "not allowed here" in answer.text, answer.text
    assert set(everywhere(hosted, "FROM only_there")) == {400}
    assert set(everywhere(hosted, "EXECUTE named")) == {400}


def test_a_transaction_ends_with_its_request(hosted):
    """Rolled back: nobody sees it, joins it, or waits for it; and a batch beside it does not lose a row."""
    hosted.rows("DELETE FROM kept")
    for _ in range(LOOKS):
        assert "COMMIT" in error_of(hosted.query(LEFT_OPEN), 400)
    assert hosted.query("COMMIT").status_code == 400  # there is none to end
    assert hosted.query("ROLLBACK").status_code == 400
    assert hosted.rows("SELECT * FROM kept") == []
    assert hosted.rows("INSERT INTO kept VALUES (1)") == [[1]]
    assert hosted.query(LEFT_OPEN).status_code == 400
    assert hosted.batch(["INSERT INTO kept VALUES (2)", "INSERT INTO kept VALUES (3)"]).status_code == 200
    assert hosted.query("BEGIN; DROP TABLE kept").status_code == 400
    assert hosted.rows("BEGIN; SELECT count(*) FROM kept") == [[3]]
    assert hosted.rows("SELECT a FROM kept ORDER BY a") == [[1], [2], [3]]


def test_a_transaction_that_failed_is_nobody_elses(hosted):
    """The engine says 'current transaction is aborted' to whatever comes next on such a connection."""
    hosted.rows("CREATE OR REPLACE TABLE keyed(a INTEGER PRIMARY KEY)")
    for _ in range(LOOKS):
        answer = hosted.query("BEGIN; INSERT INTO keyed VALUES (1); INSERT INTO keyed VALUES (1)")
        assert answer.status_code == 400
    assert set(everywhere(hosted, "SELECT count(*) FROM keyed")) == {200}
    assert hosted.value("SELECT count(*) FROM keyed") == 0


def test_transactions_left_open_do_not_meet_those_that_commit(hosted):
    """All slots, both kinds, at once: every acknowledged row is there, and no other."""
    hosted.rows("CREATE OR REPLACE TABLE mixed(a INTEGER)")

    def write(number):
        sql = f"INSERT INTO mixed VALUES ({number})"
        return hosted.query(f"BEGIN; {sql}" if number % 2 else sql).status_code

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(write, range(80))) == [200, 400] * 40
    assert hosted.rows("SELECT a FROM mixed ORDER BY a") == [[number] for number in range(0, 80, 2)]


def test_a_temporary_table_hides_nothing_from_others(hosted):
    """A name of the database, taken by a temporary table of a request that still runs."""
    hosted.rows("CREATE OR REPLACE TABLE shared AS SELECT 'real' AS a")
    started, stop = threading.Event(), threading.Event()

    def hide():
        while not stop.is_set():
            hosted.query("CREATE TEMP TABLE shared AS SELECT 'false' AS a; SELECT count(*) FROM shared, range(3000000)")
            started.set()

    hiding = InFlight(hide)
    try:
        assert started.wait(30)
        assert {hosted.value("SELECT a FROM shared") for _ in range(20)} == {"real"}
    finally:
        stop.set()
        hiding.wait()


def test_databases_do_not_share_tables(hosted):
    hosted.make("one")
    hosted.make("two")
    hosted.rows("CREATE TABLE mine(a INTEGER)", "one")
    assert hosted.query("FROM mine", "two").status_code == 400
    assert hosted.query("FROM one.main.mine", "two").status_code == 400
    assert hosted.rows("FROM mine", "one") == []


def test_a_kept_result_is_not_older_than_the_last_change(hosted):
    """The result cache (its key has the version): a read after an acknowledged write sees it."""
    hosted.rows("CREATE OR REPLACE TABLE counted(a INTEGER)")
    kept = {"headers": {"Cache-Control": "max-age=60"}}
    for number in range(1, 30):
        hosted.rows(f"INSERT INTO counted VALUES ({number})")
        for _ in range(2):
            answer = hosted.request("POST", "/query", json={"query": "SELECT count(*) FROM counted"}, **kept)
            assert answer.json()["data"] == [[number]]
    assert answer.headers["X-Cache"] == "hit"


def test_a_sequence_is_never_answered_from_memory(hosted):
    """nextval() changes the database although it is a query."""
    hosted.rows("CREATE OR REPLACE SEQUENCE numbers")
    kept = {"headers": {"Cache-Control": "max-age=60"}}

    def draw(_):
        return hosted.request("POST", "/query", json={"query": "SELECT nextval('numbers')"}, **kept).json()["data"][0][0]

    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(draw, range(40)))
    assert sorted(drawn) == list(range(1, 41))
