"""Results that are asked for again: X-Cache, ETag, and what must never be answered from memory."""

import pytest

from harness.ingest_client import accepted, post_batch
from harness.lakes import FolderLake
from harness.snapshot_client import Sidecar, column


def cache(answer):
    assert answer.status_code in (200, 304), answer.text
    return answer.headers.get("X-Cache")


@pytest.fixture
def filled(any_lake, table):
    accepted(any_lake, post_batch(any_lake, table, [{"v": 1}], "2025-01-01"))
    return any_lake


def over(server, sql, headers=None, query="", **fields):
    return server.post(f"/query{query}", json={"sql": sql, **fields}, headers=headers)


# ---- the lake ----

def test_the_second_answer_is_the_first(filled, table):
    first = over(filled, f"SELECT * FROM {table}")
    second = over(filled, f"SELECT * FROM {table}")
    assert (cache(first), cache(second)) == ("miss", "hit")
    assert first.content == second.content
    assert first.headers["ETag"] == second.headers["ETag"]
    assert first.headers["Content-Type"] == second.headers["Content-Type"]


def test_a_new_row_is_seen(filled, table):
    sql = f"SELECT sum(v) AS s FROM {table}"
    for total in range(2, 6):
        assert over(filled, sql).json()["rows"] == [{"s": total - 1}]
        assert cache(over(filled, sql)) == "hit"
        accepted(filled, post_batch(filled, table, [{"v": 1}], "2025-01-01"))
    assert over(filled, sql).json()["rows"] == [{"s": 5}]


@pytest.mark.parametrize("name", ["'{}'", "E'{}'", "$${}$$", "'{}'\n''", "''\n'{}'"])
def test_a_table_named_in_a_string_is_never_answered_from_before(filled, table, name):
    sql = f"SELECT count(*) AS c FROM {name.format(table)}"
    first = over(filled, sql)
    assert first.json()["rows"] == [{"c": 1}]
    accepted(filled, post_batch(filled, table, [{"v": 2}], "2025-01-02"))
    assert over(filled, sql).json()["rows"] == [{"c": 2}]
    headers = {"If-None-Match": first.headers.get("ETag", "none")}
    assert over(filled, sql, headers).status_code == 200


def test_a_declared_column_is_seen_though_no_object_has_changed(filled, table):
    sql = f"SELECT * FROM {table}"
    assert list(over(filled, sql).json()["rows"][0]) == ["v", "year", "month", "day"]
    assert cache(over(filled, sql)) == "hit"
    for name, type_ in (("w", "BIGINT"), ("x", "DATE")):
        declared = {"columns": [{"name": name, "type": type_}]}
        assert filled.request("PUT", f"/tables/{table}", json=declared).status_code == 200
        answer = over(filled, sql)
        assert cache(answer) == "miss" and name in answer.json()["rows"][0]
    wider = {"columns": [{"name": "w", "type": "DOUBLE"}]}
    described = f"SELECT typeof(w) AS t FROM {table}"
    assert over(filled, described).json()["rows"] == [{"t": "BIGINT"}]
    assert filled.request("PUT", f"/tables/{table}", json=wider).status_code == 200
    assert over(filled, described).json()["rows"] == [{"t": "DOUBLE"}]


def test_a_file_of_another_writer_is_seen_a_moment_later(filled, table, wait_until):
    lake = filled.lake
    sql = f"SELECT count(*) AS c FROM {table}"
    assert over(filled, sql).json()["rows"] == [{"c": 1}]
    (key,) = lake.table_keys(table)
    lake.write(key.replace("data_", "data_other_"), lake.read(key))
    wait_until(lambda: over(filled, sql).json()["rows"] == [{"c": 2}], deadline=2)
    lake.remove(key)
    wait_until(lambda: over(filled, sql).json().get("rows") == [{"c": 1}], deadline=2)


def test_a_table_that_comes_later_is_seen(eider, table):
    sql = f"SELECT count(*) AS c FROM range(3) AS {table}"
    with_table = f"SELECT count(*) AS c FROM {table}_x"
    assert over(eider, sql).json()["rows"] == [{"c": 3}]
    assert over(eider, with_table).status_code == 400
    accepted(eider, post_batch(eider, f"{table}_x", [{"v": 1}], "2025-01-01"))
    assert over(eider, with_table).json()["rows"] == [{"c": 1}]


def test_everything_the_client_says_is_part_of_the_key(eider, ask):
    sql = "SELECT range AS v FROM range(20) WHERE range < ?"
    bodies = set()
    for fields in ({"params": [5]}, {"params": [6]}, {"params": [5], "max_rows": 3}):
        for form in ("", "?format=ndjson", "?format=csv"):
            answer = ask(sql, query=form, **fields)
            assert cache(answer) == "miss"
            bodies.add((answer.headers["Content-Type"], answer.content))
            again = ask(sql, query=form, **fields)
            assert cache(again) == "hit" and again.content == answer.content
    assert len(bodies) == 9


def test_a_truncated_answer_says_so_from_memory_too(ask):
    first = ask("SELECT range AS t FROM range(9)", max_rows=2)
    again = ask("SELECT range AS t FROM range(9)", max_rows=2)
    assert (cache(first), cache(again)) == ("miss", "hit")
    assert first.headers["X-Truncated"] == again.headers["X-Truncated"] == "true"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT now()",
        "SELECT ago(INTERVAL 1 DAY)",
        "SELECT pg_conf_load_time()",
        "SELECT current_timestamp",
        "SELECT CURRENT_DATE",
        "SELECT today()",
        "SELECT random()",
        "SELECT uuid()",
        "SELECT gen_random_uuid()",
        "SELECT * FROM range(100) USING SAMPLE 3",
        "SELECT * FROM range(100) TABLESAMPLE 10%",
        "SELECT age(TIMESTAMP '2020-01-01')",
        "SELECT ago(INTERVAL 1 HOUR)",
        "SELECT pg_postmaster_start_time()",
        "EXPLAIN SELECT 1",
        "SHOW TABLES",
        "SELECT * FROM information_schema.tables",
    ],
)
def test_what_changes_by_itself_is_not_kept(ask, sql):
    for _ in range(2):
        answer = ask(sql)
        assert cache(answer) == "miss"
        assert "ETag" not in answer.headers


def test_an_error_is_not_kept(ask):
    for _ in range(2):
        answer = ask("SELECT 'x'::INTEGER")
        assert answer.status_code == 400
        assert "X-Cache" not in answer.headers and "ETag" not in answer.headers


def test_no_cache_runs_again_and_no_store_is_not_kept(ask):
    sql = "SELECT 41 + 1 AS answer"
    assert cache(ask(sql, headers={"Cache-Control": "no-store"})) == "miss"
    assert cache(ask(sql)) == "miss"
    assert cache(ask(sql, headers={"Cache-Control": "max-age=0, No-Cache"})) == "miss"
    assert cache(ask(sql)) == "hit"


def test_if_none_match(filled, table):
    sql = f"SELECT v FROM {table}"
    tag = over(filled, sql).headers["ETag"]
    for header in (tag, f'"x", {tag}', tag.removeprefix("W/"), "*"):
        answer = over(filled, sql, headers={"If-None-Match": header})
        assert answer.status_code == 304 and answer.content == b"" and answer.headers["ETag"] == tag
    assert over(filled, sql, headers={"If-None-Match": '"other"'}).status_code == 200
    accepted(filled, post_batch(filled, table, [{"v": 2}], "2025-01-01"))
    changed = over(filled, sql, headers={"If-None-Match": tag})
    assert changed.status_code == 200 and changed.headers["ETag"] != tag


def test_the_memory_is_bounded(start_eider):
    server = start_eider({"EIDER_RESULT_CACHE_MAX": "1MiB"}, lake=FolderLake())
    for number in range(30):
        assert cache(over(server, f"SELECT repeat('x', 100000) AS v, {number} AS n")) == "miss"
    assert cache(over(server, "SELECT repeat('x', 100000) AS v, 29 AS n")) == "hit"
    assert cache(over(server, "SELECT repeat('x', 100000) AS v, 0 AS n")) == "miss"
    for _ in range(2):
        assert cache(over(server, "SELECT repeat('x', 200000) AS v")) == "miss"  # more than an eighth


def test_it_can_be_turned_off(start_eider):
    server = start_eider({"EIDER_RESULT_CACHE_MAX": "0"}, lake=FolderLake())
    for _ in range(2):
        assert cache(over(server, "SELECT 1 AS a")) == "miss"


# ---- objects of a bucket ----

@pytest.fixture
def client(eider, s3, s3_proxy):
    return Sidecar(eider.snapshot, s3, endpoint=s3_proxy.endpoint)


def write(client, key, value):
    client.write(key, [{"v": value}], [column("v", "BIGINT")])


def test_a_hit_asks_for_the_object_and_reads_none_of_it(client, s3_proxy):
    write(client, "a.parquet", 1)
    first = client.query("SELECT v FROM t", {"t": "a.parquet"})
    s3_proxy.forget()
    second = client.query("SELECT v FROM t", {"t": "a.parquet"})
    assert (cache(first), cache(second)) == ("miss", "hit")
    assert [(r.method, r.key.rpartition("/")[2]) for r in s3_proxy.requests()] == [("HEAD", "a.parquet")]


def test_a_pattern_is_proven_object_by_object(client, s3_proxy):
    write(client, "p/a.parquet", 1)
    write(client, "p/b.parquet", 2)
    sql = "SELECT sum(v) AS s FROM t"
    assert client.query(sql, {"t": "p/*.parquet"}).json()["rows"] == [{"s": 3}]
    s3_proxy.forget()
    assert cache(client.query(sql, {"t": "p/*.parquet"})) == "hit"
    assert s3_proxy.count(method="HEAD", key=r"p/[ab]\.parquet$") == 2
    write(client, "p/c.parquet", 4)
    assert client.query(sql, {"t": "p/*.parquet"}).json()["rows"] == [{"s": 7}]


def test_a_replaced_object_is_seen(client):
    for value in range(5):
        write(client, "replaced.parquet", value)
        for _ in range(2):
            assert client.query("SELECT v FROM t", {"t": "replaced.parquet"}).json()["rows"] == [{"v": value}]


def test_another_key_gets_nothing_from_memory(client, s3_proxy):
    write(client, "secret.parquet", 12345)
    body = client.query_body("SELECT v FROM t", {"t": "secret.parquet"})
    assert cache(client.post("/query", body)) == "miss"
    assert cache(client.post("/query", body)) == "hit"
    for change in ({"secretAccessKey": "wrong"}, {"accessKeyId": "nobody"}):
        stranger = {**body, "s3_config": {**body["s3_config"], **change}}
        tag = client.post("/query", body).headers["ETag"]
        for headers in ({}, {"If-None-Match": tag}, {"If-None-Match": "*"}):
            answer = client.post("/query", stranger, headers=headers)
            assert answer.status_code == 403, answer.text
            assert "12345" not in answer.text and "ETag" not in answer.headers


HIDDEN_NAMES = ["FROM 'secret'", "FROM E'se\\x63ret'", "FROM $$secret$$", "FROM 'sec'\n'ret'", "SUMMARIZE 'secret'"]


@pytest.mark.parametrize("sql", HIDDEN_NAMES)
def test_a_table_named_by_a_string_is_not_kept(client, sql):
    write(client, "secret.parquet", 12345)
    body = client.query_body(sql, {"secret": "secret.parquet"})
    for _ in range(2):
        answer = client.post("/query", body)
        assert cache(answer) == "miss" and "ETag" not in answer.headers and "12345" in answer.text
    stranger = {**body, "s3_config": {**body["s3_config"], "secretAccessKey": "wrong"}}
    answer = client.post("/query", stranger)
    assert answer.status_code == 403 and "12345" not in answer.text


def test_a_lake_table_named_by_a_string_is_not_kept(filled, table):
    sql = f"SELECT count(*) AS c FROM '{table}'"
    for rows in (1, 2):
        for _ in range(2):
            answer = over(filled, sql)
            assert answer.json()["rows"] == [{"c": rows}] and "ETag" not in answer.headers
        accepted(filled, post_batch(filled, table, [{"v": 1}], "2025-01-01"))


def test_the_same_key_in_another_bucket_is_another_answer(eider, s3):
    answers = []
    for value in (1, 2):
        client = Sidecar(eider.snapshot, s3)
        write(client, "same.parquet", value)
        answers.append(client.query("SELECT v FROM t", {"t": "same.parquet"}).json()["rows"][0]["v"])
    assert answers == [1, 2]


def test_a_table_that_is_only_a_name_in_the_text_does_no_harm(client):
    write(client, "here.parquet", 1)
    tables = {"t": "here.parquet", "v": "not/there.parquet"}
    for _ in range(2):
        answer = client.query("SELECT v FROM t", tables)
        assert answer.status_code == 200 and answer.json()["rows"] == [{"v": 1}]


def test_a_string_that_names_a_table_stands_for_its_objects_too(eider, s3):
    """Another path, or other credentials, under one name in one text."""
    client = Sidecar(eider.snapshot, s3)
    write(client, "one.parquet", 1)
    write(client, "two.parquet", 2)
    for path, value in (("one.parquet", 1), ("two.parquet", 2), ("one.parquet", 1)):
        answer = client.query("SELECT v FROM 't'", {"t": path})
        assert answer.json()["rows"] == [{"v": value}]
