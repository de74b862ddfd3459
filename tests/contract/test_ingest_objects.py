"""The objects that batches become: contracts/ingest.md section 5, checks 3, 4, 5, 16, 35, 36."""

import datetime
import json
import random

import pytest

from harness.ingest_client import S3_PATH, accepted, in_parallel, post_batch, refused
from harness.lakes import FolderLake, S3Lake
from harness.parquet_readers import read_parquet, read_table
from harness.s3_server import S3Server

INGEST = {"EIDER_INGEST_LISTEN": "127.0.0.1:0"}


# ---- check 3 ----
@pytest.mark.parametrize("listener", ["ingest", "main"])
def test_a_dated_batch_becomes_one_object(any_lake, table, listener):
    records = [{"id": 1, "event": "signup"}, {"id": 2, "event": "login"}]
    answer = post_batch(any_lake, table, records, "2025-12-20", any_lake.listener(listener))
    key = accepted(any_lake, answer)
    assert answer.json()["record_count"] == 2
    assert answer.json()["table_name"] == table
    assert answer.json()["partition_date"] == "2025-12-20"
    assert key.startswith(f"data/{table}/year=2025/month=12/day=20/data_")
    assert any_lake.lake.table_keys(table) == [key]
    assert read_parquet(any_lake.lake.read(key)).rows == records


def test_the_message_says_records_also_for_one(eider, table):
    answer = post_batch(eider, table, [{"a": 1}])
    accepted(eider, answer)
    assert answer.json()["message"] == "Ingested 1 records"


@pytest.mark.both_stores
def test_a_bucket_alone_is_a_lake_at_its_root(start_eider, s3, table):
    """EIDER_LAKE unset: the variables of the original service say where the lake is."""
    bucket = s3.make_bucket("lake-data")
    lake = S3Lake(s3, bucket, prefix="")
    env = {
        **INGEST,
        "EIDER_LAKE": None,
        "S3_BUCKET": bucket,
        "S3_ENDPOINT": s3.endpoint + "/",
        "S3_ACCESS_KEY": s3.access_key,
        "S3_SECRET_KEY": s3.secret_key,
    }
    server = start_eider(env, lake=lake)
    answer = post_batch(server, table, [{"a": 1}], "2025-12-20")
    accepted(server, answer)
    assert answer.json()["s3_path"].startswith(f"s3://{bucket}/data/{table}/year=2025/month=12/day=20/data_")
    assert len(s3.keys(bucket, f"data/{table}/")) == 1
    health = server.get("/health", server.ingest).json()
    assert health["s3_endpoint"] == s3.endpoint + "/"
    assert health["s3_bucket"] == bucket


# ---- checks 4 and 5 ----
@pytest.mark.parametrize("given", ["absent", "null", "empty"])
def test_no_date_means_today(any_lake, table, given):
    body = {"table_name": table, "records": [{"a": 1}]}
    if given != "absent":
        body["partition_date"] = None if given == "null" else ""
    before = datetime.date.today()
    answer = any_lake.post("/ingest", any_lake.ingest, json=body)
    after = datetime.date.today()
    key = accepted(any_lake, answer)
    date = answer.json()["partition_date"]
    assert date in (before.isoformat(), after.isoformat())
    year, month, day = date.split("-")
    assert key.startswith(f"data/{table}/year={year}/month={month}/day={day}/")


def test_today_is_utc_whatever_the_servers_time_zone(start_eider, table):
    """docs/adr/0006: the original's image ran in UTC, and a partition must not depend on a machine's setting."""
    server = start_eider({**INGEST, "TZ": "FAR-14"}, lake=FolderLake())
    zone = datetime.timezone.utc
    before = datetime.datetime.now(zone).replace(microsecond=0)
    answer = post_batch(server, table, [{"a": 1}])
    after = datetime.datetime.now(zone)
    accepted(server, answer)
    parts = S3_PATH.search(answer.json()["s3_path"]).groupdict()
    written = datetime.datetime.strptime(
        "{year}{month}{day} {time}".format(**parts), "%Y%m%d %H%M%S"
    ).replace(tzinfo=zone)
    assert before <= written <= after


# ---- check 16 ----
def test_batches_of_one_second_never_collide(any_lake, table):
    keys = [accepted(any_lake, post_batch(any_lake, table, [{"n": n}], "2025-12-20")) for n in range(5)]
    assert len(set(keys)) == 5
    assert any_lake.lake.table_keys(table) == sorted(keys)
    found = [read_parquet(any_lake.lake.read(key)).values("n") for key in keys]
    assert found == [[n] for n in range(5)]


@pytest.mark.once
def test_fifty_parallel_batches(any_lake, table):
    def post(number):
        records = [{"batch": number, "row": row} for row in range(40)]
        return accepted(any_lake, post_batch(any_lake, table, records, "2025-12-20"))

    keys = in_parallel(post, range(50), threads=50)
    assert any_lake.lake.table_keys(table) == sorted(set(keys))
    assert len(set(keys)) == 50
    for number, key in enumerate(keys):
        rows = read_parquet(any_lake.lake.read(key)).rows
        assert rows == [{"batch": number, "row": row} for row in range(40)]


@pytest.mark.once
def test_parallel_tables_do_not_mix(any_lake, table):
    def post(number):
        name = f"{table}_{number % 5}"
        accepted(any_lake, post_batch(any_lake, name, [{f"only_{number % 5}": number}], "2025-12-20"))

    in_parallel(post, range(40), threads=20)
    for remainder in range(5):
        files = read_table(any_lake.lake, f"{table}_{remainder}").values()
        rows = sorted(row[f"only_{remainder}"] for file in files for row in file.rows)
        assert rows == list(range(remainder, 40, 5))


# ---- large ones ----
@pytest.mark.once
def test_a_large_file_arrives_whole(any_lake, table):
    """Over 16 MiB of Parquet, which S3 gets as a multipart upload."""
    random_bytes = random.Random(1).randbytes
    records = [{"id": n, "blob": random_bytes(700_000).hex()} for n in range(30)]
    key = accepted(any_lake, post_batch(any_lake, table, records))
    body = any_lake.lake.read(key)
    assert len(body) > 16 * 1024 * 1024
    assert read_parquet(body).rows == records
    if any_lake.lake.kind == "s3":
        assert any_lake.lake.server.uploads(any_lake.lake.bucket) == []


# ---- check 35 ----
@pytest.mark.parametrize("variable", ["EIDER_CA_FILE", "SSL_CERT_FILE", "AWS_CA_BUNDLE"])
def test_https_endpoint_with_a_known_authority(start_eider, tls_s3, table, variable):
    lake = S3Lake(tls_s3, tls_s3.make_bucket())
    server = start_eider({**INGEST, variable: str(tls_s3.ca_file)}, lake=lake)
    accepted(server, post_batch(server, table, [{"a": 1}]))
    assert len(lake.table_keys(table)) == 1


@pytest.mark.once
def test_https_endpoint_with_an_unknown_authority_is_not_trusted(start_eider, tls_s3, table):
    lake = S3Lake(tls_s3, tls_s3.make_bucket())
    server = start_eider(INGEST, lake=lake)
    refused(post_batch(server, table, [{"a": 1}]), 502, "Ingestion failed: ")
    assert lake.keys() == []


# ---- check 36 ----
def test_secrets_with_quotes_work_and_stay_secret(start_eider, tmp_path, table):
    secret = "it's \"quoted\" \\ & = + secret"
    store = S3Server(tmp_path / "quoted", secret_key=secret)
    try:
        lake = S3Lake(store, store.make_bucket())
        server = start_eider({**INGEST, "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0"}, lake=lake)
        accepted(server, post_batch(server, table, [{"a": 1}]))
        store.stop()
        answers = [post_batch(server, table, [{"a": 1}])]
        for base in (server.ingest, server.url, server.snapshot):
            answers += [server.get(path, base) for path in ("/", "/health", "/health/ready", "/nope")]
        answers.append(post_batch(server, "select", []))
        answers.append(server.post("/query", json={"sql": f"SELECT * FROM {table}"}))
        for text in [answer.text for answer in answers] + [server.stderr, server.stdout]:
            assert secret not in text
            assert json.dumps(secret)[1:-1] not in text
    finally:
        store.stop()


# ---- check 37 ----
def test_each_port_has_its_own_health(eider):
    assert eider.get("/health", eider.ingest).json()["status"] == "healthy"
    assert eider.get("/health", eider.snapshot).text == '{"status":"ok","service":"duckdb-sidecar"}'
    shared = eider.get("/health").json()
    assert (shared["status"], shared["service"]) == ("ok", "duckdb-sidecar")
