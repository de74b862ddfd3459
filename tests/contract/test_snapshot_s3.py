"""Between the server and the request's S3: failures, retries, addresses, credentials. Checks 18, 36, 38."""

import concurrent.futures
import json
import socket
import time

import pyarrow
import pytest

from harness.eider_process import EiderFactory
from harness.fault_proxy import FaultProxy
from harness.snapshot_client import Sidecar, column, error_of

pytestmark = pytest.mark.both_stores

COLUMNS = [column("a", "BIGINT")]
TABLES = {"t": "x.parquet"}


@pytest.fixture(scope="module")
def direct(eider, s3):
    sidecar = Sidecar(eider.snapshot, s3)
    sidecar.put_table("x.parquet", pyarrow.table({"a": [1, 2]}))
    return sidecar


@pytest.fixture
def through(direct, s3_proxy):
    """The same bucket behind the fault proxy."""
    return Sidecar(direct.base, direct.s3, direct.bucket, s3_proxy.endpoint)


def slots_are_free(sidecar):
    stats = sidecar.get("/snapshot-queue-stats").json()
    return (stats["running"], stats["queued"]) == (0, 0)


def no_secrets(sidecar, text):
    return sidecar.config["secretAccessKey"] not in text


# ---- 18: writing ----
@pytest.mark.parametrize(
    "change",
    [
        {"secretAccessKey": "wrong-secret-canary"},
        {"accessKeyId": "unknown-key-canary"},
        {"bucket": "no-such-bucket-here"},
        {"endpoint": "http://127.0.0.1:1"},
        {"endpoint": "http://no-such-host.invalid:9000"},
        {"endpoint": "https://127.0.0.1:1"},
    ],
)
def test_a_failing_store_is_502_and_wrong_keys_are_403(eider, direct, change):
    config = {**direct.config, **change}
    status = 403 if change.keys() & {"accessKeyId", "secretAccessKey"} else 502
    for error in (
        error_of(direct.snapshot("fail.parquet", [{"a": 1}], COLUMNS, s3_config=config), status),
        error_of(direct.query("SELECT * FROM t", TABLES, s3_config=config), status),
    ):
        assert no_secrets(direct, error) and "canary" not in error.replace("unknown-key-canary", "")
    assert slots_are_free(direct)
    assert "wrong-secret-canary" not in eider.stderr
    direct.alive()


def test_tls_to_a_plain_port_is_502(direct):
    config = {**direct.config, "endpoint": direct.s3.endpoint.replace("http:", "https:")}
    error_of(direct.snapshot("fail.parquet", [{"a": 1}], COLUMNS, s3_config=config), 502)


@pytest.mark.once
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"])
def test_certificates_are_verified_in_both_directions(eider, start_eider, tls_s3, variable):
    """Item 21: an unknown authority is refused for queries too; the bundle makes it known to both."""
    untrusting = Sidecar(eider.snapshot, tls_s3)
    untrusting.put_table("x.parquet", pyarrow.table({"a": [1, 2]}))
    error_of(untrusting.snapshot("y.parquet", [{"a": 1}], COLUMNS), 502)
    error_of(untrusting.query("SELECT * FROM t", TABLES), 502)
    assert untrusting.keys() == ["x.parquet"]
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", variable: str(tls_s3.ca_file)})
    trusting = Sidecar(server.snapshot, tls_s3, untrusting.bucket)
    trusting.write("y.parquet", [{"a": 1}], COLUMNS)
    assert trusting.rows("SELECT sum(a) FROM t", TABLES) == [(3,)]


@pytest.mark.parametrize("status", [500, 502, 503])
def test_twice_a_server_error_then_success(through, s3_proxy, status):
    s3_proxy.fail(status, times=2, method="PUT")
    through.write("retry.parquet", [{"a": 1}], COLUMNS)
    assert s3_proxy.count(method="PUT") == 3


def test_three_server_errors_are_502(through, s3_proxy):
    s3_proxy.fail(500, times=20, method="PUT")
    error = error_of(through.snapshot("never.parquet", [{"a": 1}], COLUMNS), 502)
    assert no_secrets(through, error)
    assert s3_proxy.count(method="PUT") == 3
    assert "never.parquet" not in through.keys()
    assert slots_are_free(through)
    s3_proxy.clear()
    through.write("after.parquet", [{"a": 1}], COLUMNS)


@pytest.mark.parametrize("status, code", [(403, "AccessDenied"), (404, "NoSuchBucket"), (400, "InvalidRequest")])
def test_refusals_are_not_tried_again(through, s3_proxy, status, code):
    s3_proxy.fail(status, times=5, code=code, method="PUT")
    error_of(through.snapshot("refused.parquet", [{"a": 1}], COLUMNS), 403 if status == 403 else 502)
    assert s3_proxy.count(method="PUT") == 1


def test_a_reset_connection_is_tried_again(through, s3_proxy):
    s3_proxy.reset(times=2, method="PUT")
    through.write("reset.parquet", [{"a": 1}], COLUMNS)
    assert s3_proxy.count(method="PUT") == 3


def test_a_lost_answer_is_tried_again(through, s3_proxy):
    """The object was stored; the second PUT stores the same."""
    s3_proxy.drop_answer(times=1, method="PUT")
    through.write("lost.parquet", [{"a": 1}], COLUMNS)
    assert s3_proxy.count(method="PUT") == 2


def test_refused_for_a_while(through, s3_proxy):
    with s3_proxy.refused():
        error_of(through.snapshot("r.parquet", [{"a": 1}], COLUMNS), 502)
        error_of(through.query("SELECT * FROM t", TABLES), 502)
    assert through.rows("SELECT sum(a) FROM t", TABLES) == [(3,)]


# ---- 18: reading ----
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_reading_survives_two_failures(through, s3_proxy, method):
    s3_proxy.fail(503, times=2, method=method)
    assert through.rows("SELECT sum(a) FROM t", TABLES) == [(3,)]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status, code", [(500, "InternalError"), (403, "AccessDenied")])
def test_reading_gives_up(through, s3_proxy, method, status, code):
    s3_proxy.fail(status, times=50, code=code, method=method)
    error_of(through.query("SELECT sum(a) FROM t", TABLES), 403 if status == 403 else 502)
    s3_proxy.clear()
    assert through.rows("SELECT sum(a) FROM t", TABLES) == [(3,)]


def test_a_cut_body_is_not_data(through, s3_proxy):
    s3_proxy.cut_body(times=1, method="GET")
    assert through.rows("SELECT sum(a) FROM t", TABLES) == [(3,)]
    through.put_table("uncached.parquet", pyarrow.table({"a": [4, 5]}))
    s3_proxy.cut_body(times=50, method="GET")
    error_of(through.query("SELECT sum(a) FROM t", {"t": "uncached.parquet"}), 502)


def test_an_object_that_changes_while_it_is_read(through, s3_proxy):
    """The ranges of one query are of one version of the object; the store's 412 is not the caller's fault."""
    s3_proxy.fail(412, times=50, code="PreconditionFailed", method="GET")
    answer = through.query("SELECT sum(a) FROM t", TABLES)
    error_of(answer, 409, 502)


def test_a_pattern_whose_list_fails(through, s3_proxy):
    s3_proxy.fail(500, times=50, query="list-type")
    error_of(through.query("SELECT * FROM t", {"t": "*.parquet"}), 502)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(through, s3_proxy, status):
    with socket.create_server(("127.0.0.1", 0)) as evil:
        headers = {"Location": f"http://127.0.0.1:{evil.getsockname()[1]}/{through.bucket}/x.parquet"}
        s3_proxy.fail(status, times=100, code="TemporaryRedirect", headers=headers)
        error_of(through.query("SELECT * FROM t", TABLES), 502)
        error_of(through.snapshot("y.parquet", [{"a": 1}], COLUMNS), 502)
        evil.setblocking(False)
        with pytest.raises(BlockingIOError):
            evil.accept()


# ---- time-outs ----
@pytest.fixture(scope="module")
def hasty(eider_binary, tmp_path_factory, s3):
    """A server whose requests have two seconds."""
    factory = EiderFactory(eider_binary, lambda: tmp_path_factory.mktemp("hasty"))
    server = factory(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "EIDER_QUERY_TIMEOUT_MS": 2000,
            "EIDER_SNAPSHOT_TIMEOUT_MS": 2000,
        }
    )
    yield server
    factory.finish()


def timed(call, *args, **options):
    started = time.monotonic()
    answer = call(*args, **options)
    return answer, time.monotonic() - started


def test_a_stalled_upload_is_504(hasty, s3, s3_proxy):
    sidecar = Sidecar(hasty.snapshot, s3, endpoint=s3_proxy.endpoint)
    stall = s3_proxy.stall(times=10, method="PUT")
    answer, elapsed = timed(sidecar.snapshot, "late.parquet", [{"a": 1}], COLUMNS)
    error_of(answer, 504)
    assert 1.8 < elapsed < 4
    assert slots_are_free(sidecar)
    stall.release()
    s3_proxy.clear()
    sidecar.write("next.parquet", [{"a": 1}], COLUMNS)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_stalled_read_is_504(hasty, s3, s3_proxy, method):
    sidecar = Sidecar(hasty.snapshot, s3, endpoint=s3_proxy.endpoint)
    sidecar.put_table("x.parquet", pyarrow.table({"a": [1]}))
    s3_proxy.stall(times=10, method=method)
    answer, elapsed = timed(sidecar.query, "SELECT * FROM t", TABLES)
    error_of(answer, 504)
    assert 1.8 < elapsed < 4
    s3_proxy.clear()
    assert sidecar.rows("SELECT * FROM t", TABLES) == [(1,)]


# ---- 36: credentials and endpoints are the request's ----
def test_each_request_uses_its_own_keys_and_endpoint(direct, s3):
    """Sixteen requests at once over four configurations: what each endpoint saw carries that endpoint's key only."""
    proxies = [FaultProxy(s3.port) for _ in range(4)]
    try:
        callers = [Sidecar(direct.base, s3, direct.bucket, proxy.endpoint) for proxy in proxies]
        for number, caller in enumerate(callers[1:], 1):
            caller.config = {**caller.config, "accessKeyId": f"key-{number}", "secretAccessKey": f"secret-{number}"}

        def call(number):
            caller = callers[number % 4]
            if number % 8 < 4:
                return caller.query("SELECT sum(a) AS v FROM t", TABLES)
            return caller.snapshot(f"own-{number}.parquet", [{"a": number}], COLUMNS)

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(call, range(32)))
        for number, answer in enumerate(answers):
            assert answer.status_code == (200 if number % 4 == 0 else 403), answer.text
        for number, proxy in enumerate(proxies):
            key = s3.access_key if number == 0 else f"key-{number}"
            seen = {one.headers["authorization"].split("Credential=")[1].split("/")[0] for one in proxy.requests()}
            assert seen == {key}
    finally:
        for proxy in proxies:
            proxy.close()


def test_what_one_may_read_another_may_not(through, s3_proxy):
    """A cached object is served only to who may read it: wrong keys fail right after right keys succeeded."""
    assert through.rows("SELECT sum(a) FROM t", TABLES) == [(3,)]
    for change in ({"secretAccessKey": "wrong"}, {"accessKeyId": "nobody"}):
        error_of(through.query("SELECT sum(a) FROM t", TABLES, s3_config={**through.config, **change}), 403)
    assert through.rows("SELECT sum(a) FROM t", TABLES) == [(3,)]


def test_the_environment_s_keys_are_never_used(start_eider, s3, s3_proxy):
    """Items 20 and 22: neither keys nor a session token of the server's environment reach a request's store."""
    server = start_eider(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "AWS_ACCESS_KEY_ID": "environment-key",
            "AWS_SECRET_ACCESS_KEY": "environment-secret",
            "AWS_SESSION_TOKEN": "environment-token",
        }
    )
    sidecar = Sidecar(server.snapshot, s3, endpoint=s3_proxy.endpoint)
    sidecar.write("x.parquet", [{"a": 1}], COLUMNS)
    assert sidecar.rows("SELECT a FROM t", TABLES) == [(1,)]
    for one in s3_proxy.requests():
        assert "environment" not in json.dumps(one.headers)
        assert "x-amz-security-token" not in one.headers


# ---- 38: region and addressing ----
@pytest.mark.parametrize("region, expected", [(None, "us-east-1"), ("eu-central-1", "eu-central-1")])
def test_region_in_the_signature(direct, s3_proxy, region, expected):
    config = {**s3_proxy.config(direct.bucket), "region": region}
    if region is None:
        del config["region"]
    direct.snapshot("region.parquet", [{"a": 1}], COLUMNS, s3_config=config)
    direct.query("SELECT * FROM t", TABLES, s3_config=config)
    assert {one.method for one in s3_proxy.requests()} >= {"PUT", "HEAD"}
    for one in s3_proxy.requests():
        scope = one.headers["authorization"].split("Credential=")[1].split(",")[0]
        assert scope.split("/")[2:] == [expected, "s3", "aws4_request"]


@pytest.mark.parametrize("path_style", [None, True])
def test_the_bucket_is_in_the_path(through, s3_proxy, path_style):
    if path_style is not None:
        through.config["forcePathStyle"] = path_style
    through.write("style.parquet", [{"a": 1}], COLUMNS)
    (upload,) = s3_proxy.requests(method="PUT")
    assert upload.target == f"/{through.bucket}/style.parquet"
    assert upload.headers["host"] == s3_proxy.endpoint.removeprefix("http://")


def test_the_bucket_is_in_the_host_name(direct, s3_proxy):
    """*.localhost is the loopback for curl. The proxy answers by itself: its store need not know such names."""
    config = s3_proxy.config(direct.bucket)
    config |= {"endpoint": f"http://localhost:{s3_proxy.port}", "forcePathStyle": False}
    s3_proxy.fail(403, times=20, code="AccessDenied")
    error_of(direct.snapshot("dir/style b.parquet", [{"a": 1}], COLUMNS, s3_config=config), 403)
    error_of(direct.query("SELECT * FROM t", TABLES, s3_config=config), 403)
    assert s3_proxy.count(method="PUT") == 1 and s3_proxy.count(method="HEAD") >= 1
    assert s3_proxy.requests(method="PUT")[0].target == "/dir/style%20b.parquet"
    for one in s3_proxy.requests():
        assert one.headers["host"] == f"{direct.bucket}.localhost:{s3_proxy.port}"


def test_credentials_are_not_in_the_log(eider, direct):
    """Last of the module: all of the above went through this server."""
    for secret in (direct.s3.secret_key, "wrong-secret-canary", "secret-1", "secret-2", "secret-3", "AWS4-HMAC"):
        assert secret not in eider.stderr + eider.stdout
