"""The hostile table, and more that changes or defines, sent to a hosted database: refused or harmless. No file outside
of the database's own, no connection, no setting; the server and the other databases answer. Then once more without the
statement rules and without the engine's settings (build/layers): the operating system and the server's file questions
hold alone."""

import contextlib
import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from harness.eider_process import EiderFactory
from harness.hosted import LISTENER, Hosted
from harness.hostile_target import CANARY, ENVIRONMENT_SECRET, Listener, contents, internet_listeners
from hostile.rows import ROWS
from hostile.test_hostile_layers import layers_binary  # noqa: F401 - a fixture

pytestmark = pytest.mark.once

SKIPPED = ("waits",)  # about deadlines: test_database_limits.py
REFUSED = ("reads", "connects", "loads")  # whatever the role; the rest may change the database it is sent to

# What only a role that writes can try. <own> is the database's own file.
MORE = [
    "INSERT INTO own SELECT size FROM read_text('<dir>/canary.txt')",
    "INSERT INTO words SELECT content FROM read_text('<dir>/canary.txt') RETURNING *",
    "CREATE TABLE stolen AS FROM read_csv('<dir>/canary.csv')",
    "CREATE TABLE stolen AS FROM '<dir>/canary.csv'",
    "CREATE OR REPLACE VIEW v AS FROM read_text('<dir>/canary.txt'); FROM v",
    "CREATE OR REPLACE VIEW v AS FROM '<dir>/canary.parquet'; FROM v",
    "CREATE OR REPLACE MACRO m(p) AS TABLE FROM read_text(p); FROM m('<dir>/canary.txt')",
    "CREATE OR REPLACE MACRO m(p) AS TABLE SELECT * FROM query('FROM read_text(''' || p || ''')')",
    "CREATE OR REPLACE MACRO m() AS (SELECT content FROM read_text('<dir>/canary.txt')); SELECT m()",
    "CREATE OR REPLACE MACRO m() AS getenv('AWS_SECRET_ACCESS_KEY'); SELECT m()",
    "CREATE TABLE d(a VARCHAR DEFAULT (getenv('AWS_SECRET_ACCESS_KEY'))); INSERT INTO d DEFAULT VALUES; FROM d",
    "CREATE TABLE g(a INT, b VARCHAR GENERATED ALWAYS AS (getenv('HOME')))",
    "CREATE TABLE c(a VARCHAR CHECK (a <> getenv('HOME')))",
    "CREATE INDEX i ON own (getenv('HOME'))",
    "UPDATE words SET a = (SELECT content FROM read_text('<dir>/canary.txt')); FROM words",
    "DELETE FROM own WHERE EXISTS (FROM read_csv('<dir>/canary.csv'))",
    "MERGE INTO words USING (FROM read_text('<dir>/canary.txt')) AS s ON true WHEN NOT MATCHED THEN INSERT VALUES (s.content)",
    "INSERT INTO words BY NAME (SELECT content AS a FROM read_text('<dir>/canary.txt'))",
    "ALTER TABLE words ADD COLUMN b VARCHAR DEFAULT (getenv('HOME'))",
    "ALTER TABLE own ALTER a SET DATA TYPE VARCHAR USING getenv('HOME')",
    "COPY own TO '<dir>/writable/x.csv'",
    "COPY words FROM '<dir>/canary.csv'; FROM words",
    "COPY own TO 'db://x.csv'",
    "COPY own TO 'db://tmp/x.csv'",
    "COPY own TO 'job://out'",
    "COPY own TO '<own>'",
    "COPY own TO 'db://hosted.duckdb.wal'",
    "FROM read_text('db://hosted.duckdb')",
    "FROM read_blob('db://other.duckdb')",
    "FROM read_blob('<own>')",
    "FROM 'job://input'",
    "ATTACH 'db://other.duckdb' AS o; FROM o.secret",
    "ATTACH 'db://hosted.duckdb.wal' AS o",
    "ATTACH '<data>/db/other.duckdb' AS o (READ_ONLY); FROM o.secret",
    "FROM '<data>/db/other.duckdb'",
    "FROM other.main.secret",
    "EXPORT DATABASE '<dir>/writable/e'",
    "IMPORT DATABASE '<dir>'",
    "DETACH hosted",
    "DROP SCHEMA main CASCADE",
    "DROP DATABASE hosted",
    "USE memory",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE PERSISTENT SECRET s (TYPE http)",
    "CALL enable_logging(level = 'trace', storage = 'file', storage_path = '<dir>/writable')",
    "INSERT INTO own SELECT 1 FROM enable_logging(level = 'trace', storage = 'file', storage_path = '<dir>/writable')",
    "CREATE TABLE l AS FROM enable_profiling(format = 'json', save_location = '<dir>/writable/p.json')",
    "CREATE VIEW f AS FROM force_checkpoint(); FROM f",
    "INSERT INTO own SELECT 1 FROM checkpoint('hosted')",
    "FROM pragma_storage_info('own')",
    "CREATE TABLE s AS FROM duckdb_settings(); FROM s",
    "UPDATE duckdb_settings SET value = '1'",
    "INSERT INTO duckdb_tables SELECT * FROM duckdb_tables",
    "DELETE FROM information_schema.tables",
    "DROP TABLE sqlite_master",
    "ALTER TABLE pg_catalog.pg_class RENAME TO x",
    "CREATE TABLE system.main.x(a INT)",
    "INSERT INTO temp.main.x VALUES (1)",
    "SET threads = 64",
    "SET GLOBAL temp_directory = '<dir>/writable'",
    "SET lock_configuration = false; SET enable_external_access = true",
    "PRAGMA temp_directory = '<dir>/writable'",
    "INSTALL httpfs FROM 'http://127.0.0.1:<port>'",
    "LOAD '<dir>/x.duckdb_extension'",
    "CREATE TABLE h AS FROM read_csv('http://127.0.0.1:<port>/x.csv')",
    "PREPARE p AS FROM read_text($1); EXECUTE p('<dir>/canary.txt')",
    "CREATE TYPE t AS ENUM (SELECT content FROM read_text('<dir>/canary.txt'))",
    "CREATE SEQUENCE s START WITH (SELECT size FROM read_text('<dir>/canary.txt'))",
    "COMMENT ON TABLE own IS (SELECT content FROM read_text('<dir>/canary.txt'))",
    "BEGIN; COPY own TO '<dir>/writable/x.csv'; COMMIT",
    "EXPLAIN ANALYZE INSERT INTO words SELECT content FROM read_text('<dir>/canary.txt')",
    "WITH x AS (FROM read_text('<dir>/canary.txt')) INSERT INTO words SELECT content FROM x",
    "TRUNCATE read_text('<dir>/canary.txt')",
    "VACUUM ANALYZE read_text('<dir>/canary.txt')",
]


class HostedTarget:
    def __init__(self, server, folder):
        self.server = server
        self.hosted = Hosted(server)
        self.folder = Path(folder)
        self.listener = Listener()
        (self.folder / "writable").mkdir()
        (self.folder / "canary.txt").write_text(CANARY)
        (self.folder / "canary.csv").write_text(f"a,b\n{CANARY},2\n")
        (self.folder / "canary.json").write_text(f'{{"a":"{CANARY}"}}')
        (self.folder / "schema.sql").write_text(f"SELECT '{CANARY}'")
        (self.folder / "load.sql").write_text("")
        self.hosted.make("other")
        self.hosted.rows(f"CREATE TABLE secret AS SELECT '{CANARY}' AS a; CHECKPOINT", "other")
        self.hosted.rows("FROM secret", "other")
        export = self.hosted.request(
            "POST", "/databases/other/export", json={"query": "FROM secret", "to": "canary.parquet"}
        )
        if export.status_code == 200:
            (self.folder / "canary.parquet").write_bytes((Path(server.data) / "backup/canary.parquet").read_bytes())
        for path in [self.folder, *self.folder.iterdir(), Path(server.cwd)]:
            path.chmod(0o777)
        self.hosted.make("hosted")
        self.lay_out()
        self.before = self.files()
        self.sockets = internet_listeners(server)

    def lay_out(self):
        self.hosted.query("CREATE OR REPLACE TABLE words(a VARCHAR)", "hosted")
        answer = self.hosted.query("CREATE OR REPLACE TABLE own AS FROM (VALUES (1), (2), (3)) v(a)", "hosted")
        return answer

    def files(self):
        """All but what belongs to the database itself, which it may change."""
        data = Path(self.server.data)
        own = {str(data / "db" / name) for name in ("hosted.duckdb", "hosted.duckdb.wal")}
        found = {
            path: digest
            for path, digest in contents(data).items()
            if path not in own and "/tmp-hosted/" not in path and "/wal/" not in path
        }
        escape = f"/tmp/eider-escape-{self.listener.port}.csv"
        return contents(self.folder), found, sorted(os.listdir(self.server.cwd)), os.path.exists(escape)

    def fill(self, sql):
        for name, value in {
            "<dir>": self.folder,
            "<data>": self.server.data,
            "<own>": self.hosted.path("hosted"),
            "<bucket>": "bucket",
            "<other>": "elsewhere",
            "<port>": self.listener.port,
        }.items():
            sql = sql.replace(name, str(value))
        return sql

    def ask(self, sql):
        return self.hosted.query(self.fill(sql), "hosted", timeout_seconds=5)

    def harmless(self, sql, answer):
        where = f"{sql}\n{answer.text[:2000]}"
        for hidden in (CANARY, ENVIRONMENT_SECRET, "root:x:"):
            assert hidden not in answer.text, where
        for path in (str(self.folder), str(self.server.data), "/proc/self"):
            assert path not in answer.text or path in self.fill(sql), where
        assert self.listener.calls == 0, where
        assert self.files() == self.before, where
        assert self.hosted.rows("FROM secret", "other") == [[CANARY]], where


@contextlib.contextmanager
def hosted_target(binary, tmp_path_factory, env=None):
    factory = EiderFactory(binary, lambda: tmp_path_factory.mktemp("hostile"))
    settings = {**LISTENER, "AWS_SECRET_ACCESS_KEY": ENVIRONMENT_SECRET, "DUCKDB_MEMORY_LIMIT": "512MB", **(env or {})}
    with tempfile.TemporaryDirectory(prefix="eider-canaries-") as top:
        Path(top).chmod(0o777)
        folder = Path(top) / "canaries"
        folder.mkdir()
        target = HostedTarget(factory(settings, data=Path(top) / "data"), folder)
        try:
            yield target
        finally:
            target.listener.close()
            factory.finish()
            Path(f"/tmp/eider-escape-{target.listener.port}.csv").unlink(missing_ok=True)


KINDS = sorted({row.does for row in ROWS} - set(SKIPPED))


@pytest.fixture(scope="module")
def target(eider_binary, tmp_path_factory):
    with hosted_target(eider_binary, tmp_path_factory) as target:
        yield target


@pytest.fixture(scope="module")
def bare(layers_binary, tmp_path_factory):  # noqa: F811
    """Without the statement rules and without the engine's settings."""
    with hosted_target(layers_binary, tmp_path_factory, {"EIDER_TEST_LAYERS_OFF": "guard,settings"}) as target:
        yield target


def send_all(target, texts):
    """-> how often which status"""
    statuses = Counter()
    for sql in texts:
        answer = target.ask(sql)
        target.harmless(sql, answer)
        statuses[answer.status_code] += 1
        if answer.status_code not in (400, 422):
            target.lay_out()
    return statuses


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_refused_or_harmless(target, kind):
    statuses = send_all(target, [row.sql for row in ROWS if row.does == kind])
    assert set(statuses) <= {200, 400, 422}, statuses
    assert kind not in REFUSED or set(statuses) <= {400, 422}, statuses


@pytest.mark.parametrize("sql", MORE)
def test_what_changes_or_defines_is_refused_or_harmless(target, sql):
    answer = target.ask(sql)
    target.harmless(sql, answer)
    assert answer.status_code == 400, answer.text
    assert target.hosted.rows("SELECT sum(a) FROM own", "hosted") == [[6]]


def test_batches_are_judged_alike(target):
    for sql in MORE:
        answer = target.hosted.batch(["INSERT INTO own VALUES (10)", target.fill(sql)], "hosted")
        target.harmless(sql, answer)
        assert answer.status_code == 400, f"{sql}\n{answer.text}"
    assert target.hosted.rows("SELECT sum(a) FROM own", "hosted") == [[6]]


def test_nothing_is_left_behind(target):
    assert internet_listeners(target.server) == target.sockets or target.sockets is None
    assert target.hosted.breaker("hosted")["state"] == "closed"
    assert not target.hosted.set_aside("hosted")
    assert target.hosted.info("hosted")["problem"] is None


def test_without_the_rules_the_system_holds(bare):
    """Many run now, and some cost the database its process; none gets out of it."""
    ran = 0
    for sql in [row.sql for row in ROWS if row.does in ("reads", "writes", "connects", "loads")] + MORE:
        answer = bare.ask(sql)
        bare.harmless(sql, answer)
        ran += answer.status_code == 200
        if answer.status_code != 400:
            bare.hosted.reset_breaker("hosted")
            bare.lay_out()
    assert ran > 5  # the rules are gone indeed
    assert bare.hosted.query("SET default_null_order = 'nulls_first'", "hosted").status_code == 200
    bare.hosted.reset_breaker("hosted")
    assert bare.hosted.rows("SELECT 1", "hosted") == [[1]]
