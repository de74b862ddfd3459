"""The front door against those who do not knock: framing, encodings, pipelines, slow clients, broken JSON.

Raw sockets throughout: no client library would send these. After each the server has to answer, and nothing may have been
written.
"""

import contextlib
import json
import threading
import time

import pyarrow
import pytest

from harness.ingest_client import accepted, batch_text, post_batch, post_text
from harness.lakes import FolderLake
from harness.prometheus import scrape
from harness.raw_http import RawConnection
from harness.rows_client import NDJSON, ndjson, post_rows

MIB = 1024 * 1024
TYPE = "Content-Type: application/json"
NEXT = b"GET /health/live HTTP/1.1\r\nHost: eider\r\n\r\n"


def raw(server, name="ingest", timeout=30):
    return RawConnection(server.address(name), timeout)


def post(table, *fields, body=None, host=("Host: eider",), version="HTTP/1.1", target="/ingest"):
    """A batch as bytes; `{n}` in a field is its length."""
    data = batch_text(table, '[{"a":1}]').encode() if body is None else body
    lines = [f"POST {target} {version}", *host, TYPE, *(field.replace("{n}", str(len(data))) for field in fields)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def chunked(table, size="%x", extension=b"", trailer=b"", line_end=b"\r\n"):
    data = batch_text(table, '[{"a":1}]').encode()
    return (size % len(data)).encode() + extension + line_end + data + b"\r\n0\r\n" + trailer + b"\r\n"


def sends_and_is_refused(server, data, statuses=(400,), shape=True):
    """One answer of these statuses, then the end of the connection: what follows the request is not read."""
    with raw(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(data + NEXT)
        answer = connection.answer()
        assert answer is not None and answer.status in statuses, answer
        assert answer.headers.get("connection", "").lower() == "close"
        if shape:
            assert answer.headers["content-type"].startswith("application/json")
            assert answer.json()
        assert connection.closed_by_server()
    assert server.get("/health/live").status_code == 200


# ---- framing (R8) ----
CHUNKED = "Transfer-Encoding: chunked"
AMBIGUOUS = {
    "length-and-chunked": ["Content-Length: {n}", CHUNKED],
    "chunked-and-length": [CHUNKED, "Content-Length: {n}"],
    "two-lengths": ["Content-Length: {n}", "Content-Length: 1"],
    "same-length-twice": ["Content-Length: {n}", "Content-Length: {n}"],
    "chunked-identity": ["Transfer-Encoding: chunked, identity"],
    "identity": ["Transfer-Encoding: identity"],
    "gzip-chunked": ["Transfer-Encoding: gzip, chunked"],
    "xchunked": ["Transfer-Encoding: xchunked"],
    "chunked-twice": [CHUNKED, CHUNKED],
    "vertical-tab": ["Transfer-Encoding: \x0bchunked"],
    "space-before-colon": ["Content-Length : {n}"],
    "space-before-colon-chunked": ["Transfer-Encoding : chunked"],
    "tab-before-colon": ["Content-Length\t: {n}"],
    "space-in-name": ["X A: b", "Content-Length: {n}"],
    "control-in-name": ["X\x01A: b", "Content-Length: {n}"],
    "delimiter-in-name": ["X(A): b", "Content-Length: {n}"],
    "no-name": [": b", "Content-Length: {n}"],
    "nul-in-value": ["X-A: b\0c", "Content-Length: {n}"],
    "nul-at-end": ["X-A: b\0", "Content-Length: {n}"],
    "control-in-value": ["X-A: b\x07c", "Content-Length: {n}"],
    "bare-cr": ["X-A: b\rContent-Length: {n}"],
    "bare-cr-before-field": ["X-A: b\rX-B: c", "Content-Length: {n}"],
    "bare-lf": ["X-A: b\nX-B: c", "Content-Length: {n}"],
    "bare-lf-before-length": ["X-A: b\nContent-Length: {n}"],
    "bare-lf-at-end": ["Content-Length: {n}\n\r\nX-A: b"],
    "folded": ["X-A: b\r\n c", "Content-Length: {n}"],
    "folded-tab": ["X-A: b\r\n\tc", "Content-Length: {n}"],
    "folded-length": ["Content-Length:\r\n {n}"],
    "folded-coding": ["Transfer-Encoding:\r\n chunked"],
    "folded-last": ["Content-Length: {n}", "X-A: b\r\n c"],
}


@pytest.mark.parametrize("fields", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_framing_that_two_readers_may_read_differently(eider, table, fields):
    body = chunked(table) if any("hunked" in field for field in fields) else None
    sends_and_is_refused(eider, post(table, *fields, body=body))
    assert not eider.lake.table_keys(table)


@pytest.mark.parametrize("length", ["+{n}", "0x2a", "{n},{n}", "{n}, {n}", "{n} {n}", "-1", "", "{n}.0", "1e2", "{n}\t"])
def test_lengths_that_are_no_numbers(eider, table, length):
    """Found by the library, whose answer is its own, with its header twice; nothing after it is read."""
    with raw(eider) as connection:
        connection.send(post(table, f"Content-Length: {length}") + NEXT)
        answer = connection.answer()
        assert answer.status == 400 and answer.headers["connection"] == "close"
        assert connection.closes_within(10)
    assert not eider.lake.table_keys(table)


def test_chunked_in_http_1_0(eider, table):
    sends_and_is_refused(eider, post(table, CHUNKED, body=chunked(table), version="HTTP/1.0"))
    assert not eider.lake.table_keys(table)


BROKEN_CHUNKS = {
    "negative": {"size": "-%x"},
    "plus": {"size": "+%x"},
    "hex-prefix": {"size": "0x%x"},
    "leading-space": {"size": " %x"},
    "trailing-space": {"size": "%x "},
    "overflow": {"size": "1000000000000000%x"},
    "overflow-exact": {"size": "%x0000000000000000"},
    "no-size": {"size": "%.0s"},
    "megabyte-extension": {"extension": b";x=" + b"y" * MIB},
}


@pytest.mark.parametrize("chunk", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_broken_chunks(eider, table, chunk):
    """The library calls an endless extension its own fault, a 500; it ends the connection all the same."""
    statuses = (400, 413, 500) if "extension" in chunk else (400, 413)
    body = chunked(table, **chunk) if "%.0s" not in chunk.get("size", "") else b"\r\n{}\r\n0\r\n\r\n"
    sends_and_is_refused(eider, post(table, CHUNKED, body=body), statuses, shape=False)
    assert not eider.lake.table_keys(table)


def test_bytes_after_a_chunk(eider, table):
    body = chunked(table).replace(b"\r\n0\r\n", b"XX0\r\n")
    sends_and_is_refused(eider, post(table, CHUNKED, body=body), shape=False)
    assert not eider.lake.table_keys(table)


def test_a_small_chunk_extension_is_skipped(eider, table):
    with raw(eider) as connection:
        connection.send(post(table, CHUNKED, body=chunked(table, extension=b";a=b")) + NEXT)
        assert connection.answer().status == 200
        assert connection.answer().status == 200
    assert len(eider.lake.table_keys(table)) == 1


@pytest.mark.parametrize("trailer", [b"X-A: b\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_trailers(eider, table, trailer):
    sends_and_is_refused(eider, post(table, CHUNKED, body=chunked(table, trailer=trailer)))
    assert not eider.lake.table_keys(table)


HOSTS = {
    "none": [],
    "two": ["Host: eider", "Host: eider"],
    "two-different": ["Host: eider", "Host: other"],
    "with-space": ["Host: a b"],
    "with-slash": ["Host: eider/x"],
    "with-user": ["Host: a@eider"],
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_host_fields(eider, table, host):
    sends_and_is_refused(eider, post(table, "Content-Length: {n}", host=host))
    assert not eider.lake.table_keys(table)


@pytest.mark.parametrize(
    "target",
    ["http://other/ingest", "http://eider:81/ingest", "http://a@eider/ingest", "https://eider/ingest", "ingest", "*"]
    + ["/ing est", "/ingest\0x", "/ingest\tx", "//eider/ingest\x7f", "eider:80"],
)
def test_targets(eider, table, target):
    sends_and_is_refused(eider, post(table, "Content-Length: {n}", target=target))
    assert not eider.lake.table_keys(table)


def test_an_absolute_target_of_the_same_host(eider, table):
    with raw(eider) as connection:
        connection.send(post(table, "Content-Length: {n}", target="http://EIDER/ingest") + NEXT)
        assert connection.answer().status == 200
        assert connection.answer().status == 200


@pytest.mark.parametrize("line", ["GET /\r\n", "GET / HTTP/2.0\r\n", "GET / HTTP/1.1x\r\n", "GET / http/1.1\r\n", "GET / HTTP/1.1\n", "\x16\x03\x01\r\n"])
def test_request_lines(eider, line):
    with raw(eider) as connection:
        connection.send(f"{line}Host: eider\r\n\r\n".encode("latin-1") + NEXT)
        answer = connection.answer()
        assert answer is None or answer.status in (400, 505)
        assert connection.closed_by_server()


def test_a_long_header_in_small_pieces(eider):
    """Strictness must not depend on how the bytes arrive."""
    fields = "".join(f"X-Field-{n}: {'v' * 140}  \r\n" for n in range(80))
    data = f"GET /health/live?a=b&c=d HTTP/1.1\r\nHost: eider\r\n{fields}\r\n".encode()
    with raw(eider) as connection:
        for _ in range(2):
            for start in range(0, len(data), 1001):
                connection.send(data[start : start + 1001])
            assert connection.answer().status == 200


# ---- pipelines (R9) ----
def test_a_thousand_requests_at_once(eider, table):
    """Each answer belongs to its own request, bodies or not."""
    requests, wanted = [], []
    for n in range(1000):
        kind = n % 4
        path, status = [("/health/live", 200), ("/nope", 404), ("/nope", 404), ("/ingest", 405)][kind]
        method = "POST" if kind == 2 else "GET"
        body = NEXT if kind == 2 else b""  # a body that looks like a request
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: eider\r\nX-Request-Id: id-{n}\r\n{length}\r\n"
        requests.append(head.encode() + body)
        wanted.append((status, f"id-{n}"))
    with raw(eider, timeout=60) as connection:
        sender = threading.Thread(target=connection.send, args=(b"".join(requests),))
        sender.start()
        got = [connection.answer() for _ in wanted]
        sender.join(60)
    assert [(one.status, one.headers["x-request-id"]) for one in got] == wanted


@pytest.mark.parametrize("size", [10, 5000, 200_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_early_answer_leaves_no_body_behind(eider, framing, size):
    """404 is known before the body: what is left of it is never taken for the next request."""
    inner = b"POST /ingest HTTP/1.1\r\nHost: eider\r\nContent-Length: 2\r\n\r\n{}"
    body = (inner * (size // len(inner) + 1))[:size]
    field = f"Content-Length: {size}" if framing == "length" else CHUNKED
    sent = body if framing == "length" else b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
    with raw(eider) as connection:
        connection.request("POST", "/nope", [field, "X-Request-Id: first"])
        with contextlib.suppress(ConnectionError):
            connection.send(sent)
            connection.send(b"GET /nope HTTP/1.1\r\nHost: eider\r\nX-Request-Id: second\r\n\r\n")
        first = connection.answer()
        assert first.status == 404 and first.headers["x-request-id"] == "first"
        second = connection.answer()
        assert second is None or (second.status, second.headers["x-request-id"]) == (404, "second")


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue", "100-CONTINUE"])
def test_expect_and_wait(eider, table, expect):
    body = batch_text(table, '[{"a":1}]').encode()
    with raw(eider) as connection:
        connection.request("POST", "/ingest", [TYPE, f"Content-Length: {len(body)}", f"Expect: {expect}"])
        assert connection.read_line().startswith(b"HTTP/1.1 100")
        assert connection.read_line() == b"\r\n"
        connection.send(body + NEXT)
        assert connection.answer().status == 200
        assert connection.answer().status == 200


@pytest.mark.parametrize("expect", ["100-continue", "100-continue, x", "x", ""])
@pytest.mark.parametrize("path, status", [("/ingest", 200), ("/nope", 404)])
def test_expect_and_do_not_wait(eider, table, expect, path, status):
    """The body comes at once: the answers stay in step, or the connection ends."""
    body = batch_text(table, '[{"a":1}]').encode()
    fields = [TYPE, f"Content-Length: {len(body)}", f"Expect: {expect}", "X-Request-Id: first"]
    with raw(eider) as connection:
        connection.request("POST", path, fields, body + NEXT)
        answer = connection.answer()
        assert answer.headers["x-request-id"] == "first" and answer.status in (status, 417)
        after = connection.answer()
        assert after is None or after.status == 200


def test_expect_without_a_body(eider):
    with raw(eider) as connection:
        connection.request("GET", "/health/live", ["Expect: 100-continue"])
        assert connection.answer().status == 200
        connection.request("GET", "/health/live", ["Expect: 100-continue"], version="HTTP/1.0")
        answer = connection.answer()
        assert answer is None or answer.status == 200


# ---- encodings (R11) ----
def pack(codec):
    return lambda data: pyarrow.compress(data, codec=codec, asbytes=True)


PACKERS = {"br": pack("brotli"), "zstd": pack("zstd"), "gzip": pack("gzip")}


@pytest.mark.parametrize("encoding", PACKERS)
def test_packed_bodies(eider, table, encoding):
    records = [{"n": n, "s": "some text " * 10} for n in range(500)]
    body = PACKERS[encoding](json.dumps({"table_name": table, "records": records}).encode())
    accepted(eider, post_text(eider, body, headers={"Content-Encoding": encoding.upper()}))
    assert eider.sql(f"SELECT count(*) AS c, sum(n) AS s FROM {table}")["rows"] == [{"c": 500, "s": 124750}]


def damaged(encoding, table, damage):
    data = PACKERS[encoding](batch_text(table, '[{"a":1}]' + " " * 5000).encode())
    return {
        "cut": data[:-3],
        "cut-early": data[:2],
        "garbage": b"this is neither of them, however long one looks at it",
        "flipped": data[:-6] + bytes([data[-6] ^ 0xFF]) + data[-5:],
        "bytes-after": data + b"x",
        "batch-after": data + batch_text(table, '[{"a":2}]').encode(),
    }[damage]


@pytest.mark.parametrize("damage", ["cut", "cut-early", "garbage", "flipped", "bytes-after", "batch-after"])
@pytest.mark.parametrize("encoding", PACKERS)
def test_damaged_bodies(eider, table, encoding, damage):
    answer = post_text(eider, damaged(encoding, table, damage), headers={"Content-Encoding": encoding})
    assert answer.status_code in ((400, 413) if damage == "flipped" else (400,)), answer.text
    assert not eider.lake.table_keys(table)


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip,br", "identity, gzip", "zstd, zstd", "gzip, identity"])
def test_lists_of_encodings_are_415(eider, table, encoding):
    body = PACKERS["gzip"](PACKERS["gzip"](batch_text(table, '[{"a":1}]').encode()))
    answer = post_text(eider, body, headers={"Content-Encoding": encoding})
    assert answer.status_code == 415 and "more than one" in answer.text
    with raw(eider) as connection:
        data = post(table, "Content-Encoding: gzip", "Content-Encoding: gzip", "Content-Length: {n}", body=body)
        connection.send(data)
        assert connection.answer().status == 415


@pytest.mark.parametrize("encoding", ["br", "zstd"])
def test_bombs(eider, table, encoding):
    """400 MiB of blanks in a few KiB: told by its size, not by unfolding it all."""
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "brotli" if encoding == "br" else "zstd") as stream:
        stream.write(batch_text(table, '[{"a":1}]').encode()[:-1])
        for _ in range(400):
            stream.write(b" " * MIB)
        stream.write(b"}")
    body = sink.getvalue().to_pybytes()
    assert len(body) < MIB
    answer = post_text(eider, body, headers={"Content-Encoding": encoding})
    assert answer.status_code == 413, answer.text
    assert not eider.lake.table_keys(table)


def zstd_frame(window_log, data):
    """One raw block under a window of that size."""
    block = (len(data) << 3 | 1).to_bytes(3, "little") + data
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3]) + block


@pytest.mark.parametrize("window_log, status", [(23, 200), (24, 413), (31, 413)])
def test_zstd_windows(eider, table, window_log, status):
    frame = zstd_frame(window_log, batch_text(table, '[{"a":1}]').encode())
    assert post_text(eider, frame, headers={"Content-Encoding": "zstd"}).status_code == status


def test_several_frames_are_one_body(eider, table):
    text = batch_text(table, '[{"a":1}]').encode()
    frames = b"".join(PACKERS["zstd"](text[start : start + 20]) for start in range(0, len(text), 20))
    accepted(eider, post_text(eider, frames, headers={"Content-Encoding": "zstd"}))
    assert len(eider.lake.table_keys(table)) == 1


# ---- JSON (R12) ----
BROKEN_JSON = {
    "trailing-data": '{"table_name":"%s","records":[{"a":1}]} x',
    "two-documents": '{"table_name":"%s","records":[{"a":1}]}{}',
    "not-a-number": '{"table_name":"%s","records":[{"a":-NaN}]}',
    "lone-minus": '{"table_name":"%s","records":[{"a":-}]}',
    "leading-zero": '{"table_name":"%s","records":[{"a":01}]}',
    "half-an-escape": '{"table_name":"%s","records":[{"a":"\\u12"}]}',
    "unknown-escape": '{"table_name":"%s","records":[{"a":"\\x41"}]}',
    "raw-newline": '{"table_name":"%s","records":[{"a":"\n"}]}',
    "raw-nul": '{"table_name":"%s","records":[{"a":"\0"}]}',
    "comment": '{"table_name":"%s","records":[{"a":1/**/}]}',
    "single-quotes": "{'table_name':'%s'}",
    "trailing-comma": '{"table_name":"%s","records":[{"a":1},]}',
    "unclosed": '{"table_name":"%s","records":[{"a":1}]',
    "deep-arrays": '{"table_name":"%s","records":[{"a":' + "[" * 100_000 + "]" * 100_000 + "}]}",
    "deep-objects": '{"table_name":"%s","records":[{"a":' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}]}",
    "deep-and-open": '{"table_name":"%s","records":' + "[" * 1_000_000,
}


@pytest.mark.parametrize("text", BROKEN_JSON.values(), ids=BROKEN_JSON)
def test_broken_json(eider, table, text):
    """400, or 422 where the ingest service answers that; never 500, and nothing is kept."""
    body = text.replace("%s", table).encode()
    answer = post_text(eider, body)
    assert answer.status_code in (400, 422), answer.text
    answer = eider.post("/query", eider.snapshot, data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert not eider.lake.table_keys(table)
    assert eider.get("/health/live").status_code == 200


@pytest.mark.parametrize("value", [b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"'])
def test_invalid_utf8(eider, table, value):
    answer = post_text(eider, b'{"table_name":"%s","records":[{"a":%s}]}' % (table.encode(), value))
    assert answer.status_code in (400, 422), answer.text
    assert not eider.lake.table_keys(table)


ODD_JSON = ['{"a":1e999}', '{"a":-1e999}', '{"a":NaN}', '{"a":"\\ud800"}', '{"a":"\\udc00\\ud800"}', '{"a\\u0000b":1}', '{"a":1,"a":2}']
ODD_JSON += ['{"a":' + "9" * 100_000 + "}", '{"a":0.' + "1" * 100_000 + "}", '{"a":1e-999999999999}', '{"a":' + "[" * 200 + "]" * 200 + "}"]


@pytest.mark.parametrize("record", ODD_JSON, ids=range(len(ODD_JSON)))
def test_odd_json_is_stored_or_refused(eider, table, record):
    """What is accepted can be read back; nothing of it ends the server or its workers."""
    answer = post_text(eider, batch_text(table, f"[{record}]"))
    assert answer.status_code in (200, 400, 422), answer.text
    if answer.status_code == 200:
        assert eider.sql(f"SELECT count(*) AS c FROM {table}")["rows"] == [{"c": 1}]
    else:
        assert not eider.lake.table_keys(table)


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark(eider, table, mark):
    """The ingest service read these; the rest of the text is as it would be without."""
    answer = post_text(eider, batch_text(table, '[{"a":1}]').encode(mark))
    assert answer.status_code in (200, 400, 422), answer.text
    assert len(eider.lake.table_keys(table)) == (1 if answer.status_code == 200 else 0)


# ---- slow clients (R10) ----
class Crowd:
    """Connections that are fed a byte now and then, by one thread."""

    def __init__(self, server, count, begin, byte=b"x", name="ingest"):
        self.connections = [raw(server, name) for _ in range(count)]
        for connection in self.connections:
            connection.send(begin)
        self._byte = byte
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._feed)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._left.set()
        self._thread.join(30)
        for connection in self.connections:
            connection.close()

    def _feed(self):
        while not self._left.wait(1.0):
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.send(self._byte)


def times_of(server, seconds):
    """How long requests of a healthy client take, sorted."""
    end, times = time.monotonic() + seconds, []
    while time.monotonic() < end:
        begin = time.monotonic()
        assert server.get("/health/live", timeout=10).status_code == 200
        times.append(time.monotonic() - begin)
    return sorted(times)


@pytest.mark.once
@pytest.mark.slow
def test_five_hundred_slow_headers(start_eider):
    """A byte a second: each is answered 408 or closed soon after its 10 s; others do not notice."""
    server = start_eider({"EIDER_INGEST_LISTEN": "127.0.0.1:0"}, lake=FolderLake())
    with Crowd(server, 500, b"GET /health/live HTTP/1.1\r\nX-Slow: ") as crowd:
        begin = time.monotonic()
        times = times_of(server, 8)
        assert times[int(len(times) * 0.99)] < 0.25
        for connection in crowd.connections:
            answer = connection.answer()
            assert answer is None or answer.status == 408
            assert connection.closes_within(5)
        assert 8 < time.monotonic() - begin < 20


@pytest.mark.once
@pytest.mark.slow
def test_slow_bodies_and_readers_hold_nobody(start_eider, table):
    """Bodies at a byte a second and clients that never read their answers, 400 together."""
    server = start_eider({"EIDER_INGEST_LISTEN": "127.0.0.1:0"}, lake=FolderLake())
    begin = f"POST /ingest HTTP/1.1\r\nHost: e\r\n{TYPE}\r\nContent-Length: 100000\r\n\r\n".encode()
    asks = b"GET /openapi.json HTTP/1.1\r\nHost: e\r\n\r\n" * 400
    with Crowd(server, 200, begin) as _, Crowd(server, 200, asks, byte=b"") as _:
        times = times_of(server, 4)
        assert times[int(len(times) * 0.99)] < 0.25
        accepted(server, post_batch(server, table, [{"a": 1}], timeout=20))


def begin_rows(table, size, sent):
    header = f"POST /tables/{table}/rows HTTP/1.1\r\nHost: e\r\nContent-Type: {NDJSON}\r\nContent-Length: {size}\r\n\r\n"
    return header.encode() + (b'{"a":1}\n' * (sent // 8))


@pytest.mark.once
@pytest.mark.parametrize("sent", [1000, 400 << 10], ids=["small", "large"])
def test_stalled_uploads_hold_nobody(start_eider, table, sent):
    """More stalled uploads than rows are read at one time, and than may wait."""
    places = {"EIDER_MAX_CONCURRENT_ROWS": "2", "EIDER_MAX_INGEST_QUEUE": "8"}
    server = start_eider({"EIDER_INGEST_LISTEN": "127.0.0.1:0", **places}, lake=FolderLake())
    with Crowd(server, 24, begin_rows(table, 1 << 20, sent), byte=b" "):
        begin = time.monotonic()
        for n in range(3):
            answer = post_rows(server, table, ndjson([{"a": n}] * 40_000), timeout=20)
            assert answer.status_code == 200, answer.text
        assert time.monotonic() - begin < 20  # on a busy machine; a place held is one for 60 s


@pytest.mark.once
def test_large_uploads_are_bounded(start_eider, table, wait_until):
    limits = {"EIDER_MAX_CONCURRENT_ROWS": "1", "EIDER_BODIES_MAX": "8MiB"}
    server = start_eider({"EIDER_INGEST_LISTEN": "127.0.0.1:0", **limits}, lake=FolderLake())
    large = ndjson([{"a": 1}] * 100_000)
    with Crowd(server, 2, begin_rows(table, 1 << 20, 400 << 10), byte=b" ") as crowd:
        arrived = lambda: scrape(server).value("eider_http_bodies_in_flight_bytes")  # noqa: E731
        wait_until(lambda: arrived() >= 2 * (256 << 10))  # or one of them would be refused
        wait_until(lambda: post_rows(server, table, large).status_code == 503)
        answer = post_rows(server, table, large)
        assert answer.status_code == 503 and answer.headers["Retry-After"], answer.text
        assert post_rows(server, table, b'{"a":1}\n').status_code == 200
        for connection in crowd.connections:
            connection.close()
        wait_until(lambda: post_rows(server, table, large).status_code == 200)
