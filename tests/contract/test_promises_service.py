"""The promises of the service: P24 to P29."""

import datetime
import json
import os
import signal
import statistics
import threading
import time

import pytest

from harness.fault_rig import answer_of
from harness.fault_scenario import Sent, exchange, send
from harness.fault_trace import write_clock
from harness.ingest_client import in_parallel
from harness.lakes import S3Lake
from harness.waiting import wait_until

pytestmark = pytest.mark.once

NDJSON = {"Content-Type": "application/x-ndjson"}
HOUR = 3600


# ---- P24: SIGTERM ----


def test_p24_sigterm_takes_buffered_rows_to_the_lake(rig):
    server = rig.start()
    sent = [Sent(1, "alpha", "stream"), Sent(2, "beta", "rows", 10)]
    for one in sent:
        assert send(server.address(), one)[0] == 200
    began = time.monotonic()
    assert rig.end(server) == 0
    assert time.monotonic() - began < 30
    assert rig.judge([one.entry() for one in sent]) == []


def test_p24_sigterm_without_the_store_keeps_the_rows_for_the_next_start(s3_rig):
    rig = s3_rig
    rig.env["EIDER_DRAIN_MS"] = "2000"
    server = rig.start()
    sent = [Sent(1, "alpha", "stream"), Sent(2, "beta", "rows", 10)]
    with rig.proxy.refused():
        for one in sent:
            assert send(server.address(), one)[0] == 200
        began = time.monotonic()
        assert rig.end(server) == 0
        assert time.monotonic() - began < 10
    assert rig.lake.keys("data/") == []
    rig.recover(retry=False)
    assert rig.judge([one.entry() for one in sent]) == []


def test_p24_a_second_sigterm_ends_at_once_and_loses_nothing(s3_rig):
    rig = s3_rig
    server = rig.start()
    sent = [Sent(1, "alpha", "stream"), Sent(2, "beta", "rows", 10)]
    for one in sent:
        assert send(server.address(), one)[0] == 200
    stalled = rig.proxy.stall(times=100)
    server.send(signal.SIGTERM)
    wait_until(lambda: server.events("server.signal"), 10)
    began = time.monotonic()
    server.send(signal.SIGTERM)
    server.wait()
    assert time.monotonic() - began < 5
    stalled.release()
    rig.proxy.clear()
    rig.recover(retry=False)
    assert rig.judge([one.entry() for one in sent]) == []


# ---- P25: memory ----


def peak_mib(server):
    with open(f"/proc/{server.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


@pytest.mark.slow
def test_p25_memory_does_not_grow_with_bodies_or_backlog(rig):
    """More than 1 GB of rows in 8 bodies at a time: what waits for the disk is limited, and so are pieces of bodies."""
    rig.env |= {"EIDER_LOG_SEGMENT": "16MiB", "EIDER_FLUSH_BYTES": "1GiB"}
    server = rig.start()
    assert send(server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
    before = peak_mib(server)
    line = json.dumps({"req": 1, "n": 2, "of": 1, "pad": "x" * 1900}) + "\n"
    body = line * 8000

    def fill(number):
        return exchange(server.address(), "POST", "/tables/beta/rows", body, NDJSON)[0]

    answers = in_parallel(fill, range(80), 8)
    assert set(answers) <= {200, 503} and 200 in answers, answers
    grown = peak_mib(server) - before
    print(f"{sum(answer == 200 for answer in answers)} bodies of {len(body) >> 20} MiB: {grown:.0f} MiB more")
    assert grown < 200, f"{grown:.0f} MiB more after 1.1 GB of rows"


# ---- P26: overload ----


def test_p26_the_excess_is_refused_fast_and_the_rest_is_served(s3_rig):
    rig = s3_rig
    rig.env |= {"EIDER_MAX_CONCURRENT_INGESTS": "2", "EIDER_MAX_INGEST_QUEUE": "4"}
    server = rig.start()
    assert send(server.address(), Sent(1, "alpha", "batch", 2))[0] == 200
    stalled = rig.proxy.stall(times=100, method="PUT")
    sent = [Sent(number, "alpha", "batch", 2) for number in range(10, 50)]
    took = []

    def ask(one):
        began = time.monotonic()
        status, _ = send(server.address(), one)
        if status == 503:
            took.append(time.monotonic() - began)
        return status

    threads = [threading.Thread(target=ask, args=(one,)) for one in sent]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(took) >= len(sent) - 6, 10, lambda: f"the excess is refused: {len(took)}")
    assert statistics.median(took) < 0.5, took
    began = time.monotonic()
    assert send(server.address(), Sent(60, "alpha", "batch", 2))[0] == 503
    assert time.monotonic() - began < 0.05 * 4
    stalled.release()
    rig.proxy.clear()
    for thread in threads:
        thread.join(60)
    assert sum(one.verdict == "acked" for one in sent) == 6
    assert send(server.address(), Sent(61, "alpha", "batch", 2))[0] == 200, "back to work within the next request"
    assert rig.end(server) == 0
    entries = [one.entry() for one in sent]
    entries += [Sent(number, "alpha", "batch", 2).entry("acked") for number in (1, 61)]
    assert rig.judge(entries) == []


# ---- P27: health ----


def test_p27_ready_says_no_when_records_wait_too_long_and_yes_afterwards(s3_rig):
    rig = s3_rig
    rig.env |= {"EIDER_BACKLOG_AGE_MAX_MS": "500", "EIDER_FLUSH_AGE_MS": "200"}
    server = rig.start()
    ask = lambda path: exchange(server.address(), "GET", path)  # noqa: E731
    assert ask("/health/ready")[0] == 200
    with rig.proxy.refused():
        assert send(server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
        wait_until(lambda: ask("/health/ready")[0] == 503, 10, "not ready with an old backlog")
        body = ask("/health/ready")[1]
        assert json.loads(body)["status"] == "not ready" and json.loads(body)["backlog"]["rows"] == 2
        assert ask("/health/live") == (200, '{"status":"live"}')
        for secret in (rig.lake.server.secret_key, str(rig.data), rig.lake.bucket):
            assert secret not in body, body
    wait_until(lambda: ask("/health/ready")[0] == 200, 90, "ready again, by itself")
    assert rig.end(server) == 0
    assert rig.judge([Sent(1, "alpha", "rows", 2).entry("acked")]) == []


def test_p27_health_is_cheap(rig):
    server = rig.start()
    import http.client

    for path in ("/health/live", "/health/ready"):
        connection = http.client.HTTPConnection(*server.address(), timeout=10)
        took = []
        for _ in range(200):
            began = time.monotonic()
            connection.request("GET", path)
            connection.getresponse().read()
            took.append(time.monotonic() - began)
        connection.close()
        assert statistics.median(took) < 0.005, f"{path}: {statistics.median(took) * 1000:.2f} ms"


# ---- P28: SIGHUP ----

QUIET = "EIDER_FLUSH_AGE_MS=3600000\n"
EAGER = "EIDER_BACKLOG_AGE_MAX_MS=1\nLOG_LEVEL=debug\n"  # both would show at once


class Reloaded:
    """A server with a settings file that tests write anew."""

    def __init__(self, start, folder, text, env=None, lake=None):
        self.file = folder / "eider.conf"
        self.file.write_text(text)
        self.server = start(env, args=["--config", str(self.file)], lake=lake)

    def reload(self, text=None):
        """The line of the log that says what came of it."""
        if text is not None:
            self.file.write_text(text)
        seen = len(self.outcomes())
        self.server.send(signal.SIGHUP)
        wait_until(lambda: len(self.outcomes()) > seen, 10, "an outcome in the log")
        return self.outcomes()[seen]

    def outcomes(self):
        names = ("server.reloaded", "server.reload_refused")
        return [line for line in self.server.log_lines() if line.get("event") in names]

    def backlog(self):
        return json.loads(exchange(self.server.address(), "GET", "/health/ready")[1])["backlog"]

    def is_eager(self):
        """Whether the settings of EAGER are in force, both or neither. A record has to wait, and no line of health to
        be in the log."""
        late = exchange(self.server.address(), "GET", "/health/ready")[0] == 503
        awaited = "/health/ready" if late else "/tables"
        assert exchange(self.server.address(), "GET", "/tables")[0] == 200
        wait_until(lambda: awaited in self.requests(), 10, "the request's line in the log")
        assert ("/health/ready" in self.requests()) == late, "one setting of the file, and not the other"
        return late

    def requests(self):
        return [line["path"] for line in self.server.events("http.request")]


def test_p28_a_good_reload_changes_what_is_hot_while_requests_run(start_eider, tmp_path, s3):
    """The lake's keys are in the environment, where the server has wiped them: they are no change."""
    lake = S3Lake(s3, s3.make_bucket("reload"), "lake", s3.endpoint)
    kept = {"EIDER_FLUSH_ROWS": "1000000"}
    reloaded = Reloaded(start_eider, tmp_path, QUIET + "EIDER_LOG_MAX=1GiB\n", kept, lake)
    server = reloaded.server
    answers, done = [], threading.Event()

    def keep_sending():
        while not done.is_set():
            answers.append(send(server.address(), Sent(len(answers), "alpha", "rows", 2))[0])

    sender = threading.Thread(target=keep_sending)
    sender.start()
    try:
        wait_until(lambda: len(answers) > 20, 10, "requests")
        for number in range(10):
            age = 3600000 + number % 2
            text = f"EIDER_FLUSH_AGE_MS={age}\nEIDER_FLUSH_ROWS=1\nEIDER_LOG_MAX=1024MiB\n"
            outcome = reloaded.reload(text)
            assert outcome["changed"] == ("EIDER_FLUSH_AGE_MS" if number else "nothing"), outcome
        assert reloaded.backlog()["rows"] > 0
    finally:
        done.set()
        sender.join(30)
    assert reloaded.reload("EIDER_FLUSH_AGE_MS=20\nEIDER_LOG_LEVEL=debug\n")["event"] == "server.reload_refused"
    outcome = reloaded.reload("EIDER_FLUSH_AGE_MS=20\nEIDER_LOG_LEVEL=debug\nEIDER_LOG_MAX=1GiB\n")
    assert outcome["changed"] == "EIDER_LOG_LEVEL, EIDER_FLUSH_AGE_MS"
    wait_until(lambda: reloaded.backlog()["rows"] == 0, 30, "rows are flushed by the new age")
    wait_until(lambda: "/health/ready" in reloaded.requests(), 10, "a line of the new level of the log")
    assert set(answers) == {200}
    assert server.sql("SELECT count(*) AS n FROM alpha")["rows"] == [{"n": 2 * len(answers)}]
    assert not server.events("engine.zygote_ended") and not server.events("engine.worker_died")


BAD = {
    "unknown": "EIDER_FLUSH_AEG_MS=1\n",
    "value": "EIDER_FLUSH_ROWS=many\n",
    "line": "no equals sign\n",
    "list": "EIDER_ALLOWED_ENDPOINTS=http://a/b\n",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_p28_a_bad_file_changes_nothing_and_is_told_as_at_start(start_eider, tmp_path, bad):
    reloaded = Reloaded(start_eider, tmp_path, QUIET)
    assert send(reloaded.server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
    outcome = reloaded.reload(QUIET + EAGER + bad)
    assert outcome["event"] == "server.reload_refused" and outcome["level"] == "error"
    assert not reloaded.is_eager()
    started = start_eider(args=["--config", str(reloaded.file)], expect_exit=True)
    assert f"eider: {outcome['error']}" in started.stderr
    assert reloaded.reload(QUIET + EAGER)["changed"] == "EIDER_BACKLOG_AGE_MAX_MS, LOG_LEVEL"
    assert reloaded.is_eager()


@pytest.mark.parametrize("away", ["missing", "folder", "pipe"])
def test_p28_a_file_that_cannot_be_read_changes_nothing(start_eider, tmp_path, away):
    reloaded = Reloaded(start_eider, tmp_path, QUIET + EAGER)
    assert send(reloaded.server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
    reloaded.file.unlink()
    if away == "folder":
        reloaded.file.mkdir()
    elif away == "pipe":
        os.mkfifo(reloaded.file)
    assert str(reloaded.file) in reloaded.reload()["error"]
    assert reloaded.is_eager()


def test_p28_what_needs_a_restart_is_named_and_nothing_changes(start_eider, tmp_path):
    reloaded = Reloaded(start_eider, tmp_path, QUIET)
    assert send(reloaded.server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
    outcome = reloaded.reload(QUIET + EAGER + "EIDER_LOG_FREE_MIN=1MiB\nEIDER_LAKE=/elsewhere\nS3_SECRET_KEY=word\n")
    assert outcome["event"] == "server.reload_refused"
    assert "EIDER_LAKE, EIDER_LOG_FREE_MIN, S3_SECRET_KEY" in outcome["error"] and "restart" in outcome["error"]
    assert "word" not in reloaded.server.stderr
    assert not reloaded.is_eager()
    assert reloaded.reload(QUIET + "EIDER_DATA=/elsewhere\n")["changed"] == "nothing", "the environment wins"


def test_p28_endpoints_are_allowed_and_refused_anew(start_eider, tmp_path, s3):
    listen = {"EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0"}
    reloaded = Reloaded(start_eider, tmp_path, "EIDER_ALLOWED_ENDPOINTS=none\n", listen)
    server = reloaded.server
    tables = [{"name": "t", "s3_path": "none.parquet"}]
    query = {"sql": "SELECT * FROM t", "s3_config": s3.config(s3.make_bucket("reload")), "tables": tables}

    def is_refused():
        return "EIDER_ALLOWED_ENDPOINTS" in server.post("/query", server.snapshot, json=query).text

    assert is_refused()
    assert reloaded.reload("EIDER_ALLOWED_ENDPOINTS=localhost\n")["changed"] == "EIDER_ALLOWED_ENDPOINTS"
    assert not is_refused()
    assert reloaded.reload("EIDER_ALLOWED_ENDPOINTS=none\n")["changed"] == "EIDER_ALLOWED_ENDPOINTS"
    assert is_refused()
    assert reloaded.reload("")["changed"] == "EIDER_ALLOWED_ENDPOINTS"
    assert not is_refused()


def test_p28_without_a_file_nothing_is_read(start_eider):
    server = start_eider()
    for pid in [server.pid, *server.children()]:
        os.kill(pid, signal.SIGHUP)
    wait_until(lambda: server.events("server.reload_refused"), 10, "a line in the log")
    assert "--config" in server.events("server.reload_refused")[0]["error"]
    assert server.post("/ingest", json={"table_name": "t", "records": [{"a": 1}]}).status_code == 200
    assert server.sql("SELECT a FROM t")["rows"] == [{"a": 1}]
    assert not server.events("engine.zygote_ended") and not server.events("engine.worker_died")


def test_p28_a_hangup_during_the_drain_ends_nothing(s3_rig):
    rig = s3_rig
    server = rig.start()
    assert send(server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
    stalled = rig.proxy.stall(times=100)
    server.send(signal.SIGTERM)
    wait_until(lambda: server.events("server.drained"), 10, "the drain")
    server.send(signal.SIGHUP)
    wait_until(lambda: len(server.events("server.signal")) == 2, 10, "SIGHUP is taken")
    assert server.running()
    stalled.release()
    rig.proxy.clear()
    assert server.wait() == 0
    assert rig.judge([Sent(1, "alpha", "rows", 2).entry("acked")]) == []


# ---- P29: clocks ----


def test_p29_steps_of_the_clock_change_no_durability_no_order_and_no_key(rig):
    clock = rig.folder / "clock"
    write_clock(clock, 0)
    server = rig.start(rig.shim(clock=clock))
    sent, positions, first = [], [], {}

    def ask(number, key=None):
        one = Sent(number, "alpha", "rows", 2, key=key)
        status, body = send(server.address(), one)
        assert status == 200, body
        return one, json.loads(body)

    for step, offset in enumerate((0, HOUR, -HOUR, 0, -2 * HOUR, HOUR)):
        write_clock(clock, offset)
        one, body = ask(step + 1, f"key-{step}")
        sent.append(one)
        positions.append(body["position"])
        first[one.key] = body
        for earlier in list(sent):
            again = json.loads(send(server.address(), earlier)[1])
            assert answer_of(json.dumps(again)) == first[earlier.key], "a step of the clock forgot a key"
        if step == 2:
            assert exchange(server.address(), "POST", "/flush?table_name=alpha")[0] == 200
        if step in (1, 3):
            assert server.kill() == -9
            server = rig.start(rig.shim(clock=clock))
    assert positions == sorted(positions) and len(set(positions)) == len(positions)
    assert rig.end(server) == 0
    assert rig.judge([one.entry() for one in sent]) == []


@pytest.mark.parametrize("offset", [HOUR, -HOUR])
def test_p29_a_wrong_clock_delays_the_store_at_most(s3_rig, offset):
    rig = s3_rig
    clock = rig.folder / "clock"
    write_clock(clock, 0)
    server = rig.start(rig.shim(clock=clock))
    assert send(server.address(), Sent(1, "alpha", "rows", 2))[0] == 200
    write_clock(clock, offset)
    assert send(server.address(), Sent(2, "alpha", "rows", 2))[0] == 200
    flush = lambda: exchange(server.address(), "POST", "/flush?table_name=alpha")[0] == 200  # noqa: E731
    wait_until(flush, 60, "a flush with a wrong clock", 0.2)
    assert rig.end(server) == 0
    assert rig.judge([Sent(number, "alpha", "rows", 2).entry("acked") for number in (1, 2)]) == []


def test_p29_a_clock_that_went_far_ahead_deletes_nothing(rig):
    """Retention with a clock that is 400 days ahead: at the start, and as long as nobody has seen it go on steadily."""
    clock = rig.folder / "clock"
    write_clock(clock, 0)
    server = rig.start(rig.shim(clock=clock))
    put = lambda day: exchange(server.address(), "POST", f"/tables/alpha/rows?partition_date={day}", '{"n":1}\n', NDJSON)  # noqa: E731
    today = datetime.datetime.now(datetime.UTC).date()
    for days in (0, 1, 2):
        assert put(today - datetime.timedelta(days=days))[0] == 200
        assert exchange(server.address(), "POST", "/flush?table_name=alpha")[0] == 200
    rule = json.dumps({"retention_days": 1})
    assert exchange(server.address(), "PUT", "/tables/alpha", rule, {"Content-Type": "application/json"})[0] in (200, 201)
    assert server.kill() == -9
    write_clock(clock, 400 * 24 * HOUR)
    server = rig.start(rig.shim(clock=clock))
    assert server.events("lake.clock_doubted")[0]["ahead_s"] > 399 * 24 * HOUR
    for _ in range(3):  # each is followed by the house work that retention is part of
        assert put(today)[0] == 200
        assert exchange(server.address(), "POST", "/flush?table_name=alpha")[0] == 200
    assert rig.end(server) == 0
    days = sorted(key.split("/data_")[0][-2:] for key in rig.lake.table_keys("alpha"))
    assert len(days) == 6, f"objects are gone: {days}"
    write_clock(clock, 0)
    server = rig.start(rig.shim(clock=clock))
    wait_until(lambda: len(rig.lake.table_keys("alpha")) == 5, 20, "the one that is too old goes, now that it is")
    assert rig.end(server) == 0
