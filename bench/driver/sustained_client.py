"""Clients that send one body again and again and wait a little when they are refused. Prints one JSON object.

Usage: sustained_client.py PORT PATH FILE CLIENTS SECONDS
"""

import http.client
import json
import sys
import threading
import time

REFUSED_PAUSE = 0.01


class Client(threading.Thread):
    def __init__(self, port, path, body, until):
        super().__init__()
        self._port, self._path, self._body, self._until = port, path, body, until
        self._pause = threading.Event()
        self.took, self.refused, self.problem = [], 0, None

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while time.monotonic() < self._until and self.problem is None:
            began = time.monotonic()
            try:
                connection.request("POST", self._path, self._body, {"Content-Type": "application/x-ndjson"})
                answer = connection.getresponse()
                status, text = answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                status, text = 503, b""  # a large body that is refused is not read to its end
                connection.close()
            if status == 200:
                self.took.append(1000 * (time.monotonic() - began))
            elif status == 503:
                self.refused += 1
                self._pause.wait(REFUSED_PAUSE)
            else:
                self.problem = f"{status}: {text[:300]}"


def main():
    port, path, file, count, seconds = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
    with open(file, "rb") as source:
        body = source.read()
    began = time.monotonic()
    clients = [Client(port, path, body, began + seconds) for _ in range(count)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    problems = [client.problem for client in clients if client.problem]
    assert not problems, problems[0]
    took = sorted(one for client in clients for one in client.took)
    figures = {
        "requests": len(took),
        "refused": sum(client.refused for client in clients),
        "seconds": time.monotonic() - began,
        "p50_ms": took[len(took) // 2],
        "p99_ms": took[len(took) * 99 // 100],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
