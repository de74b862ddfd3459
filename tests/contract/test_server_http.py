"""HTTP as every listener speaks it: request ids, limits, encodings, framing, error shapes, health."""

import gzip
import json
import re
import threading
import zlib

import pytest

from harness.ingest_client import accepted, batch_text, post_batch, post_text, refused
from harness.lakes import FolderLake
from harness.parquet_readers import read_table
from harness.raw_http import RawConnection

MIB = 1024 * 1024
BODY_MAX = 50 * MIB
LISTENERS = ["main", "ingest", "snapshot"]


def raw(server, name="main", timeout=30):
    return RawConnection(server.address(name), timeout)


# ---- health ----
@pytest.mark.parametrize("name", LISTENERS)
@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_live_and_ready_on_every_port(any_lake, name, path):
    answer = any_lake.get(path, any_lake.listener(name))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert isinstance(answer.json(), dict)


def test_shared_health(eider):
    answer = eider.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert answer.json()["service"] == "duckdb-sidecar"


@pytest.mark.parametrize("name", LISTENERS)
def test_live_answers_while_many_requests_run(eider, name, table):
    threads = [threading.Thread(target=post_batch, args=(eider, table, [{"a": 1}] * 2000)) for _ in range(12)]
    for thread in threads:
        thread.start()
    assert eider.get("/health/live", eider.listener(name), timeout=5).status_code == 200
    for thread in threads:
        thread.join(60)


# ---- errors outside a personality ----
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_unknown_path_on_the_shared_port(eider, method):
    answer = eider.request(method, "/nope", headers={"X-Request-Id": "abc-1"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert set(body) == {"error", "code", "request_id"}
    assert all(isinstance(value, str) and value for value in body.values())
    assert body["request_id"] == "abc-1" == answer.headers["x-request-id"]


def test_wrong_method_on_the_shared_port_is_405(eider):
    answer = eider.get("/ingest")
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]
    assert isinstance(answer.json(), dict)


def test_unknown_paths_in_the_shape_of_each_port(eider):
    assert set(eider.get("/nope", eider.ingest).json()) == {"detail"}
    assert set(eider.get("/nope", eider.snapshot).json()) == {"error"}


# ---- request id ----
@pytest.mark.parametrize("name", LISTENERS)
@pytest.mark.parametrize("path", ["/health", "/nope", "/health/live"])
def test_request_id_is_echoed_or_made(eider, name, path):
    base = eider.listener(name)
    given = "client id/42:~"
    assert eider.get(path, base, headers={"X-Request-Id": given}).headers["x-request-id"] == given
    made = [eider.get(path, base).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(re.fullmatch(r"[0-9a-f]{16}", one) for one in made)


@pytest.mark.parametrize("given", ["x" * 129, "a\tb", ""])
def test_request_ids_that_are_none_are_replaced(eider, given):
    made = eider.get("/health", headers={"X-Request-Id": given}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", made)


def test_the_longest_request_id(eider):
    assert eider.get("/health", headers={"X-Request-Id": "x" * 128}).headers["x-request-id"] == "x" * 128


# ---- encodings ----
def deflate(data):
    return zlib.compress(data)


@pytest.mark.parametrize("encoding, pack", [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", deflate), ("GZIP", gzip.compress)])
@pytest.mark.parametrize("name", ["ingest", "main"])
def test_compressed_bodies(any_lake, table, name, encoding, pack):
    records = [{"n": n, "s": "some text " * 10} for n in range(500)]
    body = pack(json.dumps({"table_name": table, "records": records}).encode())
    answer = post_text(any_lake, body, any_lake.listener(name), headers={"Content-Encoding": encoding})
    accepted(any_lake, answer)
    (file,) = read_table(any_lake.lake, table).values()
    assert file.rows == records


def test_identity_is_no_encoding(eider, table):
    accepted(eider, post_text(eider, batch_text(table, '[{"a":1}]'), headers={"Content-Encoding": "identity"}))


@pytest.mark.parametrize("encoding", ["foo", "compress", "gzip, foo"])
def test_unknown_encodings_are_415(eider, table, encoding):
    answer = post_text(eider, batch_text(table, '[{"a":1}]'), headers={"Content-Encoding": encoding})
    refused(answer, 415)
    answer = eider.post("/query", eider.snapshot, data=b"{}", headers={"Content-Encoding": encoding, "Content-Type": "application/json"})
    assert answer.status_code == 415 and set(answer.json()) == {"error"}


@pytest.mark.parametrize("damage", ["cut", "garbage", "checksum"])
def test_broken_gzip_is_400(eider, table, damage):
    body = gzip.compress(batch_text(table, '[{"a":1}]').encode())
    body = {"cut": body[:-12], "garbage": b"not gzip at all", "checksum": body[:-8] + b"\0\0\0\0" + body[-4:]}[damage]
    refused(post_text(eider, body, headers={"Content-Encoding": "gzip"}), 400)
    assert not eider.lake.table_keys(table)


def bomb(encoding, size):
    """`size` bytes of a valid batch, blanks for the most part, packed to a thousandth."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    parts = [packer.compress(b'{"table_name":"bomb","records":[{"a":1}]')]
    parts += [packer.compress(b" " * MIB) for _ in range(size // MIB)]
    return b"".join([*parts, packer.compress(b"}"), packer.flush()])


@pytest.mark.once
@pytest.mark.parametrize("name", LISTENERS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bombs_are_413(eider, name, encoding):
    path = "/query" if name == "snapshot" else "/ingest"
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    answer = eider.post(path, eider.listener(name), data=bomb(encoding, 400 * MIB), headers=headers)
    assert answer.status_code == 413
    assert set(answer.json()) == {"error" if name == "snapshot" else "detail"}
    assert "bomb" not in eider.get("/tables", eider.ingest).json()["tables"]


# ---- body limit ----
def padded_batch(table, size):
    head, tail = f'{{"table_name":"{table}",'.encode(), b'"records":[{"a":1}]}'
    return head + b" " * (size - len(head) - len(tail)) + tail


def test_fifty_mebibytes_are_accepted(eider, table):
    accepted(eider, post_text(eider, padded_batch(table, BODY_MAX)))


@pytest.mark.parametrize("name, path", [("ingest", "/ingest"), ("main", "/ingest"), ("snapshot", "/query"), ("snapshot", "/snapshot")])
def test_a_length_over_the_limit_is_413_before_the_body_is_sent(eider, name, path):
    with raw(eider, name) as connection:
        headers = ["Content-Type: application/json", f"Content-Length: {BODY_MAX + 1}"]
        connection.request("POST", path, headers)
        answer = connection.answer()
    assert answer.status == 413
    assert set(answer.json()) == {"error" if name == "snapshot" else "detail"}


@pytest.mark.parametrize("length", ["99999999999999", "18446744073709551616", "-1", "0x10", "1e3", ""])
def test_lengths_that_are_none(eider, length):
    with raw(eider, "ingest") as connection:
        connection.request("POST", "/ingest", ["Content-Type: application/json", f"Content-Length: {length}"])
        answer = connection.answer()
        assert answer is None or answer.status in (400, 413)
    assert eider.get("/health").status_code == 200


def chunks_of(data, size=64 * 1024):
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("name", ["ingest", "main"])
def test_chunked_bodies(any_lake, table, name):
    records = [{"n": n} for n in range(5000)]
    body = json.dumps({"table_name": table, "records": records}).encode()
    headers = {"Content-Type": "application/json"}
    answer = any_lake.post("/ingest", any_lake.listener(name), data=chunks_of(body, 1000), headers=headers)
    accepted(any_lake, answer)
    (file,) = read_table(any_lake.lake, table).values()
    assert file.rows == records


def test_chunked_and_compressed(eider, table):
    body = gzip.compress(batch_text(table, '[{"a":1}]').encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    accepted(eider, eider.post("/ingest", eider.ingest, data=chunks_of(body, 7), headers=headers))


def test_a_chunked_body_over_the_limit_is_413(eider, table):
    """The answer may come, and the connection be closed, while the client is still sending."""
    with raw(eider, "ingest") as connection:
        connection.request("POST", "/ingest", ["Content-Type: application/json", "Transfer-Encoding: chunked"])
        chunk = b"100000\r\n" + b" " * MIB + b"\r\n"
        try:
            for _ in range(BODY_MAX // MIB + 2):
                connection.send(chunk)
            connection.send(b"0\r\n\r\n")
        except ConnectionError:
            pass
        answer = connection.answer()
    assert answer is None or answer.status == 413
    assert eider.get("/health").status_code == 200


def test_one_chunk_of_an_absurd_size(eider):
    with raw(eider, "ingest") as connection:
        connection.request("POST", "/ingest", ["Content-Type: application/json", "Transfer-Encoding: chunked"])
        connection.send(b"ffffffffffffffffff\r\n")
        answer = connection.answer()
        assert answer is None or answer.status in (400, 413)
    assert eider.get("/health").status_code == 200


# ---- all bodies together ----
@pytest.fixture
def tight(start_eider):
    """A server that holds 4 MiB of request bodies."""
    env = {"EIDER_BODIES_MAX": "4MiB", "EIDER_INGEST_LISTEN": "127.0.0.1:0", "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0"}
    return start_eider(env, lake=FolderLake())


def test_what_is_only_announced_reserves_nothing(tight, table):
    idle = [raw(tight, "ingest") for _ in range(20)]
    try:
        for connection in idle:
            connection.request("POST", "/ingest", ["Content-Type: application/json", f"Content-Length: {MIB * 3}"], b"{")
        accepted(tight, post_text(tight, padded_batch(table, MIB)))
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_bodies_over_the_sum_are_503(tight, table, wait_until, framing):
    """Counted as they arrive; what was read of a refused one is given back at once."""
    field = "Transfer-Encoding: chunked" if framing == "chunked" else f"Content-Length: {8 * MIB}"
    piece = b"100000\r\n" + b" " * MIB + b"\r\n" if framing == "chunked" else b" " * MIB
    with raw(tight, "ingest") as connection:
        connection.request("POST", "/ingest", ["Content-Type: application/json", field], piece * 6)
        wait_until(lambda: post_text(tight, padded_batch(table, 3 * MIB)).status_code == 200)
        connection.send(piece * 2 + (b"0\r\n\r\n" if framing == "chunked" else b""))
        answer = connection.answer()
        assert answer.status == 503 and set(answer.json()) == {"detail"}
        assert int(answer.headers["retry-after"]) > 0
        connection.request("GET", "/health")
        assert connection.answer().status == 200


def test_what_is_made_of_a_body_counts(tight, table):
    """3 MiB of text become as many bytes of lines: together more than 4 MiB."""
    records = [{"s": "x" * MIB}] * 3
    answer = post_batch(tight, table, records)
    refused(answer, 503)
    assert answer.headers["retry-after"]
    assert not tight.lake.table_keys(table)
    accepted(tight, post_batch(tight, table, records[:1]))


# ---- framing ----
def test_length_and_chunked_together_are_refused(eider, table):
    body = batch_text(table, '[{"a":1}]').encode()
    headers = ["Content-Type: application/json", f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"]
    with raw(eider, "ingest") as connection:
        connection.request("POST", "/ingest", headers, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        answer = connection.answer()
        assert answer is None or answer.status == 400
        assert connection.closed_by_server()
    assert not eider.lake.table_keys(table)


def test_two_lengths_are_refused(eider, table):
    body = batch_text(table, '[{"a":1}]').encode()
    headers = ["Content-Type: application/json", f"Content-Length: {len(body)}", f"Content-Length: {len(body) - 1}"]
    with raw(eider, "ingest") as connection:
        connection.request("POST", "/ingest", headers, body)
        answer = connection.answer()
        assert answer is None or answer.status == 400
        assert connection.closed_by_server()
    assert not eider.lake.table_keys(table)


def test_keep_alive(eider, table):
    body = batch_text(table, '[{"a":1}]').encode()
    headers = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    with raw(eider, "ingest") as connection:
        for _ in range(3):
            connection.request("GET", "/health")
            assert connection.answer().status == 200
            connection.request("POST", "/ingest", headers, body)
            assert connection.answer().status == 200
            connection.request("GET", "/nope")
            assert connection.answer().status == 404
    assert len(eider.lake.table_keys(table)) == 3


def test_keep_alive_after_a_refused_body(eider):
    """An error before the body was read neither breaks the next request nor hangs."""
    body = b"x" * 5000
    with raw(eider, "ingest") as connection:
        connection.request("POST", "/nope", [f"Content-Length: {len(body)}"], body)
        assert connection.answer().status == 404
        try:
            connection.request("GET", "/health")
            answer = connection.answer()
        except ConnectionError:
            answer = None
        assert answer is None or answer.status == 200


def test_connection_close_is_honoured(eider):
    with raw(eider) as connection:
        connection.request("GET", "/health", ["Connection: close"])
        assert connection.answer().status == 200
        assert connection.closed_by_server()


def test_http_1_0_closes(eider):
    with raw(eider) as connection:
        connection.request("GET", "/health", version="HTTP/1.0")
        assert connection.answer().status == 200
        assert connection.closed_by_server()


def test_two_requests_at_once(eider):
    with raw(eider) as connection:
        connection.request("GET", "/health", body=b"GET /nope HTTP/1.1\r\nHost: eider\r\n\r\n")
        assert connection.answer().status == 200
        assert connection.answer().status == 404


def test_expect_100_continue(eider, table):
    body = batch_text(table, '[{"a":1}]').encode()
    headers = ["Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue"]
    with raw(eider, "ingest") as connection:
        connection.request("POST", "/ingest", headers)
        assert connection.read_line().startswith(b"HTTP/1.1 100")
        assert connection.read_line() == b"\r\n"
        connection.send(body)
        assert connection.answer().status == 200


@pytest.mark.parametrize("text", [b"\r\n\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_not_http(eider, text):
    with raw(eider) as connection:
        connection.send(text + b"\r\n\r\n")
        answer = connection.answer() if text.strip() else None
        assert answer is None or answer.status >= 400
    assert eider.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/%", "/%zz", "/table/%2/count", "/" + "a" * 8000, "/a/../health", "/%00", "/health%00"])
def test_odd_paths(eider, path):
    for name in LISTENERS:
        with raw(eider, name) as connection:
            connection.request("GET", path)
            answer = connection.answer()
            assert answer is None or answer.status in (400, 404, 414, 431), f"{name}: {answer}"


@pytest.mark.parametrize("headers", [["X: " + "y" * 40_000], [f"X-{n}: y" for n in range(200)]], ids=["long", "many"])
def test_headers_over_the_limit(eider, headers):
    with raw(eider) as connection:
        connection.request("GET", "/health", headers)
        answer = connection.answer()
        assert answer is None or answer.status in (400, 413, 431)
    assert eider.get("/health").status_code == 200


# ---- slow clients ----
def test_clients_in_the_middle_of_a_header_do_not_hold_others(eider):
    slow = [raw(eider) for _ in range(40)]
    try:
        for connection in slow:
            connection.send(b"GET /health HTTP/1.1\r\nHost: ei")
        for name in LISTENERS:
            assert eider.get("/health", eider.listener(name), timeout=5).status_code == 200
        slow[0].send(b"der\r\n\r\n")
        assert slow[0].answer().status == 200
    finally:
        for connection in slow:
            connection.close()


def test_clients_in_the_middle_of_a_body_do_not_hold_others(eider, table):
    body = batch_text(table, '[{"a":1}]').encode()
    slow = [raw(eider, "ingest") for _ in range(40)]
    try:
        for connection in slow:
            headers = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
            connection.request("POST", "/ingest", headers, body[:10])
        accepted(eider, post_batch(eider, f"{table}_other", [{"a": 1}], timeout=10))
        slow[0].send(body[10:])
        assert slow[0].answer().status == 200
    finally:
        for connection in slow:
            connection.close()
    assert len(eider.lake.table_keys(table)) == 1


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("trickle", [False, True], ids=["silent", "a-byte-a-second"])
def test_a_header_that_never_ends_is_closed(eider, trickle):
    """Within 15 s, also when a byte comes now and then; others are served meanwhile."""
    with raw(eider) as connection:
        connection.send(b"GET /health HTTP/1.1\r\nX-Slow: ")
        for _ in range(15):
            if connection.closes_within(1):
                break
            assert eider.get("/health", timeout=5).status_code == 200
            try:
                connection.send(b"y" if trickle else b"")
            except ConnectionError:
                break
        else:
            pytest.fail("the connection is still open after 15 s")


def test_clients_that_come_and_go(eider, table):
    """Leaving at any point costs the server nothing that shows."""
    body = batch_text(table, '[{"a":1}]').encode()
    head = f"POST /ingest HTTP/1.1\r\nHost: eider\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    whole = head.encode() + body
    for end in list(range(0, len(whole), 9)) + [len(whole)]:
        connection = raw(eider, "ingest")
        connection.send(whole[:end])
        connection.close()
    accepted(eider, post_batch(eider, f"{table}_after", [{"a": 1}]))
    for file in read_table(eider.lake, table).values():
        assert file.rows == [{"a": 1}]


@pytest.mark.once
def test_many_connections(start_eider):
    server = start_eider(lake=FolderLake())
    connections = [raw(server) for _ in range(400)]
    try:
        for connection in connections:
            connection.request("GET", "/health")
        assert all(connection.answer().status == 200 for connection in connections)
    finally:
        for connection in connections:
            connection.close()
