"""SQL over the server's own lake: POST /query on the main listener without `s3_config` and `tables`."""

import io
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.ingest_client import accepted, in_parallel, post_batch
from harness.lakes import FolderLake, S3Lake


def fill(server, table, batches):
    """Posts {date: records} and returns {date: key}."""
    return {date: accepted(server, post_batch(server, table, records, date)) for date, records in batches.items()}


def sql_error(server, text, status=400):
    """The text of a refused statement."""
    answer = server.post("/query", json={"sql": text})
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    assert isinstance(answer.json()["error"], str) and answer.json()["error"]
    return answer.json()["error"]


def test_answer_has_the_shape_of_the_contract(any_lake, table):
    fill(any_lake, table, {"2025-12-20": [{"b": 2, "a": "x"}]})
    answer = any_lake.post("/query", json={"sql": f"SELECT b, a FROM {table} WHERE year = 2025"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json() == {"columns": ["b", "a"], "rows": [{"b": 2, "a": "x"}], "row_count": 1}


def test_a_row_is_there_as_soon_as_it_is_acknowledged(any_lake, table):
    for number in range(1, 6):
        fill(any_lake, table, {"2025-12-20": [{"n": number}]})
        assert any_lake.sql(f"SELECT count(*) AS c, max(n) AS m FROM {table}")["rows"] == [{"c": number, "m": number}]


def test_columns_are_united_over_all_files(any_lake, table):
    fill(
        any_lake,
        table,
        {
            "2025-01-01": [{"a": 1, "b": "x"}],
            "2025-01-02": [{"b": "y", "c": True}],
            "2025-01-03": [{"d": {"k": [1]}, "a": 3}],
        },
    )
    body = any_lake.sql(f"SELECT * FROM {table} ORDER BY year, month, day")
    assert body["columns"] == ["a", "b", "c", "d", "year", "month", "day"]
    assert body["rows"] == [
        {"a": 1, "b": "x", "c": None, "d": None, "year": 2025, "month": 1, "day": 1},
        {"a": None, "b": "y", "c": True, "d": None, "year": 2025, "month": 1, "day": 2},
        {"a": 3, "b": None, "c": None, "d": '{"k":[1]}', "year": 2025, "month": 1, "day": 3},
    ]


def test_columns_do_not_depend_on_the_partitions_asked_for(any_lake, table):
    """A column that only a pruned partition has is NULL, not unknown."""
    fill(any_lake, table, {"2025-01-01": [{"a": 1}], "2024-01-01": [{"only_2024": 2}]})
    body = any_lake.sql(f"SELECT a, only_2024 FROM {table} WHERE year = 2025")
    assert body["rows"] == [{"a": 1, "only_2024": None}]


def test_types_that_differ_between_files_widen(any_lake, table):
    """Files of other writers: what this server takes itself keeps the types of its table."""
    fill(any_lake, table, {"2025-01-01": [{"v": 1, "w": 1}], "2025-01-03": [{"v": 4, "w": None}]})
    other = io.BytesIO()
    pq.write_table(pa.table({"v": [2.5], "w": ["two"]}), other)
    any_lake.lake.write(f"data/{table}/year=2025/month=01/day=02/data_000000_other.parquet", other.getvalue())
    body = any_lake.sql(f"SELECT typeof(v) AS tv, typeof(w) AS tw, v, w FROM {table} ORDER BY day")
    assert {(row["tv"], row["tw"]) for row in body["rows"]} == {("DOUBLE", "VARCHAR")}
    assert [row["v"] for row in body["rows"]] == [1, 2.5, 4]
    assert [row["w"] for row in body["rows"]] == ["1", "two", None]


def test_integers_stay_exact(any_lake, table):
    fill(any_lake, table, {"2025-01-01": [{"v": 9007199254740993}, {"v": 5}]})
    body = any_lake.sql(f"SELECT v, typeof(v) AS t FROM {table} ORDER BY v")
    assert body["rows"] == [{"v": 5, "t": "BIGINT"}, {"v": "9007199254740993", "t": "BIGINT"}]


# ---- partitions ----
def test_partition_columns_are_bigint(any_lake, table):
    fill(any_lake, table, {"0999-02-03": [{"a": 1}]})
    body = any_lake.sql(f"SELECT year, month, day, typeof(year) AS y, typeof(month) AS m, typeof(day) AS d FROM {table}")
    assert body["rows"] == [{"year": 999, "month": 2, "day": 3, "y": "BIGINT", "m": "BIGINT", "d": "BIGINT"}]


def test_data_columns_named_like_partitions_are_shadowed(any_lake, table):
    fill(any_lake, table, {"2025-01-02": [{"year": 7, "a": 1}]})
    assert any_lake.sql(f"SELECT year, a FROM {table}")["rows"] == [{"year": 2025, "a": 1}]


DATES = ["2024-12-30", "2024-12-31", "2025-01-01", "2025-01-02", "2025-02-01", "2025-12-20"]


@pytest.mark.parametrize(
    "where, expected",
    [
        ("year = 2025", DATES[2:]),
        ("year = 2025 AND month = 1", DATES[2:4]),
        ("year = 2025 AND month = 1 AND day = 2", DATES[3:4]),
        ("year > 2024", DATES[2:]),
        ("year < 2025", DATES[:2]),
        ("month IN (2, 12)", DATES[:2] + DATES[4:]),
        ("year = 2024 OR (year = 2025 AND month = 2)", DATES[:2] + DATES[4:5]),
        ("year <> 2025", DATES[:2]),
        ("day BETWEEN 30 AND 31", DATES[:2]),
        ("make_date(year, month, day) >= DATE '2025-01-02'", DATES[3:]),
        ("year + 0 = 2025 AND d LIKE '%-01'", [DATES[2], DATES[4]]),
        ("year = 1999", []),
        ("year = 2025 AND NOT month = 1", DATES[4:]),
        ("'2025' = year", DATES[2:]),
    ],
)
def test_partition_predicates_find_what_they_should(any_lake, where, expected):
    table = f"predicates_{any_lake.lake.kind}"
    if not any_lake.lake.table_keys(table):
        fill(any_lake, table, {date: [{"d": date}] for date in DATES})
    body = any_lake.sql(f"SELECT d FROM {table} WHERE {where} ORDER BY d")
    assert [row["d"] for row in body["rows"]] == expected


PRUNING = ["year = 2025", "year = 2025 AND month = 6", "year IN (2025)", "year = 2025 AND v > 0 AND month = 6 AND day = 1"]


@pytest.mark.parametrize("where", PRUNING)
def test_files_of_other_partitions_are_not_read(any_lake, table, where, wait_until):
    """The data of a file of another partition is damaged, after its schema has been seen."""
    rows = [{"v": n, "s": f"text {n * 7919}"} for n in range(1, 2001)]
    keys = fill(any_lake, table, {"2024-06-01": rows, "2025-06-01": rows})
    everything = f"SELECT sum(v) AS s, count(DISTINCT s) AS d FROM {table}"
    assert any_lake.sql(everything)["rows"] == [{"s": 2 * 2001000, "d": 2000}]
    good = any_lake.lake.read(keys["2024-06-01"])
    footer = int.from_bytes(good[-8:-4], "little") + 8
    damaged = b"PAR1" + b"\xee" * (len(good) - footer - 4) + good[-footer:]
    any_lake.lake.write(keys["2024-06-01"], damaged)

    assert any_lake.sql(f"{everything} WHERE {where}")["rows"] == [{"s": 2001000, "d": 2000}]

    def answer():
        return any_lake.post("/query", json={"sql": everything}, headers={"Cache-Control": "no-cache"})

    wait_until(lambda: answer().status_code >= 400, 10)  # what others write is seen at most 50 ms late
    assert answer().json()["error"]


@pytest.mark.parametrize("where", PRUNING)
def test_objects_of_other_partitions_are_not_asked_for(start_eider, s3, s3_proxy, table, where):
    server = start_eider(
        {"EIDER_INGEST_LISTEN": "127.0.0.1:0", "EIDER_CACHE_MAX": "0"}, lake=S3Lake(s3, s3.make_bucket(), endpoint=s3_proxy.endpoint)
    )
    dates = ["2023-06-01", "2024-06-01", "2025-06-01"]
    fill(server, table, {date: [{"v": n} for n in range(100)] for date in dates})
    query = f"SELECT count(*) AS c FROM {table}"
    assert server.sql(query)["rows"] == [{"c": 300}]
    s3_proxy.forget()
    assert server.sql(f"{query} WHERE {where.replace('v > 0', 'v >= 0')}")["rows"] == [{"c": 100}]
    asked = {(one.method, one.key) for one in s3_proxy.requests(key=r"\.parquet$")}
    assert asked, "the proxy is supposed to be in between"
    assert not [one for one in asked if "year=2025" not in one[1]]


# ---- names and errors ----
@pytest.mark.parametrize("name", ["default", "order_", "T1", "all", "window"])
def test_tables_named_like_keywords(any_lake, name):
    if not any_lake.lake.table_keys(name):
        fill(any_lake, name, {"2025-01-01": [{"desc": 1, "1a": "x"}]})
    body = any_lake.sql(f'SELECT "desc", "1a" FROM "{name}" WHERE year = 2025')
    assert body["rows"] == [{"desc": 1, "1a": "x"}]


def test_unknown_table_is_a_400_that_helps(any_lake, table):
    fill(any_lake, table, {"2025-01-01": [{"a": 1}]})
    message = sql_error(any_lake, f"SELECT * FROM {table}_missing")
    assert f"{table}_missing" in message
    assert str(any_lake.data) not in message


def test_unknown_column_is_a_400_that_names_it(any_lake, table):
    fill(any_lake, table, {"2025-01-01": [{"amount": 1}]})
    assert "amout" in sql_error(any_lake, f"SELECT amout FROM {table}")


def test_empty_results_keep_their_columns(any_lake, table):
    fill(any_lake, table, {"2025-01-01": [{"b": 1, "a": "x"}]})
    expected = {"columns": ["b", "a", "year", "month", "day"], "rows": [], "row_count": 0}
    assert any_lake.sql(f"SELECT * FROM {table} WHERE b = 2") == expected
    assert any_lake.sql(f"SELECT * FROM {table} WHERE year = 1999") == expected


def test_joins_subqueries_and_aliases(any_lake, table):
    orders, customers = f"{table}_o", f"{table}_c"
    fill(any_lake, orders, {"2025-01-01": [{"id": 1, "customer": 7, "total": 10.5}, {"id": 2, "customer": 8, "total": 1}]})
    fill(any_lake, customers, {"2025-01-01": [{"id": 7, "name": "Ada"}, {"id": 8, "name": "Bo"}]})
    body = any_lake.sql(
        f"WITH big AS (SELECT * FROM {orders} WHERE total > 5) "
        f'SELECT c.name, b.total FROM big b JOIN "{customers}" AS c ON c.id = b.customer '
        f"WHERE EXISTS (SELECT 1 FROM {orders} x WHERE x.id = b.id)"
    )
    assert body["rows"] == [{"name": "Ada", "total": 10.5}]


def test_a_name_in_a_string_or_comment_is_no_table(any_lake):
    body = any_lake.sql("SELECT 'FROM nowhere' AS s -- FROM nowhere_else\n")
    assert body["rows"] == [{"s": "FROM nowhere"}]


def test_a_table_expression_hides_a_table_of_the_lake(any_lake, table):
    fill(any_lake, table, {"2025-01-01": [{"a": 1}]})
    assert any_lake.sql(f"WITH {table} AS (SELECT 5 AS a) SELECT a FROM {table}")["rows"] == [{"a": 5}]


@pytest.mark.parametrize("text", ["", "   ", "-- nothing", ";", "SELEC 1", "SELECT 1; SELECT 2", "SELECT ?"])
def test_what_is_not_one_statement_is_400(any_lake, text):
    sql_error(any_lake, text)
    assert any_lake.sql("SELECT 1 AS one")["rows"] == [{"one": 1}]


def hostile(server, table, key):
    folder = server.data
    return [
        f"INSERT INTO {table} VALUES (1)",
        f"DROP TABLE {table}",
        f"CREATE TABLE {table}_x AS SELECT 1",
        f"COPY (SELECT 1) TO '{folder}/lake/out.parquet'",
        "COPY (SELECT 1) TO 's3://bucket/out.parquet'",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('/etc/passwd')",
        f"SELECT * FROM read_parquet('{folder}/lake/{key}')",
        f"SELECT * FROM '{folder}/lake/{key}'",
        "SELECT * FROM glob('/*')",
        f"ATTACH '{folder}/x.db' AS x",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "CALL enable_logging()",
        "SELECT getenv('PATH') AS p",
    ]


@pytest.mark.parametrize("number", range(16))
def test_sql_cannot_write_or_look_elsewhere(any_lake, table, number):
    (key,) = fill(any_lake, table, {"2025-01-01": [{"a": 1}]}).values()
    before = any_lake.lake.keys()
    statement = hostile(any_lake, table, key)[number]
    answer = any_lake.post("/query", json={"sql": statement})
    assert answer.status_code == 400, f"{statement}: {answer.status_code} {answer.text[:300]}"
    assert any_lake.lake.keys() == before
    assert any_lake.sql(f"SELECT a FROM {table}")["rows"] == [{"a": 1}]


def test_internal_columns_do_not_show_where_files_are(any_lake, table):
    """`*` is the table's columns: no file name, no row number."""
    fill(any_lake, table, {"2025-01-01": [{"a": 1}]})
    assert any_lake.sql(f"SELECT * FROM {table}")["columns"] == ["a", "year", "month", "day"]


# ---- the request ----
@pytest.mark.parametrize("body", ["{}", '{"sql": 5}', '{"sql": "  "}'])
def test_sql_must_be_a_text(eider, body):
    answer = eider.post("/query", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "sql must be a non-empty string"


def test_the_snapshot_listener_wants_credentials(eider, table):
    fill(eider, table, {"2025-01-01": [{"a": 1}]})
    answer = eider.post("/query", eider.snapshot, json={"sql": f"SELECT * FROM {table}"})
    assert answer.status_code == 400
    assert answer.json() == {"error": "s3_config must be an object"}
    answer = eider.post("/query", eider.snapshot, json={"sql": "SELECT 1", "tables": []})
    assert answer.json() == {"error": "s3_config must be an object"}


def test_the_ingest_listener_takes_no_sql(eider):
    answer = eider.post("/query", eider.ingest, json={"sql": "SELECT 1"})
    assert answer.status_code == 404
    assert answer.json() == {"detail": "Not Found"}


def test_with_credentials_the_main_listener_follows_the_contract(eider, s3):
    """With `s3_config`, names are the request's declared tables and nothing of the lake."""
    fill(eider, "lake_only", {"2025-01-01": [{"a": 1}]})
    config = s3.config(s3.make_bucket())
    answer = eider.post("/query", json={"sql": "SELECT 1 AS a", "s3_config": config, "tables": []})
    assert answer.json() == {"columns": ["a"], "rows": [{"a": 1}], "row_count": 1}
    answer = eider.post("/query", json={"sql": "SELECT * FROM lake_only", "s3_config": config, "tables": []})
    assert answer.status_code in (400, 500)
    assert "lake_only" in answer.json()["error"]


# ---- size ----
def test_parallel_queries_beside_writes(any_lake, table):
    fill(any_lake, table, {"2025-01-01": [{"n": n} for n in range(100)]})

    def work(number):
        if number % 4 == 0:
            accepted(any_lake, post_batch(any_lake, table, [{"n": 0}] * 10, "2024-01-01"))
            return 0
        rows = any_lake.sql(f"SELECT count(*) AS c, sum(n) AS s FROM {table}")["rows"]
        assert rows[0]["s"] == 4950
        assert rows[0]["c"] % 10 == 0
        return rows[0]["c"]

    counts = in_parallel(work, range(32), threads=8)
    assert max(counts) <= 180
    assert any_lake.sql(f"SELECT count(*) AS c FROM {table}")["rows"] == [{"c": 180}]


@pytest.mark.once
@pytest.mark.slow
def test_a_table_of_more_files_than_one_list_page(any_lake, table):
    (first,) = fill(any_lake, table, {"2025-01-01": [{"n": 1}]}).values()
    body = any_lake.lake.read(first)
    stem = re.sub(r"data_\d{6}_.*$", "", first)
    in_parallel(lambda n: any_lake.lake.write(f"{stem}data_000000_copy{n:05}.parquet", body), range(1099))
    assert any_lake.sql(f"SELECT count(*) AS c, sum(n) AS s FROM {table}")["rows"] == [{"c": 1100, "s": 1100}]


def test_files_that_are_no_parquet_are_left_alone(any_lake, table):
    (key,) = fill(any_lake, table, {"2025-01-01": [{"n": 1}]}).values()
    folder = key.rpartition("/")[0]
    stray = [f"{folder}/_SUCCESS", f"{folder}/notes.txt"]
    for name in stray:
        any_lake.lake.write(name, b"not a table")
    assert any_lake.sql(f"SELECT n FROM {table}")["rows"] == [{"n": 1}]
    for name in stray:
        any_lake.lake.remove(name)


def test_a_lake_survives_a_restart(start_eider, table):
    lake = FolderLake()
    listen = {"EIDER_INGEST_LISTEN": "127.0.0.1:0"}
    server = start_eider(listen, lake=lake)
    fill(server, table, {"2025-01-01": [{"n": 1}]})
    assert server.stop() == 0
    again = start_eider(listen, lake=lake, data=server.data)
    assert again.sql(f"SELECT n, year FROM {table}")["rows"] == [{"n": 1, "year": 2025}]
