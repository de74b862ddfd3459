"""From the log to the lake: which objects a flush makes, and that each row gets there once whatever the store does.

Read back with pyarrow, never with the server's own SQL, but where both are compared."""

import datetime
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.lakes import FolderLake, S3Lake
from harness.parquet_readers import read_parquet
from harness.snapshot_processes import workers

NDJSON = {"Content-Type": "application/x-ndjson"}
NEVER = {"EIDER_FLUSH_AGE_MS": "86400000"}


def put_rows(server, table, records, query=""):
    body = "".join(json.dumps(record) + "\n" for record in records)
    answer = server.post(f"/tables/{table}/rows{query}", data=body, headers=NDJSON)
    assert answer.status_code == 200, answer.text
    return answer.json()["position"]


def declare(server, table, **rules):
    answer = server.request("PUT", f"/tables/{table}", json=rules)
    assert answer.status_code in (200, 201), answer.text


def flush(server, table, query=""):
    return server.post(f"/flush?table_name={table}{query}")


def rows_of(lake, table):
    """Every row of the table's objects, with the day of its folder."""
    found = []
    for key in lake.table_keys(table):
        year, month, day = (part.split("=")[1] for part in key.split("/")[2:5])
        found += [dict(row, day=f"{year}-{month}-{day}") for row in read_parquet(lake.read(key)).rows]
    return found


def ids_of(lake, table):
    return sorted(row["id"] for row in rows_of(lake, table))


@pytest.fixture
def behind_proxy(start_eider, s3, s3_proxy):
    """Starts servers, one after the other, whose lake is reached through the fault proxy."""
    lake = S3Lake(s3, s3.make_bucket(), endpoint=s3_proxy.endpoint)

    def start(env=None, data=None):
        return start_eider({**NEVER, **(env or {})}, lake=lake, data=data)

    return start


# ---- what an object holds ----


def test_one_object_per_day_sorted_and_with_what_does_not_fit_in_rest(start_eider, table):
    server = start_eider(NEVER, lake=FolderLake())
    columns = [
        {"name": "id", "type": "BIGINT"},
        {"name": "at", "type": "TIMESTAMP"},
        {"name": "price", "type": "DECIMAL(5,2)"},
        {"name": "when", "type": "DATE"},
    ]
    declare(server, table, columns=columns, partition_by="at", sort_by=["price", "id"])
    first, second = "2024-05-01T23:59:59.999Z", "2024-05-02T00:00:00Z"
    put_rows(
        server,
        table,
        [
            {"id": 1, "at": second, "price": 2.5, "when": "2024-01-31"},
            {"id": 4, "at": first, "price": "1.10", "when": "soon"},
            {"id": 3, "at": first, "price": 1.1, "when": None},
            {"id": 2, "at": first, "price": 12345.6, "when": "2024-02-30"},
            {"id": 5, "at": first, "price": -1, "text": "é'\"\\"},
        ],
    )
    assert flush(server, table).json()["record_count"] == 5
    keys = server.lake.table_keys(table)
    assert [key.split("/")[2:5] for key in keys] == [["year=2024", "month=05", f"day=0{n}"] for n in (1, 2)]
    one, two = (read_parquet(server.lake.read(key)) for key in keys)
    assert one.types["price"] == "DECIMAL(5,2)" and one.types["at"] == "TIMESTAMP" and one.types["when"] == "DATE"
    assert one.types["text"] == "VARCHAR" and one.compressions == {"ZSTD"}
    assert one.values("id") == [5, 3, 4, 2], "sorted by price, then id, nulls last"
    assert one.values("text") == ["é'\"\\", None, None, None]
    rests = [None if rest is None else json.loads(rest) for rest in one.values("_rest")]
    assert rests == [None, None, {"when": "soon"}, {"price": "12345.6", "when": "2024-02-30"}]
    assert one.values("when") == [None] * 4
    assert two.values("when") == [datetime.date(2024, 1, 31)] and two.values("_rest") == [None]


def test_a_day_given_to_flush_is_that_of_all_rows(start_eider, table):
    server = start_eider(NEVER, lake=FolderLake())
    put_rows(server, table, [{"id": 1}], "?partition_date=2020-01-01")
    put_rows(server, table, [{"id": 2}])
    answer = flush(server, table, "&partition_date=2021-12-31").json()
    assert answer["record_count"] == 2 and answer["partition_date"] == "2021-12-31"
    assert [row["day"] for row in rows_of(server.lake, table)] == ["2021-12-31"] * 2


# ---- when ----


@pytest.mark.parametrize("setting", [("ROWS", "50"), ("BYTES", "2000"), ("AGE_MS", "300")], ids=lambda s: s[0].lower())
def test_tables_flush_by_themselves(start_eider, table, wait_until, setting):
    server = start_eider({**NEVER, f"EIDER_FLUSH_{setting[0]}": setting[1]}, lake=FolderLake())
    put_rows(server, table, [{"id": n, "pad": "x" * 50} for n in range(60)])
    wait_until(lambda: ids_of(server.lake, table) == list(range(60)))


def test_a_table_has_its_own_settings(start_eider, table, wait_until):
    server = start_eider(NEVER, lake=FolderLake())
    declare(server, table, columns=[{"name": "id", "type": "BIGINT"}], flush_rows=3)
    put_rows(server, table, [{"id": 1}, {"id": 2}])
    put_rows(server, f"{table}_other", [{"id": n} for n in range(10)])
    put_rows(server, table, [{"id": 3}])
    wait_until(lambda: ids_of(server.lake, table) == [1, 2, 3])
    assert server.lake.table_keys(f"{table}_other") == []


@pytest.mark.once
@pytest.mark.parametrize(
    "setting, asked, niceness",
    [("EIDER_FLUSH_ROWS=60000", False, 5), ("EIDER_FLUSH_ROWS=100000", True, 0), ("EIDER_LOG_MAX=24MiB", False, 0)],
    ids=["nobody_waits", "flush_waits", "the_log_is_half_full"],
)
def test_a_worker_gives_way_to_others_only_where_nothing_waits(
    start_eider, table, wait_until, setting, asked, niceness
):
    server = start_eider({**NEVER, **dict([setting.split("=")])}, lake=FolderLake())
    own = os.getpriority(os.PRIO_PROCESS, server.pid)
    body = "".join(f'{{"id":{number},"text":"{number:0200}"}}\n' for number in range(60_000))

    def fill():
        assert server.post(f"/tables/{table}/rows", data=body, headers=NDJSON).status_code == 200
        assert not asked or flush(server, table).status_code == 200

    with ThreadPoolExecutor(1) as pool:
        filled = pool.submit(fill)
        found = wait_until(lambda: [os.getpriority(os.PRIO_PROCESS, pid) for pid in workers(server)], 30, None, 0.001)
        filled.result()
    assert found == [min(own + niceness, 19)]


def test_a_large_backlog_becomes_several_objects(start_eider, table):
    server = start_eider({**NEVER, "EIDER_FLUSH_BYTES": "1GiB"}, lake=FolderLake())
    for start in range(0, 400, 10):
        put_rows(server, table, [{"id": n, "pad": "x" * 1000} for n in range(start, start + 10)])
    declare(server, table, flush_bytes=50_000)
    flush(server, table)
    assert ids_of(server.lake, table) == list(range(400))
    assert 4 <= len(server.lake.table_keys(table)) <= 9


def test_flushes_at_the_same_time_store_each_row_once(start_eider, table):
    server = start_eider({**NEVER, "EIDER_FLUSH_ROWS": "20"}, lake=FolderLake())

    def work(worker):
        for n in range(10):
            put_rows(server, table, [{"id": worker * 100 + n * 10 + m} for m in range(10)])
            assert flush(server, table).status_code == 200

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    flush(server, table)
    assert ids_of(server.lake, table) == list(range(400))


# ---- a store that fails ----


@pytest.mark.once
def test_a_store_that_was_away_gets_everything_by_itself(start_eider, own_s3, table, wait_until):
    lake = S3Lake(own_s3, own_s3.make_bucket())
    server = start_eider({"EIDER_FLUSH_AGE_MS": "200"}, lake=lake)
    own_s3.stop()
    put_rows(server, table, [{"id": 1}])
    wait_until(lambda: server.events("lake.flush_failed"), 30)
    assert server.events("lake.flush_failed")[0]["table"] == table
    put_rows(server, table, [{"id": 2}])
    assert flush(server, table).status_code in (500, 502, 503)
    own_s3.start()
    wait_until(lambda: ids_of(lake, table) == [1, 2], 60)
    wait_until(lambda: server.events("lake.flush_works_again"), 10)


def test_what_a_kill_left_is_stored_under_the_name_it_was_given(behind_proxy, s3_proxy, table, wait_until):
    """The plan was durable before the upload: the next life repeats it, whatever came in meanwhile."""
    server = behind_proxy({"EIDER_FLUSH_ROWS": "5"})
    stalled = s3_proxy.stall(method="PUT", key=f"/data/{table}/")
    put_rows(server, table, [{"id": n} for n in range(5)])
    wait_until(lambda: s3_proxy.requests(method="PUT", key=f"/data/{table}/"), 30)
    name = s3_proxy.requests(method="PUT", key=f"/data/{table}/")[0].key
    put_rows(server, table, [{"id": n} for n in range(5, 7)])
    server.kill()
    stalled.release()
    server = behind_proxy(data=server.data)
    put_rows(server, table, [{"id": 7}])
    assert flush(server, table).status_code == 200
    keys = server.lake.table_keys(table)
    assert any(name.endswith(key) for key in keys), (name, keys)
    assert ids_of(server.lake, table) == list(range(8))


def test_an_object_of_somebody_else_under_our_name_is_reported_and_left_alone(
    behind_proxy, s3_proxy, table, wait_until
):
    """Two servers with one identity: the second has a copy of the first one's log."""
    server = behind_proxy()
    foreign = b"not ours"
    keys = []

    def before():
        if not keys:
            keys.append(s3_proxy.requests(method="PUT", key=f"/data/{table}/")[0].key.split("/lake/", 1)[1])
            server.lake.write(keys[0], foreign)

    s3_proxy.before(before, method="PUT", key=f"/data/{table}/")
    put_rows(server, table, [{"id": 1}])
    answer = flush(server, table)
    assert answer.status_code >= 400, answer.text
    failure = server.get("/health/ready").text + json.dumps(server.events("lake.flush_failed"))
    assert "identity" in failure, failure
    assert server.lake.read(keys[0]) == foreign
    server.lake.remove(keys[0])
    assert flush(server, table).status_code == 200
    assert ids_of(server.lake, table) == [1]


@pytest.mark.once
def test_a_batch_that_lands_after_its_failure_was_told_is_deleted(behind_proxy, s3_proxy, table, wait_until):
    server = behind_proxy({"EIDER_INGEST_TIMEOUT_MS": "1500", "EIDER_INGEST_LISTEN": "127.0.0.1:0"})
    upload = {"method": "PUT", "key": f"/data/{table}/"}
    stalled = s3_proxy.stall(times=10, **upload)
    body = {"table_name": table, "records": [{"id": 1}]}
    answer = server.post("/ingest", server.ingest, json=body)
    assert answer.status_code >= 500, answer.text
    name = s3_proxy.requests(**upload)[0].key.split("/lake/", 1)[1]
    s3_proxy.clear()
    stalled.release()
    server.lake.write(name, b"late")  # as if the network had held it back
    wait_until(lambda: s3_proxy.count(method="DELETE", key=f"/data/{table}/") > 0, 30)
    wait_until(lambda: server.lake.table_keys(table) == [], 30)
    assert server.post("/ingest", server.ingest, json=body).status_code == 200
    assert ids_of(server.lake, table) == [1]


# ---- what goes ----


@pytest.mark.once
def test_the_log_stays_small_under_steady_load(start_eider, table, wait_until):
    env = {"EIDER_FLUSH_BYTES": "1MiB", "EIDER_LOG_SEGMENT": "1MiB"}
    server = start_eider({**NEVER, **env}, lake=FolderLake())
    body = "".join(json.dumps({"id": n, "pad": "x" * 1000}) + "\n" for n in range(2000)).encode()
    for _ in range(32):
        assert server.post(f"/tables/{table}/rows", data=body, headers=NDJSON).status_code == 200
    assert flush(server, table).status_code == 200

    def log_bytes():
        return sum(path.stat().st_size for path in (server.data / "log" / "records").iterdir())

    wait_until(lambda: log_bytes() <= 12 << 20, 20, lambda: f"the log has {log_bytes() >> 20} MiB of 64")
    assert len(rows_of(server.lake, table)) == 64000


@pytest.mark.once
def test_batches_alone_are_trimmed_too(start_eider, table, wait_until):
    server = start_eider({**NEVER, "EIDER_LOG_SEGMENT": "1MiB", "EIDER_INGEST_LISTEN": "127.0.0.1:0"}, lake=FolderLake())
    records = [{"id": n, "pad": "x" * 1000} for n in range(3000)]
    for _ in range(8):
        body = {"table_name": table, "records": records}
        assert server.post("/ingest", server.ingest, json=body).status_code == 200

    def log_bytes():
        return sum(path.stat().st_size for path in (server.data / "log" / "records").iterdir())

    wait_until(lambda: log_bytes() <= 12 << 20, 20, lambda: f"the log has {log_bytes() >> 20} MiB of 24")
    server.kill()
    server = start_eider(NEVER, lake=FolderLake(), data=server.data)
    flush(server, table)
    assert len(server.lake.table_keys(table)) == 8


def test_retention_takes_days_that_are_too_old_and_nothing_else(start_eider, table, wait_until):
    server = start_eider(NEVER, lake=FolderLake())
    today = datetime.datetime.now(datetime.UTC).date()
    days = [today - datetime.timedelta(days=n) for n in (1, 2, 3, 4, 400)]
    for number, day in enumerate(days):
        for name in (table, f"{table}_kept"):
            put_rows(server, name, [{"id": number}], f"?partition_date={day}")
            assert flush(server, name).status_code == 200
    declare(server, table, retention_days=3)
    server.lake.write(f"data/{table}/year=2001/month=01/day=01/notes.txt", b"mine")
    server.stop(signal.SIGTERM)
    server = start_eider(NEVER, lake=server.lake, data=server.data)
    wait_until(lambda: len([k for k in server.lake.keys(f"data/{table}/") if k.endswith(".parquet")]) == 3, 20)
    (server.lake.root / f"data/{table}/year=2001/month=01/day=01/notes.txt").unlink()
    assert ids_of(server.lake, table) == [0, 1, 2]
    assert ids_of(server.lake, f"{table}_kept") == [0, 1, 2, 3, 4]
