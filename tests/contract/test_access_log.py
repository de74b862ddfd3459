"""The log of requests: what a line tells, that a line stays one line whatever clients send, and what it never tells."""

import gzip
import json
import re

import pyarrow
import pytest

from harness.ingest_client import post_batch
from harness.prometheus import scrape
from harness.raw_http import RawConnection
from harness.snapshot_client import InFlight, Sidecar, column

FIELDS = {
    *("time", "level", "event", "request", "client", "personality", "method", "route", "path", "status"),
    *("us", "wait_us", "rows", "bytes_in", "bytes_out", "identity", "query", "agent"),
}
COLUMNS = [column("a", "BIGINT")]
CANARY = "canary7f3a9c51e"


@pytest.fixture(scope="module")
def sidecar(eider, s3):
    return Sidecar(eider.snapshot, s3)


@pytest.fixture
def line_of(wait_until):
    """line_of(server, answer) -> the http.request line of an answer."""

    def find(server, answer):
        wanted = answer.headers["X-Request-Id"]
        return wait_until(lambda: [one for one in server.events("http.request") if one["request"] == wanted], 10)[0]

    return find


# ---- what it tells ----
def test_a_line_tells_everything_about_a_request(eider, sidecar, table, line_of):
    answer = post_batch(eider, table, [{"a": 1}, {"a": 2}], headers={"User-Agent": "till/1.0", "X-Request-Id": "r-1"})
    line = line_of(eider, answer)
    assert set(line) == FIELDS
    assert (line["request"], line["client"], line["agent"]) == ("r-1", "127.0.0.1", "till/1.0")
    assert (line["personality"], line["method"], line["route"], line["path"]) == ("ingest", "POST", "/ingest", "/ingest")
    assert (line["status"], line["rows"]) == (200, 2)
    assert (line["bytes_in"], line["bytes_out"]) == (len(answer.request.body), len(answer.content))
    assert line["us"] > line["wait_us"] >= 0 and line["level"] == "info"


def test_the_route_is_the_pattern(eider, sidecar, line_of):
    line = line_of(eider, eider.get("/table/orders/count?token=hidden"))
    assert (line["route"], line["path"]) == ("/table/{name}/count", "/table/orders/count")
    line = line_of(eider, sidecar.get("/nowhere"))
    assert (line["route"], line["path"], line["status"], line["personality"]) == ("", "/nowhere", 404, "snapshot")


def test_bytes_in_are_those_of_the_wire(eider, table, line_of):
    packed = gzip.compress(json.dumps({"table_name": table, "records": [{"a": "x" * 5000}]}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = eider.post("/ingest", base=eider.ingest, data=packed, headers=headers)
    assert answer.status_code == 200
    assert line_of(eider, answer)["bytes_in"] == len(packed) < 500


def test_probes_and_scrapes_are_for_those_who_debug(start_eider, wait_until):
    def paths(server):
        return {line["path"] for line in server.events("http.request")}

    asked = ["/health", "/health/live", "/health/ready", "/metrics", "/tables"]
    quiet, loud = start_eider(), start_eider({"EIDER_LOG_LEVEL": "debug"})
    for server in (quiet, loud):
        for path in asked:
            assert server.get(path).status_code == 200
    wait_until(lambda: "/tables" in paths(quiet) and paths(loud) == set(asked), 10)
    assert paths(quiet) == {"/tables"}


# ---- the events of the snapshot personality ----
def test_queries_are_told_as_the_contract_says(eider, sidecar, wait_until):
    sidecar.put_table("two.parquet", pyarrow.table({"a": [1, 2]}))
    seen = len(eider.events("sidecar_query"))
    sidecar.result("SELECT a FROM t", {"t": "two.parquet", "u": "none.parquet"})
    sidecar.query("SELECT nothing FROM t", {"t": "two.parquet"})
    wait_until(lambda: len(eider.events("sidecar_query")) == seen + 2, 10)
    good, bad = eider.events("sidecar_query")[seen:]
    names = "status duration_ms queue_wait_ms queue_depth_on_enqueue table_count row_count queue_running queue_queued pooled"
    assert set(good) == set(bad) == {"time", "level", "event", "request", *names.split()}
    assert (good["status"], good["table_count"], good["row_count"]) == ("ok", 2, 2)
    assert (bad["status"], bad["table_count"], bad["row_count"]) == ("error", 1, 0)
    assert good["queue_running"] >= 1 and good["queue_wait_ms"] <= good["duration_ms"] < 60000
    assert good["pooled"] is False


def test_a_snapshot_that_waited_is_told(start_eider, s3, s3_proxy, wait_until):
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "SIDECAR_MAX_CONCURRENT_SNAPSHOTS": 1})
    sidecar = Sidecar(server.snapshot, s3, endpoint=s3_proxy.endpoint)
    stall = s3_proxy.stall(times=1, method="PUT")
    first = InFlight(sidecar.write, "first.parquet", [{"a": 1}], COLUMNS)
    s3_proxy.wait_for(1, method="PUT")
    second = InFlight(sidecar.write, "second.parquet", [{"a": 1}, {"a": 2}], COLUMNS)
    wait_until(lambda: sidecar.get("/snapshot-queue-stats").json()["queued"] == 1, 10)
    third = InFlight(sidecar.write, "third.parquet", [{"a": 3}], COLUMNS)
    wait_until(lambda: sidecar.get("/snapshot-queue-stats").json()["queued"] == 2, 10)
    stall.release()
    for call in (first, second, third):
        call.result()
    # Lines are written together, a moment after the answers: the third's is the only one with a place in the queue.
    depths = lambda: [event["queue_depth_on_enqueue"] for event in server.events("snapshot_completed")]
    wait_until(lambda: depths()[-1:] == [1], 10, depths)
    told, last = server.events("snapshot_completed")[-2:]  # on a busy machine the first may have waited too
    assert (told["row_count"], told["queue_depth_on_enqueue"]) == (2, 0)
    assert (last["row_count"], last["queue_depth_on_enqueue"]) == (1, 1)
    assert told["duration_ms"] >= told["queue_wait_ms"] > 0


# ---- one line each, whatever is sent ----
HOSTILE = [
    "\x1b[31mred\x1b[0m",
    '"}\\u000a{"event":"forged"}',
    'quote " backslash \\ brace } percent %s%n',
    "bell \x07 back \x08 delete \x7f",
    "c1 \u009b31m next-line \u0085 separators \u2028\u2029",
    "tab\tand more",
    "x" * 5000,
]
FORGED = "%0d%0a%7B%22event%22%3A%22forged%22%7D"


def test_a_line_stays_one_line(start_eider, s3, wait_until):
    server = start_eider({"EIDER_LOG_LEVEL": "debug", "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0"})
    sent = 0
    for text in HOSTILE:
        for header in ("User-Agent", "X-Request-Id", "Referer", "X-Forwarded-For"):
            with RawConnection(server.address()) as connection:
                connection.request("GET", f"/nothing/{sent}", [f"{header}: {text}"])
                sent += connection.answer() is not None
        post_batch(server, text, [{"a": 1}])
        server.post("/query", json={"sql": f'SELECT 1 AS "{text}"'})
        server.get(f"/table/{FORGED}/count")
        sent += 3
    with RawConnection(server.address()) as connection:
        connection.request("GET", "/a\x1b[31m\x7f%0d%0a")
        sent += connection.answer() is not None
    for body in (b'{"a', b"\xff\xfe\x00"):
        server.post("/query", data=body, headers={"Content-Type": "application/json"})
        sent += 1
    wait_until(lambda: len(server.events("http.request")) >= sent, 10)
    lines = [line for line in server.stderr.split("\n") if line]
    for line in lines:
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line), repr(line)
        assert isinstance(json.loads(line), dict), line
    assert len(lines) == len(server.log_lines())
    assert not [line for line in server.log_lines() if line["event"] == "forged"]
    agents = {line["agent"] for line in server.events("http.request")}
    assert HOSTILE[0] in agents and HOSTILE[2] in agents and "x" * 200 in agents


# ---- what it never tells ----
def test_no_secret_and_no_statement_is_told(start_eider, s3, own_s3_port_closed, tmp_path):
    """A canary in each place where people put secrets: the log at its most talkative, and /metrics, have none of them."""
    environment = {
        **{f"S3_{name}": f"{CANARY}env" for name in ("SECRET_KEY", "SECRET_ACCESS_KEY", "SESSION_TOKEN")},
        "AWS_SECRET_ACCESS_KEY": f"{CANARY}env",
        "EIDER_LAKE": f"file://{tmp_path}/lake",
        "EIDER_LOG_LEVEL": "debug",
        "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
    }
    server = start_eider(environment)
    sidecar = Sidecar(server.snapshot, s3)
    secret = {"Authorization": f"Bearer {CANARY}h", "Cookie": f"s={CANARY}h", "X-Api-Key": f"{CANARY}h"}
    configs = [
        {**sidecar.config, "secretAccessKey": f"{CANARY}s"},
        {**sidecar.config, "accessKeyId": f"{CANARY}a", "secretAccessKey": f"{CANARY}s"},
        {**sidecar.config, "sessionToken": f"{CANARY}t"},
        {**sidecar.config, "endpoint": own_s3_port_closed, "secretAccessKey": f"{CANARY}s"},
        {**sidecar.config, "endpoint": f"http://user:{CANARY}u@127.0.0.1:1", "secretAccessKey": f"{CANARY}s"},
    ]
    for config in configs:
        body = {"sql": f"SELECT '{CANARY}q' FROM t", "s3_config": config, "tables": [{"name": "t", "s3_path": "t.parquet"}]}
        assert sidecar.post(f"/query?token={CANARY}p", body, headers=secret).status_code >= 400
        rows = {"table_name": "t", "s3_key": "k", "s3_config": config, "data": [{"a": f"{CANARY}v"}]}
        columns = [column("a", "VARCHAR")]
        assert sidecar.post("/snapshot", {**rows, "columns": columns}, headers=secret).status_code >= 400
    for sql in (f"SELECT '{CANARY}q'::INT", f"SELEC {CANARY}q", f"SELECT {CANARY}q", f"ATTACH '{CANARY}q'"):
        assert sidecar.query(sql).status_code == 400
    assert post_batch(server, "t", [{"a": f"{CANARY}v"}], headers=secret).status_code == 200
    assert server.get(f"/table/t/count?key={CANARY}p", headers=secret).status_code == 200
    metrics = server.get(f"/metrics?token={CANARY}p", headers=secret).text
    assert CANARY not in metrics
    assert scrape(server).total("eider_http_requests_total") > 10
    assert server.stop() == 0
    assert len(server.events("http.request")) > 10
    told = [line for line in server.stderr.split("\n") if CANARY in line]
    assert not told, "\n".join(told)


@pytest.fixture
def own_s3_port_closed(s3_proxy):
    """An endpoint where nobody listens."""
    with s3_proxy.refused():
        yield s3_proxy.endpoint
