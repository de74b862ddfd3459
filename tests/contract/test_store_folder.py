"""The lake in a local folder: files appear whole, and nothing leaves the folder."""

import threading

import duckdb
import pytest

from harness.ingest_client import accepted, post_batch
from harness.lakes import FolderLake

INGEST = {"EIDER_INGEST_LISTEN": "127.0.0.1:0"}


@pytest.fixture
def server(start_eider):
    return start_eider(INGEST, lake=FolderLake())


def test_other_readers_can_glob_the_documented_path(server):
    for date in ("2025-12-19", "2025-12-20"):
        accepted(server, post_batch(server, "events", [{"a": 1}], date))
    pattern = f"{server.lake.root}/data/events/**/data_*.parquet"
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        rows = connection.execute(
            "SELECT a, year, month, day FROM read_parquet(?, hive_partitioning = true) ORDER BY day", [pattern]
        ).fetchall()
    assert rows == [(1, 2025, 12, 19), (1, 2025, 12, 20)]


def test_s3_path_is_the_files_address(server):
    answer = post_batch(server, "events", [{"a": 1}], "2025-12-20")
    accepted(server, answer)
    path = answer.json()["s3_path"]
    assert path.startswith("file:///")
    with open(path.removeprefix("file://"), "rb") as file:
        assert file.read(4) == b"PAR1"


def test_readers_never_see_a_part_of_a_file(server):
    """While batches are written, every *.parquet there is ends with a whole footer."""
    folder = server.lake.root / "data" / "watched"
    done = threading.Event()
    looks, torn = [0], []

    def look():
        while not done.is_set():
            for path in folder.rglob("*.parquet"):
                body = path.read_bytes()
                looks[0] += 1
                if len(body) < 12 or body[:4] != b"PAR1" or body[-4:] != b"PAR1":
                    torn.append((path.name, len(body)))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for number in range(12):
            rows = [{"n": n, "s": f"{number} {n * 7919}"} for n in range(5000)]
            accepted(server, post_batch(server, "watched", rows, "2025-12-20"))
    finally:
        done.set()
        watcher.join(30)
    assert looks[0] > 12
    assert torn == []
    assert all(path.suffix == ".parquet" for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("level", ["table", "partition"])
def test_links_out_of_the_lake_are_not_followed(server, tmp_path, level):
    outside = tmp_path / "outside"
    outside.mkdir()
    table = server.lake.root / "data" / "linked"
    link = table if level == "table" else table / "year=2025" / "month=12"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    answer = post_batch(server, "linked", [{"a": 1}], "2025-12-20")
    assert answer.status_code >= 500
    assert answer.json()["detail"].startswith("Ingestion failed: ")
    assert list(outside.iterdir()) == []


def test_links_out_of_the_lake_are_not_read(server, tmp_path):
    key = accepted(server, post_batch(server, "secret", [{"password": "hunter2"}]))
    outside = tmp_path / "outside.parquet"
    outside.write_bytes(server.lake.read(key))
    accepted(server, post_batch(server, "open", [{"password": "none"}], "2025-12-20"))
    folder = server.lake.root / "data/open/year=2025/month=12/day=20"
    (folder / "data_000000_link.parquet").symlink_to(outside)
    answer = server.post("/query", json={"sql": "SELECT * FROM open"})
    assert "hunter2" not in answer.text


def test_a_removed_file_is_gone_from_the_table(server, wait_until):
    keys = [accepted(server, post_batch(server, "events", [{"n": n}])) for n in range(2)]
    assert server.sql("SELECT count(*) AS c FROM events")["rows"] == [{"c": 2}]
    server.lake.remove(keys[0])

    def found():
        return server.post("/query", json={"sql": "SELECT n FROM events"}).json().get("rows")

    wait_until(lambda: found() == [{"n": 1}], 10)  # at most 50 ms later


def test_folders_are_for_their_owner(server):
    key = accepted(server, post_batch(server, "events", [{"n": 1}]))
    path = server.lake.root / key
    assert path.stat().st_mode & 0o002 == 0
    assert path.parent.stat().st_mode & 0o002 == 0
