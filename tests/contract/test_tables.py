"""GET and PUT /tables/{name}: what a table's columns and rules are, and declaring them."""

import pytest

from harness.lakes import FolderLake
from harness.rows_client import NO_FLUSH, buffered, count, flushed, kept, ndjson, post_rows, stored, stream

SETTINGS = {"EIDER_INGEST_LISTEN": "127.0.0.1:0", **NO_FLUSH}


@pytest.fixture(scope="module")
def server(eider_binary, tmp_path_factory):
    from conftest import _factory

    factory = _factory(eider_binary, tmp_path_factory)
    yield factory(SETTINGS, lake=FolderLake())
    factory.finish()


def show(server, table, base=None):
    answer = server.get(f"/tables/{table}", base)
    assert answer.status_code == 200, answer.text
    return answer.json()


def declare(server, table, document, base=None):
    return server.request("PUT", f"/tables/{table}", base, json=document)


def types(description):
    return {column["name"]: column["type"] for column in description["columns"]}


def test_a_table_shows_what_its_records_made_of_it(server, table):
    buffered(server, table, {"a": 1, "b": "x"})
    seen = show(server, table)
    assert seen["table"] == table and seen["buffered_rows"] == 1
    assert types(seen) == {"a": "BIGINT", "b": "VARCHAR"}
    assert seen["partition_by"] == "arrival"
    buffered(server, table, {"a": 1.5, "c": True})
    assert types(show(server, table)) == {"a": "DOUBLE", "b": "VARCHAR", "c": "BOOLEAN"}


def test_an_unknown_table_is_404(server, table):
    answer = server.get(f"/tables/{table}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = server.get(f"/tables/{table}", server.ingest)
    assert (answer.status_code, list(answer.json())) == (404, ["detail"])


@pytest.mark.parametrize("name", ["select", "1a", "a-b", "a%00b", "a" * 65])
def test_bad_names_are_400(server, name):
    answer = server.get(f"/tables/{name}")
    assert answer.status_code == 400 and answer.json()["error"].endswith(".")
    assert declare(server, name, {}).status_code == 400


def test_other_methods_are_405_and_name_the_right_ones(server, table):
    for base in (server.url, server.ingest):
        answer = server.post(f"/tables/{table}", base)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT")
        answer = server.get(f"/tables/{table}/rows", base)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_declared_columns_and_rules(server, table):
    answer = declare(
        server,
        table,
        {
            "columns": [{"name": "day", "type": "date"}, {"name": "n", "type": "BIGINT"}],
            "partition_by": "day",
            "sort_by": ["n"],
        },
    )
    assert answer.status_code == 200, answer.text
    seen = show(server, table)
    assert answer.json() == seen
    assert types(seen)["day"] == "DATE" and seen["partition_by"] == "day" and seen["sort_by"] == ["n"]
    assert table in server.get("/tables").json()["tables"]
    rows = [{"day": "2024-05-02", "n": 2}, {"day": "2024-05-01", "n": 3}, {"day": "2024-05-02", "n": 1}]
    kept(post_rows(server, table, ndjson(rows)))
    flushed(server, table)
    keys = server.lake.table_keys(table)
    assert ["day=01" in keys[0], "day=02" in keys[1]] == [True, True]
    assert [row["n"] for row in stored(server, table)] == [3, 1, 2]


def test_a_declaration_outlives_a_restart(start_eider, table):
    server = start_eider(SETTINGS, lake=FolderLake())
    assert declare(server, table, {"columns": [{"name": "at", "type": "TIMESTAMP"}], "retention_days": 30}).status_code == 200
    before = show(server, table)
    server.kill()
    again = start_eider(SETTINGS, lake=FolderLake(), data=server.data)
    assert show(again, table) == before
    assert before["retention_days"] == 30


@pytest.mark.parametrize(
    "document",
    [
        {"columns": [{"name": "a", "type": "NONSENSE"}]},
        {"columns": [{"name": "", "type": "BIGINT"}]},
        {"columns": 5},
        {"partition_by": "nowhere"},
        {"nonsense": 1},
        [],
        5,
    ],
)
def test_declarations_that_mean_nothing_change_nothing(server, table, document):
    buffered(server, table, {"b": 1})
    before = show(server, table)
    answer = declare(server, table, document)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert show(server, table) == before


def test_a_body_that_is_no_json_is_400(server, table):
    answer = server.request("PUT", f"/tables/{table}", data=b"{bad")
    assert answer.status_code == 400 and "byte 1" in answer.json()["error"]
    assert server.request("PUT", f"/tables/{table}", data=b"\xff").status_code == 400
    assert server.request("PUT", f"/tables/{table}").status_code == 400
    assert server.get(f"/tables/{table}").status_code == 404


def test_a_column_widens_but_not_back(server, table):
    buffered(server, table, {"a": 1})
    assert declare(server, table, {"columns": [{"name": "a", "type": "DOUBLE"}]}).status_code == 200
    assert types(show(server, table))["a"] == "DOUBLE"
    assert declare(server, table, {"columns": [{"name": "a", "type": "BOOLEAN"}]}).status_code == 400
    buffered(server, table, {"a": 2})
    assert count(server, table) == 2
    flushed(server, table)
    assert stored(server, table) == [{"a": 1.0}, {"a": 2.0}]


def test_what_fits_no_type_is_kept_beside(server, table):
    assert declare(server, table, {"columns": [{"name": "a", "type": "BIGINT"}]}).status_code == 200
    kept(post_rows(server, table, ndjson([{"a": 1}, {"a": "x"}])))
    flushed(server, table)
    rows = stored(server, table)
    assert [row["a"] for row in rows] == [1, None]
    assert "x" in rows[1]["_rest"]


# type, what is sent, what the column then has (None: the value is in _rest), as text
FITTING = [
    ("INTEGER", 1.5, None),
    ("INTEGER", "1.5", None),
    ("INTEGER", 1e3, "1000"),
    ("INTEGER", 5.0, "5"),
    ("TINYINT", 1e-300, None),
    ("UBIGINT", 2**64 - 1, str(2**64 - 1)),
    ("UTINYINT", 256, None),
    ("HUGEINT", 2**126 + 1, str(2**126 + 1)),
    ("HUGEINT", -(2**127) + 1, None),
    ("UHUGEINT", 2**128 - 1, None),
    ("FLOAT", 1e39, None),
    ("FLOAT", 1.5, "1.5"),
    ("FLOAT", "inf", "inf"),
    ("FLOAT", "nan", "nan"),
    ("TIMESTAMP_S", "infinity", None),
    ("TIMESTAMP_S", "2025-12-20 10:00:00", "2025-12-20 10:00:00"),
    ("TIMESTAMP_MS", "infinity", "infinity"),
]


def test_a_value_that_a_declared_type_would_change_goes_to_rest(server, table):
    names = [f"v{i}" for i in range(len(FITTING))]
    columns = [{"name": name, "type": case[0]} for name, case in zip(names, FITTING)]
    assert declare(server, table, {"columns": columns}).status_code == 200
    kept(post_rows(server, table, ndjson([{name: case[1] for name, case in zip(names, FITTING)}])))
    texts = ", ".join(f"{name}::VARCHAR AS {name}" for name in names)
    for where in ("log", "file"):
        row = server.sql(f'SELECT {texts}, "_rest" FROM {table}')["rows"][0]
        rest = row.pop("_rest")
        assert row == {name: case[2] for name, case in zip(names, FITTING)}, where
        assert all((f'"{name}"' in rest) == (case[2] is None) for name, case in zip(names, FITTING)), (where, rest)
        flushed(server, table)


@pytest.mark.once
def test_names_that_differ_in_case_are_one_table(start_eider, table):
    """SQL has one name for both, so the first is the only one: on every way in, and after a crash."""
    server = start_eider(SETTINGS, lake=FolderLake())
    other = table.upper()
    assert post_rows(server, other, b'{"v":').status_code == 422  # makes no table
    kept(post_rows(server, table, b'{"v":1}\n'))

    def refused(answer):
        assert answer.status_code == 409, f"{answer.status_code} {answer.text}"
        assert f"there is a table {table}: names of tables may not differ in case alone" in answer.text

    for _ in range(2):
        refused(post_rows(server, other, b'{"v":2}\n'))
        refused(post_rows(server, other, b'v\n2\n', "text/csv"))
        refused(stream(server, other, {"v": 2}))
        refused(server.post("/ingest", server.ingest, json={"table_name": other, "records": [{"v": 2}]}))
        refused(server.request("PUT", f"/tables/{other}", json={"columns": [{"name": "v", "type": "BIGINT"}]}))
        assert count(server, other) == 0 and table in server.get("/tables").json()["tables"]
        assert other not in server.get("/tables").json()["tables"]
        assert server.sql(f"SELECT v FROM {other}")["rows"] == [{"v": 1}]
        server.kill()
        server = start_eider(SETTINGS, lake=server.lake, data=server.data)
    kept(post_rows(server, table, b'{"v":3,"w":true}\n'))
