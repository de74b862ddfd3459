"""One test for each fault that a review found in a statement's way through the server."""

import os
import time

import pytest
from harness.ingest_client import accepted, post_batch

NBSP = "\u00a0"


def refused(answer):
    assert answer.status_code == 400, f"{answer.status_code} {answer.text[:300]}"
    return answer.json()["error"]


@pytest.fixture
def ask(eider):
    return lambda sql: eider.post("/query", json={"sql": sql})


@pytest.mark.parametrize("space", ["\u00a0", "\u2003", "\u202f", "\u3000", "\ufeff", "\u200b"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT current_setting{}('memory_limit')",
        "SELECT getenv{}('PATH')",
        "SELECT * FROM duckdb_settings{}()",
        "SELECT * FROM enable_logging{}(storage := 'stdout')",
    ],
)
def test_unicode_spaces_do_not_hide_a_call(ask, sql, space):
    assert "is not available here" in refused(ask(sql.format(space)))


def test_a_unicode_space_does_not_hide_a_statement(ask):
    refused(ask(f"SELECT 1,{NBSP}e'\\' pivot , ' ; CREATE MACRO m() AS 1; --'"))
    assert ask(f"SELECT{NBSP}1 AS v").json()["rows"] == [{"v": 1}]


@pytest.mark.parametrize("verb", ["UPDATE t SET a = 1", "DELETE FROM t", "INSERT INTO t VALUES (1)"])
@pytest.mark.parametrize("lead", ["", "EXPLAIN ANALYZE "])
def test_a_with_does_not_carry_a_change(ask, lead, verb):
    assert "statements are not allowed" in refused(ask(f"{lead}WITH t AS (SELECT 1 AS a) {verb}"))


def test_each_request_has_its_own_random_numbers(ask):
    answers = {ask("SELECT uuid()::VARCHAR AS u, random() AS r").text for _ in range(5)}
    assert len(answers) == 5


@pytest.mark.once
def test_a_row_of_more_than_64_mib(ask):
    answer = ask("SELECT repeat('x', 70000000) AS v")
    assert answer.status_code == 200
    assert len(answer.json()["rows"][0]["v"]) == 70000000


def test_tables_that_differ_in_case_are_one_in_sql(eider, table):
    key = accepted(eider, post_batch(eider, f"{table}x", [{"a": 1}], "2025-01-01"))
    eider.lake.write(key.replace(f"{table}x", f"{table}X"), eider.lake.read(key))
    assert eider.sql(f"SELECT a FROM {table}x ORDER BY a")["rows"] == [{"a": 1}, {"a": 1}]
    twice = eider.sql(f"SELECT count(*) AS c FROM {table}X x, {table}x y")["rows"]
    assert twice == [{"c": 4}]


@pytest.mark.parametrize("name", ["pg_class", "duckdb_tables", "sqlite_master"])
def test_tables_named_like_the_engines_views(eider, name):
    accepted(eider, post_batch(eider, name, [{"mine": 7}], "2025-01-01"))
    assert eider.sql(f"SELECT mine FROM {name}")["rows"] == [{"mine": 7}]


def test_show_tables_tells_the_tables_of_the_lake(eider, table):
    accepted(eider, post_batch(eider, table, [{"a": 1}]))
    assert {"name": table} in eider.sql("SHOW TABLES")["rows"]


def test_many_names_and_tables_do_not_hold_a_thread(start_eider, s3):
    """150,000 names against 20,000 declared tables, none of them to be had: no more than the deadline."""
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "EIDER_QUERY_TIMEOUT_MS": "3000"})
    words = " ".join(f"a{n:05d}" for n in range(140000))
    tables = [{"name": f"t{n:05d}", "s3_path": "x.parquet"} for n in range(20000)]
    config = s3.config(s3.make_bucket())
    started = time.monotonic()
    answer = server.post("/query", server.snapshot, json={"sql": f"PIVOT {words}", "s3_config": config, "tables": tables})
    assert answer.status_code in (400, 504)
    assert time.monotonic() - started < 10


@pytest.mark.once
def test_a_query_over_many_objects_leaves_descriptors_for_others(start_eider, s3):
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0"})
    bucket = s3.make_bucket()
    config = s3.config(bucket)
    body = {
        "table_name": "t", "s3_key": "many/0000.parquet", "s3_config": config, "data": [{"n": 1}],
        "columns": [{"source": "n", "target": "n", "type": "BIGINT"}],
    }
    assert server.post("/snapshot", server.snapshot, json=body).status_code == 200
    client = s3.client()
    data = client.get_object(Bucket=bucket, Key="many/0000.parquet")["Body"].read()
    for n in range(1, 700):
        client.put_object(Bucket=bucket, Key=f"many/{n:04d}.parquet", Body=data)
    answer = server.post(
        "/query", server.snapshot,
        json={"sql": "SELECT count(*) AS c FROM t", "s3_config": config, "tables": [{"name": "t", "s3_path": "many/*.parquet"}]},
    )
    assert answer.json()["rows"] == [{"c": 700}], answer.text
    assert len(os.listdir(f"/proc/{server.pid}/fd")) < 200


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM (SHOW TABLES)",
        "SELECT name FROM (SHOW ALL TABLES)",
        "DESCRIBE",
        "FROM (DESC)",
        'SELECT table_name AS name FROM "information_schema"."tables"',
        'SELECT table_name AS name FROM "duckdb_tables"() UNION ALL SELECT view_name FROM "duckdb_views"()',
    ],
)
def test_every_way_to_list_tables_lists_them(eider, table, sql):
    accepted(eider, post_batch(eider, table, [{"v": 1}], "2025-01-01"))
    assert table in [row["name"] for row in eider.sql(sql)["rows"]]
