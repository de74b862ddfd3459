"""Backups, restores, imports and exports: to the backup folder and to S3, read by other readers."""

import hashlib
import io

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest

from harness.analytics_client import Analytics, Background, error_of, faults_of


def ok(answer):
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["status"] == "success"
    return body


def folder(client):
    return client.server.data / "backup"


def fill(client, rows=1000):
    client.rows(f"CREATE TABLE t AS SELECT range AS n, 'é' || range AS s FROM range({rows})")
    client.rows("CREATE VIEW v AS SELECT max(n) AS most FROM t")


def content(client):
    return client.rows("SELECT count(*), sum(n), min(s), (SELECT most FROM v) FROM t")


class Bucket:
    def __init__(self, s3):
        self.s3 = s3
        self.name = s3.make_bucket("analytics")
        self.fields = {"s3_config": s3.config(self.name)}

    def url(self, key):
        return f"s3://{self.name}/{key}"

    def read(self, key):
        return self.s3.client().get_object(Bucket=self.name, Key=key)["Body"].read()

    def write(self, key, content):
        self.s3.client().put_object(Bucket=self.name, Key=key, Body=content)


@pytest.fixture(scope="module")
def bucket(s3):
    return Bucket(s3)


# ---- backup ----


def check_copy(path, body):
    """Another engine reads it, and it is what the answer says."""
    data = path.read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (body["size_bytes"], body["sha256"])
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT count(*), sum(n) FROM t").fetchone() == (1000, 499500)
        assert connection.execute("FROM v").fetchone() == (999,)


def test_a_backup_into_the_folder(own_database):
    fill(own_database)
    body = ok(own_database.post("/backup", {"to": "nightly/a.duckdb"}))
    assert set(body) == {"status", "database", "path", "size_bytes", "sha256"}
    assert body["database"] == own_database.name and body["path"].endswith("nightly/a.duckdb")
    check_copy(folder(own_database) / "nightly" / "a.duckdb", body)
    error_of(own_database.post("/backup", {"to": "nightly/a.duckdb"}), 409)
    check_copy(folder(own_database) / "nightly" / "a.duckdb", body)


def test_a_backup_into_s3(own_database, bucket, tmp_path):
    fill(own_database)
    body = ok(own_database.post("/backup", {"to": bucket.url("b/a.duckdb"), **bucket.fields}))
    assert body["path"] == bucket.url("b/a.duckdb")
    copy = tmp_path / "a.duckdb"
    copy.write_bytes(bucket.read("b/a.duckdb"))
    check_copy(copy, body)


def test_a_backup_of_the_default_database(start_eider):
    client = Analytics(start_eider({"EIDER_ANALYTICS_LISTEN": "127.0.0.1:0"}))
    client.rows("CREATE TABLE t AS SELECT 1 AS a")
    assert ok(client.post("/backup", {"to": "a"}))["database"] == "default"
    client.rows("DROP TABLE t")
    ok(client.post("/restore", {"from": "a"}))
    assert client.rows("FROM t") == [[1]]


def test_a_backup_while_others_write(own_database):
    """What it holds is one moment: as many rows as their numbers say."""
    own_database.rows("CREATE TABLE t (n INTEGER)")

    def write():
        return [own_database.batch([f"INSERT INTO t VALUES ({n}), ({n})"]).status_code for n in range(20)]

    writer = Background(write)
    bodies = []
    while not writer.done() or len(bodies) < 2:
        bodies.append(ok(own_database.post("/backup", {"to": f"{own_database.name}/{len(bodies)}"})))
    assert writer.answer() == [200] * 20
    counts = []
    for n in range(len(bodies)):
        with duckdb.connect(str(folder(own_database) / own_database.name / str(n)), read_only=True) as connection:
            rows, distinct, most = connection.execute("SELECT count(*), count(DISTINCT n), max(n) FROM t").fetchone()
            assert rows == 2 * distinct and distinct == (0 if most is None else most + 1)
            counts.append(rows)
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    "to", ["/etc/x", "../x", "a/../../x", "file:///tmp/x", "http://x/y", "a//b", ".", "a/.", "", "s3://", "s3://b"]
)
def test_places_that_are_refused(own_database, to, tmp_path):
    for route, field in (("/backup", "to"), ("/restore", "from")):
        answer = own_database.post(route, {field: to})
        assert answer.status_code in (400, 422), answer.text
    answer = own_database.post("/export", {"query": "SELECT 1 AS a", "to": to})
    assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize("route, field", [("/backup", "to"), ("/restore", "from")])
def test_a_place_has_to_be_named(own_database, route, field):
    assert faults_of(own_database.post(route, {})) == {f"body.{field}": ("missing", "Field required")}
    assert faults_of(own_database.post(route, {field: 5}))[f"body.{field}"][0] == "string_type"


def test_s3_needs_its_keys(own_database, bucket):
    detail = error_of(own_database.post("/backup", {"to": bucket.url("a")}), 400)
    assert "s3_config" in detail
    other = {**bucket.fields["s3_config"], "bucket": "another-bucket"}
    assert "bucket" in error_of(own_database.post("/backup", {"to": bucket.url("a"), "s3_config": other}), 400)
    wrong = {**bucket.fields["s3_config"], "secretAccessKey": "wrong-key"}
    answer = own_database.post("/backup", {"to": bucket.url("a"), "s3_config": wrong})
    assert answer.status_code >= 400
    assert "wrong-key" not in answer.text and "wrong-key" not in own_database.server.stderr


# ---- restore ----


def test_a_restore_brings_it_all_back(own_database):
    fill(own_database)
    before = content(own_database)
    done = ok(own_database.post("/backup", {"to": f"{own_database.name}.duckdb"}))
    own_database.rows("DELETE FROM t WHERE n > 10; DROP VIEW v; CREATE TABLE other (a INTEGER)")
    body = ok(own_database.post("/restore", {"from": f"{own_database.name}.duckdb"}))
    assert (body["size_bytes"], body["sha256"]) == (done["size_bytes"], done["sha256"])
    assert content(own_database) == before
    own_database.error("FROM other")
    # What was there before is in the trash, whole.
    trash = [path for path in (own_database.server.data / "trash").iterdir() if path.name.startswith(own_database.name)]
    with duckdb.connect(str(trash[0]), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (11,)


def test_a_restore_is_no_cached_result(own_database):
    own_database.rows("CREATE TABLE t AS SELECT 1 AS a")
    ok(own_database.post("/backup", {"to": f"{own_database.name}-c"}))
    own_database.rows("UPDATE t SET a = 2")
    assert [own_database.rows("FROM t"), own_database.rows("FROM t")] == [[[2]], [[2]]]
    ok(own_database.post("/restore", {"from": f"{own_database.name}-c"}))
    assert own_database.rows("FROM t") == [[1]]


def test_a_restore_from_s3_into_another_database(own_database, bucket, analytics):
    fill(own_database)
    ok(own_database.post("/backup", {"to": bucket.url("c/a.duckdb"), **bucket.fields}))
    other = analytics.make()
    ok(other.post("/restore", {"from": bucket.url("c/a.duckdb"), **bucket.fields}))
    assert content(other) == content(own_database)
    other.drop()


def test_what_is_no_database_is_refused(own_database, bucket):
    fill(own_database)
    before = content(own_database)
    (folder(own_database)).mkdir(exist_ok=True)
    good = ok(own_database.post("/backup", {"to": f"{own_database.name}-good"}))
    whole = (folder(own_database) / f"{own_database.name}-good").read_bytes()
    garbage = {
        "empty": b"",
        "text": b"this is no database" * 1000,
        "half": whole[: good["size_bytes"] // 2],
        "flipped": whole[:4096] + bytes(byte ^ 0xFF for byte in whole[4096:8192]) + whole[8192:],
    }
    for name, data in garbage.items():
        bucket.write(f"garbage/{name}", data)
        answer = own_database.post("/restore", {"from": bucket.url(f"garbage/{name}"), **bucket.fields})
        assert answer.status_code in (400, 422), f"{name}: {answer.text}"
        assert content(own_database) == before
    answer = own_database.post("/restore", {"from": "not/there"})
    assert answer.status_code == 404, answer.text
    assert content(own_database) == before
    left = [path.name for path in (own_database.server.data / "db").iterdir() if path.name.startswith(".restore")]
    assert not left


def test_a_restore_while_statements_run(own_database, wait_until):
    """Those that run see the old one to their end, those that come then the new one: nobody fails."""
    own_database.rows("CREATE TABLE t AS SELECT 'new' AS which, range AS n FROM range(10)")
    ok(own_database.post("/backup", {"to": f"{own_database.name}-r"}))
    own_database.rows("UPDATE t SET which = 'old'")
    sql = "SELECT min(which), max(which), count(*), max(sqrt(a.range * b.range)) > 0 FROM t, range(300) a, range(3000) b"
    slow = Background(lambda: own_database.query(sql))
    wait_until(lambda: slow.done() or own_database.get("").json()["running"] == 1)

    def read():
        answers = [own_database.query(f"SELECT DISTINCT which FROM t WHERE n < 10 + {n}") for n in range(30)]
        return [answer.json().get("data", answer.text) for answer in answers]

    readers = [Background(read) for _ in range(3)]
    ok(own_database.post("/restore", {"from": f"{own_database.name}-r"}))
    assert own_database.rows("SELECT DISTINCT which FROM t") == [["new"]]
    assert slow.answer().json()["data"] in ([["old", "old", 9000000, True]], [["new", "new", 9000000, True]])
    for reader in readers:
        seen = [data[0][0] for data in reader.answer()]
        assert set(seen) <= {"old", "new"}
        assert seen == sorted(seen, reverse=True), seen  # never old again after new


# ---- export and import ----


def expected_table():
    return pa.table(
        {
            "n": pa.array([1, 2, None], pa.int64()),
            "s": ["é", None, "x"],
            "d": pa.array([10, None, 12], pa.decimal128(10, 2)),
            "l": [[1, 2], [], None],
        }
    )


def parquet_bytes(table):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


def test_import_and_export_give_back_what_was_given(own_database, bucket, tmp_path):  # 37
    table = expected_table()
    bucket.write("in.parquet", parquet_bytes(table))
    body = ok(own_database.post("/import", {"table": "t", "from": bucket.url("in.parquet"), **bucket.fields}))
    assert (body["table"], body["rows"]) == ("t", 3)
    assert own_database.rows("FROM t") == [[1, "é", "10.00", [1, 2]], [2, None, None, []], [None, "x", "12.00", None]]
    body = ok(own_database.post("/export", {"table": "t", "to": bucket.url("out.parquet"), **bucket.fields}))
    data = bucket.read("out.parquet")
    assert (body["rows"], body["size_bytes"], body["sha256"]) == (3, len(data), hashlib.sha256(data).hexdigest())
    assert pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist() == table.to_pylist()


def test_a_query_into_the_folder_and_back(own_database):
    fill(own_database, 5000)
    place = f"{own_database.name}/half.parquet"
    body = ok(own_database.post("/export", {"query": "SELECT n FROM t WHERE n % 2 = 0 ORDER BY n", "to": place}))
    assert body["rows"] == 2500
    assert pyarrow.parquet.read_table(folder(own_database) / place)["n"].to_pylist() == list(range(0, 5000, 2))
    error_of(own_database.post("/export", {"table": "t", "to": place}), 409)
    assert ok(own_database.post("/export", {"table": "t", "to": place, "overwrite": True}))["rows"] == 5000
    assert ok(own_database.post("/import", {"table": "back", "from": place}))["rows"] == 5000
    assert own_database.value("SELECT count(*) FROM (FROM t EXCEPT FROM back)") == 0


def test_import_modes(own_database, bucket):
    bucket.write("m.parquet", parquet_bytes(pa.table({"a": [1, 2]})))

    def into(**fields):
        return own_database.post("/import", {"table": "m", "from": bucket.url("m.parquet"), **bucket.fields, **fields})

    ok(into())
    detail = error_of(into(), 400)
    assert detail.startswith("Import failed: ") and "exists" in detail
    ok(into(mode="append"))
    assert own_database.value("SELECT count(*) FROM m") == 4
    ok(into(mode="replace"))
    assert own_database.value("SELECT count(*) FROM m") == 2
    own_database.rows("DROP TABLE m")
    ok(into(mode="append"))
    assert own_database.value("SELECT count(*) FROM m") == 2
    assert set(faults_of(into(mode="bogus"))) == {"body.mode"}


def test_an_import_is_seen_by_those_who_asked_before(own_database, bucket):
    bucket.write("s.parquet", parquet_bytes(pa.table({"a": [1]})))
    fields = {"table": "s", "from": bucket.url("s.parquet"), **bucket.fields}
    ok(own_database.post("/import", fields))
    assert [own_database.value("SELECT count(*) FROM s") for _ in range(2)] == [1, 1]
    ok(own_database.post("/import", {**fields, "mode": "append"}))
    assert own_database.value("SELECT count(*) FROM s") == 2


def test_what_is_no_parquet_is_not_imported(own_database, bucket):
    bucket.write("bad.parquet", b"PAR1 but not really PAR1")
    answer = own_database.post("/import", {"table": "t", "from": bucket.url("bad.parquet"), **bucket.fields})
    assert error_of(answer, 400).startswith("Import failed: ")
    own_database.error("FROM t")
    error_of(own_database.post("/import", {"table": "t", "from": "gone.parquet"}), 404)


@pytest.mark.parametrize("query", ["INSERT INTO t VALUES (1)", "SELECT 1; SELECT 2", "SELECT * FROM read_csv('/etc/passwd')"])
def test_an_export_is_of_one_reading_query(own_database, query):
    answer = own_database.post("/export", {"query": query, "to": f"{own_database.name}.parquet"})
    assert error_of(answer, 400).startswith("Export failed: ")
    assert not (folder(own_database) / f"{own_database.name}.parquet").exists()


def test_names_of_tables_are_quoted(own_database):
    name = 'a"b; DROP'
    own_database.rows('CREATE TABLE "a""b; DROP" AS SELECT 3 AS n')
    place = f"{own_database.name}-q.parquet"
    ok(own_database.post("/export", {"table": name, "to": place}))
    ok(own_database.post("/import", {"table": name + "2", "from": place}))
    assert own_database.rows('SELECT n FROM "a""b; DROP2"') == [[3]]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '/tmp/x.parquet'",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "INSTALL httpfs",
        "ATTACH '/tmp/other.duckdb' AS other",
        "SET memory_limit = '100GB'",
        "EXPORT DATABASE '/tmp/x'",
    ],
)
def test_files_of_the_machine_are_out_of_reach(own_database, sql):  # 37, A-27
    detail = own_database.error(sql)
    assert detail.startswith("Query execution failed: Query error: ")
