"""GET /metrics: its form, that each number moves by exactly what was done, and that strangers cannot make it grow."""

import base64
import os
import random
import re
import signal
from pathlib import Path

import prometheus_client.parser
import pyarrow
import pytest

from harness.ingest_client import post_batch
from harness.prometheus import Metrics, moved, scrape
from harness.raw_http import RawConnection
from harness.snapshot_client import ENDLESS, InFlight, RawPost, Sidecar, column
from harness.snapshot_processes import busy_worker, kill, resident_bytes, zygote

pytestmark = pytest.mark.once  # servers that are started and ended, again and again

REPOSITORY = Path(__file__).resolve().parents[2]
COLUMNS = [column("a", "BIGINT")]
REQUESTS = "eider_http_requests_total"
CALLS = "eider_store_calls_total"
KILLS = "eider_worker_kills_total"
STATE = ("personality", "route", "method", "status")


def requests_moved(before, after):
    """Without those of the scrapes themselves."""
    gains = moved(before, after, REQUESTS, *STATE)
    return {key: gain for key, gain in gains.items() if key[1] != "/metrics"}


def eventually(server, wait_until, read, expected, deadline=10):
    """A request is counted when its exchange is over, which may be a moment after its answer."""
    seen = {}

    def reached():
        seen["last"] = read(scrape(server))
        return seen["last"] == expected

    wait_until(reached, deadline, lambda: f"{expected}, last seen: {seen['last']}")


@pytest.fixture(scope="module")
def sidecar(eider, s3):
    return Sidecar(eider.snapshot, s3)


# ---- the text ----
def test_the_text_is_of_the_format(eider, sidecar):
    sidecar.alive()
    answer = eider.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    ours = Metrics(answer.text)
    theirs = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in prometheus_client.parser.text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert theirs == ours.samples
    prefixes = {name.partition("_")[0] for name in ours.types}
    assert prefixes == {"eider", "process", "chrono"}  # the last as its users know them


def test_the_object_cache_is_counted(start_eider, s3):
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0"})
    sidecar = Sidecar(server.snapshot, s3)
    size = len(sidecar.object(sidecar.put_table("one.parquet", pyarrow.table({"a": range(100)}))))

    def read():
        answer = sidecar.post(
            "/query", sidecar.query_body("SELECT sum(a) AS s FROM t", {"t": "one.parquet"}), headers={"Cache-Control": "no-cache"}
        )
        assert answer.json()["rows"] == [{"s": 4950}]
        return server.get(f"/queries/{answer.headers['X-Query-Id']}").json()["bytes_read"]

    assert read() == size
    cold = scrape(server)
    names = ("misses_total", "fetched_bytes_total", "objects", "damaged_total", "evictions_total")
    assert [cold.value(f"eider_object_cache_{name}") for name in names] == [1, size, 1, 0, 0]
    assert cold.value("eider_object_cache_bytes") >= size
    assert read() == 0
    warm = scrape(server)
    assert [warm.value(f"eider_object_cache_{name}") for name in names] == [1, size, 1, 0, 0]
    assert warm.value("eider_object_cache_hits_total") > cold.value("eider_object_cache_hits_total")
    assert warm.value("eider_object_cache_hit_bytes_total") > cold.value("eider_object_cache_hit_bytes_total")


def test_only_the_shared_listener_has_it(eider):
    for base in (eider.ingest, eider.snapshot):
        assert eider.get("/metrics", base=base).status_code == 404
    head = eider.request("HEAD", "/metrics")
    assert (head.status_code, head.text) == (200, "")
    assert eider.post("/metrics").status_code == 405


def test_the_document_has_every_family_and_no_other(eider):
    metrics = scrape(eider)
    labels = {}
    for (name, own), _ in metrics.samples.items():
        family = name if name in metrics.types else re.sub(r"_(bucket|sum|count)$", "", name)
        labels.setdefault(family, set()).update(pair[0] for pair in own if pair[0] != "le")
    expected = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in sorted(labels.get(name, ()))) or 'none'} | {metrics.helps[name]} |"
        for name, kind in metrics.types.items()
    ]
    text = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(?:eider|process|chrono_duckdb)_\w+` \| (?:counter|gauge|histogram) \|.*\|$", text, re.MULTILINE)
    assert documented == expected, "docs/metrics.md should have this table:\n" + "\n".join(expected)


# ---- requests ----
def test_requests_are_counted_by_route_and_status(eider, sidecar, table, wait_until):
    before = scrape(eider)
    sidecar.alive()
    assert sidecar.query("selec 1").status_code == 400
    assert sidecar.query("").status_code == 400
    assert sidecar.get("/nothing/here").status_code == 404
    assert eider.get("/health").status_code == 200
    assert eider.request("HEAD", "/health").status_code == 200
    assert eider.post("/health").status_code == 405
    assert post_batch(eider, table, [{"a": 1}], base=eider.ingest).status_code == 200
    assert post_batch(eider, table, [{"a": 1}], base=eider.url).status_code == 200
    assert eider.get(f"/table/{table}/count").status_code == 200
    brewed = eider.request("BREW", "/coffee").status_code
    assert brewed in (404, 405, 501)
    expected = {
        ("snapshot", "/query", "POST", "200"): 1,
        ("snapshot", "/query", "POST", "400"): 2,
        ("snapshot", "unmatched", "GET", "404"): 1,
        ("eider", "/health", "GET", "200"): 1,
        ("eider", "/health", "HEAD", "200"): 1,
        ("eider", "unmatched", "POST", "405"): 1,
        ("ingest", "/ingest", "POST", "200"): 2,
        ("ingest", "/table/{name}/count", "GET", "200"): 1,
        ("eider", "unmatched", "other", str(brewed)): 1,
    }
    eventually(eider, wait_until, lambda after: requests_moved(before, after), expected)
    durations = moved(before, scrape(eider), "eider_http_request_duration_seconds_count", "personality", "route")
    durations.pop(("eider", "/metrics"))
    assert sum(durations.values()) == sum(expected.values())
    assert durations[("snapshot", "/query")] == 3


def test_a_client_that_left_has_no_status(eider, sidecar, wait_until):
    before = scrape(eider)
    client = RawPost(sidecar.base, "/query", sidecar.query_body(ENDLESS))
    wait_until(lambda: scrape(eider).value("eider_workers", state="running") == 1, 10, "the query runs")
    client.close()
    expected = {("snapshot", "/query", "POST", "none"): 1}
    eventually(eider, wait_until, lambda after: requests_moved(before, after), expected)
    kills = moved(before, scrape(eider), KILLS, "reason")
    assert kills["cancel"] == 1 and not kills.keys() - {"cancel", "stuck"}


def test_bytes_and_rows(eider, table, wait_until):
    before = scrape(eider)
    records = [{"a": number, "text": "ä" * 50} for number in range(7)]
    stored = post_batch(eider, table, records)
    assert stored.status_code == 200
    answer = eider.post("/query", json={"sql": f"SELECT a FROM {table} WHERE a < 5"})
    assert answer.json()["row_count"] == 5
    eventually(
        eider, wait_until, lambda after: moved(before, after, "eider_rows_ingested_total", "personality"), {"ingest": 7}
    )
    eventually(
        eider, wait_until, lambda after: moved(before, after, "eider_rows_returned_total", "personality"), {"snapshot": 5}
    )
    after = scrape(eider)
    sent = sum(len(one.request.body) for one in (stored, answer))
    assert after.value("eider_http_request_bytes_total") - before.value("eider_http_request_bytes_total") == sent
    told = {}
    wait_until(
        lambda: told.update({one["request"]: one for one in eider.events("http.request")})
        or answer.headers["X-Request-Id"] in told
    )
    line = told[answer.headers["X-Request-Id"]]
    assert line["bytes_out"] == len(answer.content)
    received = after.value("eider_http_response_bytes_total") - before.value("eider_http_response_bytes_total")
    assert received >= len(stored.content) + len(answer.content)
    assert after.value("eider_http_bodies_in_flight_bytes") == 0


def test_connections_and_requests_in_flight(start_eider, wait_until):
    server = start_eider()
    before = scrape(server)
    connections = [RawConnection(server.address()) for _ in range(5)]
    level = before.value("eider_http_connections")
    eventually(server, wait_until, lambda after: after.value("eider_http_connections"), level + 5)
    for connection in connections:
        connection.close()
    eventually(server, wait_until, lambda after: after.value("eider_http_connections"), level)
    after = scrape(server)
    assert after.value("eider_http_connections_total") - before.value("eider_http_connections_total") == 5
    assert after.value("eider_http_requests_in_flight") == 1


# ---- lanes ----
@pytest.mark.once
def test_a_queue_that_fills(start_eider, s3, s3_proxy, wait_until):
    server = start_eider(
        {"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "SIDECAR_MAX_CONCURRENT_QUERIES": 1, "SIDECAR_MAX_QUERY_QUEUE": 1}
    )
    sidecar = Sidecar(server.snapshot, s3, endpoint=s3_proxy.endpoint)
    sidecar.put_table("held.parquet", pyarrow.table({"a": [1]}))
    stall = s3_proxy.stall(times=100, key="held.parquet")

    def lane():
        metrics = scrape(server)
        return {
            name: metrics.value(f"eider_lane_{name}", lane="query")
            for name in ("running", "queued", "running_max", "queued_max", "refused_total", "left_total")
        }

    def reaches(**expected):
        wait_until(lambda: expected.items() <= lane().items(), 10, lambda: f"{expected}, last seen: {lane()}")

    reaches(running=0, queued=0, running_max=1, queued_max=1)
    first = InFlight(sidecar.query, "SELECT a FROM t", {"t": "held.parquet"})
    reaches(running=1, queued=0)
    leaving = RawPost(sidecar.base, "/query", sidecar.query_body("SELECT 1"))
    reaches(running=1, queued=1, refused_total=0)
    assert sidecar.query("SELECT 2").status_code == 503
    reaches(queued=1, refused_total=1)
    leaving.close()
    reaches(queued=0, left_total=1)
    second = InFlight(sidecar.query, "SELECT 3")
    reaches(queued=1)
    stall.release()
    assert first.result().status_code == second.result().status_code == 200
    reaches(running=0, queued=0, refused_total=1, left_total=1)
    metrics = scrape(server)
    assert metrics.value("eider_lane_wait_seconds_count", lane="query") == 2
    assert metrics.value("eider_lane_wait_seconds_sum", lane="query") > 0
    events = {event["status"]: event for event in server.events("sidecar_query")}
    assert events["busy"]["queue_queued"] == 1 and events["busy"]["queue_depth_on_enqueue"] == 1
    waited = [one for one in server.events("http.request") if one["wait_us"] / 1e6 > 0.0001 and one["status"] == 200]
    assert waited, "the second query waited for the first"


# ---- workers ----
@pytest.fixture
def busy(start_eider, s3):
    def start(**env):
        server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "DUCKDB_MEMORY_LIMIT": "256MB", **env})
        return server, Sidecar(server.snapshot, s3)

    return start


def kills_of(metrics):
    """Without those whose job was done: on a busy machine the end of a worker may take its second."""
    kills = metrics.by(KILLS, "reason")
    kills.pop("stuck", None)
    return kills


@pytest.mark.once
def test_workers_that_did_not_end_by_themselves(busy, wait_until):
    server, sidecar = busy()
    sidecar.alive()
    before = scrape(server)
    assert before.value("eider_workers_forked_total") == 1 and kills_of(before) == {}
    for end in (kill, lambda pid: os.kill(pid, signal.SIGXCPU), lambda pid: os.kill(pid, signal.SIGSEGV)):
        call = InFlight(sidecar.query, ENDLESS)
        worker = busy_worker(server)
        assert scrape(server).value("eider_workers", state="running") == 1
        end(worker)
        assert call.result(10).status_code >= 500
    assert sidecar.rows("SELECT 43 AS v") == [(43,)]
    after = scrape(server)
    assert kills_of(after) == {"died": 2, "processor_time": 1}
    assert after.value("eider_workers_forked_total") == 5
    eventually(server, wait_until, lambda metrics: metrics.total("eider_workers"), 0)
    assert scrape(server).value("eider_worker_memory_reserved_bytes") == 0


def test_a_deadline_kills_one_worker(busy):
    server, sidecar = busy(EIDER_QUERY_TIMEOUT_MS=1000)
    assert sidecar.query(ENDLESS).status_code == 504
    assert kills_of(scrape(server)) == {"deadline": 1}


@pytest.mark.once
def test_a_large_worker_that_is_killed_died_of_memory(busy, wait_until):
    """As the kernel kills when the container is full: it is the size that tells."""
    server, sidecar = busy(DUCKDB_MEMORY_LIMIT="64MB", DUCKDB_THREADS="1")
    call = InFlight(sidecar.query, "SELECT max(len(repeat('a', 20000000) || i)) FROM range(100000000000000) AS t(i)")
    worker = busy_worker(server)
    wait_until(lambda: resident_bytes(worker) >= 34e6, 10, "the worker is large")
    kill(worker)
    assert call.result(10).status_code == 422
    assert kills_of(scrape(server)) == {"memory": 1}


def test_a_zygote_that_ended(busy, wait_until):
    server, sidecar = busy()
    assert scrape(server).value("eider_zygote_ready") == 1
    kill(zygote(server))
    eventually(
        server,
        wait_until,
        lambda metrics: (metrics.value("eider_zygote_restarts_total"), metrics.value("eider_zygote_ready")),
        (1, 1),
    )
    sidecar.alive()


# ---- stores ----
def operations_of(proxy):
    """What a proxy saw, by the names of the metrics."""
    counts = {}
    for request in proxy.requests():
        listed = "list-type" in request.query
        multipart = re.search(r"\buploads?(Id)?\b", request.query)
        name = "multipart" if multipart else "list" if listed else request.method.lower()
        counts[name] = counts.get(name, 0) + 1
    return counts


def test_store_calls_are_those_that_the_store_saw(busy, s3, s3_proxy):
    server, _ = busy()
    sidecar = Sidecar(server.snapshot, s3, endpoint=s3_proxy.endpoint)
    before = scrape(server)
    sidecar.write("a/one.parquet", [{"a": 1}], COLUMNS)
    sidecar.write("a/two.parquet", [{"a": 2}], COLUMNS)
    assert sidecar.rows("SELECT sum(a) FROM t", {"t": "a/*.parquet"}) == [(3,)]
    assert sidecar.query("SELECT * FROM t", {"t": "missing.parquet"}).status_code >= 400
    s3_proxy.fail(503, times=2, method="HEAD", key="one.parquet")
    assert sidecar.rows("SELECT a FROM t", {"t": "a/one.parquet"}) == [(1,)]
    after = scrape(server)
    calls = moved(before, after, CALLS, "operation")
    retries = moved(before, after, "eider_store_retries_total", "operation")
    assert retries == {"head": 2}
    seen = operations_of(s3_proxy)
    assert seen["put"] == 2 and seen["list"] >= 1 and seen["get"] >= 3
    assert {name: calls.get(name, 0) + retries.get(name, 0) for name in {*calls, *retries}} == seen
    assert moved(before, after, "eider_store_call_duration_seconds_count", "operation") == calls
    results = moved(before, after, CALLS, "operation", "result")
    assert results[("put", "ok")] == 2
    assert results[("head", "store_missing")] >= 1
    written = sum(request.body_size for request in s3_proxy.requests(method="PUT"))
    assert after.value("eider_store_written_bytes_total") - before.value("eider_store_written_bytes_total") == written
    assert after.value("eider_store_read_bytes_total") > before.value("eider_store_read_bytes_total")


def test_a_store_that_refuses(busy, s3, s3_proxy):
    server, _ = busy()
    sidecar = Sidecar(server.snapshot, s3, endpoint=s3_proxy.endpoint)
    sidecar.config["secretAccessKey"] = "wrong"
    assert sidecar.query("SELECT * FROM t", {"t": "x.parquet"}).status_code >= 400
    assert set(scrape(server).by(CALLS, "result")) == {"store_denied"}


@pytest.mark.once
def test_an_upload_in_parts(busy, s3, s3_proxy):
    server, _ = busy(DUCKDB_MEMORY_LIMIT="512MB")
    sidecar = Sidecar(server.snapshot, s3, endpoint=s3_proxy.endpoint)
    rows = [{"a": base64.b64encode(os.urandom(60000)).decode()} for _ in range(320)]
    before = scrape(server)
    sidecar.write("large.parquet", rows, [column("a", "VARCHAR")])
    gains = moved(before, scrape(server), CALLS, "operation")
    assert gains["multipart"] >= 3
    assert gains == operations_of(s3_proxy)


@pytest.mark.once
def test_a_folder_counts_its_calls(start_eider, table):
    server = start_eider()
    before = scrape(server)
    assert post_batch(server, table, [{"a": 1}]).status_code == 200
    assert server.sql(f"SELECT a FROM {table}")["row_count"] == 1
    after = scrape(server)
    calls = moved(before, after, CALLS, "operation", "result")
    assert calls[("put", "ok")] == 2  # the object, and the table's first schema
    assert calls[("list", "ok")] >= 1
    assert moved(before, after, "eider_store_call_duration_seconds_count", "operation")["put"] == 2
    assert after.value("eider_store_written_bytes_total") > before.value("eider_store_written_bytes_total")


# ---- kept results ----
def test_kept_results_are_counted(start_eider, table):
    server = start_eider()
    assert post_batch(server, table, [{"a": 1}]).status_code == 200
    before = scrape(server)
    answers = [server.post("/query", json={"sql": f"SELECT a FROM {table}"}) for _ in range(3)]
    assert [answer.headers["X-Cache"] for answer in answers] == ["miss", "hit", "hit"]
    after = scrape(server)
    gains = {name: after.value(name) - before.value(name) for name in after.types if "result_cache" in name}
    size = gains.pop("eider_result_cache_bytes")
    assert size >= len(answers[0].content)
    assert gains == {
        "eider_result_cache_hits_total": 2,
        "eider_result_cache_misses_total": 1,
        "eider_result_cache_evictions_total": 0,
        "eider_result_cache_entries": 1,
    }
    assert [event["row_count"] for event in server.events("sidecar_query")] == [1, 1, 1]


# ---- what strangers can do to it ----
def test_a_thousand_paths_are_one_series(eider, wait_until):
    rng = random.Random(7)
    names = [f"wanderer{rng.getrandbits(64):x}" for _ in range(1000)]
    before = scrape(eider)
    wanted = [("GET", f"/{name}/{name}", 404) for name in names[:900]]
    wanted += [("GET", f"/table/{name}/count", 200) for name in names[900:]]
    wanted += [(name.upper()[:12], "/", 405) for name in names[:20]]
    with RawConnection(eider.address()) as connection:
        for method, path, status in wanted:
            connection.request(method, path)
            assert connection.answer().status == status
    expected = {("unmatched", "404"): 900, ("/table/{name}/count", "200"): 100, ("unmatched", "405"): 20}

    def read(after):
        gains = moved(before, after, REQUESTS, "route", "status")
        return {key: gain for key, gain in gains.items() if key[0] != "/metrics"}

    eventually(eider, wait_until, read, expected)
    text = eider.get("/metrics").text
    assert "wanderer" not in text.lower()
    assert len(Metrics(text).samples) <= len(before.samples) + 6


@pytest.mark.once
def test_an_idle_server_is_small(start_eider):
    """40 MB is what the whole server may be while nothing is asked of it."""
    metrics = scrape(start_eider())
    assert 5e6 < metrics.value("process_resident_memory_bytes") <= 40e6
    assert 0 < metrics.value("process_open_fds") < 100 < metrics.value("process_max_fds")
    assert metrics.value("process_start_time_seconds") > 1.7e9
    assert 0 < metrics.value("process_cpu_seconds_total") < 60
