"""P21: a database whose file cannot be opened is set aside, never deleted; it is told so, the others and the server go on."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.hosted import LISTENER, Hosted

pytestmark = pytest.mark.once

ROWS = 200


@pytest.fixture
def hosted(start_eider):
    return Hosted(start_eider(LISTENER))


def again(hosted, start_eider):
    """The same folder under a server that has just started."""
    assert hosted.server.stop() == 0
    return Hosted(start_eider(LISTENER, data=hosted.server.data))


def fill(hosted, name, value):
    hosted.make(name)
    hosted.rows(f"CREATE TABLE t AS SELECT i AS a, '{value}' AS b FROM range({ROWS}) r(i)", name)


def crash(hosted):
    """The server and its children end at once: logs stay where they are."""
    hosted.server.kill()


def flip(path, start, size):
    content = bytearray(path.read_bytes())
    for index in range(start, min(start + size, len(content))):
        content[index] ^= 0x5A
    path.write_bytes(content)


def spoil_main(hosted):
    flip(hosted.path("lame"), 8, 16000)


def spoil_log(hosted):
    size = hosted.log("lame").stat().st_size
    flip(hosted.log("lame"), size // 3, size // 3)


def take_the_log_of_another(hosted):
    shutil.copyfile(hosted.log("other"), hosted.log("lame"))


def cut_main(hosted):
    """A database with a table of many blocks, of which most are gone."""
    with hosted.path("lame").open("r+b") as file:
        file.truncate(13000)


def empty_main(hosted):
    hosted.path("lame").write_bytes(b"")


def write_text(hosted):
    hosted.path("lame").write_bytes(b"this is no database, and never was one. " * 1000)
    hosted.log("lame").unlink()


DAMAGE = [spoil_main, spoil_log, take_the_log_of_another, cut_main, empty_main, write_text]


def lay_out(hosted, start_eider, damage):
    """lame: a table in the main file, and a row of it in the log; other: another history; fine: none of this.
    -> a server that has just started over it, and the bytes that must be kept."""
    for name in ("lame", "other", "fine"):
        fill(hosted, name, name)
        hosted.rows("CHECKPOINT", name)
        hosted.rows(f"INSERT INTO t SELECT i, 'logged' FROM range({ROWS if name == 'lame' else 3}) r(i)", name)
    crash(hosted)
    assert hosted.log("lame").stat().st_size > 0
    damage(hosted)
    kept = {
        end: path.read_bytes()
        for end, path in (("", hosted.path("lame")), (".wal", hosted.log("lame")))
        if path.exists()
    }
    return Hosted(start_eider(LISTENER, data=hosted.server.data)), kept


def refused(hosted, name="lame"):
    """Told what is wrong at once, by whatever is asked, and without a path."""
    for _ in range(3):
        answer = hosted.query("SELECT count(*) FROM t", name)
        assert answer.status_code == 503, answer.text
    assert str(hosted.folder) not in answer.text
    assert hosted.batch(["SELECT 1"], name).status_code == 503
    return answer.json()["detail"]


def works(hosted, name="fine"):
    assert hosted.value("SELECT count(*) FROM t", name) == ROWS + 3
    hosted.rows("CREATE OR REPLACE TABLE written(a INTEGER); INSERT INTO written VALUES (1)", name)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda function: function.__name__)
def test_a_damaged_database_is_set_aside(hosted, start_eider, damage):
    hosted, kept = lay_out(hosted, start_eider, damage)
    with ThreadPoolExecutor(8) as pool:  # several at once: it is renamed once
        assert set(pool.map(lambda _: hosted.query("FROM t", "lame").status_code, range(8))) == {503}
    refused(hosted)
    assert hosted.set_aside("lame") == {end: content for end, content in kept.items()}
    assert not hosted.path("lame").exists() and not hosted.log("lame").exists()
    assert hosted.info("lame")["status"] == "quarantined" and hosted.info("lame")["problem"]
    assert hosted.info("fine")["status"] == "closed" and hosted.info("fine")["problem"] is None
    logged = hosted.server.events("database.quarantined")
    assert [line["database"] for line in logged] == ["lame"] and logged[0]["not_renamed"] == "", logged
    works(hosted)

    hosted = again(hosted, start_eider)
    assert "set aside" in refused(hosted)
    assert hosted.set_aside("lame") == kept
    assert hosted.info("lame")["status"] == "quarantined"
    works(hosted)
    hosted.make("lame")
    fill_anew = hosted.query("CREATE TABLE t AS SELECT 1 AS a", "lame")
    assert fill_anew.status_code == 200, fill_anew.text
    assert hosted.set_aside("lame") == kept
    assert hosted.info("lame")["status"] == "open"

    hosted = again(hosted, start_eider)
    assert hosted.rows("FROM t", "lame") == [[1]]


@pytest.mark.parametrize("damage", [spoil_main, spoil_log], ids=lambda function: function.__name__)
def test_a_backup_cures_it(hosted, start_eider, damage):
    """Also while its breaker is open because many have asked meanwhile."""
    fill(hosted, "good", "good")
    answer = hosted.request("POST", "/databases/good/backup", json={"to": "good.duckdb"})
    assert answer.status_code == 200, answer.text
    hosted, kept = lay_out(hosted, start_eider, damage)
    for _ in range(20):
        hosted.query("SELECT 1", "lame")
    answer = hosted.request("POST", "/databases/lame/restore", json={"from": "good.duckdb"})
    assert answer.status_code == 200, answer.text
    assert hosted.rows("SELECT DISTINCT b FROM t", "lame") == [["good"]]
    assert hosted.set_aside("lame") == kept


def test_a_backup_that_is_damaged_replaces_nothing(hosted):
    fill(hosted, "good", "good")
    answer = hosted.request("POST", "/databases/good/backup", json={"to": "good.duckdb"})
    assert answer.status_code == 200, answer.text
    flip(hosted.server.data / "backup" / "good.duckdb", 8, 16000)
    answer = hosted.request("POST", "/databases/good/restore", json={"from": "good.duckdb"})
    assert answer.status_code in (400, 422), answer.text
    assert hosted.value("SELECT count(*) FROM t", "good") == ROWS
    assert not hosted.set_aside("good")


@pytest.mark.parametrize("size", [1, 4096, 12287])
def test_a_file_that_was_never_finished_is_made_anew(hosted, start_eider, size):
    """A process that dies while it makes a database leaves less than its three headers, and no log."""
    hosted.make("begun")
    content = hosted.path("begun").read_bytes()
    crash(hosted)
    hosted.path("begun").write_bytes(content[:size])
    hosted.log("begun").unlink(missing_ok=True)
    hosted = Hosted(start_eider(LISTENER, data=hosted.server.data))
    assert hosted.rows("CREATE TABLE t AS SELECT 7 AS a; FROM t", "begun") == [[7]]
    assert hosted.set_aside("begun") == {"": content[:size]}
    hosted = again(hosted, start_eider)
    assert hosted.rows("FROM t", "begun") == [[7]]


def test_files_of_a_checkpoint_that_was_cut_go_with_it(hosted, start_eider):
    """The engine's other logs are not left for the database that takes its place."""
    fill(hosted, "lame", "lame")
    hosted.rows("CHECKPOINT", "lame")
    hosted.rows("INSERT INTO t VALUES (1000, 'logged')", "lame")
    crash(hosted)
    for end in (".checkpoint", ".recovery"):
        shutil.copyfile(hosted.log("lame"), f"{hosted.log('lame')}{end}")
    spoil_main(hosted)
    hosted = Hosted(start_eider(LISTENER, data=hosted.server.data))
    refused(hosted)
    assert [path.name for path in hosted.folder.iterdir() if path.name.startswith("lame.duckdb.wal")] == []
    hosted.make("lame")
    assert hosted.query("SELECT 1", "lame").status_code == 200
    assert hosted.request("DELETE", "/databases/lame").status_code == 200
    hosted.make("lame")


def test_a_database_that_was_set_aside_can_be_dropped(hosted, start_eider):
    """What was set aside goes to the trash with it: it does not come back as a damaged database."""
    fill(hosted, "lame", "lame")
    crash(hosted)
    spoil_main(hosted)
    hosted = Hosted(start_eider(LISTENER, data=hosted.server.data))
    refused(hosted)
    assert hosted.request("DELETE", "/databases/lame").status_code == 200
    assert hosted.request("GET", "/databases/lame").status_code == 404
    assert [path.name for path in hosted.folder.iterdir() if path.name.startswith("lame")] == []
    trash = hosted.server.data / "trash"
    assert [path.name for path in trash.iterdir() if path.name.startswith("lame.quarantine-")]


def test_a_log_without_its_file_is_kept(hosted, start_eider):
    """Somebody has removed the main file. The database is none any more, and its log is not thrown away."""
    fill(hosted, "lame", "lame")
    crash(hosted)
    hosted.path("lame").unlink()
    content = hosted.log("lame").read_bytes()
    assert content
    hosted = Hosted(start_eider(LISTENER, data=hosted.server.data))
    assert hosted.query("SELECT 1", "lame").status_code == 404
    hosted.make("lame")
    assert hosted.rows("SHOW TABLES", "lame") == []
    assert hosted.set_aside("lame") == {".wal": content}


def test_no_file_is_set_aside_because_its_process_was_killed(hosted, wait_until):
    fill(hosted, "lame", "lame")
    for _ in range(4):
        hosted.kill_process("lame")
        wait_until(lambda: hosted.query("FROM t", "lame").status_code == 200, 10, "it is open again")
    assert hosted.value("SELECT count(*) FROM t", "lame") == ROWS
    assert not hosted.set_aside("lame")
