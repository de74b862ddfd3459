"""The engine's own lists, gone through name by name: functions, PRAGMAs, settings."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.once  # thousands of statements, all of one kind

REVIEWED = Path(__file__).with_name("harmless_functions.txt")


def harmless_functions():
    names = set()
    for line in REVIEWED.read_text().splitlines():
        if not line.startswith(("#", "[")):
            names.update(line.split())
    return names


@pytest.fixture(scope="module")
def functions(eider):
    """{kind: names}, from the engine that runs here."""
    found = {}
    for row in eider.sql("SELECT DISTINCT function_type AS kind, function_name AS name FROM duckdb_functions()")["rows"]:
        found.setdefault(row["kind"], set()).add(row["name"])
    return found


@pytest.fixture(scope="module")
def refused(eider):
    """Asks many statements at once -> those that the guard did not refuse with these words."""

    def ask(statements, words):
        def through(sql):
            answer = eider.post("/query", json={"sql": sql})
            return answer.status_code != 400 or words not in answer.text

        with ThreadPoolExecutor(4) as pool:
            return [sql for sql, out in zip(statements, pool.map(through, statements)) if out]

    return ask


def test_every_function_was_reviewed(functions, refused):
    """A function is in the list of the harmless ones, or a call of it is refused. A new release of the engine brings
    new ones: read what they do, then add them to one of the two (worker_guard_names.c has the other)."""
    names = set().union(*(names for kind, names in functions.items() if kind != "pragma"))
    assert len(names) > 800
    harmless = harmless_functions()
    calls = {f'SELECT "{name}"()': name for name in sorted(names - harmless)}
    assert len(calls) > 70
    unknown = [calls[sql] for sql in refused(list(calls), "is not available here")]
    assert not unknown, f"neither reviewed nor refused: {unknown}"
    assert not harmless - names, f"not in this engine: {sorted(harmless - names)}"


def test_no_harmless_function_is_refused(functions, eider):
    """The two lists do not overlap: a call of a harmless name gets the engine's answer. One statement asks for all."""
    names = sorted(name for name in harmless_functions() if name.isidentifier())
    calls = ", ".join(f'"{name}"()' for name in names)
    error = eider.post("/query", json={"sql": f"SELECT {calls}"}).json()["error"]
    assert "is not available here" not in error


def test_every_table_function_is_refused_in_every_place(functions, refused):
    tables = sorted((functions["table"] | functions["table_macro"]) - harmless_functions())
    assert len(tables) > 50
    for form in ("FROM {}()", "FROM main.{}('x')", "SELECT * FROM range(1), LATERAL (FROM {} ('x'))", 'EXPLAIN FROM "{}"(1)'):
        assert not refused([form.format(name) for name in tables], "is not available here")


def test_every_pragma_is_refused(functions, refused):
    names = sorted(functions["pragma"])
    assert len(names) > 30
    for form in ("PRAGMA {}", "PRAGMA {}('x')", "PRAGMA {} = 'x'", "CALL pragma_{}()"):
        assert not refused([form.format(name) for name in names], "statements are not allowed")


def test_no_setting_is_set_or_told(refused):
    """Which settings there are is told by the test build (test_hostile_layers); here, those that would open a door."""
    names = (
        "access_mode allow_community_extensions allow_persistent_secrets allow_unsigned_extensions allowed_configs "
        "allowed_directories allowed_paths autoinstall_known_extensions autoload_known_extensions "
        "custom_extension_repository disabled_filesystems duckdb_api enable_external_access enable_external_file_cache "
        "enable_logging enable_profiling extension_directory external_threads file_search_path home_directory "
        "http_proxy lock_configuration log_query_path logging_storage max_memory max_temp_directory_size memory_limit "
        "pin_threads profiling_output schema search_path secret_directory temp_directory threads username"
    ).split()
    for form in ("SET {} = 'x'", "SET GLOBAL {} TO 'x'", "SET SESSION {} = 'x'", "RESET {}", "RESET GLOBAL {}", "PRAGMA {} = 'x'"):
        assert not refused([form.format(name) for name in names], "statements are not allowed")
    assert not refused([f"SELECT current_setting('{name}')" for name in names], "is not available here")
