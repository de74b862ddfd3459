"""The promises of ingest: P1 to P9. Each test is named after its promise; what it breaks when it fails is in the name.

P2 (crashes) and P8 (errors of the disk) are also gone through at every call by fault/."""

import json
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import fault_trace
from harness.fault_rig import Rig, answer_of
from harness.fault_scenario import Sent, exchange, send
from harness.ingest_client import in_parallel
from harness.snapshot_processes import workers
from harness.waiting import wait_until

pytestmark = pytest.mark.once  # the shim cannot be preloaded into a sanitizer's build

NDJSON = {"Content-Type": "application/x-ndjson"}
SEGMENT_NAME = re.compile(r"\d{20}")


def post_rows(server, table, records, headers=None, query=""):
    body = "".join(json.dumps(record) + "\n" for record in records)
    return exchange(server.address(), "POST", f"/tables/{table}/rows{query}", body, NDJSON | (headers or {}))


def buffered(server, table):
    status, body = exchange(server.address(), "GET", f"/table/{table}/count")
    assert status == 200, body
    return json.loads(body)["buffered_count"]


def count_rows(server, table):
    return server.sql(f"SELECT count(*) AS n FROM {table}")["rows"][0]["n"]


def one_of_each():
    """One request for each way in."""
    return [
        Sent(1, "alpha", "stream"),
        Sent(2, "alpha", "rows", 5, 100),
        Sent(3, "beta", "stream", key="a"),
        Sent(4, "beta", "rows", 3, 100, key="b"),
        Sent(5, "gamma", "batch", 2, 100, date="2025-12-20"),
    ]


# ---- P1: durable before the first byte of the answer ----


def test_p1_no_answer_before_the_sync(rig):
    """While fdatasync waits, nobody is answered; a kill at that moment may lose the request, which nobody was promised."""
    gate = rig.folder / "gate"
    server = rig.start(rig.shim(gate=gate, only="fsync,fdatasync"))
    for sent in one_of_each()[:4]:
        assert send(server.address(), sent)[0] == 200  # tables, segments and schemas are there
    before = rig.calls_counted()
    gate.touch()
    waiting = [Sent(10, "alpha", "stream"), Sent(11, "alpha", "rows", 4), Sent(12, "beta", "stream", key="c")]
    answered = []

    def ask(sent):
        answered.append((sent.req, send(server.address(), sent)))

    threads = [threading.Thread(target=ask, args=(sent,)) for sent in waiting]
    for thread in threads:
        thread.start()
    log_bytes = lambda: sum(f.stat().st_blocks for f in (rig.data / "log").rglob("*") if f.is_file())  # noqa: E731
    assert log_bytes() > 0
    # Requests that can be answered without the disk still are: the server is alive, and had time to answer the others.
    for _ in range(20):
        assert exchange(server.address(), "GET", "/health/live")[0] == 200
        assert not answered, f"answered before the sync: {answered}"
    gate.unlink()
    for thread in threads:
        thread.join(20)
    assert sorted(number for number, (status, _) in answered if status == 200) == [10, 11, 12]
    assert rig.calls_counted() > before


def test_p1_every_byte_of_an_answered_record_was_synced_before_the_answer(rig):
    """In the trace of calls: what the log's files got before an answer was synced before it, their names too."""
    server = rig.start(rig.shim(trace=True))
    requests = one_of_each() + [Sent(number, "alpha", "rows", 20, 3000) for number in range(20, 60)]
    for sent in requests:
        assert send(server.address(), sent)[0] == 200
    assert rig.end(server) == 0
    answers = 0
    dirty, nameless = {}, {}  # files with bytes, and names of used files, that no sync has covered yet
    log = str((rig.data / "log" / "records").resolve())
    for call in fault_trace.read_trace(rig.trace_file):
        if call.kind == "reply":
            if call.data.startswith(b"HTTP/1.1 200") and b"req-" in call.data:
                answers += 1
                used = {path for path, is_used in nameless.items() if is_used}
                assert not dirty and not used, f"answered with {dirty}, {used} not synced: {call.data[:200]}"
        elif call.error == 0 and call.path.startswith(log):
            follow(call, dirty, nameless)
    assert answers >= len(requests)


def follow(call, dirty, nameless):
    """What a call in the log's folder leaves to be synced. A next segment counts from its final name on."""
    if call.kind == "write" and SEGMENT_NAME.search(call.path):
        dirty[call.path] = str(call)
        if call.path in nameless:
            nameless[call.path] = True
    elif call.kind == "rename" and SEGMENT_NAME.search(call.other):
        nameless[call.other] = False
    elif call.kind in fault_trace.SYNCS:
        dirty.pop(call.path, None)
        for path in [path for path in nameless if os.path.dirname(path) == call.path]:
            del nameless[path]
    elif call.kind == "unlink":
        dirty.pop(call.path, None)
        nameless.pop(call.path, None)


# ---- P2: kill -9 ----


def test_p2_records_survive_kill_9_and_are_in_the_lake_once(rig):
    server = rig.start()
    requests = one_of_each() + [Sent(number, "alpha", "stream") for number in range(100, 140)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda sent: send(server.address(), sent), requests))
    assert [sent.verdict for sent in requests] == ["acked"] * len(requests)
    assert server.kill() == -9
    server = rig.start()
    assert count_rows(server, "alpha") == 1 + 5 + 40, "rows are queryable at once after the restart"
    assert buffered(server, "alpha") == 46
    assert rig.end(server) == 0
    assert rig.judge([sent.entry() for sent in requests]) == []


def test_p2_a_kill_of_the_worker_that_writes_loses_nothing(rig):
    server = rig.start()
    requests = [Sent(number, "alpha", "rows", 2000, 100) for number in range(1, 8)]
    for sent in requests:
        assert send(server.address(), sent)[0] == 200
    flush = threading.Thread(target=exchange, args=(server.address(), "POST", "/flush?table_name=alpha"))
    flush.start()
    killed = 0
    while flush.is_alive():
        for pid in workers(server):
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
        if killed:
            break
    flush.join(30)
    assert rig.end(server) == 0
    rig.recover(retry=False)
    assert rig.judge([sent.entry() for sent in requests]) == []


# ---- P3: one request is one unit ----


def test_p3_a_request_whose_body_stops_is_not_there_at_all(rig, wait_until):
    """Large enough for several records of the log; the client leaves before the end."""
    import socket

    server = rig.start()
    assert send(server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
    line = (json.dumps({"req": 2, "n": 0, "of": 1 << 20, "pad": "x" * 8000}) + "\n").encode()
    with socket.create_connection(server.address()) as client:
        head = "POST /tables/alpha/rows HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        client.sendall(f"{head}Content-Length: {len(line) * 8000}\r\n\r\n".encode())
        for _ in range(5000):  # 40 MB of 64
            client.sendall(line)
    status, body = post_rows(server, "alpha", [{"req": 3, "n": 0, "of": 1, "pad": ""}])
    assert status == 200, body
    assert count_rows(server, "alpha") == 3
    assert server.kill() == -9
    rig.recover(retry=False)
    assert rig.judge([Sent(1, "alpha", "rows", 2).entry("acked"), Sent(3, "alpha", "rows").entry("acked")]) == []


def test_p3_a_kill_in_the_middle_of_a_large_request_leaves_none_of_it(rig):
    import socket

    server = rig.start()
    assert send(server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
    log = lambda: sum(f.stat().st_size for f in (rig.data / "log").rglob("*") if f.is_file())  # noqa: E731
    before = log()
    line = (json.dumps({"req": 2, "n": 0, "of": 1 << 20, "pad": "x" * 8000}) + "\n").encode()
    with socket.create_connection(server.address()) as client:
        head = "POST /tables/alpha/rows HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        client.sendall(f"{head}Content-Length: {len(line) * 9000}\r\n\r\n".encode())
        for _ in range(8000):
            client.sendall(line)
        wait_until(lambda: log() > before + (1 << 20), 10, "a part of the request is in the log")
        assert server.kill() == -9
    rig.recover(retry=False)
    assert rig.judge([Sent(1, "alpha", "rows", 2).entry("acked"), Sent(2, "alpha", "rows").entry("refused")]) == []


def test_p3_a_bad_record_keeps_the_whole_request_out(rig):
    server = rig.start()
    records = [{"req": 1, "n": n, "of": 3, "pad": ""} for n in range(3)]
    body = "".join(json.dumps(record) + "\n" for record in records) + '{"req": 1,\n'
    status, answer = exchange(server.address(), "POST", "/tables/alpha/rows", body, NDJSON)
    assert status == 422, answer
    assert json.loads(answer)["record"] == 3
    assert buffered(server, "alpha") == 0
    assert rig.end(server) == 0
    assert rig.judge([Sent(1, "alpha", "rows", 3).entry("refused")]) == []


# ---- P4: Idempotency-Key ----

WAYS = [Sent(1, "alpha", "stream", key="k"), Sent(1, "alpha", "rows", 3, key="k"), Sent(1, "alpha", "batch", 3, key="k")]


@pytest.mark.parametrize("way", WAYS, ids=lambda sent: sent.way)
def test_p4_the_same_key_stores_once_also_after_a_crash_and_after_the_lake_has_it(rig, way):
    sent = Sent(way.req, way.table, way.way, way.of, way.pad, way.key)
    server = rig.start()
    first = send(server.address(), sent)
    assert first[0] == 200, first
    again = send(server.address(), sent)
    assert again[0] == 200 and answer_of(again[1]) == answer_of(first[1])
    assert server.kill() == -9
    server = rig.start()
    again = send(server.address(), sent)
    assert again[0] == 200 and answer_of(again[1]) == answer_of(first[1])
    # Flushed, and the log went on far enough that the record itself is gone.
    exchange(server.address(), "POST", "/flush?table_name=alpha")
    for number in range(50, 58):
        assert send(server.address(), Sent(number, "beta", "rows", 100, 4000))[0] == 200
        exchange(server.address(), "POST", "/flush?table_name=beta")
    assert server.kill() == -9
    server = rig.start()
    again = send(server.address(), sent)
    assert again[0] == 200 and answer_of(again[1]) == answer_of(first[1])
    assert rig.end(server) == 0
    others = [Sent(number, "beta", "rows", 100).entry("acked") for number in range(50, 58)]
    assert rig.judge([sent.entry(), *others]) == []


def test_p4_another_body_with_the_key_is_422_and_another_table_is_another_key(rig):
    server = rig.start()
    assert send(server.address(), Sent(1, "alpha", "rows", 2, key="k"))[0] == 200
    status, body = send(server.address(), Sent(2, "alpha", "rows", 2, key="k"))
    assert status == 422, body
    assert send(server.address(), Sent(3, "beta", "rows", 2, key="k"))[0] == 200
    assert server.kill() == -9
    server = rig.start()
    status, body = send(server.address(), Sent(4, "alpha", "rows", 2, key="k"))
    assert status == 422, body
    assert rig.end(server) == 0
    entries = [Sent(1, "alpha", "rows", 2).entry("acked"), Sent(3, "beta", "rows", 2).entry("acked")]
    assert rig.judge(entries) == []


def test_p4_while_the_first_runs_the_second_is_409(rig):
    gate = rig.folder / "gate"
    server = rig.start(rig.shim(gate=gate, only="fsync,fdatasync"))
    assert send(server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
    gate.touch()
    same = [Sent(2, "alpha", "rows", 2, key="k") for _ in range(4)]
    threads = [threading.Thread(target=send, args=(server.address(), one)) for one in same]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(len(one.answers) for one in same) == 3, 10, "409 for all but the first")
    gate.unlink()
    for thread in threads:
        thread.join(20)
    assert sorted(one.answers[0][0] for one in same) == [200, 409, 409, 409]
    assert send(server.address(), same[0])[0] == 200
    assert rig.end(server) == 0
    assert rig.judge([Sent(1, "alpha", "rows", 2).entry("acked"), same[0].entry("acked")]) == []


# ---- P5: order ----


def test_p5_records_of_one_client_keep_their_order_also_after_a_crash(rig):
    server = rig.start()
    for number in range(30):
        assert send(server.address(), Sent(1000 + number, "alpha", "stream"))[0] == 200
    assert server.kill() == -9
    server = rig.start()
    for number in range(30, 60):
        assert send(server.address(), Sent(1000 + number, "alpha", "rows", 2))[0] == 200
    positions = [json.loads(post_rows(server, "alpha", [{"req": 2000 + i, "n": 0, "of": 1}])[1])["position"] for i in (0, 1)]
    assert positions[0] < positions[1]
    assert rig.end(server) == 0
    import pyarrow.parquet as pq

    (key,) = rig.lake.table_keys("alpha")
    numbers = pq.read_table(rig.lake.root / key, columns=["req"], partitioning=None)["req"].to_pylist()
    assert numbers == sorted(numbers) and len(numbers) == 30 + 60 + 2


# ---- P6: nothing is dropped, nothing is narrowed ----


def test_p6_what_cannot_be_kept_goes_to_the_dead_letters_with_its_reason(rig):
    server = rig.start()
    body = '{"req":1,"n":0,"of":2}\n{"req":1,\n{"req":1,"n":1,"of":2}\n'
    status, answer = exchange(server.address(), "POST", "/tables/alpha/rows?on_error=dead_letter", body, NDJSON)
    assert status == 200, answer
    assert json.loads(answer)["accepted"] == 2 and json.loads(answer)["dead_letters"] == 1
    assert server.kill() == -9
    server = rig.start()
    letters = server.sql("SELECT * FROM alpha__dead_letter")
    assert letters["row_count"] == 1, letters
    assert '{"req":1,' in json.dumps(letters["rows"]).replace('\\"', '"')
    assert count_rows(server, "alpha") == 2


def test_p6_values_are_neither_narrowed_nor_rounded(rig):
    server = rig.start()
    text = '{"i":9007199254740993,"b":true,"w":1,"t":"x"}\n{"i":-9223372036854775808,"b":false,"w":1.5,"t":"y"}\n'
    status, answer = exchange(server.address(), "POST", "/tables/alpha/rows", text, NDJSON)
    assert status == 200, answer
    assert server.kill() == -9
    server = rig.start()
    assert exchange(server.address(), "POST", "/flush?table_name=alpha")[0] == 200
    import pyarrow as pa
    import pyarrow.parquet as pq

    (key,) = rig.lake.table_keys("alpha")
    table = pq.read_table(rig.lake.root / key, partitioning=None)
    assert table.schema.field("i").type == pa.int64() and table.schema.field("b").type == pa.bool_()
    assert table["i"].to_pylist() == [9007199254740993, -9223372036854775808]
    assert table["b"].to_pylist() == [True, False]
    assert table["w"].to_pylist() == [1.0, 1.5]


# ---- P7: when the budget is spent ----


def test_p7_a_full_log_refuses_and_keeps_what_it_has(s3, s3_proxy, eider_binary, tmp_path):
    from harness.lakes import S3Lake

    lake = S3Lake(s3, s3.make_bucket("full"), "lake", s3_proxy.endpoint)
    rig = Rig(eider_binary, tmp_path, lake, {"EIDER_LOG_MAX": "6MiB"}, plan=[])
    try:
        server = rig.start()
        assert send(server.address(), Sent(1, "alpha", "rows", 3))[0] == 200
        sent = []
        with s3_proxy.refused():

            def refused():
                one = Sent(len(sent) + 10, "alpha", "rows", 50, 4000)
                sent.append(one)
                return send(server.address(), one)[0] == 503

            wait_until(refused, 30, "503 when the log is full")
            status, body = exchange(server.address(), "GET", "/health/ready")
            assert status == 503, body
            answer = server.post("/tables/alpha/rows", data='{"req":1}\n', headers=NDJSON)
            assert answer.status_code == 503 and 1 <= int(answer.headers["Retry-After"]) <= 360
            assert server.get("/health/live").status_code == 200
        wait_until(lambda: exchange(server.address(), "GET", "/health/ready")[0] == 200, 120, "room again, by itself")
        assert send(server.address(), Sent(5000, "alpha", "rows", 3))[0] == 200
        assert rig.end(server) == 0
        entries = [one.entry() for one in sent]
        entries += [Sent(1, "alpha", "rows", 3).entry("acked"), Sent(5000, "alpha", "rows", 3).entry("acked")]
        assert rig.judge(entries) == []
    finally:
        rig.close()


# ---- P8: an error of the disk ----


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["fdatasync", "write"])
def test_p8_an_error_of_the_log_ends_the_process_and_no_2xx_is_sent(rig, call, fault):
    """Once only: the next sync would say that all is well, and would lie."""
    armed = rig.folder / "armed"
    server = rig.start(rig.shim(only=call, path="/log/records", arm=armed, fail=f"1:{fault}"))
    assert send(server.address(), Sent(1, "alpha", "rows", 3))[0] == 200
    armed.touch()
    waiting = [Sent(number, "alpha", "rows", 3) for number in range(10, 18)]
    answers = in_parallel(lambda sent: send(server.address(), sent), waiting, 8)
    code = server.process.wait(1)
    server.wait()
    assert code == 70, f"exit {code}\n{server.stderr}"
    assert not [answer for answer in answers if answer[0] is not None and answer[0] < 500], f"{answers}"
    assert server.events("server.log_broken")
    rig.recover(retry=False)
    assert rig.judge([Sent(1, "alpha", "rows", 3).entry("acked"), *(sent.entry() for sent in waiting)]) == []


def test_p8_an_error_of_the_log_of_plans_doubles_no_batch(rig):
    """The batch is in the lake, and that cannot be noted: no answer says that it is not, and its key finds it."""
    armed = rig.folder / "armed"
    server = rig.start(rig.shim(only="write", path="/log/plans", arm=armed, fail="1:EIO:on"))
    assert send(server.address(), Sent(1, "alpha", "batch", 2))[0] == 200
    armed.touch()
    rig.sent = {number: Sent(number, "alpha", "batch", 2, key=f"k{number}") for number in (10, 11, 12)}
    in_parallel(lambda sent: send(server.address(), sent), rig.sent.values(), 3)
    assert rig.end(server) == 70
    rig.recover()
    assert rig.judge([Sent(1, "alpha", "batch", 2).entry("acked"), *rig.journal()]) == []


# ---- P9: damage ----


def closed_segments(rig):
    """The files of the log of records that are full, oldest first."""
    return sorted(path for path in (rig.data / "log" / "records").iterdir() if SEGMENT_NAME.search(path.name))[:-1]


def segments(rig):
    return {path.name: path.read_bytes() for path in (rig.data / "log" / "records").glob("*.wal")}


def test_p9_damage_in_a_closed_segment_is_named_and_nothing_is_touched(rig, run_eider):
    server = rig.start()
    requests = [Sent(number, "alpha", "rows", 20, 4000) for number in range(1, 40)]
    for sent in requests:
        assert send(server.address(), sent)[0] == 200
    assert server.kill() == -9
    segment = closed_segments(rig)[0]
    whole = segment.read_bytes()
    used = len(whole.rstrip(b"\0"))
    for place in (4096 + 50, used // 2, used - 100):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        segment.write_bytes(damaged)
        before = segments(rig)
        server = rig.start()
        assert not server.running() and server.returncode == 65, f"exit {server.returncode}\n{server.stderr}"
        named = re.search(r"segment (\d+), offset (\d+)", server.stderr)
        assert named and int(named[1]) == int(segment.stem) and abs(int(named[2]) - place) < 1 << 20, server.stderr
        assert segments(rig) == before, "a start on damage changed the log"
        judged = run_eider("log", "verify", str(rig.data / "log" / "records"))
        assert judged.returncode != 0 and named[0] in judged.stdout + judged.stderr
    segment.write_bytes(whole)
    rig.recover(retry=False)
    assert rig.judge([sent.entry() for sent in requests]) == []


def test_p9_a_segment_that_is_gone_is_noticed(rig):
    server = rig.start()
    for number in range(1, 60):
        assert send(server.address(), Sent(number, "alpha", "rows", 20, 4000))[0] == 200
    assert server.kill() == -9
    segments = closed_segments(rig)
    assert len(segments) >= 3
    segments[1].rename(rig.folder / "away")
    server = rig.start()
    assert not server.running() and server.returncode == 65, f"exit {server.returncode}\n{server.stderr}"
    (rig.folder / "away").rename(segments[1])
    rig.recover(retry=False)
    assert rig.judge([Sent(number, "alpha", "rows", 20).entry("acked") for number in range(1, 60)]) == []
