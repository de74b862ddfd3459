"""Flushes that are too much for one worker or one object: cut, or told; never lost, doubled or in another's way."""

import json
import random
import signal

import pytest

from harness.lakes import FolderLake, S3Lake
from harness.prometheus import scrape
from harness.rows_client import NO_FLUSH, buffered, flush, flushed, kept, ndjson, post_rows, stored

SETTINGS = {"EIDER_INGEST_LISTEN": "127.0.0.1:0", **NO_FLUSH}
STUCK = "a flush fails again and again"


def wide_rows(count, size):
    """Rows that no encoding makes small."""
    source = random.Random(5)
    return [{"n": n, "text": source.randbytes(size // 2).hex()} for n in range(count)]


def sums(server, table):
    return server.sql(f"SELECT count(*) AS c, sum(n) AS s FROM {table}")["rows"]


def numbers(server, table):
    return sorted(row["n"] for row in stored(server, table))


@pytest.mark.once
def test_a_request_beyond_a_workers_memory_becomes_several_objects(start_eider, table):
    """A worker of 64 MiB cannot make one object of 20 MB of wide rows."""
    server = start_eider({**SETTINGS, "DUCKDB_MEMORY_LIMIT": "64MiB", "EIDER_FLUSH_BYTES": "1GiB"}, lake=FolderLake())
    kept(post_rows(server, table, ndjson(wide_rows(10_000, 2000))))
    assert flushed(server, table)["record_count"] == 10_000
    assert numbers(server, table) == list(range(10_000))
    server.kill()
    server = start_eider(SETTINGS, lake=server.lake, data=server.data)
    assert flushed(server, table)["record_count"] == 0


def test_the_objects_of_one_request_show_as_one(start_eider, s3, s3_proxy, table):
    """While some of them are in the store, SQL sees the rows once, in the log; and after a crash they are finished."""
    lake = S3Lake(s3, s3.make_bucket(), endpoint=s3_proxy.endpoint)
    settings = {**SETTINGS, "EIDER_OBJECT_BYTES": "1MiB", "EIDER_DRAIN_MS": "100"}
    server = start_eider(settings, lake=lake)
    kept(post_rows(server, table, ndjson(wide_rows(6000, 1000))))
    s3_proxy.fail(403, times=1 << 30, code="AccessDenied", method="PUT", key=r"-p00002\.parquet$")
    assert flush(server, table).status_code == 502
    before = lake.table_keys(table)
    assert [key[-14:] for key in sorted(before)] == ["p00000.parquet", "p00001.parquet"]
    everything = [{"c": 6000, "s": sum(range(6000))}]
    assert sums(server, table) == everything
    server.kill()
    server = start_eider(settings, lake=lake, data=server.data)
    assert sums(server, table) == everything
    s3_proxy.clear()
    flushed(server, table)
    assert set(before) < set(lake.table_keys(table))
    assert sums(server, table) == everything
    assert numbers(server, table) == list(range(6000))


@pytest.mark.once
@pytest.mark.parametrize("way_out", ["memory", "set_aside"])
def test_a_flush_that_never_works_is_told_and_keeps_no_other_back(start_eider, table, wait_until, way_out):
    """A record that no worker of 36 MiB can read, until there is more memory, or somebody gives it up."""
    settings = {**SETTINGS, "EIDER_FLUSH_AGE_MS": "200", "EIDER_DRAIN_MS": "100"}
    little = {**settings, "DUCKDB_MEMORY_LIMIT": "36MiB"}
    server = start_eider(little, lake=FolderLake())
    record = wide_rows(1, 15_000_000)
    position = kept(post_rows(server, table, ndjson(record)))["position"]
    wait_until(lambda: server.get("/health/ready").status_code == 503, 30)
    health = server.get("/health/ready").json()
    assert health["reason"] == STUCK
    assert health["backlog"]["stuck_tables"] == 1
    assert health["backlog"]["stuck"].startswith(f"{table}, positions {position}-{position}: Out of Memory")
    assert scrape(server).value("eider_backlog_stuck_tables") == 1
    told = server.events("lake.flush_stuck")[0]
    assert (told["table"], told["first"], told["last"]) == (table, position, position) and "Memory" in told["error"]
    for n in range(3):  # one flush thread after the other has to come back for them
        buffered(server, f"{table}_{n}", {"n": n})
        wait_until(lambda: len(stored(server, f"{table}_{n}")) == 1, 10)
    server.stop(signal.SIGTERM)
    changed = settings if way_out == "memory" else {**little, "EIDER_FLUSH_SET_ASIDE": "true"}
    server = start_eider(changed, lake=server.lake, data=server.data)

    def works_again():
        health = server.get("/health/ready").json()
        backlog = health["backlog"]
        return (backlog["rows"], health["status"], backlog["stuck"]) == (0, "ready", None)

    wait_until(works_again, 30)
    aside = server.lake.keys("_eider/set_aside/")
    if way_out == "memory":
        assert numbers(server, table) == [0] and aside == []
        return
    assert numbers(server, table) == []
    (key, schema) = sorted(aside)
    assert [column["name"] for column in json.loads(server.lake.read(schema))["columns"]] == ["n", "text"]
    assert key.startswith(f"_eider/set_aside/{table}/data_") and key.endswith(f"-{position:016}.ndjson")
    assert json.loads(server.lake.read(key)) == {"c0": 0, "c1": record[0]["text"]}
    (manifest,) = server.lake.keys(f"_eider/commits/{table}/")
    assert json.loads(server.lake.read(manifest))["objects"][0]["set_aside"] is True
    assert server.events("lake.set_aside")[0]["key"] == key
