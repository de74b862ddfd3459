"""JSON values into typed columns: contract section 5 with the corrections of section 10 item 13. Check 16.

Every value is read back by pyarrow (a Python value) and by the DuckDB client (the value's text)."""

import datetime
import json
import uuid
from decimal import Decimal

import pytest

from harness.snapshot_client import Sidecar, column, duckdb_rows, error_of

UTC = datetime.timezone.utc


@pytest.fixture(scope="module")
def sidecar(eider, s3):
    return Sidecar(eider.snapshot, s3)


def snapshot_text(sidecar, key, kind, *values):
    """The body as text, so that the values arrive as they are written here."""
    body = sidecar.snapshot_body(key, "@", [column("v", kind)])
    rows = ",".join('{"v":%s}' % value for value in values)
    return json.dumps(body).replace('"@"', f"[{rows}]")


def stamp(*parts, tz=None):
    return datetime.datetime(*parts, tzinfo=tz)


BIG = "12345678901234567890123456789012345678"
ROUND_TRIPS = [
    # type, JSON text, the DuckDB client's text, pyarrow's value
    ("BIGINT", "1706140800000", "1706140800000", 1706140800000),
    ("BIGINT", "9007199254740993", "9007199254740993", 9007199254740993),
    ("BIGINT", '"9007199254740993"', "9007199254740993", 9007199254740993),
    ("BIGINT", "9223372036854775807", "9223372036854775807", 9223372036854775807),
    ("BIGINT", "-9223372036854775808", "-9223372036854775808", -9223372036854775808),
    ("BIGINT", "-0", "0", 0),
    ("BIGINT", "null", None, None),
    ("UBIGINT", "18446744073709551615", "18446744073709551615", 18446744073709551615),
    ("INTEGER", "1", "1", 1),
    ("INTEGER", "-2147483648", "-2147483648", -2147483648),
    ("INTEGER", "true", "1", 1),
    ("INTEGER", '"42"', "42", 42),
    ("TINYINT", "-128", "-128", -128),
    ("UTINYINT", "255", "255", 255),
    ("HUGEINT", BIG, BIG, Decimal(BIG)),
    ("HUGEINT", f'"-{BIG}"', f"-{BIG}", Decimal(f"-{BIG}")),
    ("HUGEINT", "7", "7", Decimal(7)),
    ("DOUBLE", "0.1", "0.1", 0.1),
    ("DOUBLE", "1", "1.0", 1.0),
    ("DOUBLE", "1e300", "1e+300", 1e300),
    ("DOUBLE", "-2.5e-300", "-2.5e-300", -2.5e-300),
    ("DOUBLE", "9007199254740993", "9007199254740992.0", 9007199254740992.0),
    ("DOUBLE", '"1.5"', "1.5", 1.5),
    ("FLOAT", "1.5", "1.5", 1.5),
    ("DECIMAL(18,2)", "1.5", "1.50", Decimal("1.50")),
    ("DECIMAL(18,2)", "1.005", "1.01", Decimal("1.01")),
    ("DECIMAL(18,2)", '"1.005"', "1.01", Decimal("1.01")),
    ("DECIMAL( 18 , 2 )", "-0.01", "-0.01", Decimal("-0.01")),
    ("DECIMAL", "1.2345", "1.235", Decimal("1.235")),
    ("DECIMAL(38,10)", "1234567890123456789012345678.0123456789", "1234567890123456789012345678.0123456789", None),
    ("DECIMAL(20,2)", "123456789012345678.99", "123456789012345678.99", Decimal("123456789012345678.99")),
    ("BOOLEAN", "true", "true", True),
    ("BOOLEAN", "0", "false", False),
    ("BOOLEAN", "2", "true", True),
    ("BOOLEAN", "-1", "true", True),
    ("BOOLEAN", '"true"', "true", True),
    ("BOOLEAN", '"F"', "false", False),
    ("BOOLEAN", '"1"', "true", True),
    ("BOOLEAN", '"no"', "false", False),
    ("VARCHAR", '"text"', "text", "text"),
    ("VARCHAR", '""', "", ""),
    ("VARCHAR", '"null"', "null", "null"),
    ("VARCHAR", "null", None, None),
    ("VARCHAR", "1", "1", "1"),
    ("VARCHAR", "1.5", "1.5", "1.5"),
    ("VARCHAR", "12345678901", "12345678901", "12345678901"),
    ("VARCHAR", "12345678901234567890123", "12345678901234567890123", "12345678901234567890123"),
    ("VARCHAR", "0.1234567890123456789", "0.1234567890123456789", "0.1234567890123456789"),
    ("VARCHAR", "true", "true", "true"),
    ("VARCHAR", "false", "false", "false"),
    ("varchar(10)", '"longer than ten"', "longer than ten", "longer than ten"),
    ("VARCHAR", '"\\u00e9\\ud83d\\ude00 \\"q\\" \\\\ \\/ \\t"', 'é😀 "q" \\ / \t', 'é😀 "q" \\ / \t'),
    ("VARCHAR", '"a\\u0000b"', "a\x00b", "a\x00b"),
    ("VARCHAR", '"a\\ud800b"', "a\ufffdb", "a\ufffdb"),
    ("VARCHAR", '"\\udc00"', "\ufffd", "\ufffd"),
    ("DATE", '"2024-01-15"', "2024-01-15", datetime.date(2024, 1, 15)),
    ("DATE", '"1969-12-31"', "1969-12-31", datetime.date(1969, 12, 31)),
    ("TIME", '"10:11:12.5"', "10:11:12.5", datetime.time(10, 11, 12, 500000)),
    ("TIMESTAMP", '"2024-01-15T10:00:00+02:00"', "2024-01-15 08:00:00", stamp(2024, 1, 15, 8)),
    ("TIMESTAMP", '"2024-01-15T00:30:00-05:30"', "2024-01-15 06:00:00", stamp(2024, 1, 15, 6)),
    ("TIMESTAMP", '"2024-01-15T10:00:00Z"', "2024-01-15 10:00:00", stamp(2024, 1, 15, 10)),
    (
        "TIMESTAMP",
        '"2024-01-15T10:11:12.123456Z"',
        "2024-01-15 10:11:12.123456",
        stamp(2024, 1, 15, 10, 11, 12, 123456),
    ),
    ("TIMESTAMP", '"2024-01-15 10:00:00"', "2024-01-15 10:00:00", stamp(2024, 1, 15, 10)),
    ("TIMESTAMP", '"2024-01-15"', "2024-01-15 00:00:00", stamp(2024, 1, 15)),
    (
        "TIMESTAMP",
        '"1969-12-31T23:59:59.999999Z"',
        "1969-12-31 23:59:59.999999",
        stamp(1969, 12, 31, 23, 59, 59, 999999),
    ),
    ("TIMESTAMPTZ", '"2024-01-15T10:00:00+02:00"', "2024-01-15 08:00:00+00", stamp(2024, 1, 15, 8, tz=UTC)),
    ("TIMESTAMPTZ", '"2024-01-15T10:00:00Z"', "2024-01-15 10:00:00+00", stamp(2024, 1, 15, 10, tz=UTC)),
    ("BLOB", '"\\\\xFF\\\\x00a"', "\\xFF\\x00a", b"\xff\x00a"),
    ("UUID", '"6ba7b810-9dad-11d1-80b4-00c04fd430c8"', "6ba7b810-9dad-11d1-80b4-00c04fd430c8", None),
    ("INTERVAL", '"1 month 2 days 3 seconds"', "1 month 2 days 00:00:03", None),
    ("BIT", '"101"', "101", "101"),
    ("JSON", '"{\\"a\\": [1]}"', '{"a": [1]}', None),
]


@pytest.mark.parametrize("kind, text, shown, value", ROUND_TRIPS)
def test_round_trip(sidecar, tmp_path, kind, text, shown, value):
    answer = sidecar.post("/snapshot", snapshot_text(sidecar, "one.parquet", kind, text))
    assert answer.status_code == 200, answer.text
    body = sidecar.object("one.parquet")
    assert duckdb_rows(tmp_path, body, "v::VARCHAR") == [(shown,)]
    if value is not None or shown is None:
        assert sidecar.parquet("one.parquet").read()["v"][0].as_py() == value


def test_a_uuid_is_one(sidecar):
    text = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    assert (
        sidecar.post("/snapshot", snapshot_text(sidecar, "uuid.parquet", "UUID", json.dumps(text))).status_code == 200
    )
    assert str(uuid.UUID(text)) == str(sidecar.parquet("uuid.parquet").read()["v"][0].as_py())
    assert sidecar.rows("SELECT v FROM t", {"t": "uuid.parquet"}) == [(text,)]


@pytest.mark.parametrize("kind", ["VARCHAR", "JSON"])
@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"b":[true,null,"x"]}',
        "[1,2]",
        '{"n":12345678901234567890.10}',
        '{"é":"\\u00e9"}',
        "{}",
        "[]",
        '{"a":{"a":{}}}',
    ],
)
def test_objects_and_arrays_become_json_text(sidecar, tmp_path, kind, text):
    """The same JSON, with the digits of the client: only the space between tokens may change."""
    answer = sidecar.post("/snapshot", snapshot_text(sidecar, "nested.parquet", kind, text))
    assert answer.status_code == 200, answer.text
    ((stored,),) = duckdb_rows(tmp_path, sidecar.object("nested.parquet"), "v::VARCHAR")
    exactly = {"parse_float": str, "parse_int": str}
    assert json.loads(stored, **exactly) == json.loads(text, **exactly)


@pytest.mark.parametrize("text", ["1.0", "1e2", "-0.50"])
def test_fractions_keep_their_value_in_text(sidecar, tmp_path, text):
    assert sidecar.post("/snapshot", snapshot_text(sidecar, "text.parquet", "VARCHAR", text)).status_code == 200
    ((stored,),) = duckdb_rows(tmp_path, sidecar.object("text.parquet"))
    assert isinstance(stored, str) and Decimal(stored) == Decimal(text)


@pytest.mark.parametrize("text", ["1.0", "3e2", '"1"'])
def test_whole_numbers_fit_integers_however_written(sidecar, tmp_path, text):
    assert sidecar.post("/snapshot", snapshot_text(sidecar, "whole.parquet", "INTEGER", text)).status_code == 200
    assert duckdb_rows(tmp_path, sidecar.object("whole.parquet")) == [(int(float(json.loads(text))),)]


REFUSED = [
    ("INTEGER", "1.5"),
    ("INTEGER", "2.5"),
    ("INTEGER", "3000000000"),
    ("INTEGER", "{}"),
    ("BIGINT", "1e19"),
    ("BIGINT", "9223372036854775808"),
    ("BIGINT", '"abc"'),
    ("BIGINT", '""'),
    ("BIGINT", "[1]"),
    ("UTINYINT", "-1"),
    ("HUGEINT", "1" + "0" * 40),
    ("DOUBLE", '"abc"'),
    ("DECIMAL(4,2)", "100"),
    ("BOOLEAN", '"maybe"'),
    ("TIMESTAMP", "1706140800000"),
    ("TIMESTAMP", '"yesterday"'),
    ("TIMESTAMP", '"2024-02-30"'),
    ("DATE", '"15/01/2024"'),
    ("DATE", "20240115"),
    ("TIME", '"25:00:00"'),
    ("UUID", '"not-a-uuid"'),
    ("JSON", '"{bad"'),
    ("BIT", '"12"'),
    ("INTERVAL", '"soon"'),
]


@pytest.mark.parametrize("kind, text", REFUSED)
def test_values_that_do_not_fit(sidecar, kind, text):
    """The error names row and column, and nothing is stored."""
    answer = sidecar.post("/snapshot", snapshot_text(sidecar, "refused.parquet", kind, "null", "null", text))
    error = error_of(answer, 400)
    assert "2" in error and "v" in error, error
    assert sidecar.keys("refused") == []


def test_all_types_in_one_file_survive_the_way_to_json(sidecar):
    columns = [
        column("big", "BIGINT"),
        column("huge", "HUGEINT"),
        column("money", "DECIMAL(18,2)"),
        column("at", "TIMESTAMP"),
        column("day", "DATE"),
        column("raw", "BLOB"),
        column("span", "INTERVAL"),
        column("doc", "JSON"),
    ]
    row = {
        "big": 9007199254740993,
        "huge": int(BIG),
        "money": 19.9,
        "at": "2024-01-15T10:11:12.123456Z",
        "day": "2024-01-15",
        "raw": "\\x00\\xFF",
        "span": "1 month 2 days 3 seconds",
        "doc": {"k": [1, 2]},
    }
    sidecar.write("all.parquet", [row], columns)
    answer = sidecar.result("SELECT * FROM t", {"t": "all.parquet"})["rows"][0]
    document = answer.pop("doc")
    assert isinstance(document, str) and json.loads(document) == {"k": [1, 2]}
    span = answer.pop("span")
    assert span == {"months": 1, "days": 2, "micros": 3000000}
    assert answer == {
        "big": "9007199254740993",
        "huge": BIG,
        "money": 19.9,
        "at": "2024-01-15T10:11:12.123Z",
        "day": "2024-01-15T00:00:00.000Z",
        "raw": {"type": "Buffer", "data": [0, 255]},
    }
