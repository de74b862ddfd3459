"""A hosted database that is slow keeps nobody waiting but those who ask it: no database has more of the server's places
than it leaves free for the others."""

import time

import pytest

from harness.hosted import LISTENER, PREFIX, Hosted
from harness.prometheus import scrape
from harness.snapshot_client import RawPost

pytestmark = pytest.mark.once

PLACES, QUEUE = 8, 16
SLOW = "SELECT count(*) FROM range(100000000000) r(i) WHERE i % 7 = 3"
IN_TIME = 30.0  # of 60 s that the slow ones have


@pytest.fixture
def hosted(start_eider):
    env = {**LISTENER, "EIDER_DATABASE_REQUESTS": PLACES, "EIDER_DATABASE_QUEUE": QUEUE}
    return Hosted(start_eider(env))


def in_lane(server, what):
    return scrape(server).value(f"eider_lane_{what}", lane="database")


def test_a_slow_database_keeps_no_other_waiting(hosted, wait_until):
    hosted.make("other")
    body = {"query": SLOW, "timeout_seconds": 60}
    # The default database by both of its names: they have one share.
    paths = (PREFIX + "/query", PREFIX + "/databases/default/query")
    began = time.monotonic()
    slow = [RawPost(hosted.base, paths[i % 2], body) for i in range(PLACES // 2)]
    wait_until(lambda: in_lane(hosted.server, "running") == PLACES // 2, 30, "its share runs")
    slow += [RawPost(hosted.base, paths[i % 2], body) for i in range(QUEUE // 2)]
    wait_until(lambda: in_lane(hosted.server, "queued") == QUEUE // 2, 30, "its share waits")
    assert in_lane(hosted.server, "running") == PLACES // 2
    refused = hosted.query("SELECT 1")
    assert refused.status_code == 503 and "Retry-After" in refused.headers, refused.text
    assert "share of the queue full" in refused.text
    for path in ("/health", "/databases/other/health", "/databases"):
        assert hosted.request("GET", path, timeout=IN_TIME).status_code == 200
    for number in range(20):
        assert hosted.value(f"SELECT {number}", "other") == number
    assert time.monotonic() - began < IN_TIME
    for post in slow:
        post.close()
    wait_until(lambda: hosted.query("SELECT 1").status_code == 200, 30, "its own turn comes again")
