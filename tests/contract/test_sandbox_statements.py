"""Looking around, state between requests, hostile names and deep nesting. The table of hostile statements and requests
is in hostile/: it is tested with all layers on, and with each layer alone."""

from pathlib import Path

import pytest

from harness.hostile_target import CANARY, ENVIRONMENT_SECRET, SECRET, running_target
from harness.snapshot_client import caller_error, error_of

@pytest.fixture(scope="module")
def target(eider_binary, tmp_path_factory, s3):
    with running_target(eider_binary, tmp_path_factory, s3) as target:
        yield target


LOOKS = [
    "FROM duckdb_secrets()",
    "FROM which_secret('s3://<bucket>/x', 's3')",
    "FROM duckdb_settings()",
    "FROM pg_catalog.pg_settings",
    "SELECT current_setting('temp_directory')",
    "SELECT current_setting('home_directory')",
    "SELECT current_setting('extension_directory')",
    "SELECT current_setting('secret_directory')",
    "FROM duckdb_extensions()",
    "FROM duckdb_logs",
    "FROM duckdb_log_contexts()",
    "FROM duckdb_prepared_statements()",
    "FROM duckdb_variables()",
    "FROM duckdb_temporary_files()",
    "FROM duckdb_external_file_cache()",
    "FROM duckdb_databases()",
    "FROM duckdb_views()",
    "FROM duckdb_tables()",
    "FROM information_schema.tables",
    "FROM sqlite_master",
    "FROM pragma_database_list()",
    "SELECT current_query()",
    "SELECT getvariable('x')",
    "SHOW ALL TABLES",
    "SHOW DATABASES",
]


@pytest.mark.parametrize("sql", LOOKS)
def test_looking_around_shows_nothing(target, sql):
    """Refused, or answered with what is no secret: no credentials, no folder of the server, no other request."""
    answer = target.sidecar.query(target.fill(sql), {"own": "own.parquet"})
    assert answer.status_code in (200, 400, 403), answer.text
    config = target.sidecar.config
    for hidden in (
        CANARY,
        ENVIRONMENT_SECRET,
        "AKIAENVIRONMENT",
        config["secretAccessKey"],
        config["accessKeyId"],
        str(target.server.data),
        str(Path.home()).rstrip("/") + "/",
    ):
        assert hidden not in answer.text
    target.sidecar.alive()


def test_a_secret_in_the_request_is_in_no_answer(target):
    """The keys of s3_config are held where neither SQL nor an error text can reach them."""
    config = {**target.sidecar.config, "accessKeyId": "AKIACANARY", "secretAccessKey": SECRET}
    tables = {"own": "own.parquet"}
    for sql in [
        "FROM own",
        "selec 1",
        "FROM nowhere",
        "SELECT current_setting('s3_secret_access_key')",
        "FROM duckdb_secrets()",
    ]:
        assert SECRET not in target.sidecar.query(sql, tables, s3_config=config).text
    error_of(target.sidecar.query("FROM own", tables, s3_config=config), 403)


@pytest.mark.parametrize(
    "first, second",
    [
        ("CREATE MACRO lower(x) AS 'pwned'", "SELECT lower('A') AS v"),
        ("SET VARIABLE made = 'pwned'", "SELECT coalesce(getvariable('made'), 'a') AS v"),
        ("CREATE TEMP TABLE made AS SELECT 1", "SELECT 'a' AS v"),
        ("BEGIN", "SELECT 'a' AS v"),
    ],
)
def test_state_does_not_pass_between_requests(target, first, second):
    caller_error(target.sidecar.query(first))
    answer = target.sidecar.query(second)
    assert answer.status_code == 400 or answer.json()["rows"] == [{"v": "a"}]


@pytest.mark.parametrize(
    "name", ["x\"; COPY (SELECT 1) TO '<dir>/writable/x.csv'; --", "x' UNION SELECT 1 --", "<dir>/canary.csv"]
)
def test_hostile_table_names(target, name):
    name = target.fill(name)
    quoted = '"' + name.replace('"', '""') + '"'
    assert target.sidecar.rows(f"SELECT sum(a) FROM {quoted}", {name: "own.parquet"}) == [(6,)]
    assert target.files() == target.before


@pytest.mark.once
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 100000 + "1" + ")" * 100000,
        "SELECT " + "[" * 100000 + "]" * 100000,
        "SELECT " + "NOT " * 100000 + "true",
        "SELECT " + "CASE WHEN true THEN " * 20000 + "1" + " END" * 20000,
        "SELECT " + "CAST(" * 50000 + "1" + " AS INT)" * 50000,
        "SELECT NULL::" + "STRUCT(a " * 20000 + "INT" + ")" * 20000,
        "SELECT 1" + "+1" * 100000,
        "/*" * 100000 + "*/" * 100000,
        "SELECT '" + "x" * 10000000,
    ],
    ids=["parentheses", "lists", "not", "case", "cast", "struct", "plus", "comments", "open-text"],
)
def test_statements_that_nest_deeply(target, sql):
    answer = target.sidecar.query(sql)
    assert answer.status_code in (200, 400, 413, 422, 500, 504), answer.text[:200]
    if answer.status_code != 200:
        error_of(answer, answer.status_code)
    target.sidecar.alive()


def test_at_the_end_nothing_was_written_called_or_logged(target):
    """Last of the module."""
    assert target.files() == target.before
    assert target.listener.calls == 0
    log = target.server.stderr + target.server.stdout
    for hidden in (CANARY, SECRET, ENVIRONMENT_SECRET, target.sidecar.s3.secret_key):
        assert hidden not in log
    assert target.server.running()
