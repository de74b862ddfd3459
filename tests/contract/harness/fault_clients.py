"""Many clients at once, each in a loop, and a journal of what they were told."""

import http.client
import itertools
import json
import random
import threading
import time

from harness.fault_scenario import Sent


class Clients:
    """`count` threads that send to the address that `address()` gives, or wait while it gives None."""

    def __init__(self, count, address, tables=4, batches=True, rows=20, pad=40, seed=1, stop_after=None):
        self._address = address
        self._numbers = itertools.count(1)
        self._tables = [f"table_{index}" for index in range(tables)]
        self._batches = batches
        self._rows = rows
        self._pad = pad
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._stop_after = stop_after
        self.sent = []
        self.statuses = {}
        self.retry_after = []
        self.problems = []
        self.slowest = 0.0
        self._threads = [threading.Thread(target=self._loop, args=(seed * 1000 + i,), daemon=True) for i in range(count)]

    def start(self):
        for thread in self._threads:
            thread.start()
        return self

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"

    def journal(self):
        return [one.entry() for one in self.sent]

    def acked(self):
        return sum(one.verdict == "acked" for one in list(self.sent))

    def _make(self, rng):
        number = next(self._numbers)
        way = rng.choices(("stream", "rows", "batch"), (10, 6, 0.3 if self._batches else 0))[0]
        of = 1 if way == "stream" else rng.randint(1, self._rows)
        key = f"key-{number}" if rng.random() < 0.25 else None
        return Sent(number, rng.choice(self._tables), way, of, self._pad, key)

    def _loop(self, seed):
        rng = random.Random(seed)
        connection, pending = None, None
        while not self._stop.is_set() or (pending is not None and self._address() is not None):
            address = self._address()
            if address is None:
                self._stop.wait(0.005)
                continue
            one = pending or self._make(rng)
            if pending is None:
                with self._lock:
                    self.sent.append(one)
            if connection is None or (connection.host, connection.port) != address:
                connection = http.client.HTTPConnection(*address, timeout=60)
            status, body = self._exchange(connection, one)
            if status is None:
                connection.close()
                connection = None
            # What has a key is sent again until there is an answer; nothing else ever is.
            again = one.key and (status is None or status in (409, 503, 504, 502, 500))
            pending = one if again and not self._stop.is_set() else None
            if status == 503:
                self._stop.wait(0.02)
        if connection is not None:
            connection.close()

    def _exchange(self, connection, one):
        path, content_type, body = one.request()
        headers = {"Content-Type": content_type} | ({"Idempotency-Key": one.key} if one.key else {})
        began = time.monotonic()
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read().decode()
            if status == 503:
                self.retry_after.append(answer.getheader("Retry-After"))
        except (OSError, http.client.HTTPException) as error:
            status, text = None, repr(error)
        self.slowest = max(self.slowest, time.monotonic() - began)
        one.answers.append((status, text))
        with self._lock:
            self.statuses[status] = self.statuses.get(status, 0) + 1
        self._notice(one, status, text)
        return status, text

    def _notice(self, one, status, text):
        if status is None or status in (502, 503, 504) or (status == 500 and "worker process" in text):
            return  # the last: it was killed, and the batch is not kept
        if status != 200 and not (status == 409 and one.key):
            self.problems.append(f"request {one.req}: {status} {text[:200]}")
            return
        told = [json.loads(body) for before, body in one.answers[:-1] if before == 200]
        if status == 200 and told:
            self.problems.append(f"request {one.req} was sent again after its answer")
