"""The promises of the lake: P13 to P15. P10 to P12 come with table commits; what is in a lake of plain objects is judged
by harness.lake_oracle in fault/."""

import datetime
import json
import random
import threading

import pytest

from harness.fault_scenario import Sent, exchange, requests_of, send, waves
from harness.fault_trace import write_clock
from harness.ingest_client import in_parallel
from harness.waiting import wait_until

pytestmark = pytest.mark.once

NDJSON = {"Content-Type": "application/x-ndjson"}
DAY_SECONDS = 86400


# ---- P13: nothing is overwritten ----


def test_p13_every_put_is_create_only_and_no_object_ever_changes(s3_rig):
    rig = s3_rig
    plan = waves(pad=1000)
    server = rig.start()
    versions = {}

    def look():
        listed = rig.lake.server.client().list_objects_v2(Bucket=rig.lake.bucket).get("Contents", [])
        for item in listed:
            before = versions.setdefault(item["Key"], item["ETag"])
            assert before == item["ETag"], f"{item['Key']} has changed"

    for number, wave in enumerate(plan):
        for step in wave:
            if isinstance(step, Sent) and step.date != "2031-03-03":
                assert send(server.address(), step)[0] == 200
        exchange(server.address(), "POST", "/flush?table_name=alpha")
        look()
        if number % 5 == 4:
            server.kill()
            server = rig.start()
    assert rig.end(server) == 0
    look()
    puts = rig.proxy.requests(method="PUT")
    assert len(puts) >= 10
    for one in puts:
        assert one.headers.get("if-none-match") == "*" or "partNumber" in one.query, f"PUT {one.key} may overwrite"
    entries = [one.entry() for one in requests_of(plan) if one.date != "2031-03-03"]
    assert rig.judge(entries) == []


def test_p13_a_lost_answer_to_a_put_makes_no_second_object(s3_rig):
    """The store has it, nobody was told: the same name again, and its 412 is our own success."""
    rig = s3_rig
    server = rig.start()
    rig.proxy.drop_answer(times=4, method="PUT", key=r"data/")
    sent = [Sent(1, "alpha", "rows", 10), Sent(2, "alpha", "batch", 4), Sent(3, "beta", "batch", 2, key="k")]
    for one in sent:
        send(server.address(), one)
    exchange(server.address(), "POST", "/flush?table_name=alpha")
    assert rig.end(server) == 0
    rig.recover(retry=False)
    assert sent[0].verdict == "acked"
    assert rig.judge([one.entry() for one in sent]) == []


@pytest.mark.parametrize("crash", [False, True], ids=["no-crash", "crash"])
def test_p13_an_object_that_turns_up_after_its_batch_was_given_up_is_no_second_copy(s3_rig, crash):
    """The store takes the PUT long after the server has given up and told the client, who tries again with its key."""
    rig = s3_rig
    rig.env["EIDER_INGEST_TIMEOUT_MS"] = "1500"
    server = rig.start()
    assert send(server.address(), Sent(1, "alpha", "batch", 2))[0] == 200
    late = threading.Event()
    rig.proxy.before(lambda: late.wait(60), method="PUT", key=r"data/alpha/.*-b\d+\.parquet")
    rig.proxy.fail(500, times=50, method="PUT", key=r"data/alpha/.*-b\d+\.parquet")
    one = Sent(2, "alpha", "batch", 3, key="k")
    status, body = send(server.address(), one)
    assert status is not None and status >= 500, body
    if crash:
        assert server.kill() == -9
    before = rig.lake.keys("data/")
    late.set()
    wait_until(lambda: len(rig.lake.keys("data/")) > len(before), 10, "the late object")
    rig.proxy.clear()
    if crash:
        server = rig.start()
    status, body = send(server.address(), one)
    assert status == 200, body

    def once():
        return not rig.judge([Sent(1, "alpha", "batch", 2).entry("acked"), one.entry()])

    wait_until(once, 30, lambda: rig.judge([Sent(1, "alpha", "batch", 2).entry("acked"), one.entry()]), 0.2)
    assert rig.end(server) == 0


# ---- P14: a record's day stays its day ----


def test_p14_replay_on_another_day_moves_no_record(rig):
    """The first server lives two days before the second: what it accepted stays on its day."""
    clock = rig.folder / "clock"
    write_clock(clock, -2 * DAY_SECONDS)
    day = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)).date()
    server = rig.start(rig.shim(clock=clock))
    sent = [Sent(1, "alpha", "stream"), Sent(2, "alpha", "rows", 3), Sent(3, "alpha", "batch", 2)]
    for one in sent[:2]:
        assert send(server.address(), one)[0] == 200
    body = '{"req":9,"n":0,"of":1}\n'
    given = exchange(server.address(), "POST", "/tables/alpha/rows?partition_date=2024-02-29", body, NDJSON)
    assert given[0] == 200, given
    assert send(server.address(), sent[2])[0] == 200
    assert server.kill() == -9
    rig.recover(retry=False)
    days = {key.split("/data_")[0] for key in rig.lake.table_keys("alpha")}
    here = f"data/alpha/year={day.year:04}/month={day.month:02}/day={day.day:02}"
    assert days == {here, "data/alpha/year=2024/month=02/day=29"}
    assert rig.judge([*(one.entry() for one in sent), Sent(9, "alpha", "rows").entry("acked")]) == []


def test_p14_a_declared_column_decides_the_day_also_in_a_replay(rig):
    server = rig.start()
    rule = {"columns": [{"name": "moment", "type": "TIMESTAMP"}], "partition_by": "moment"}
    status, body = exchange(
        server.address(), "PUT", "/tables/alpha", json.dumps(rule), {"Content-Type": "application/json"}
    )
    assert status in (200, 201), body
    rows = [{"req": 1, "n": n, "of": 4, "moment": f"2025-0{n + 1}-01T23:59:59.999Z"} for n in range(4)]
    body = "".join(json.dumps(row) + "\n" for row in rows)
    assert exchange(server.address(), "POST", "/tables/alpha/rows", body, NDJSON)[0] == 200
    assert server.kill() == -9
    rig.recover(retry=False)
    days = [key.split("/data_")[0] for key in rig.lake.table_keys("alpha")]
    assert days == [f"data/alpha/year=2025/month=0{n + 1}/day=01" for n in range(4)]
    assert rig.judge([Sent(1, "alpha", "rows", 4).entry("acked")]) == []


# ---- P15: what is left behind is bounded ----


def test_p15_a_crash_in_the_middle_of_a_put_leaves_at_most_one_file(rig):
    """Killed before each of five objects gets its name: under data/ there is nothing of it, beside it one file each."""
    sent = []
    for life in range(5):
        server = rig.start(rig.shim(kill="1:before", only="rename", path="/.eider-tmp/"))
        sent.append(Sent(life + 1, "alpha", "rows", 10))
        if server.running():  # the flush that the crash interrupted goes on by itself, and may be faster
            send(server.address(), sent[-1])
            exchange(server.address(), "POST", "/flush?table_name=alpha")
        server.wait()
        assert server.returncode == -9
    rig.recover(retry=False)
    assert rig.judge([one.entry() for one in sent]) == []
    left = [path for path in (rig.lake.root / ".eider-tmp").iterdir()]
    assert len(left) <= 5 * 2, left


def test_p15_the_logs_do_not_grow_with_restarts(rig):
    """Each start writes what still counts once more: once, and not twice of what the start before has written."""
    sent, sizes = [], []
    for _ in range(14):
        server = rig.start()
        assert server.running(), server.stderr
        for way in ("batch", "rows") * 4:
            sent.append(Sent(len(sent) + 1, "alpha", way, 1))
            assert send(server.address(), sent[-1])[0] == 200
        assert server.kill() == -9
        files = sorted((rig.data / "log" / "plans").glob("*.wal"))
        sizes.append(sum(path.stat().st_size for path in files[:-1]))  # the last one has its whole size from the start
    assert sizes[-1] < 64 << 10, sizes
    rig.recover(retry=False)
    assert rig.judge([one.entry() for one in sent]) == []


def test_p15_left_uploads_of_this_writer_are_aborted_at_the_start_and_no_others(s3_rig):
    rig = s3_rig
    server = rig.start()
    assert send(server.address(), Sent(1, "alpha", "batch", 2))[0] == 200
    assert server.kill() == -9
    key = rig.lake.table_keys("alpha")[0]
    stem, _, last = key.rpartition("/")
    writer = last.split("_")[2].split("-")[0]
    client = rig.lake.server.client()
    others = [
        f"{stem}/data_000000_ffffffffffff-r1-9.parquet",
        "data/alpha/half.parquet",
        f"_eider/data_000000_{writer}-b7.parquet",
    ]
    own = [f"{stem}/data_000000_{writer}-r1-9.parquet", f"data/some where/data_000001_{writer}-b7.parquet"]
    for name in others + own:
        client.create_multipart_upload(Bucket=rig.lake.bucket, Key=rig.lake.prefix + name)

    def left():
        found = rig.lake.server.uploads(rig.lake.bucket)
        return sorted(one["Key"][len(rig.lake.prefix) :] for one in found)

    server = rig.start()
    wait_until(lambda: left() == sorted(others), 20, left)
    assert rig.end(server) == 0
    assert left() == sorted(others)


@pytest.mark.long
def test_p15_multipart_uploads_that_a_crash_left_are_aborted(s3_rig, no_deadline):
    rig = s3_rig
    rig.env["EIDER_FLUSH_BYTES"] = "512MiB"
    rig.env["EIDER_LOG_SEGMENT"] = "64MiB"
    server = rig.start()
    noise = random.Random(1)
    sent = []

    def fill(number):
        rows = [{"req": number, "n": n, "of": 500, "pad": noise.randbytes(10000).hex()} for n in range(500)]
        body = "".join(json.dumps(row) + "\n" for row in rows)
        sent.append(Sent(number, "alpha", "rows", 500).entry("acked"))
        return exchange(server.address(), "POST", "/tables/alpha/rows", body, NDJSON)[0]

    assert in_parallel(fill, range(1, 16), 2) == [200] * 15
    rig.proxy.before(lambda: server.process.kill(), skip=1, query="partNumber")
    exchange(server.address(), "POST", "/flush?table_name=alpha", seconds=200)
    assert server.wait() == -9
    server = rig.start()
    wait_until(lambda: exchange(server.address(), "GET", "/health/ready")[0] == 200, 30)
    assert exchange(server.address(), "POST", "/flush?table_name=alpha", seconds=200)[0] == 200
    assert rig.end(server) == 0
    assert rig.lake.server.uploads(rig.lake.bucket) == []
    assert rig.judge(sent) == []
