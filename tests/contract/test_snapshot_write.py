"""POST /snapshot: what is in the object, and what is sent to the store. Checks 12 to 15, 17, 25, 32, 33."""

import base64
import concurrent.futures
import hashlib
import json
import time
import zlib

import pytest

from harness.snapshot_client import Sidecar, column, duckdb_rows, error_of
from harness.snapshot_processes import files_below

ASKED_ROWS, GROUP_ROWS = 50000, 51200


@pytest.fixture(scope="module")
def sidecar(eider, s3):
    return Sidecar(eider.snapshot, s3)


def parquet_facts(file):
    """Compression and row counts of all row groups."""
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    codecs = {group.column(at).compression for group in groups for at in range(group.num_columns)}
    return codecs, [group.num_rows for group in groups]


# ---- 12: the round trip ----
def test_snapshot_then_query(sidecar, tmp_path):
    data = [{"id": 1, "name": "Ada", "score": 1.5, "ok": True}, {"id": 2, "name": "Bob", "score": -2, "ok": False}]
    columns = [column("id", "BIGINT"), column("name", "VARCHAR"), column("score", "DOUBLE"), column("ok", "BOOLEAN")]
    answer = sidecar.write("trip/1706140800000.parquet", data, columns)
    file = sidecar.parquet("trip/1706140800000.parquet")
    assert parquet_facts(file) == ({"ZSTD"}, [2])
    assert file.schema_arrow.names == ["id", "name", "score", "ok"]
    assert [str(field.type) for field in file.schema_arrow] == ["int64", "string", "double", "bool"]
    assert file.read().to_pylist() == data
    assert duckdb_rows(tmp_path, sidecar.object(answer["s3_key"])) == [(1, "Ada", 1.5, True), (2, "Bob", -2.0, False)]
    tables = {"t": answer["s3_key"]}
    assert sidecar.rows("SELECT count(*) AS c FROM t", tables) == [(2,)]
    assert sidecar.rows("SELECT * FROM t ORDER BY id", tables) == [(1, "Ada", 1.5, True), (2, "Bob", -2, False)]


def test_a_snapshot_replaces_the_object(sidecar):
    for value in (1, 2):
        sidecar.write("again.parquet", [{"a": value}], [column("a", "BIGINT")])
        assert sidecar.rows("SELECT a FROM t", {"t": "again.parquet"}) == [(value,)]


# ---- 13: no rows ----
def test_no_rows(sidecar):
    columns = [column("a", "BIGINT"), column("b", "DECIMAL(18,2)")]
    assert sidecar.write("empty.parquet", [], columns)["row_count"] == 0
    file = sidecar.parquet("empty.parquet")
    assert file.metadata.num_rows == 0
    assert [str(field.type) for field in file.schema_arrow] == ["int64", "decimal128(18, 2)"]
    assert sidecar.result("SELECT * FROM t", {"t": "empty.parquet"}) == {
        "columns": ["a", "b"],
        "rows": [],
        "row_count": 0,
    }


# ---- 14: fields, targets, order ----
def test_missing_null_and_extra_fields(sidecar):
    data = [{"a": 1, "extra": "x"}, {"a": None}, {}, {"a": 4, "b": "y"}]
    sidecar.write("sparse.parquet", data, [column("a", "BIGINT"), column("b", "VARCHAR")])
    table = sidecar.parquet("sparse.parquet").read().to_pydict()
    assert table == {"a": [1, None, None, 4], "b": [None, None, None, "y"]}


def test_columns_have_the_order_asked_for(sidecar):
    columns = [
        column("c", "VARCHAR"),
        column("a", "BIGINT", "z"),
        column("a", "DOUBLE", "a again"),
        column("10", "BIGINT"),
    ]
    sidecar.write("order.parquet", [{"10": 3, "a": 1, "c": "x"}], columns)
    assert sidecar.parquet("order.parquet").schema_arrow.names == ["c", "z", "a again", "10"]
    assert sidecar.rows("SELECT * FROM t", {"t": "order.parquet"}) == [("x", 1, 1, 3)]


@pytest.mark.parametrize("target", ["created_at", "started_at"])
def test_rows_are_sorted_nulls_last(sidecar, target, tmp_path):
    stamps = [30, None, 10, 20, None, -5]
    data = [{"n": number, "_creationTime": stamp} for number, stamp in enumerate(stamps)]
    sidecar.write("sorted.parquet", data, [column("n", "INTEGER"), column("_creationTime", "BIGINT", target)])
    table = sidecar.parquet("sorted.parquet").read().to_pydict()
    assert table[target] == [-5, 10, 20, 30, None, None]
    assert table["n"][:4] == [5, 2, 3, 0] and sorted(table["n"][4:]) == [1, 4]
    assert [row[1] for row in duckdb_rows(tmp_path, sidecar.object("sorted.parquet"))] == table[target]


def test_created_at_wins_over_started_at(sidecar):
    data = [{"s": 1, "c": 9}, {"s": 2, "c": 7}, {"s": 3, "c": 8}]
    sidecar.write("both.parquet", data, [column("s", "BIGINT", "started_at"), column("c", "BIGINT", "created_at")])
    assert sidecar.parquet("both.parquet").read().to_pydict()["created_at"] == [7, 8, 9]


@pytest.mark.parametrize(
    "kind, values", [("VARCHAR", ["10", "9", "b", "a"]), ("TIMESTAMP", ["2024-02-01", "2024-01-01"])]
)
def test_the_sort_is_by_the_typed_value(sidecar, kind, values):
    sidecar.write("typed.parquet", [{"c": value} for value in values], [column("c", kind, "created_at")])
    stored = sidecar.parquet("typed.parquet").read().to_pydict()["created_at"]
    assert stored == sorted(stored) and len(stored) == len(values)


def test_without_a_sort_column_the_order_stays(sidecar):
    values = [(number * 7919) % 10007 for number in range(10007)]
    columns = [column("v", "BIGINT"), column("v", "BIGINT", "created_at_2")]
    sidecar.write("unsorted.parquet", [{"v": value} for value in values], columns)
    assert sidecar.parquet("unsorted.parquet").read().to_pydict()["v"] == values


@pytest.mark.parametrize("source", ["a.b", "a b", "é", "0", 'a"b', "a'b", "$x", "a\u0000b", "A"])
def test_field_names_are_literal(sidecar, source):
    data = [{source: 1, "a": {"b": 2}, "b": 3}, {"a": {"b": 5}}]
    sidecar.write("literal.parquet", data, [column(source, "BIGINT", "v")])
    assert sidecar.parquet("literal.parquet").read().to_pydict()["v"] == [1, None]


@pytest.mark.parametrize("target", ["my col", 'q"uote', "sel'ect", "select", "ünïcode", "a;b", "--", "1", "x" * 200])
def test_targets_may_be_any_text(sidecar, target, tmp_path):
    sidecar.write("target.parquet", [{"a": 5}], [column("a", "BIGINT", target)])
    assert sidecar.parquet("target.parquet").schema_arrow.names == [target]
    quoted = '"' + target.replace('"', '""') + '"'
    assert sidecar.rows(f"SELECT {quoted} FROM t", {"t": "target.parquet"}) == [(5,)]
    assert duckdb_rows(tmp_path, sidecar.object("target.parquet"), quoted) == [(5,)]


# ---- 15: fields that are not there, however they are called ----
@pytest.mark.parametrize("source", ["toString", "__proto__", "constructor", "hasOwnProperty", "valueOf"])
def test_inherited_names_are_just_absent(sidecar, source):
    started = time.monotonic()
    sidecar.write("proto.parquet", [{"a": 1}, {source: "mine"}], [column("a", "BIGINT"), column(source, "VARCHAR")])
    assert time.monotonic() - started < 5
    assert sidecar.parquet("proto.parquet").read().to_pydict()[source] == [None, "mine"]
    assert sidecar.get("/snapshot-queue-stats").json()["running"] == 0


def test_the_last_of_duplicate_fields_wins(sidecar):
    body = sidecar.snapshot_body("twice.parquet", "@", [column("a", "BIGINT")])

    text = json.dumps(body).replace('"@"', '[{"a":1,"a":2},{"a":"x","a":3}]')
    assert sidecar.post("/snapshot", text).status_code == 200
    assert sidecar.parquet("twice.parquet").read().to_pydict()["a"] == [2, 3]


# ---- 17: a bad value ----
@pytest.mark.parametrize("row", [0, 7, 60000])
def test_a_bad_value_is_named_and_nothing_is_uploaded(sidecar, s3_proxy, row):
    through = Sidecar(sidecar.base, sidecar.s3, sidecar.bucket, s3_proxy.endpoint)
    data = [{"a": number, "b": number} for number in range(row + 5)]
    data[row]["b"] = "abc"
    answer = through.snapshot("bad.parquet", data, [column("a", "BIGINT"), column("b", "BIGINT", "the_b")])
    error = error_of(answer, 400)
    assert f"{row}" in error and ("the_b" in error or '"b"' in error), error
    assert s3_proxy.requests() == []
    assert sidecar.keys("bad") == []


# ---- groups, speed ----
@pytest.mark.once
def test_row_groups_compression_and_order_of_a_large_snapshot(sidecar, tmp_path):
    rows = 2 * GROUP_ROWS + 17600
    data = [{"n": number, "t": (number * 7919) % rows, "s": f"text {number % 97}"} for number in range(rows)]
    columns = [column("n", "BIGINT"), column("t", "BIGINT", "created_at"), column("s", "VARCHAR")]
    sidecar.write("groups.parquet", data, columns)
    file = sidecar.parquet("groups.parquet")
    assert parquet_facts(file) == ({"ZSTD"}, [GROUP_ROWS, GROUP_ROWS, rows - 2 * GROUP_ROWS])
    expected = sorted(data, key=lambda row: row["t"])
    table = file.read().to_pydict()
    assert table["created_at"] == list(range(rows))
    assert table["n"] == [row["n"] for row in expected]
    assert table["s"] == [row["s"] for row in expected]
    read = duckdb_rows(tmp_path, sidecar.object("groups.parquet"), "n, s")
    assert read == list(zip(table["n"], table["s"], strict=True))


def test_fifty_thousand_rows_are_quick(sidecar):
    data = [
        {
            "id": number,
            "name": f"customer {number}",
            "amount": number / 4,
            "ok": number % 2 == 0,
            "at": 1706140800000 + number,
        }
        for number in range(ASKED_ROWS)
    ]
    columns = [column("id", "BIGINT"), column("name", "VARCHAR"), column("amount", "DOUBLE"), column("ok", "BOOLEAN")]
    columns.append(column("at", "BIGINT", "created_at"))
    body = sidecar.snapshot_body("quick.parquet", data, columns)

    text = json.dumps(body)
    times = []
    for _ in range(3):
        started = time.monotonic()
        answer = sidecar.post("/snapshot", text)
        times.append(time.monotonic() - started)
        assert answer.status_code == 200 and answer.json()["row_count"] == ASKED_ROWS
    assert min(times) < 2, times
    assert parquet_facts(sidecar.parquet("quick.parquet"))[1] == [ASKED_ROWS]
    totals = sidecar.rows("SELECT sum(id), sum(amount), count_if(ok), min(created_at) FROM t", {"t": "quick.parquet"})
    assert totals == [(1249975000, 312493750, 25000, 1706140800000)]


@pytest.mark.once
def test_an_object_above_the_multipart_size(sidecar):
    """Random text does not compress, so the object is over 16 MiB and goes up in parts."""

    data = [
        {"n": n, "s": "".join(hashlib.sha512(b"%d %d" % (n, part)).hexdigest() for part in range(4))}
        for n in range(75000)
    ]
    answer = sidecar.write("parts.parquet", data, [column("n", "BIGINT"), column("s", "VARCHAR")])
    assert answer["parquet_size_bytes"] > 16 << 20
    table = sidecar.parquet("parts.parquet").read().to_pydict()
    assert table["s"] == [row["s"] for row in data]
    assert sidecar.s3.uploads(sidecar.bucket) == []


# ---- 25: keys ----
KEYS = ["/lead/x.parquet", "///lead3/x.parquet", "a b/é+&.parquet", "p%20q/x=1/#h.parquet", "日本/😀.parquet", "plain"]


@pytest.mark.parametrize(
    "key", [*KEYS, "q?x=y.parquet", "br[ab].parquet", "st*r.parquet", "a~!$'(),;:@.parquet", "y/" * 300 + "z"]
)
def test_what_snapshot_echoes_query_can_read(sidecar, key):
    echoed = sidecar.write(key, [{"a": 7}], [column("a", "BIGINT")])["s3_key"]
    assert echoed == key
    assert key.lstrip("/") in sidecar.keys()
    assert sidecar.rows("SELECT a FROM t", {"t": echoed}) == [(7,)]
    assert sidecar.rows("SELECT a FROM t", {"t": [echoed]}) == [(7,)]


# ---- the upload on the wire ----
def test_the_upload_request(sidecar, s3_proxy):
    through = Sidecar(sidecar.base, sidecar.s3, sidecar.bucket, s3_proxy.endpoint)
    through.write("wire/a b+é.parquet", [{"a": 1}], [column("a", "BIGINT")])
    puts = s3_proxy.requests(method="PUT")
    assert len(puts) == 1 and s3_proxy.count() == 1, [(one.method, one.target) for one in s3_proxy.requests()]
    upload = puts[0]
    stored = sidecar.object("wire/a b+é.parquet")
    assert upload.target == f"/{sidecar.bucket}/wire/a%20b%2B%C3%A9.parquet"
    assert upload.headers["content-type"] == "application/octet-stream"
    assert upload.headers["content-length"] == str(len(stored))
    assert "transfer-encoding" not in upload.headers
    expected = base64.b64encode(zlib.crc32(stored).to_bytes(4, "big")).decode()
    assert upload.headers["x-amz-checksum-crc32"] == expected
    assert len(upload.headers["x-amz-content-sha256"]) == 64
    scope, signed = upload.headers["authorization"].split("Credential=")[1].split(", SignedHeaders=")
    assert scope.startswith(f"{sidecar.s3.access_key}/") and scope.endswith("/us-east-1/s3/aws4_request")
    names = signed.split(",")[0].split(";")
    assert {"host", "x-amz-content-sha256", "x-amz-date", "x-amz-checksum-crc32"} <= set(names) and names == sorted(
        names
    )
    assert "x-amz-security-token" not in upload.headers


def test_the_payload_hash_is_that_of_the_object(sidecar, s3_proxy):

    through = Sidecar(sidecar.base, sidecar.s3, sidecar.bucket, s3_proxy.endpoint)
    through.write("hash.parquet", [{"a": 1}], [column("a", "BIGINT")])
    sent = s3_proxy.requests(method="PUT")[0].headers["x-amz-content-sha256"]
    assert sent == hashlib.sha256(sidecar.object("hash.parquet")).hexdigest()


# ---- bodies in flight ----
def test_rows_made_of_a_body_count_among_the_bodies(start_eider, s3):
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "EIDER_BODIES_MAX": "4MiB"})
    tight = Sidecar(server.snapshot, s3)
    data = [{"s": "x" * (1 << 20)}] * 3
    answer = tight.snapshot("large.parquet", data, [column("s", "VARCHAR")])
    error_of(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0
    assert tight.keys() == []
    tight.write("small.parquet", data[:1], [column("s", "VARCHAR")])


# ---- 33: many at once, nothing left behind ----
def test_twelve_at_once_leave_twelve_objects_and_no_files(start_eider, s3, wait_until):
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0"})
    sidecar = Sidecar(server.snapshot, s3)
    sidecar.write("warm.parquet", [{"n": 1}], [column("n", "BIGINT")])
    before = files_below(server.data)
    columns = [column("n", "BIGINT"), column("w", "VARCHAR")]

    def write(number):
        data = [{"n": at, "w": f"{number}"} for at in range(20000 + number)]
        return sidecar.write(f"many/{number}.parquet", data, columns)

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(write, range(12)))
    assert [answer["row_count"] for answer in answers] == [20000 + number for number in range(12)]
    for number in range(12):
        table = sidecar.parquet(f"many/{number}.parquet").read().to_pydict()
        assert table["n"] == list(range(20000 + number)) and set(table["w"]) == {f"{number}"}
    assert sidecar.get("/snapshot-queue-stats").json() == {
        "maxConcurrent": 4,
        "maxQueue": 100,
        "running": 0,
        "queued": 0,
    }
    wait_until(lambda: files_below(server.data) <= before, 5, lambda: files_below(server.data) - before)


def test_errors_leave_no_files(start_eider, s3, wait_until):
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0"})
    sidecar = Sidecar(server.snapshot, s3)
    sidecar.write("warm.parquet", [{"n": 1}], [column("n", "BIGINT")])
    before = files_below(server.data)
    good = [{"n": at} for at in range(1000)]
    columns = [column("n", "BIGINT")]
    missing = {**sidecar.config, "bucket": "no-such-bucket"}
    for _ in range(3):
        error_of(sidecar.snapshot("x.parquet", [*good, {"n": "x"}], columns), 400)
        error_of(sidecar.snapshot("x.parquet", good, [column("n", "foo")]), 400)
        error_of(sidecar.snapshot("x.parquet", good, columns, s3_config=missing), 502)
    wait_until(lambda: files_below(server.data) <= before, 5, lambda: files_below(server.data) - before)
    assert sidecar.keys() == ["warm.parquet"]
