"""Results as NDJSON, CSV, Arrow and Parquet, each read by the library its users have, and equal to the default JSON."""

import csv
import datetime
import io
import json
import re
import uuid
from decimal import Decimal

import duckdb
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
import requests

FORMATS = ["json", "ndjson", "csv", "arrow", "parquet"]
LAST_SAFE = 9007199254740991
csv.field_size_limit(1 << 30)


@pytest.fixture
def ask(eider):
    def post(sql, format="json", **fields):
        answer = eider.post(f"/query?format={format}", json={"sql": sql, **fields})
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:500]}"
        return answer.content

    return post


@pytest.fixture
def refused(eider):
    def post(sql, format, status=400):
        answer = eider.post(f"/query?format={format}", json={"sql": sql})
        assert answer.status_code == status, f"{answer.status_code} {answer.content[:200]}"
        return answer.json()["error"]

    return post


# ---- the readers ----

def rows_of_json(body):
    return json.loads(body, parse_float=Decimal)["rows"]


def table_of_arrow(body):
    with pyarrow.ipc.open_stream(pyarrow.py_buffer(body)) as reader:
        table = reader.read_all()
    table.validate(full=True)
    return table


def table_of_parquet(body):
    file = pyarrow.parquet.ParquetFile(io.BytesIO(body))
    for group in range(file.metadata.num_row_groups):
        assert file.metadata.row_group(group).column(0).compression == "ZSTD"
    table = file.read()
    table.validate(full=True)
    return table


TABLES = {"arrow": table_of_arrow, "parquet": table_of_parquet}


def rows_of_csv(body):
    text = body.decode()
    lines = list(csv.reader(io.StringIO(text, newline="")))
    return lines[0], lines[1:]


def names_of(format, body):
    if format == "json":
        return json.loads(body)["columns"]
    if format == "ndjson":
        return list(json.loads(body.split(b"\n")[0]))
    if format == "csv":
        return rows_of_csv(body)[0]
    return TABLES[format](body).column_names


def count_of(format, body):
    if format == "json":
        return len(json.loads(body)["rows"])
    if format == "ndjson":
        assert body == b"" or body.endswith(b"\n")
        return body.count(b"\n")
    if format == "csv":
        return len(rows_of_csv(body)[1])
    return len(TABLES[format](body))


# ---- a value of a library beside the same value in JSON ----

def number_of(value):
    """JSON has it as a number while a double keeps it, else as a text of digits."""
    return Decimal(value) if isinstance(value, str) else value


def json_time(moment):
    moment = moment.replace(tzinfo=None)
    moment -= datetime.timedelta(microseconds=moment.microsecond % 1000)
    return moment.isoformat(timespec="milliseconds") + "Z"


def same(value, expected):
    """Whether a Python value of pyarrow is what JSON says; `expected` was read with parse_float=Decimal."""
    if value is None or isinstance(value, (bool, str)):
        return value == expected and type(value) is type(expected)
    if isinstance(value, float):
        finite = value == value and abs(value) != float("inf")
        return expected is None if not finite else float(expected) == value
    if isinstance(value, (int, Decimal)):
        text = isinstance(expected, str)
        return number_of(expected) == value and (not text or abs(value) > LAST_SAFE or value != int(value))
    if isinstance(value, bytes):
        return expected == {"type": "Buffer", "data": list(value)}
    if isinstance(value, datetime.datetime):
        return json_time(value) == expected
    if isinstance(value, datetime.date):
        return value.isoformat() + "T00:00:00.000Z" == expected
    if isinstance(value, datetime.time):
        return value == datetime.time.fromisoformat(expected)
    if isinstance(value, uuid.UUID):
        return str(value) == expected
    if isinstance(value, pyarrow.MonthDayNano):
        months, days, nanoseconds = value
        return expected == {"months": months, "days": days, "micros": nanoseconds // 1000}
    if isinstance(value, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    return list(value) == list(expected) and all(same(value[key], expected[key]) for key in value)


def check_same(table, rows, text_columns=()):
    """text_columns: those whose type JSON has only as the engine's text, checked elsewhere."""
    assert len(table) == len(rows)
    for name in table.column_names:
        if name in text_columns:
            continue
        for value, row in zip(table.column(name).to_pylist(), rows):
            assert same(value, row[name]), (name, value, row[name])


# ---- every type ----

# Name: two values; a row of NULLs stands between them.
TYPES = {
    "boolean": ("true", "false"),
    "tinyint": ("(-128)::TINYINT", "127::TINYINT"),
    "smallint": ("(-32768)::SMALLINT", "32767::SMALLINT"),
    "int": ("(-2147483648)::INTEGER", "2147483647"),
    "bigint": ("(-9223372036854775808)::BIGINT", "9223372036854775807"),
    "utinyint": ("0::UTINYINT", "255::UTINYINT"),
    "usmallint": ("0::USMALLINT", "65535::USMALLINT"),
    "uinteger": ("0::UINTEGER", "4294967295::UINTEGER"),
    "ubigint": ("1::UBIGINT", "18446744073709551615::UBIGINT"),
    "hugeint": (
        "'-99999999999999999999999999999999999999'::HUGEINT", "'99999999999999999999999999999999999999'::HUGEINT"
    ),
    "float": ("0.1::FLOAT", "'-inf'::FLOAT"),
    "double": ("1.7976931348623157e308::DOUBLE", "'nan'::DOUBLE"),
    "double2": ("5e-324::DOUBLE", "123456.789::DOUBLE"),
    "decimal4": ("-99.99::DECIMAL(4,2)", "0::DECIMAL(4,2)"),
    "decimal9": ("-1234567.89::DECIMAL(9,2)", "0.01::DECIMAL(9,2)"),
    "decimal18": ("-1234567890123456.78::DECIMAL(18,2)", "12345678.5::DECIMAL(18,2)"),
    "decimal38": (
        "'-0.99999999999999999999999999999999999999'::DECIMAL(38,38)", "'0.5'::DECIMAL(38,38)"
    ),
    "varchar": ("''", "'twelve bytes'"),
    "varchar2": ("'é€😀 \"quoted\" \\ , ; | ' || chr(0) || chr(9) || chr(31)", "chr(13) || chr(10) || 'line'"),
    "json": ("'{\"a\": [1, null]}'::JSON", "'\"x\"'::JSON"),
    "blob": ("'\\x00\\x01\\xFF\\x22'::BLOB", "''::BLOB"),
    "date": ("DATE '0001-01-01'", "DATE '9999-12-31'"),
    "time": ("TIME '00:00:00'", "TIME '23:59:59.999999'"),
    "timestamp": ("TIMESTAMP '0001-01-01 00:00:00'", "TIMESTAMP '1969-12-31 23:59:59.999999'"),
    "timestamp_s": ("'2024-01-15 10:11:12'::TIMESTAMP_S", "'1950-01-01 00:00:01'::TIMESTAMP_S"),
    "timestamp_ms": ("'2024-01-15 10:11:12.125'::TIMESTAMP_MS", "'1950-01-01 00:00:00.999'::TIMESTAMP_MS"),
    "timestamptz": ("'2024-01-15 10:11:12.5+02'::TIMESTAMPTZ", "'1969-12-31 23:00:00-05:30'::TIMESTAMPTZ"),
    "uuid": ("'00000000-0000-0000-0000-000000000001'::UUID", "'ffffffff-ffff-ffff-ffff-fffffffffffe'::UUID"),
    "enum": ("'b'::ENUM('a','b','c')", "'a'::ENUM('a','b','c')"),
    "list": ("[1, NULL, 3]", "[]::INTEGER[]"),
    "list2": ("[[1.5::DOUBLE], NULL, []]", "[['nan'::DOUBLE, 2]]"),
    "texts": ("['', NULL, 'longer than twelve bytes']", "['x']"),
    "struct": ("{'a': 9223372036854775807, 'b': 'x'}", "{'a': NULL, 'b': NULL}"),
    "struct2": (
        "{'l': [{'d': DATE '2024-02-29', 'b': 'a'::BLOB}], 'n': 1.50::DECIMAL(4,2)}", "{'l': NULL, 'n': NULL}"
    ),
    "enums": ("['a'::ENUM('a','z'), NULL, 'z'::ENUM('a','z')]", "[]::ENUM('a','z')[]"),
    "uuids": ("['ffffffff-ffff-ffff-ffff-fffffffffffe'::UUID]", "[NULL::UUID]"),
    "nothing": ("NULL", "NULL"),
    # JSON has the engine's text of these
    "uhugeint": ("0::UHUGEINT", "340282366920938463463374607431768211455::UHUGEINT"),
    "bignum": ("'-123456789012345678901234567890123456789012345'::BIGNUM", "'0'::BIGNUM"),
    "bit": ("'0101'::BIT", "'1'::BIT"),
    "timetz": ("'10:11:12+02'::TIMETZ", "'00:00:00-15:59'::TIMETZ"),
    "variant": ("{'x': [1, 2]}::VARIANT", "42::VARIANT"),
    "union": ("union_value(k := 1)", "union_value(k := NULL::INTEGER)"),
    # and of these, which Arrow and Parquet have as they are
    "interval": ("INTERVAL '1 month 2 days 3.000004 seconds'", "INTERVAL '-1 day'"),
    "array": ("[1, NULL, 3]::INTEGER[3]", "[4, 5, 6]::INTEGER[3]"),
    "arrays": ("[[1, 2]::INTEGER[2], NULL]", "[[NULL, 3]::INTEGER[2]]"),
    "map": ("MAP {'k': 1, 'j': NULL}", "MAP {}::MAP(VARCHAR, INTEGER)"),
    "map2": ("MAP {1: [{'x': 'y'}]}", "MAP {2: NULL, 3: []}"),
}


def select_types(cast="{}"):
    def row(values):
        return "SELECT " + ", ".join(cast.format(value) + f' AS "{name}"' for name, value in values.items())

    first = {name: pair[0] for name, pair in TYPES.items()}
    nulls = {name: f"CASE WHEN false THEN {pair[0]} END" for name, pair in TYPES.items()}
    last = {name: pair[1] for name, pair in TYPES.items()}
    return " UNION ALL ".join(map(row, (first, nulls, last)))


def test_arrow_has_every_type(ask):
    table = table_of_arrow(ask(select_types(), "arrow"))
    rows = rows_of_json(ask(select_types()))
    check_same(table, rows, ("uhugeint", "array", "arrays", "map", "map2", "nothing"))
    assert table.column("uhugeint").to_pylist() == ["0", None, "340282366920938463463374607431768211455"]
    assert table.column("array").to_pylist() == [[1, None, 3], None, [4, 5, 6]]
    assert table.column("arrays").to_pylist() == [[[1, 2], None], None, [[None, 3]]]
    assert table.column("map").to_pylist() == [[("k", 1), ("j", None)], None, []]
    assert table.column("map2").to_pylist() == [[(1, [{"x": "y"}])], None, [(2, None), (3, [])]]
    assert table.column("nothing").to_pylist() == [None, None, None]


def test_arrow_types_are_the_documented_ones(ask):
    schema = table_of_arrow(ask(select_types(), "arrow")).schema
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    expected = {
        "boolean": "bool", "tinyint": "int8", "ubigint": "uint64", "hugeint": "decimal128(38, 0)",
        "uhugeint": "string", "float": "float", "decimal4": "decimal128(4, 2)", "decimal38": "decimal128(38, 38)",
        "varchar": "string", "json": "string", "blob": "binary", "date": "date32[day]", "time": "time64[us]",
        "timestamp": "timestamp[us]", "timestamp_s": "timestamp[s]", "timestamp_ms": "timestamp[ms]",
        "timestamptz": "timestamp[us, tz=UTC]", "interval": "month_day_nano_interval",
        "uuid": "extension<arrow.uuid>", "enum": "dictionary<values=string, indices=uint8, ordered=0>",
        "list": "list<item: int32>", "array": "fixed_size_list<item: int32>[3]",
        "struct": "struct<a: int64, b: string>", "map": "map<string, int32>", "union": "string", "bit": "string",
        "bignum": "string", "timetz": "string",
    }
    assert {name: kinds[name] for name in expected} == expected


def test_parquet_has_every_type(ask):
    table = table_of_parquet(ask(select_types(), "parquet"))
    rows = rows_of_json(ask(select_types()))
    check_same(table, rows, ("uhugeint", "array", "arrays", "map", "map2", "interval", "nothing"))
    assert table.column("uhugeint").to_pylist() == ["0", None, "340282366920938463463374607431768211455"]
    assert table.column("array").to_pylist() == [[1, None, 3], None, [4, 5, 6]]
    assert table.column("arrays").to_pylist() == [[[1, 2], None], None, [[None, 3]]]
    assert table.column("map").to_pylist() == [[("k", 1), ("j", None)], None, []]
    assert table.column("map2").to_pylist() == [[(1, [{"x": "y"}])], None, [(2, None), (3, [])]]
    assert table.column("interval").to_pylist() == ["1 month 2 days 00:00:03.000004", None, "-1 day"]
    assert table.schema.field("hugeint").type == pyarrow.decimal128(38, 0)
    assert table.schema.field("timestamptz").type == pyarrow.timestamp("us", "UTC")


def test_csv_is_the_engines_text(ask):
    names, rows = rows_of_csv(ask(select_types(), "csv"))
    texts = rows_of_json(ask(select_types("CAST({} AS VARCHAR)")))
    assert names == list(TYPES)
    for row, expected in zip(rows, texts, strict=True):
        assert row == [expected[name] or "" for name in names]


def test_ndjson_lines_are_the_rows_of_json(ask):
    lines = ask(select_types(), "ndjson").split(b"\n")
    assert lines.pop() == b"" and len(lines) == 3
    assert b'"rows":[' + b",".join(lines) + b'],"row_count":3}' in ask(select_types())


# ---- NULL, nothing, and much ----

def test_csv_tells_null_from_an_empty_text(ask):
    body = ask("SELECT * FROM (VALUES (1, '', NULL), (NULL, 'a,b', 'say \"hi\"'), (2, 'a\nb', ' c ')) t(n, s, u)", "csv")
    assert body == b'n,s,u\r\n1,"",\r\n,"a,b","say ""hi"""\r\n2,"a\nb", c \r\n'


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_result_keeps_its_columns(ask, format):
    body = ask("SELECT range AS n, [range] AS l, 'a'::ENUM('a') AS e FROM range(0)", format)
    assert count_of(format, body) == 0
    if format == "ndjson":
        assert body == b""
    else:
        assert names_of(format, body) == ["n", "l", "e"]


@pytest.mark.parametrize("format", FORMATS)
def test_repeated_names_are_told_apart(ask, format):
    body = ask("SELECT 1 AS a, 2 AS a, 3 AS \"a_1\", 4 AS a, 5 AS \"x,\"\"y\"", format)
    assert names_of(format, body) == ["a", "a_2", "a_1", "a_3", 'x,"y']


def test_names_that_differ_in_case_are_told_apart_in_parquet(ask):
    body = ask("SELECT 'x' AS a, 'y' AS A, 'z' AS a_1, 'v' AS A_2", "parquet")
    assert names_of("parquet", body) == ["a", "A_3", "a_1", "A_2"]


NESTED = """
SELECT i,
       CASE WHEN i % 7 <> 0 THEN {'a': i, 's': CASE WHEN i % 3 = 0 THEN NULL ELSE 'text number ' || i END} END AS st,
       CASE WHEN i % 5 <> 0 THEN [x * i FOR x IN range(i % 5)] END AS l,
       CASE WHEN i % 11 <> 0 THEN [CASE WHEN x <> 1 THEN {'k': [x::VARCHAR, NULL, repeat('y', (i % 40)::INTEGER)]} END
            FOR x IN range(i % 4)] END AS ls,
       CASE WHEN i % 2 = 0 THEN i % 3 = 0 END AS b,
       CASE WHEN i % 13 <> 0 THEN (i / 100)::DECIMAL(12,2) END AS d,
       ['red', 'green', NULL, 'blue'][i % 4 + 1]::ENUM('red', 'green', 'blue') AS e,
       CASE WHEN i % 6 <> 0 THEN {'t': TIMESTAMP '2024-01-01' + to_milliseconds(i), 'x': [i % 9 = 0, NULL]} END AS sx
FROM range({rows}) t(i) WHERE i % 17 <> 4
"""


@pytest.mark.parametrize("format", ["arrow", "parquet"])
def test_nested_values_over_many_chunks(ask, format):
    sql = NESTED.replace("{rows}", "20000")
    check_same(TABLES[format](ask(sql, format)), rows_of_json(ask(sql)))


def test_arrays_of_structs_and_maps_with_nulls(ask):
    sql = """SELECT a,
                    CASE WHEN i % 4 <> 0 THEN MAP {i: CASE WHEN i % 5 <> 0 THEN [i, NULL] END, -i - 1: []} END AS m,
                    {'f': f} AS s
             FROM range(5000) t(i) LEFT JOIN (
                 SELECT j, [{'a': j, 'b': j::VARCHAR}, NULL]::STRUCT(a BIGINT, b VARCHAR)[2] AS a
                 FROM range(5000) u(j) WHERE j % 3 <> 0
             ) ON i = j LEFT JOIN (
                 SELECT k, [k % 2 = 0, NULL]::BOOLEAN[2] AS f FROM range(0, 5000, 5) v(k)
             ) ON i = k ORDER BY i"""
    table = table_of_arrow(ask(sql, "arrow"))
    for i, row in enumerate(table.to_pylist()):
        array = [{"a": i, "b": str(i)}, None] if i % 3 else None
        pairs = [(i, [i, None] if i % 5 else None), (-i - 1, [])] if i % 4 else None
        flags = {"f": [i % 2 == 0, None] if i % 5 == 0 else None}
        assert row == {"a": array, "m": pairs, "s": flags}


SEVEN = """SELECT i AS id, (i % 1000)::INTEGER AS n, (i * 7 % 1000003) / 100.0::DOUBLE AS price,
                  'customer ' || (i % 10000) AS name, TIMESTAMP '2024-01-01' + to_microseconds(i * 1000003) AS "at",
                  (i * 13 % 10000000 / 100)::DECIMAL(12,2) AS amount, i % 3 = 0 AS ok
           FROM range(1000000) t(i)"""


@pytest.mark.once
@pytest.mark.parametrize("format", ["ndjson", "csv", "arrow", "parquet"])
def test_a_million_rows(ask, format, tmp_path):
    """Read by the engine's own reader of the format, and compared with the same statement run there."""
    path = tmp_path / "result"
    body = ask(SEVEN, format)
    path.write_bytes(body)
    table = table_of_arrow(body) if format == "arrow" else None
    source = {
        "ndjson": f"read_json('{path}', format='newline_delimited')",
        "csv": f"read_csv('{path}')",
        "arrow": "table_of_test",
        "parquet": f"read_parquet('{path}')",
    }[format]
    moment = "date_trunc('millisecond', \"at\")" if format == "ndjson" else '"at"'
    hashed = "SELECT count(*), bit_xor(hash(id::BIGINT, n::BIGINT, price, name, CAST({} AS TIMESTAMP), amount::DECIMAL(12,2), ok)) FROM {}"
    connection = duckdb.connect()
    if table is not None:
        connection.register("table_of_test", table)
    found = connection.sql(hashed.format('"at"', source)).fetchone()
    assert found == connection.sql(hashed.format(moment, f"({SEVEN})")).fetchone()
    assert found[0] == 1000000
    if format == "ndjson":
        assert b"".join([b'"rows":[', body[:-1].replace(b"}\n", b"},"), b'],"row_count":1000000}']) in ask(SEVEN)


# ---- max_rows ----

@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("there, wanted", [(5, 5), (6, 5), (5, 6), (2048, 2048), (2049, 2048), (100000, 70000), (0, 3)])
def test_max_rows_ends_the_result_well(ask, format, there, wanted):
    body = ask(f"SELECT range AS n, range::VARCHAR AS s FROM range({there})", format, max_rows=wanted)
    assert count_of(format, body) == min(there, wanted)
    if format == "json":
        assert json.loads(body)["truncated"] == (there > wanted)
        assert re.search(rb'\],"row_count":%d,"truncated":(true|false)}$' % min(there, wanted), body)


# ---- what a type cannot hold ----

@pytest.mark.parametrize(
    "format, expression",
    [
        ("arrow", "170141183460469231731687303715884105727::HUGEINT"),
        ("arrow", "'-100000000000000000000000000000000000000'::HUGEINT"),
        ("arrow", "[{'h': 170141183460469231731687303715884105727::HUGEINT}]"),
        ("arrow", "TIME '24:00:00'"),
        ("arrow", "to_microseconds(9223372036854775807)"),
        ("parquet", "170141183460469231731687303715884105727::HUGEINT"),
    ],
)
def test_a_value_without_a_place_is_an_error_of_its_column(ask, refused, format, expression):
    assert 'column "v"' in refused(f"SELECT {expression} AS v", format)
    assert count_of("csv", ask(f"SELECT {expression} AS v", "csv")) == 1


def test_infinite_times_are_null_in_arrow_as_in_json(ask):
    sql = """SELECT * FROM (VALUES (DATE 'infinity', TIMESTAMP '-infinity', 'infinity'::TIMESTAMPTZ),
                                   (DATE '-infinity', TIMESTAMP 'infinity', NULL),
                                   (DATE '2024-01-01', TIMESTAMP '2024-01-01', '2024-01-01 00:00:00+00')) t(d, t, z)"""
    table = table_of_arrow(ask(sql, "arrow"))
    assert [column.null_count for column in table.columns] == [2, 2, 2]
    check_same(table, rows_of_json(ask(sql)))


def test_times_beyond_python_are_kept(ask):
    sql = "SELECT DATE '290000-01-01' AS d, TIMESTAMP '290000-01-01' AS t, '1677-09-22 00:00:00.000000001'::TIMESTAMP_NS AS n"
    table = table_of_arrow(ask(sql, "arrow"))
    expected = duckdb.sql(f"SELECT d - DATE '1970-01-01', epoch_us(t), epoch_ns(n) FROM ({sql})").fetchone()
    widths = {"d": pyarrow.int32(), "t": pyarrow.int64(), "n": pyarrow.int64()}
    assert tuple(table.column(name).cast(kind)[0].as_py() for name, kind in widths.items()) == expected


# ---- the end ----

ENDS = {
    "json": b'],"row_count":%d}',
    "arrow": b"\xff\xff\xff\xff\x00\x00\x00\x00",
    "parquet": b"PAR1",
}


@pytest.mark.parametrize("format", ENDS)
def test_only_a_whole_result_has_an_end(eider, ask, format):
    sql = "SELECT range AS n, CASE WHEN range < {} THEN 1 ELSE ('x' || range)::INTEGER END AS v FROM range(2000000)"
    end = ENDS[format] % 2000000 if format == "json" else ENDS[format]
    assert ask(sql.format(3000000), format).endswith(end)
    seen = b""
    answer = eider.post(f"/query?format={format}", json={"sql": sql.format(1900000)}, stream=True)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        for piece in answer.iter_content(65536):
            seen = (seen + piece)[-4096:]
    assert answer.status_code == 200 and seen and not seen.endswith(end)


# ---- texts ----

LONG = "SELECT i, repeat(chr(128512) || '\"\\,' || chr(10) || chr(13), (10 ** i)::INTEGER) AS s FROM range(6) t(i)"


@pytest.mark.parametrize("format", FORMATS)
def test_long_texts(ask, format):
    body = ask(LONG, format)
    if format == "csv":
        texts = [row[1] for row in rows_of_csv(body)[1]]
    elif format == "ndjson":
        texts = [json.loads(line)["s"] for line in body.splitlines()]
    elif format == "json":
        texts = [row["s"] for row in json.loads(body)["rows"]]
    else:
        texts = TABLES[format](body).column("s").to_pylist()
    assert texts == ['😀"\\,\n\r' * 10**i for i in range(6)]


@pytest.mark.once
@pytest.mark.parametrize("format", ["arrow", "csv", "ndjson"])
def test_rows_that_are_large_go_in_small_batches(ask, format):
    body = ask("SELECT i, repeat('x', CASE WHEN i < 1000 THEN 1 ELSE 1000000 END) AS s FROM range(1060) t(i)", format)
    assert len(body) > 60 * 10**6
    assert count_of(format, body) == 1060
    if format == "arrow":
        with pyarrow.ipc.open_stream(pyarrow.py_buffer(body)) as reader:
            assert max(batch.nbytes for batch in reader) < 16 << 20


# ---- other readers, other statements ----

@pytest.mark.parametrize("format", ["arrow", "parquet", "csv"])
def test_duckdb_reads_it(ask, format, tmp_path):
    path = tmp_path / "result"
    names = [f'"{name}"' for name in TYPES if name != "nothing"]
    body = ask(f"SELECT {', '.join(names)} FROM ({select_types()})", format)
    path.write_bytes(body)
    if format == "csv":
        # a quoted empty field is read as a text only when asked for, and so are texts that look like NULL
        source = f"read_csv('{path}', all_varchar = true, allow_quoted_nulls = false)"
        expected = duckdb.sql(f"SELECT {', '.join(f'CAST({name} AS VARCHAR)' for name in names)} FROM ({select_types()})")
        assert duckdb.sql(f"FROM {source}").fetchall() == expected.fetchall()
        return
    table = table_of_arrow(body) if format == "arrow" else None
    texts = {"uhugeint", "bignum", "bit", "timetz", "variant", "union", "json", "interval"}
    plain = [name for name in names if name.strip('"') not in texts]
    columns = ", ".join(f"CAST({name} AS VARCHAR)" for name in plain)
    connection = duckdb.connect()
    if table is not None:
        connection.register("table_of_test", table)
    source = "table_of_test" if table is not None else f"read_parquet('{path}')"
    assert (
        connection.sql(f"SELECT {columns} FROM {source}").fetchall()
        == connection.sql(f"SELECT {columns} FROM ({select_types()})").fetchall()
    )


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "sql, rows",
    [
        ("PIVOT (SELECT i % 3 AS k, i AS v FROM range(9) t(i)) ON k USING sum(v)", 1),
        ("EXPLAIN SELECT 1", 1),
        ("DESCRIBE SELECT 1 AS a, 2 AS b", 2),
        ("SUMMARIZE SELECT range AS a FROM range(10)", 1),
        ("VALUES (1), (2), (3)", 3),
    ],
)
def test_any_statement_has_every_format(ask, format, sql, rows):
    assert count_of(format, ask(sql, format)) == rows


@pytest.mark.parametrize("format", FORMATS)
def test_parameters_reach_every_format(ask, format):
    body = ask("SELECT $1::INTEGER + range AS v, $2 AS t FROM range(3)", format, params=[40, "a'b"])
    assert count_of(format, body) == 3 and b"a'b" in body
