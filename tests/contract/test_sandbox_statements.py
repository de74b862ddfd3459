"""Hostile SQL over HTTP: check 27 and the first part of the hostile suite.

After each statement: refused with a 4xx, no canary in the answer, no new file, and the next query works. At the end: no
canary and no secret in the log, and nobody was called on the network."""

import socket
import tempfile
from pathlib import Path

import pyarrow
import pytest

from harness.eider_process import EiderFactory
from harness.snapshot_client import Sidecar, caller_error, error_of
from harness.snapshot_processes import files_below

CANARY = "canary-3f9c1e77"
SECRET = "secret-canary-8d21b6"
ENVIRONMENT_SECRET = "environment-canary-55e0"


class Target:
    """A server, a bucket, and what must not be touched."""

    def __init__(self, server, s3, folder):
        self.server = server
        self.folder = folder
        self.sidecar = Sidecar(server.snapshot, s3)
        self.sidecar.put_table("own.parquet", pyarrow.table({"a": [1, 2, 3]}))
        self.sidecar.put_table("other.parquet", pyarrow.table({"a": [CANARY]}))
        self.other_bucket = s3.make_bucket("other")
        Sidecar(server.snapshot, s3, self.other_bucket).put_table("x.parquet", pyarrow.table({"a": [CANARY]}))
        (folder / "canary.txt").write_text(CANARY)
        (folder / "canary.csv").write_text(f"a,b\n{CANARY},2\n")
        (folder / "canary.json").write_text(f'{{"a":"{CANARY}"}}')
        (folder / "canary.parquet").write_bytes(self.sidecar.object("other.parquet"))
        (folder / "writable").mkdir()
        (folder / "writable").chmod(0o777)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        assert self.sidecar.rows("SELECT sum(a) FROM own", {"own": "own.parquet"}) == [(6,)]
        self.before = self.files()

    def files(self):
        return files_below(self.folder), files_below(self.server.data)

    def fill(self, sql):
        for name, value in {
            "<dir>": self.folder,
            "<data>": self.server.data,
            "<bucket>": self.sidecar.bucket,
            "<other>": self.other_bucket,
            "<port>": self.listener.getsockname()[1],
        }.items():
            sql = sql.replace(name, str(value))
        return sql

    def was_called(self):
        try:
            self.listener.accept()
        except BlockingIOError:
            return False
        return True


@pytest.fixture(scope="module")
def target(eider_binary, tmp_path_factory, s3):
    factory = EiderFactory(eider_binary, lambda: tmp_path_factory.mktemp("sandbox"))
    server = factory(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT",
            "AWS_SECRET_ACCESS_KEY": ENVIRONMENT_SECRET,
            "EIDER_QUERY_TIMEOUT_MS": 10000,
        }
    )
    # Not below pytest's own folder, which only one user may enter: file permissions must not do the sandbox's work.
    with tempfile.TemporaryDirectory(prefix="eider-canaries-") as folder:
        Path(folder).chmod(0o755)
        target = Target(server, s3, Path(folder))
        yield target
        target.listener.close()
        factory.finish()


FILES = [
    "FROM read_csv('/etc/passwd', sep=':')",
    "FROM read_csv_auto('<dir>/canary.csv')",
    "FROM read_text('<dir>/canary.txt')",
    "FROM read_text('/proc/self/environ')",
    "FROM read_text('/proc/self/maps')",
    "FROM read_text('/etc/hostname')",
    "FROM read_blob('<dir>/canary.txt')",
    "FROM read_text(['<dir>/canary.txt'])",
    "FROM '<dir>/canary.csv'",
    "FROM '<dir>/canary.json'",
    "FROM '<dir>/canary.parquet'",
    'FROM "<dir>/canary.parquet"',
    "FROM '/etc/passwd.csv'",
    "FROM glob('/*')",
    "FROM glob('<dir>/*')",
    "FROM sniff_csv('<dir>/canary.csv')",
    "FROM read_json('<dir>/canary.json')",
    "FROM read_json_auto('<dir>/canary.json')",
    "FROM read_ndjson_objects('<dir>/canary.json')",
    "FROM read_json_objects('<dir>/canary.json')",
    "FROM read_parquet('<dir>/canary.parquet')",
    "FROM parquet_scan('<dir>/canary.parquet')",
    "FROM parquet_metadata('<dir>/canary.parquet')",
    "FROM parquet_schema('<dir>/canary.parquet')",
    "FROM parquet_kv_metadata('<dir>/canary.parquet')",
    "FROM parquet_file_metadata('<dir>/canary.parquet')",
    "FROM parquet_bloom_probe('<dir>/canary.parquet', 'a', 'x')",
    "FROM read_text('file://<dir>/canary.txt')",
    "FROM read_text('file:<dir>/canary.txt')",
    "FROM read_text('<data>/../canary.txt')",
    "FROM read_duckdb('<dir>/x.duckdb')",
    "FROM '<dir>/x.duckdb'",
    "SELECT (SELECT content FROM read_text('<dir>/canary.txt'))",
    "WITH x AS (FROM read_text('<dir>/canary.txt')) SELECT * FROM x, own",
    "SELECT * FROM own WHERE a IN (SELECT size FROM read_text('<dir>/canary.txt'))",
    "EXPLAIN ANALYZE SELECT * FROM read_text('<dir>/canary.txt')",
    "DESCRIBE FROM read_csv('<dir>/canary.csv')",
    "SUMMARIZE FROM '<dir>/canary.csv'",
    "PIVOT (FROM read_csv('<dir>/canary.csv')) ON a USING sum(b)",
]

NETWORK = [
    "FROM read_parquet('s3://<bucket>/other.parquet')",
    "FROM 's3://<bucket>/other.parquet'",
    "FROM read_parquet('s3://<other>/x.parquet')",
    "FROM read_parquet('s3://<bucket>/../<other>/x.parquet')",
    "FROM read_parquet(['s3://<bucket>/own.parquet', 's3://<other>/x.parquet'])",
    "FROM glob('s3://<bucket>/*')",
    "FROM read_text('s3://<bucket>/other.parquet')",
    "FROM parquet_metadata('s3://<bucket>/other.parquet')",
    "FROM read_csv('http://127.0.0.1:<port>/x.csv')",
    "FROM 'http://127.0.0.1:<port>/x.parquet'",
    "FROM read_text('https://127.0.0.1:<port>/')",
    "FROM read_csv('http://169.254.169.254/latest/meta-data/')",
    "FROM 'hf://datasets/x/y.parquet'",
    "FROM 'gcs://x/y.parquet'",
    "FROM 'az://x/y.parquet'",
    "FROM 'r2://x/y.parquet'",
    "FROM iceberg_scan('s3://<bucket>/x')",
    "FROM delta_scan('s3://<bucket>/x')",
    "FROM sqlite_scan('<dir>/x.db', 't')",
    "FROM postgres_scan('host=127.0.0.1 port=<port>', 'public', 't')",
]

WRITES = [
    "COPY (SELECT 1) TO '<dir>/writable/x.csv'",
    "COPY (SELECT 1) TO '<data>/x.csv'",
    "COPY (SELECT 1) TO '/tmp/eider-escape-<port>.csv'",
    "COPY (SELECT 1) TO '/dev/stdout'",
    "COPY (SELECT 1 AS a) TO '<dir>/writable' (FORMAT parquet, PARTITION_BY a)",
    "COPY own TO 's3://<bucket>/own.parquet'",
    "COPY own TO 's3://<bucket>/new.parquet' (USE_TMP_FILE false)",
    "COPY own FROM '<dir>/canary.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '<dir>/writable/x.csv'",
    "EXPORT DATABASE '<dir>/writable/e'",
    "IMPORT DATABASE '<dir>'",
    "PRAGMA import_database('<dir>')",
    "ATTACH '<dir>/writable/y.db' AS y",
    "ATTACH ':memory:' AS y",
    "ATTACH 'http://127.0.0.1:<port>/y.db' AS y",
    "ATTACH 's3://<bucket>/y.db' AS y",
    "ATTACH 'sqlite:<dir>/y.db' AS y",
    "ATTACH 'postgres:host=127.0.0.1 port=<port>' AS y",
    "ATTACH 'ducklake:<dir>/y' AS y",
    "CREATE TABLE t AS SELECT 1",
    "CREATE SECRET (TYPE http, EXTRA_HTTP_HEADERS MAP {'a': 'b'})",
    "CREATE PERSISTENT SECRET s (TYPE http)",
    "CREATE MACRO lower(x) AS 'pwned'",
    "CREATE MACRO m(p) AS TABLE FROM query(p)",
    "CREATE VIEW v AS FROM read_text('<dir>/canary.txt')",
]

EXTENSIONS = [
    "INSTALL httpfs",
    "FORCE INSTALL httpfs FROM 'http://127.0.0.1:<port>'",
    "INSTALL httpfs FROM community",
    "INSTALL '<dir>/x.duckdb_extension'",
    "LOAD httpfs",
    "LOAD parquet",
    "LOAD '<dir>/x.duckdb_extension'",
    "UPDATE EXTENSIONS",
]

SETTINGS = [
    "SET enable_external_access = true",
    "SET GLOBAL enable_external_access = true",
    "RESET enable_external_access",
    "PRAGMA enable_external_access = true",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET memory_limit = '100GB'",
    "SET threads = 64",
    "SET temp_directory = '<dir>/writable'",
    "SET allowed_directories = ['/']",
    "SET allowed_paths = ['<dir>/canary.txt']",
    "SET secret_directory = '<dir>/writable'",
    "SET home_directory = '<dir>'",
    "SET profiling_output = '<dir>/writable/p.json'",
    "SET log_query_path = '<dir>/writable/q.log'",
    "SET s3_endpoint = '127.0.0.1:<port>'",
    "SET http_proxy = '127.0.0.1:<port>'",
    "SET custom_extension_repository = 'http://127.0.0.1:<port>'",
    "SET SESSION search_path = 'main'",
    "SET VARIABLE x = 1",
    "PRAGMA memory_limit = '100GB'",
    "PRAGMA disable_optimizer",
    "PRAGMA enable_verification",
    "PRAGMA verify_parallelism",
    "PRAGMA disable_checkpoint_on_shutdown",
    "PRAGMA add_parquet_key('k', '01234567891123450123456789112345')",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA enable_logging",
    "CALL enable_logging(storage = 'file', storage_path = '<dir>/writable')",
    "CALL enable_logging(storage = 'stdout')",
    "CALL enable_profiling(save_location = '<dir>/writable/p')",
    "CHECKPOINT",
    "PRAGMA force_checkpoint",
]

FUNCTIONS = [
    "FROM enable_logging(storage = 'file', storage_path = '<dir>/writable')",
    "FROM enable_logging(storage = 'stdout')",
    "FROM enable_profiling(save_location = '<dir>/writable/p')",
    "FROM enable_peg_parser()",
    "FROM checkpoint()",
    "FROM force_checkpoint()",
    "FROM duckdb_secrets(redact = false)",
    "SELECT getenv('AWS_SECRET_ACCESS_KEY')",
    "SELECT getenv('PATH')",
    "SELECT current_setting('s3_secret_access_key')",
    "SELECT current_setting('s3_access_key_id')",
    "SELECT current_setting('http_proxy_password')",
    "FROM query('FROM read_text(''<dir>/canary.txt'')')",
    "FROM query_table('<dir>/canary.csv')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''<dir>/canary.txt'')'))",
    "FROM json_execute_serialized_sql('{\"x\":1}')",
    "PREPARE p AS FROM read_text($1)",
    "EXECUTE p('<dir>/canary.txt')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM arrow_scan_dumb(1, 2, 3)",
    "FROM seq_scan()",
    "FROM pandas_scan(1)",
    "FROM python_map_function(1)",
    "SELECT pg_sleep(60)",
    "SELECT sleep_ms(60000)",
    "SELECT write_log('canary')",
    "FROM repeat_row(1, 2, num_rows = -1), read_text('<dir>/canary.txt')",
]

SEVERAL = [
    "SELECT 1; FROM read_text('<dir>/canary.txt')",
    "SELECT 1;COPY(SELECT 1)TO'<dir>/writable/x.csv'",
    "COPY/**/(SELECT 1)TO'<dir>/writable/x.csv'",
    "COPY\u00a0(SELECT\u00a01)\u00a0TO\u00a0'<dir>/writable/x.csv'",
    "SELECT $$x$$;COPY (SELECT 1) TO $$<dir>/writable/x.csv$$",
    "SELECT 'x\\'; COPY (SELECT 1) TO '<dir>/writable/x.csv' --'",
    "SELECT E'x\\''; COPY (SELECT 1) TO '<dir>/writable/x.csv'",
    "SELECT 1 /* /* */ ; COPY (SELECT 1) TO '<dir>/writable/x.csv' -- */ */",
    "SELECT 1 --\r; COPY (SELECT 1) TO '<dir>/writable/x.csv'\n; SELECT 2",
    "FROM read_text(E'\\x2fetc\\x2fpasswd')",
    "FROM read_text(concat('<dir>', '/canary.txt'))",
    "FROM read_text('<dir>/canary' || '.txt')",
    "SELECT 1\u0000; FROM read_text('<dir>/canary.txt')",
]


@pytest.mark.parametrize("sql", FILES + NETWORK + WRITES + EXTENSIONS + SETTINGS + FUNCTIONS + SEVERAL)
def test_hostile_statement(target, sql):
    answer = target.sidecar.query(target.fill(sql), {"own": "own.parquet"})
    caller_error(answer)
    for hidden in (CANARY, ENVIRONMENT_SECRET, target.sidecar.s3.secret_key, "root:x:"):
        assert hidden not in answer.text
    assert target.files() == target.before
    assert target.sidecar.rows("SELECT sum(a) FROM own", {"own": "own.parquet"}) == [(6,)]


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
    error_of(target.sidecar.query("FROM own", tables, s3_config=config), 502)


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
    "path",
    [
        "x') ; COPY (SELECT 1) TO '<dir>/writable/x.csv' --",
        "own.parquet', '<dir>/canary.parquet",
        "<dir>/canary.parquet",
    ]
    + ["s3://<other>/x.parquet", "file://<dir>/canary.parquet", "%2e%2e/<other>/x.parquet", "..%2f<other>/x.parquet"],
)
def test_hostile_paths(target, path):
    """A path is a key of the request's bucket and is never pasted into SQL."""
    answer = target.sidecar.query("SELECT * FROM t", {"t": target.fill(path)})
    error_of(answer, 400, 404, 502)
    assert CANARY not in answer.text
    assert target.files() == target.before


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
    assert not Path(target.fill("/tmp/eider-escape-<port>.csv")).exists()
    assert not target.was_called()
    log = target.server.stderr + target.server.stdout
    for hidden in (CANARY, SECRET, ENVIRONMENT_SECRET, target.sidecar.s3.secret_key):
        assert hidden not in log
    assert target.server.running()
