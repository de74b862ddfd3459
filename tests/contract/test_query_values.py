"""Result values as JSON text, byte for byte: contract section 4, checks 19 to 22."""

import datetime
import json
import time
from decimal import Decimal

import pyarrow
import pytest

from harness.snapshot_client import Sidecar

LAST_SAFE = 9007199254740991


@pytest.fixture(scope="module")
def sidecar(eider, s3):
    return Sidecar(eider.snapshot, s3)


def body_of(text):
    return '{"columns":["v"],"rows":[{"v":%s}],"row_count":1}' % text


VALUES = [
    # ---- integers: numbers while a double holds them ----
    ("true", "true"),
    ("false", "false"),
    ("NULL", "null"),
    ("NULL::INTEGER", "null"),
    ("(-128)::TINYINT", "-128"),
    ("(-32768)::SMALLINT", "-32768"),
    ("(-2147483648)::INTEGER", "-2147483648"),
    ("255::UTINYINT", "255"),
    ("65535::USMALLINT", "65535"),
    ("4294967295::UINTEGER", "4294967295"),
    ("1::BIGINT", "1"),
    ("9007199254740991::BIGINT", "9007199254740991"),
    ("9007199254740992::BIGINT", '"9007199254740992"'),
    ("(-9007199254740991)::BIGINT", "-9007199254740991"),
    ("(-9007199254740992)::BIGINT", '"-9007199254740992"'),
    ("-9007199254740993", '"-9007199254740993"'),
    ("(-9223372036854775808)::BIGINT", '"-9223372036854775808"'),
    ("9007199254740991::UBIGINT", "9007199254740991"),
    ("18446744073709551615::UBIGINT", '"18446744073709551615"'),
    ("5::HUGEINT", "5"),
    ("170141183460469231731687303715884105727::HUGEINT", '"170141183460469231731687303715884105727"'),
    ("'-170141183460469231731687303715884105728'::HUGEINT", '"-170141183460469231731687303715884105728"'),
    ("340282366920938463463374607431768211455::UHUGEINT", '"340282366920938463463374607431768211455"'),
    ("-9007199254740991::HUGEINT", "-9007199254740991"),
    # ---- floating point: JavaScript's digits ----
    ("0.1::FLOAT", "0.10000000149011612"),
    ("0.5::FLOAT", "0.5"),
    ("16777216::FLOAT", "16777216"),
    ("3.4028235e38::FLOAT", "3.4028234663852886e+38"),
    ("1::DOUBLE", "1"),
    ("0.3::DOUBLE", "0.3"),
    ("0.1::DOUBLE + 0.2::DOUBLE", "0.30000000000000004"),
    ("1e21::DOUBLE", "1e+21"),
    ("1e20::DOUBLE", "100000000000000000000"),
    ("123456789012345680000::DOUBLE", "123456789012345680000"),
    ("1.5e300::DOUBLE", "1.5e+300"),
    ("1e-7::DOUBLE", "1e-7"),
    ("1.25e-7::DOUBLE", "1.25e-7"),
    ("0.000001::DOUBLE", "0.000001"),
    ("0.00000123::DOUBLE", "0.00000123"),
    ("5e-324::DOUBLE", "5e-324"),
    ("1.7976931348623157e308::DOUBLE", "1.7976931348623157e+308"),
    ("'-0.0'::DOUBLE", "0"),
    ("'-0.0'::FLOAT", "0"),
    ("-1.5::DOUBLE", "-1.5"),
    ("'nan'::DOUBLE", "null"),
    ("'inf'::DOUBLE", "null"),
    ("'-inf'::DOUBLE", "null"),
    ("'nan'::FLOAT", "null"),
    ("1 / 0", "null"),
    ("1 // 0", "null"),
    # ---- decimals: numbers while exact ----
    ("1.50::DECIMAL(10,2)", "1.5"),
    ("1.00::DECIMAL(10,2)", "1"),
    ("0.00::DECIMAL(10,2)", "0"),
    ("-0.05::DECIMAL(10,2)", "-0.05"),
    ("100::DECIMAL(5,0)", "100"),
    ("0.1::DECIMAL(3,1)", "0.1"),
    ("0.30::DECIMAL(38,20)", "0.3"),
    ("123456789012.34::DECIMAL(18,2)", "123456789012.34"),
    ("9007199254740991.00::DECIMAL(38,2)", "9007199254740991"),
    ("9007199254740993.5::DECIMAL(38,1)", '"9007199254740993.5"'),
    ("12345678901234567.89::DECIMAL(38,2)", '"12345678901234567.89"'),
    ("12345678901234567890123456789012345678::DECIMAL(38,0)", '"12345678901234567890123456789012345678"'),
    ("-1234567890.12345678901234567::DECIMAL(38,17)", '"-1234567890.12345678901234567"'),
    # ---- texts ----
    ("'text'", '"text"'),
    ("''", '""'),
    ("'é€😀'", '"é€😀"'),
    ("'a\"b\\c/d'", '"a\\"b\\\\c/d"'),
    ("chr(10) || chr(13) || chr(9) || chr(8) || chr(12)", '"\\n\\r\\t\\b\\f"'),
    ("chr(1) || chr(31) || chr(127)", '"\\u0001\\u001f\x7f"'),
    ("'6ba7b810-9dad-11d1-80b4-00c04fd430c8'::UUID", '"6ba7b810-9dad-11d1-80b4-00c04fd430c8"'),
    ("'b'::ENUM('a','b')", '"b"'),
    ("'{\"a\": 1}'::JSON", '"{\\"a\\": 1}"'),
    # ---- time ----
    ("DATE '2024-01-15'", '"2024-01-15T00:00:00.000Z"'),
    ("DATE '1969-12-31'", '"1969-12-31T00:00:00.000Z"'),
    ("DATE 'infinity'", "null"),
    ("TIMESTAMP '2024-01-15 10:11:12.123456'", '"2024-01-15T10:11:12.123Z"'),
    ("TIMESTAMP '2024-01-15 10:11:12.9999'", '"2024-01-15T10:11:12.999Z"'),
    ("TIMESTAMP '1969-12-31 23:59:59.9999'", '"1969-12-31T23:59:59.999Z"'),
    ("TIMESTAMP '1969-12-31 23:59:59.999001'", '"1969-12-31T23:59:59.999Z"'),
    ("TIMESTAMP '0001-01-01 00:00:00'", '"0001-01-01T00:00:00.000Z"'),
    ("TIMESTAMP '9999-12-31 23:59:59.999999'", '"9999-12-31T23:59:59.999Z"'),
    ("TIMESTAMP '12024-01-15 00:00:00'", '"+012024-01-15T00:00:00.000Z"'),
    ("TIMESTAMP '0044-03-15 (BC) 00:00:00'", '"-000043-03-15T00:00:00.000Z"'),
    ("TIMESTAMP '0001-06-01 (BC) 00:00:00'", '"0000-06-01T00:00:00.000Z"'),
    ("TIMESTAMP '275760-09-13 00:00:00'", '"+275760-09-13T00:00:00.000Z"'),
    ("TIMESTAMP '275760-09-13 00:00:00.001'", "null"),
    ("TIMESTAMP '290000-01-01 00:00:00'", "null"),
    ("TIMESTAMP 'infinity'", "null"),
    ("TIMESTAMP '-infinity'", "null"),
    ("'2024-01-15 10:11:12'::TIMESTAMP_S", '"2024-01-15T10:11:12.000Z"'),
    ("'2024-01-15 10:11:12.125'::TIMESTAMP_MS", '"2024-01-15T10:11:12.125Z"'),
    ("'2024-01-15 10:11:12.123999999'::TIMESTAMP_NS", '"2024-01-15T10:11:12.123Z"'),
    ("'1969-12-31 23:59:59.999999999'::TIMESTAMP_NS", '"1969-12-31T23:59:59.999Z"'),
    ("'2024-01-15 10:11:12.5+02'::TIMESTAMPTZ", '"2024-01-15T08:11:12.500Z"'),
    ("TIME '10:11:12.123456'", '"10:11:12.123456"'),
    ("TIME '10:11:12'", '"10:11:12"'),
    ("'10:11:12.123456789'::TIME_NS", '"10:11:12.123456789"'),
    ("'10:11:12+02'::TIMETZ", '"10:11:12+02"'),
    ("INTERVAL '1 month 2 days 3 seconds'", '{"months":1,"days":2,"micros":3000000}'),
    ("INTERVAL '-1 day'", '{"months":0,"days":-1,"micros":0}'),
    # ---- bytes, nested values ----
    ("'\\x00\\xFF'::BLOB", '{"type":"Buffer","data":[0,255]}'),
    ("''::BLOB", '{"type":"Buffer","data":[]}'),
    ("[1, 2, NULL]", "[1,2,null]"),
    ("[]::INTEGER[]", "[]"),
    ("[1::BIGINT]", "[1]"),
    ("[9223372036854775807]", '["9223372036854775807"]'),
    ("{'a': 9223372036854775807}", '{"a":"9223372036854775807"}'),
    ("{'a': [{'b': 9007199254740992, 'c': 1.50::DECIMAL(4,2)}]}", '{"a":[{"b":"9007199254740992","c":1.5}]}'),
    ("{'z': 1, 'a': 2, '1': 3}", '{"z":1,"a":2,"1":3}'),
    ("[[1.5::DOUBLE], ['nan'::DOUBLE], NULL]", "[[1.5],[null],null]"),
    ("[DATE '2024-01-15']", '["2024-01-15T00:00:00.000Z"]'),
    ("{'d': DATE '1969-12-31', 'b': 'a'::BLOB}", '{"d":"1969-12-31T00:00:00.000Z","b":{"type":"Buffer","data":[97]}}'),
    ("['a\"b', 'é']", '["a\\"b","é"]'),
    ("[1, 2, 3]::INTEGER[3]", '"[1, 2, 3]"'),
    ("MAP {'k': 1, 'j': 2}", '"{k=1, j=2}"'),
    ("union_value(a := 2)", '"2"'),
    ("'101'::BIT", '"101"'),
    ("'123456789012345678901234567890'::BIGNUM", '"123456789012345678901234567890"'),
]


@pytest.mark.parametrize("expression, text", VALUES)
def test_value(sidecar, expression, text):
    answer = sidecar.query(f"SELECT {expression} AS v")
    assert (answer.status_code, answer.text) == (200, body_of(text))


@pytest.mark.parametrize("nested", ["[{}]", "{{'k': {}}}", "[[{}]]"])
@pytest.mark.parametrize(
    "expression, text", [value for value in VALUES if not value[0].startswith(("NULL", "[1, 2, 3]::"))][::7]
)
def test_value_at_any_depth(sidecar, nested, expression, text):
    wrapped = {"[{}]": "[%s]", "{{'k': {}}}": '{"k":%s}', "[[{}]]": "[[%s]]"}[nested] % text
    assert sidecar.query(f"SELECT {nested.format(expression)} AS v").text == body_of(wrapped)


@pytest.mark.parametrize(
    "aggregate, text",
    [
        ("count(*)", "2000"),
        ("sum(n)", "1999000"),
        ("avg(n)", "999.5"),
        ("sum(m)", "1999"),
        ("max(b)", '"9007199254742990"'),
    ],
)
def test_aggregates_over_a_file(sidecar, aggregate, text):
    table = pyarrow.table(
        {
            "n": pyarrow.array(range(2000), pyarrow.int64()),
            "m": pyarrow.array([Decimal(n) / 1000 for n in range(2000)], pyarrow.decimal128(18, 3)),
            "b": pyarrow.array([LAST_SAFE + n for n in range(2000)], pyarrow.int64()),
        }
    )
    sidecar.put_table("numbers.parquet", table)
    answer = sidecar.query(f"SELECT {aggregate} AS v FROM t", {"t": "numbers.parquet"})
    assert answer.text == body_of(text)


def test_values_of_a_file_are_those_of_another_reader(sidecar):
    rows = [
        {
            "i": n,
            "f": n / 3,
            "d": Decimal(n * 1001) / 1000,
            "s": f"é{n}",
            "t": datetime.datetime(2024, 1, 1, 0, 0, n % 60),
        }
        for n in range(5000)
    ]
    rows[17] = dict.fromkeys(rows[17])
    schema = pyarrow.schema(
        [
            ("i", "int64"),
            ("f", "float64"),
            ("d", pyarrow.decimal128(20, 3)),
            ("s", "string"),
            ("t", pyarrow.timestamp("us")),
        ]
    )
    sidecar.put_table("rows.parquet", pyarrow.Table.from_pylist(rows, schema), row_group_size=1000)
    answer = sidecar.query("SELECT * FROM t", {"t": "rows.parquet"})
    seen = json.loads(answer.text, parse_float=Decimal)["rows"]
    assert len(seen) == len(rows)
    for expected, row in zip(rows, seen, strict=True):
        if expected["i"] is None:
            assert row == expected
            continue
        assert (row["i"], row["s"]) == (expected["i"], expected["s"])
        assert float(row["f"]) == expected["f"]
        assert Decimal(row["d"]) == expected["d"]
        assert row["t"] == expected["t"].strftime("%Y-%m-%dT%H:%M:%S.000Z")


# ---- 22: columns ----
def test_empty_results_keep_their_columns(sidecar):
    answer = sidecar.query("SELECT 1 AS a, 'x' AS b WHERE false")
    assert answer.text == '{"columns":["a","b"],"rows":[],"row_count":0}'


@pytest.mark.parametrize(
    "sql, text",
    [
        ('SELECT 5 AS b, 6 AS "1", 7 AS "0"', '{"columns":["b","1","0"],"rows":[{"b":5,"1":6,"0":7}],"row_count":1}'),
        ("SELECT 1 AS a, 2 AS a", '{"columns":["a","a_1"],"rows":[{"a":1,"a_1":2}],"row_count":1}'),
        (
            "SELECT 1 AS a, 2 AS a, 3 AS a",
            '{"columns":["a","a_1","a_2"],"rows":[{"a":1,"a_1":2,"a_2":3}],"row_count":1}',
        ),
        ("SELECT 1 AS a, 2 AS A", '{"columns":["a","A"],"rows":[{"a":1,"A":2}],"row_count":1}'),
        ('SELECT 1 AS "__proto__"', '{"columns":["__proto__"],"rows":[{"__proto__":1}],"row_count":1}'),
        ('SELECT 1 AS "q""uote\\"', '{"columns":["q\\"uote\\\\"],"rows":[{"q\\"uote\\\\":1}],"row_count":1}'),
        ("SELECT 1 AS a, 2 AS a WHERE false", '{"columns":["a","a_1"],"rows":[],"row_count":0}'),
    ],
)
def test_column_names(sidecar, sql, text):
    assert sidecar.query(sql).text == text


@pytest.mark.parametrize("names", [["a", "a", "a_1"], ["a_1", "a", "a"], ["a", "a", "a_1", "a_1", "a"]])
def test_made_up_names_do_not_collide(sidecar, names):
    sql = "SELECT " + ", ".join(f"{value} AS {name}" for value, name in enumerate(names))
    result = sidecar.result(sql)
    assert len(set(result["columns"])) == len(names)
    assert list(result["rows"][0].values()) == list(range(len(names)))


@pytest.mark.parametrize("format", ["json", "parquet"])
def test_thousands_of_columns_of_one_name_take_no_minutes(sidecar, format):
    sql = "SELECT " + ", ".join(["1 AS a"] * 3000)
    begun = time.monotonic()
    assert sidecar.post(f"/query?format={format}", sidecar.query_body(sql)).status_code == 200
    assert time.monotonic() - begun < 20


def test_a_join_keeps_both_sides(sidecar):
    sidecar.put_table("left.parquet", pyarrow.table({"id": [1, 2], "v": ["x", "y"]}))
    sidecar.put_table("right.parquet", pyarrow.table({"id": [2, 1], "v": ["b", "a"]}))
    result = sidecar.result(
        "SELECT * FROM l JOIN r ON l.id = r.id ORDER BY 1", {"l": "left.parquet", "r": "right.parquet"}
    )
    assert result["columns"] == ["id", "v", "id_1", "v_1"]
    assert [list(row.values()) for row in result["rows"]] == [[1, "x", 1, "a"], [2, "y", 2, "b"]]


@pytest.mark.parametrize("width", [1, 300, 2000])
def test_wide_rows(sidecar, width):
    result = sidecar.result("SELECT " + ", ".join(f"{n} AS c{n}" for n in range(width)))
    assert list(result["rows"][0].values()) == list(range(width))


def test_rows_keep_their_order(sidecar):
    rows = sidecar.rows("SELECT i, i * 2 AS j FROM range(20000) AS t(i) ORDER BY i DESC")
    assert rows == [(i, i * 2) for i in range(19999, -1, -1)]
