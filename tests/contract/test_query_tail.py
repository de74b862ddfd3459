"""SQL over a table sees its files and the rows that are in no file yet, each once, while flushes run."""

import json
import threading
import time
from decimal import Decimal

import pytest
from harness.lakes import FolderLake, S3Lake

NDJSON = {"Content-Type": "application/x-ndjson"}
SLOW_FLUSH = {"EIDER_FLUSH_AGE_MS": "86400000"}


def post_rows(server, table, records, query=""):
    body = "".join(json.dumps(record) + "\n" for record in records)
    answer = server.post(f"/tables/{table}/rows{query}", data=body, headers=NDJSON)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows_of(server, sql):
    answer = server.post("/query", json={"sql": sql})
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


def value_of(server, sql):
    ((value,),) = (row.values() for row in rows_of(server, sql))
    return value


def flush(server, table):
    answer = server.post(f"/flush?table_name={table}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def buffered(server, table):
    return server.get(f"/table/{table}/count").json()["buffered_count"]


# ---- at once ----


def test_rows_are_there_right_after_the_answer(any_lake, table):
    for number in range(1, 6):
        post_rows(any_lake, table, [{"v": number}])
        assert value_of(any_lake, f"SELECT sum(v) AS s FROM {table}") == number * (number + 1) // 2
        streamed = any_lake.post(f"/ingest/stream?table_name={table}", json={"data": {"w": number}})
        assert streamed.status_code == 200, streamed.text
        assert value_of(any_lake, f"SELECT count(*) AS c FROM {table}") == 2 * number
        if number == 3:
            flush(any_lake, table)
            assert buffered(any_lake, table) == 0


def test_a_flush_changes_no_answer(any_lake, table):
    records = [{"i": i, "x": i / 4, "t": f"text {i}", "b": i % 2 == 0, "big": 10**30 + i, "n": {"k": i}} for i in range(50)]
    post_rows(any_lake, table, records + [{"late": "column", "i": None}])
    everything = f"SELECT * FROM {table} ORDER BY ALL"
    described = f"DESCRIBE {table}"
    before, types = rows_of(any_lake, everything), rows_of(any_lake, described)
    flush(any_lake, table)
    assert rows_of(any_lake, everything) == before
    assert rows_of(any_lake, described) == types
    post_rows(any_lake, table, records)
    assert len(rows_of(any_lake, everything)) == 101
    assert rows_of(any_lake, described) == types


def test_a_table_without_files_is_a_table(eider, table):
    post_rows(eider, table, [{"v": 1}])
    assert table in [row["name"] for row in rows_of(eider, "SHOW TABLES")]
    assert [row["column_name"] for row in rows_of(eider, f"DESCRIBE {table}")] == ["v", "year", "month", "day"]
    assert table in eider.get("/tables", base=eider.ingest).json()["tables"]
    unknown = eider.post("/query", json={"sql": f"SELECT * FROM {table}_nowhere"})
    assert unknown.status_code == 400 and table in unknown.json()["error"]


def test_a_declared_table_without_rows_is_empty(eider, table):
    declared = {"columns": [{"name": "id", "type": "BIGINT"}, {"name": "at", "type": "TIMESTAMP"}]}
    assert eider.request("PUT", f"/tables/{table}", json=declared).status_code == 200
    assert value_of(eider, f"SELECT count(*) AS c FROM {table}") == 0
    types = {row["column_name"]: row["column_type"] for row in rows_of(eider, f"DESCRIBE {table}")}
    assert types["id"] == "BIGINT" and types["at"] == "TIMESTAMP"


def test_names_that_differ_in_case_are_united(eider, table):
    post_rows(eider, table, [{"v": 2, "w": True}])
    flush(eider, table)
    (key,) = eider.lake.table_keys(table)
    eider.lake.write(key.replace(table, table.upper()), eider.lake.read(key))
    eider.lake.remove(key)
    post_rows(eider, table, [{"v": 1}, {"v": 4}])
    assert rows_of(eider, f"SELECT sum(v) AS s, count(w) AS w FROM {table}") == [{"s": 7, "w": 1}]


# ---- what rows hold ----


def test_every_type_is_what_it_will_be_in_files(eider, table):
    types = {"d": "DECIMAL(18,3)", "at": "TIMESTAMP", "day_of": "DATE", "u": "UUID", "tiny": "TINYINT", "j": "JSON"}
    columns = [{"name": name, "type": text} for name, text in types.items()]
    assert eider.request("PUT", f"/tables/{table}", json={"columns": columns}).status_code == 200
    good = {
        "d": Decimal("0.100"),
        "at": "2026-01-02T03:04:05+01:00",
        "day_of": "2026-02-03",
        "u": "6c84fb90-12c4-11e1-840d-7b25c5ee775a",
        "tiny": -7,
        "j": '{"a": 1}',
        "huge": 123456789012345678901234567890,
        "real": 0.1,
        "yes": True,
    }
    wrong = {"d": "much", "tiny": 300, "u": "nobody", "real": 0.2}
    body = json.dumps(good | {"d": "0.100"}) + "\n" + json.dumps(wrong) + "\n" + json.dumps({"d": "0.2"}) + "\n"
    answer = eider.post(f"/tables/{table}/rows", data=body, headers=NDJSON)
    assert answer.status_code == 200, answer.text
    for _ in range(2):
        assert value_of(eider, f"SELECT CAST(sum(d) AS VARCHAR) AS s FROM {table}") == "0.300"
        (row,) = rows_of(eider, f"SELECT * FROM {table} WHERE huge IS NOT NULL")
        assert row["huge"] == "123456789012345678901234567890"
        assert row["at"] == "2026-01-02T02:04:05.000Z"
        assert (row["tiny"], row["u"], row["yes"], row["real"]) == (-7, good["u"], True, 0.1)
        (misfit,) = rows_of(eider, f"SELECT * FROM {table} WHERE real = 0.2")
        assert (misfit["d"], misfit["tiny"], misfit["u"]) == (None, None, None)
        assert json.loads(misfit["_rest"]) == {"d": "much", "tiny": "300", "u": "nobody"}
        flush(eider, table)


@pytest.mark.once
def test_partition_columns_of_rows_in_no_file(eider, table):
    declared = {"columns": [{"name": "at", "type": "DATE"}], "partition_by": "at"}
    assert eider.request("PUT", f"/tables/{table}", json=declared).status_code == 200
    days = ["2024-02-29", "2025-12-31", "2026-01-01", "2024-02-29"]
    post_rows(eider, table, [{"at": day, "v": number} for number, day in enumerate(days)])
    sql = f"SELECT year, month, day, sum(v) AS s FROM {table} GROUP BY ALL ORDER BY ALL"
    wanted = [(2024, 2, 29, 3), (2025, 12, 31, 1), (2026, 1, 1, 2)]
    assert [tuple(row.values()) for row in rows_of(eider, sql)] == wanted
    assert value_of(eider, f"SELECT sum(v) AS s FROM {table} WHERE year = 2024 AND day = 29") == 3
    for number in range(40):  # each with days of its own: the windows are put together now and then
        post_rows(eider, table, [{"at": f"2024-03-{1 + (number + i) % 28:02d}", "v": 1} for i in range(5)])
        assert value_of(eider, f"SELECT count(*) AS c FROM {table}") == 4 + 5 * (number + 1)
    before = rows_of(eider, sql)
    flush(eider, table)
    assert rows_of(eider, sql) == before


def test_filters_reach_the_files(eider, table):
    post_rows(eider, table, [{"v": i, "w": i} for i in range(10)])
    flush(eider, table)
    post_rows(eider, table, [{"v": i, "w": i} for i in range(10)])
    plan = rows_of(eider, f"EXPLAIN SELECT v FROM {table} WHERE v > 7")[0]["explain_value"]
    assert "READ_PARQUET" in plan and "READ_JSON" in plan
    assert "Filters" in plan and "c0>7" in plan
    assert "c1" not in plan, "the other column is not read"


# ---- while rows come and go ----


def test_readers_count_every_row_once_while_flushes_run(start_eider, table):
    """Each count lies between what was acknowledged before it and what was sent after it, and never falls."""
    server = start_eider(env=SLOW_FLUSH, lake=FolderLake())
    sent, acknowledged, writers, each = [0] * 8, [0] * 8, 8, 40
    problems, counts, stop = [], [], threading.Event()
    post_rows(server, table, [{"writer": -1}])

    def write(number):
        for turn in range(each):
            sent[number] += 1 + turn % 3
            post_rows(server, table, [{"writer": number, "turn": turn}] * (1 + turn % 3))
            acknowledged[number] += 1 + turn % 3

    def keep_flushing():
        while not stop.is_set():
            flush(server, table)

    def read():
        last = 0
        while not stop.is_set():
            least = sum(acknowledged) + 1
            count = value_of(server, f"SELECT count(*) AS c FROM {table}")
            most = sum(sent) + 1
            if not max(least, last) <= count <= most:
                problems.append((least, last, count, most))
                return
            last = count
            counts.append(count)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    others = [threading.Thread(target=keep_flushing)] + [threading.Thread(target=read) for _ in range(2)]
    for thread in threads + others:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()
    assert problems == []
    assert sum(acknowledged) == sum(sent) == writers * sum(1 + turn % 3 for turn in range(each))
    assert value_of(server, f"SELECT count(*) AS c FROM {table}") == sum(sent) + 1
    flush(server, table)
    assert value_of(server, f"SELECT count(*) AS c FROM {table}") == sum(sent) + 1
    assert len(server.lake.table_keys(table)) > 2 and len(set(counts)) > 5


def test_a_result_in_memory_never_hides_a_row(eider, table):
    sql = f"SELECT count(*) AS c FROM {table}"
    post_rows(eider, table, [{"v": 0}])
    for number in range(1, 8):
        first = eider.post("/query", json={"sql": sql})
        again = eider.post("/query", json={"sql": sql})
        assert first.json()["rows"] == again.json()["rows"] == [{"c": number}]
        assert (first.headers["X-Cache"], again.headers["X-Cache"]) == ("miss", "hit")
        if number == 4:
            flush(eider, table)
            moved = eider.post("/query", json={"sql": sql}, headers={"If-None-Match": first.headers["ETag"]})
            assert moved.status_code in (200, 304)
        post_rows(eider, table, [{"v": number}])


def test_rows_that_are_in_no_file_survive_a_restart(start_eider, table, tmp_path):
    server = start_eider(env=SLOW_FLUSH, data=tmp_path)
    post_rows(server, table, [{"v": i} for i in range(10)])
    flush(server, table)
    post_rows(server, table, [{"v": i} for i in range(10, 15)])
    batch = {"table_name": table, "records": [{"v": 100}]}
    assert server.post("/ingest", json=batch).status_code == 200
    before = rows_of(server, f"SELECT * FROM {table} ORDER BY v")
    assert len(before) == 16
    server.kill()
    again = start_eider(env=SLOW_FLUSH, data=tmp_path)
    assert rows_of(again, f"SELECT * FROM {table} ORDER BY v") == before
    flush(again, table)
    assert rows_of(again, f"SELECT * FROM {table} ORDER BY v") == before


@pytest.mark.parametrize("where", [r"\.parquet$", r"_eider/commits/"])
def test_a_flush_that_hangs_changes_no_count(start_eider, s3, s3_proxy, table, where):
    """Before the object is in the store, and after: its rows are then in both, and shown once."""
    bucket = s3.make_bucket()
    lake = S3Lake(s3, bucket, endpoint=s3_proxy.endpoint)
    server = start_eider(env=SLOW_FLUSH, lake=lake)
    post_rows(server, table, [{"v": i} for i in range(10)])
    stalled = s3_proxy.stall(method="PUT", key=where)
    waiting = threading.Thread(target=flush, args=(server, table))
    waiting.start()
    s3_proxy.wait_for(1, method="PUT", key=where)
    assert value_of(server, f"SELECT count(*) AS c FROM {table}") == 10
    post_rows(server, table, [{"v": 10}])
    assert value_of(server, f"SELECT sum(v) AS s FROM {table}") == 55
    stalled.release()
    waiting.join()
    assert rows_of(server, f"SELECT count(*) AS c, sum(v) AS s FROM {table}") == [{"c": 11, "s": 55}]


def test_a_query_over_rows_in_no_file_can_be_cancelled(eider, table, wait_until):
    post_rows(eider, table, [{"v": i} for i in range(2000)])
    sql = f"SELECT count(*) FROM {table} a, {table} b, {table} c WHERE a.v + b.v + c.v = 1"
    answers = []
    thread = threading.Thread(target=lambda: answers.append(eider.post("/query", json={"sql": sql})))
    thread.start()
    listed = lambda: [q for q in eider.get("/queries").json()["queries"] if q["state"] == "running"]  # noqa: E731
    wait_until(listed)
    (query,) = listed()
    began = time.monotonic()
    assert eider.request("DELETE", f"/queries/{query['id']}").status_code in (200, 202)
    thread.join(10)
    assert answers and answers[0].status_code >= 400 and time.monotonic() - began < 5
    assert value_of(eider, f"SELECT count(*) AS c FROM {table}") == 2000


# ---- what others write ----


def test_files_of_another_writer_are_seen_a_moment_later(any_lake, table, wait_until):
    post_rows(any_lake, table, [{"v": 1}])
    flush(any_lake, table)
    (key,) = any_lake.lake.table_keys(table)
    sql = f"SELECT count(*) AS c FROM {table}"
    assert value_of(any_lake, sql) == 1
    any_lake.lake.write(key.replace("data_", "data_other_"), any_lake.lake.read(key))
    wait_until(lambda: value_of(any_lake, sql) == 2, deadline=2)


# ---- how much of it ----


def test_tails_of_all_tables_together_are_bounded(start_eider, table):
    """A query beyond EIDER_QUERY_TAILS_MAX is refused for now; what nobody reads makes room for it first."""
    server = start_eider(env={**SLOW_FLUSH, "EIDER_QUERY_TAILS_MAX": "1MiB"})
    for name in ("a", "b"):
        post_rows(server, f"{table}_{name}", [{"v": i, "text": "x" * 1000} for i in range(700)])
    for name in ("a", "b", "a"):
        assert value_of(server, f"SELECT count(*) AS c FROM {table}_{name}") == 700
    both = f"SELECT count(*) AS c FROM {table}_a JOIN {table}_b USING (v)"
    refused = server.post("/query", json={"sql": both})
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) >= 1, refused.text
    assert "flush the table" in refused.json()["error"]
    assert value_of(server, f"SELECT count(*) AS c FROM {table}_b") == 700  # nothing is held by the one that was refused
    flush(server, f"{table}_a")
    assert value_of(server, both) == 700
