"""GET /queries, GET /queries/{id}, DELETE /queries/{id}, X-Query-Id: who runs what, how far it is, and its end."""

import http.client
import json
import re
import threading
import time

import pyarrow
import pytest

from harness.raw_http import RawConnection
from harness.snapshot_client import DEAF, ENDLESS, InFlight, RawPost, Sidecar, error_of
from harness.snapshot_processes import busy_worker, gone, processor_ticks, workers
from harness.waiting import DeadlinePassed

ID = re.compile(r"[0-9a-f]{16}")
UNKNOWN = "0123456789abcdef"
FIELDS = [
    "id",
    "state",
    "statement",
    "progress_percent",
    "rows",
    "bytes_read",
    "bytes_sent",
    "elapsed_ms",
    "queued_ms",
    "peak_memory_bytes",
    "started_at",
    "listener",
    "client",
    "request_id",
]
ENDED = ("done", "failed", "cancelled")
KEPT = 100  # of those that have ended
ROWS = "SELECT i, repeat('x', 100) AS s FROM range(1000000000000) AS t(i)"
# None of these looks at an interrupt while it is in its one call.
DEAF_STATEMENTS = {
    "levenshtein": DEAF,
    "repeat": "SELECT length(repeat('x', 1000000000 + i::INTEGER)) FROM range(100) AS t(i)",
    "list_sort": "SELECT len(list_sort(range(20000000 + i), 'DESC')) FROM range(1) AS t(i)",
    "list_transform": "SELECT len(list_transform(range(20000000 + i), lambda x: length(md5(x::VARCHAR)))) FROM range(1) t(i)",
}


@pytest.fixture(scope="module")
def server(eider_binary, tmp_path_factory):
    from harness.eider_process import EiderFactory

    factory = EiderFactory(eider_binary, lambda: tmp_path_factory.mktemp("eider"))
    yield factory(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "SIDECAR_MAX_CONCURRENT_QUERIES": 4,
            "DUCKDB_THREADS": 2,
            "EIDER_QUERY_TIMEOUT_MS": 60000,
        }
    )
    factory.finish()


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """A test that fails does not disturb the next."""
    yield
    if "server" in request.fixturenames:
        shared = request.getfixturevalue("server")
        for query in live(shared):
            cancel(shared, query["id"])


@pytest.fixture
def sidecar(server, s3):
    return Sidecar(server.snapshot, s3)


@pytest.fixture
def narrow(start_eider):
    """One slot."""
    return start_eider(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "SIDECAR_MAX_CONCURRENT_QUERIES": 1,
            "SIDECAR_MAX_QUERY_QUEUE": 2,
            "EIDER_QUERY_TIMEOUT_MS": 60000,
        }
    )


# ---- helpers ----
def listing(server):
    answer = server.get("/queries")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert list(body) == ["queries", "running", "queued"]
    for query in body["queries"]:
        well_formed(query)
    return body


def running_and_queued(server):
    body = listing(server)
    return body["running"], body["queued"]


def well_formed(query):
    failed = query["state"] in ("failed", "cancelled")
    assert list(query) == FIELDS + (["error"] if failed else []), query
    assert ID.fullmatch(query["id"])
    assert 0 <= query["progress_percent"] <= 100
    assert 0 <= query["queued_ms"] <= query["elapsed_ms"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", query["started_at"])
    return query


def show(server, query_id):
    answer = server.get(f"/queries/{query_id}")
    assert answer.status_code == 200, answer.text
    return well_formed(answer.json())


def live(server):
    return [query for query in listing(server)["queries"] if query["state"] not in ENDED]


def the_one(server, wait_until, state="running"):
    """The only query that is not over, once it is in that state."""

    def find():
        found = live(server)
        assert len(found) == 1, found
        return found[0] if found[0]["state"] == state else None

    return wait_until(find, 20, f"one query is {state}")


def cancel(server, query_id):
    return server.request("DELETE", f"/queries/{query_id}")


def ended(server, query_id, wait_until):
    return wait_until(lambda: (query := show(server, query_id))["state"] in ENDED and query, 10, "it has ended")


def sql(server, text, **fields):
    return server.post("/query", json={"sql": text, **fields})


def seconds_until_gone(pid, act):
    """From before act() until the process is gone."""
    started = time.monotonic()
    act()
    while not gone(pid):
        assert time.monotonic() - started < 10, f"{pid} is still there"
        threading.Event().wait(0.001)
    return time.monotonic() - started


def busy_now(server):
    """The worker that has used processor time."""
    return next((pid for pid in workers(server) if processor_ticks(pid) >= 10), None)


def leave(client, answer):
    """The answer has the socket open for itself."""
    client.close()
    answer.close()


def gone_in_time(attempt, capsys, what, limit=0.1, attempts=15):
    """One of a few attempts is within the limit: the machine may be busy with other things."""
    figures = []
    for _ in range(attempts):
        figures.append(attempt())
        if figures[-1] <= limit:
            break
    with capsys.disabled():
        print(f" [{what}: {', '.join(f'{one * 1000:.0f}' for one in figures)} ms]", end="")
    assert min(figures) <= limit, figures


# ---- X-Query-Id ----
def test_every_answer_has_an_id_of_its_own(server, sidecar):
    answers = [
        sql(server, "SELECT 1"),
        sql(server, "SELECT nonsense"),
        sql(server, "DROP TABLE x"),
        sql(server, ""),
        server.post("/query", data="{", headers={"Content-Type": "application/json"}),
        server.post("/query", data="x", headers={"Content-Type": "text/csv"}),
        sidecar.query("SELECT 1"),
        sidecar.query("SELECT nonsense"),
        sidecar.query("SELECT 1", {"t": ""}),
        sidecar.post("/query", "{"),
        sql(server, "SELECT i, repeat('x', 100) AS s FROM range(30000) AS t(i)"),
    ]
    ids = [answer.headers["X-Query-Id"] for answer in answers]
    assert all(ID.fullmatch(one) for one in ids)
    assert len(set(ids)) == len(ids)
    assert answers[-1].headers["Transfer-Encoding"] == "chunked"
    for other in (server.get("/queries"), server.get("/health"), sidecar.get("/health")):
        assert "X-Query-Id" not in other.headers


def test_a_full_queue_has_an_id_too_and_is_not_listed(narrow, wait_until):
    calls = []
    for queued in range(3):
        calls.append(InFlight(sql, narrow, ENDLESS))
        wait_until(lambda: running_and_queued(narrow) == (1, queued), 10, "one more is in")
    refused = sql(narrow, "SELECT 1")
    assert refused.status_code == 503
    assert cancel(narrow, refused.headers["X-Query-Id"]).status_code == 404
    for query in live(narrow):
        assert cancel(narrow, query["id"]).status_code == 202
    assert [call.result().status_code for call in calls] == [409] * 3
    assert not live(narrow)


def test_ids_cannot_be_guessed(server):
    ids = {sql(server, "SELECT 1").headers["X-Query-Id"] for _ in range(20)}
    values = sorted(int(one, 16) for one in ids)
    assert len(values) == 20
    assert values[-1] - values[0] > 1 << 60
    assert min(b - a for a, b in zip(values, values[1:])) > 1 << 32


# ---- what is shown ----
def test_a_running_query_is_shown_without_its_literals(server, wait_until):
    text = "SELECT sum(i * 7) AS total /* hush-1 */ FROM range(90000000000) AS t(i) WHERE 'hush-2' <> '' -- hush-3"
    call = InFlight(server.post, "/query", json={"sql": text}, headers={"X-Request-Id": "mine-1"})
    query = the_one(server, wait_until)
    assert query["statement"] == "SELECT sum(i * ?) AS total FROM range(?) AS t(i) WHERE ? <> ?"
    assert query["request_id"] == "mine-1"
    assert (query["listener"], query["client"]) == ("main", "127.0.0.1")
    later = wait_until(
        lambda: (one := show(server, query["id"]))["peak_memory_bytes"] > 0 and one["elapsed_ms"] > 300 and one,
        10,
        "numbers of a running query",
    )
    assert later["state"] == "running" and later["rows"] == 0
    answer = cancel(server, query["id"])
    assert answer.status_code == 202
    assert answer.json()["id"] == query["id"]
    refused = call.result()
    assert refused.status_code == 409
    assert refused.headers["X-Query-Id"] == query["id"]
    over = show(server, query["id"])
    assert (over["state"], over["error"]) == ("cancelled", "cancelled")


@pytest.mark.once
def test_progress_grows_over_a_scan(server, sidecar, wait_until):
    count = 2_000_000
    values = pyarrow.table({"a": pyarrow.array(range(count)), "b": pyarrow.array(range(count, 2 * count))})
    sidecar.put_table("scan.parquet", values, row_group_size=20000, compression="none")
    tables = {"t": [f"scan-{number}.parquet" for number in range(3)]}
    for key in tables["t"]:
        sidecar.s3.client().copy_object(
            Bucket=sidecar.bucket, Key=key, CopySource={"Bucket": sidecar.bucket, "Key": "scan.parquet"}
        )
    call = InFlight(sidecar.query, "SELECT sum(length(md5(a::VARCHAR)) + b) AS s FROM t", tables)
    seen = []

    def look():
        seen.extend(live(server))
        return call.done()

    wait_until(look, 60, "the scan is over", interval=0.05)
    answer = call.result()
    assert answer.status_code == 200, answer.text
    percents = [query["progress_percent"] for query in seen]
    reads = [query["bytes_read"] for query in seen]
    assert percents == sorted(percents) and reads == sorted(reads)
    assert len({percent for percent in percents if 0 < percent < 100}) >= 3, percents
    assert len(set(reads)) >= 3, reads
    over = show(server, answer.headers["X-Query-Id"])
    assert (over["state"], over["progress_percent"], over["rows"]) == ("done", 100.0, 1)
    assert over["listener"] == "snapshot"
    assert over["bytes_read"] >= 3 * count * 8
    assert over["bytes_sent"] == len(answer.content)
    assert over["peak_memory_bytes"] > 1 << 20


def test_rows_grow_while_a_slow_reader_streams(server, wait_until):
    client = RawPost(server.url, "/query", {"sql": ROWS}, receive_buffer=65536)
    answer = client.answer()
    assert answer.status == 200
    query = the_one(server, wait_until, "streaming")
    assert answer.getheader("X-Query-Id") == query["id"]

    def more():
        assert answer.read(1 << 20)
        now = show(server, query["id"])
        return now["rows"] > query["rows"] and now["bytes_sent"] > query["bytes_sent"] and now

    for _ in range(3):
        query = wait_until(more, 20, "rows and bytes grow")
    leave(client, answer)
    assert ended(server, query["id"], wait_until)["error"] == "client_gone"


def test_what_has_ended_keeps_its_numbers(server):
    answer = sql(server, "SELECT i FROM range(1000) AS t(i)")
    query = show(server, answer.headers["X-Query-Id"])
    assert (query["state"], query["progress_percent"], query["rows"]) == ("done", 100.0, 1000)
    assert query["bytes_sent"] == len(answer.content)
    assert query == {**show(server, query["id"])}, "the clock of one that has ended stands still"
    answer = sql(server, "SELECT nonsense")
    query = show(server, answer.headers["X-Query-Id"])
    assert (query["state"], query["error"]) == ("failed", "invalid_request")


def test_the_newest_is_first_and_the_old_drop_out(start_eider):
    server = start_eider()
    ids = [sql(server, "SELECT 1").headers["X-Query-Id"] for _ in range(KEPT + 10)]
    assert [query["id"] for query in listing(server)["queries"]] == ids[: -KEPT - 1 : -1]
    assert server.get(f"/queries/{ids[0]}").status_code == 404
    assert show(server, ids[-1])["state"] == "done"


def test_unknown_ids(server):
    for query_id in (UNKNOWN, "x", "%00", "%22", "a" * 2000, "0" * 16, "%20" + UNKNOWN):
        for method in ("GET", "DELETE"):
            answer = server.request(method, f"/queries/{query_id}")
            assert answer.status_code == 404, (method, query_id)
            assert answer.json()["code"] == "not_found"
    answer = server.post(f"/queries/{UNKNOWN}")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, DELETE"


def test_only_the_main_listener_has_these_routes(server, sidecar):
    call = InFlight(sidecar.query, ENDLESS)
    worker = busy_worker(server)
    query = live(server)[0]
    for path in ("/queries", f"/queries/{query['id']}"):
        assert server.get(path, server.snapshot).status_code == 404
    assert server.request("DELETE", f"/queries/{query['id']}", server.snapshot).status_code == 404
    assert not gone(worker)
    assert cancel(server, query["id"]).status_code == 202
    assert error_of(call.result(), 409) == "the query was cancelled"


SECRET = "hunter2"
HIDING_PLACES = [
    f"SELECT '{SECRET}' AS a",
    f"SELECT 'it''s {SECRET}' AS a",
    rf"SELECT E'\'{SECRET}' AS a",
    f"SELECT $${SECRET}$$ AS a",
    f"SELECT $tag$ $$ {SECRET} $tag$ AS a",
    f"SELECT 1 AS a -- {SECRET}",
    f"/* /* */ {SECRET} */ SELECT 1 AS a",
    f"SELECT x'{SECRET.encode().hex()}', '{SECRET}'::BLOB AS a",
    f"SELECT 1 AS a WHERE 1 IN ('{SECRET}')",
    f"SELECT {{'k': '{SECRET}'}} AS a",
    f"SELECT '{SECRET}",
    f'SELECT "{SECRET}',
    f"SELECT 1e'a\\' {SECRET} --'",
    f"SELECT 1$$'$$ {SECRET} --'",
    f"CREATE SECRET s (TYPE s3, KEY_ID {SECRET}, SECRET {SECRET})",
    f"SELECT 1; CREATE SECRET s (SECRET {SECRET})",
    f"SELECT * FROM read_csv('/{SECRET}')",
    f"SELECT error('{SECRET}') AS a",
    f"{SECRET} is no statement",
]


def test_what_a_statement_hides_is_never_shown(start_eider):
    server = start_eider({"EIDER_LOG_LEVEL": "debug"})
    for text in HIDING_PLACES:
        answer = sql(server, text)
        assert answer.headers["X-Query-Id"]
    shown = server.get("/queries").text
    assert SECRET not in shown, [query["statement"] for query in json.loads(shown)["queries"]]
    assert SECRET.encode().hex() not in shown
    assert SECRET not in server.stderr
    assert len(json.loads(shown)["queries"]) == len(HIDING_PLACES)


def test_a_long_statement_is_cut(server):
    names = ", ".join(f"{number} AS column_{number}" for number in range(3000))
    answer = sql(server, f"SELECT {names}")
    assert answer.status_code == 200
    statement = show(server, answer.headers["X-Query-Id"])["statement"]
    assert statement.startswith("SELECT ? AS column_0, ? AS column_1, ")
    assert statement.endswith("...") and 4000 < len(statement) <= 4096


# ---- cancelling ----
@pytest.mark.once
def test_a_cancelled_query_is_gone_within_100_ms(server, sidecar, capsys, wait_until):
    def attempt():
        call = InFlight(sidecar.query, ENDLESS)
        worker = busy_worker(server)
        query = the_one(server, wait_until)
        took = seconds_until_gone(worker, lambda: cancel(server, query["id"]))
        assert error_of(call.result(), 409) == "the query was cancelled"
        return took

    gone_in_time(attempt, capsys, "cancelled")
    sidecar.alive()


@pytest.mark.once
@pytest.mark.parametrize("name", DEAF_STATEMENTS)
def test_a_deaf_statement_is_gone_within_100_ms(server, capsys, wait_until, name):
    def attempt():
        call = InFlight(sql, server, DEAF_STATEMENTS[name])
        worker = busy_worker(server)
        query = the_one(server, wait_until)
        took = seconds_until_gone(worker, lambda: cancel(server, query["id"]))
        answer = call.result()
        assert answer.status_code == 409 and answer.json()["error"] == "the query was cancelled", answer.text
        return took

    gone_in_time(attempt, capsys, name)
    assert server.get("/health/ready").status_code == 200


@pytest.mark.once
def test_a_client_that_leaves_cancels_within_100_ms(server, capsys, wait_until):
    def attempt():
        client = RawPost(server.url, "/query", {"sql": ENDLESS})
        worker = busy_worker(server)
        query = the_one(server, wait_until)
        took = seconds_until_gone(worker, client.close)
        over = ended(server, query["id"], wait_until)
        assert (over["state"], over["error"]) == ("cancelled", "client_gone")
        return took

    gone_in_time(attempt, capsys, "client gone")


@pytest.mark.once
def test_a_streamed_answer_is_cut_within_100_ms(server, capsys, wait_until):
    """The reader stands still: nobody is in the server to take the rows, and the worker blocks."""

    def attempt():
        client = RawPost(server.url, "/query", {"sql": ROWS}, receive_buffer=65536)
        answer = client.answer()
        assert answer.status == 200
        query = the_one(server, wait_until, "streaming")
        worker = wait_until(lambda: answer.read(1 << 20) and busy_now(server), 20, "the worker has sent some")
        took = seconds_until_gone(worker, lambda: cancel(server, query["id"]))
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            while answer.read(1 << 20):
                pass
            raise AssertionError("the body ended as if it were whole")
        leave(client, answer)
        assert ended(server, query["id"], wait_until)["state"] == "cancelled"
        return took

    gone_in_time(attempt, capsys, "streaming")


def test_a_queued_query_leaves_at_once_and_never_runs(narrow, wait_until, s3, s3_proxy):
    sidecar = Sidecar(narrow.snapshot, s3, endpoint=s3_proxy.endpoint)
    sidecar.put_table("t.parquet", pyarrow.table({"a": [1]}))
    first = InFlight(sql, narrow, ENDLESS)
    the_one(narrow, wait_until)
    second = InFlight(sidecar.query, "SELECT a FROM t", {"t": "t.parquet"})
    wait_until(lambda: listing(narrow)["queued"] == 1, 10, "one waits")
    waiting, running = live(narrow)
    assert (waiting["state"], running["state"]) == ("queued", "running")
    assert waiting["queued_ms"] == waiting["elapsed_ms"]
    started = time.monotonic()
    answer = cancel(narrow, waiting["id"])
    assert answer.status_code == 202
    assert answer.json()["state"] == "cancelled", "it has left the queue already"
    assert error_of(second.result(), 409) == "the query was cancelled"
    assert time.monotonic() - started < 2
    assert listing(narrow)["queued"] == 0
    assert not first.done()
    assert cancel(narrow, running["id"]).status_code == 202
    assert first.result().status_code == 409
    assert s3_proxy.count(key="t.parquet") == 0
    sidecar.alive()


def test_cancelling_twice(server, wait_until):
    """The second one tells the state: nothing more happens."""
    call = InFlight(sql, server, ENDLESS)
    query = the_one(server, wait_until)
    assert cancel(server, query["id"]).status_code == 202
    assert call.result().status_code == 409
    again = cancel(server, query["id"])
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")
    done = sql(server, "SELECT 1").headers["X-Query-Id"]
    again = cancel(server, done)
    assert (again.status_code, again.json()["state"]) == (200, "done")


def test_the_answer_of_a_cancelled_query_has_its_listeners_shape(server, sidecar, wait_until):
    call = InFlight(sidecar.query, ENDLESS)
    cancel(server, the_one(server, wait_until)["id"])
    assert call.result().json() == {"error": "the query was cancelled"}
    with RawConnection(server.address()) as raw:
        body = json.dumps({"sql": ENDLESS}).encode()
        fields = ["Content-Type: application/json", f"Content-Length: {len(body)}", "X-Request-Id: r1"]
        raw.request("POST", "/query", fields, body)
        cancel(server, the_one(server, wait_until)["id"])
        answer = raw.answer()
        assert answer.status == 409
        raw.request("GET", "/health/live")
        assert raw.answer().status == 200, "the connection is still good"


def test_looking_and_cancelling_under_load(server, wait_until):
    """Many come and go while others list, show and cancel: every answer is whole, and nothing stays behind."""
    stop = threading.Event()
    statuses = {"query": [], "cancel": []}
    errors = []

    def guarded(work):
        def run():
            try:
                while not stop.is_set():
                    work()
            except BaseException as error:
                errors.append(error)

        return threading.Thread(target=run)

    def query():
        answer = server.post(
            "/query",
            json={"sql": "SELECT sum(i) FROM range(5000000) AS t(i)"},
            headers={"Cache-Control": "no-store"},
        )
        statuses["query"].append(answer.status_code)

    def cancel_one():
        for one in live(server)[::2]:
            statuses["cancel"].append(cancel(server, one["id"]).status_code)

    def look():
        for one in listing(server)["queries"][:3]:
            assert server.get(f"/queries/{one['id']}").status_code in (200, 404)

    threads = [guarded(work) for work in (query,) * 6 + (cancel_one,) + (look,) * 2]
    for thread in threads:
        thread.start()
    wait_until(
        lambda: errors or (statuses["query"].count(200) > 10 and statuses["query"].count(409) > 10), 90, "many ran"
    )
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not errors, errors[0]
    assert set(statuses["query"]) <= {200, 409, 503}
    assert set(statuses["cancel"]) <= {200, 202, 404}
    over = listing(server)
    assert (over["running"], over["queued"]) == (0, 0)
    assert len(over["queries"]) <= KEPT
    try:
        wait_until(lambda: len(workers(server)) <= 1, 5)
    except DeadlinePassed as error:
        raise AssertionError(f"workers left: {workers(server)}") from error
