"""Every row of the hostile table over HTTP, all layers on: refused in words, and afterwards nothing has changed."""

import pytest

from harness.hostile_target import internet_listeners, running_target
from harness.snapshot_client import caller_error
from hostile.rows import ROWS

WORDS = {
    "function": "is not available here",
    "statement": "statements are not allowed",
    "one": "only one statement is allowed",
    "parser": "Parser Error",
    "engine": "",
}


@pytest.fixture(scope="module")
def target(eider_binary, tmp_path_factory, s3):
    with running_target(eider_binary, tmp_path_factory, s3) as target:
        yield target


def unchanged(target, answer, sent):
    """What holds after every row: nothing shown, written, opened or called, and the server answers."""
    for hidden in target.hidden():
        assert hidden not in answer.text
    for path in target.paths():
        assert path not in answer.text or path in sent
    assert target.files() == target.before
    assert target.listener.calls == 0
    assert internet_listeners(target.server) == target.sockets
    target.alive()


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_statement(target, row):
    answer = target.ask(row.sql)
    error = caller_error(answer)
    assert answer.status_code == 400
    assert WORDS[row.says] in error
    if row.says in ("parser", "engine"):
        assert not any(words in error for says, words in WORDS.items() if says not in ("parser", "engine"))
    unchanged(target, answer, target.fill(row.sql))


def test_the_table_is_large_and_its_rows_differ():
    assert len(ROWS) >= 100
    assert len({row.id for row in ROWS}) == len({row.sql for row in ROWS}) == len(ROWS)


def test_every_kind_of_statement_has_a_row():
    kinds = (
        "ALTER ANALYZE ATTACH BEGIN CALL CHECKPOINT COMMENT COPY CREATE DEALLOCATE DELETE DETACH DROP EXECUTE EXPLAIN "
        "EXPORT FORCE IMPORT INSERT INSTALL LOAD MERGE PRAGMA PREPARE RESET ROLLBACK SET TRUNCATE UPDATE USE VACUUM"
    ).split()
    first_words = {row.sql.split(None, 1)[0] for row in ROWS if row.sql.strip()}
    assert set(kinds) <= first_words


# Everything a request can say besides its statement: (id, change of the body or the raw body, statuses).
REQUESTS = [
    ("sql-number", {"sql": 1}, (400,)),
    ("sql-list", {"sql": ["SELECT 1"]}, (400,)),
    ("sql-missing", {"sql": None}, (400,)),
    ("sql-empty", {"sql": ""}, (400,)),
    ("sql-blank", {"sql": " \n\t"}, (400,)),
    ("sql-comment", {"sql": "-- SELECT 1"}, (400,)),
    ("sql-semicolons", {"sql": ";;;"}, (400,)),
    ("sql-nul", {"sql": "SELECT a FROM own\0"}, (400,)),
    ("sql-surrogate", b'{"sql": "SELECT \'\\ud800\'"}', (400,)),
    ("sql-not-utf8", b'{"sql": "SELECT \'\xff\xfe\'"}', (400,)),
    ("sql-overlong-utf8", b'{"sql": "SELECT \'\xc0\xaf\'"}', (400,)),
    ("sql-too-large", {"sql": "SELECT '" + "x" * (1 << 20) + "'"}, (400, 413)),
    ("sql-twice", b'{"sql": "SELECT 1", "sql": "COPY (SELECT 1) TO \'/tmp/x\'"}', (400,)),
    ("body-empty", b"", (400,)),
    ("body-list", b"[]", (400,)),
    ("body-text", b'"SELECT 1"', (400,)),
    ("body-deep", b'{"sql": ' + b"[" * 100000 + b"]" * 100000 + b"}", (400,)),
    ("body-cut", b'{"sql": "SELECT 1"', (400,)),
    ("body-trailing", b'{"sql": "SELECT 1"} {"sql": "SELECT 2"}', (400,)),
    ("body-nan", b'{"sql": NaN}', (400,)),
    ("body-nul", b'{"sql": "SELECT 1"}\0', (400,)),
    ("body-number", b'{"sql": ' + b"9" * 100000 + b"}", (400,)),
    ("params-file", {"sql": "FROM read_text($1)", "params": ["<dir>/canary.txt"]}, (400,)),
    ("params-sql", {"sql": "FROM query($1)", "params": ["FROM own"]}, (400,)),
    ("params-table", {"sql": "FROM query_table($name)", "params": {"name": "own"}}, (400,)),
    ("params-name", {"sql": "FROM $1", "params": ["<dir>/canary.csv"]}, (400,)),
    ("params-quote", {"sql": "SELECT a FROM own WHERE a = $1::INTEGER", "params": ["1) OR true --"]}, (400,)),
    ("params-text", {"sql": "SELECT 1", "params": "x"}, (400,)),
    ("params-many", {"sql": "SELECT $1", "params": [0] * 100000}, (400,)),
    ("params-strange-name", {"sql": "SELECT $x", "params": {"x; COPY own TO 'y'": 1}}, (400,)),
    ("timeout-negative", {"sql": "SELECT 1", "timeout_ms": -1}, (400,)),
    ("timeout-text", {"sql": "SELECT 1", "timeout_ms": "1; SET threads = 64"}, (400,)),
    ("rows-negative", {"sql": "SELECT 1", "max_rows": -1}, (400,)),
    ("rows-large", {"sql": "SELECT 1", "max_rows": 1 << 80}, (400,)),
    ("path-sql", {"path": "x') ; COPY (SELECT 1) TO '<dir>/writable/x.csv' --"}, (400, 404, 502)),
    ("path-list", {"path": "own.parquet', '<dir>/canary.parquet"}, (400, 404, 502)),
    ("path-file", {"path": "<dir>/canary.parquet"}, (400, 404, 502)),
    ("path-file-url", {"path": "file://<dir>/canary.parquet"}, (400, 404, 502)),
    ("path-other-bucket", {"path": "s3://<other>/x.parquet"}, (400, 404, 502)),
    ("path-up", {"path": "../<other>/x.parquet"}, (400, 404, 502)),
    ("path-up-encoded", {"path": "%2e%2e/<other>/x.parquet"}, (400, 404, 502)),
    ("path-up-slash-encoded", {"path": "..%2f<other>/x.parquet"}, (400, 404, 502)),
    ("path-query", {"path": "own.parquet?versionId=1&X-Amz-Expires=9"}, (400, 404, 502)),
    ("path-fragment", {"path": "own.parquet#x"}, (400, 404, 502)),
    ("path-nul", {"path": "own.parquet\0.csv"}, (400, 404, 502)),
    ("path-line", {"path": "own.parquet\r\nHost: 127.0.0.1:<port>"}, (400, 404, 502)),
    ("path-long", {"path": "x" * 5000}, (400, 404, 502)),
    ("path-http", {"path": "http://127.0.0.1:<port>/x.parquet"}, (400, 404, 502)),
    ("endpoint-metadata", {"endpoint": "http://169.254.169.254"}, (400, 403, 502)),
    ("endpoint-metadata-v6", {"endpoint": "http://[fd00:ec2::254]"}, (400, 403, 502)),
    ("endpoint-metadata-number", {"endpoint": "http://2852039166"}, (400, 403, 502)),
    ("endpoint-metadata-hex", {"endpoint": "http://0xA9FEA9FE"}, (400, 403, 502)),
    ("endpoint-metadata-mapped", {"endpoint": "http://[::ffff:169.254.169.254]"}, (400, 403, 502)),
    ("endpoint-userinfo", {"endpoint": "http://user:word@127.0.0.1:<port>"}, (400, 403, 502)),
    ("endpoint-file", {"endpoint": "file://<dir>"}, (400, 403, 502)),
    ("endpoint-gopher", {"endpoint": "gopher://127.0.0.1:<port>"}, (400, 403, 502)),
    ("endpoint-line", {"endpoint": "http://127.0.0.1\r\nX: y"}, (400, 403, 502)),
    ("region-line", {"region": "us-east-1\r\nX-Amz-Security-Token: x"}, (400, 403, 502)),
    ("key-line", {"accessKeyId": "x\r\nHost: y"}, (400, 403, 502)),
    ("bucket-up", {"bucket": "../<other>"}, (400, 403, 404, 502)),
    ("bucket-slash", {"bucket": "<other>/x.parquet?"}, (400, 403, 404, 502)),
]


def request_body(target, change):
    if isinstance(change, bytes):
        return change
    change = {name: target.fill(value) if isinstance(value, str) else value for name, value in change.items()}
    config = {**target.sidecar.config}
    config.update({name: value for name, value in change.items() if name in config})
    body = target.sidecar.query_body("FROM own", {"own": change.get("path", "own.parquet")}, s3_config=config)
    body.update({name: value for name, value in change.items() if name not in config and name != "path"})
    if isinstance(body.get("params"), list):
        body["params"] = [target.fill(value) if isinstance(value, str) else value for value in body["params"]]
    return body


@pytest.mark.parametrize("change, statuses", [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS])
def test_request(target, change, statuses):
    body = request_body(target, change)
    answer = target.sidecar.post("/query", body)
    assert answer.status_code in statuses, f"{answer.status_code} {answer.text[:300]}"
    assert set(answer.json()) == {"error"}
    unchanged(target, answer, str(body))


def test_at_the_end_nothing_was_stored_or_logged(target):
    """Last of the module."""
    assert target.stored() == target.objects
    log = target.server.stderr + target.server.stdout
    for hidden in target.hidden():
        assert hidden not in log
    assert not target.server.events("engine.worker_died")
    assert target.server.running()
