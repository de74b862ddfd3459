"""What SQL /query runs, and what it answers when it does not: checks 23, 24 and 28."""

import pyarrow
import pytest
import requests

from harness.snapshot_client import Sidecar, caller_error, error_of


@pytest.fixture(scope="module")
def sidecar(eider, s3):
    sidecar = Sidecar(eider.snapshot, s3)
    sidecar.put_table("orders.parquet", pyarrow.table({"a": ["x", "x", "y"], "b": [1, 2, 3]}))
    return sidecar


ORDERS = {"orders": "orders.parquet"}


# ---- statements that are not one read-only statement ----
@pytest.mark.parametrize(
    "sql",
    ["selec 1", "SELECT * FROM nowhere", "SELECT nothing FROM orders", "SELECT 'x'::INT", ";", ";;", "-- c", "/* c */"]
    + ["SELECT ?", "SELECT $1", "SELECT $name", "EXECUTE nope", "SELECT 1 +", "SELECT * FROM orders WHERE", "'", '"']
    + ["SELECT nope(1)", "SELECT a + b FROM orders", "SELECT 1; SELECT 2", "SELECT 1;; SELECT 2", "SELECT 1; selec"]
    + ["/* open", "SELECT 'open", "SELECT (1", "SELECT 1)", "\u00a0", "SELECT 1 \u0000", "SELECT cast('' AS INTEGER)"]
    + ["SELECT 127::TINYINT + 127::TINYINT", "SELECT 170141183460469231731687303715884105727::HUGEINT + 1"]
    + ["SELECT error('mine')", "SELECT json_extract('{', '$')", "SELECT strptime('x', '%Y')"],
)
def test_sql_that_fails_is_400_and_the_server_goes_on(sidecar, sql):
    error = error_of(sidecar.query(sql, ORDERS), 400)
    assert "\x00" not in error
    sidecar.alive()


def test_the_engine_s_text_is_kept(sidecar):
    assert "syntax error" in error_of(sidecar.query("selec 1"), 400)
    assert "nowhere" in error_of(sidecar.query("SELECT * FROM nowhere"), 400)
    assert "'x'" in error_of(sidecar.query("SELECT 'x'::INT"), 400)
    assert "mine" in error_of(sidecar.query("SELECT error('mine')"), 400)


def test_an_error_in_the_last_row_is_an_error(sidecar):
    """Rows that came before it must not make a 200 of it, or a body that ends well."""
    sql = "SELECT CASE WHEN i = {0} THEN error('late') ELSE i END AS v FROM range({0} + 1) AS t(i)"
    error_of(sidecar.query(sql.format(100)), 400)


def test_an_error_after_the_head_is_sent_is_not_a_whole_answer(sidecar):
    sql = "SELECT CASE WHEN i = 3000000 THEN error('late') ELSE repeat('x', 50) END AS v FROM range(3000001) AS t(i)"
    try:
        answer = sidecar.query(sql)
    except requests.RequestException:
        return  # the body was cut, and the client noticed
    error_of(answer, 400)


WRITES = [
    "INSERT INTO orders VALUES ('z', 9)",
    "UPDATE orders SET b = 0",
    "DELETE FROM orders",
    "MERGE INTO orders USING orders o ON true WHEN MATCHED THEN DELETE",
    "TRUNCATE orders",
    "DROP VIEW orders",
    "DROP TABLE IF EXISTS nowhere",
    "ALTER TABLE orders ADD COLUMN c INTEGER",
    "CREATE TABLE made (a INTEGER)",
    "CREATE TEMP TABLE made AS SELECT 1 AS a",
    "CREATE OR REPLACE VIEW orders AS SELECT 1",
    "CREATE MACRO made(x) AS x + 1",
    "CREATE SEQUENCE made",
    "CREATE TYPE made AS ENUM ('a')",
    "CREATE SCHEMA made",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "USE memory",
    "VACUUM",
    "ANALYZE",
    "CHECKPOINT",
    "SET threads = 1",
    "SET VARIABLE made = 1",
    "RESET threads",
    "PRAGMA version",
    "PRAGMA table_info('orders')",
    "CALL pragma_version()",
    "PREPARE made AS SELECT 1",
    "DEALLOCATE made",
    "COMMENT ON TABLE orders IS 'x'",
    "INSTALL json",
    "LOAD json",
    "ATTACH ':memory:' AS made",
    "DETACH memory",
    "EXPORT DATABASE 'x'",
    "IMPORT DATABASE 'x'",
    "COPY orders TO 'x.csv'",
    "COPY (SELECT 1) TO '/dev/stdout'",
    "EXPLAIN ANALYZE INSERT INTO orders VALUES ('z', 9)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'",
    "EXPLAIN ANALYZE CREATE TABLE made (a INTEGER)",
    "explain (analyze) create table made (a integer)",
    "EXPLAIN /* c */ ANALYZE -- d\n COPY (SELECT 1) TO 'x.csv'",
    "WITH x AS (SELECT 1) INSERT INTO orders SELECT 'z', 1",
    "SELECT 1; DROP VIEW orders",
    "DROP VIEW orders; SELECT 1",
    "SELECT 1;COPY(SELECT 1)TO'x.csv'",
    "/* SELECT */ COPY/**/(SELECT 1)TO'x.csv'",
    "PIVOT orders ON a USING sum(b); DROP VIEW orders",
]


@pytest.mark.parametrize("sql", WRITES)
def test_only_one_reading_statement_is_run(sidecar, sql):
    """Refused in words of ours or of the engine, but never run: nothing is left for a second request to see."""
    caller_error(sidecar.query(sql, ORDERS))
    assert sidecar.rows("SELECT count(*), sum(b) FROM orders", ORDERS) == [(3, 6)]
    caller_error(sidecar.query("SELECT * FROM made"))
    caller_error(sidecar.query("SELECT made(1)"))
    caller_error(sidecar.query("EXECUTE made"))


def test_nothing_is_carried_to_the_next_request(sidecar):
    """28: what one request declares, another does not see."""
    assert sidecar.rows("SELECT count(*) FROM orders", ORDERS) == [(3,)]
    caller_error(sidecar.query("SELECT count(*) FROM orders"))
    assert sidecar.rows("SELECT count(*) FROM other", {"other": "orders.parquet"}) == [(3,)]
    caller_error(sidecar.query("SELECT count(*) FROM orders", {"other": "orders.parquet"}))


# ---- every way of reading ----
@pytest.mark.parametrize(
    "sql, rows",
    [
        ("SELECT 1 AS v;", [(1,)]),
        ("SELECT 1 AS v ; -- done", [(1,)]),
        ("-- first\nSELECT 1 AS v /* ; */", [(1,)]),
        ("/* a /* nested */ b */ SELECT 1 AS v", [(1,)]),
        ("SELECT ';' AS v;", [(";",)]),
        ("SELECT 'it''s; fine' AS v", [("it's; fine",)]),
        ("SELECT $$a;b$$ AS v", [("a;b",)]),
        ("SELECT $tag$a;$$;b$tag$ AS v", [("a;$$;b",)]),
        ("SELECT E'a\\';b' AS v", [("a';b",)]),
        ('SELECT 1 AS "a;b"', [(1,)]),
        ("select\n1\tas\r\nv", [(1,)]),
        ("(SELECT 1 AS v)", [(1,)]),
        ("VALUES (1, 'x'), (2, 'y')", [(1, "x"), (2, "y")]),
        ("FROM orders ORDER BY b LIMIT 1", [("x", 1)]),
        ("FROM orders SELECT sum(b)", [(6,)]),
        ("TABLE orders", [("x", 1), ("x", 2), ("y", 3)]),
        ("WITH t AS (SELECT b FROM orders) SELECT max(b) FROM t", [(3,)]),
        ("WITH t AS MATERIALIZED (FROM orders) SELECT count(*) FROM t", [(3,)]),
        ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t", [(15,)]),
        ("SELECT a, sum(b) FROM orders GROUP BY ALL ORDER BY ALL", [("x", 3), ("y", 3)]),
        ("SELECT b, sum(b) OVER (ORDER BY b) FROM orders", [(1, 1), (2, 3), (3, 6)]),
        ("SELECT * FROM orders o JOIN orders p USING (b) WHERE o.a = 'y'", [("y", 3, "y")]),
        ("SELECT (SELECT max(b) FROM orders), EXISTS (FROM orders WHERE b > 5)", [(3, False)]),
        ("SELECT 1 UNION ALL SELECT 2 EXCEPT SELECT 2", [(1,)]),
        ("SELECT unnest([1, 2])", [(1,), (2,)]),
        ("SELECT * FROM range(3)", [(0,), (1,), (2,)]),
        ("SELECT * FROM generate_series(1, 3)", [(1,), (2,), (3,)]),
        ("SELECT list_transform([1, 2], lambda x: x * 2)", [([2, 4],)]),
        ("SELECT regexp_extract('ab12', '[0-9]+'), strftime(DATE '2024-01-15', '%Y')", [("12", "2024")]),
        ("SELECT json_extract_string('{\"a\": \"b\"}', '$.a')", [("b",)]),
        ("PIVOT orders ON a USING sum(b)", [(3, 3)]),
        ("PIVOT orders ON a IN ('x') USING sum(b) GROUP BY b", None),
        ("FROM (PIVOT orders ON a USING sum(b))", [(3, 3)]),
        ("UNPIVOT (SELECT 1 AS p, 2 AS q) ON p, q", [("p", 1), ("q", 2)]),
        ("EXPLAIN SELECT * FROM orders", None),
        ("EXPLAIN ANALYZE SELECT * FROM orders", None),
        ("EXPLAIN PIVOT orders ON a USING sum(b)", None),
        ("SUMMARIZE orders", None),
    ],
)
def test_reading_statements(sidecar, sql, rows):
    seen = sidecar.rows(sql, ORDERS)
    assert seen if rows is None else seen == rows


def test_describe_and_show(sidecar):
    for sql in ("DESCRIBE orders", "DESC SELECT * FROM orders", "SHOW orders", "DESCRIBE TABLE orders"):
        described = sidecar.result(sql, ORDERS)
        assert described["columns"][:2] == ["column_name", "column_type"]
        assert [list(row.values())[:2] for row in described["rows"]] == [["a", "VARCHAR"], ["b", "BIGINT"]]
    assert sidecar.result("SHOW TABLES")["columns"] == ["name"]


def test_explain_analyze_runs_its_select_and_writes_nothing(sidecar):
    body = sidecar.result("EXPLAIN ANALYZE SELECT sum(b) FROM orders", ORDERS)
    assert "Total Time" in "".join(str(value) for row in body["rows"] for value in row.values())


# ---- 24: table names ----
@pytest.mark.parametrize(
    "name, written",
    [
        ("orders", "ORDERS"),
        ("Orders", "orders"),
        ("orders", '"oRdErS"'),
        ("my table", '"my table"'),
        ('t"x', '"t""x"'),
        ("select", '"select"'),
        ("group", '"GROUP"'),
        ("t'; DROP", '"t\'; DROP"'),
        ("schema.table", '"schema.table"'),
        ("été", "été"),
        ("日本", "日本"),
        ("😀", '"😀"'),
        ("1", '"1"'),
        ("x.parquet", '"x.parquet"'),
        ("../x", '"../x"'),
        ("a\nb", '"a\nb"'),
        ("main", "main"),
        ("range", '"range"'),
        ("duckdb_settings", "duckdb_settings"),
        ("n" * 300, "n" * 300),
    ],
)
def test_table_names_are_any_text(sidecar, name, written):
    assert sidecar.rows(f"SELECT sum(b) FROM {written}", {name: "orders.parquet"}) == [(6,)]
    assert sidecar.rows(f"SELECT t.b FROM {written} AS t WHERE a = 'y'", {name: "orders.parquet"}) == [(3,)]


def test_a_repeated_name_means_the_last(sidecar):
    sidecar.put_table("other.parquet", pyarrow.table({"b": [100]}))
    tables = [
        {"name": "t", "s3_path": "orders.parquet"},
        {"name": "T", "s3_path": "missing.parquet"},
        {"name": "t", "s3_path": "other.parquet"},
    ]
    assert sidecar.rows("SELECT sum(b) FROM t", tables) == [(100,)]


def test_a_common_table_expression_hides_a_table(sidecar):
    sql = "WITH orders AS (SELECT 41 + 1 AS b) SELECT b FROM orders"
    assert sidecar.rows(sql, {"orders": "missing.parquet"}) == [(42,)]


def test_names_with_a_schema(sidecar):
    assert sidecar.rows("SELECT sum(b) FROM main.orders", ORDERS) == [(6,)]
    caller_error(sidecar.query("SELECT * FROM other.orders", ORDERS))


@pytest.mark.once
def test_a_statement_of_a_megabyte(sidecar):
    """There is no limit on the text but the body's: a long IN list is honest use."""
    numbers = ",".join(str(number) for number in range(150000))
    assert sidecar.rows(f"SELECT count(*) FROM orders WHERE b IN ({numbers})", ORDERS) == [(3,)]
