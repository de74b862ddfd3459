"""Hosted databases by name: made, listed, dropped to the trash; more of them than may be open; closed when idle."""

import pytest

from harness.analytics_client import PREFIX, Analytics, Background, error_of, faults_of
from harness.prometheus import scrape

SMALL = {"EIDER_ANALYTICS_LISTEN": "127.0.0.1:0", "DUCKDB_MEMORY_LIMIT": "256MB", "DUCKDB_WORKER_THREADS": "1"}


def open_ones(client):
    return sorted(name for name, entry in client.listed().items() if entry["status"] == "open")


def processes(client):
    """How many hold a database open."""
    return scrape(client.server).value("eider_database_workers")


# ---- made, shown, listed ----


def test_a_database_is_made_shown_and_listed(analytics):
    made = analytics.make("orders-2024_a")
    shown = made.get("").json()
    assert shown["name"] == "orders-2024_a"
    assert set(shown) == {
        *("name", "status", "size_bytes", "wal_bytes", "memory_bytes", "memory_limit_bytes", "running", "waiting"),
        *("circuit_breaker", "problem"),
    }
    assert (shown["circuit_breaker"], shown["problem"], shown["running"]) == ("closed", None, 0)
    made.rows("CREATE TABLE t AS SELECT 5 AS a")
    assert made.get("").json()["status"] == "open"
    assert {"default", "orders-2024_a"} <= set(analytics.listed())
    assert error_of(analytics.request("POST", f"{PREFIX}/databases", json={"name": "orders-2024_a"}), 409)
    # Without regard to case, as some file systems are; capitals are refused before that.
    assert analytics.request("POST", f"{PREFIX}/databases", json={"name": "Orders-2024_a"}).status_code == 422
    made.drop()


def test_the_database_may_be_named_in_the_body(analytics, own_database, table):
    own_database.rows(f"CREATE TABLE {table} AS SELECT 7 AS a")
    assert analytics.rows(f"SELECT a FROM {table}", database=own_database.name) == [[7]]
    answer = analytics.batch([f"SELECT a FROM {table}"], database=own_database.name)
    assert answer.json()["results"][0]["data"] == [[7]]
    analytics.error(f"SELECT a FROM {table}")
    assert analytics.rows("SELECT 1", database=None) == [[1]]
    assert analytics.rows("SELECT 1", database="default") == [[1]]


NAMES = ["", "-a", "_a", "a.b", "a/b", "../a", "A", "é", "a b", "a" * 64, "a\x00b", "con:"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_refused(analytics, name):
    before = set(analytics.listed())
    answer = analytics.request("POST", f"{PREFIX}/databases", json={"name": name})
    assert set(faults_of(answer)) == {"body.name"}
    if name:
        assert set(faults_of(analytics.query("SELECT 1", database=name))) == {"body.database"}
    assert set(analytics.listed()) == before


@pytest.mark.parametrize("body", [{}, {"name": None}, {"name": 1}, [], "{"])
def test_a_body_without_a_name(analytics, body):
    answer = analytics.request("POST", f"{PREFIX}/databases", json=body) if body != "{" else None
    answer = answer or analytics.request("POST", f"{PREFIX}/databases", data=body)
    assert faults_of(answer)


def test_the_longest_name(analytics):
    made = analytics.make("a" * 63)
    assert made.rows("SELECT 1") == [[1]]
    assert made.drop().status_code == 200


def test_a_database_that_is_not_there(analytics):
    nobody = Analytics(analytics.server, "nobody")
    assert "nobody" in error_of(nobody.query("SELECT 1"), 404)
    assert "nobody" in error_of(nobody.batch(["SELECT 1"]), 404)
    assert "nobody" in error_of(analytics.query("SELECT 1", database="nobody"), 404)
    for route in ("", "/health", "/statistics"):
        error_of(nobody.get(route), 404)
    for route in ("/initialize", "/circuit-breaker/reset"):
        error_of(nobody.post(route), 404)
    error_of(nobody.drop(), 404)
    assert "nobody" not in analytics.listed()


# ---- dropped ----


def test_a_dropped_database_is_in_the_trash(analytics):
    made = analytics.make("dropped")
    made.rows("CREATE TABLE t AS SELECT 1 AS a")
    answer = made.drop()
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    error_of(made.query("SELECT * FROM t"), 404)
    trash = [path.name for path in (analytics.server.data / "trash").iterdir() if "dropped" in path.name]
    assert trash
    assert not list((analytics.server.data / "db").glob("dropped*"))
    again = analytics.make("dropped")
    again.error("SELECT * FROM t")
    again.drop()


def test_a_drop_waits_for_what_runs(analytics, wait_until):
    made = analytics.make()
    sql = "SELECT sum(sqrt(a.range * b.range)) > 0 FROM range(3000) a, range(5000) b"
    slow = Background(lambda: made.query(sql))
    wait_until(lambda: slow.done() or made.get("").json()["running"] == 1)
    assert made.drop().status_code == 200
    assert slow.answer().json()["data"] == [[True]]
    error_of(made.query("SELECT 1"), 404)


def test_the_default_one_is_empty_after_a_drop(start_eider):
    server = start_eider(SMALL)
    client = Analytics(server)
    client.rows("CREATE TABLE t AS SELECT 1 AS a")
    assert client.drop("default").status_code == 200
    client.error("SELECT * FROM t")
    client.rows("CREATE TABLE t AS SELECT 2 AS a")
    assert client.rows("FROM t") == [[2]]


# ---- limits ----


def test_as_many_as_allowed(start_eider):
    client = Analytics(start_eider({**SMALL, "EIDER_DATABASES_MAX": "3"}))
    client.rows("SELECT 1")
    first, _ = client.make(), client.make()
    answer = client.request("POST", f"{PREFIX}/databases", json={"name": "onemore"})
    assert 400 <= answer.status_code < 600 and "3" in error_of(answer, answer.status_code)
    first.drop()
    client.make("onemore")


@pytest.mark.once
def test_more_databases_than_may_be_open(start_eider):
    """One at a time: each use of another closes the one before, and nothing is lost."""
    client = Analytics(start_eider({**SMALL, "EIDER_DATABASES_OPEN_MAX": "1"}))
    made = [client.make(f"d{n}") for n in range(3)]
    for database in made:
        database.rows(f"CREATE TABLE t AS SELECT '{database.name}' AS name")
        assert open_ones(client) == [database.name]
    for database in made[::-1] + made:
        assert database.rows("SELECT name FROM t") == [[database.name]]
    assert processes(client) == 1
    # At the same time they take turns.
    requests = [Background(lambda d=d: d.query("SELECT name FROM t")) for d in made for _ in range(3)]
    assert sorted(request.answer().json()["data"][0][0] for request in requests) == ["d0"] * 3 + ["d1"] * 3 + ["d2"] * 3


@pytest.mark.once
def test_an_idle_database_is_closed_and_opened_again(start_eider, wait_until):
    client = Analytics(start_eider({**SMALL, "EIDER_DATABASE_IDLE_MS": "1000"}))
    client.rows("CREATE TABLE t AS SELECT 1 AS a")
    assert open_ones(client) == ["default"]
    wait_until(lambda: open_ones(client) == [] and processes(client) == 0, 10)
    assert client.get("/health").json()["status"] == "healthy"
    assert client.rows("FROM t") == [[1]]


def test_databases_are_there_after_a_restart(start_eider):  # 39
    first = start_eider(SMALL)
    made = Analytics(first).make("kept")
    made.rows("CREATE TABLE t AS SELECT 1 AS a; INSERT INTO t VALUES (2)")
    assert first.stop() == 0
    second = Analytics(start_eider(SMALL, data=first.data))
    assert second.listed()["kept"]["status"] == "closed"
    assert Analytics(second.server, "kept").rows("SELECT a FROM t ORDER BY a") == [[1], [2]]


def test_an_orderly_end_lets_statements_end(start_eider, wait_until):  # 39
    client = Analytics(start_eider(SMALL))
    sql = "SELECT sum(sqrt(a.range * b.range)) > 0 AS slow FROM range(3000) a, range(5000) b"
    slow = Background(lambda: client.query(sql))
    wait_until(lambda: slow.done() or client.get("/databases/default").json()["running"] == 1)
    assert client.server.stop() == 0
    assert slow.answer().json()["data"] == [[True]]


def test_two_first_requests_open_the_file_once(start_eider):  # 41, A-13
    client = Analytics(start_eider(SMALL))
    requests = [Background(lambda: client.query("SELECT 1")) for _ in range(8)]
    assert [request.answer().status_code for request in requests] == [200] * 8
    assert processes(client) == 1


def test_a_path_that_cannot_be_written(start_eider, tmp_path, wait_until):  # 35, A-12
    """503 on every route that needs the file, and all is well as soon as the cause is gone."""
    place = tmp_path / "data"
    place.write_text("a file where a folder should be")
    client = Analytics(start_eider({**SMALL, "DUCKDB_DATABASE_PATH": str(place / "analytics.duckdb")}))
    for answer in (client.query("SELECT 1"), client.batch(["SELECT 1"]), client.post("/initialize")):
        detail = error_of(answer, 503)
        assert str(tmp_path) not in detail
        assert int(answer.headers["Retry-After"]) >= 1
    health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "unhealthy")
    assert health.json()["errors"] and health.json()["query_test"] is None
    assert client.get("/health?strict=1").status_code == 503
    assert client.get("/statistics").status_code == 200
    place.unlink()
    client.post("/circuit-breaker/reset")

    def works():
        return client.query("SELECT 1").status_code == 200

    wait_until(works, 15, interval=0.1)
    assert client.get("/health?strict=1").status_code == 200
    assert place.joinpath("analytics.duckdb").exists()
