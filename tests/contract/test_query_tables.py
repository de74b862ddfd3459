"""Declared tables and the objects behind them: keys, patterns, several files, and what is opened. Checks 25, 26."""

import socket

import pyarrow
import pytest

from harness.lakes import S3Lake
from harness.snapshot_client import Sidecar, caller_error, error_of


@pytest.fixture(scope="module")
def sidecar(eider, s3):
    return Sidecar(eider.snapshot, s3)


def put(sidecar, key, **columns):
    return sidecar.put_table(key, pyarrow.table(columns))


def missing_object(answer):
    """A missing object is the caller's fault or the store's answer, but never a 500 or an empty table."""
    return error_of(answer, 400, 404, 502)


# ---- one object ----
@pytest.mark.parametrize("path", ["one/x.parquet", "/one/x.parquet", "///one/x.parquet"])
def test_leading_slashes_are_removed(sidecar, path):
    put(sidecar, "one/x.parquet", a=[1, 2])
    assert sidecar.rows("SELECT sum(a) FROM t", {"t": path}) == [(3,)]


@pytest.mark.both_stores
def test_missing_object_and_empty_pattern(sidecar):
    for path in ("nowhere/x.parquet", "nowhere/*.parquet", "nowhere/**"):
        assert missing_object(sidecar.query("SELECT * FROM t", {"t": path}))
    missing_object(sidecar.query("SELECT * FROM t", {"t": ["nowhere/a.parquet"]}))
    put(sidecar, "somewhere.parquet", a=[1])
    missing_object(sidecar.query("SELECT * FROM t", {"t": ["somewhere.parquet", "nowhere.parquet"]}))
    sidecar.alive()


@pytest.mark.parametrize(
    "name, body",
    [
        ("empty", b""),
        ("text", b"a,b\n1,2\n" * 100),
        ("magic", b"PAR1PAR1"),
        ("footer", b"PAR1" + b"\0" * 64 + (2**31 - 1).to_bytes(4, "little") + b"PAR1"),
        ("negative", b"PAR1" + b"\0" * 64 + b"\xff\xff\xff\xff" + b"PAR1"),
        ("noise", b"PAR1" + bytes(range(256)) * 40 + (4096).to_bytes(4, "little") + b"PAR1"),
    ],
)
def test_objects_that_are_not_parquet(sidecar, name, body):
    sidecar.put_object(f"broken/{name}.parquet", body)
    caller_error(sidecar.query("SELECT * FROM t", {"t": f"broken/{name}.parquet"}))
    sidecar.alive()


def test_a_parquet_file_with_a_piece_missing(sidecar):
    put(sidecar, "whole.parquet", a=list(range(10000)))
    whole = sidecar.object("whole.parquet")
    for number, body in enumerate((whole[:-1], whole[:-100], whole[4:], whole[:500] + whole[900:])):
        sidecar.put_object(f"piece-{number}.parquet", body)
        answer = sidecar.query("SELECT sum(a) FROM t", {"t": f"piece-{number}.parquet"})
        assert answer.status_code != 200
        error_of(answer, 400, 422, 500, 502)
    sidecar.alive()


# ---- patterns ----
PATTERNS = [
    ("*.parquet", {1, 2, 3}),
    ("p*.parquet", {1, 2}),
    ("p[1].parquet", {1}),
    ("p[12].parquet", {1, 2}),
    ("p[1-2].parquet", {1, 2}),
    ("*/*.parquet", {10}),
    ("**/*.parquet", {1, 2, 3, 10, 20}),
    ("**", {1, 2, 3, 10, 20}),
    ("**/deep.parquet", {20}),
    ("sub/**/*.parquet", {10, 20}),
]


@pytest.mark.parametrize("pattern, found", PATTERNS)
@pytest.mark.both_stores
def test_patterns(sidecar, pattern, found):
    for key, value in [("p1", 1), ("p2", 2), ("q3", 3), ("sub/x", 10), ("sub/deeper/deep", 20)]:
        put(sidecar, f"glob/{key}.parquet", a=[value])
    put(sidecar, "globe/other.parquet", a=[99])
    rows = sidecar.rows("SELECT a FROM t", {"t": f"glob/{pattern}"})
    assert {row[0] for row in rows} == found and len(rows) == len(found)


def test_chunks_of_a_snapshot(sidecar):
    """The client sends `<s3_key>/*.parquet` for a snapshot in chunks."""
    for chunk in range(3):
        put(sidecar, f"orders/1706140800000.parquet/{chunk}.parquet", n=list(range(chunk * 100, chunk * 100 + 100)))
    rows = sidecar.rows("SELECT n FROM orders ORDER BY n", {"orders": "orders/1706140800000.parquet/*.parquet"})
    assert rows == [(n,) for n in range(300)]


@pytest.mark.once
@pytest.mark.both_stores
def test_more_files_than_one_list_page(sidecar):
    put(sidecar, "pages/0000.parquet", a=[1])
    body = sidecar.object("pages/0000.parquet")
    for number in range(1, 1005):
        sidecar.put_object(f"pages/{number:04}.parquet", body)
    assert sidecar.rows("SELECT count(*), sum(a) FROM t", {"t": "pages/*.parquet"}) == [(1005, 1005)]


@pytest.mark.both_stores
def test_keys_that_look_like_patterns_are_objects_first(sidecar):
    """Section 10 item 16: an exact object wins over the pattern that its name would be."""
    put(sidecar, "exact/s*.parquet", a=[1])
    put(sidecar, "exact/s1.parquet", a=[2])
    put(sidecar, "exact/[ab].parquet", a=[3])
    put(sidecar, "exact/a.parquet", a=[4])
    put(sidecar, "exact/q?.parquet", a=[5])
    put(sidecar, "exact/qx.parquet", a=[6])
    for path, value in [("s*.parquet", 1), ("[ab].parquet", 3), ("q?.parquet", 5), ("a.parquet", 4)]:
        assert sidecar.rows("SELECT a FROM t", {"t": f"exact/{path}"}) == [(value,)]
    assert sidecar.rows("SELECT sum(a) FROM t", {"t": "exact/s[*1].parquet"}) == [(3,)]


def test_a_question_mark_is_a_letter(sidecar):
    put(sidecar, "mark/x1.parquet", a=[1])
    missing_object(sidecar.query("SELECT * FROM t", {"t": "mark/x?.parquet"}))


@pytest.mark.parametrize(
    "key", ["k+p.parquet", "k%2Fp.parquet", "k#p.parquet", "k p.parquet", "k=é.parquet", "k&;'p.parquet"]
)
@pytest.mark.both_stores
def test_special_characters_of_keys(sidecar, key):
    put(sidecar, f"special/{key}", a=[7])
    assert sidecar.rows("SELECT a FROM t", {"t": f"special/{key}"}) == [(7,)]


# ---- 26: nothing in a path is a parameter ----
@pytest.mark.parametrize(
    "suffix",
    ["?s3_endpoint=127.0.0.1:{}", "?s3_endpoint=127.0.0.1:{}&s3_use_ssl=false", "#@127.0.0.1:{}", "?X-Amz-Algorithm=x"],
)
def test_parameters_in_a_path_go_nowhere(sidecar, suffix):
    put(sidecar, "param.parquet", a=[1])
    with socket.create_server(("127.0.0.1", 0)) as evil:
        path = "param.parquet" + suffix.format(evil.getsockname()[1])
        missing_object(sidecar.query("SELECT * FROM t", {"t": path}))
        evil.setblocking(False)
        with pytest.raises(BlockingIOError):
            evil.accept()


# ---- several files ----
@pytest.mark.both_stores
def test_s3_paths(sidecar):
    put(sidecar, "list/a.parquet", n=[1], s=["x"])
    put(sidecar, "list/b b+é.parquet", n=[2], s=["y"])
    put(sidecar, "list/c.parquet", n=[99], s=["z"])
    tables = {"t": ["list/a.parquet", "/list/b b+é.parquet"]}
    assert sidecar.rows("SELECT n, s FROM t ORDER BY n", tables) == [(1, "x"), (2, "y")]
    assert sidecar.rows("SELECT sum(n) FROM t", {"t": ["list/[ac].parquet", "list/b*.parquet"]}) == [(102,)]


def test_files_are_united_by_name(sidecar):
    put(sidecar, "drift/1.parquet", id=[1], name=["a"])
    put(sidecar, "drift/2.parquet", name=["b"], id=[2], extra=[True])
    put(sidecar, "drift/3.parquet", id=[3])
    for tables in ({"t": "drift/*.parquet"}, {"t": [f"drift/{number}.parquet" for number in (1, 2, 3)]}):
        result = sidecar.result("SELECT * FROM t ORDER BY id", tables)
        assert sorted(result["columns"]) == ["extra", "id", "name"]
        assert result["rows"] == [
            {"id": 1, "name": "a", "extra": None},
            {"id": 2, "name": "b", "extra": True},
            {"id": 3, "name": None, "extra": None},
        ]
        assert sidecar.rows("SELECT count(*), count(name), count(extra) FROM t", tables) == [(3, 2, 1)]


def test_files_whose_types_differ_are_widened(sidecar):
    sidecar.put_table("widen/1.parquet", pyarrow.table({"v": pyarrow.array([1, None], pyarrow.int32())}))
    sidecar.put_table("widen/2.parquet", pyarrow.table({"v": pyarrow.array([5000000000], pyarrow.int64())}))
    assert sidecar.rows("SELECT v FROM t ORDER BY v", {"t": "widen/*.parquet"}) == [(1,), (5000000000,), (None,)]


def test_hive_segments_are_columns(sidecar):
    for year, month in [(2024, "01"), (2024, "02"), (2025, "01")]:
        put(sidecar, f"hive/year={year}/month={month}/x.parquet", n=[int(f"{year}{month}")])
    tables = {"t": "hive/**/*.parquet"}
    assert sidecar.rows("SELECT n FROM t WHERE year = 2024 AND month = '02'", tables) == [(202402,)]
    assert sidecar.rows("SELECT year, count(*) FROM t GROUP BY year ORDER BY year", tables) == [(2024, 2), (2025, 1)]
    columns = sidecar.result("SELECT * FROM t LIMIT 1", tables)["columns"]
    assert columns[0] == "n" and sorted(columns) == ["month", "n", "year"]


def test_a_table_may_be_used_twice_and_joined(sidecar):
    put(sidecar, "twice.parquet", a=[1, 2])
    sql = "SELECT count(*) FROM t x, t y, u WHERE x.a < y.a"
    assert sidecar.rows(sql, {"t": "twice.parquet", "u": "twice.parquet"}) == [(2,)]


# ---- only what the SQL names ----
def test_unused_tables_are_not_looked_at(sidecar, s3_proxy):
    put(sidecar, "used.parquet", a=[5])
    through = Sidecar(sidecar.base, sidecar.s3, sidecar.bucket, s3_proxy.endpoint)
    tables = {f"stale{number}": f"gone/{number}/*.parquet" for number in range(20)}
    tables |= {"missing": "gone.parquet", "used": "used.parquet"}
    assert through.rows("SELECT a FROM used", tables) == [(5,)]
    assert s3_proxy.count(key="used.parquet") > 0
    assert s3_proxy.count(key="gone") == 0 and s3_proxy.count(query="gone") == 0
    s3_proxy.forget()
    assert through.rows("SELECT 1 AS v", tables) == [(1,)]
    assert s3_proxy.requests() == []


def test_tables_inside_subqueries_are_found(sidecar):
    put(sidecar, "inner.parquet", a=[5, 6])
    tables = {"inner_t": "inner.parquet", "gone": "gone.parquet"}
    for sql in (
        "SELECT (SELECT max(a) FROM inner_t)",
        "WITH w AS (SELECT * FROM INNER_T) SELECT max(a) FROM w",
        "SELECT max(a) FROM (SELECT * FROM inner_t UNION ALL SELECT 1)",
        "SELECT 6 WHERE 5 IN (SELECT a FROM inner_t)",
        "SELECT max(a) FROM range(1) r, LATERAL (SELECT a FROM inner_t) l",
    ):
        assert sidecar.rows(sql, tables) == [(6,)]


def test_a_query_reads_only_the_columns_it_needs(sidecar, s3_proxy):
    """The way a footer and column chunks are read is ours, but a query for one small column must not read the rest."""
    noise = pyarrow.array([(b"%d" % number) * 40 for number in range(200000)])
    table = pyarrow.table({"small": pyarrow.array([1] * 200000, pyarrow.int8()), "big": noise})
    sidecar.put_table("columns.parquet", table, compression="none", use_dictionary=["small"])
    size = len(sidecar.object("columns.parquet"))
    through = Sidecar(sidecar.base, sidecar.s3, sidecar.bucket, s3_proxy.endpoint)
    assert through.rows("SELECT sum(small) FROM t", {"t": "columns.parquet"}) == [(200000,)]
    reads = s3_proxy.requests(method="GET")
    ranges = [one.headers["range"].removeprefix("bytes=").split("-") for one in reads]
    assert sum(int(last) - int(first or 1) + 1 for first, last in ranges) < size / 4
    assert reads and all("if-match" in one.headers for one in reads)


@pytest.mark.once
def test_statements_without_tables_do_without_the_store(start_eider, s3, s3_proxy):
    server = start_eider(lake=S3Lake(s3, s3.make_bucket(), endpoint=s3_proxy.endpoint))
    with s3_proxy.refused():
        for sql in ("SELECT 42 AS v", "SELECT random() < 2 AND 41 < 42 AS v", "SELECT v FROM (VALUES (42)) t(v)", "SELECT 42 AS v"):
            answer = server.post("/query", json={"sql": sql})
            assert answer.status_code == 200, f"{sql}: {answer.text}"
            assert answer.json()["rows"] in ([{"v": 42}], [{"v": True}])
        assert answer.headers["X-Cache"] == "hit"
        assert server.post("/query", json={"sql": "SELECT * FROM events"}).status_code == 502
