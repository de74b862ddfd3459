"""P21: kill -9 during commits, of the database's process and of the server: what was acknowledged is there, what was
refused is not, and the database opens. EIDER_KILLS says how often the long tests kill (default 100)."""

import itertools
import os
import random
import threading

import pytest
import requests

from harness.hosted import LISTENER, Hosted

KILLS = 6
KILLS_LONG = int(os.environ.get("EIDER_KILLS", "100"))
WRITERS = 4
BULK = 500  # rows of one statement: all of them, or none


class Writer:
    """Sends numbered writes of three kinds and remembers what it was told of each."""

    def __init__(self, hosted, numbers):
        self.hosted = hosted
        self.numbers = numbers
        self.accepted, self.refused = set(), set()

    def write(self, number):
        if number % 20 == 19:
            self.hosted.query("CHECKPOINT")
        if number % 3 == 0:
            return self.hosted.query(f"INSERT INTO one VALUES ({number}, {number * 7})")
        if number % 3 == 1:
            both = [f"INSERT INTO one VALUES ({number}, {number * 7})", f"INSERT INTO two VALUES ({number})"]
            return self.hosted.batch(both)
        return self.hosted.query(f"INSERT INTO one SELECT {number}, i FROM range({BULK}) r(i)")

    def run(self, stop):
        while not stop.is_set():
            number = next(self.numbers)
            try:
                answer = self.write(number)
            except requests.RequestException:
                continue  # nobody has said anything
            if answer.status_code == 200:
                self.accepted.add(number)
            elif "has ended" in answer.text or "OPEN" in answer.text:
                self.refused.add(number)


def check(hosted, accepted, refused):
    """Every acknowledged write, whole; nothing that was refused; nothing in parts."""
    rows = dict(hosted.rows("SELECT a, count(*) FROM one GROUP BY a"))
    assert accepted <= set(rows), sorted(accepted - set(rows))[:10]
    assert not refused & set(rows)
    parts = {a: n for a, n in rows.items() if n != (BULK if a % 3 == 2 else 1)}
    assert not parts, parts
    wrong = hosted.rows("SELECT a, b FROM one WHERE a % 3 <> 2 AND b <> a * 7")
    assert not wrong
    two = {a for (a,) in hosted.rows("SELECT a FROM two")}
    assert two == {a for a in rows if a % 3 == 1}, "a batch was committed in parts"


def kill_during_commits(hosted, kills, kill, wait_until):
    """`kill(hosted)` -> the server to go on with."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    numbers = itertools.count()
    hosted.rows("CREATE TABLE one(a INTEGER, b INTEGER); CREATE TABLE two(a INTEGER PRIMARY KEY)")
    accepted, refused = set(), set()
    pause = threading.Event()
    for _ in range(kills):
        writers = [Writer(hosted, numbers) for _ in range(WRITERS)]
        stop = threading.Event()
        threads = [threading.Thread(target=writer.run, args=(stop,)) for writer in writers]
        for thread in threads:
            thread.start()
        wait_until(lambda: sum(len(writer.accepted) for writer in writers) >= 5, 30, "writes are accepted")
        pause.wait(chance.uniform(0, 0.15))
        hosted = kill(hosted)
        stop.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        accepted |= set().union(*(writer.accepted for writer in writers))
        refused |= set().union(*(writer.refused for writer in writers))
        hosted.reset_breaker()
        wait_until(lambda: hosted.query("SELECT 1").status_code == 200, 30, "the database opens")
        check(hosted, accepted, refused)
    assert not hosted.set_aside()
    print(f"{len(accepted)} writes were accepted, {next(numbers)} sent")
    return hosted


def kill_process(hosted):
    hosted.kill_process()
    return hosted


def killer_of_servers(start_eider):
    def kill(hosted):
        hosted.server.kill()
        return Hosted(start_eider(LISTENER, data=hosted.server.data))

    return kill


@pytest.mark.once
@pytest.mark.parametrize("whom", ["process", "server"])
def test_what_was_acknowledged_survives_a_kill(start_eider, wait_until, whom):
    hosted = Hosted(start_eider(LISTENER))
    kill_during_commits(hosted, KILLS, kill_process if whom == "process" else killer_of_servers(start_eider), wait_until)


@pytest.mark.long
@pytest.mark.parametrize("whom", ["process", "server"])
def test_what_was_acknowledged_survives_many_kills(start_eider, wait_until, no_deadline, whom):
    hosted = Hosted(start_eider(LISTENER))
    kill_during_commits(
        hosted, KILLS_LONG, kill_process if whom == "process" else killer_of_servers(start_eider), wait_until
    )
