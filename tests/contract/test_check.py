"""`eider check`: one line for each thing looked at, advice for what is wrong, and nothing left behind."""

import email.utils
import re
import socket
import subprocess
import time

import pytest

from harness.eider_process import clean_environment
from harness.ingest_client import accepted, post_batch
from harness.lakes import FolderLake, S3Lake
from harness.s3_server import S3Server

pytestmark = pytest.mark.once  # servers that are started and ended, again and again

FOLDER_LINES = ["settings", "listeners", "data folder", "tokens and keys", "backup folder"]
FOLDER_LINES += ["descriptors", "memory", "query engine", "query process"]
FOLDER_LINES += ["authorities", "lake"]
STORE_LINES = [f"store: {what}" for what in ("reach", "write", "read", "etag", "list", "create-only", "races", "delete")]
S3_LINES = ["store: compare", "store: checksum"]
LINE = re.compile(r"(ok  |warn|FAIL)  (.{18,}?)  (\S.*)")


class Report:
    """What one run has said: .verdicts and .texts by the name of the thing."""

    def __init__(self, done):
        self.text = done.stdout
        self.code = done.returncode
        assert done.stderr == "", done.stderr
        *lines, self.summary = done.stdout.splitlines()
        found = [LINE.fullmatch(line) for line in lines]
        assert all(found), done.stdout
        self.verdicts = {match[2].strip(): match[1].strip() for match in found}
        self.texts = {match[2].strip(): match[3] for match in found}
        assert len(self.texts) == len(lines), "a thing is told twice"
        counts = [list(self.verdicts.values()).count(verdict) for verdict in ("ok", "warn", "FAIL")]
        assert [int(number) for number in re.findall(r"\d+", self.summary)] == counts
        assert self.code == (1 if counts[2] else 0)

    def failed(self):
        return {name for name, verdict in self.verdicts.items() if verdict == "FAIL"}

    def warned(self):
        return {name for name, verdict in self.verdicts.items() if verdict == "warn"} - {"user"}  # tests may be root

    def failure(self, name, *words):
        """The one failure is this, and its line holds all of the words."""
        assert self.failed() == {name}, self.text
        return self.says(name, *words)

    def warning(self, name, *words):
        assert not self.failed() and self.warned() == {name}, self.text
        return self.says(name, *words)

    def says(self, name, *words):
        for word in words:
            assert word in self.texts[name], f"{word} is not in: {self.texts[name]}"
        return self


@pytest.fixture
def check(run_eider, tmp_path):
    """check(env={}, *arguments) runs in an empty folder with every port free."""

    def run(env=None, *arguments):
        folder = tmp_path / "here"
        folder.mkdir(exist_ok=True)
        settings = {"EIDER_LISTEN": "127.0.0.1:0", **(env or {})}
        return Report(run_eider("check", *arguments, env=settings, cwd=folder, timeout=120))

    run.folder = tmp_path / "here"
    return run


# ---- when all is well ----
def test_a_folder_lake_is_well_and_nothing_is_left(check):
    report = check()
    assert not report.failed() and not report.warned(), report.text
    assert [name for name in report.verdicts if name != "user"] == FOLDER_LINES + STORE_LINES
    report.says("store: races", "32 writers", "exactly one")
    assert list(check.folder.iterdir()) == []


@pytest.mark.once
def test_folders_that_were_there_stay(check, start_eider, tmp_path, table):
    server = start_eider({"EIDER_INGEST_LISTEN": "127.0.0.1:0"}, lake=FolderLake())
    accepted(server, post_batch(server, table, [{"a": 1}]))
    server.stop()
    before = sorted(server.data.rglob("*"))
    assert check({"EIDER_DATA": str(server.data)}).code == 0
    assert sorted(server.data.rglob("*")) == before
    empty = tmp_path / "empty"
    empty.mkdir()
    assert check({"EIDER_LAKE": str(empty), "EIDER_DATA": str(tmp_path / "a" / "b" / "c")}).code == 0
    assert empty.is_dir() and not (tmp_path / "a").exists()


@pytest.mark.both_stores
@pytest.mark.parametrize("prefix", ["lake/deep", ""])
def test_a_bucket_is_well_and_nothing_is_left(check, s3, s3_proxy, prefix):
    bucket = s3.make_bucket()
    report = check(s3.environment(bucket, prefix, s3_proxy.endpoint))
    assert not report.failed() and not report.warned(), report.text
    assert {name for name in report.verdicts if name != "user"} == {*FOLDER_LINES, *STORE_LINES, *S3_LINES}
    report.says("store: reach", bucket, s3_proxy.endpoint, "us-east-1", "in the path")
    assert s3.keys(bucket) == []
    below = f"{bucket}/{prefix}/.eider-check/".replace("//", "/")
    written = s3_proxy.requests("PUT")
    assert len(written) > 32 and all(one.key.startswith(below) for one in written)


@pytest.mark.once
def test_the_settings_of_a_file_count(check, tmp_path):
    path = tmp_path / "eider.conf"
    path.write_text("EIDER_INGEST_LISTEN=nonsense\n")
    for arguments in ([str(path)], ["--config", str(path)]):
        check(None, *arguments).failure("listeners", "EIDER_INGEST_LISTEN")


# ---- settings ----
@pytest.mark.parametrize(
    "env, words",
    [
        ({"EIDER_LISTN": "127.0.0.1:0"}, ["EIDER_LISTN is not a setting; did you mean EIDER_LISTEN?"]),
        ({"EIDER_S3_REGION": "x"}, ["did you mean S3_REGION?"]),
        ({"EIDER_BODY_MAX": "much"}, ["EIDER_BODY_MAX", "'much'"]),
        ({"S3_FORCE_PATH_STYLE": "perhaps"}, ["S3_FORCE_PATH_STYLE", "'perhaps'"]),
    ],
)
def test_settings_that_do_not_load_are_the_only_failure(check, env, words):
    report = check(env).failure("settings", *words)
    assert set(report.verdicts) == {"settings"}
    assert list(check.folder.iterdir()) == []


def test_a_file_that_is_not_there(check, tmp_path):
    path = str(tmp_path / "nowhere.conf")
    check(None, path).failure("settings", path)


def test_two_files_are_wrong_arguments(run_eider, tmp_path):
    result = run_eider("check", "one", "two", cwd=tmp_path)
    assert result.returncode == 2 and "'two'" in result.stderr and result.stdout == ""


# ---- the machine ----
@pytest.mark.once
def test_an_address_in_use(check):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        check({"EIDER_SNAPSHOT_LISTEN": address}).failure("listeners", "EIDER_SNAPSHOT_LISTEN", address, "in use")


@pytest.mark.once
def test_exposure(check):
    check({"EIDER_LISTEN": "0.0.0.0:0", "EIDER_AUTH": "off"}).failure("listeners", "EIDER_INSECURE=1")
    assert "exposure" not in check({"EIDER_LISTEN": "0.0.0.0:0"}).verdicts
    check({"EIDER_LISTEN": "0.0.0.0:0", "EIDER_INSECURE": "1"}).warning("exposure", "network")


def test_a_data_folder_that_another_server_uses(check, start_eider):
    server = start_eider(lake=FolderLake())
    report = check({"EIDER_DATA": str(server.data)})
    report.failure("data folder", str(server.data), "another server", "EIDER_DATA")
    assert "query process" not in report.verdicts and report.verdicts["store: races"] == "ok"
    assert server.get("/health/ready").status_code == 200


def test_files_of_tokens_and_keys_that_are_wrong(check, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("nonsense\n")
    check({"EIDER_TOKENS_FILE": str(tokens)}).failure("tokens and keys", "line 1", "is no token")
    check({"EIDER_JWT_KEYS": str(tmp_path / "missing")}).failure("tokens and keys", "missing")


def test_a_backup_folder_that_cannot_be_made(check, tmp_path):
    (tmp_path / "file").write_text("")
    check({"EIDER_BACKUP_FOLDER": str(tmp_path / "file" / "folder")}).failure("backup folder")
    assert check({"EIDER_BACKUP_FOLDER": str(tmp_path / "elsewhere" / "folder")}).verdicts["backup folder"] == "ok"
    assert not (tmp_path / "elsewhere").exists()


def test_a_data_folder_that_cannot_be_made(check, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    report = check({"EIDER_DATA": str(blocked / "data")})
    assert report.failed() == {"data folder", "lake"}
    report.says("data folder", str(blocked))


@pytest.mark.once
def test_memory_that_is_not_there_or_too_little(check):
    check({"EIDER_MEMORY_TOTAL": "99999GB"}).warning("memory", "EIDER_MEMORY_TOTAL is more than there is")
    report = check({"EIDER_MEMORY_TOTAL": "2GB", "SIDECAR_MAX_CONCURRENT_QUERIES": "60"})
    report.warning("memory", "78 at once", "SIDECAR_MAX_CONCURRENT_QUERIES")


@pytest.mark.once
def test_few_descriptors(eider_binary, tmp_path):
    command = ["bash", "-c", f"ulimit -n 1024; exec '{eider_binary}' check"]
    env = clean_environment({"EIDER_LISTEN": "127.0.0.1:0"})
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    Report(done).warning("descriptors", "1024", "LimitNOFILE")


# ---- a store that cannot be used ----
NOWHERE = "http://127.0.0.1:1"


@pytest.mark.both_stores
@pytest.mark.parametrize(
    "change, words",
    [
        ({"S3_SECRET_KEY": "wrong-secret-canary"}, ["SignatureDoesNotMatch", "Correct S3_SECRET_KEY"]),
        ({"S3_ACCESS_KEY": "unknown"}, ["the access key is not known", "Correct S3_ACCESS_KEY"]),
        ({"EIDER_LAKE": "s3://no-such-bucket/x"}, ["NoSuchBucket", "Create the bucket", "EIDER_LAKE"]),
        ({"S3_SESSION_TOKEN": "token-canary"}, ["the session token is not valid", "S3_SESSION_TOKEN"]),
    ],
)
def test_what_the_store_refuses(check, s3, change, words):
    report = check({**s3.environment(s3.make_bucket()), **change}).failure("store: reach", *words)
    assert "canary" not in report.text and s3.secret_key not in report.text
    assert "store: write" not in report.verdicts, "the others would say the same"


@pytest.mark.parametrize(
    "change, words",
    [
        ({"S3_ENDPOINT": NOWHERE}, [f"cannot connect to {NOWHERE}: Connection refused", "Is the store running", "S3_ENDPOINT"]),
        ({"S3_ENDPOINT": "http://no-such-host.invalid"}, ["host of", "is not known", "Correct S3_ENDPOINT"]),
        ({"S3_ENDPOINT": "http://169.254.169.254"}, ["may not be contacted", "metadata"]),
        ({"S3_REGION": "eu-west-9"}, ['is in the region "us-east-1", not "eu-west-9"', "Set S3_REGION"]),
    ],
)
def test_what_is_wrong_on_the_way(check, s3, change, words):
    check({**s3.environment(s3.make_bucket()), **change}).failure("store: reach", *words)


def test_https_to_a_port_for_http(check, s3):
    environment = s3.environment(s3.make_bucket(), endpoint=s3.endpoint.replace("http:", "https:"))
    check(environment).failure("store: reach", "does not speak TLS", "begin with http://")


def test_http_that_is_not_s3(check, start_eider, s3):
    environment = s3.environment(s3.make_bucket(), endpoint=start_eider().url)
    check(environment).failure("store: reach", "answers with status 404, and not as S3 does", "another service")


@pytest.mark.once
def test_a_certificate_that_is_not_trusted(check, tls_s3, tmp_path):
    environment = tls_s3.environment(tls_s3.make_bucket())
    check(environment).failure("store: reach", "certificate", "not trusted", "Set EIDER_CA_FILE")
    report = check({**environment, "EIDER_CA_FILE": str(tls_s3.ca_file)})
    assert report.code == 0 and str(tls_s3.ca_file) in report.texts["authorities"]
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    report = check({**environment, "EIDER_CA_FILE": str(empty)})
    assert report.failed() == {"authorities", "store: reach"}
    report.says("authorities", "EIDER_CA_FILE", "holds no certificate", "PEM")
    report = check({**environment, "EIDER_CA_FILE": str(tmp_path / "nowhere.pem")})
    report.failure("authorities", "EIDER_CA_FILE", "nowhere.pem")


def date_in(seconds):
    return {"Date": email.utils.formatdate(time.time() + seconds, usegmt=True)}


@pytest.mark.once
def test_clocks_that_differ(check, s3, s3_proxy):
    """Within what the store tolerates it is a warning; beyond, nothing goes."""
    environment = s3.environment(s3.make_bucket(), endpoint=s3_proxy.endpoint)
    s3_proxy.fail(403, code="RequestTimeTooSkewed", headers=date_in(300))
    check(environment).warning("store: clock", "seconds behind the store's", "NTP")
    s3_proxy.fail(403, times=99, code="RequestTimeTooSkewed", headers=date_in(86400))
    check(environment).failure("store: reach", "RequestTimeTooSkewed", "Set this machine's clock")


@pytest.mark.once
def test_a_store_that_is_too_busy(check, s3, s3_proxy):
    s3_proxy.fail(503, times=99, code="SlowDown")
    check(s3.environment(s3.make_bucket(), endpoint=s3_proxy.endpoint)).failure("store: reach", "503", "SlowDown")


def test_keys_that_may_only_read(check, minio):
    """A right that is missing is told by the step that needs it."""
    statement = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": ["arn:aws:s3:::*"]}
    keys = minio.temporary_keys({"Version": "2012-10-17", "Statement": [statement]})
    environment = with_keys(minio.environment(minio.make_bucket()), keys)
    report = check(environment).failure("store: write", "AccessDenied", "s3:PutObject")
    assert report.verdicts["store: reach"] == "ok" and "store: races" not in report.verdicts


def with_keys(environment, keys):
    names = {"accessKeyId": "S3_ACCESS_KEY", "secretAccessKey": "S3_SECRET_KEY", "sessionToken": "S3_SESSION_TOKEN"}
    return {**environment, **{names[field]: value for field, value in keys.items()}}


def test_temporary_keys(check, minio):
    keys = minio.temporary_keys()
    environment = minio.environment(minio.make_bucket())
    assert check(with_keys(environment, keys)).code == 0
    check(with_keys(environment, {**keys, "sessionToken": ""})).failure("store: reach", "session token")


def test_temporary_keys_that_have_expired(check, s3, s3_proxy):
    s3_proxy.fail(400, times=99, code="ExpiredToken")
    environment = s3.environment(s3.make_bucket(), endpoint=s3_proxy.endpoint)
    check(environment).failure("store: reach", "the session token has expired", "Get new temporary keys")


# ---- a store that does not do what it should ----
@pytest.fixture
def behind(check, s3, s3_proxy):
    """Runs the check through the fault proxy, on a bucket that must be empty afterwards."""
    bucket = s3.make_bucket()

    def run(leaves=()):
        report = check(s3.environment(bucket, "lake", s3_proxy.endpoint))
        assert sorted(key.rpartition("-")[2] for key in s3.keys(bucket)) == sorted(leaves)
        return report

    return run


def test_a_store_where_several_writers_win(behind, s3_proxy):
    s3_proxy.fail(200, times=3, method="PUT", key="-race-2$", skip=4)
    behind().failure("store: races", "in round 2", "of 32 create-only puts", "Do not use this store")


def test_a_store_that_keeps_another_one_s_bytes(behind, s3_proxy):
    """One says that it won, and somebody else's object is there."""
    s3_proxy.fail(412, times=999, code="PreconditionFailed", method="PUT", key="race-1$", skip=1)
    s3_proxy.corrupt_body(times=1, method="GET", key="race-1$")
    behind().failure("store: races", "another one's bytes")


@pytest.mark.once
def test_a_store_that_refuses_every_writer(behind, s3_proxy):
    s3_proxy.fail(412, times=999, code="PreconditionFailed", method="PUT", key="race-1$")
    behind().failure("store: races", "0 of 32")


def test_a_store_that_overwrites(behind, s3_proxy):
    s3_proxy.fail(200, times=1, method="PUT", key="-object$", skip=1)
    behind().failure("store: create-only", "of an existing object succeeded", "Do not use this store")


def test_a_store_that_ignores_if_match(behind, s3_proxy):
    s3_proxy.fail(200, times=1, method="PUT", key="-object$", skip=2)
    behind().warning("store: compare", "200 to a put of an object")


@pytest.mark.once
def test_a_store_that_ignores_checksums(behind, s3_proxy):
    s3_proxy.fail(200, times=1, method="PUT", key="-checksum$")
    behind().warning("store: checksum", "accepted", "https")


@pytest.mark.once
def test_a_store_that_shows_old_bytes(behind, s3_proxy):
    s3_proxy.corrupt_body(times=1, method="GET", key="-object$")
    behind().failure("store: read", "another text", "Queries would miss")


@pytest.mark.once
def test_a_store_that_does_not_show_what_was_written(behind, s3_proxy):
    s3_proxy.fail(404, times=1, code="NoSuchKey", method="GET", key="-object$")
    behind().failure("store: read", "does not exist", "Queries would miss")


@pytest.mark.once
def test_a_store_whose_etags_change(behind, s3_proxy):
    headers = {"ETag": '"another"'}
    s3_proxy.fail(200, times=1, method="HEAD", key="-object$", headers=headers, length=15, skip=1)
    behind().warning("store: etag", '"another"')


def test_a_store_that_lists_late(behind, s3_proxy, s3):
    s3_proxy.fail(200, times=1, query="list-type", skip=1, body="<ListBucketResult></ListBucketResult>")
    behind().failure("store: list", "not in the list")


def test_what_cannot_be_deleted_is_named(behind, s3_proxy):
    s3_proxy.fail(403, times=99, code="AccessDenied", method="DELETE")
    left = ["object", *map(str, range(1, 9))]  # race-1 to race-8
    behind(left).warning("store: delete", "lake/.eider-check/", "s3:DeleteObject")


@pytest.mark.once
def test_a_failure_leaves_nothing(behind, s3_proxy):
    """Also what was written before, and after, is removed."""
    s3_proxy.corrupt_body(times=1, method="GET", key="-object$")
    s3_proxy.fail(200, times=1, method="PUT", key="-object$", skip=1)
    report = behind()
    assert report.failed() == {"store: read", "store: create-only"}


@pytest.mark.once
def test_other_data_is_not_touched(check, s3):
    bucket = s3.make_bucket()
    lake = S3Lake(s3, bucket)
    for key in ("data/t/year=2025/month=01/day=01/x.parquet", ".eider-check/somebody-else-s"):
        lake.write(key, b"bytes")
    assert check(s3.environment(bucket, "lake")).code == 0
    assert lake.keys() == [".eider-check/somebody-else-s", "data/t/year=2025/month=01/day=01/x.parquet"]


@pytest.mark.once
def test_the_bucket_in_the_host_name(check, s3):
    environment = s3.environment(s3.make_bucket(), endpoint=s3.domain_endpoint)
    report = check({**environment, "S3_FORCE_PATH_STYLE": "false"})
    assert report.code == 0
    report.says("store: reach", "in the host name")


@pytest.mark.once
def test_a_store_without_host_names(check, tmp_path):
    """The usual mistake: the store takes the bucket's name for a part of its own, and looks for the first folder."""
    server = S3Server(tmp_path / "plain")
    try:
        environment = server.environment(server.make_bucket(), endpoint=f"http://localhost:{server.port}")
        report = check({**environment, "S3_FORCE_PATH_STYLE": "false"})
        assert report.failed() == {"store: reach"}
        report.says("store: reach", "S3_FORCE_PATH_STYLE=true")
    finally:
        server.stop()
