"""POST /tables/{name}/rows: every format and encoding, pieces cut anywhere, refusals that name the record, dead letters."""

import gzip
import io
import json
import zlib

import pyarrow
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest

from harness.lakes import FolderLake, S3Lake
from harness.raw_http import RawConnection
from harness.rows_client import NDJSON, NO_FLUSH, buffered, count, flushed, kept, ndjson, post_rows, stored
from harness.snapshot_processes import resident_bytes

SETTINGS = {"EIDER_INGEST_LISTEN": "127.0.0.1:0", **NO_FLUSH}
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
RECORDS = [{"id": n, "name": f"näme {n}", "score": n / 4, "ok": n % 2 == 0} for n in range(50)]
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(eider_binary, tmp_path_factory):
    from conftest import _factory

    factory = _factory(eider_binary, tmp_path_factory)
    yield factory(SETTINGS, lake=FolderLake())
    factory.finish()


def as_csv(records):
    sink = io.BytesIO()
    pyarrow.csv.write_csv(pyarrow.Table.from_pylist(records), sink)
    return sink.getvalue()


def as_arrow(records):
    table = pyarrow.Table.from_pylist(records)
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=7):
            writer.write_batch(batch)
    return sink.getvalue()


def as_parquet(records):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), sink, row_group_size=13)
    return sink.getvalue()


FORMATS = {
    NDJSON: ndjson,
    "application/ndjson": ndjson,
    "application/jsonl; charset=utf-8": ndjson,
    "application/json": lambda records: json.dumps(records, indent=1).encode(),
    "text/csv; header=present": as_csv,
    ARROW: as_arrow,
    PARQUET: as_parquet,
}


def deflated(body):
    return zlib.compress(body)


def zstd(body):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(body)
    return sink.getvalue().to_pybytes()


ENCODINGS = {"identity": bytes, "gzip": gzip.compress, "deflate": deflated, "zstd": zstd}


# ---- formats ----
@pytest.mark.parametrize("content_type", FORMATS)
def test_rows_of_every_format_come_back(server, table, content_type):
    answer = kept(post_rows(server, table, FORMATS[content_type](RECORDS), content_type))
    assert list(answer) == ["accepted", "position"]
    assert answer["accepted"] == 50 and answer["position"] > 0
    assert count(server, table) == 50
    seen = server.sql(f"SELECT id, name, score, ok FROM {table} ORDER BY id")["rows"]
    assert seen == RECORDS
    flushed(server, table)
    assert stored(server, table) == RECORDS


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("content_type", [NDJSON, PARQUET])
def test_rows_of_every_encoding_come_back(server, table, content_type, encoding):
    body = ENCODINGS[encoding](FORMATS[content_type](RECORDS))
    kept(post_rows(server, table, body, content_type, headers={"Content-Encoding": encoding}))
    flushed(server, table)
    assert stored(server, table) == RECORDS


def test_types_of_a_parquet_body_are_kept(server, table):
    import datetime
    import decimal

    rows = pyarrow.table(
        {
            "day": pyarrow.array([datetime.date(2025, 1, 2)], pyarrow.date32()),
            "at": pyarrow.array([datetime.datetime(2025, 1, 2, 3, 4, 5, 6)], pyarrow.timestamp("us")),
            "price": pyarrow.array([decimal.Decimal("12.30")], pyarrow.decimal128(9, 2)),
            "small": pyarrow.array([7], pyarrow.int16()),
            "big": pyarrow.array([2**63 - 1], pyarrow.int64()),
        }
    )
    sink = io.BytesIO()
    pyarrow.parquet.write_table(rows, sink)
    kept(post_rows(server, table, sink.getvalue(), PARQUET))
    flushed(server, table)
    (row,) = stored(server, table)
    assert {name: row[name] for name in rows.column_names} == rows.to_pylist()[0]


def test_one_json_object_is_one_row(server, table):
    assert kept(post_rows(server, table, b'{"a":1}', "application/json"))["accepted"] == 1


def test_an_empty_body_is_no_rows(server, table):
    assert kept(post_rows(server, table, b"", NDJSON))["accepted"] == 0
    assert kept(post_rows(server, table, b"[]", "application/json"))["accepted"] == 0
    assert count(server, table) == 0


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/xml", "application/x-www-form-urlencoded"])
def test_other_content_types_are_415_and_listed(server, table, content_type):
    answer = post_rows(server, table, ndjson(RECORDS), content_type)
    assert answer.status_code == 415
    for name in (NDJSON, "application/json", "text/csv", ARROW, PARQUET):
        assert name in answer.json()["error"]


@pytest.mark.parametrize("parameters", ["header=absent", "charset=utf-8; HEADER=Absent"])
def test_csv_without_a_header_is_not_read_as_one_with_it(server, table, parameters):
    answer = post_rows(server, table, b"1,2\n3,4\n", f"text/csv; {parameters}")
    assert answer.status_code == 415 and "first line" in answer.json()["error"]
    assert count(server, table) == 0


# ---- pieces cut anywhere ----
def chunked(pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


@pytest.mark.parametrize("content_type", [NDJSON, "application/json", "text/csv"])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_pieces_cut_anywhere(server, table, content_type, size):
    body = FORMATS["text/csv; header=present" if content_type == "text/csv" else content_type](RECORDS)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    with RawConnection(server.address()) as connection:
        headers = [f"Content-Type: {content_type}", "Transfer-Encoding: chunked"]
        connection.request("POST", f"/tables/{table}/rows", headers, chunked(pieces))
        assert connection.answer().json()["accepted"] == 50
    assert server.sql(f"SELECT id, name, score, ok FROM {table} ORDER BY id")["rows"] == RECORDS


def test_a_client_that_leaves_in_the_middle_keeps_nothing(server, table, wait_until):
    body = ndjson(RECORDS)
    with RawConnection(server.address()) as connection:
        headers = [f"Content-Type: {NDJSON}", f"Content-Length: {len(body) + 1}"]
        connection.request("POST", f"/tables/{table}/rows", headers, body)
    done = lambda: [line for line in server.events("http.request") if line["path"] == f"/tables/{table}/rows"]
    wait_until(done, 45)  # under load the end of the connection may only be noticed when the body stalls, after 30 s
    assert done()[0]["rows"] == 0
    assert count(server, table) == 0


# ---- bad records ----
BAD = b'{"a":1}\n{"a":2}\n{"a":\n{"a":4}\n'


def test_a_bad_record_is_named_and_nothing_is_kept(server, table):
    answer = post_rows(server, table, BAD)
    assert answer.status_code == 422
    body = answer.json()
    assert list(body) == ["error", "code", "request_id", "record", "offset", "reason"]
    assert body["code"] == "unprocessable" and body["request_id"] == answer.headers["X-Request-Id"]
    assert (body["record"], body["offset"]) == (2, BAD.index(b'{"a":\n') + 5)
    assert body["reason"] and body["reason"] in body["error"]
    assert count(server, table) == 0


def test_the_ingest_listener_answers_in_its_own_shape(server, table):
    body = post_rows(server, table, BAD, base=server.ingest).json()
    assert isinstance(body["detail"], str) and body["record"] == 2 and body["offset"] == 21
    assert list(post_rows(server, table, b"", "text/plain", base=server.ingest).json()) == ["detail"]
    assert list(post_rows(server, "select", b"", base=server.ingest).json()) == ["detail"]


def test_a_bad_record_late_in_a_large_body_keeps_nothing(server, table):
    lines = ndjson([{"n": n, "text": "x" * 100} for n in range(200_000)])
    assert len(lines) > 20 * MIB
    answer = post_rows(server, table, lines + b"{bad\n")
    assert answer.status_code == 422
    assert (answer.json()["record"], answer.json()["offset"]) == (200_000, len(lines) + 1)
    assert count(server, table) == 0
    buffered(server, table, {"n": 1})
    flushed(server, table)
    assert [row["n"] for row in stored(server, table)] == [1]


@pytest.mark.parametrize(
    "content_type, body",
    [("application/json", b'[{"a":1},'), ("application/json", b"5"), (PARQUET, b"PAR1 this is none"), (ARROW, b"neither")],
)
def test_bodies_that_are_none_of_their_kind_are_refused(server, table, content_type, body):
    answer = post_rows(server, table, body, content_type)
    assert answer.status_code in (400, 422), answer.text
    assert count(server, table) == 0


def test_dead_letters_are_a_table_of_their_own(server, table):
    answer = kept(post_rows(server, table, BAD, on_error="dead_letter"))
    assert (answer["accepted"], answer["dead_letters"]) == (3, 1)
    dead = f"{table}__dead_letter"
    assert (count(server, table), count(server, dead)) == (3, 1)
    assert {table, dead} <= set(server.get("/tables").json()["tables"])
    flushed(server, table)
    flushed(server, dead)
    assert [row["a"] for row in stored(server, table)] == [1, 2, 4]
    (row,) = stored(server, dead)
    assert row["record"] == '{"a":' and row["reason"]
    assert (row["record_index"], row["byte_offset"]) == (2, 21)
    assert kept(post_rows(server, table, b'{"a":5}\n', on_error="dead_letter"))["dead_letters"] == 0


@pytest.mark.parametrize("size", [52, 64])
def test_dead_letters_of_a_long_name(server, size):
    table = f"n{size}".ljust(size, "x")
    dead = f"{table}__dead_letter"
    assert kept(post_rows(server, table, BAD, on_error="dead_letter"))["dead_letters"] == 1
    assert count(server, dead) == 1
    assert server.get(f"/tables/{dead}", server.ingest).json()["buffered_rows"] == 1
    assert server.request("PUT", f"/tables/{dead}", server.ingest, json={"retention_days": 9}).status_code == 200
    assert flushed(server, dead)["record_count"] == 1
    assert count(server, dead) == 0 and len(stored(server, dead)) == 1
    assert server.post("/query", json={"sql": f"SELECT record_index AS i FROM {dead}"}).json()["rows"] == [{"i": 2}]
    assert server.get(f"/tables/{dead}{15 * 'x'}", server.ingest).status_code == 400
    assert server.get(f"/tables/x{'x' * 64}__dead_letter", server.ingest).status_code == 400
    assert post_rows(server, f"x{'x' * 59}__dead_letter", b'{"a":1}\n').status_code == 400


# ---- parameters ----
@pytest.mark.parametrize(
    "parameters",
    [{"on_error": "x"}, {"on_error": ""}, {"wait": "disk"}, {"wait": ""}, {"partition_date": "2025-02-30"}],
)
def test_parameters_that_mean_nothing_are_400(server, table, parameters):
    answer = post_rows(server, table, ndjson(RECORDS), **parameters)
    assert answer.status_code == 400
    assert list(parameters)[0] in answer.json()["error"]
    assert count(server, table) == 0


@pytest.mark.parametrize("name", ["select", "1a", "a-b", "a" * 65])
def test_bad_table_names_are_400(server, name):
    answer = post_rows(server, name, ndjson(RECORDS))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_partition_date_is_where_the_rows_go(server, table):
    kept(post_rows(server, table, ndjson(RECORDS), on_error="refuse", partition_date="2024-02-29"))
    flushed(server, table)
    (key,) = server.lake.table_keys(table)
    assert f"data/{table}/year=2024/month=02/day=29/" in key


def test_wait_for_the_lake(server, table):
    answer = kept(post_rows(server, table, ndjson(RECORDS), wait="lake"))
    assert answer["in_lake"] is True
    assert stored(server, table) == RECORDS
    assert count(server, table) == 0


def test_a_lake_that_is_away_answers_202(start_eider, s3, s3_proxy, table):
    lake = S3Lake(s3, s3.make_bucket(), endpoint=s3_proxy.endpoint)
    server = start_eider({**SETTINGS, "EIDER_INGEST_TIMEOUT_MS": "3000"}, lake=lake)
    kept(post_rows(server, table, ndjson(RECORDS[:1])))
    with s3_proxy.refused():
        answer = post_rows(server, table, ndjson(RECORDS[1:]), wait="lake")
        assert answer.status_code == 202, answer.text
        assert answer.json()["accepted"] == 49 and answer.json()["in_lake"] is False
        assert count(server, table) == 50
    flushed(server, table)
    assert stored(server, table) == RECORDS


# ---- sizes ----
def test_limits_of_size(start_eider, table):
    server = start_eider({**SETTINGS, "EIDER_ROWS_BODY_MAX": "1MiB", "EIDER_ROWS_DECODED_MAX": "2MiB"}, lake=FolderLake())
    line = b'{"a":"' + b"x" * 1000 + b'"}\n'
    assert post_rows(server, table, line * 2000).status_code == 413
    packed = gzip.compress(line * 4000)
    assert len(packed) < MIB
    for content_type in (NDJSON, PARQUET):
        answer = post_rows(server, table, packed, content_type, headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 413
    assert count(server, table) == 0
    assert kept(post_rows(server, table, line * 900))["accepted"] == 900


def long_lines(count, first=0):
    """Lines of many lengths, so that pieces of the body end anywhere in them."""
    return [b'{"id":%d,"pad":"%s"}\n' % (n, b"z" * (n * 37 % 401)) for n in range(first, first + count)]


def test_lines_that_pieces_of_the_body_cut(server, table):
    """Of a table whose columns are known, lines are checked as they come; some need a wider schema all of a sudden."""
    kept(post_rows(server, table, b"".join(long_lines(10))))
    lines = long_lines(4000, 10)
    lines[2500] = b'{"id":2510,"pad":"","late":7}\n'
    lines[3500] = b'{"id":"x3510","pad":"wide"}\n'
    assert kept(post_rows(server, table, b"".join(lines).rstrip(b"\n")))["accepted"] == 4000
    sums = server.sql(f"SELECT count(*) AS n, count(DISTINCT id) AS ids, sum(length(pad)) AS pads, sum(late) AS late FROM {table}")
    pads = sum(n * 37 % 401 for n in range(4010) if n not in (2510, 3510)) + len("wide")
    assert sums["rows"] == [{"n": 4010, "ids": 4009, "pads": pads, "late": 7}]


@pytest.mark.parametrize("policy", ["refuse", "dead_letter"])
def test_a_bad_line_behind_many_pieces_is_named(server, table, policy):
    kept(post_rows(server, table, b"".join(long_lines(10))))
    lines = long_lines(4000)
    lines[3000] = b'{"id":3000,"pad":nonsense}\n'
    offset = len(b"".join(lines[:3000])) + lines[3000].index(b"nonsense")
    answer = post_rows(server, table, b"".join(lines), on_error=policy)
    if policy == "refuse":
        assert answer.status_code == 422
        assert (answer.json()["record"], answer.json()["offset"]) == (3000, offset)
        assert count(server, table) == 10
    else:
        body = kept(answer)
        assert (body["accepted"], body["dead_letters"]) == (3999, 1)
        rows = server.sql(f"SELECT record_index, byte_offset FROM {table}__dead_letter")["rows"]
        assert rows == [{"record_index": 3000, "byte_offset": offset}]


@pytest.mark.once
@pytest.mark.slow
def test_a_large_body_takes_little_memory(start_eider, table):
    server = start_eider({**SETTINGS, "EIDER_FLUSH_BYTES": "64MiB"}, lake=FolderLake())
    kept(post_rows(server, table, ndjson(RECORDS)))
    before = resident_bytes(server.pid)
    piece = b"".join(b'{"id":%d,"text":"%s"}\n' % (n, b"y" * 180) for n in range(5000))
    times = 200 * MIB // len(piece) + 1
    most = {"bytes": 0}

    def pieces():
        for number in range(times):
            if number % 20 == 0:
                most["bytes"] = max(most["bytes"], resident_bytes(server.pid))
            yield piece

    answer = kept(server.post(f"/tables/{table}/rows", data=pieces(), headers={"Content-Type": NDJSON}, timeout=240))
    assert answer["accepted"] == 5000 * times
    most["bytes"] = max(most["bytes"], resident_bytes(server.pid))
    assert most["bytes"] - before < 250 * MIB
    assert server.sql(f"SELECT count(*) AS n FROM {table}")["rows"] == [{"n": 5000 * times + 50}]


# ---- the log line ----
def test_the_log_line_has_the_rows(server, table, wait_until):
    answer = post_rows(server, table, ndjson(RECORDS))
    kept(answer)
    wanted = answer.headers["X-Request-Id"]
    (line,) = wait_until(lambda: [one for one in server.events("http.request") if one["request"] == wanted])
    assert (line["rows"], line["route"], line["status"]) == (50, "/tables/{name}/rows", 200)
