"""Promise P4: one Idempotency-Key, one body, one answer, on every route that takes records."""

import json

import pytest

from harness.ingest_client import accepted, in_parallel, post_batch
from harness.lakes import FolderLake, S3Lake
from harness.prometheus import scrape
from harness.raw_http import RawConnection
from harness.rows_client import NDJSON, NO_FLUSH, buffered, count, flushed, kept, ndjson, post_rows, stored, stream

SETTINGS = {"EIDER_INGEST_LISTEN": "127.0.0.1:0", **NO_FLUSH}


@pytest.fixture(scope="module")
def server(eider_binary, tmp_path_factory):
    from conftest import _factory

    factory = _factory(eider_binary, tmp_path_factory)
    yield factory(SETTINGS, lake=FolderLake())
    factory.finish()


def post_stream(server, table, key, value=1):
    return stream(server, table, {"a": value}, key=key)


def post_ingest(server, table, key, value=1, date=None):
    return post_batch(server, table, [{"a": value}, {"a": value}], date, headers={"Idempotency-Key": key})


def post_ndjson(server, table, key, value=1, **parameters):
    return post_rows(server, table, ndjson([{"a": value}] * 3), headers={"Idempotency-Key": key}, **parameters)


POSTS = {"stream": post_stream, "ingest": post_ingest, "rows": post_ndjson}
EACH = pytest.mark.parametrize("post", POSTS.values(), ids=POSTS)


def without_repeated(answer):
    body = answer.json()
    body.pop("repeated", None)
    return body


def total(server, table):
    return server.sql(f"SELECT count(*) AS n FROM {table}")["rows"][0]["n"]


@EACH
def test_the_same_key_and_body_is_stored_once(server, table, post):
    first = post(server, table, "key one")
    assert first.status_code == 200, first.text
    assert "Idempotency-Replayed" not in first.headers
    rows = total(server, table)
    for _ in range(3):
        again = post(server, table, "key one")
        assert again.status_code == 200
        assert again.headers["Idempotency-Replayed"] == "true"
        assert without_repeated(again) == first.json()
    assert total(server, table) == rows
    assert post(server, table, "key two").status_code == 200
    assert total(server, table) == 2 * rows


def test_rows_say_that_they_are_repeated(server, table):
    assert "repeated" not in post_ndjson(server, table, "k").json()
    assert post_ndjson(server, table, "k").json()["repeated"] is True


@EACH
def test_another_body_is_422(server, table, post):
    assert post(server, table, "k", 1).status_code == 200
    rows = total(server, table)
    answer = post(server, table, "k", 2)
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.text
    assert total(server, table) == rows


def test_another_date_is_another_body(server, table):
    assert post_ingest(server, table, "k", date="2025-12-20").status_code == 200
    assert post_ingest(server, table, "k", date="2025-12-20").status_code == 200
    assert post_ingest(server, table, "k", date="2025-12-21").status_code == 422
    assert post_ingest(server, table, "k").status_code == 422
    assert post_ndjson(server, table, "r").status_code == 200
    assert post_ndjson(server, table, "r", partition_date="2025-12-21").status_code == 422
    assert total(server, table) == 5


def test_a_key_is_of_one_route_and_one_table(server, table):
    for post in POSTS.values():
        for name in (table, f"{table}_b"):
            answer = post(server, name, "shared")
            assert answer.status_code == 200 and "Idempotency-Replayed" not in answer.headers
    assert total(server, table) == total(server, f"{table}_b") == 6


@EACH
def test_after_kill_and_restart_the_answer_is_the_same(start_eider, table, post):
    server = start_eider(SETTINGS, lake=FolderLake())
    first = post(server, table, "k")
    assert first.status_code == 200
    server.kill()
    again = start_eider(SETTINGS, lake=FolderLake(), data=server.data)
    answer = post(again, table, "k")
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert without_repeated(answer) == first.json()
    assert post(again, table, "k", 2).status_code == 422
    assert total(again, table) == (3 if post is post_ndjson else 2 if post is post_ingest else 1)


@pytest.mark.once
def test_a_key_outlives_the_flush_of_its_rows(start_eider, table):
    server = start_eider(SETTINGS, lake=FolderLake())
    first = post_ndjson(server, table, "k").json()
    flushed(server, table)
    for _ in range(2):
        assert server.stop() == 0
        server = start_eider(SETTINGS, lake=FolderLake(), data=server.data)
        assert without_repeated(post_ndjson(server, table, "k")) == first
    assert total(server, table) == 3


def test_a_refused_request_leaves_its_key_free(server, table):
    bad = post_rows(server, table, b'{"a":', headers={"Idempotency-Key": "k"})
    assert bad.status_code == 422
    answer = post_ndjson(server, table, "k")
    assert answer.status_code == 200 and "Idempotency-Replayed" not in answer.headers


def test_a_failed_batch_leaves_its_key_free(start_eider, own_s3, table):
    server = start_eider(SETTINGS, lake=S3Lake(own_s3, own_s3.make_bucket()))
    accepted(server, post_ingest(server, table, "first"))
    own_s3.stop()
    assert post_ingest(server, table, "k").status_code == 502
    own_s3.start()
    answer = post_ingest(server, table, "k")
    assert answer.status_code == 200 and "Idempotency-Replayed" not in answer.headers
    assert total(server, table) == 4


def test_while_the_first_is_running_it_is_409(server, table, wait_until):
    body = ndjson([{"a": 1}] * 40_000)  # of which enough comes to begin with it
    before = scrape(server).value("eider_lane_wait_seconds_count", lane="rows")
    with RawConnection(server.address()) as connection:
        headers = [f"Content-Type: {NDJSON}", f"Content-Length: {len(body)}", "Idempotency-Key: k"]
        connection.request("POST", f"/tables/{table}/rows", headers, body[:-10])
        wait_until(lambda: scrape(server).value("eider_lane_wait_seconds_count", lane="rows") > before)
        answer = wait_until(lambda: [running(post_ndjson(server, table, "k", 2))], 20)[0]
        assert answer.json()["code"] == "conflict"
        connection.send(body[-10:])
        assert connection.answer().json()["accepted"] == 40_000
    assert post_rows(server, table, body, headers={"Idempotency-Key": "k"}).json()["repeated"] is True
    assert total(server, table) == 40_000


def running(answer):
    assert answer.status_code == 409, answer.text
    return answer


def test_of_many_at_once_one_is_stored(server, table):
    answers = in_parallel(lambda _: post_ndjson(server, table, "k"), range(24), threads=24)
    assert {answer.status_code for answer in answers} <= {200, 409}
    stored_ones = [answer for answer in answers if answer.status_code == 200 and "repeated" not in answer.json()]
    assert len(stored_ones) == 1
    assert total(server, table) == 3


@pytest.mark.parametrize("key", ["", "k" * 256, "caf\xe9", "a\tb"])
def test_keys_that_are_none_are_400(server, table, key):
    path = f"/ingest/stream?table_name={table}"
    body = json.dumps({"data": {"a": 1}}).encode()
    with RawConnection(server.address()) as connection:
        raw = b"POST " + path.encode() + b" HTTP/1.1\r\nHost: eider\r\nContent-Type: application/json\r\n"
        raw += b"Content-Length: %d\r\nIdempotency-Key: %s\r\n\r\n" % (len(body), key.encode("latin-1"))
        connection.send(raw + body)
        assert connection.answer().status == 400
    assert count(server, table) == 0


def test_long_keys_are_told_apart(server, table):
    buffered(server, table, {"a": 1}, key="k" * 254 + "a")
    buffered(server, table, {"a": 1}, key="k" * 254 + "b")
    buffered(server, table, {"a": 1}, key="k" * 254 + "b")
    assert count(server, table) == 2


def test_dead_letters_are_repeated_too(server, table):
    def post():
        return kept(
            post_rows(server, table, b'{"a":1}\n{bad\n', headers={"Idempotency-Key": "k"}, on_error="dead_letter")
        )

    first = post()
    assert (first["accepted"], first["dead_letters"]) == (1, 1)
    assert post() == {**first, "repeated": True}
    flushed(server, f"{table}__dead_letter")
    assert len(stored(server, f"{table}__dead_letter")) == 1
