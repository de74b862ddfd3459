"""POST /api/v1/duckdb/query: fields, binding, fetch modes, types, errors. Numbers are the contract's checks."""

import json
import math

import pytest

from harness.analytics_client import ENDLESS, error_of, faults_of

TOO_SMALL = "Input should be greater than or equal to {}"
TOO_LARGE = "Input should be less than or equal to {}"


# ---- the answer ----


def test_the_sample_of_the_contract(analytics):  # 3
    answer = analytics.query("SELECT 1 as test_value")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert ": " not in answer.text and ", " not in answer.text
    body = answer.json()
    assert list(body) == ["data", "execution_time", "memory_usage", "row_count", "columns", "query_hash"]
    assert (body["data"], body["row_count"], body["columns"]) == ([[1]], 1, ["test_value"])
    assert isinstance(body["execution_time"], float) and body["execution_time"] > 0
    assert isinstance(body["memory_usage"], float) and body["memory_usage"] >= 0


def test_the_hash_of_a_statement_is_a_stable_number_as_text(analytics):
    first, second, other = (analytics.result(f"SELECT {n} AS n") for n in (1, 1, 2))
    assert isinstance(first["query_hash"], str)
    assert -(2**63) <= int(first["query_hash"]) < 2**63
    assert first["query_hash"] == second["query_hash"] != other["query_hash"]


def test_values_as_a_table(analytics):  # 16
    assert analytics.rows("SELECT * FROM (VALUES (1,'a'),(2,'b')) AS t(id,name)") == [[1, "a"], [2, "b"]]
    assert analytics.rows("SELECT * FROM VALUES (1,'a'),(2,'b') AS t(id,name)") == [[1, "a"], [2, "b"]]


def test_columns_of_the_same_name_and_none(analytics):
    result = analytics.result('SELECT 1 AS a, 2 AS a, 3 AS "q""é" WHERE false')
    assert (result["columns"], result["data"], result["row_count"]) == (["a", "a", 'q"é'], [], 0)


def test_several_statements_answer_with_the_last(analytics, table):  # 13
    result = analytics.result("SELECT 1; SELECT 2 as b;")
    assert (result["data"], result["columns"], result["row_count"]) == ([[2]], ["b"], 1)
    analytics.rows(f"CREATE TABLE {table} (a INTEGER); INSERT INTO {table} VALUES (1); SELECT 1")
    assert analytics.rows(f"SELECT * FROM {table}") == [[1]]
    # Each is a transaction of its own, and parameters are the last one's.
    detail = analytics.error(f"INSERT INTO {table} VALUES (2); SELECT * FROM nowhere")
    assert "nowhere" in detail
    assert analytics.rows(f"INSERT INTO {table} VALUES (3); SELECT a FROM {table} WHERE a >= $1 ORDER BY a", {"1": 2}) == [
        [2],
        [3],
    ]


def test_what_changes_answers_with_a_count(analytics, table):  # 12
    made = analytics.result(f"CREATE TABLE {table} (a INTEGER, b VARCHAR)")
    assert (made["data"], made["columns"], made["row_count"]) == ([], ["Count"], 0)
    added = analytics.result(f"INSERT INTO {table} VALUES (1,'x'),(2,'y')")
    assert (added["data"], added["columns"], added["row_count"]) == ([[2]], ["Count"], 1)
    assert analytics.rows(f"UPDATE {table} SET b = 'z' WHERE a = 1") == [[1]]
    assert analytics.rows(f"DELETE FROM {table} WHERE a = 2") == [[1]]
    copied = analytics.result(f"CREATE TABLE {table}_2 AS SELECT * FROM range(5)")
    assert (copied["data"], copied["columns"], copied["row_count"]) == ([[5]], ["Count"], 1)
    assert analytics.rows(f"INSERT INTO {table} VALUES (7, 'r') RETURNING a, b") == [[7, "r"]]
    for statement in (f"ALTER TABLE {table} ADD COLUMN c INTEGER", f"DROP TABLE {table}_2"):
        result = analytics.result(statement)
        assert (result["data"], result["columns"], result["row_count"]) == ([], ["Success"], 0), statement


# ---- parameters ----


@pytest.mark.parametrize(
    "sql, params, row",
    [
        ("SELECT ? as v", {"1": "x"}, ["x"]),  # 4
        ("SELECT $1 as v", {"1": "x"}, ["x"]),
        ("SELECT $lim as v", {"lim": 5}, [5]),
        ("SELECT $lim as v", {"LIM": 5}, [5]),
        ("SELECT $LIM as v", {"lim": 5}, [5]),
        ("SELECT $b, $a, $b", {"a": 1, "b": 2}, [2, 1, 2]),
        ("SELECT ?, ?", {"2": "second", "1": "first"}, ["first", "second"]),
        ("SELECT 1 AS v", {"limit": 5}, [1]),  # 5: the sample of the original's documents
        ("SELECT 1 AS v", {}, [1]),  # 6
        ("SELECT 1 AS v", None, [1]),
        ("SELECT $a IS NULL, typeof($a)", {"a": None}, [True, '"NULL"']),
        ("SELECT $a, typeof($a)", {"a": True}, [True, "BOOLEAN"]),
        ("SELECT $a, typeof($a)", {"a": 2**31 - 1}, [2**31 - 1, "INTEGER"]),
        ("SELECT $a, typeof($a)", {"a": -(2**31)}, [-(2**31), "INTEGER"]),
        ("SELECT $a, typeof($a)", {"a": 2**31}, [2**31, "BIGINT"]),
        ("SELECT $a, typeof($a)", {"a": 2**63 - 1}, [2**63 - 1, "BIGINT"]),
        ("SELECT $a, typeof($a)", {"a": 2**63}, [2**63, "UBIGINT"]),
        ("SELECT $a, typeof($a)", {"a": 2**64}, [2**64, "HUGEINT"]),
        ("SELECT $a, typeof($a)", {"a": -(2**63) - 1}, [-(2**63) - 1, "HUGEINT"]),
        ("SELECT $a, typeof($a)", {"a": 1.5}, [1.5, "DOUBLE"]),
        ("SELECT $a, typeof($a)", {"a": "é'; DROP TABLE x;--"}, ["é'; DROP TABLE x;--", "VARCHAR"]),
        ("SELECT $a, typeof($a)", {"a": [1, 2]}, [[1, 2], "INTEGER[]"]),
        ("SELECT $a, typeof($a)", {"a": {"x": 1, "y": "z"}}, [{"x": 1, "y": "z"}, "STRUCT(x INTEGER, y VARCHAR)"]),
        ("SELECT $a, typeof($a)", {"a": {"key": ["k"], "value": [1]}}, [{"k": 1}, "MAP(VARCHAR, INTEGER)"]),
    ],
)
def test_parameters_are_bound(analytics, sql, params, row):
    answer = analytics.query(sql, params)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"] == [row]


def test_a_parameter_of_null_is_no_parameter(analytics):  # 6
    assert analytics.post("/query", {"query": "SELECT 1", "params": None}).status_code == 200


@pytest.mark.parametrize("sql, params", [("SELECT ?", None), ("SELECT ?", {}), ("SELECT $a, $b", {"a": 1})])
def test_a_parameter_that_is_missing_is_refused(analytics, sql, params):  # 5
    detail = analytics.error(sql, params)
    assert detail.startswith("Query execution failed: Query error: ")
    assert "parameter" in detail.lower()


def test_inserted_values_become_what_the_table_says(analytics, table):
    """They are planned without the optimizer, and are what they would be with it."""
    analytics.rows(f"CREATE SEQUENCE s_{table} START 7")
    analytics.rows(
        f"CREATE TABLE {table} (id BIGINT PRIMARY KEY DEFAULT nextval('s_{table}'), day DATE, cost DECIMAL(9,2) CHECK (cost > 0), "
        "twice AS (cost * 2), tags VARCHAR[], mood ENUM('calm', 'glad') NOT NULL DEFAULT 'calm')"
    )
    values = "('2026-03-01', $cost, '[a, b]'), (NULL, 2, NULL)"
    assert analytics.rows(f"INSERT INTO {table} (day, cost, tags) VALUES {values}", {"cost": "1.255"}) == [[2]]
    assert analytics.rows(f"INSERT INTO {table} (id, cost, mood) VALUES ($1, 3::TINYINT, 'glad')", {"1": 1}) == [[1]]
    assert analytics.rows(f"FROM {table} ORDER BY id") == [
        [1, None, "3.00", "6.00", None, "glad"],
        [7, "2026-03-01", "1.26", "2.52", ["a", "b"], "calm"],
        [8, None, "2.00", "4.00", None, "calm"],
    ]
    for wrong, told in (
        ("(id, cost) VALUES (7, 1)", "Constraint Error"),
        ("(id, cost) VALUES (9, -1)", "Constraint Error"),
        ("(id, cost, mood) VALUES (9, 1, NULL)", "Constraint Error"),
        ("(id, day) VALUES (9, 'never')", "Conversion Error"),
        ("(id, mood) VALUES (9, 'sad')", "Conversion Error"),
        ("(id) VALUES (9, 9)", "Binder Error"),
    ):
        assert told in analytics.error(f"INSERT INTO {table} {wrong}"), wrong
    assert analytics.rows(f"SELECT count(*) FROM {table}") == [[3]]


def test_a_parameter_is_bound_in_a_change(analytics, table):
    analytics.rows(f"CREATE TABLE {table} (a INTEGER, b VARCHAR)")
    assert analytics.rows(f"INSERT INTO {table} VALUES ($a, $b)", {"a": 1, "b": "';"}) == [[1]]
    assert analytics.rows(f"SELECT * FROM {table} WHERE a = $a", {"a": 1}) == [[1, "';"]]


# ---- fetch modes ----


@pytest.mark.parametrize(
    "fields, data, count",
    [
        ({}, [[0], [1], [2]], 3),
        ({"fetch_mode": "all"}, [[0], [1], [2]], 3),
        ({"fetch_mode": "one"}, [0], 1),
        ({"fetch_mode": "many"}, [[0]], 1),
        ({"fetch_mode": "many", "fetch_size": 2}, [[0], [1]], 2),
        ({"fetch_mode": "many", "fetch_size": 9}, [[0], [1], [2]], 3),
        ({"fetch_mode": "none"}, None, None),
    ],
)
def test_fetch_modes(analytics, fields, data, count):  # 7
    result = analytics.result("SELECT range AS n FROM range(3)", **fields)
    assert (result["data"], result["row_count"], result["columns"]) == (data, count, ["n"])


@pytest.mark.parametrize("mode, data, count", [("all", [], 0), ("one", None, 0), ("many", [], 0), ("none", None, None)])
def test_fetch_modes_of_nothing(analytics, mode, data, count):
    result = analytics.result("SELECT 1 AS n WHERE false", fetch_mode=mode)
    assert (result["data"], result["row_count"], result["columns"]) == (data, count, ["n"])


def test_fetch_none_changes_all_the_same(analytics, table):
    analytics.rows(f"CREATE TABLE {table} (a INTEGER)", fetch_mode="none")
    result = analytics.result(f"INSERT INTO {table} SELECT * FROM range(3)", fetch_mode="none")
    assert (result["data"], result["row_count"], result["columns"]) == (None, None, ["Count"])
    assert analytics.value(f"SELECT count(*) FROM {table}") == 3


def test_a_long_result_is_cut_and_says_so(analytics):  # 38, A-35
    result = analytics.result("SELECT range AS n FROM range(100)", max_rows=10)
    assert (result["row_count"], len(result["data"]), result["truncated"]) == (10, 10, True)
    for _ in range(2):  # the second one is remembered
        answer = analytics.query("SELECT range AS n FROM range(100)", max_rows=10)
        assert answer.headers["X-Truncated"] == "true"
    whole = analytics.result("SELECT range AS n FROM range(10)", max_rows=10)
    assert whole["row_count"] == 10 and "truncated" not in whole


# ---- validation ----


@pytest.mark.parametrize(
    "body, field, kind, message",
    [
        ({}, "body.query", "missing", "Field required"),  # 9
        ({"query": ""}, "body.query", "string_too_short", "String should have at least 1 character"),
        ({"query": "-" * 10001}, "body.query", "string_too_long", "String should have at most 10000 characters"),
        ({"query": 1}, "body.query", "string_type", "Input should be a valid string"),
        ({"query": None}, "body.query", "string_type", "Input should be a valid string"),
        ({"query": "SELECT 1", "params": [1]}, "body.params", "dict_type", "Input should be a valid dictionary"),  # 6
        ({"query": "SELECT 1", "params": "x"}, "body.params", "dict_type", "Input should be a valid dictionary"),
        ({"query": "SELECT 1", "fetch_mode": None}, "body.fetch_mode", "string_type", "Input should be a valid string"),  # 8
        (
            {"query": "SELECT 1", "fetch_mode": "bogus"},
            "body.fetch_mode",
            "literal_error",
            "Input should be 'all', 'one', 'many' or 'none'",
        ),
        ({"query": "SELECT 1", "timeout_seconds": 0}, "body.timeout_seconds", "greater_than_equal", TOO_SMALL.format(1)),  # 10
        ({"query": "SELECT 1", "timeout_seconds": -5}, "body.timeout_seconds", "greater_than_equal", TOO_SMALL.format(1)),
        ({"query": "SELECT 1", "timeout_seconds": -(10**20)}, "body.timeout_seconds", "greater_than_equal", TOO_SMALL.format(1)),
        ({"query": "SELECT 1", "timeout_seconds": 301}, "body.timeout_seconds", "less_than_equal", TOO_LARGE.format(300)),
        ({"query": "SELECT 1", "timeout_seconds": "301"}, "body.timeout_seconds", "less_than_equal", TOO_LARGE.format(300)),
        ({"query": "SELECT 1", "fetch_size": 0}, "body.fetch_size", "greater_than_equal", TOO_SMALL.format(1)),
        ({"query": "SELECT 1", "max_rows": 0}, "body.max_rows", "greater_than_equal", TOO_SMALL.format(1)),
        ([], "body", "model_attributes_type", "Input should be a valid dictionary or object to extract fields from"),  # 11
        ("{broken", "body.1", "json_invalid", "JSON decode error"),
        ("", "body", "missing", "Field required"),
    ],
)
def test_validation(analytics, body, field, kind, message):
    answer = analytics.post("/query", body)
    assert faults_of(answer) == {field: (kind, message)}


@pytest.mark.parametrize("value, kind", [("x", "int_parsing"), (1.5, "int_from_float"), ([], "int_type")])
def test_a_time_limit_that_is_no_number(analytics, value, kind):
    faults = faults_of(analytics.query("SELECT 1", timeout_seconds=value))
    assert faults["body.timeout_seconds"][0] == kind


def test_all_faults_are_told_at_once(analytics):
    answer = analytics.post("/query", {"query": "", "params": [], "timeout_seconds": 0, "fetch_mode": "x"})
    assert set(faults_of(answer)) == {"body.query", "body.params", "body.timeout_seconds", "body.fetch_mode"}


@pytest.mark.parametrize("value", [None, 5, "5", 5.0, 300])
def test_time_limits_that_are_good(analytics, value):  # 10
    answer = analytics.post("/query", {"query": "SELECT 1", "timeout_seconds": value})
    assert answer.status_code == 200, answer.text


def test_the_longest_statement(analytics):
    assert analytics.rows("SELECT 1 --" + "é" * (10000 - 11)) == [[1]]


@pytest.mark.parametrize("text", [" ", "\n\t", ";", " ; ;", "-- nothing", "/* nothing */"])
def test_a_blank_statement(analytics, text):  # 11, A-36
    detail = analytics.error(text)
    assert detail == "Query execution failed: Query error: Invalid Input Error: there is no statement"


# ---- errors ----


def test_a_missing_table(analytics):  # 17
    detail = analytics.error("SELECT * FROM nowhere_at_all")
    assert detail.startswith("Query execution failed: Query error: Catalog Error: Table with name nowhere_at_all")


@pytest.mark.parametrize("name", ["memory_stats", "connection_log"])
def test_the_class_of_an_error_is_not_guessed_from_its_words(analytics, name):  # 17, A-21
    detail = analytics.error(f"SELECT * FROM {name}")
    assert detail.startswith("Query execution failed: Query error: Catalog Error")


@pytest.mark.parametrize(
    "sql, begins",
    [
        ("SELEC 1", "Query execution failed: Query error: "),
        ("SELECT 1 +", "Query execution failed: Query error: Parser Error: "),
        ("SELECT CAST('x' AS INTEGER)", "Query execution failed: Query error: Conversion Error: "),
        ("SELECT nope FROM range(1)", "Query execution failed: Query error: Binder Error: "),
    ],
)
def test_errors_of_a_statement(analytics, sql, begins):
    assert analytics.error(sql).startswith(begins)


def test_a_result_beyond_the_memory(analytics):
    detail = analytics.error("SELECT length(string_agg(repeat('x', 1000), '')) FROM range(3000000)", status=503)
    assert detail.startswith("Query execution failed: Memory limit exceeded: "), detail
    assert analytics.rows("SELECT 1") == [[1]]


@pytest.mark.once
def test_the_time_limit_is_kept(analytics):  # 10, A-04
    answer = analytics.query(ENDLESS, timeout_seconds=1)
    detail = error_of(answer, 408)
    assert detail.startswith("Query execution failed: Query error: ")
    assert "1 second" in detail
    assert answer.elapsed.total_seconds() < 3
    assert analytics.rows("SELECT 1") == [[1]]


def test_nothing_is_wrapped_twice(analytics):
    assert analytics.error("SELECT * FROM gone").count("Query error") == 1


# ---- types, section 3 ----

TYPES = [
    ("true", True),
    ("CAST(-128 AS TINYINT)", -128),
    ("CAST(9223372036854775807 AS BIGINT)", 9223372036854775807),
    ("CAST(18446744073709551615 AS UBIGINT)", 18446744073709551615),
    ("CAST('1267650600228229401496703205376' AS HUGEINT)", 2**100),
    ("CAST('340282366920938463463374607431768211455' AS UHUGEINT)", 2**128 - 1),
    ("CAST(1.5 AS DECIMAL(10,2))", "1.50"),
    ("CAST('-0.05' AS DECIMAL(38,2))", "-0.05"),
    ("CAST('nan' AS DOUBLE)", None),
    ("CAST('inf' AS DOUBLE)", None),
    ("CAST('-inf' AS FLOAT)", None),
    ("'é\"\n\u2028'", 'é"\n\u2028'),
    ("'b'::ENUM('a', 'b')", "b"),
    ("CAST('0101' AS BIT)", "0101"),
    ("json_extract('{\"a\": \"test\"}', '$.a')", '"test"'),  # 15
    ("CAST('{\"a\": 1}' AS JSON)", '{"a": 1}'),
    ("CAST('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11' AS UUID)", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("DATE '2024-01-02'", "2024-01-02"),
    ("TIME '10:00:00'", "10:00:00"),
    ("TIMESTAMP '2024-01-02 03:04:05'", "2024-01-02T03:04:05"),
    ("TIMESTAMP '2024-01-02 03:04:05.5'", "2024-01-02T03:04:05.500000"),
    ("CAST('2024-01-02 03:04:05' AS TIMESTAMP_S)", "2024-01-02T03:04:05"),
    ("CAST('2024-01-02 03:04:05.123' AS TIMESTAMP_MS)", "2024-01-02T03:04:05.123000"),
    ("CAST('2024-01-02 03:04:05.123456789' AS TIMESTAMP_NS)", "2024-01-02T03:04:05.123456"),
    ("TIMESTAMPTZ '2024-01-02 03:04:05+00'", "2024-01-02T03:04:05Z"),
    ("TIMESTAMPTZ '2024-01-02 03:04:05+02'", "2024-01-02T01:04:05Z"),
    ("CAST('infinity' AS DATE)", "9999-12-31"),
    ("CAST('-infinity' AS DATE)", "0001-01-01"),
    ("INTERVAL '1 day 3 seconds'", "P1DT3S"),
    ("INTERVAL '2 months'", "P60D"),
    ("CAST('abc' AS BLOB)", "abc"),
    ("NULL", None),
    ("[1, NULL, 3]", [1, None, 3]),
    ("CAST([1, 2] AS INTEGER[2])", [1, 2]),
    ("{'a': 1, 'b': [DATE '2024-01-02']}", {"a": 1, "b": ["2024-01-02"]}),
    ("row(1, 'x')", [1, "x"]),
    ("MAP {'k': 1, 'l': 2}", {"k": 1, "l": 2}),
    ("MAP {1: 'a'}", {"1": "a"}),
    ("MAP {[1]: 'a'}", {"key": [[1]], "value": ["a"]}),
    ("union_value(num := 2)", 2),
    ("[CAST(1 AS DECIMAL(4,1))]", ["1.0"]),
]


def test_types(analytics):  # 14
    """All of them in one statement, and each NULL."""
    sql = ", ".join(expression for expression, _ in TYPES)
    row = analytics.rows(f"SELECT {sql}")[0]
    wrong = [(expression, got, wanted) for (expression, wanted), got in zip(TYPES, row) if got != wanted]
    assert not wrong
    nulls = analytics.rows("SELECT " + ", ".join(f"if(random() > 2, {e}, NULL)" for e, _ in TYPES))[0]
    assert nulls == [None] * len(TYPES)


@pytest.mark.parametrize("sql, text", [("CAST(15 AS DOUBLE)", "15.0"), ("1e-7::DOUBLE", "1e-07"), ("0.1::FLOAT", "0.10000000149011612")])
def test_numbers_with_a_fraction_are_the_shortest_text(analytics, sql, text):
    assert f'"data":[[{text}]]' in analytics.query(f"SELECT {sql}").text


def test_negative_zero_and_large_doubles(analytics):
    zero, large = analytics.rows("SELECT -0.0::DOUBLE, 1e300::DOUBLE")[0]
    assert math.copysign(1, zero) == -1 and large == 1e300


def test_a_blob_that_is_no_text(analytics):  # 14
    value = analytics.value(r"SELECT '\xFF\x00a'::BLOB")
    assert isinstance(value, str) and "FF" in value.upper()


def test_years_beyond_four_digits_are_the_engines_text(analytics):
    value = analytics.value("SELECT DATE '12024-01-02'")
    assert "12024" in value


def test_large_numbers_keep_their_digits_on_the_wire(analytics):
    text = analytics.query("SELECT 2::HUGEINT ** 0 AS one, 1267650600228229401496703205376 AS big").text
    assert "1267650600228229401496703205376" in text
    assert json.loads(text)["columns"] == ["one", "big"]


# ---- settings may be read ----


def test_a_setting_can_be_read_but_not_changed(analytics):  # 36, 37
    assert analytics.value("SELECT current_setting('memory_limit')") == "512.0 MiB"
    assert analytics.value("SELECT current_setting('threads')") == 2
    for statement in ("SET memory_limit='8GB'", "SET threads=8", "PRAGMA memory_limit='8GB'", "RESET threads"):
        detail = analytics.error(statement)
        assert "not allowed" in detail, detail


@pytest.mark.parametrize("name", ["temp_directory", "secret_directory", "home_directory", "s3_secret_access_key", "x"])
def test_a_setting_that_tells_of_the_machine_cannot_be_read(analytics, name):
    analytics.error(f"SELECT current_setting('{name}')")
