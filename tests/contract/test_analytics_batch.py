"""POST /api/v1/duckdb/batch: atomic or not, errors by position, and what transactions leave behind."""

import pytest

from harness.analytics_client import ENDLESS, Background, error_of, faults_of

FAILED = "Batch execution failed: "


def table_is_there(client, name):
    return client.value("SELECT count(*) FROM information_schema.tables WHERE table_name = $name", {"name": name}) == 1


def steps(table):
    return [f"CREATE TABLE {table} (a INTEGER PRIMARY KEY)"] + [f"INSERT INTO {table} VALUES ({n})" for n in (1, 2)]


def test_the_sample_of_the_contract(database, table):  # 18
    answer = database.batch([*steps(table), f"SELECT count(*) AS n FROM {table}"])
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert list(body) == ["results", "total_queries", "total_execution_time", "success_count"]
    assert body["total_queries"] == body["success_count"] == 4 == len(body["results"])
    assert body["total_execution_time"] > 0
    for result in body["results"]:
        assert list(result) == ["data", "execution_time", "memory_usage", "row_count", "columns", "query_hash"]
        assert result["query_hash"] is None and result["memory_usage"] == 0.0
        assert isinstance(result["execution_time"], float) and result["execution_time"] > 0
    shown = [(result["data"], result["columns"], result["row_count"]) for result in body["results"]]
    assert shown == [([], ["Count"], 0), ([[1]], ["Count"], 1), ([[1]], ["Count"], 1), ([[2]], ["n"], 1)]


def test_a_failure_undoes_everything(database, table):  # 19
    queries = [*steps(table)[:2], f"INSERT INTO {table} VALUES (1)", f"INSERT INTO {table} VALUES (5)"]
    detail = error_of(database.batch(queries), 400)
    assert detail.startswith(FAILED + "Batch query 3 failed: Constraint Error: "), detail
    assert not table_is_there(database, table)


def test_without_a_transaction_earlier_effects_stay(database, table):  # 20, A-05
    queries = [*steps(table)[:2], f"INSERT INTO {table} VALUES (1)", f"INSERT INTO {table} VALUES (5)"]
    detail = error_of(database.batch(queries, use_transaction=False), 400)
    assert detail.startswith(FAILED + "Batch query 3 failed: Constraint Error: ")
    assert database.rows(f"SELECT a FROM {table}") == [[1]]


@pytest.mark.parametrize("word", ["COMMIT", "ROLLBACK", "BEGIN", "commit;", "END", "ABORT"])
def test_transaction_words_inside_are_refused(database, table, word):  # 21, A-06, A-07
    queries = [*steps(table)[:2], word, "SELECT * FROM nowhere"]
    detail = error_of(database.batch(queries), 400)
    assert detail.startswith(FAILED + "Batch query 3 failed: "), detail
    assert "transaction" in detail.lower()
    assert not table_is_there(database, table)


@pytest.mark.parametrize(
    "body, fault",
    [
        ({"queries": []}, ("body.queries", "too_short", "List should have at least 1 item after validation, not 0")),  # 22
        (
            {"queries": ["SELECT 1"] * 11},
            ("body.queries", "too_long", "List should have at most 10 items after validation, not 11"),
        ),
        ({"queries": [7]}, ("body.queries.0", "string_type", "Input should be a valid string")),
        ({"queries": ["SELECT 1", None]}, ("body.queries.1", "string_type", "Input should be a valid string")),
        ({"queries": "SELECT 1"}, ("body.queries", "list_type", "Input should be a valid list")),
        ({}, ("body.queries", "missing", "Field required")),
        (
            {"queries": ["SELECT 1"], "use_transaction": "perhaps"},
            ("body.use_transaction", "bool_parsing", "Input should be a valid boolean, unable to interpret input"),
        ),
        ("[", ("body.1", "json_invalid", "JSON decode error")),
        ('{"é":', ("body.5", "json_invalid", "JSON decode error")),
    ],
)
def test_validation(database, body, fault):
    assert [(f["field"], f["type"], f["message"]) for f in _errors(database.post("/batch", body))] == [fault]


def _errors(answer):
    faults_of(answer)
    return answer.json()["errors"]


@pytest.mark.parametrize("flag", ["yes", 1, "true", True, "off", 0, False])
def test_flags_that_are_good(database, flag):
    assert database.batch(["SELECT 1"], use_transaction=flag).status_code == 200


@pytest.mark.parametrize("text", ["", " ", "-- nothing"])
def test_an_empty_item(database, text):  # 22, A-36
    detail = error_of(database.batch(["SELECT 1", text]), 400)
    assert detail.startswith(FAILED + "Batch query 2 failed: ") and "no statement" in detail


def test_ten_items(database):
    body = database.batch([f"SELECT {n}" for n in range(10)]).json()
    assert [result["data"] for result in body["results"]] == [[[n]] for n in range(10)]


def test_temporary_tables_live_as_long_as_the_batch(database):  # 23
    answer = database.batch(
        [
            "CREATE TEMP TABLE one AS SELECT range AS a FROM range(3)",
            "CREATE TEMP TABLE two AS SELECT range AS a, 'x' AS b FROM range(2)",
            "SELECT one.a, two.b FROM one JOIN two USING (a) ORDER BY one.a",
        ]
    )
    assert answer.json()["results"][2]["data"] == [[0, "x"], [1, "x"]]
    assert "one" in database.error("SELECT * FROM one")


def test_a_batch_past_its_time_leaves_nothing(database, table):
    detail = error_of(database.batch([*steps(table), ENDLESS], timeout_seconds=1), 408)
    assert detail.startswith(FAILED) and "1 second" in detail
    assert not table_is_there(database, table)


# ---- what a transaction leaves behind ----


def test_an_open_transaction_ends_with_its_request(database, table):  # 24, A-08, A-09
    database.rows(f"CREATE TABLE {table} (a INTEGER PRIMARY KEY)")
    database.query("BEGIN")
    database.query(f"BEGIN; INSERT INTO {table} VALUES (100)")
    database.query(f"BEGIN; INSERT INTO {table} VALUES (101); SELECT * FROM nowhere")
    assert database.rows(f"INSERT INTO {table} VALUES (1)") == [[1]]
    assert database.batch([f"INSERT INTO {table} VALUES (2)", f"INSERT INTO {table} VALUES (3)"]).status_code == 200
    assert database.rows(f"SELECT a FROM {table} ORDER BY a") == [[1], [2], [3]]


def test_a_whole_transaction_in_one_request(database, table):
    database.rows(f"CREATE TABLE {table} (a INTEGER)")
    database.rows(f"BEGIN; INSERT INTO {table} VALUES (1); INSERT INTO {table} VALUES (2); COMMIT")
    database.rows(f"BEGIN; DELETE FROM {table}; ROLLBACK")
    assert database.value(f"SELECT count(*) FROM {table}") == 2


def test_temporary_tables_are_nobody_elses(database):
    database.rows("CREATE TEMP TABLE mine AS SELECT 1 AS a")
    database.error("SELECT * FROM mine")


def test_readers_see_a_batch_whole_or_not_at_all(database, table):
    """Ten rows at a time are added; nobody counts a number in between."""
    database.rows(f"CREATE TABLE {table} (a INTEGER)")
    add = [f"INSERT INTO {table} VALUES ({n})" for n in range(10)]
    writer = Background(lambda: [database.batch(add).status_code for _ in range(10)])
    counts = set()
    while not writer.done():
        counts.add(database.value(f"SELECT count(*) FROM {table} WHERE {len(counts)} < 100"))
    assert writer.answer() == [200] * 10
    assert all(count % 10 == 0 for count in counts), counts
    assert database.value(f"SELECT count(*) FROM {table}") == 100


def test_writers_at_the_same_time_lose_nothing(database, table):
    database.rows(f"CREATE TABLE {table} (a INTEGER)")

    def add(first):
        return [database.query(f"INSERT INTO {table} VALUES ({first + n})").status_code for n in range(10)]

    writers = [Background(lambda start=start: add(start)) for start in range(0, 80, 10)]
    assert all(writer.answer() == [200] * 10 for writer in writers)
    assert database.rows(f"SELECT count(*), count(DISTINCT a) FROM {table}") == [[80, 80]]


def test_two_batches_count_up_one_after_the_other(database, table):
    database.rows(f"CREATE TABLE {table} (n INTEGER); INSERT INTO {table} VALUES (0)")
    add = [f"UPDATE {table} SET n = n + 1"] * 10
    for batch in [Background(lambda: database.batch(add)) for _ in range(5)]:
        assert batch.answer().status_code == 200
    assert database.rows(f"SELECT n FROM {table}") == [[50]]
