"""What waits for the lake: readiness, back-pressure and metrics (reliability.md 3.11, promises P7, P26, P27)."""

import time

import pytest

from harness.ingest_client import refused
from harness.lakes import FolderLake, S3Lake
from harness.prometheus import moved, scrape
from harness.raw_http import RawConnection
from harness.rows_client import NDJSON, NO_FLUSH, buffered, count, flush, flushed, kept, ndjson, post_rows, stored, stream

SETTINGS = {"EIDER_INGEST_LISTEN": "127.0.0.1:0", **NO_FLUSH}
RECORDS = [{"n": n, "text": "x" * 1000} for n in range(1000)]


@pytest.fixture
def behind_proxy(start_eider, s3, s3_proxy):
    def start(**settings):
        lake = S3Lake(s3, s3.make_bucket(), endpoint=s3_proxy.endpoint)
        return start_eider({**SETTINGS, "EIDER_DRAIN_MS": "1000", **settings}, lake=lake)

    return start


def ready(server, base=None):
    answer = server.get("/health/ready", base)
    return answer.status_code, answer.json()


def test_readiness_tells_the_backlog(start_eider, table):
    server = start_eider(SETTINGS, lake=FolderLake())
    status, body = ready(server)
    assert (status, body["status"]) == (200, "ready")
    assert body["backlog"]["rows"] == body["backlog"]["bytes"] == body["backlog"]["oldest_age_ms"] == 0
    assert body["backlog"]["last_flush_failure"] is None
    buffered(server, table, {"a": 1})
    backlog = ready(server, server.ingest)[1]["backlog"]
    assert backlog["rows"] == 1 and backlog["bytes"] > 0
    assert 0 < backlog["log_bytes"] <= backlog["log_bytes_max"]
    flushed(server, table)
    assert ready(server)[1]["backlog"]["rows"] == 0


def test_records_that_wait_too_long_end_readiness(behind_proxy, s3_proxy, table, wait_until):
    server = behind_proxy(EIDER_BACKLOG_AGE_MAX_MS="300")
    buffered(server, table, {"a": 0})
    flushed(server, table)
    with s3_proxy.refused():
        buffered(server, table, {"a": 1})
        wait_until(lambda: ready(server)[0] == 503, 10)
        body = ready(server)[1]
        assert body["reason"] == "records wait too long for the store"
        assert body["backlog"]["oldest_age_ms"] > 300
        buffered(server, table, {"a": 2})  # they are still taken
    flushed(server, table)
    assert ready(server)[0] == 200


@pytest.mark.slow
def test_a_full_log_refuses_and_drains_by_itself(behind_proxy, s3_proxy, table, wait_until):
    """P7: nothing that was acknowledged goes, nothing that cannot be kept is acknowledged."""
    server = behind_proxy(EIDER_LOG_MAX="8MiB", EIDER_LOG_SEGMENT="1MiB", EIDER_FLUSH_AGE_MS="500")
    body = ndjson(RECORDS)
    taken = kept(post_rows(server, table, body))["accepted"]
    with s3_proxy.refused():
        answer = None
        for _ in range(40):
            answer = post_rows(server, table, body)
            if answer.status_code != 200:
                break
            taken += answer.json()["accepted"]
        assert answer.status_code == 503, answer.text
        assert 1 <= int(answer.headers["Retry-After"]) <= 300
        assert taken >= 2000
        wait_until(lambda: ready(server)[1].get("reason") == "the log is full", 10)
        wait_until(lambda: stream(server, table, {"n": -1}).status_code == 503, 10)
        for request in (
            lambda: server.post("/ingest", server.ingest, json={"table_name": table, "records": RECORDS[:1]}),
            lambda: stream(server, table, {"n": -1}),
        ):
            answer = request()
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
            assert list(answer.json()) == ["detail"]
        # Before the body, and the connection goes when the body would be large. On a busy machine the look that
        # others go by may be of a moment when a flush was hoped for: then a body is let in, to wait for room.
        def refused_at_once():
            assert stream(server, table, {"n": -1}).status_code == 503
            with RawConnection(server.address(), timeout=3) as connection:
                headers = [f"Content-Type: {NDJSON}", "Content-Length: 10000000"]
                connection.request("POST", f"/tables/{table}/rows", headers)
                return connection.answer()

        answer = wait_until(refused_at_once, 20)
        assert answer.status == 503 and answer.headers["connection"].lower() == "close"
        assert server.get("/health").status_code == 200
        # The tail of the log still answers queries.
        assert server.get(f"/table/{table}/count", server.ingest).json()["buffered_count"] > 0
    wait_until(lambda: ready(server)[0] == 200, 60, lambda: ready(server))
    wait_until(lambda: stream(server, table, {"n": -2}).status_code == 200, 60)
    flushed(server, table)
    rows = stored(server, table)
    assert len(rows) == taken + 1
    assert sum(row["n"] == -1 for row in rows) == 0


@pytest.mark.once
def test_a_full_log_makes_clients_wait_while_flushes_go_well(behind_proxy, s3_proxy, table, wait_until):
    server = behind_proxy(EIDER_LOG_MAX="4MiB", EIDER_LOG_SEGMENT="1MiB")
    body = ndjson(RECORDS[:500])
    fault = s3_proxy.stall(method="PUT", times=100)
    began = time.monotonic()
    while post_rows(server, table, body).status_code == 200:
        began = time.monotonic()
    assert time.monotonic() - began >= 1.5  # a flush is under way and may make room
    fault.release()
    wait_until(lambda: post_rows(server, table, body).status_code == 200, 30)


def test_a_full_log_does_not_stop_a_flush(behind_proxy, table):
    server = behind_proxy(EIDER_LOG_MAX="4MiB", EIDER_LOG_SEGMENT="1MiB")
    taken = 0
    while (answer := post_rows(server, table, ndjson(RECORDS))).status_code == 200:
        taken += answer.json()["accepted"]
        if count(server, table) < taken:
            break  # it has made room by itself
    assert taken >= 1000
    flush(server, table)
    assert count(server, table) == 0
    assert len(stored(server, table)) == taken


def test_draining_is_not_ready(start_eider, table, wait_until):
    server = start_eider(SETTINGS, lake=FolderLake())
    body = ndjson([{"a": 1}] * 40_000)  # of which enough comes to begin with it
    with RawConnection(server.address()) as connection, RawConnection(server.address()) as probe:
        headers = [f"Content-Type: {NDJSON}", f"Content-Length: {len(body)}"]
        connection.request("POST", f"/tables/{table}/rows", headers, body[:-3])
        wait_until(lambda: scrape(server).value("eider_lane_wait_seconds_count", lane="rows") == 1)
        probe.request("GET", "/health/ready")
        assert probe.answer().status == 200
        server.send(15)
        wait_until(lambda: server.events("server.signal"))

        def draining():
            probe.request("GET", "/health/ready")
            answer = probe.answer()
            return answer.status == 503 and answer.json()["reason"] == "draining"

        wait_until(draining)
        connection.send(body[-3:])
        assert connection.answer().json()["accepted"] == 40_000
    assert server.wait() == 0
    assert len(stored(server, table)) == 40_000


# ---- metrics ----
def test_rows_replays_and_dead_letters_are_counted(start_eider, table, wait_until):
    server = start_eider(SETTINGS, lake=FolderLake())
    before = scrape(server)
    for key in ("a", "a", "b"):
        buffered(server, table, {"n": 1}, key=key)
    kept(post_rows(server, table, b'{"n":7}\n{bad\n{"n":8}\n', on_error="dead_letter"))
    assert server.post("/ingest", json={"table_name": table, "records": [{"n": 9}]}).status_code == 200
    expected = {"/ingest": 1, "/ingest/stream": 2, "/tables/{name}/rows": 2}
    wait_until(lambda: moved(before, scrape(server), "eider_rows_accepted_total", "route") == expected)
    after = scrape(server)
    assert after.value("eider_idempotent_replays_total") == 1
    assert after.value("eider_dead_letters_total") == 1
    assert after.value("eider_log_records_total") > before.value("eider_log_records_total")
    assert after.value("eider_log_sync_duration_seconds_count") > 0
    assert after.value("eider_log_segments") >= 1
    assert after.value("eider_log_bytes") > 0
    assert after.value("eider_backlog_rows") == 5
    assert after.value("eider_backlog_bytes") > 0
    flushed(server, table)
    flushed(server, f"{table}__dead_letter")
    after = scrape(server)
    assert after.value("eider_backlog_rows") == after.value("eider_backlog_oldest_age_seconds") == 0
    assert after.value("eider_flushes_total", result="ok") >= 2


def test_failed_flushes_are_counted_by_kind(behind_proxy, s3_proxy, table):
    server = behind_proxy()
    buffered(server, table, {"a": 1})
    with s3_proxy.refused():
        refused(flush(server, table), 502, "Flush failed: ")
        assert scrape(server).value("eider_flushes_total", result="store_failed") >= 1
        assert ready(server)[1]["backlog"]["last_flush_failure"]
    flushed(server, table)
