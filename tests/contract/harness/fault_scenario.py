"""The scenario that every crash, error and power-loss test runs, and the journal of what came of it.

3 tables, about 40 requests over /ingest/stream, /tables/{name}/rows and /ingest, with and without Idempotency-Key, in
waves of requests at the same time; two flushes, segments of the log that fill up, a batch that cannot be stored, and at
the end the drain. Rows are as lake_oracle.py wants them.
"""

import http.client
import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

REFUSED_STATUSES = {400, 404, 409, 413, 415, 422, 502}
TABLES = ("alpha", "beta", "gamma")
BLOCKED_TABLE, BLOCKED_DATE = "gamma", "2031-03-03"
REQUEST_SECONDS = 30


@dataclass
class Sent:
    """One request: its rows are the same each time it is sent."""

    req: int
    table: str
    way: str  # stream, rows, batch
    of: int = 1
    pad: int = 10
    key: str = None
    date: str = None
    answers: list = field(default_factory=list)  # (status or None, body)

    def records(self):
        filler = random.Random(self.req).randbytes(self.pad // 2 + 1).hex()[: self.pad]
        return [{"req": self.req, "n": n, "of": self.of, "pad": filler} for n in range(self.of)]

    def request(self):
        """(path, content type, body)"""
        records = self.records()
        if self.way == "stream":
            return f"/ingest/stream?table_name={self.table}", "application/json", json.dumps({"data": records[0]})
        if self.way == "rows":
            body = "".join(json.dumps(record) + "\n" for record in records)
            return f"/tables/{self.table}/rows", "application/x-ndjson", body
        body = {"table_name": self.table, "records": records}
        return "/ingest", "application/json", json.dumps(body | ({"partition_date": self.date} if self.date else {}))

    @property
    def verdict(self):
        statuses = [status for status, _ in self.answers]
        if any(status is not None and 200 <= status < 300 for status in statuses):
            return "acked"
        return "refused" if all(status in REFUSED_STATUSES for status in statuses) else "open"

    def entry(self, verdict=None):
        return {"req": self.req, "table": self.table, "of": self.of, "verdict": verdict or self.verdict}


def exchange(address, method, path, body=None, headers=None, seconds=REQUEST_SECONDS):
    """(status, body) or (None, why) when there was no answer. A connection of its own, for one request."""
    connection = http.client.HTTPConnection(*address, timeout=seconds)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return None, repr(error)
    finally:
        connection.close()


def send(address, sent, attempt=None):
    path, content_type, body = sent.request()
    attempt = len(sent.answers) if attempt is None else attempt
    headers = {"Content-Type": content_type, "X-Request-Id": f"req-{sent.req}-{attempt}"}
    if sent.key:
        headers["Idempotency-Key"] = sent.key
    answer = exchange(address, "POST", path, body, headers)
    sent.answers.append(answer)
    return answer


@dataclass
class Flush:
    table: str


def waves(pad=4000):
    """The scenario: a list of lists of what is sent at the same time. `pad` decides how soon segments are full."""
    numbers = iter(range(1, 1000))

    def one(table, way, of=1, size=10, key=False, date=None):
        number = next(numbers)
        return Sent(number, TABLES[table], way, of, size, f"key-{number}" if key else None, date)

    blocked = Sent(next(numbers), BLOCKED_TABLE, "batch", 3, 20, None, BLOCKED_DATE)
    repeated = one(0, "rows", 3, pad, key=True)
    return [
        [one(0, "stream")],
        [one(1, "stream", key=True)],
        [one(0, "rows", 5, pad), one(1, "rows", 2, pad, key=True), one(2, "stream")],
        [one(2, "rows", 20, pad), one(0, "stream"), one(0, "stream", key=True), one(1, "stream")],
        [one(0, "batch", 4, 100, date="2025-12-20")],
        [repeated],
        [repeated],
        [one(1, "rows", 30, pad), one(2, "rows", 30, pad, key=True)],
        [Flush(TABLES[0]), one(0, "rows", 10, pad), one(0, "stream")],
        [blocked],
        [one(1, "batch", 2, 100, key=True), one(2, "rows", 25, pad)],
        [one(0, "stream"), one(1, "stream"), one(2, "stream"), one(0, "rows", 25, pad, key=True)],
        [one(1, "rows", 40, pad), one(2, "rows", 1, 10)],
        [one(2, "batch", 5, 100, date="2025-12-21")],
        [Flush(TABLES[1]), one(1, "rows", 7, pad), one(1, "stream", key=True)],
        [one(0, "rows", 30, pad), one(1, "rows", 30, pad), one(2, "rows", 30, pad, key=True)],
        [one(0, "stream", key=True), one(1, "stream"), one(2, "stream", key=True), one(0, "stream")],
        [one(0, "batch", 1, 10, key=True), one(1, "rows", 12, pad)],
    ]


def requests_of(plan):
    """Every request once, in the order of their numbers."""
    found = {step.req: step for wave in plan for step in wave if isinstance(step, Sent)}
    return [found[number] for number in sorted(found)]


def run_waves(address, plan, alive, sent_already=None):
    """Sends the waves while `alive()`; returns the requests that were sent."""
    began = {} if sent_already is None else sent_already
    with ThreadPoolExecutor(8) as pool:
        for wave in plan:
            if not alive():
                break
            jobs = []
            for step in wave:
                if isinstance(step, Flush):
                    jobs.append(pool.submit(exchange, address, "POST", f"/flush?table_name={step.table}"))
                else:
                    began[step.req] = step
                    jobs.append(pool.submit(send, address, step))
            for job in jobs:
                job.result()
    return list(began.values())
