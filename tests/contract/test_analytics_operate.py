"""Health, statistics, breaker, initialise, templates, errors of routes, numbers for Prometheus."""

import re

import pytest

from harness.analytics_client import PREFIX, Analytics, error_of, faults_of
from harness.prometheus import scrape

HEALTH = {
    *("status", "timestamp", "service_initialized", "database_path", "database_exists", "database_size_mb", "query_test"),
    *("connection_pool", "circuit_breaker", "metrics", "system", "errors"),
}
BREAKER = {
    *("name", "state", "failure_count", "success_count", "recent_failures", "next_attempt_time", "seconds_until_retry"),
    *("config", "metrics", "success_rate"),
}
BREAKER_METRICS = {
    *("total_requests", "successful_requests", "failed_requests", "success_rate", "circuit_open_count"),
    *("avg_response_time", "last_failure_time", "last_success_time"),
}
METRICS = {
    *("total_connections", "active_connections", "total_queries", "successful_queries", "failed_queries"),
    *("success_rate", "avg_query_time", "memory_usage_mb", "last_query_time"),
}
SYSTEM = {
    *("process_memory_mb", "process_memory_percent", "cpu_percent", "system_memory_percent", "system_cpu_percent"),
    "disk_usage_percent",
}
LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?")
SMALL = {"EIDER_ANALYTICS_LISTEN": "127.0.0.1:0", "DUCKDB_WORKER_THREADS": "1"}


# ---- health ----


def test_health(analytics):  # 1
    answer = analytics.get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == HEALTH and len(HEALTH) == 12
    assert (body["status"], body["service_initialized"], body["database_exists"]) == ("healthy", True, True)
    assert LOCAL_TIME.fullmatch(body["timestamp"])
    assert body["database_path"].endswith("/default.duckdb") and body["database_size_mb"] > 0
    assert body["query_test"]["success"] is True and body["query_test"]["execution_time"] > 0
    assert body["connection_pool"]["max_connections"] == 4  # twice the workers
    assert body["errors"] == []
    breaker = body["circuit_breaker"]
    assert set(breaker) == BREAKER
    assert (breaker["name"], breaker["state"]) == ("duckdb", "closed")
    assert breaker["config"] == {"failure_threshold": 5, "success_threshold": 3, "timeout_seconds": 30}
    assert BREAKER_METRICS <= set(breaker["metrics"])
    assert set(body["metrics"]) == METRICS and set(body["system"]) == SYSTEM


def test_a_request_that_turns_out_to_change_something_is_one(own_database):
    """It is refused as one that reads and runs again as one that writes: of that nobody is told."""
    own_database.rows("CREATE SEQUENCE q; CREATE MACRO m() AS nextval('q')")
    before = own_database.statistics()
    assert [own_database.value("SELECT m()") for _ in range(3)] == [1, 2, 3]
    after = own_database.statistics()
    for name, more in (("total_queries", 3), ("successful_queries", 3), ("failed_queries", 0)):
        assert after["metrics"][name] - before["metrics"][name] == more, name
    total = [told["circuit_breaker"]["metrics"]["total_requests"] for told in (before, after)]
    assert total[1] - total[0] == 3


def test_a_probe_is_no_query(database):
    before = database.statistics()
    for _ in range(3):
        assert database.get("/health").json()["status"] == "healthy"
    after = database.statistics()
    assert before["metrics"]["total_queries"] == after["metrics"]["total_queries"]
    assert before["circuit_breaker"]["metrics"]["total_requests"] == after["circuit_breaker"]["metrics"]["total_requests"]


def test_health_answers_head(analytics):
    answer = analytics.request("HEAD", analytics.path("/health"))
    assert (answer.status_code, answer.content) == (200, b"")


# ---- statistics ----


def test_statistics(database):  # 2
    database.rows("SELECT 1")
    database.error("SELECT * FROM nowhere")
    body = database.statistics()
    assert list(body) == [
        *("service", "metrics", "performance", "system", "circuit_breaker", "database_file", "query_analysis"),
    ]
    service = body["service"]
    assert set(service) == {"initialized", "uptime_seconds", "database_path", "memory_limit", "worker_threads"}
    assert (service["initialized"], service["memory_limit"], service["worker_threads"]) == (True, "512MB", 2)
    assert set(body["metrics"]) == METRICS and set(body["system"]) == SYSTEM
    assert body["metrics"]["total_connections"] == 1 and body["metrics"]["memory_usage_mb"] > 1
    assert LOCAL_TIME.fullmatch(body["metrics"]["last_query_time"])
    assert {"avg_query_time", "recent_query_times", "success_rate"} <= set(body["performance"])
    assert {"size_mb", "created", "modified", "wal_size_mb"} == set(body["database_file"])
    assert LOCAL_TIME.fullmatch(body["database_file"]["created"])
    analysis = body["query_analysis"]
    assert {"total_queries", "min_time", "max_time", "median_time", "queries_over_1s", "queries_over_5s"} < set(analysis)
    assert analysis["min_time"] <= analysis["median_time"] <= analysis["p95_time"] <= analysis["p99_time"]
    assert analysis["p99_time"] <= analysis["max_time"]
    # The other layout of the original's documents.
    assert body["circuit_breaker"]["success_rate"] == body["circuit_breaker"]["metrics"]["success_rate"]
    assert {"queries_over_1s", "queries_over_5s"} <= set(body["performance"])


def test_statistics_before_any_query(own_database):
    assert own_database.statistics()["query_analysis"] is None
    assert own_database.statistics()["metrics"]["success_rate"] == 100.0


def test_the_counts_are_true(own_database):  # 33, A-30
    for _ in range(7):
        own_database.rows("SELECT 1", options={"headers": {"Cache-Control": "no-cache"}})
    for _ in range(3):
        own_database.batch(["SELECT 1", "SELECT 2", "SELECT 3"])
    own_database.error("SELECT * FROM nowhere")
    own_database.batch(["SELECT * FROM nowhere"])
    metrics = own_database.statistics()["metrics"]
    assert (metrics["total_queries"], metrics["successful_queries"], metrics["failed_queries"]) == (12, 10, 2)
    assert metrics["success_rate"] == 83.33
    performance = own_database.statistics()["performance"]
    assert len(performance["recent_query_times"]) == 10
    assert abs(performance["success_rate"] - 100 * 10 / 12) < 1e-6


def test_slow_statements_are_shown_without_their_values(own_database):
    own_database.rows("SELECT 'secret-word' AS a, 4711 AS b")
    own_database.rows("CREATE TABLE t (a VARCHAR); SELECT 1")
    own_database.rows("INSERT INTO t VALUES ('secret-word')")
    text = own_database.get("/statistics").text
    assert "secret-word" not in text and "4711" not in text
    shown = {entry["statement"] for entry in own_database.statistics()["query_analysis"]["slowest"]}
    assert {"SELECT ? AS a, ? AS b", "INSERT INTO t VALUES (?)"} <= shown


# ---- initialise, breaker ----


def test_initialize_twice(database):  # 28
    for _ in range(2):
        answer = database.post("/initialize")
        assert answer.status_code == 200
        assert answer.text == '{"status":"success","message":"DuckDB service initialized successfully"}'


def test_reset_the_breaker(own_database):  # 27
    answer = own_database.post("/circuit-breaker/reset")
    assert answer.status_code == 200
    assert answer.text == '{"status":"success","message":"Circuit breaker reset to closed state"}'
    breaker = own_database.statistics()["circuit_breaker"]
    assert (breaker["state"], breaker["failure_count"], breaker["success_count"]) == ("closed", 0, 0)
    assert breaker["next_attempt_time"] is None and breaker["seconds_until_retry"] is None


def test_what_clients_do_wrong_does_not_open_the_breaker(own_database):  # 25, A-16
    for n in range(7):
        own_database.error(f"SELEC {n}")
        own_database.error(f"SELECT * FROM nowhere_{n}")
    assert own_database.rows("SELECT 1") == [[1]]
    breaker = own_database.statistics()["circuit_breaker"]
    assert (breaker["state"], breaker["failure_count"]) == ("closed", 0)


def test_the_rule_of_the_original_behind_its_switch(start_eider):  # 25, 22
    client = Analytics(start_eider({**SMALL, "EIDER_BREAKER_COUNTS_STATEMENTS": "true"}))
    for _ in range(5):
        client.error("SELEC 1")
    for answer in (client.query("SELECT 1"), client.batch(["SELECT 1"]), client.get("/templates/page-stats")):
        assert "Circuit breaker 'duckdb' is OPEN" in error_of(answer, 503)
        assert 1 <= int(answer.headers["Retry-After"]) <= 30
    breaker = client.statistics()["circuit_breaker"]
    assert (breaker["state"], breaker["metrics"]["circuit_open_count"]) == ("open", 1)
    assert breaker["metrics"]["refused_requests"] == 3 and 0 < breaker["seconds_until_retry"] <= 30
    assert client.get("/health").json()["status"] == "healthy"  # the engine is fine
    client.post("/circuit-breaker/reset")
    assert client.rows("SELECT 1") == [[1]]


# ---- templates ----

PAGES = [
    ("a.com", 10, "2024-01-30 00:00:00"),
    ("a.com", 20, "2024-01-31 05:00:00"),
    ("b.com", 7, "2024-02-01 00:00:00"),
]


@pytest.fixture(scope="module")
def pages(eider_binary, tmp_path_factory):
    """A default database with pages_analytics; before that, what is told without it."""
    from harness.eider_process import EiderFactory

    factory = EiderFactory(eider_binary, lambda: tmp_path_factory.mktemp("eider"))
    client = Analytics(factory({**SMALL, "DUCKDB_MEMORY_LIMIT": "2GB"}))
    client.without_table = [client.get("/templates/page-stats") for _ in range(6)]
    client.rows("CREATE TABLE pages_analytics (domain VARCHAR, content_length BIGINT, created_at TIMESTAMP)")
    for row in PAGES:
        client.rows("INSERT INTO pages_analytics VALUES (?, ?, ?)", {str(n + 1): v for n, v in enumerate(row)})
    yield client
    factory.finish()


def test_page_stats_without_the_table(pages):  # 29
    for answer in pages.without_table:
        assert error_of(answer, 404) == "Analytics tables not yet created. Run data sync first."


def test_page_stats(pages):
    body = pages.get("/templates/page-stats").json()
    assert list(body) == ["data", "execution_time", "memory_usage", "row_count", "columns", "query_hash"]
    assert body["columns"] == ["domain", "page_count", "avg_content_length", "last_scraped"]
    assert body["data"] == [["a.com", 2, 15.0, "2024-01-31T05:00:00"], ["b.com", 1, 7.0, "2024-02-01T00:00:00"]]
    assert '"a.com",2,15.0,' in pages.get("/templates/page-stats").text


@pytest.mark.parametrize(
    "query, domains",
    [
        ("end_date=2024-01-31", [["a.com", 2]]),  # 31, A-24
        ("end_date=2024-01-30", [["a.com", 1]]),
        ("start_date=2024-01-31", [["a.com", 1], ["b.com", 1]]),
        ("start_date=2024-02-01&end_date=2024-02-01", [["b.com", 1]]),
        ("limit=1", [["a.com", 2]]),
        ("limit=1000", [["a.com", 2], ["b.com", 1]]),
    ],
)
def test_page_stats_of_some_days(pages, query, domains):
    answer = pages.get(f"/templates/page-stats?{query}")
    assert answer.status_code == 200, answer.text
    assert [row[:2] for row in answer.json()["data"]] == domains


@pytest.mark.parametrize(
    "query, field",
    [
        ("limit=0", "query.limit"),  # 30
        ("limit=1001", "query.limit"),
        ("limit=x", "query.limit"),
        ("start_date=yesterday", "query.start_date"),  # 31, A-23
        ("end_date=2024-02-30", "query.end_date"),
        ("start_date=2024-01-01';%20DROP%20TABLE%20pages_analytics;--", "query.start_date"),
    ],
)
def test_page_stats_refuses(pages, query, field):
    assert set(faults_of(pages.get(f"/templates/page-stats?{query}"))) == {field}
    assert pages.value("SELECT count(*) FROM pages_analytics") == 3


def test_page_stats_with_another_table_of_that_name(own_database, pages):
    """Only the table's absence is 404."""
    pages.rows("ALTER TABLE pages_analytics RENAME COLUMN domain TO host")
    try:
        detail = error_of(pages.get("/templates/page-stats"), 400)
        assert detail.startswith("Query execution failed: Query error: Binder Error")
    finally:
        pages.rows("ALTER TABLE pages_analytics RENAME COLUMN host TO domain")


def test_performance_metrics(analytics):  # 32
    body = analytics.get("/templates/performance-metrics").json()
    assert list(body) == ["query_performance", "system_performance", "memory_usage", "circuit_breaker"]
    assert {"total_queries", "success_rate", "avg_query_time", "recent_query_times"} == set(body["query_performance"])
    assert set(body["system_performance"]) == SYSTEM
    assert {"service_memory_mb", "avg_query_memory_mb"} == set(body["memory_usage"])
    assert {"state", "success_rate", "failure_count"} == set(body["circuit_breaker"])
    assert body["circuit_breaker"]["state"] == "closed"


# ---- memory ----


def test_the_memory_limit_counts_in_1024s(pages):  # 36, A-38
    assert pages.value("SELECT current_setting('memory_limit')") == "2.0 GiB"


def test_the_percentage_wins_on_a_small_machine(start_eider):  # 36
    client = Analytics(start_eider({**SMALL, "DUCKDB_MEMORY_LIMIT": "900GB", "DUCKDB_MAX_MEMORY_PERCENTAGE": "2"}))
    text = client.value("SELECT current_setting('memory_limit')")
    number, unit = text.split()
    assert float(number) * {"MiB": 1, "GiB": 1024}[unit] < 0.03 * total_memory_mib(), text
    assert client.statistics()["service"]["memory_limit"] == "900GB"


def total_memory_mib():
    with open("/proc/meminfo", encoding="ascii") as lines:
        return int(lines.readline().split()[1]) / 1024


def test_the_engine_needs_nothing_from_outside(analytics):  # 42
    assert analytics.value("SELECT json_extract('[1, 2]', '$[1]')") == "2"
    answer = analytics.query("SELECT 1 AS a", options={"headers": {"Accept": "application/vnd.apache.parquet"}})
    assert answer.content[:4] == b"PAR1"


# ---- paths and methods ----


@pytest.mark.parametrize("path", ["/nowhere", "/queryx", "/templates", "/databases/a/nowhere"])
def test_unknown_paths(analytics, path):  # 40
    answer = analytics.get(path)
    assert (answer.status_code, answer.text) == (404, '{"detail":"Not Found"}')


@pytest.mark.parametrize(
    "method, path", [("DELETE", "/query"), ("GET", "/query"), ("POST", "/health"), ("PUT", "/databases"), ("GET", "/backup")]
)
def test_wrong_methods(analytics, method, path):  # 40
    answer = analytics.request(method, PREFIX + path)
    assert (answer.status_code, answer.text) == (405, '{"detail":"Method Not Allowed"}')
    assert method not in answer.headers["Allow"]


def test_the_address_of_an_error_is_the_whole_one(analytics):
    answer = analytics.get("/templates/page-stats?limit=5")
    assert answer.status_code == 404
    assert answer.json()["path"] == f"{analytics.base}{PREFIX}/templates/page-stats?limit=5"


def test_the_routes_are_on_the_shared_address_too(analytics):
    answer = analytics.server.post(f"{PREFIX}/query", json={"query": "SELECT 1 AS a"})
    assert answer.json()["data"] == [[1]]


# ---- Prometheus ----


def test_numbers_for_prometheus(analytics):
    analytics.rows("SELECT 1")
    analytics.error("SELECT * FROM nowhere")
    metrics = scrape(analytics.server)
    mine = {name: value for (name, labels), value in metrics.samples.items() if name.startswith("chrono_duckdb_")}
    counts = analytics.statistics()["metrics"]
    assert mine["chrono_duckdb_queries_total"] == counts["total_queries"]
    assert mine["chrono_duckdb_queries_successful"] == counts["successful_queries"]
    assert mine["chrono_duckdb_queries_failed"] == counts["failed_queries"] > 0
    assert 0 < mine["chrono_duckdb_query_success_rate"] <= 100
    assert mine["chrono_duckdb_circuit_breaker_state"] == 0 == mine["chrono_duckdb_circuit_breaker_failures"]
    assert mine["chrono_duckdb_file_size_bytes"] > 0 and mine["chrono_duckdb_memory_usage_bytes"] > 0
    assert mine["chrono_duckdb_connections_active"] == 0
    assert mine["chrono_duckdb_connections_total"] == counts["total_queries"]
    assert mine["chrono_duckdb_query_duration_seconds"] > 0
    assert {"chrono_duckdb_slow_queries_1s", "chrono_duckdb_slow_queries_5s"} < set(mine)
    assert mine["chrono_duckdb_metrics_error"] == 0
