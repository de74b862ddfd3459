"""Each layer alone, the other two switched off in a build made for it (preset `layers`): what the table says it stops,
it stops; and whatever reads, writes or connects is stopped by two of them, each alone.

The fourth server has none of the three: there most rows do what they are after, so that a row which is stopped proves
something. What none of these servers leaves out: the unprivileged user, the deadline, and the broker, which hands over
declared objects only."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import REPOSITORY
from harness.eider_process import clean_environment
from harness.hostile_target import CANARY, NOT_KEPT, running_target
from harness.snapshot_client import InFlight
from harness.snapshot_processes import resident_bytes, workers
from harness.waiting import wait_until
from hostile.rows import ROWS

pytestmark = pytest.mark.once

LAYERS = {"g": "settings,os", "s": "guard,os", "o": "guard,settings"}
NOTHING = "guard,settings,os"
SETTINGS_DIGEST = "SELECT md5(string_agg(name || '=' || coalesce(value, ''), ',' ORDER BY name)) FROM duckdb_settings()"
UNLOCKED_SETTINGS = {"schema", "search_path"}  # they name schemas of this process, and nothing outside


@pytest.fixture(scope="session")
def layers_binary():
    path = os.environ.get("EIDER_LAYERS_BIN") or REPOSITORY / "build" / "layers" / "eider"
    assert os.access(path, os.X_OK), f"no test build at {path}: tools/build.sh layers"
    return path


@pytest.fixture(scope="module")
def targets(layers_binary, tmp_path_factory, s3):
    """{letter: target}; "!" is the one without any layer."""
    made = {}
    for letter, off in [*LAYERS.items(), ("!", NOTHING)]:
        env = {"EIDER_TEST_LAYERS_OFF": off, "EIDER_QUERY_TIMEOUT_MS": 3000, "DUCKDB_MEMORY_LIMIT": "512MB"}
        made[letter] = running_target(layers_binary, tmp_path_factory, s3, env)
    running = {letter: manager.__enter__() for letter, manager in made.items()}
    yield running
    for manager in made.values():
        manager.__exit__(None, None, None)


def got_through(target, row):
    """Whether the statement did what it was after; puts everything back."""
    calls = target.listener.calls
    answer = target.ask(row.sql)
    changed = target.files() != target.before
    if changed:
        target.lay_out()
        assert target.files() == target.before
    assert row.does == "connects" or target.listener.calls == calls
    if CANARY in answer.text or "root:x:" in answer.text:
        return True
    ran = answer.status_code == 200
    if row.does == "writes":
        return changed
    if row.does == "connects":
        return target.listener.calls > calls
    assert not changed
    if row.does == "reads":
        return ran and answer.text.strip() != "" and '{"error":true' not in answer.text
    return ran


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_each_layer_alone(targets, row):
    seen = "".join("-" if got_through(targets[letter], row) else letter for letter in LAYERS)
    assert seen == row.stops[:3]
    if row.stops[3] == "!":
        assert got_through(targets["!"], row)


def test_what_reads_writes_or_connects_is_stopped_by_two_layers():
    thin = [row.id for row in ROWS if row.does in ("reads", "writes", "connects") and len(row.stops[:3].strip("-")) < 2]
    assert not thin


def test_settings_of_the_next_statement_are_the_same(targets):
    target = targets["s"]
    before = target.ask(SETTINGS_DIGEST).text
    assert len(before.strip()) == 32
    for row in ROWS:
        if row.does == "state":
            target.ask(row.sql)
            assert target.ask(SETTINGS_DIGEST).text == before, row.id


def test_no_setting_can_be_changed(targets):
    """Every setting of the engine, without the guard: the lock refuses all but two."""
    target = targets["s"]
    lines = target.ask("SELECT name, replace(coalesce(value, ''), '''', '''''') FROM duckdb_settings()").text
    settings = dict(line.split("|", 1) for line in lines.splitlines() if "|" in line)
    assert len(settings) > 100

    def is_locked(form):
        answer = target.server.post("/query", json={"sql": form}, headers=NOT_KEPT)  # no declared table: quicker
        return answer.status_code == 400 and "has been locked" in answer.text

    for form in ("SET \"{}\" = '{}'", 'RESET "{}"'):
        with ThreadPoolExecutor(4) as pool:
            locked = pool.map(is_locked, [form.format(*setting) for setting in settings.items()])
            changed = {name for name, is_so in zip(settings, locked) if not is_so}
        assert changed == UNLOCKED_SETTINGS, form


def test_an_undeclared_object_is_refused_by_two(targets):
    """By name: the engine takes no name for a file, and the broker hands over nothing. As a call: guard and broker."""
    by_name = "FROM 's3://<bucket>/other.parquet'"
    by_call = "FROM read_parquet('s3://<bucket>/other.parquet')"
    assert "does not exist" in targets["s"].ask(by_name).text
    assert "may read the declared tables only" in targets["!"].ask(by_name).text
    assert "is not available here" in targets["g"].ask(by_call).text
    assert "may read the declared tables only" in targets["!"].ask(by_call).text


@pytest.mark.parametrize("form", ["IMPORT DATABASE '{}'", "PRAGMA import_database('{}')", "SELECT 1; IMPORT DATABASE '{}'"])
def test_a_refused_text_is_not_parsed_when_that_reads_files(targets, form):
    """The engine's parser opens the files of IMPORT DATABASE, and its complaint about them would be shown."""
    error = targets["g"].ask(form.format("<dir>/broken")).json()["error"]
    assert "statements are not allowed" in error or "only one statement" in error
    assert "Parser Error" not in error and CANARY not in error


def most_memory_during(target, sql):
    """-> (answer, the most resident memory of a worker)"""
    call, most = InFlight(target.ask, sql), [0]

    def over():
        most.extend(resident_bytes(pid, "VmHWM") for pid in workers(target.server))
        return call.done()

    wait_until(over, 30, "an answer", 0.003)
    return call.result(), max(most)


@pytest.mark.parametrize("letter", "so")
@pytest.mark.parametrize("sql", ["SELECT list(i) FROM range(100000000000) t(i)", "SELECT length(repeat('x', 3000000000))"])
def test_memory_is_bounded_by_settings_alone_and_by_the_system_alone(targets, letter, sql):
    """The engine counts what it allocates, the system what is mapped: with either of them the statement fails."""
    answer, most = most_memory_during(targets[letter], sql)
    assert answer.status_code in (400, 422, 504)
    assert most < 1300 << 20
    targets[letter].alive()


def test_at_the_end_no_object_has_changed(targets):
    for target in targets.values():
        assert target.stored() == target.objects


def test_the_test_build_says_what_it_is(layers_binary, targets):
    version = subprocess.run([layers_binary, "version"], capture_output=True, text=True, timeout=30, check=True)
    assert "TEST BUILD" in version.stdout
    event = targets["!"].server.events("server.test_build")[0]
    assert event["layers_off"] == NOTHING and "TEST BUILD" in event["note"]


def test_a_word_that_is_no_layer_is_refused(layers_binary, tmp_path):
    env = {"EIDER_TEST_LAYERS_OFF": "guard,everything", "EIDER_DATA": tmp_path / "data", "EIDER_LISTEN": "127.0.0.1:0"}
    ended = subprocess.run(
        [layers_binary, "serve"], env=clean_environment(env), capture_output=True, text=True, timeout=30
    )
    assert ended.returncode != 0 and "'everything' is no layer" in ended.stderr


def test_no_other_build_can_be_told_to(eider_binary, run_eider, tmp_path):
    """Neither the setting nor what says it is in the programs, and the name is refused as any unknown one."""
    content = eider_binary.read_bytes() + eider_binary.with_name("eider-engine").read_bytes()
    for text in (b"EIDER_TEST_LAYERS", b"TEST BUILD", b"duck_open_anew", b"run_unjudged", b"test_build"):
        assert text not in content
    env = {"EIDER_TEST_LAYERS_OFF": "guard", "EIDER_DATA": tmp_path / "data", "EIDER_LISTEN": "127.0.0.1:0"}
    ended = run_eider("serve", env=env)
    assert ended.returncode != 0 and "EIDER_TEST_LAYERS_OFF" in ended.stderr
