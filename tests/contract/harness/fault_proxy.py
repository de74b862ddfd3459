"""A proxy in front of an S3 server that counts requests and injects faults.

Header bytes go through as they came, `Host` too, so a signature made for the proxy's address stays valid behind it.
Whole messages are held in memory: meant for objects of test size.
"""

import contextlib
import re
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import unquote

from harness.waiting import wait_until


@dataclass
class SeenRequest:
    """One request: `key` is the decoded path without its leading slash, bucket included."""

    method: str
    target: str
    headers: dict
    body_size: int = 0
    status: int = 0  # what the client was sent; 0: nothing
    upstream_status: int = 0  # what the store said; 0: it was not asked
    fault: str = ""
    began: float = 0.0  # time.monotonic() when it had come, and when its answer was sent
    ended: float = 0.0

    @property
    def byte_range(self):
        """First and last byte of `Range`, or None."""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        return (int(found[1]), int(found[2])) if found else None

    @property
    def key(self):
        return unquote(self.target.partition("?")[0]).lstrip("/")

    @property
    def query(self):
        return self.target.partition("?")[2]


@dataclass
class Fault:
    """What happens to the next `times` requests that match; made by the methods of FaultProxy."""

    kind: str
    times: int
    method: str = None
    key: str = None
    query: str = None
    status: int = 500
    code: str = "InternalError"
    headers: dict = field(default_factory=dict)
    keep: float = 0.5
    body: str = None  # instead of an error document
    length: int = None  # what a HEAD is told instead of the body's length
    skip: int = 0  # so many matching requests are let through first
    seconds: float = 0.0
    function: object = None  # of kind "before" and "after"
    hits: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def matches(self, request):
        if self.hits >= self.times or not request_matches(request, self.method, self.key, self.query):
            return False
        self.skip -= 1
        return self.skip < 0

    def release(self):
        """Lets stalled requests go on to the store."""
        self.released.set()


def request_matches(request, method=None, key=None, query=None):
    if method and request.method != method:
        return False
    if key and not re.search(key, request.key):
        return False
    return not query or bool(re.search(query, request.query))


@dataclass
class Message:
    first_line: bytes
    header: bytes  # first line, fields and the empty line, as they came
    fields: dict
    body: bytes = b""  # as framed on the wire


class FaultProxy:
    def __init__(self, upstream_port):
        self._upstream = ("127.0.0.1", upstream_port)
        self._lock = threading.Lock()
        self._sockets = set()
        self._faults = []
        self._seen = []
        self._listener = None
        self.port = 0
        self._listen()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    # ---- what was asked ----
    def requests(self, method=None, key=None, query=None, status=None):
        """Requests so far, oldest first; `key` and `query` are regular expressions."""
        with self._lock:
            seen = list(self._seen)
        return [
            one
            for one in seen
            if request_matches(one, method, key, query) and (status is None or one.status == status)
        ]

    def count(self, method=None, key=None, query=None, status=None):
        return len(self.requests(method, key, query, status))

    def wait_for(self, number=1, deadline=10.0, **match):
        return wait_until(
            lambda: self.count(**match) >= number, deadline, f"{number} requests {match} at the proxy"
        )

    def forget(self):
        """Empties the list of requests; faults stay."""
        with self._lock:
            self._seen.clear()

    def clear(self):
        """No requests, no faults; stalled requests go on."""
        with self._lock:
            self._seen.clear()
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.release()

    # ---- faults; `method`, `key` (regular expression) and `query` say which requests, `skip` how many of them are
    # let through before the first fault ----
    def _add(self, fault):
        with self._lock:
            self._faults.append(fault)
        return fault

    def fail(self, status=500, times=1, code="InternalError", headers=None, **match):
        """Answers with an S3 error, or with `body`; the store is not asked. A success may be told that never was."""
        return self._add(Fault("fail", times, status=status, code=code, headers=headers or {}, **match))

    def reset(self, times=1, **match):
        """Resets the connection once the request is read; the store is not asked."""
        return self._add(Fault("reset", times, **match))

    def stall(self, times=1, **match):
        """Holds the request until release() of what is returned, clear() or close(); then it goes on, unless the
        client has left meanwhile."""
        return self._add(Fault("stall", times, **match))

    def delay(self, seconds, times=1 << 30, **match):
        """Every request takes this much longer, as over a long line."""
        return self._add(Fault("delay", times, seconds=seconds, **match))

    def cut_body(self, times=1, keep=0.5, **match):
        """Sends the answer with only a part of its body, then closes."""
        return self._add(Fault("cut", times, keep=keep, **match))

    def corrupt_body(self, times=1, **match):
        """Flips one byte in the middle of the answer's body."""
        return self._add(Fault("corrupt", times, **match))

    def cut_header(self, times=1, **match):
        """The beginning of a good answer's header, then the end of the connection; the store is not asked."""
        return self._add(Fault("header", times, **match))

    def drop_answer(self, times=1, **match):
        """The store does what was asked, the client gets a closed connection."""
        return self._add(Fault("drop", times, **match))

    def before(self, function, times=1, **match):
        """Calls the function when the request has come and the store was not asked yet; then it goes on."""
        return self._add(Fault("before", times, function=function, **match))

    def after(self, function, times=1, **match):
        """Calls the function when the store has answered and the client does not know yet."""
        return self._add(Fault("after", times, function=function, **match))

    @contextlib.contextmanager
    def refused(self):
        """While inside, nobody listens: connections are refused and open ones are closed."""
        self._close_all()
        try:
            yield
        finally:
            self._listen()

    # ---- the machinery ----
    def _listen(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                open_still = self._listener is listener  # else it came in while everything was being closed
                if open_still:
                    self._sockets.add(client)
            if not open_still:
                client.close()
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _close_all(self):
        with self._lock:
            listener, self._listener = self._listener, None
            sockets = list(self._sockets)
        for one in [*([listener] if listener else []), *sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if listener:
            listener.close()

    def close(self):
        self.clear()
        self._close_all()

    def _take_fault(self, request):
        with self._lock:
            for fault in self._faults:
                if fault.matches(request):
                    fault.hits += 1
                    request.fault = fault.kind
                    return fault
        return None

    def _serve(self, client):
        upstream = Upstream(self._upstream)
        try:
            reader = client.makefile("rb")
            while self._serve_one(client, reader, upstream):
                pass
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._sockets.discard(client)
            upstream.close()
            client.close()

    def _serve_one(self, client, reader, upstream):
        """One request and its answer; false when the connection is over."""
        message = read_header(reader)
        if message is None:
            return False
        method, target, _ = message.first_line.decode("latin-1").split(" ", 2)
        if message.fields.get("expect", "").lower() == "100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            message.header = re.sub(rb"(?im)^expect:[^\r\n]*\r\n", b"", message.header)
        message.body = read_body(reader, message.fields, to_end=False)
        request = SeenRequest(method, target, message.fields, len(message.body), began=time.monotonic())
        fault = self._take_fault(request)
        with self._lock:
            self._seen.append(request)
        if fault is not None and fault.kind == "reset":
            reset(client)
            return False
        if fault is not None and fault.kind == "header":
            client.sendall(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n")
            return False
        if fault is not None and fault.kind == "fail":
            request.status = fault.status
            client.sendall(error_answer(fault, method))
            return True
        if fault is not None and fault.kind == "stall":
            fault.released.wait(120)
            if has_left(client):
                return False
        if fault is not None and fault.kind == "delay":
            threading.Event().wait(fault.seconds)
        if fault is not None and fault.kind == "before":
            fault.function()
        answer = upstream.exchange(message, method)
        if fault is not None and fault.kind == "after":
            fault.function()
        request.upstream_status = int(answer.first_line.split()[1])
        try:
            return deliver(client, answer, fault, request)
        finally:
            request.ended = time.monotonic()


class Upstream:
    """The connection to the store behind one client connection, opened when first needed."""

    def __init__(self, address):
        self._address = address
        self._socket = None
        self._reader = None

    def close(self):
        if self._socket is not None:
            self._reader.close()
            self._socket.close()
            self._socket = None

    def exchange(self, message, method):
        fresh = self._socket is None
        try:
            return self._exchange(message, method)
        except (OSError, ValueError):
            self.close()
            if fresh:
                raise
            return self._exchange(message, method)  # the kept connection had gone stale

    def _exchange(self, message, method):
        if self._socket is None:
            self._socket = socket.create_connection(self._address, 10)
            self._socket.settimeout(120)
            self._reader = self._socket.makefile("rb")
        self._socket.sendall(message.header + message.body)
        while True:
            answer = read_header(self._reader)
            if answer is None:
                raise OSError("the store closed the connection")
            status = int(answer.first_line.split()[1])
            if status >= 200:
                break
        if method != "HEAD" and status not in (204, 304):
            answer.body = read_body(self._reader, answer.fields, to_end=True)
        if answer.fields.get("connection", "").lower() == "close":
            self.close()
        return answer


def deliver(client, answer, fault, request):
    kind = fault.kind if fault is not None else ""
    if kind == "drop":
        return False
    body = answer.body
    if kind == "cut":
        client.sendall(answer.header + body[: int(len(body) * fault.keep)])
        return False
    if kind == "corrupt" and body:
        middle = len(body) // 2
        body = body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]
    request.status = request.upstream_status
    client.sendall(answer.header + body)
    return answer.fields.get("connection", "").lower() != "close"


def read_header(reader):
    first = reader.readline(65536)
    if not first.strip():
        return None
    header, fields = [first], {}
    while True:
        line = reader.readline(65536)
        if not line:
            return None
        header.append(line)
        if line in (b"\r\n", b"\n"):
            return Message(first.rstrip(b"\r\n"), b"".join(header), fields)
        name, _, value = line.decode("latin-1").partition(":")
        fields[name.strip().lower()] = value.strip()


def read_exactly(reader, size):
    data = reader.read(size)
    if len(data) != size:
        raise OSError("the peer left in the middle of a body")
    return data


def read_body(reader, fields, to_end):
    """The body as framed; `to_end`: without a length it goes on until the peer closes (answers only)."""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return read_chunks(reader)
    if "content-length" in fields:
        return read_exactly(reader, int(fields["content-length"]))
    return reader.read() if to_end else b""


def read_chunks(reader):
    parts = []
    while True:
        line = reader.readline(65536)
        parts.append(line)
        size = int(line.split(b";")[0], 16)
        if size:
            parts.append(read_exactly(reader, size + 2))
            continue
        while True:
            line = reader.readline(65536)
            parts.append(line)
            if line in (b"\r\n", b"\n", b""):
                return b"".join(parts)


def error_answer(fault, method):
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{fault.code}</Code><Message>injected fault</Message>"
        "<RequestId>0</RequestId></Error>"
    )
    body = (document if fault.body is None else fault.body).encode()
    length = len(body) if fault.length is None else fault.length
    lines = [
        f"HTTP/1.1 {fault.status} Injected",
        "Content-Type: application/xml",
        f"Content-Length: {length}",
        *(f"{name}: {value}" for name, value in fault.headers.items()),
    ]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    return head if method == "HEAD" else head + body


def has_left(client):
    """True when the client closed its side while its request was held."""
    readable, _, _ = select.select([client], [], [], 0)
    return bool(readable) and client.recv(1, socket.MSG_PEEK) == b""


def reset(client):
    """Closes with RST instead of FIN."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
