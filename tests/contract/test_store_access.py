"""Who may, and where to ask: temporary keys, the bucket in the host name, and in what the two S3 servers differ."""

import pyarrow
import pytest
from botocore.exceptions import ClientError

from harness.ingest_client import accepted, post_batch, refused
from harness.lakes import S3Lake
from harness.s3_server import aws_client, s3_client
from harness.snapshot_client import Sidecar, column, error_of

INGEST = {"EIDER_INGEST_LISTEN": "127.0.0.1:0"}
COLUMNS = [column("a", "BIGINT")]
TABLES = {"t": "x.parquet"}
both_stores = pytest.mark.both_stores


def sidecar_at(eider, store, change=None, bucket=None):
    sidecar = Sidecar(eider.snapshot, store, bucket)
    sidecar.config = {**sidecar.config, **(change or {})}
    return sidecar


def write_and_read(sidecar, key="x.parquet"):
    sidecar.write(key, [{"a": 1}, {"a": 2}], COLUMNS)
    assert key in sidecar.keys()
    assert sidecar.rows("SELECT sum(a) FROM t", {"t": key}) == [(3,)]


# ---- temporary keys ----
def test_temporary_keys_write_and_read(eider, minio):
    write_and_read(sidecar_at(eider, minio, minio.temporary_keys()))


@pytest.mark.parametrize("token", [None, "nonsense", "of-another"])
def test_keys_without_their_own_token_are_refused(eider, minio, token):
    keys = minio.temporary_keys()
    keys["sessionToken"] = minio.temporary_keys()["sessionToken"] if token == "of-another" else token
    sidecar = sidecar_at(eider, minio, keys)
    for answer in (sidecar.snapshot("x.parquet", [{"a": 1}], COLUMNS), sidecar.query("SELECT * FROM t", TABLES)):
        error = error_of(answer, 403)
        assert "access denied" in error and "the session token is not valid" in error, error
        assert keys["secretAccessKey"] not in error and str(keys["sessionToken"]) not in error
    assert sidecar.keys() == []


def test_a_token_that_has_expired_is_told_apart(eider, s3, s3_proxy):
    """AWS says so with a 400, which has no body where HEAD was asked."""
    sidecar = Sidecar(eider.snapshot, s3, endpoint=s3_proxy.endpoint)
    sidecar.config["sessionToken"] = "a-token"
    s3_proxy.fail(400, times=99, code="ExpiredToken")
    for answer in (sidecar.snapshot("x.parquet", [{"a": 1}], COLUMNS), sidecar.query("SELECT * FROM t", TABLES)):
        error = error_of(answer, 403)
        assert "the session token has expired" in error and "ExpiredToken" in error, error
    assert s3_proxy.count(method="PUT") == 1, "another attempt cannot help"


def test_temporary_keys_that_may_only_read(eider, minio):
    writer = sidecar_at(eider, minio)
    writer.put_table("x.parquet", pyarrow.table({"a": [1, 2]}))
    statement = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{writer.bucket}/*"]}
    keys = minio.temporary_keys({"Version": "2012-10-17", "Statement": [statement]})
    reader = sidecar_at(eider, minio, keys, writer.bucket)
    assert reader.rows("SELECT sum(a) FROM t", TABLES) == [(3,)]
    assert "AccessDenied" in error_of(reader.snapshot("y.parquet", [{"a": 1}], COLUMNS), 403)
    assert "AccessDenied" in error_of(reader.query("SELECT * FROM t", {"t": "*.parquet"}), 403)


@pytest.mark.parametrize("names", [("S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_")])
def test_a_lake_with_temporary_keys(start_eider, minio, table, names):
    key, secret, family = names
    keys = minio.temporary_keys()
    env = {**INGEST, "S3_ACCESS_KEY": None, "S3_SECRET_KEY": None}
    env |= {key: keys["accessKeyId"], secret: keys["secretAccessKey"], f"{family}SESSION_TOKEN": keys["sessionToken"]}
    lake = S3Lake(minio, minio.make_bucket())
    server = start_eider(env, lake=lake)
    accepted(server, post_batch(server, table, [{"a": 1}]))
    assert server.sql(f"SELECT a FROM {table}")["rows"] == [{"a": 1}]
    assert keys["sessionToken"] not in server.stderr
    server = start_eider({**env, f"{family}SESSION_TOKEN": "nonsense"}, lake=lake)
    detail = refused(post_batch(server, table, [{"a": 1}]), 502)
    assert "the session token is not valid" in str(detail), detail
    answer = server.post("/query", json={"sql": f"SELECT a FROM {table}"})
    assert answer.status_code == 502 and "the session token is not valid" in answer.json()["error"]


# ---- the bucket in the host name ----
@both_stores
@pytest.mark.parametrize("key", ["x.parquet", "odd/a b+c=d%41#&žluť.parquet"])
def test_the_bucket_in_the_host_name(eider, s3, s3_proxy, key):
    change = {"endpoint": s3_proxy.domain_endpoint, "forcePathStyle": False}
    sidecar = sidecar_at(eider, s3, change)
    write_and_read(sidecar, key)
    assert sidecar.rows("SELECT count(*) FROM t", {"t": key[:1] + "*/*.parquet" if "/" in key else "*.parquet"}) == [(2,)]
    seen = s3_proxy.requests()
    assert {one.headers["host"] for one in seen} == {f"{sidecar.bucket}.s3.localhost:{s3_proxy.port}"}
    assert not any(sidecar.bucket in one.target for one in seen)
    assert {one.method for one in seen} == {"PUT", "HEAD", "GET"}


@both_stores
@pytest.mark.parametrize("path_style, in_host", [(None, False), ("true", False), ("false", True)])
def test_a_lake_and_its_bucket_in_the_host_name(start_eider, s3, s3_proxy, table, path_style, in_host):
    lake = S3Lake(s3, s3.make_bucket(), endpoint=s3_proxy.domain_endpoint)
    server = start_eider({**INGEST, "S3_FORCE_PATH_STYLE": path_style}, lake=lake)
    accepted(server, post_batch(server, table, [{"a": 1}]))
    assert server.sql(f"SELECT a FROM {table}")["rows"] == [{"a": 1}]
    assert len(lake.table_keys(table)) == 1
    host = f"{lake.bucket}.s3.localhost" if in_host else "s3.localhost"
    assert {one.headers["host"] for one in s3_proxy.requests()} == {f"{host}:{s3_proxy.port}"}


@pytest.mark.once
@both_stores
def test_an_upload_in_parts_to_a_bucket_in_the_host_name(eider, s3):
    sidecar = sidecar_at(eider, s3, {"endpoint": s3.domain_endpoint, "forcePathStyle": False})
    rows = [{"s": f"{n:x}{n * 2654435761 % 2**32:x}{n * 40503 % 2**16:x}" * 8} for n in range(150_000)]
    sidecar.write("big.parquet", rows, [column("s", "VARCHAR")])
    assert sidecar.rows("SELECT count(DISTINCT s) FROM t", {"t": "big.parquet"}) == [(150_000,)]


@both_stores
@pytest.mark.parametrize("stem", ["plain", "with.dots"])
def test_host_names_and_certificates(start_eider, tls_s3, stem):
    """A certificate for *.s3.localhost is none for with.dots.s3.localhost: such a bucket stays in the path."""
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "EIDER_CA_FILE": str(tls_s3.ca_file)})
    change = {"endpoint": tls_s3.domain_endpoint, "forcePathStyle": False}
    write_and_read(sidecar_at(server, tls_s3, change, tls_s3.make_bucket(stem)))


def test_dots_in_a_host_name_without_tls(eider, s3, s3_proxy):
    bucket = s3.make_bucket("with.dots")
    change = {"endpoint": s3_proxy.domain_endpoint, "forcePathStyle": False}
    write_and_read(sidecar_at(eider, s3, change, bucket))
    assert {one.headers["host"] for one in s3_proxy.requests()} == {f"{bucket}.s3.localhost:{s3_proxy.port}"}


def test_an_address_has_no_room_for_a_bucket(eider, s3):
    """BUCKET.127.0.0.1 would be no host name: it stays in the path, as AWS's own clients do it."""
    write_and_read(sidecar_at(eider, s3, {"forcePathStyle": False}))


# ---- in what the servers differ; Eider has the same words for both ----
def code_of(call):
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


@both_stores
def test_an_unknown_key(eider, s3):
    bucket = s3.make_bucket()
    client = s3_client(s3.endpoint, "nobody", "no-secret", attempts=1)
    said = code_of(lambda: client.list_objects_v2(Bucket=bucket))
    assert said == {"versitygw": (404, "XAdminUserNotFound"), "minio": (403, "InvalidAccessKeyId")}[s3.name]
    sidecar = sidecar_at(eider, s3, {"accessKeyId": "nobody"}, bucket)
    assert "the access key is not known" in error_of(sidecar.query("SELECT * FROM t", TABLES), 403)


@both_stores
def test_a_token_that_means_nothing(eider, s3):
    bucket = s3.make_bucket()
    client = s3_client(s3.endpoint, s3.access_key, s3.secret_key, attempts=1, token="nonsense")
    said = code_of(lambda: client.list_objects_v2(Bucket=bucket))
    assert said == {"versitygw": (400, "InvalidToken"), "minio": (403, "InvalidTokenId")}[s3.name]
    sidecar = sidecar_at(eider, s3, {"sessionToken": "nonsense"}, bucket)
    assert "the session token is not valid" in error_of(sidecar.query("SELECT * FROM t", TABLES), 403)


@both_stores
def test_another_region(eider, s3):
    """MinIO has no region unless it is told one, and takes any."""
    sidecar = sidecar_at(eider, s3, {"region": "eu-west-9"})
    answer = sidecar.snapshot("x.parquet", [{"a": 1}], COLUMNS)
    if s3.name == "minio":
        assert answer.status_code == 200, answer.text
    else:
        assert 'is in the region "us-east-1", not "eu-west-9"' in error_of(answer, 502)


@both_stores
def test_a_delete_under_a_wrong_condition(s3):
    """What may be built on: nothing is deleted by comparison."""
    bucket = s3.make_bucket()
    s3.client().put_object(Bucket=bucket, Key="x", Body=b"1")
    wrong = {"Bucket": bucket, "Key": "x", "IfMatch": '"00000000000000000000000000000000"'}
    if s3.name == "minio":
        s3.client().delete_object(**wrong)
        assert s3.keys(bucket) == []
    else:
        assert code_of(lambda: s3.client().delete_object(**wrong)) == (412, "PreconditionFailed")
        assert s3.keys(bucket) == ["x"]


@both_stores
def test_a_put_where_there_is_nothing_to_compare_with(s3):
    bucket = s3.make_bucket()
    missing = {"Bucket": bucket, "Key": "x", "Body": b"1", "IfMatch": '"00000000000000000000000000000000"'}
    assert code_of(lambda: s3.client().put_object(**missing)) == (404, "NoSuchKey")
    assert s3.keys(bucket) == []


@both_stores
def test_who_gives_temporary_keys(s3):
    client = aws_client("sts", s3.endpoint, s3.access_key, s3.secret_key, attempts=1)
    ask = {"RoleArn": "arn:aws:iam::000000000000:role/tests", "RoleSessionName": "tests"}
    if s3.name == "minio":
        assert client.assume_role(**ask)["Credentials"]["SessionToken"]
    else:
        with pytest.raises(Exception, match="AssumeRole"):
            client.assume_role(**ask)
