"""More tables are written than there are threads that flush: each has its turn, and the log stays short."""

import threading

import pytest

from harness.lakes import FolderLake
from harness.rows_client import kept, ndjson, post_rows

TABLES = 5
SETTINGS = {
    "EIDER_INGEST_LISTEN": "127.0.0.1:0",
    "EIDER_FLUSH_THREADS": "1",
    "EIDER_FLUSH_AGE_MS": "10",
    "EIDER_LOG_SEGMENT": "1MiB",
    "EIDER_DRAIN_MS": "100",
}


@pytest.mark.once
def test_tables_that_are_always_due_keep_no_other_waiting(start_eider, table, wait_until):
    """The one thread finds rows that are due whenever it looks, and yet stores those of all, and trims the log."""
    server = start_eider(SETTINGS, lake=FolderLake())
    body = ndjson([{"n": n, "text": "x" * 500} for n in range(1000)])
    names = [f"{table}_{n}" for n in range(TABLES)]
    over = threading.Event()
    problems = []

    def write(name):
        try:
            while not over.is_set():
                kept(post_rows(server, name, body))
        except AssertionError as problem:
            problems.append(problem)

    def all_had_turns():
        return all(len(server.lake.table_keys(name)) >= 3 for name in names)

    def segments():
        return sorted(path.name for path in (server.data / "log" / "records").glob("*.wal"))

    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    try:
        wait_until(all_had_turns, 60)
        first = segments()[0]
        wait_until(lambda: first not in segments(), 60, "the log is trimmed while all are due")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert problems == []
