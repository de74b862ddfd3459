"""Large results: right to the last byte, and never held whole by the server. Check 32."""

import json
from pathlib import Path

import pyarrow
import pytest

from harness.snapshot_client import InFlight, RawPost, Sidecar
from harness.snapshot_processes import busy_worker, resident_bytes, workers

SERVER_MEMORY_MAX = 300 << 20
MILLION = 1000000


@pytest.fixture(scope="module")
def sidecar(eider, s3):
    return Sidecar(eider.snapshot, s3)


def test_a_million_rows_are_correct_json(sidecar):
    answer = sidecar.query(f"SELECT i, i * 0.5::DOUBLE AS h, 'row ' || i AS s FROM range({MILLION}) AS t(i)")
    assert answer.status_code == 200
    body = json.loads(answer.content)
    assert body["columns"] == ["i", "h", "s"] and body["row_count"] == MILLION == len(body["rows"])
    for number in (0, 1, 2047, 2048, 2049, 122879, 122880, 500001, MILLION - 1):
        assert body["rows"][number] == {"i": number, "h": number / 2, "s": f"row {number}"}
    assert sum(row["i"] for row in body["rows"]) == MILLION * (MILLION - 1) // 2


def test_a_million_rows_of_a_file(sidecar):
    table = pyarrow.table({"n": pyarrow.array(range(MILLION), pyarrow.int64())})
    sidecar.put_table("million.parquet", table, row_group_size=100000)
    body = sidecar.result("SELECT n FROM t", {"t": "million.parquet"})
    assert sorted(row["n"] for row in body["rows"]) == list(range(MILLION))


def read_slowly(answer, server, pause_until):
    """Reads an answer to its end, with a stop after the first bytes; returns size, head, tail and most memory."""
    head = answer.read(65536)
    memory = [resident_bytes(server.pid)]
    pause_until(memory)
    size, tail = len(head), b""
    while chunk := answer.read(1 << 20):
        size += len(chunk)
        tail = (tail + chunk)[-200:]
        memory.append(resident_bytes(server.pid))
    return size, head, tail, max(memory)


@pytest.mark.once
def test_a_slow_reader_costs_no_memory(eider, sidecar, wait_until):
    """700 MB of result for a client that stops reading for a while: the worker waits, nobody buffers."""
    rows, width = 3000000, 200
    sql = f"SELECT i, repeat('x', {width}) AS s FROM range({rows}) AS t(i)"
    client = RawPost(sidecar.base, "/query", sidecar.query_body(sql), receive_buffer=65536)
    answer = client.answer()
    assert answer.status == 200

    def pause_until(memory):
        def looked_often():
            memory.append(resident_bytes(eider.pid))
            memory.extend(resident_bytes(pid) for pid in workers(eider))
            return len(memory) > 300

        wait_until(looked_often, 30, "memory was looked at for some seconds")

    size, head, tail, most = read_slowly(answer, eider, pause_until)
    client.close()
    assert head.startswith(b'{"columns":["i","s"],"rows":[{"i":0,"s":"xxx')
    assert tail.endswith(b'x"}],"row_count":%d}' % rows)
    assert size > rows * width
    assert most < SERVER_MEMORY_MAX, most
    sidecar.alive()


def test_others_are_served_while_one_reads_slowly(sidecar):
    sql = "SELECT i, repeat('x', 200) AS s FROM range(3000000) AS t(i)"
    clients = [RawPost(sidecar.base, "/query", sidecar.query_body(sql), receive_buffer=65536) for _ in range(4)]
    answers = [client.answer() for client in clients]
    assert [answer.status for answer in answers] == [200] * 4
    for call in [InFlight(sidecar.rows, "SELECT 1 AS v") for _ in range(8)]:
        assert call.result(10) == [(1,)]
    for client in clients:
        client.close()


def test_a_reader_that_leaves_ends_its_worker(eider, sidecar, wait_until):
    wait_until(lambda: not workers(eider), 5, "no worker from before")
    sql = "SELECT i, repeat('x', 200) AS s FROM range(100000000) AS t(i)"
    client = RawPost(sidecar.base, "/query", sidecar.query_body(sql), receive_buffer=65536)
    answer = client.answer()
    assert answer.read(1000).startswith(b'{"columns"')
    assert len(workers(eider)) == 1
    answer.close()
    client.close()
    wait_until(lambda: not workers(eider), 1, "its worker is gone")
    sidecar.alive()


@pytest.mark.once
def test_other_threads_come_when_there_is_a_task_for_them(start_eider, s3, wait_until):
    """Rows of range() have an order that one thread keeps; to group stored rows is work for all."""
    server = start_eider({"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0", "DUCKDB_THREADS": 4})
    sidecar = Sidecar(server.snapshot, s3)
    source = {"one": "range(30000000) AS t(i)", "all": "(SELECT i FROM stored GROUP BY i)"}

    def read_some(which):
        sql = f"WITH stored AS MATERIALIZED (FROM range(5000000) AS t(i)) SELECT i AS v FROM {source[which]}"
        client = RawPost(sidecar.base, "/query", sidecar.query_body(sql), receive_buffer=65536)
        answer = client.answer()
        assert answer.status == 200 and len(answer.read(40 << 20)) == 40 << 20
        worker = busy_worker(server)
        threads = [path.read_text().strip() for path in Path(f"/proc/{worker}/task").glob("*/comm")]
        answer.close()
        client.close()
        wait_until(lambda: not workers(server), 5, "its worker is gone")
        return threads.count("engine")

    assert read_some("one") == 0
    assert read_some("all") == 3


def test_one_value_of_many_megabytes(sidecar):
    answer = sidecar.query("SELECT repeat('é', 8000000) AS v")
    assert answer.json()["rows"][0]["v"] == "é" * 8000000


def test_a_long_list(sidecar):
    assert sidecar.rows("SELECT range(1000000) AS v") == [(list(range(1000000)),)]
