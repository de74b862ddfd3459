"""HTTP by hand, for what a well-behaved client library would not send."""

import json
import select
import socket
import time
from dataclasses import dataclass

from harness.fault_proxy import read_body, read_header


@dataclass
class RawAnswer:
    status: int
    headers: dict  # lower-case names
    body: bytes

    def json(self):
        return json.loads(self.body)


class RawConnection:
    def __init__(self, address, timeout=30):
        self._socket = socket.create_connection(address, timeout)
        self._reader = self._socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._reader.close()
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data if isinstance(data, bytes) else data.encode())

    def read_line(self):
        return self._reader.readline()

    def request(self, method, path, headers=(), body=b"", version="HTTP/1.1"):
        """Sends a request with exactly these header fields (and `Host`); `body` as given, its length not added."""
        lines = [f"{method} {path} {version}", "Host: eider", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)

    def answer(self, method="GET"):
        """The next answer, or None when the server closed instead."""
        try:
            head = read_header(self._reader)
        except ConnectionError:
            return None
        if head is None:
            return None
        status = int(head.first_line.split()[1])
        if status == 100:
            return self.answer(method)
        body = b""
        if method != "HEAD" and status not in (204, 304):
            body = read_body(self._reader, head.fields, to_end=True)
            if "chunked" in head.fields.get("transfer-encoding", "").lower():
                body = unchunk(body)
        return RawAnswer(status, head.fields, body)

    def closes_within(self, seconds):
        """True when the server closes within that time, false when it is still open then. Other bytes are dropped."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            readable, _, _ = select.select([self._socket], [], [], left)
            try:
                if readable and self._socket.recv(65536) == b"":
                    return True
            except ConnectionError:
                return True
        return False

    def closed_by_server(self):
        """True once the server has closed; raises TimeoutError when it does not within the time limit."""
        try:
            return self._reader.read(1) == b""
        except ConnectionError:
            return True


def unchunk(framed):
    parts, rest = [], framed
    while True:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(rest[:size])
        rest = rest[size + 2 :]
