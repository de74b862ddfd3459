"""Hosted databases: forms of results, the result cache, ids and cancels, clients that leave, many at once."""

import csv
import io
import json
import socket
import statistics
import time

import pyarrow as pa
import pyarrow.parquet
import pytest

from harness.analytics_client import ENDLESS, Background, error_of, faults_of

SQL = "SELECT range AS n, 'é' || range AS s FROM range(5) ORDER BY n"
ROWS = [{"n": n, "s": f"é{n}"} for n in range(5)]


# ---- forms ----


def accept(client, kind, sql=SQL):
    answer = client.query(sql, options={"headers": {"Accept": kind}})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith(kind)
    return answer


def test_ndjson(analytics):
    answer = accept(analytics, "application/x-ndjson")
    assert [json.loads(line) for line in answer.text.splitlines()] == ROWS


def test_csv(analytics):
    text = accept(analytics, "text/csv").content.decode()
    assert list(csv.DictReader(io.StringIO(text))) == [{"n": str(row["n"]), "s": row["s"]} for row in ROWS]


def test_arrow(analytics):
    answer = accept(analytics, "application/vnd.apache.arrow.stream")
    assert pa.ipc.open_stream(answer.content).read_all().to_pylist() == ROWS


def test_parquet(analytics):
    answer = accept(analytics, "application/vnd.apache.parquet")
    assert pyarrow.parquet.read_table(io.BytesIO(answer.content)).to_pylist() == ROWS


def test_a_form_may_be_asked_for_in_the_address(analytics):
    answer = analytics.request("POST", analytics.path("/query?format=csv"), json={"query": "SELECT 1 AS a"})
    assert answer.text.split() == ["a", "1"]
    refused = analytics.request("POST", analytics.path("/query?format=xml"), json={"query": "SELECT 1 AS a"})
    assert set(faults_of(refused)) == {"query.format"}


def test_an_error_has_one_shape_whatever_is_asked_for(analytics):
    error_of(analytics.query("SELECT * FROM nowhere", options={"headers": {"Accept": "text/csv"}}), 400)


def test_a_large_result_is_streamed(analytics):
    answer = accept(analytics, "text/csv", "SELECT range AS n, repeat('x', 50) AS s FROM range(200000)")
    assert answer.content.count(b"\n") == 200001


# ---- results that are asked for again ----


def cached(client, sql, params=None, **headers):
    answer = client.query(sql, params, options={"headers": headers})
    assert answer.status_code == 200, answer.text
    return answer.headers["X-Cache"], answer.json()["data"]


def test_the_same_question_is_answered_from_memory(database, table):
    database.rows(f"CREATE TABLE {table} AS SELECT range AS n FROM range(3)")
    sql = f"SELECT count(*), sum(n) FROM {table} WHERE n >= $n"
    assert cached(database, sql, {"n": 1}) == ("miss", [[2, 3]])
    assert cached(database, sql, {"n": 1}) == ("hit", [[2, 3]])
    assert cached(database, sql, {"n": 2}) == ("miss", [[1, 2]])
    assert cached(database, sql, {"n": 1}, **{"Cache-Control": "no-cache"}) == ("miss", [[2, 3]])


@pytest.mark.parametrize(
    "change",
    [
        lambda client, table: client.rows(f"INSERT INTO {table} VALUES (10)"),
        lambda client, table: client.batch([f"INSERT INTO {table} VALUES (9)", f"INSERT INTO {table} VALUES (1)"]),
        lambda client, table: client.rows(f"SELECT 1; INSERT INTO {table} VALUES (10)"),
    ],
    ids=["query", "batch", "behind a read"],
)
def test_a_change_is_seen_at_once(database, table, change):
    database.rows(f"CREATE TABLE {table} AS SELECT range AS n FROM range(3)")
    sql = f"SELECT sum(n) FROM {table}"
    assert [cached(database, sql), cached(database, sql)] == [("miss", [[3]]), ("hit", [[3]])]
    change(database, table)
    assert cached(database, sql) == ("miss", [[13]])


def test_a_change_elsewhere_is_no_change_here(database, own_database):
    assert cached(database, "SELECT 41 + 1")[0] == "miss"
    own_database.rows("CREATE TABLE t (a INTEGER)")
    assert cached(database, "SELECT 41 + 1")[0] == "hit"
    assert cached(own_database, "SELECT 41 + 1")[0] == "miss"


@pytest.mark.parametrize("sql", ["SELECT random()", "SELECT now()", "SELECT uuid()", "SELECT current_setting('threads')"])
def test_what_changes_by_itself_is_not_kept(database, sql):
    assert cached(database, sql)[0] == cached(database, sql)[0] == "miss"


def test_a_failure_is_not_kept(database, table):
    sql = f"SELECT * FROM {table}"
    database.error(sql)
    database.rows(f"CREATE TABLE {table} AS SELECT 1 AS a")
    assert database.rows(sql) == [[1]]


def test_forms_and_modes_are_kept_apart(database):
    sql = "SELECT 5 AS a, 6 AS b"
    assert cached(database, sql) == ("miss", [[5, 6]])
    assert database.rows(sql, fetch_mode="one") == [5, 6]
    assert database.query(sql, options={"headers": {"Accept": "text/csv"}}).text.split() == ["a,b", "5,6"]
    assert cached(database, sql) == ("hit", [[5, 6]])


# ---- ids and cancels ----


def running(client, marker):
    """The listed queries whose statement has the marker."""
    listed = client.server.get("/queries").json()["queries"]
    return [entry for entry in listed if marker in entry["statement"] and entry["state"] in ("queued", "running", "streaming")]


def endless(marker):
    return ENDLESS.replace(" AS c", f" AS {marker}")


def test_every_statement_has_an_id(analytics):
    ids = {analytics.query("SELECT 1").headers["X-Query-Id"] for _ in range(2)}
    ids.add(analytics.query("SELEC").headers["X-Query-Id"])
    ids.add(analytics.batch(["SELECT 1"]).headers["X-Query-Id"])
    assert len(ids) == 4


def test_a_statement_can_be_cancelled(database, table, wait_until):
    request = Background(lambda: database.query(endless(table), timeout_seconds=120))
    entry = wait_until(lambda: running(database, table))[0]
    assert entry["listener"] == "analytics"
    assert database.server.request("DELETE", f"/queries/{entry['id']}").status_code in (200, 202, 204)
    answer = request.answer(10)
    assert answer.headers["X-Query-Id"] == entry["id"]
    assert answer.status_code >= 400
    assert "cancel" in answer.json()["detail"]
    assert database.rows("SELECT 1") == [[1]]
    assert not running(database, table)


def test_a_batch_that_is_cancelled_leaves_nothing(database, table, wait_until):
    batch = [f"CREATE TABLE {table} (a INTEGER)", endless(table)]
    request = Background(lambda: database.batch(batch, timeout_seconds=120))
    listed = database.server.get
    entry = wait_until(lambda: [e for e in listed("/queries").json()["queries"] if e["state"] == "running"])[0]
    database.server.request("DELETE", f"/queries/{entry['id']}")
    assert request.answer(10).status_code >= 400
    database.error(f"SELECT * FROM {table}")


def test_a_client_that_leaves_takes_its_statement_along(database, table, wait_until):
    body = json.dumps({"query": endless(table), "timeout_seconds": 120}).encode()
    head = f"POST {database.path('/query')} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(database.server.address("analytics"), timeout=10) as client:
        client.sendall(head.encode() + body)
        wait_until(lambda: [entry for entry in running(database, table) if entry["state"] == "running"])
    wait_until(lambda: not running(database, table), 5)
    wait_until(lambda: database.statistics()["metrics"]["active_connections"] == 0, 5)


# ---- many at once ----


@pytest.mark.once
def test_more_slow_statements_than_places_all_answer(analytics):  # 34, A-03, A-10
    """The pool is 2 x 2: the others wait, and nobody's health check does."""
    pool = analytics.get("/health").json()["connection_pool"]
    assert pool["max_connections"] == 4
    slow = "SELECT sum(sqrt(a.range * b.range)) > 0 AS slow_{} FROM range(3000) a, range(4000) b"
    requests = [Background(lambda n=n: analytics.query(slow.format(n))) for n in range(20)]
    times = []
    while not all(request.done() for request in requests):
        began = time.monotonic()
        answer = analytics.get("/health")
        times.append(time.monotonic() - began)
        assert answer.json()["status"] == "healthy"
    assert [request.answer().status_code for request in requests] == [200] * 20
    assert len(times) >= 3
    assert statistics.median(times) < 0.1, times  # the machine of the test is busy, too: not each one
