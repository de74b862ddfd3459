"""What is left when the store or the server fails: contracts/ingest.md D1, check 18; reliability.md 3.9."""

import os
import random
import signal
import threading

import pytest

from harness.ingest_client import accepted, in_parallel, post_batch, refused
from harness.lakes import FolderLake, S3Lake
from harness.parquet_readers import read_parquet, read_table

INGEST = {"EIDER_INGEST_LISTEN": "127.0.0.1:0"}
FAILED = "Ingestion failed: "


@pytest.fixture
def behind_proxy(start_eider, s3, s3_proxy):
    """A server whose lake is reached through the fault proxy."""
    return start_eider(INGEST, lake=S3Lake(s3, s3.make_bucket(), endpoint=s3_proxy.endpoint))


@pytest.fixture
def upload(table):
    """Matches the upload of the table's objects, and no probe of the server's own."""
    return {"key": f"/data/{table}/"}


def assert_retry_stores_once(server, table, records):
    assert server.lake.table_keys(table) == []
    key = accepted(server, post_batch(server, table, records))
    assert server.lake.table_keys(table) == [key]
    assert read_parquet(server.lake.read(key)).rows == records


# ---- check 18 ----
@pytest.mark.both_stores
def test_store_stopped_and_started_again(start_eider, own_s3, table):
    server = start_eider(INGEST, lake=S3Lake(own_s3, own_s3.make_bucket()))
    own_s3.stop()
    refused(post_batch(server, table, [{"a": 1}]), 502, FAILED)
    assert server.get("/health", server.ingest).status_code == 200
    own_s3.start()
    assert_retry_stores_once(server, table, [{"a": 1}])


def test_store_that_is_not_there_at_start(start_eider, own_s3, table):
    lake = S3Lake(own_s3, own_s3.make_bucket())
    own_s3.stop()
    server = start_eider(INGEST, lake=lake)
    refused(post_batch(server, table, [{"a": 1}]), 502, FAILED)
    own_s3.start()
    assert_retry_stores_once(server, table, [{"a": 1}])


@pytest.mark.both_stores
def test_bucket_that_does_not_exist(start_eider, s3, table):
    server = start_eider(INGEST, lake=S3Lake(s3, "no-such-bucket-here"))
    refused(post_batch(server, table, [{"a": 1}]), 502, FAILED)
    names = [bucket["Name"] for bucket in s3.client().list_buckets()["Buckets"]]
    assert "no-such-bucket-here" not in names


@pytest.mark.both_stores
def test_wrong_secret(start_eider, s3, table):
    lake = S3Lake(s3, s3.make_bucket())
    server = start_eider({**INGEST, "S3_SECRET_KEY": "not-the-secret"}, lake=lake)
    detail = refused(post_batch(server, table, [{"a": 1}]), 502, FAILED)
    assert "not-the-secret" not in detail
    assert lake.keys() == []


# ---- retries ----
def test_three_errors_are_given_up(behind_proxy, s3_proxy, table, upload):
    s3_proxy.fail(500, times=3, **upload)
    refused(post_batch(behind_proxy, table, [{"a": 1}]), 502, FAILED)
    assert s3_proxy.count(status=500, **upload) == 3
    assert_retry_stores_once(behind_proxy, table, [{"a": 1}])


@pytest.mark.parametrize("status, code", [(500, "InternalError"), (503, "SlowDown"), (502, "BadGateway"), (429, "SlowDown")])
def test_two_errors_are_overcome(behind_proxy, s3_proxy, table, upload, status, code):
    s3_proxy.fail(status, times=2, code=code, **upload)
    key = accepted(behind_proxy, post_batch(behind_proxy, table, [{"a": 1}]))
    assert s3_proxy.count(status=status, **upload) == 2
    assert behind_proxy.lake.table_keys(table) == [key]


def test_connections_that_break_are_overcome(behind_proxy, s3_proxy, table, upload):
    fault = s3_proxy.reset(times=2, **upload)
    key = accepted(behind_proxy, post_batch(behind_proxy, table, [{"a": 1}]))
    assert fault.hits == 2
    assert behind_proxy.lake.table_keys(table) == [key]


def test_half_a_header_is_no_answer(behind_proxy, s3_proxy, table, upload):
    """HTTP/1.1 200 OK, and the connection ends before the header does: nothing was stored."""
    fault = s3_proxy.cut_header(times=1, **upload)
    key = accepted(behind_proxy, post_batch(behind_proxy, table, [{"a": 1}]))
    assert fault.hits == 1
    assert read_parquet(behind_proxy.lake.read(key)).rows == [{"a": 1}]


def test_denied_is_not_retried(behind_proxy, s3_proxy, table, upload):
    s3_proxy.fail(403, times=9, code="AccessDenied", **upload)
    refused(post_batch(behind_proxy, table, [{"a": 1}]), 502, FAILED)
    assert s3_proxy.count(**upload) == 1


def test_refused_connections(behind_proxy, s3_proxy, table):
    with s3_proxy.refused():
        refused(post_batch(behind_proxy, table, [{"a": 1}]), 502, FAILED)
    assert_retry_stores_once(behind_proxy, table, [{"a": 1}])


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.both_stores
def test_an_answer_lost_after_the_object_was_stored(behind_proxy, s3_proxy, table, upload, times):
    fault = s3_proxy.drop_answer(times=times, method="PUT", **upload)
    key = accepted(behind_proxy, post_batch(behind_proxy, table, [{"a": 1}, {"a": 2}]))
    assert fault.hits >= 1
    assert behind_proxy.lake.table_keys(table) == [key]
    assert read_parquet(behind_proxy.lake.read(key)).rows == [{"a": 1}, {"a": 2}]


@pytest.mark.once
@pytest.mark.slow
def test_a_store_that_stalls_does_not_hold_the_client_for_ever(behind_proxy, s3_proxy, table, upload, wait_until):
    s3_proxy.stall(times=99, **upload)
    answer = post_batch(behind_proxy, table, [{"a": 1}], timeout=120)
    assert answer.status_code in (502, 504)
    refused(answer, answer.status_code, FAILED)
    s3_proxy.clear()
    assert_retry_stores_once(behind_proxy, table, [{"a": 1}])


def test_a_stalled_store_does_not_stop_the_server(behind_proxy, s3_proxy, table, upload):
    """Uploads that wait hold neither the http threads nor the batches of others."""
    stall = s3_proxy.stall(times=10, **upload)
    threads = [threading.Thread(target=post_batch, args=(behind_proxy, table, [{"n": n}])) for n in range(10)]
    for thread in threads:
        thread.start()
    s3_proxy.wait_for(4, **upload)
    assert behind_proxy.get("/health", behind_proxy.ingest, timeout=2).status_code == 200
    stall.release()
    for thread in threads:
        thread.join(30)
    assert len(behind_proxy.lake.table_keys(table)) == 10


def test_a_client_that_leaves_costs_nothing(behind_proxy, s3_proxy, table, upload, wait_until):
    """The batch of a client that left is stored whole or not at all, and the server goes on."""
    stall = s3_proxy.stall(**upload)
    with pytest.raises(OSError):
        post_batch(behind_proxy, table, [{"a": 1}], timeout=1)
    stall.release()
    accepted(behind_proxy, post_batch(behind_proxy, f"{table}_b", [{"a": 2}]))
    for file in read_table(behind_proxy.lake, table).values():
        assert file.rows == [{"a": 1}]


# ---- multipart ----
def large_records():
    random_bytes = random.Random(2).randbytes
    return [{"id": n, "blob": random_bytes(700_000).hex()} for n in range(30)]


@pytest.mark.once
@pytest.mark.both_stores
def test_a_part_that_fails_for_good_leaves_no_upload(behind_proxy, s3_proxy, s3, table, upload):
    records = large_records()
    s3_proxy.fail(500, times=99, method="PUT", query="partNumber=2", **upload)
    refused(post_batch(behind_proxy, table, records), 502, FAILED)
    assert s3_proxy.count(query="uploadId", **upload) >= 2
    assert behind_proxy.lake.table_keys(table) == []
    assert s3.uploads(behind_proxy.lake.bucket) == []
    s3_proxy.clear()
    assert_retry_stores_once(behind_proxy, table, records)


@pytest.mark.once
def test_a_part_that_fails_twice_is_sent_again(behind_proxy, s3_proxy, s3, table, upload):
    records = large_records()
    fault = s3_proxy.fail(500, times=2, method="PUT", query="partNumber=1", **upload)
    key = accepted(behind_proxy, post_batch(behind_proxy, table, records))
    assert fault.hits == 2
    assert read_parquet(behind_proxy.lake.read(key)).rows == records
    assert s3.uploads(behind_proxy.lake.bucket) == []


@pytest.mark.once
@pytest.mark.both_stores
def test_a_lost_answer_to_the_end_of_an_upload(behind_proxy, s3_proxy, s3, table, upload):
    fault = s3_proxy.drop_answer(method="POST", query="uploadId", **upload)
    key = accepted(behind_proxy, post_batch(behind_proxy, table, large_records()))
    assert fault.hits == 1
    assert behind_proxy.lake.table_keys(table) == [key]
    assert s3.uploads(behind_proxy.lake.bucket) == []


# ---- kill -9 ----
BATCH_ROWS = 50


def post_until_it_dies(server, table, acknowledged, numbers):
    """Posts batches, each with its number in every row, and notes which were answered with 200."""
    for number in numbers:
        records = [{"batch": number, "row": row} for row in range(BATCH_ROWS)]
        try:
            answer = post_batch(server, table, records, "2025-12-20", timeout=20)
        except OSError:
            return
        if answer.status_code == 200:
            acknowledged.append(number)


@pytest.mark.once
@pytest.mark.parametrize("kind, kill_after", [("folder", 3), ("folder", 20), ("s3", 3), ("s3", 20)])
def test_killed_in_the_middle_of_many_posts(start_eider, s3, table, wait_until, kind, kill_after):
    lake = FolderLake() if kind == "folder" else S3Lake(s3, s3.make_bucket())
    server = start_eider(INGEST, lake=lake)
    acknowledged = []
    threads = [
        threading.Thread(
            target=post_until_it_dies,
            args=(server, table, acknowledged, range(start, start + 1000)),
        )
        for start in range(0, 6000, 1000)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(acknowledged) >= kill_after, 60)
    server.kill()
    for thread in threads:
        thread.join(30)
    again = start_eider(INGEST, lake=lake, data=server.data)
    accepted(again, post_batch(again, table, [{"batch": -1, "row": 0}], "2025-12-20"))
    # What was in the log and had no answer goes to the lake by itself, and SQL shows it then.
    def settled():
        files = sum(key.endswith(".parquet") for key in lake.keys(f"data/{table}/"))
        return again.sql(f"SELECT count(*) AS n FROM {table}")["rows"] == [{"n": (files - 1) * BATCH_ROWS + 1}]

    for _ in range(2):  # the second server has nothing left to do, so that no object comes later
        wait_until(settled, 30)
        assert again.stop() == 0
        again = start_eider(INGEST, lake=lake, data=server.data)
    wait_until(settled, 30)

    found = {}
    for key in lake.keys(f"data/{table}/"):
        if not key.endswith(".parquet"):
            continue  # readers take *.parquet only
        rows = read_parquet(lake.read(key)).rows
        (number,) = {row["batch"] for row in rows}
        assert number not in found, f"batch {number} is there twice"
        found[number] = [row["row"] for row in rows]
    assert found.pop(-1) == [0]
    assert set(acknowledged) <= set(found), "an acknowledged batch is gone"
    assert all(rows == list(range(BATCH_ROWS)) for rows in found.values())
    count = again.sql(f"SELECT count(*) AS n FROM {table}")["rows"][0]["n"]
    assert count == len(found) * BATCH_ROWS + 1


def test_workers_killed_cost_at_most_their_own_request(any_lake, table, wait_until):
    """SIGKILL for every process that the server has started; the next batch is served by new ones."""
    accepted(any_lake, post_batch(any_lake, table, [{"a": 0}]))
    victims = any_lake.children()
    assert victims, "the engine is supposed to run in processes of its own"
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # a one-shot worker that had just ended
    answers = in_parallel(lambda n: post_batch(any_lake, table, [{"a": n}]), range(1, 5), threads=2)
    assert [answer.status_code for answer in answers].count(200) >= 3
    accepted(any_lake, post_batch(any_lake, table, [{"a": 5}]))
    stored = sorted(row["a"] for file in read_table(any_lake.lake, table).values() for row in file.rows)
    expected = [0] + [n for n, answer in enumerate(answers, 1) if answer.status_code == 200] + [5]
    assert stored == expected


def test_a_folder_that_cannot_be_made_is_an_error(start_eider, table):
    """The lake folder cannot be written: refused with 5xx, nothing left, and well again afterwards."""
    lake = FolderLake()
    server = start_eider(INGEST, lake=lake)
    blocker = lake.root / "data" / table
    blocker.parent.mkdir(parents=True, exist_ok=True)
    blocker.write_text("a file where the table's folder should be")
    answer = post_batch(server, table, [{"a": 1}])
    assert answer.status_code in (500, 502, 507)
    refused(answer, answer.status_code, FAILED)
    assert blocker.read_text().startswith("a file where")
    blocker.unlink()
    assert_retry_stores_once(server, table, [{"a": 1}])
