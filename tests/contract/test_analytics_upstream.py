"""The cases of the original service's own suite, over HTTP, each under its subject there.

What had no sense over HTTP is left out: two handles of one object in a process, a second shutdown, an S3 switch that does
nothing, settings that were copied.
"""

import pyarrow as pa
import pyarrow.parquet
import pytest

from harness.analytics_client import Background, error_of


@pytest.fixture(scope="module")
def service(database):
    assert database.post("/initialize").status_code == 200
    return database


def test_service_initialization(service):
    health = service.get("/health").json()
    assert health["service_initialized"] is True and health["database_exists"] is True


def test_basic_query_execution(service):
    result = service.result("SELECT 1 as test_value")
    assert (result["data"], result["row_count"], result["columns"]) == ([[1]], 1, ["test_value"])
    assert result["execution_time"] > 0


def test_query_with_parameters(service):
    assert service.rows("SELECT ? as param_value", {"1": "test_param"}) == [["test_param"]]


def test_fetch_modes(service):
    sql = "SELECT * FROM VALUES (1, 'a'), (2, 'b'), (3, 'c') AS t(id, name)"
    assert service.result(sql, fetch_mode="all")["row_count"] == 3
    one = service.result(sql, fetch_mode="one")
    assert (one["data"], one["row_count"]) == ([1, "a"], 1)
    assert service.result(sql, fetch_mode="none")["data"] is None


def test_batch_execution(service):
    results = service.batch(
        [
            "CREATE TABLE test_batch (id INTEGER, name VARCHAR)",
            "INSERT INTO test_batch VALUES (1, 'Alice')",
            "INSERT INTO test_batch VALUES (2, 'Bob')",
            "SELECT COUNT(*) FROM test_batch",
        ]
    ).json()["results"]
    assert len(results) == 4 and results[-1]["data"] == [[2]]


def test_batch_rollback(service):
    queries = [
        "CREATE TABLE test_rollback (id INTEGER PRIMARY KEY)",
        "INSERT INTO test_rollback VALUES (1)",
        "INSERT INTO test_rollback VALUES (1)",
    ]
    error_of(service.batch(queries), 400)
    assert "does not exist" in service.error("SELECT * FROM test_rollback")


def test_transactions(service):
    service.rows("CREATE TABLE test_tx (id INTEGER)")
    service.rows("BEGIN; INSERT INTO test_tx VALUES (1); COMMIT")
    assert service.rows("SELECT COUNT(*) FROM test_tx") == [[1]]
    service.rows("BEGIN; INSERT INTO test_tx VALUES (2); ROLLBACK")
    assert service.rows("SELECT COUNT(*) FROM test_tx") == [[1]]


def test_health_check(service):
    health = service.get("/health").json()
    assert health["status"] == "healthy" and health["query_test"]["success"] is True


def test_statistics(service):
    before = service.statistics()["metrics"]["successful_queries"]
    service.rows("SELECT 1", options=None)
    service.rows("SELECT 2", options={"headers": {"Cache-Control": "no-cache"}})
    after = service.statistics()["metrics"]
    assert after["total_queries"] >= 2 and after["successful_queries"] > before


def test_connections_come_back(service):
    service.rows("SELECT 1")
    pool = service.get("/health").json()["connection_pool"]
    assert pool["available_connections"] == pool["max_connections"] >= 2


def test_circuit_breaker(service):
    breaker = service.statistics()["circuit_breaker"]
    assert (breaker["name"], breaker["state"], breaker["failure_count"]) == ("duckdb", "closed", 0)


@pytest.mark.parametrize("sql", ["INVALID SQL SYNTAX HERE", "SELECT * FROM non_existent_table"])
def test_query_errors(service, sql):
    before = service.statistics()["metrics"]["failed_queries"]
    assert service.error(sql).startswith("Query execution failed: Query error: ")
    assert service.statistics()["metrics"]["failed_queries"] == before + 1


def test_json_support(service):
    """The original's own case wanted `test` without its quotes, which no release of the engine gives."""
    sql = """SELECT json_extract('{"name": "test", "value": 42}', '$.name') as name"""
    assert service.rows(sql) == [['"test"']]


def test_concurrent_queries(service):
    answers = [Background(lambda n=n: service.query(f"SELECT {n} as query_id")) for n in range(5)]
    assert [answer.answer().json()["data"] for answer in answers] == [[[n]] for n in range(5)]


def test_memory_limit(service):
    assert service.value("SELECT current_setting('memory_limit')")


def test_an_empty_batch_is_refused(service):
    """In the original's process it gave an empty list; over HTTP its own field rules refuse it."""
    assert service.batch([]).status_code == 422


def test_analytics_workflow(service):
    """Tables, rows, an aggregate, out to Parquet and in again."""
    service.batch(
        [
            "CREATE TABLE page_views (id INTEGER, url VARCHAR, views INTEGER, day DATE)",
            "INSERT INTO page_views VALUES (1, 'a.com', 100, '2024-01-01'), (2, 'b.com', 200, '2024-01-01')",
            "INSERT INTO page_views VALUES (3, 'a.com', 150, '2024-01-02')",
        ]
    )
    sql = "SELECT url, SUM(views) AS total FROM page_views GROUP BY url ORDER BY total DESC"
    assert service.rows(sql) == [["a.com", 250], ["b.com", 200]]
    place = f"{service.name}/workflow.parquet"
    assert service.post("/export", {"query": sql, "to": place}).json()["rows"] == 2
    table = pyarrow.parquet.read_table(service.server.data / "backup" / place)
    assert table.column_names == ["url", "total"] and isinstance(table, pa.Table)
    assert service.post("/import", {"table": "totals", "from": place}).status_code == 200
    assert service.rows("SELECT url FROM totals WHERE total > 200") == [["a.com"]]


def test_concurrent_aggregates(service):
    service.rows("CREATE TABLE perf AS SELECT range AS id, range % 10 AS kind, range * 1.5 AS amount FROM range(1000)")
    sql = "SELECT kind, COUNT(*), AVG(amount) FROM perf WHERE id >= {} GROUP BY kind ORDER BY kind"
    answers = [Background(lambda n=n: service.query(sql.format(n))) for n in range(10)]
    for answer in answers:
        assert len(answer.answer().json()["data"]) == 10


def test_the_sample_of_the_documents(service):
    """With its `limit`, which nothing in the statement takes: the original refused its own sample."""
    answer = service.post(
        "/query",
        {
            "query": "SELECT * FROM (VALUES ('a.com', 3), ('b.com', 5)) AS pages(domain, n) ORDER BY n DESC LIMIT 10",
            "params": {"limit": 10},
            "fetch_mode": "all",
            "timeout_seconds": 30,
        },
    )
    assert answer.json()["data"] == [["b.com", 5], ["a.com", 3]]
