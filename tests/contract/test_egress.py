"""Where requests may make the server go: the list of allowed endpoints, spellings of addresses, redirects, credentials."""

import contextlib
import ipaddress
import socket
import threading

import pytest

from harness.fault_proxy import read_body, read_header
from harness.lakes import S3Lake
from harness.snapshot_client import Sidecar, column, error_of

LISTENERS = {"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "EIDER_INGEST_LISTEN": "127.0.0.1:0"}
SETTING = "EIDER_ALLOWED_ENDPOINTS"


class Trap:
    """A listener on loopback that counts connections, keeps request headers and answers what it is told."""

    def __init__(self, status=404, fields=()):
        self.seen = []
        self.connections = 0
        self._answer = "\r\n".join([f"HTTP/1.1 {status} Trapped", *fields, "Content-Length: 0", "", ""]).encode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._run, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError), client, client.makefile("rb") as reader:
            while (head := read_header(reader)) is not None:
                read_body(reader, head.fields, to_end=False)
                self.seen.append(head)
                client.sendall(self._answer)


class Client:
    """Sends a query and a snapshot whose endpoint is what the test says."""

    def __init__(self, server):
        self.base = server.snapshot
        self._post = lambda path, body: server.post(path, server.snapshot, json=body, timeout=30)

    def answers(self, endpoint, **config):
        given = {"endpoint": endpoint, "bucket": "data", "accessKeyId": "client-key", "secretAccessKey": "client-secret"}
        given = {name: value for name, value in {**given, **config}.items() if value is not None}
        tables = [{"name": "t", "s3_path": "a.parquet"}]
        yield self._post("/query", {"sql": "SELECT * FROM t", "s3_config": given, "tables": tables})
        snapshot = {"table_name": "t", "s3_key": "a.parquet", "s3_config": given, "data": [{"a": 1}]}
        yield self._post("/snapshot", {**snapshot, "columns": [column("a", "BIGINT")]})


@pytest.fixture(scope="module")
def trap():
    with Trap() as one:
        yield one


def start(eider_binary, tmp_path_factory, **env):
    from harness.eider_process import EiderFactory

    factory = EiderFactory(eider_binary, lambda: tmp_path_factory.mktemp("egress"))
    return factory, factory({**LISTENERS, **env})


@pytest.fixture(scope="module")
def listed(eider_binary, tmp_path_factory, trap):
    """A server with a list that does not hold the trap's address."""
    entries = f"ok.example,*.ok.example,{socket.gethostname()}:{trap.port},198.51.100.7:{trap.port}"
    factory, server = start(eider_binary, tmp_path_factory, **{SETTING: entries})
    yield Client(server)
    factory.finish()


@pytest.fixture(scope="module")
def unlisted(eider):
    return Client(eider)


# ---- spellings (R3) ----
NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "2852039166",
    "0xA9FEA9FE",
    "0251.0376.0251.0376",
    "169.16689662",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::169.254.169.254]",
    "[2002:a9fe:a9fe::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "169.254.169.254.",
    "0.0.0.0",
    "[::]",
    "255.255.255.255",
    "224.0.0.1",
    "[ff02::1]",
    "100.100.100.200",
]
INSIDE = [
    "127.0.0.1",
    "127.1",
    "127.0.0.2",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "[fd00::1]",
    "240.0.0.1",
    "198.51.100.8",
    "8.8.8.8",
]


@pytest.mark.parametrize("host", NEVER)
@pytest.mark.parametrize("server", ["listed", "unlisted"])
def test_addresses_that_are_never_contacted(request, server, host, trap):
    client = request.getfixturevalue(server)
    before = trap.connections
    for answer in client.answers(f"http://{host}:{trap.port}"):
        error_of(answer, 400, 403)
    assert trap.connections == before


@pytest.mark.parametrize("host", INSIDE)
def test_addresses_off_the_list(listed, host, trap):
    before = trap.connections
    for answer in listed.answers(f"http://{host}:{trap.port}"):
        text = error_of(answer, 400, 403)
        assert answer.status_code == 400 or f"{host}:{trap.port}" in text or "[::ffff:" in host or "64:ff9b" in host
        assert answer.status_code == 400 or SETTING in text
    assert trap.connections == before


# ---- forms of endpoints (R4) ----
@pytest.mark.parametrize(
    "endpoint",
    ["https://ok.example@127.0.0.1:{port}", "http://ok.example:80@127.0.0.1:{port}", "http://127.0.0.1:{port}#ok.example"]
    + ["http://127.0.0.1:{port}?ok.example", "http://127.0.0.1:{port}/ok.example", "http://127.0.0.1:{port}\\@ok.example"]
    + ["http://ok.example.127.0.0.1:{port}", "http://ok.example.evil.com:{port}", "http://evilok.example", "http://ok.example:22"]
    + ["http://ok.example\r\nHost: 127.0.0.1", "http://ok.example%2f@127.0.0.1:{port}", "http://ök.example", "http://ok。example"]
    + ["http://ok.example%00.127.0.0.1", "http://ok.example.:{port}", "ftp://ok.example", "file:///etc/passwd", "//127.0.0.1:{port}"]
    + ["http://127.0.0.1:{port}:80", "http://[127.0.0.1]:{port}", "http://[::1", "http://:{port}", "http://127。0。0。1:{port}"],
)
def test_endpoints_made_to_be_misread(listed, trap, endpoint):
    before = trap.connections
    for answer in listed.answers(endpoint.format(port=trap.port)):
        error_of(answer, 400, 403)
    assert trap.connections == before


# ---- names (R5; answers that differ or are mixed: tests/unit/test_net_guard.c) ----
def test_a_listed_name_that_leads_inside(listed, trap):
    """This machine's name is on the list, the address it leads to is not; the client is not told which it is."""
    name = socket.gethostname()
    try:
        inside = {found[4][0] for found in socket.getaddrinfo(name, trap.port)}
    except OSError:
        pytest.skip("this machine's name leads nowhere")
    if all(ipaddress.ip_address(one).is_global for one in inside):
        pytest.skip("this machine has only public addresses")
    before = trap.connections
    for answer in listed.answers(f"http://{name}:{trap.port}"):
        text = error_of(answer, 403)
        assert SETTING in text
        assert not any(one in text for one in inside)
    assert trap.connections == before


def test_listed_endpoints_work(start_eider, s3):
    for entry in (f"127.0.0.1:{s3.port}", "localhost", "127.0.0.0/8"):
        server = start_eider({**LISTENERS, SETTING: f"ok.example, {entry}"})
        sidecar = Sidecar(server.snapshot, s3)
        assert sidecar.snapshot("a.parquet", [{"a": 7}], [column("a", "BIGINT")]).status_code == 200
        assert sidecar.query("SELECT a FROM t", {"t": "a.parquet"}).json()["rows"] == [{"a": 7}]


def test_the_lake_needs_no_entry(start_eider, s3):
    """It is the server's own; requests that name the same server with keys of their own are refused all the same."""
    bucket = s3.make_bucket("own")
    server = start_eider({**LISTENERS, SETTING: "none"}, lake=S3Lake(s3, bucket))
    assert server.post("/ingest", server.ingest, json={"table_name": "t", "records": [{"a": 1}]}).status_code == 200
    assert server.sql("SELECT a FROM t")["rows"] == [{"a": 1}]
    sidecar = Sidecar(server.snapshot, s3, bucket)
    text = error_of(sidecar.query("SELECT a FROM t", {"t": "a.parquet"}), 403)
    assert SETTING in text and f"127.0.0.1:{s3.port}" in text


@pytest.mark.parametrize("entries", [" ", "a,,b", "*", "http://minio:9000", "127.1", "10.0.0.1/8", "10.0.0.0/40", "minio:0"])
def test_lists_that_are_wrong_stop_the_start(start_eider, entries):
    server = start_eider({SETTING: entries}, expect_exit=True)
    assert server.returncode == 1
    assert f"{SETTING}: " in server.stderr
    assert entries in (" ", "a,,b") or entries in server.stderr


@pytest.mark.parametrize("entries", ["169.254.169.254", "ok.example,169.254.0.0/16", "fd00:ec2::254", "[::ffff:169.254.169.254]:80"])
def test_metadata_cannot_be_listed(start_eider, entries):
    server = start_eider({SETTING: entries}, expect_exit=True)
    assert server.returncode == 1 and SETTING in server.stderr


# ---- redirects (R6) ----
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(unlisted, trap, status):
    before = trap.connections
    with Trap(status, [f"Location: {trap.endpoint}/data/a.parquet"]) as elsewhere:
        for answer in unlisted.answers(elsewhere.endpoint):
            error_of(answer, 502)
        assert elsewhere.seen
    assert trap.connections == before


def test_a_redirect_to_itself_is_no_loop(unlisted):
    with Trap(307, ["Location: /data/a.parquet"]) as elsewhere:
        for answer in unlisted.answers(elsewhere.endpoint):
            error_of(answer, 502)
        assert len(elsewhere.seen) <= 6


# ---- whose keys (R7) ----
@pytest.mark.parametrize("missing", ["accessKeyId", "secretAccessKey"])
@pytest.mark.parametrize("value", [None, "", " "])
def test_a_request_without_keys_is_not_given_the_servers(eider_s3, trap, missing, value):
    before = trap.connections
    for answer in Client(eider_s3).answers(trap.endpoint, **{missing: value}):
        error_of(answer, 400)
    assert trap.connections == before


def test_the_servers_keys_stay_at_home(eider_s3, s3):
    with Trap() as elsewhere:
        for answer in Client(eider_s3).answers(elsewhere.endpoint):
            error_of(answer, 404, 502)
        assert elsewhere.seen
        for head in elsewhere.seen:
            assert b"Credential=client-key/" in head.header
            assert s3.access_key.encode() not in head.header and s3.secret_key.encode() not in head.header


# ---- the environment ----
def test_proxies_and_netrc_of_the_environment_are_ignored(start_eider, s3, trap, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password something\ndefault login a password b\n")
    names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    env = {**LISTENERS, **dict.fromkeys(names, trap.endpoint), "HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")}
    server = start_eider(env)
    before = trap.connections
    sidecar = Sidecar(server.snapshot, s3)
    assert sidecar.snapshot("a.parquet", [{"a": 7}], [column("a", "BIGINT")]).status_code == 200
    assert sidecar.query("SELECT a FROM t", {"t": "a.parquet"}).json()["rows"] == [{"a": 7}]
    assert trap.connections == before
    with Trap() as elsewhere:
        for _ in Client(server).answers(elsewhere.endpoint):
            pass
        assert elsewhere.seen and not any(b"Basic" in head.header for head in elsewhere.seen)
