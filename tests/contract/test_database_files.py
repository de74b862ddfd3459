"""Files of hosted databases: nobody's file is renamed under who has it open, one file has one name, and what is left
over is removed, but not by a clock that is wrong."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest
import requests

from harness.fault_trace import read_count, shim_env, write_clock
from harness.hosted import LISTENER, Hosted

pytestmark = pytest.mark.once


def names(hosted):
    return [entry["name"] for entry in hosted.request("GET", "/databases").json()["databases"]]


def trash_of(hosted, name):
    trash = hosted.server.data / "trash"
    return sorted(path.name for path in trash.iterdir() if path.name.startswith(name)) if trash.exists() else []


def test_the_file_of_the_default_database_has_no_second_name(start_eider, tmp_path):
    """DUCKDB_DATABASE_PATH beneath EIDER_DATA/db: a drop by the file's name had taken it from under the open one."""
    data = tmp_path / "data"
    (data / "db").mkdir(parents=True)
    (tmp_path / "other").symlink_to(data / "db")
    env = {**LISTENER, "DUCKDB_DATABASE_PATH": str(tmp_path / "other" / "sales.duckdb")}
    hosted = Hosted(start_eider(env, data=data))
    hosted.rows("CREATE TABLE t AS SELECT 1 AS a")
    assert names(hosted) == ["default"]
    assert hosted.rows("FROM t", "sales") == [[1]]
    assert hosted.request("POST", "/databases", json={"name": "sales"}).status_code == 409
    assert hosted.request("DELETE", "/databases/sales").status_code == 200
    assert hosted.query("FROM t").status_code == 400  # it was the same one
    hosted.rows("CREATE TABLE t AS SELECT 2 AS a")
    assert hosted.server.stop() == 0
    hosted = Hosted(start_eider(env, data=data))
    assert hosted.rows("FROM t") == [[2]]


def test_a_file_that_another_process_has_open_is_not_renamed(start_eider, wait_until):
    hosted = Hosted(start_eider(LISTENER))
    (hosted.server.data / "backup").mkdir(exist_ok=True)
    hosted.folder.mkdir(exist_ok=True)
    duckdb.connect(str(hosted.server.data / "backup" / "b")).execute("CREATE TABLE t AS SELECT 2 AS a").close()
    with duckdb.connect(str(hosted.path("held"))) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
        drop = hosted.request("DELETE", "/databases/held")
        assert drop.status_code == 409 and "another process" in drop.json()["detail"], drop.text
        restore = hosted.request("POST", "/databases/held/restore", json={"from": "b"})
        assert restore.status_code == 409, restore.text
        connection.execute("INSERT INTO t VALUES (5)")
    assert not trash_of(hosted, "held")
    assert hosted.rows("FROM t", "held") == [[1], [5]]
    assert hosted.request("POST", "/databases/held/restore", json={"from": "b"}).status_code == 200
    assert hosted.rows("FROM t", "held") == [[2]]


def killed_with_a_log(start_eider):
    """A server that was killed: database x has a second row, in its log alone, which its backup b has not."""
    hosted = Hosted(start_eider(LISTENER))
    hosted.make("x")
    hosted.rows("CREATE TABLE t AS SELECT 1 AS a", "x")
    assert hosted.request("POST", "/databases/x/backup", json={"to": "b"}).status_code == 200
    hosted.rows("INSERT INTO t VALUES (2)", "x")
    hosted.server.kill()
    assert hosted.log("x").read_bytes()
    return hosted


@pytest.mark.parametrize("damaged", [False, True])
def test_a_restore_right_after_a_crash(start_eider, damaged):
    """What was there goes to the trash as it is, with its log, whether or not it can be opened."""
    hosted = killed_with_a_log(start_eider)
    log = hosted.log("x").read_bytes()
    if damaged:
        hosted.path("x").write_bytes(b"no database" * 2000)
    kept = hosted.path("x").read_bytes()
    hosted = Hosted(start_eider(LISTENER, data=hosted.server.data))
    answer = hosted.request("POST", "/databases/x/restore", json={"from": "b"})
    assert answer.status_code == 200, answer.text
    assert hosted.rows("FROM t", "x") == [[1]]
    main, wal = trash_of(hosted, "x-")
    assert wal == main + ".wal"
    trash = hosted.server.data / "trash"
    assert (trash / main).read_bytes() == kept and (trash / wal).read_bytes() == log
    assert not hosted.set_aside("x")
    hosted.rows("INSERT INTO t VALUES (3)", "x")
    hosted.server.kill()
    hosted = Hosted(start_eider(LISTENER, data=hosted.server.data))
    assert hosted.rows("FROM t", "x") == [[1], [3]]


class Restore:
    """A restore of a database with a log, each time from the same files; its renames are counted, and one fails."""

    def __init__(self, binary, start, folder):
        self.binary, self.start, self.folder = binary, start, folder
        self.template = killed_with_a_log(start).server.data

    def run(self, **fault):
        """(status or None, what the database holds while this server lives, and in the next one)"""
        data = self.folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(self.template, data)
        arm, self.count = self.folder / "arm", self.folder / "count"
        self.count.unlink(missing_ok=True)
        shim = shim_env(self.binary, data, only="rename", path="/db/", arm=arm, count=self.count, **fault)
        hosted = Hosted(self.start({**LISTENER, **shim}, data=data))
        arm.touch()
        try:
            status = hosted.request("POST", "/databases/x/restore", json={"from": "b"}).status_code
        except requests.exceptions.RequestException:
            status = None
        arm.unlink()
        now = hosted.rows("FROM t ORDER BY a", "x") if status else None
        hosted.server.kill()
        hosted = Hosted(self.start(LISTENER, data=data))
        later = hosted.rows("FROM t ORDER BY a", "x")
        assert not hosted.set_aside("x")
        assert hosted.server.stop() == 0
        return status, now, later


def test_a_restore_that_fails_or_is_killed_leaves_what_was_there(eider_binary, start_eider, tmp_path):
    """At each of its renames: the old database with its log, or the new one, and never none."""
    restore = Restore(eider_binary, start_eider, tmp_path)
    old, new = [[1], [2]], [[1]]
    assert restore.run() == (200, new, new)
    count = read_count(restore.count)
    assert count >= 4
    for number in range(1, count + 1):
        status, now, later = restore.run(fail=f"{number}:ENOSPC")
        assert (status, now, later) in [(503, old, old), (200, new, new)], number
        status, _, later = restore.run(kill=f"{number}:before")
        assert status is None and later in (old, new), number


def test_what_a_killed_restore_leaves_is_cleared(start_eider):
    hosted = Hosted(start_eider(LISTENER))
    hosted.make("x")
    left = [hosted.folder / f"x.duckdb.replaced-20260101T000000Z-001{suffix}" for suffix in ("", ".wal")]
    for path in left:
        path.write_bytes(b"replaced")
    hosted.server.kill()
    hosted = Hosted(start_eider(LISTENER, data=hosted.server.data))
    assert hosted.rows("SELECT 1", "x") == [[1]]
    assert not any(path.exists() for path in left)
    assert trash_of(hosted, "x.") == [f"x.replaced-20260101T000000Z-001.duckdb{suffix}" for suffix in ("", ".wal")]


def test_what_was_replaced_does_not_come_back_without_a_trash(start_eider):
    """A file stands where the trash would be. The database is damaged afterwards: its old content is not the answer."""
    hosted = Hosted(start_eider(LISTENER))
    hosted.make("x")
    hosted.server.kill()
    shutil.copy(hosted.path("x"), hosted.folder / "x.duckdb.replaced-20260101T000000Z-001")
    shutil.rmtree(hosted.server.data / "trash", ignore_errors=True)
    (hosted.server.data / "trash").write_bytes(b"no folder")
    hosted.path("x").write_bytes(b"no database" * 2000)
    hosted = Hosted(start_eider(LISTENER, data=hosted.server.data))
    for _ in range(2):
        assert hosted.query("SELECT 1", "x").status_code == 503
    assert (hosted.folder / ".trash-x.replaced-20260101T000000Z-001.duckdb").exists()


def test_a_restore_that_was_cut_is_not_created_anew(start_eider):
    hosted = Hosted(start_eider(LISTENER))
    hosted.make("x")
    hosted.rows("CREATE TABLE t AS SELECT 1 AS a", "x")
    assert hosted.server.stop() == 0
    shutil.copy(hosted.path("x"), hosted.folder / "x.duckdb.quarantine-20250101T000000Z-001")
    hosted.path("x").rename(hosted.folder / "x.duckdb.replaced-20260101T000000Z-001")
    hosted = Hosted(start_eider(LISTENER, data=hosted.server.data))
    assert hosted.request("POST", "/databases", json={"name": "x"}).status_code == 409
    assert hosted.rows("FROM t", "x") == [[1]]


def test_databases_that_take_turns_end_in_order(start_eider):
    """With room for one, each request closes the other, whose slot may still be making its next connection."""
    hosted = Hosted(start_eider({**LISTENER, "EIDER_DATABASES_OPEN_MAX": "1"}))
    both = [hosted.make("a"), hosted.make("b")]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: hosted.query("SELECT 1", both[number % 2]).status_code, range(160)))
    assert set(answers) == {200}
    assert not hosted.server.events("engine.database_died")


def test_a_clock_that_went_far_ahead_empties_no_trash(rig, wait_until):
    """400 days: at the start. What is left of drops and restores that a crash has cut goes the same way."""
    clock = rig.folder / "clock"
    write_clock(clock, 0)
    hosted = Hosted(rig.start(rig.shim(clock=clock) | LISTENER))
    hosted.make("gone")
    assert hosted.request("DELETE", "/databases/gone").status_code == 200
    assert len(trash_of(hosted, "gone")) == 1
    assert hosted.server.kill() == -9
    beside = hosted.folder / ".trash-gone-20260101T000000Z-001.duckdb"
    beside.write_bytes(b"of a trash on another file system")
    write_clock(clock, 400 * 24 * 3600)
    hosted = Hosted(rig.start(rig.shim(clock=clock) | LISTENER))
    [event] = wait_until(lambda: hosted.server.events("database.clock_doubted"), 10, "the clock is doubted")
    assert event["ahead_s"] > 399 * 24 * 3600
    assert rig.end(hosted.server) == 0
    assert len(trash_of(hosted, "gone")) == 1 and beside.exists()
    write_clock(clock, 0)
    half = hosted.folder / ".restore-0123456789abcdef"
    notes = [hosted.folder / ".restore-notes", hosted.folder / ".trash-notes"]
    for path in [half, *notes]:
        path.write_bytes(b"x")
    hosted = Hosted(rig.start(rig.shim(clock=clock) | LISTENER | {"EIDER_TRASH_KEEP_DAYS": "0"}))
    assert not half.exists()
    wait_until(lambda: not trash_of(hosted, "gone") and not beside.exists(), 20, "what is old goes")
    assert all(path.exists() for path in notes)
    assert rig.end(hosted.server) == 0


def test_an_end_does_not_wait_for_a_database_that_does_not_close(start_eider, wait_until):
    """The keeper closes what is idle and gives it a minute; the drain gives it less."""
    hosted = Hosted(start_eider({**LISTENER, "EIDER_DATABASE_IDLE_MS": "1500", "EIDER_DRAIN_MS": "1000"}))
    hosted.rows("CREATE TABLE t AS SELECT 1 AS a")
    os.kill(hosted.process(), signal.SIGSTOP)
    wait_until(lambda: hosted.info()["status"] == "closed", 20, "it is being closed")
    assert hosted.server.stop(timeout=25) == 0
