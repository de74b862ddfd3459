"""POST /ingest/stream, /flush and the count: contracts/ingest.md section 4, checks 18 to 28 and 34; promises P1 and P2."""

import datetime
import signal

import pytest

from harness.ingest_client import S3_PATH, accepted, in_parallel, key_of, post_batch, refused
from harness.lakes import FolderLake, S3Lake
from harness.parquet_readers import read_parquet
from harness.rows_client import NO_FLUSH, buffered, count, flush, flushed, stored, stream

SETTINGS = {"EIDER_INGEST_LISTEN": "127.0.0.1:0", **NO_FLUSH}
STREAM = "Stream ingestion failed: "
FLUSH = "Flush failed: "
CHARSET = "Only alphanumeric characters and underscores are allowed."


@pytest.fixture(scope="module", params=["folder", "s3"])
def server(request, eider_binary, tmp_path_factory):
    from conftest import _factory

    factory = _factory(eider_binary, tmp_path_factory)
    if request.param == "s3":
        s3 = request.getfixturevalue("s3")
        lake = S3Lake(s3, s3.make_bucket("stream"))
    else:
        lake = FolderLake()
    yield factory(SETTINGS, lake=lake)
    factory.finish()


@pytest.fixture(params=["ingest", "main"])
def base(request, server):
    return server.listener(request.param)


def today():
    return datetime.datetime.now(datetime.timezone.utc).date()


# ---- checks 20 and 21 ----
def test_three_records_are_counted_flushed_and_listed(server, base, table):
    records = [{"id": n, "name": f"n{n}"} for n in range(3)]
    for number, record in enumerate(records):
        buffered(server, table, record, base)
        assert count(server, table, base) == number + 1
    assert server.lake.table_keys(table) == []
    before = today()
    body = flushed(server, table, base=base)
    assert body["record_count"] == 3 and body["table_name"] == table
    assert body["partition_date"] in {before.isoformat(), today().isoformat()}
    assert S3_PATH.search(body["s3_path"])["table"] == table
    key = key_of(server.lake, body["s3_path"])
    assert server.lake.table_keys(table) == [key]
    assert f"/year={body['partition_date'][:4]}/" in key
    assert read_parquet(server.lake.read(key)).rows == records
    assert count(server, table, base) == 0
    assert table in server.get("/tables", base).json()["tables"]
    assert flushed(server, table, base=base)["record_count"] == 0


def test_a_table_with_one_record_is_listed_before_it_is_flushed(server, table):
    buffered(server, table, {"a": 1})
    assert table in server.get("/tables", server.ingest).json()["tables"]


def test_rows_are_seen_by_sql_at_once_and_once(server, table):
    for number in range(5):
        buffered(server, table, {"n": number})
        assert server.sql(f"SELECT count(*) AS c, sum(n) AS s FROM {table}")["rows"] == [
            {"c": number + 1, "s": number * (number + 1) // 2}
        ]
    flushed(server, table)
    assert server.sql(f"SELECT count(*) AS c FROM {table}")["rows"] == [{"c": 5}]
    buffered(server, table, {"n": 5})
    assert server.sql(f"SELECT count(*) AS c FROM {table}")["rows"] == [{"c": 6}]


# ---- check 19 ----
def entries(answer):
    return [(entry["type"], entry["loc"]) for entry in refused(answer, 422)]


def test_missing_parts_of_a_streamed_record(server, base, table):
    path = f"/ingest/stream?table_name={table}"
    assert entries(server.post("/ingest/stream", base, json={"data": {"a": 1}})) == [("missing", ["query", "table_name"])]
    assert entries(server.post(path, base)) == [("missing", ["body"])]
    assert entries(server.post(path, base, json={})) == [("missing", ["body", "data"])]
    assert entries(server.post("/ingest/stream", base)) == [
        ("missing", ["query", "table_name"]),
        ("missing", ["body"]),
    ]
    assert entries(server.post("/ingest/stream", base, json={})) == [
        ("missing", ["query", "table_name"]),
        ("missing", ["body", "data"]),
    ]
    for wrong in ([1], None, "x", 5):
        assert entries(server.post(path, base, json={"data": wrong})) == [("dict_type", ["body", "data"])]
    assert entries(server.post(path, base, json={"data": {"a b": 1}})) == [("value_error", ["body", "data"])]
    assert entries(server.post(path, base, data="{bad", headers={"Content-Type": "application/json"})) == [
        ("json_invalid", ["body", 1])
    ]
    assert count(server, table) == 0


# ---- checks 22 and 28, D2 ----
@pytest.mark.parametrize(
    "name, message",
    [
        ("", "Table name cannot be empty"),
        ("select", "Invalid table name: select. Cannot use SQL reserved words."),
        ("a%20b", f"Invalid table name: a b. {CHARSET}"),
        ("events%0A", f"Invalid table name: events\n. {CHARSET}"),
        ("1a", "Invalid table name: 1a. Table names cannot start with a digit."),
        ("a" * 65, f"Table name too long: {'a' * 65}. Maximum 64 characters."),
    ],
)
def test_bad_names_are_400(server, base, name, message):
    answer = server.post(f"/ingest/stream?table_name={name}", base, json={"data": {"a": 1}})
    assert refused(answer, 400) == STREAM + message
    assert refused(flush(server, name, base=base), 400) == FLUSH + message
    assert not [key for key in server.lake.keys() if "\n" in key]


def test_an_empty_record_is_400(server, base, table):
    refused(server.post(f"/ingest/stream?table_name={table}", base, json={"data": {}}), 400, STREAM)
    assert count(server, table) == 0


def test_flush_of_an_unknown_table_and_without_a_name(server, base, table):
    refused(flush(server, table, base=base), 404, FLUSH)
    refused(flush(server, table, "nonsense", base), 404, FLUSH)
    assert entries(server.post("/flush", base)) == [("missing", ["query", "table_name"])]
    assert table not in server.get("/tables", base).json()["tables"]


# ---- check 23 ----
@pytest.mark.parametrize("date", ["2025-02-30", "20251220", "x", "%202025-01-01"])
def test_a_bad_date_keeps_the_rows(server, table, date):
    buffered(server, table, {"a": 1})
    detail = refused(flush(server, table, date), 400, FLUSH + "Invalid date format: ")
    assert detail.endswith("Expected YYYY-MM-DD")
    assert count(server, table) == 1
    assert server.lake.table_keys(table) == []
    flushed(server, table)
    assert flushed(server, table, date)["record_count"] == 0  # nothing that the date could be about


def test_a_date_names_the_directory_and_is_echoed(server, base, table):
    buffered(server, table, {"a": 1})
    body = flushed(server, table, "2025-1-2", base)
    assert body["partition_date"] == "2025-1-2"
    assert "/year=2025/month=01/day=02/" in body["s3_path"]


# ---- check 25 ----
def test_a_batch_leaves_the_buffer_alone(server, table):
    buffered(server, table, {"a": 1})
    key = accepted(server, post_batch(server, table, [{"a": 2}]))
    assert read_parquet(server.lake.read(key)).rows == [{"a": 2}]
    assert count(server, table) == 1
    assert server.sql(f"SELECT a FROM {table} ORDER BY a")["rows"] == [{"a": 1}, {"a": 2}]


# ---- check 26 ----
@pytest.mark.slow
def test_flushes_while_eight_write_lose_and_double_nothing(server, table):
    def write(writer):
        for number in range(100):
            buffered(server, table, {"writer": writer, "n": number})
            if writer == 0 and number % 20 == 0:
                flushed(server, table)

    in_parallel(write, range(8), threads=8)
    rows = stored(server, table)
    assert len(rows) + count(server, table) == 800
    flushed(server, table)
    rows = stored(server, table)
    assert sorted((row["writer"], row["n"]) for row in rows) == [(w, n) for w in range(8) for n in range(100)]
    for writer in range(8):  # P5
        assert [row["n"] for row in rows if row["writer"] == writer] == sorted(
            row["n"] for row in rows if row["writer"] == writer
        )


# ---- check 27 ----
def test_a_buffer_widens_and_gains_columns(server, table):
    buffered(server, table, {"a": 1})
    buffered(server, table, {"a": 1.5, "b": "x"})
    body = flushed(server, table)
    file = read_parquet(server.lake.read(key_of(server.lake, body["s3_path"])))
    assert file.types == {"a": "DOUBLE", "b": "VARCHAR"}
    assert file.rows == [{"a": 1.0, "b": None}, {"a": 1.5, "b": "x"}]


def test_columns_that_a_record_lacks_are_null(server, table):
    buffered(server, table, {"a": 1, "b": True})
    buffered(server, table, {"b": False})
    flushed(server, table)
    assert stored(server, table) == [{"a": 1, "b": True}, {"a": None, "b": False}]


# ---- check 18 ----
def test_a_store_that_is_away_keeps_the_rows(start_eider, own_s3, table):
    lake = S3Lake(own_s3, own_s3.make_bucket())
    server = start_eider({**SETTINGS, "EIDER_DRAIN_MS": "1000"}, lake=lake)
    buffered(server, table, {"n": 0})
    own_s3.stop()
    for number in range(1, 4):
        buffered(server, table, {"n": number})
    assert refused(flush(server, table), 502, FLUSH)
    assert count(server, table) == 4
    ready = server.get("/health/ready")
    assert ready.status_code == 200  # it still takes records
    backlog = ready.json()["backlog"]
    assert backlog["rows"] == 4 and backlog["last_flush_failure"]
    assert own_s3.secret_key not in ready.text
    own_s3.start()
    assert flushed(server, table)["record_count"] in (0, 4)  # or the server's own flush was first
    assert count(server, table) == 0
    assert [row["n"] for row in stored(server, table)] == [0, 1, 2, 3]


# ---- check 34, P2 ----
def test_rows_are_in_the_lake_after_sigterm(start_eider, table):
    server = start_eider(SETTINGS, lake=FolderLake())
    for number in range(10):
        buffered(server, table, {"n": number})
    assert server.stop(signal.SIGTERM) == 0
    assert [row["n"] for row in stored(server, table)] == list(range(10))


def test_rows_are_there_after_kill(start_eider, table):
    first = start_eider(SETTINGS, lake=FolderLake())
    for number in range(10):
        buffered(first, table, {"n": number})
    first.kill()
    lake = FolderLake()
    second = start_eider(SETTINGS, lake=lake, data=first.data)
    assert count(second, table) == 10
    assert second.sql(f"SELECT count(*) AS c FROM {table}")["rows"] == [{"c": 10}]
    assert flushed(second, table)["record_count"] == 10
    assert [row["n"] for row in stored(second, table)] == list(range(10))


def test_a_table_is_flushed_by_age(start_eider, table, wait_until):
    server = start_eider({**SETTINGS, "EIDER_FLUSH_AGE_MS": "200"}, lake=FolderLake())
    buffered(server, table, {"n": 1})
    wait_until(lambda: stored(server, table) == [{"n": 1}], 20)
    assert count(server, table) == 0


def test_a_record_that_is_too_deep_or_has_a_bad_value_is_400(server, table):
    deep = '{"data":{"a":' + "[" * 200 + "]" * 200 + "}}"
    answer = server.post(
        f"/ingest/stream?table_name={table}", server.ingest, data=deep, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (200, 400)
    assert count(server, table) == (1 if answer.status_code == 200 else 0)


def test_large_and_compressed_records(server, table):
    import gzip
    import json

    text = "ä" * 300_000
    body = gzip.compress(json.dumps({"data": {"a": text}}).encode())
    answer = server.post(
        f"/ingest/stream?table_name={table}",
        server.ingest,
        data=body,
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    assert answer.status_code == 200, answer.text
    flushed(server, table)
    assert stored(server, table) == [{"a": text}]


def test_many_clients_get_their_answers(server, table):
    answers = in_parallel(lambda n: stream(server, table, {"n": n}), range(300), threads=32)
    assert {answer.status_code for answer in answers} == {200}
    assert count(server, table) == 300
