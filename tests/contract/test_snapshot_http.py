"""The HTTP rules that all routes of the snapshot personality share: contract section 2, checks 1 to 6."""

import gzip
import io
import json
import socket
import zlib
from urllib.parse import urlsplit

import pyarrow
import pytest
import requests

from harness.s3_server import free_port
from harness.snapshot_client import JSON_TYPE, Sidecar, error_of

WIRE_LIMIT = 52428800
DECODED_LIMIT = 104857600
HEALTH = '{"status":"ok","service":"duckdb-sidecar"}'
NO_OBJECT = "body must be an object"


@pytest.fixture(scope="module")
def sidecar(eider, s3):
    return Sidecar(eider.snapshot, s3)


def padded(body, size):
    """JSON text of exactly `size` bytes: the body with an unknown field, which is ignored."""
    empty = json.dumps({**body, "pad": ""})
    return empty[:-2] + "x" * (size - len(empty)) + empty[-2:]


# ---- 1: health ----
@pytest.mark.parametrize("path", ["/health", "/HEALTH", "/health/", "/Health/", "/health?x=1", "/health/?a=%20&b"])
def test_health(sidecar, path):
    answer = sidecar.get(path)
    assert (answer.status_code, answer.text) == (200, HEALTH)
    assert answer.headers["Content-Type"] == JSON_TYPE
    assert answer.headers["Content-Length"] == str(len(HEALTH))
    assert "Date" in answer.headers
    assert "X-Powered-By" not in answer.headers


@pytest.mark.parametrize("path", ["/health", "/pool-stats", "/snapshot-queue-stats"])
def test_head_is_get_without_a_body(sidecar, path):
    got = sidecar.get(path)
    answer = requests.head(sidecar.base + path, timeout=10)
    assert (answer.status_code, answer.content) == (200, b"")
    for name in ("Content-Type", "Content-Length", "ETag"):
        assert answer.headers[name] == got.headers[name]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_probes_are_on_this_port_too(sidecar, path):
    assert sidecar.get(path).status_code == 200


def test_etag_is_weak_and_answers_304(sidecar):
    etag = sidecar.get("/health").headers["ETag"]
    assert etag.startswith('W/"') and etag.endswith('"')
    for match in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        answer = sidecar.get("/health", headers={"If-None-Match": match})
        assert (answer.status_code, answer.content) == (304, b""), match
        assert answer.headers["ETag"] == etag
    assert sidecar.get("/health", headers={"If-None-Match": 'W/"other"'}).status_code == 200


def test_etag_follows_the_body(sidecar):
    assert sidecar.get("/health").headers["ETag"] != sidecar.get("/pool-stats").headers["ETag"]


def test_request_id_comes_back(sidecar):
    assert sidecar.get("/health", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    first, second = sidecar.get("/health"), sidecar.get("/nope")
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]


# ---- 2: statistics ----
def test_pool_stats_without_a_pool(sidecar):
    assert sidecar.get("/pool-stats").text == '{"enabled":false}'


def test_snapshot_queue_stats(sidecar):
    assert sidecar.get("/snapshot-queue-stats").text == '{"maxConcurrent":4,"maxQueue":100,"running":0,"queued":0}'


def test_pool_variables_keep_the_shape_and_share_no_credentials(start_eider, s3, tmp_path):
    """D8: the four variables are accepted; a request is still served with its own keys, not with the server's."""
    bucket = s3.make_bucket("pool")
    server = start_eider(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "EIDER_LAKE": str(tmp_path / "lake"),
            "S3_ENDPOINT": s3.endpoint,
            "S3_BUCKET": bucket,
            "S3_ACCESS_KEY_ID": s3.access_key,
            "S3_SECRET_ACCESS_KEY": s3.secret_key,
        }
    )
    sidecar = Sidecar(server.snapshot, s3, bucket)
    stats = sidecar.get("/pool-stats").json()
    assert list(stats) == ["enabled", "idle", "active", "total", "minSize", "maxSize", "totalCreated", "totalRecycled"]
    assert stats.pop("enabled") is True
    assert all(type(value) is int for value in stats.values())
    assert (stats["minSize"], stats["maxSize"]) == (4, 12)
    sidecar.put_table("x.parquet", pyarrow.table({"a": [1]}))
    tables = {"x": "x.parquet"}
    assert sidecar.rows("SELECT a FROM x", tables) == [(1,)]
    wrong = {**sidecar.config, "secretAccessKey": "not-the-key"}
    error_of(sidecar.query("SELECT a FROM x", tables, s3_config=wrong), 403)


# ---- 3: routes and methods ----
@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/query"),
        ("GET", "/snapshot"),
        ("PUT", "/query"),
        ("DELETE", "/snapshot"),
        ("POST", "/health"),
        ("POST", "/pool-stats"),
        ("GET", "/nope"),
        ("POST", "/nope"),
        ("GET", "/health//"),
        ("GET", "/query/x"),
    ],
)
def test_unknown_routes_and_wrong_methods_are_404(sidecar, method, path):
    answer = requests.request(method, sidecar.base + path, timeout=10, headers={"Content-Type": "application/json"})
    error_of(answer, 404)


@pytest.mark.parametrize(
    "path, method", [("/query", "POST"), ("/snapshot", "POST"), ("/SNAPSHOT/", "POST"), ("/health", "GET")]
)
def test_options_lists_the_method(sidecar, path, method):
    answer = requests.options(sidecar.base + path, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert method in [part.strip() for part in answer.headers["Allow"].split(",")]
    assert method in answer.text


def test_options_of_an_unknown_path(sidecar):
    assert requests.options(sidecar.base + "/nope", timeout=10).status_code == 404


@pytest.mark.parametrize("path", ["/query", "/QUERY", "/Query/", "/query?a=b"])
def test_post_paths_tolerate_case_and_slash(sidecar, path):
    answer = sidecar.post(path, sidecar.query_body("SELECT 1 AS a"))
    assert (answer.status_code, answer.text) == (200, '{"columns":["a"],"rows":[{"a":1}],"row_count":1}')


# ---- 4: JSON ----
@pytest.mark.parametrize("path", ["/query", "/snapshot"])
@pytest.mark.parametrize(
    "text",
    ["{bad", "NaN", "5", "null", '"x"', "true", "{'a':1}", '{"a":1,}', "[1", '{"a":NaN}', '{"a":01}', '{"a":"\n"}']
    + ['{"a":1} x', "{}{}", " ", '{"a":"\\x"}', '{"a":1e}', "[" * 100000],
)
def test_text_that_is_not_json(sidecar, path, text):
    assert error_of(sidecar.post(path, text), 400) == "Invalid JSON"


@pytest.mark.parametrize("path", ["/query", "/snapshot"])
def test_an_array_is_not_an_object(sidecar, path):
    assert error_of(sidecar.post(path, "[]"), 400) == NO_OBJECT


def test_an_empty_body_counts_as_an_empty_object(sidecar):
    assert error_of(sidecar.post("/query", ""), 400) == "sql must be a non-empty string"
    assert error_of(sidecar.post("/snapshot", ""), 400) == "table_name must be a non-empty string"


def test_byte_order_mark_duplicate_keys_and_broken_utf8(sidecar):
    body = sidecar.query_body("SELECT 1 AS v")
    assert sidecar.post("/query", b"\xef\xbb\xbf" + json.dumps(body).encode()).json()["rows"] == [{"v": 1}]
    twice = '{"sql":"selec",' + json.dumps(body)[1:]
    assert sidecar.post("/query", twice).json()["rows"] == [{"v": 1}]
    broken = json.dumps(sidecar.query_body("SELECT 'a@b' AS v")).encode().replace(b"@", b"\xff")
    assert sidecar.post("/query", broken).json()["rows"] == [{"v": "a\ufffdb"}]


def test_text_outside_ascii_is_sent_raw(sidecar):
    answer = sidecar.query("SELECT 'é€😀' AS \"ü\"")
    assert answer.content == '{"columns":["ü"],"rows":[{"ü":"é€😀"}],"row_count":1}'.encode()


def test_unknown_fields_are_ignored(sidecar):
    body = sidecar.query_body("SELECT 1 AS v", extra={"deep": [1, {}]})
    body["s3_config"] = {**body["s3_config"], "sessionToken2": 5}
    assert sidecar.post("/query", body).status_code == 200


# ---- 5: content types ----
@pytest.mark.parametrize("path", ["/query", "/snapshot"])
@pytest.mark.parametrize("kind", ["text/plain", None, "application/x-www-form-urlencoded", "text/json"])
def test_other_content_types_leave_no_body(sidecar, path, kind):
    body = sidecar.query_body("SELECT 1 AS v")
    assert error_of(sidecar.post(path, body, headers={"Content-Type": kind}), 400) == NO_OBJECT


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON"]
)
def test_json_content_types(sidecar, kind):
    body = sidecar.query_body("SELECT 1 AS v")
    assert sidecar.post("/query", body, headers={"Content-Type": kind}).status_code == 200


def test_an_unknown_charset_is_415(sidecar):
    body = sidecar.query_body("SELECT 1 AS v")
    error_of(sidecar.post("/query", body, headers={"Content-Type": "application/json; charset=latin9"}), 415)


# ---- 6: sizes and encodings ----
def test_wire_limit(sidecar):
    body = sidecar.query_body("SELECT 1 AS v")
    assert sidecar.post("/query", padded(body, WIRE_LIMIT)).status_code == 200
    try:
        answer = sidecar.post("/query", padded(body, WIRE_LIMIT + 1))
    except requests.ConnectionError:  # refused by its Content-Length: the server may close while the body is on its way
        answer = None
    if answer is not None:
        error_of(answer, 413)
    sidecar.alive()


def test_wire_limit_is_told_before_the_body_is_sent(sidecar):
    """A client that waits for the answer to its header gets one."""
    parts = urlsplit(sidecar.base)
    with socket.create_connection((parts.hostname, parts.port), 10) as bare:
        head = "POST /query HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n"
        bare.sendall(head.format(WIRE_LIMIT + 1).encode())
        assert b" 413 " in bare.makefile("rb").readline()


def test_chunked_bodies_have_the_same_limit(sidecar):
    body = json.dumps(sidecar.query_body("SELECT 1 AS v")).encode()
    headers = {"Content-Type": "application/json"}
    answer = requests.post(sidecar.base + "/query", data=iter([body[:10], body[10:]]), headers=headers, timeout=30)
    assert answer.json()["rows"] == [{"v": 1}]

    def endless():
        yield body[:-1] + b',"pad":"'
        for _ in range(WIRE_LIMIT // 65536 + 1):
            yield b"x" * 65536
        yield b'"}'

    try:
        answer = requests.post(sidecar.base + "/query", data=endless(), headers=headers, timeout=60)
    except requests.ConnectionError:
        answer = None
    if answer is not None:
        error_of(answer, 413)
    sidecar.alive()


def raw_deflate(raw):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(raw) + packer.flush()


ENCODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "GZIP": gzip.compress,
    "identity": bytes,
    "br": lambda raw: pyarrow.compress(raw, codec="brotli", asbytes=True),
    "zstd": lambda raw: pyarrow.compress(raw, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("encoding", ENCODERS)
def test_encoded_bodies(sidecar, encoding):
    raw = json.dumps(sidecar.query_body("SELECT 1 AS v")).encode()
    answer = sidecar.post("/query", ENCODERS[encoding](raw), headers={"Content-Encoding": encoding})
    assert answer.json() == {"columns": ["v"], "rows": [{"v": 1}], "row_count": 1}


@pytest.mark.parametrize("encoding", ["foo", "gzip, gzip", "compress"])
def test_unknown_encodings_are_415(sidecar, encoding):
    raw = gzip.compress(json.dumps(sidecar.query_body("SELECT 1 AS v")).encode())
    error_of(sidecar.post("/query", raw, headers={"Content-Encoding": encoding}), 415)


@pytest.mark.parametrize("damage", ["text", "cut", "flipped"])
def test_broken_gzip_is_400(sidecar, damage):
    raw = gzip.compress(json.dumps(sidecar.query_body("SELECT 1 AS v", pad="y" * 5000)).encode())
    broken = {"text": b"not gzip", "cut": raw[:-20], "flipped": raw[:20] + bytes([raw[20] ^ 0xFF]) + raw[21:]}
    error_of(sidecar.post("/query", broken[damage], headers={"Content-Encoding": "gzip"}), 400)


@pytest.mark.once
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_decoded_limit(sidecar, encoding):
    """A small body on the wire may unfold to 100 MiB and not to one byte more."""
    pack = ENCODERS[encoding]
    body = sidecar.query_body("SELECT 1 AS v")
    headers = {"Content-Encoding": encoding}
    assert sidecar.post("/query", pack(padded(body, DECODED_LIMIT).encode()), headers=headers).status_code == 200
    error_of(sidecar.post("/query", pack(padded(body, DECODED_LIMIT + 1).encode()), headers=headers), 413)


@pytest.mark.once
def test_gzip_bomb(sidecar):
    """2 GiB in 2 MiB: refused without being unfolded."""
    packed = io.BytesIO()
    block = b" " * (1 << 24)
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as packer:
        for _ in range(128):
            packer.write(block)
    error_of(sidecar.post("/query", packed.getvalue(), headers={"Content-Encoding": "gzip"}), 413)
    sidecar.alive()


def test_the_shared_listener_has_the_same_routes(eider, s3):
    shared = Sidecar(eider.url, s3)
    shared.alive()
    shared.write("x.parquet", [{"a": 1}], [{"source": "a", "target": "a", "type": "BIGINT"}])
    assert shared.rows("SELECT a FROM x", {"x": "x.parquet"}) == [(1,)]
    assert shared.get("/snapshot-queue-stats").json()["maxConcurrent"] == 4
    assert shared.get("/pool-stats").json() == {"enabled": False}
    assert shared.get("/health").json().items() >= {"status": "ok", "service": "duckdb-sidecar"}.items()


def test_lake_sql_is_not_on_the_snapshot_listener(sidecar):
    assert error_of(sidecar.post("/query", {"sql": "SELECT 1"}), 400) == "s3_config must be an object"


# ---- 37: settings ----
@pytest.mark.parametrize("value", ["abc", "x3214", "-"])
def test_port_that_is_not_a_number(start_eider, value):
    server = start_eider({"PORT": value}, expect_exit=True)
    assert server.returncode == 1
    assert "PORT" in server.stderr


def test_port_opens_the_listener(start_eider, s3):
    port = free_port()
    server = start_eider({"PORT": port})
    assert server.snapshot == f"http://127.0.0.1:{port}"
    assert Sidecar(server.snapshot, s3).get("/health").text == HEALTH


@pytest.mark.once
@pytest.mark.parametrize(
    "value, maximum", [("0", 100), ("x", 100), ("-5", 100), ("", 100), ("7", 7), ("12abc", 12), (" 9", 9)]
)
def test_limits_are_leading_integers_or_the_default(start_eider, s3, value, maximum):
    server = start_eider(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "SIDECAR_MAX_SNAPSHOT_QUEUE": value,
            "SIDECAR_MAX_QUERY_QUEUE": value,
            "SIDECAR_MAX_CONCURRENT_QUERIES": value,
        }
    )
    sidecar = Sidecar(server.snapshot, s3)
    assert sidecar.get("/snapshot-queue-stats").json()["maxQueue"] == maximum
    sidecar.alive()
