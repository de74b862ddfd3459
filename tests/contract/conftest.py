"""Fixtures of the contract tests. The server is the real binary, the S3 server is a real one.

Run:  python -m pytest tests/contract            EIDER_BIN=path says which binary (default: build/eider)

eider_binary   path of the binary under test.
start_eider    start_eider(env={}, args=[], expect_exit=False, lake=None, data=None) -> harness.eider_process.Eider.
               Starts `eider serve` with PATH and `env` as its whole environment, EIDER_DATA in a folder of its own
               and EIDER_LISTEN=127.0.0.1:0 unless given. Ask for more listeners with
               env={"EIDER_INGEST_LISTEN": "127.0.0.1:0", "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0"}; a value of None takes a
               variable away. expect_exit=True returns after the process has ended by itself. At the end of the test
               every server left must exit 0 on SIGTERM, leave no child and no sanitizer report.
               Eider: .url .ingest .snapshot .listener(name) .address(name) .get(path, base=) .post(path, base=, ...)
               .sql(text) .log_lines() .events(name) .stderr .stdout .pid .children() .stop(sig) .wait() .kill()
               .returncode .data .lake. The request methods have a time limit and do not follow redirects.
run_eider      run_eider(*args, env={}, cwd=None) -> CompletedProcess, for `config`, `version`, `--help`.
eider          one server per module: folder lake; main, ingest and snapshot listeners.
eider_s3       the same over an S3 lake (bucket of its own, prefix `lake`).
analytics      the default database of the session's server with an analytics listener (harness.analytics_client.Analytics);
               tests share it, and name their tables with `table`.
database       a hosted database of its own per module, on that server; `own_database` is one per test.
any_lake       `eider` and `eider_s3` in turn: a test that takes it runs twice.
s3             the session's S3 server (harness.s3_server.S3Server): .name .endpoint .access_key .secret_key .region .client()
               .make_bucket() .config(bucket) -> `s3_config` of the snapshot contract, .environment(bucket, prefix) ->
               variables for a lake in it, .keys(bucket, prefix), .uploads(bucket), .domain_endpoint (the bucket in
               front of the host name). It is versitygw; a test or a module with the marker `both_stores` runs once with
               it and once with MinIO, which goes for own_s3, tls_s3 and what is made of them too.
minio          the session's MinIO, where only it will do: .temporary_keys().
own_s3         an S3 server of this test alone, to be stopped and started: .stop() .start().
tls_s3         an S3 server of the session behind https; .ca_file is its authority.
s3_proxy       harness.fault_proxy.FaultProxy in front of `s3`, fresh per test: .endpoint .domain_endpoint .config(bucket)
               .requests(method=, key=, query=, status=) .count(...) .wait_for(n, ...) .forget() .clear(), faults .fail(status,
               times) .reset() .stall() -> .release(), .delay(seconds) .cut_body() .corrupt_body()
               .drop_answer() .before(function) .after(function), `with .refused():`.
               `key` is a regular expression on "bucket/key", faults take the same filters.
wait_until     wait_until(condition, deadline=10.0, message=None): the only way to wait.

A test that hangs is ended after TEST_DEADLINE seconds, unless it asks for `no_deadline`.
"""

import faulthandler
import itertools
import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness import eider_process
from harness.analytics_client import Analytics
from harness.eider_process import EiderFactory
from harness.fault_proxy import FaultProxy
from harness.fault_rig import Rig
from harness.lakes import FolderLake, S3Lake
from harness.s3_server import MinioServer, S3Server, self_signed_certificate
from harness.waiting import wait_until as wait_until_function

REPOSITORY = Path(__file__).resolve().parents[2]
TEST_DEADLINE = 300
PERSONALITY_LISTENERS = {
    "EIDER_INGEST_LISTEN": "127.0.0.1:0",
    "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
}


@pytest.fixture(autouse=True)
def test_deadline():
    def give_up(signum, frame):
        raise TimeoutError(f"the test took more than {TEST_DEADLINE} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TEST_DEADLINE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def no_deadline(test_deadline):
    """For tests that go through thousands of cases, each with deadlines of its own."""
    signal.alarm(0)
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def wait_until():
    return wait_until_function


@pytest.fixture(scope="session")
def eider_binary():
    path = Path(os.environ.get("EIDER_BIN") or REPOSITORY / "build" / "eider").resolve()
    assert os.access(path, os.X_OK), f"no server at {path}: build it, or set EIDER_BIN"
    return path


@pytest.fixture(scope="session")
def run_eider(eider_binary):
    def run(*args, env=None, cwd=None, timeout=30):
        return eider_process.run_eider(eider_binary, *args, env=env, cwd=cwd, timeout=timeout)

    return run


def _factory(binary, tmp_path_factory):
    return EiderFactory(binary, lambda: tmp_path_factory.mktemp("eider"))


@pytest.fixture
def start_eider(eider_binary, tmp_path_factory):
    factory = _factory(eider_binary, tmp_path_factory)
    yield factory
    factory.finish()


@pytest.fixture(scope="module")
def eider(eider_binary, tmp_path_factory):
    factory = _factory(eider_binary, tmp_path_factory)
    yield factory(PERSONALITY_LISTENERS, lake=FolderLake())
    factory.finish()


@pytest.fixture(scope="module")
def eider_s3(eider_binary, tmp_path_factory, s3):
    factory = _factory(eider_binary, tmp_path_factory)
    yield factory(PERSONALITY_LISTENERS, lake=S3Lake(s3, s3.make_bucket("lake")))
    factory.finish()


# Little memory for each of many databases, and files that nobody else looks at.
ANALYTICS = {"EIDER_ANALYTICS_LISTEN": "127.0.0.1:0", "DUCKDB_MEMORY_LIMIT": "512MB", "DUCKDB_WORKER_THREADS": "2"}


@pytest.fixture(scope="session")
def analytics(eider_binary, tmp_path_factory):
    factory = _factory(eider_binary, tmp_path_factory)
    yield Analytics(factory(ANALYTICS))
    factory.finish()


@pytest.fixture(scope="module")
def database(analytics):
    return analytics.make()


@pytest.fixture
def own_database(analytics):
    made = analytics.make()
    yield made
    made.drop()


@pytest.fixture(scope="module", params=["folder", "s3"])
def any_lake(request):
    return request.getfixturevalue("eider" if request.param == "folder" else "eider_s3")


DOMAIN = "s3.localhost"  # curl finds every name below localhost on the loopback, without a name service
STORES = {server.name: server for server in (S3Server, MinioServer)}


def pytest_generate_tests(metafunc):
    """Parametrizes the S3 fixtures of tests marked `both_stores`. The sanitizers need not see the second server."""
    kinds = [S3Server.name, pytest.param(MinioServer.name, marks=pytest.mark.once)]
    if metafunc.definition.get_closest_marker("both_stores"):
        for name, scope in (("s3", "session"), ("own_s3", "function"), ("tls_s3", "session")):
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, kinds, indirect=True, scope=scope)


def _kind(request):
    return getattr(request, "param", S3Server.name)


@pytest.fixture(scope="session")
def stores(tmp_path_factory):
    """stores(name, tls=False) -> a server that is started when it is first asked for and kept to the end."""
    started = {}

    def get(name, tls=False):
        if (name, tls) not in started:
            folder = tmp_path_factory.mktemp(name)
            certificate = self_signed_certificate(folder) if tls else None
            started[name, tls] = STORES[name](folder, tls=certificate, domain=DOMAIN)
        return started[name, tls]

    yield get
    for server in started.values():
        server.stop()


@pytest.fixture(scope="session")
def s3(request, stores):
    return stores(_kind(request))


@pytest.fixture(scope="session")
def minio(stores):
    return stores("minio")


@pytest.fixture(scope="session")
def tls_s3(request, stores):
    return stores(_kind(request), tls=True)


@pytest.fixture
def own_s3(request, tmp_path):
    server = STORES[_kind(request)](tmp_path / "own-s3")
    yield server
    server.stop()


@pytest.fixture
def s3_proxy(s3):
    proxy = FaultProxy(s3.port)
    proxy.config = lambda bucket: s3.config(bucket, proxy.endpoint)
    proxy.domain_endpoint = f"http://{DOMAIN}:{proxy.port}"
    yield proxy
    proxy.close()


@pytest.fixture
def ask(eider):
    """ask(sql, headers=None, query="", **fields) -> the answer of POST /query on the main listener."""

    def post(sql, headers=None, query="", **fields):
        return eider.post(f"/query{query}", json={"sql": sql, **fields}, headers=headers)

    return post


_table_numbers = itertools.count(1)


@pytest.fixture
def table(request):
    """A table name that no other test uses, so that tests can share a server."""
    stem = "".join(c if c.isalnum() else "_" for c in request.node.originalname.removeprefix("test_"))
    return f"{stem[:48]}_{next(_table_numbers)}"

# ---- a server under the shim that counts and breaks its calls (harness.fault_rig) ----


@pytest.fixture
def rig(eider_binary, tmp_path):
    made = Rig(eider_binary, tmp_path, plan=[])
    yield made
    made.close()


@pytest.fixture
def s3_rig(eider_binary, tmp_path, s3, s3_proxy):
    lake = S3Lake(s3, s3.make_bucket("promises"), "lake", s3_proxy.endpoint)
    made = Rig(eider_binary, tmp_path, lake, plan=[])
    made.proxy = s3_proxy
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 32 MiB, or the reason why there is none."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
