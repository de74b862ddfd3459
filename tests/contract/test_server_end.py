"""How a server ends: drain on SIGTERM, nothing left behind, children that notice."""

import os
import signal
import threading

import pytest

from harness.ingest_client import accepted, post_batch
from harness.lakes import FolderLake, S3Lake
from harness.parquet_readers import read_table
from harness.processes import processes_of_session
from harness.raw_http import RawConnection

INGEST = {"EIDER_INGEST_LISTEN": "127.0.0.1:0"}


@pytest.fixture
def busy(start_eider, s3, s3_proxy, table):
    """A server with one /ingest in flight, held at the store: (server, stall, thread, answers)."""
    server = start_eider(INGEST, lake=S3Lake(s3, s3.make_bucket(), endpoint=s3_proxy.endpoint))
    stall = s3_proxy.stall(key=f"/data/{table}/")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(post_batch(server, table, [{"a": 1}])))
    thread.start()
    s3_proxy.wait_for(1, key=f"/data/{table}/")
    yield server, stall, thread, answers
    stall.release()
    thread.join(30)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_completed(busy, table, wait_until, signum):
    server, stall, thread, answers = busy
    address = server.address("ingest")
    server.send(signum)

    def takes_no_more():
        try:
            with RawConnection(address, 1) as connection:
                connection.request("POST", "/ingest", ["Content-Length: 2"], b"{}")
                answer = connection.answer()
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
        return answer is None or answer.status == 503

    wait_until(takes_no_more, 10)
    assert server.running(), "the server did not wait for the request in flight"
    stall.release()
    thread.join(30)
    assert answers, "the request in flight got no answer"
    accepted(server, answers[0])
    assert server.wait() == 0
    (file,) = read_table(server.lake, table).values()
    assert file.rows == [{"a": 1}]


def test_open_connections_do_not_hold_the_end(start_eider):
    server = start_eider(INGEST)
    idle = RawConnection(server.address())
    idle.request("GET", "/health")
    assert idle.answer().status == 200
    half = RawConnection(server.address())
    half.send(b"GET /health HTTP/1.1\r\n")
    try:
        assert server.stop(timeout=10) == 0
    finally:
        idle.close()
        half.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its client is cut
def test_a_second_signal_ends_it_at_once(busy, wait_until):
    server, *_ = busy
    server.send(signal.SIGTERM)
    wait_until(lambda: server.events("server.signal"))
    server.send(signal.SIGTERM)
    assert server.wait() == 130
    assert processes_of_session(server.pid) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_once(start_eider, signum):
    server = start_eider(INGEST)
    assert server.stop(signum, timeout=5) == 0


def test_a_broken_pipe_does_not_end_it(start_eider):
    server = start_eider()
    server.send(signal.SIGPIPE)
    assert server.get("/health").status_code == 200


def test_children_do_not_outlive_a_killed_server(start_eider, table, wait_until):
    server = start_eider(INGEST, lake=FolderLake())
    accepted(server, post_batch(server, table, [{"a": 1}]))
    assert server.children()
    server.kill()  # waits for them, too
    assert processes_of_session(server.pid) == []


def test_a_terminal_interrupt_of_the_whole_group_is_an_orderly_end(start_eider, table, wait_until):
    """Ctrl-C reaches the zygote too: still no error and exit code 0."""
    server = start_eider(INGEST, lake=FolderLake())
    accepted(server, post_batch(server, table, [{"a": 1}]))
    for pid in server.children():
        os.kill(pid, signal.SIGINT)
    assert server.stop(signal.SIGINT) == 0


def test_nothing_is_left_in_the_spool(start_eider, table):
    server = start_eider(INGEST, lake=FolderLake())
    for number in range(5):
        accepted(server, post_batch(server, table, [{"a": number}]))
    post_batch(server, table, [])
    assert server.stop() == 0
    spool = server.data / "spool"
    assert not spool.exists() or [path for path in spool.rglob("*") if path.is_file()] == []
