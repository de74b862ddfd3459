"""Hours in minutes: 200 clients mix reads, writes, batches and cancels; a checker replays what was accepted. EIDER_SOAK_S
says for how long (default 600 s)."""

import itertools
import os
import random
import statistics
import threading
import time

import pytest
import requests

from harness.hosted import FRESH, LISTENER, PREFIX, Hosted
from harness.snapshot_processes import resident_bytes

SECONDS = int(os.environ.get("EIDER_SOAK_S", "600"))
CLIENTS = 200
RING = 64  # accounts whose sum never changes
SLOW = "SELECT count(*) FROM range(100000000000) r(i) WHERE i % 7 = 3"


class Client(threading.Thread):
    """One keep-alive connection. Remembers what was accepted, and whatever should not have been answered."""

    def __init__(self, hosted, number, numbers, stop, log):
        super().__init__(daemon=True)
        self.url = hosted.base + PREFIX
        self.chance = random.Random(number)
        self.numbers, self.stop_event, self.log = numbers, stop, log
        self.accepted, self.unknown, self.wrong = [], set(), []
        self.statuses = {}

    def post(self, path, body, timeout=60):
        began = time.monotonic()
        answer = self.session.post(self.url + path, json=body, timeout=timeout, headers=FRESH)
        ended = time.monotonic()
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        return answer, began, ended

    def note(self, kind, began, ended):
        self.log.append((ended, kind, ended - began))

    def run(self):
        self.session = requests.Session()
        while not self.stop_event.is_set():
            try:
                self.step(self.chance.random())
            except requests.RequestException as error:
                self.wrong.append(repr(error))
                self.session = requests.Session()

    def step(self, chance):
        if chance < 0.55:
            self.read()
        elif chance < 0.75:
            self.write()
        elif chance < 0.9:
            self.move()
        elif chance < 0.97:
            self.mistake()
        else:
            self.leave()

    def read(self):
        """The sum of the accounts is the same in every snapshot, and what this client has written is there."""
        answer, began, ended = self.post("/query", {"query": "SELECT sum(v), count(*) FROM accounts"})
        if answer.status_code == 200:
            self.note("read", began, ended)
            if answer.json()["data"] != [[RING * 1000, RING]]:
                self.wrong.append(answer.text)
        mine = self.accepted[-1] if self.accepted else None
        if mine is not None:
            body = {"query": "SELECT b FROM rows WHERE a = $1", "params": {"1": mine}}
            answer, began, ended = self.post("/query", body)
            if answer.status_code == 200:
                self.note("read", began, ended)
                if answer.json()["data"] != [[mine * 3]]:
                    self.wrong.append(f"{mine}: {answer.text}")

    def write(self):
        number = next(self.numbers)
        body = {"query": "INSERT INTO rows VALUES ($1, $2)", "params": {"1": number, "2": number * 3}}
        self.wrote(number, "write", "/query", body)

    def move(self):
        """A batch that moves an amount between two accounts, and writes down that it did."""
        number = next(self.numbers)
        a, b = self.chance.sample(range(RING), 2)
        statements = [
            f"UPDATE accounts SET v = v - 1 WHERE k = {a}",
            f"INSERT INTO rows VALUES ({number}, {number * 3})",
            f"UPDATE accounts SET v = v + 1 WHERE k = {b}",
        ]
        self.wrote(number, "batch", "/batch", {"queries": statements})

    def wrote(self, number, kind, path, body):
        self.unknown.add(number)  # until somebody says more
        answer, began, ended = self.post(path, body)
        if answer.status_code == 200:
            self.unknown.discard(number)
            self.accepted.append(number)
            self.note(kind, began, ended)
        elif answer.status_code == 400:
            self.wrong.append(answer.text)

    def mistake(self):
        answer, _, _ = self.post("/query", {"query": self.chance.choice(["SELEC", "FROM nowhere", "SELECT 'x'::INT"])})
        if answer.status_code not in (400, 503):
            self.wrong.append(answer.text)

    def leave(self):
        """A query nobody waits for, and one that is past its deadline at once."""
        if self.chance.random() < 0.8:
            try:
                self.session.post(self.url + "/query", json={"query": SLOW}, timeout=0.3)
                self.wrong.append("an answer that cannot be")
            except requests.RequestException:
                self.session = requests.Session()
            return
        answer, _, _ = self.post("/query", {"query": SLOW, "timeout_seconds": 1})
        if answer.status_code not in (408, 503):
            self.wrong.append(answer.text)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def look(hosted):
    pid = hosted.process()
    return {
        "server MiB": resident_bytes(hosted.server.pid) >> 20,
        "server fds": descriptors(hosted.server.pid),
        "database MiB": resident_bytes(pid) >> 20,
        "database fds": descriptors(pid),
    }


def p99(log, kind, begin, end):
    found = sorted(took for ended, what, took in log if what == kind and begin <= ended < end)
    return (found[len(found) * 99 // 100] * 1000, len(found)) if found else (0.0, 0)


def report(log, begin, seconds):
    """A line for each minute: requests and p99 of each kind. Returns the p99 of each kind, minute by minute, in ms."""
    copied = list(log)
    step = min(60, max(1, seconds // 5))
    found = {kind: [] for kind in ("read", "write", "batch")}
    for minute in range(0, seconds, step):
        figures = {kind: p99(copied, kind, begin + minute, begin + minute + step) for kind in found}
        print(f"{minute:5d} s: " + "; ".join(f"{kind} {count} p99 {ms:.0f} ms" for kind, (ms, count) in figures.items()))
        for kind, (ms, _) in figures.items():
            found[kind].append(ms)
    return found


def grows(values):
    """The second half is slower than the first: by more than other work on the machine makes it."""
    half = len(values) // 2
    return statistics.median(values[half:]) > 2 * statistics.median(values[:half]) + 250


@pytest.mark.long
def test_two_hundred_clients(start_eider, wait_until, no_deadline):
    hosted = Hosted(
        start_eider({**LISTENER, "DUCKDB_MEMORY_LIMIT": "1GB", "EIDER_DATABASE_REQUESTS": 256})
    )
    hosted.rows("CREATE TABLE rows(a BIGINT, b BIGINT)")
    hosted.rows(f"CREATE TABLE accounts AS SELECT i AS k, 1000 AS v FROM range({RING}) r(i)")
    numbers, stop, log = itertools.count(1), threading.Event(), []
    clients = [Client(hosted, number, numbers, stop, log) for number in range(CLIENTS)]
    begin = time.monotonic()
    for client in clients:
        client.start()
    looks = []
    wait_until(lambda: time.monotonic() - begin > SECONDS * 0.25, SECONDS, "warm", 0.5)
    looks.append(look(hosted))
    wait_until(lambda: time.monotonic() - begin > SECONDS, SECONDS + 60, "the time is over", 0.5)
    looks.append(look(hosted))
    stop.set()
    for client in clients:
        client.join(90)
        assert not client.is_alive()
    slowest = report(log, begin, SECONDS)
    print(*looks, sep="\n")
    statuses = {}
    for client in clients:
        for status, count in client.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    print("statuses", statuses)

    accepted = set().union(*(client.accepted for client in clients))
    unknown = set().union(*(client.unknown for client in clients))
    print(f"{len(accepted)} writes accepted, {len(unknown)} without an answer that says so")
    assert [text for client in clients for text in client.wrong][:5] == []
    found = hosted.rows("SELECT a, b FROM rows")
    seen = {a for a, _ in found}
    assert len(seen) == len(found) and all(b == a * 3 for a, b in found)
    assert accepted <= seen <= accepted | unknown
    assert hosted.rows("SELECT sum(v), count(*) FROM accounts") == [[RING * 1000, RING]]
    assert hosted.breaker()["metrics"]["circuit_open_count"] == 0
    assert not [kind for kind, values in slowest.items() if grows(values)], slowest
    before, after = looks
    assert after["server MiB"] < before["server MiB"] * 1.5 + 40
    assert after["server fds"] < before["server fds"] + 100
    assert after["database fds"] <= before["database fds"] + 4
    assert after["database MiB"] < 1300
