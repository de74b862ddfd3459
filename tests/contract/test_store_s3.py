"""How the object store is spoken to: keys, signatures, retries of reads. Seen through a proxy before a real S3 server."""

import email.utils
import random

import pytest

from harness.ingest_client import accepted, in_parallel, post_batch
from harness.lakes import S3Lake
from harness.parquet_readers import read_parquet

pytestmark = pytest.mark.both_stores

ODD_KEYS = [
    "plain.parquet",
    "a b/with spaces .parquet",
    "a+b/c+d.parquet",
    "a=b/year=2025/x.parquet",
    "per%cent/%41%2F.parquet",
    "hash#tag.parquet",
    "amper&and;semi.parquet",
    "žluťoučký/日本語-😀.parquet",
    "quo'te\"s.parquet",
    "tilde~(paren)!$,:@.parquet",
    "back\\slash.parquet",
    "<angle>|pipe^{brace}`.parquet",
]
PATTERN_KEYS = ["star*.parquet", "[range].parquet"]
INGEST = {"EIDER_INGEST_LISTEN": "127.0.0.1:0"}


def snapshot(server, config, key, rows):
    body = {
        "table_name": "t",
        "s3_key": key,
        "s3_config": config,
        "data": rows,
        "columns": [{"source": "v", "target": "v", "type": "BIGINT"}],
    }
    return server.post("/snapshot", server.snapshot, json=body)


@pytest.fixture
def behind_proxy(start_eider, s3, s3_proxy):
    return start_eider(INGEST, lake=S3Lake(s3, s3.make_bucket(), endpoint=s3_proxy.endpoint))


# ---- keys ----
@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_survive_the_round_trip(eider, s3, key):
    bucket = s3.make_bucket()
    config = s3.config(bucket)
    answer = snapshot(eider, config, key, [{"v": 7}])
    assert answer.status_code == 200, answer.text
    assert answer.json()["s3_key"] == key
    assert s3.keys(bucket) == [key]
    body = s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    assert read_parquet(body).rows == [{"v": 7}]
    query = {"sql": "SELECT v FROM t", "s3_config": config, "tables": [{"name": "t", "s3_path": key}]}
    answer = eider.post("/query", eider.snapshot, json=query)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == [{"v": 7}]


@pytest.mark.parametrize("key", PATTERN_KEYS)
def test_keys_that_look_like_patterns_are_stored_as_they_are(eider, s3, key):
    bucket = s3.make_bucket()
    assert snapshot(eider, s3.config(bucket), key, [{"v": 7}]).status_code == 200
    assert s3.keys(bucket) == [key]


@pytest.mark.parametrize("prefix", ["a/b/c", "with space", "x=y", "plus+plus"])
def test_prefixes_of_the_lake(start_eider, s3, table, prefix):
    lake = S3Lake(s3, s3.make_bucket(), prefix=prefix)
    server = start_eider(INGEST, lake=lake)
    accepted(server, post_batch(server, table, [{"a": 1}], "2025-01-01"))
    assert len(lake.table_keys(table)) == 1
    assert server.sql(f"SELECT a, year FROM {table}")["rows"] == [{"a": 1, "year": 2025}]


def test_two_lakes_in_one_bucket_do_not_see_each_other(start_eider, s3, table):
    bucket = s3.make_bucket()
    first = start_eider(INGEST, lake=S3Lake(s3, bucket, prefix="lake"))
    second = start_eider(INGEST, lake=S3Lake(s3, bucket, prefix="lake2"))
    accepted(first, post_batch(first, table, [{"a": 1}]))
    accepted(second, post_batch(second, table, [{"a": 2}]))
    assert first.sql(f"SELECT a FROM {table}")["rows"] == [{"a": 1}]
    assert second.sql(f"SELECT a FROM {table}")["rows"] == [{"a": 2}]


# ---- what a request looks like ----
def test_puts_are_create_only_and_signed(behind_proxy, s3, s3_proxy, table):
    accepted(behind_proxy, post_batch(behind_proxy, table, [{"a": 1}]))
    (put,) = s3_proxy.requests("PUT", key=f"/data/{table}/")
    assert put.headers["if-none-match"] == "*"
    assert put.headers["host"] == f"127.0.0.1:{s3_proxy.port}"
    authorization = put.headers["authorization"]
    assert authorization.startswith(f"AWS4-HMAC-SHA256 Credential={s3.access_key}/")
    assert "/us-east-1/s3/aws4_request" in authorization
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "x-amz-date", "x-amz-content-sha256"} <= set(signed)
    assert s3.secret_key not in str(put.headers)


def test_region_and_session_token_are_in_the_signature(start_eider, s3, s3_proxy, table):
    lake = S3Lake(s3, s3.make_bucket(), endpoint=s3_proxy.endpoint)
    server = start_eider({**INGEST, "S3_REGION": "eu-moon-1", "S3_SESSION_TOKEN": "a-token/with+odd="}, lake=lake)
    post_batch(server, table, [{"a": 1}])  # refused by this store, which knows neither
    asked = s3_proxy.requests()
    assert asked
    for one in asked:
        assert one.headers["x-amz-security-token"] == "a-token/with+odd="
        assert "/eu-moon-1/s3/aws4_request" in one.headers["authorization"]
        assert "x-amz-security-token" in one.headers["authorization"]
    assert "a-token" not in server.stderr


def test_aws_names_of_the_credentials(start_eider, s3, table):
    env = {
        **INGEST,
        "S3_ACCESS_KEY": None,
        "S3_SECRET_KEY": None,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
    }
    server = start_eider(env, lake=S3Lake(s3, s3.make_bucket()))
    accepted(server, post_batch(server, table, [{"a": 1}]))


def test_ranged_reads_are_pinned_to_the_version_seen(behind_proxy, s3_proxy, table):
    accepted(behind_proxy, post_batch(behind_proxy, table, [{"n": n, "s": f"text {n * 7919}"} for n in range(20_000)]))
    s3_proxy.forget()
    assert behind_proxy.sql(f"SELECT sum(n) AS s FROM {table}")["rows"] == [{"s": 199990000}]
    reads = s3_proxy.requests("GET", key=r"\.parquet$")
    assert reads
    for read in reads:
        assert read.headers.get("range", "").startswith("bytes="), read
        assert read.headers.get("if-match"), read


def test_a_query_of_one_column_does_not_fetch_the_others(behind_proxy, s3_proxy, table):
    """Only the column chunks that SQL asks for travel."""
    random_bytes = random.Random(3).randbytes
    rows = [{"n": n, "blob": random_bytes(2000).hex()} for n in range(4000)]
    key = accepted(behind_proxy, post_batch(behind_proxy, table, rows))
    size = len(behind_proxy.lake.read(key))
    s3_proxy.forget()
    assert behind_proxy.sql(f"SELECT sum(n) AS s FROM {table}")["rows"] == [{"s": 7998000}]
    assert range_bytes(s3_proxy, size) < size // 4


def range_bytes(proxy, size):
    total = 0
    for read in proxy.requests("GET", key=r"\.parquet$"):
        first, _, last = read.headers.get("range", f"bytes=0-{size - 1}").removeprefix("bytes=").partition("-")
        total += int(last or size - 1) - int(first) + 1
    return total


# ---- faults while reading ----
@pytest.fixture
def filled(behind_proxy, s3_proxy, table):
    rows = [{"n": n, "s": f"text {n * 7919}"} for n in range(20_000)]
    accepted(behind_proxy, post_batch(behind_proxy, table, rows))
    s3_proxy.forget()
    return behind_proxy


CHECK = "SELECT sum(n) AS s, count(DISTINCT s) AS d FROM {}"
RIGHT = [{"s": 199990000, "d": 20000}]


@pytest.mark.parametrize("method, match", [("GET", r"\.parquet$"), ("GET", ""), ("HEAD", "")])
def test_two_errors_while_reading_are_overcome(filled, s3_proxy, table, method, match):
    fault = s3_proxy.fail(503, times=2, code="SlowDown", method=method, key=match)
    assert filled.sql(CHECK.format(table))["rows"] == RIGHT
    assert fault.hits == 2 or method == "HEAD"  # whether it asks with HEAD is the server's business


def test_resets_while_reading_are_overcome(filled, s3_proxy, table):
    fault = s3_proxy.reset(times=2, method="GET")
    assert filled.sql(CHECK.format(table))["rows"] == RIGHT
    assert fault.hits == 2


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_bodies_cut_short_are_fetched_again(filled, s3_proxy, table, keep):
    fault = s3_proxy.cut_body(times=2, keep=keep, method="GET", key=r"\.parquet$")
    assert filled.sql(CHECK.format(table))["rows"] == RIGHT
    assert fault.hits > 0


@pytest.mark.parametrize("match", [{"key": r"\.parquet$"}, {"query": "list-type=2"}])
def test_errors_for_good_while_reading_are_502(filled, s3_proxy, table, match):
    s3_proxy.fail(500, times=999, method="GET", **match)
    answer = filled.post("/query", json={"sql": CHECK.format(table)})
    assert answer.status_code == 502, answer.text
    assert isinstance(answer.json()["error"], str)
    s3_proxy.clear()
    assert filled.sql(CHECK.format(table))["rows"] == RIGHT


def test_an_object_replaced_between_two_queries(filled, s3_proxy, table):
    """The second query sees the new object whole; cached bytes of the old one are not mixed in."""
    (key,) = filled.lake.table_keys(table)
    assert filled.sql(CHECK.format(table))["rows"] == RIGHT
    other = accepted(filled, post_batch(filled, f"{table}_b", [{"n": 1, "s": "x"}, {"n": 2, "s": "y"}]))
    filled.lake.write(key, filled.lake.read(other))
    assert filled.sql(CHECK.format(table))["rows"] == [{"s": 3, "d": 2}]


def test_an_object_removed_between_two_queries(filled, table, wait_until):
    assert filled.sql(CHECK.format(table))["rows"] == RIGHT
    key = accepted(filled, post_batch(filled, table, [{"n": -1, "s": "gone"}]))
    assert filled.sql(f"SELECT min(n) AS m FROM {table}")["rows"] == [{"m": -1}]
    filled.lake.remove(key)

    def found():
        return filled.post("/query", json={"sql": CHECK.format(table)}).json().get("rows")

    wait_until(lambda: found() == RIGHT, 10)  # what others remove is gone at most 50 ms later


# ---- the clock ----
def test_a_skewed_clock_is_corrected_once(behind_proxy, s3_proxy, table):
    now = {"Date": email.utils.formatdate(usegmt=True)}
    s3_proxy.fail(403, times=1, code="RequestTimeTooSkewed", headers=now, key=f"/data/{table}/")
    key = accepted(behind_proxy, post_batch(behind_proxy, table, [{"a": 1}]))
    assert behind_proxy.lake.table_keys(table) == [key]


# ---- several writers ----
@pytest.mark.once
def test_two_servers_write_into_one_lake(start_eider, s3, table):
    bucket = s3.make_bucket()
    servers = [start_eider(INGEST, lake=S3Lake(s3, bucket)) for _ in range(2)]

    def post(number):
        server = servers[number % 2]
        return accepted(server, post_batch(server, table, [{"n": number}], "2025-01-01"))

    keys = in_parallel(post, range(40), threads=8)
    assert len(set(keys)) == 40
    for server in servers:
        assert server.sql(f"SELECT count(*) AS c, sum(n) AS s FROM {table}")["rows"] == [{"c": 40, "s": 780}]
