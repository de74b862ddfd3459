"""Values on their way from JSON to Parquet: contracts/ingest.md section 8 items 8 to 12, checks 13 to 15 and 33.

Every file is read by pyarrow and by the DuckDB client (harness.parquet_readers), which must agree.
"""

import json
import math
from decimal import Decimal

import pytest

from harness.ingest_client import accepted, batch_text, post_batch, post_text
from harness.parquet_readers import assert_rows_equal, read_parquet, same_value


def stored(server, table, records_text):
    """Posts records given as JSON text and returns the one file they became."""
    key = accepted(server, post_text(server, batch_text(table, records_text)))
    return read_parquet(server.lake.read(key))


def column(records):
    """Records with one column `v`, from the JSON text of each value."""
    return "[" + ",".join(f'{{"v":{text}}}' for text in records) + "]"


NAN = float("nan")

# JSON texts of one column's values, the type of the column, and what the readers must find.
COLUMNS = {
    "booleans": (["true", "false", "null"], "BOOLEAN", [True, False, None]),
    "integers": (["1", "-1", "0", "null"], "BIGINT", [1, -1, 0, None]),
    "epoch-milliseconds": (["1766188800000"], "BIGINT", [1766188800000]),
    "beyond-doubles": (["9007199254740993", "-9007199254740993"], "BIGINT", [2**53 + 1, -(2**53) - 1]),
    "int64-ends": ([str(2**63 - 1), str(-(2**63))], "BIGINT", [2**63 - 1, -(2**63)]),
    "over-int64": (["1", str(2**63)], "DECIMAL(38,0)", [Decimal(1), Decimal(2**63)]),
    "uint64-end": ([str(2**64 - 1)], "DECIMAL(38,0)", [Decimal(2**64 - 1)]),
    "38-digits": (["9" * 38, "-" + "9" * 38], "DECIMAL(38,0)", [Decimal("9" * 38), Decimal("-" + "9" * 38)]),
    "39-digits": (["1", "9" * 39], "VARCHAR", ["1", "9" * 39]),
    "doubles": (["0.1", "-2.5", "1e-7", "1e300"], "DOUBLE", [0.1, -2.5, 1e-7, 1e300]),
    "whole-doubles": (["1.0", "1e3"], "DOUBLE", [1.0, 1000.0]),
    "integers-then-fractions": (["20", "22.5", "null"], "DOUBLE", [20.0, 22.5, None]),
    "fractions-then-integers": (["22.5", "20"], "DOUBLE", [22.5, 20.0]),
    "inexact-integer-beside-fraction": (["9007199254740993", "0.5"], "VARCHAR", ["9007199254740993", "0.5"]),
    "not-finite": (
        ["1.5", "NaN", "Infinity", "-Infinity"],
        "DOUBLE",
        [1.5, NAN, math.inf, -math.inf],
    ),
    "not-finite-beside-integers": (["1", "NaN"], "DOUBLE", [1.0, NAN]),
    "only-nan": (["NaN"], "DOUBLE", [NAN]),
    "strings": (['"x"', '""', "null", '"null"'], "VARCHAR", ["x", "", None, "null"]),
    "strings-like-numbers": (['"12"', '"0012"', '"1e3"'], "VARCHAR", ["12", "0012", "1e3"]),
    "strings-like-dates": (['"2025-12-20"', '"2025-12-20T10:00:00Z"'], "VARCHAR", ["2025-12-20", "2025-12-20T10:00:00Z"]),
    "strings-like-booleans": (['"true"', '"NaN"'], "VARCHAR", ["true", "NaN"]),
    "only-nulls": (["null", "null"], "VARCHAR", [None, None]),
    "null-first": (["null", "5"], "BIGINT", [None, 5]),
    "integers-and-strings": (["1", '"x"', "9007199254740993"], "VARCHAR", ["1", "x", "9007199254740993"]),
    "fractions-and-strings": (["1.50", '"x"', "1e3"], "VARCHAR", ["1.50", "x", "1e3"]),
    "booleans-and-integers": (["true", "1", "false"], "VARCHAR", ["true", "1", "false"]),
    "booleans-and-strings": (["true", '"yes"'], "VARCHAR", ["true", "yes"]),
    "objects": (['{"a" : 1, "b": [true, null, "x y"]}', "{}", "null"], "VARCHAR", ['{"a":1,"b":[true,null,"x y"]}', "{}", None]),
    "arrays": (["[1, \"x\", {\"a\": 2}]", "[]"], "VARCHAR", ['[1,"x",{"a":2}]', "[]"]),
    "nested-digits": (['{"n": 9007199254740993, "d": 1.50}'], "VARCHAR", ['{"n":9007199254740993,"d":1.50}']),
    "nested-and-strings": (['{"a":1}', '"x"', "5"], "VARCHAR", ['{"a":1}', "x", "5"]),
    "key-and-value-objects": (
        ['{"key":["a"],"value":[1]}'],
        "VARCHAR",
        ['{"key":["a"],"value":[1]}'],
    ),
    "escapes": ([r'"a\"b\\c\/d\b\f\n\r\t"', r'"\u00e9\u20ac\ud83d\ude00"'], "VARCHAR", ['a"b\\c/d\b\f\n\r\t', "é€😀"]),
    "unicode": (['"žluťoučký"', '"日本語"', '"👩‍👩‍👧"', '"\u200f"'], "VARCHAR", ["žluťoučký", "日本語", "👩‍👩‍👧", "\u200f"]),
    "nul-escape": ([r'"a\u0000b"', r'"\u0000"'], "VARCHAR", ["a\0b", "\0"]),
    "sql-in-strings": (["\"'; DROP TABLE x; --\"", '"${x} {{y}} %s"'], "VARCHAR", ["'; DROP TABLE x; --", "${x} {{y}} %s"]),
    "csv-in-strings": (['"a,b\\n\\"c\\""', '"  padded  "'], "VARCHAR", ['a,b\n"c"', "  padded  "]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_values_of_one_column(any_lake, table, name):
    texts, column_type, expected = COLUMNS[name]
    file = stored(any_lake, table, column(texts))
    assert file.types == {"v": column_type}
    assert_rows_equal(file.rows, [{"v": value} for value in expected])


def test_files_are_zstd_and_have_no_partition_columns(any_lake, table):
    file = stored(any_lake, table, '[{"b":1,"a":"x"}]')
    assert file.compressions == {"ZSTD"}
    assert file.columns == ["b", "a"]


def test_columns_are_the_union_in_order_of_first_appearance(any_lake, table):
    file = stored(any_lake, table, '[{"b":1},{"a":"x","b":2},{"c":true},{}]')
    assert file.types == {"b": "BIGINT", "a": "VARCHAR", "c": "BOOLEAN"}
    assert_rows_equal(
        file.rows,
        [
            {"b": 1, "a": None, "c": None},
            {"b": 2, "a": "x", "c": None},
            {"b": None, "a": None, "c": True},
            {"b": None, "a": None, "c": None},
        ],
    )


def test_first_record_may_be_empty(eider, table):
    assert stored(eider, table, '[{},{"a":1}]').rows == [{"a": None}, {"a": 1}]


def test_keys_that_differ_in_case_are_one_column_or_refused(eider, table):
    answer = post_text(eider, batch_text(table, '[{"Id":1},{"id":2}]'))
    if answer.status_code == 422:
        return
    file = read_parquet(eider.lake.read(accepted(eider, answer)))
    assert file.rows == [{"Id": 1}, {"Id": 2}]


def test_types_live_with_the_table(any_lake, table):
    """A later batch widens them while that is exact, adds columns, and keeps what fits nowhere in _rest."""
    assert stored(any_lake, table, '[{"v":1}]').types == {"v": "BIGINT"}
    assert stored(any_lake, table, '[{"v":1.5,"w":true}]').types == {"v": "DOUBLE", "w": "BOOLEAN"}
    file = stored(any_lake, table, '[{"v":"x","w":false}]')
    assert file.types == {"v": "DOUBLE", "w": "BOOLEAN", "_rest": "VARCHAR"}
    (row,) = file.rows
    assert (row["v"], row["w"], json.loads(row["_rest"])) == (None, False, {"v": "x"})


def test_nested_unicode_stays_the_same_json(eider, table):
    value = {"ключ": ["é", "\u0001", 'q"', "\\"], "n": None, "deep": [[[{"x": [1, 2.5]}]]]}
    file = stored(eider, table, json.dumps([{"v": value}]))
    assert json.loads(file.rows[0]["v"]) == value


def test_deep_nesting(eider, table):
    text = "[" * 100 + "1" + "]" * 100
    assert stored(eider, table, f'[{{"v":{text}}}]').rows == [{"v": text}]


def test_a_string_of_five_megabytes(any_lake, table):
    text = "0123456789abcdé" * (5 * 1024 * 1024 // 16)
    key = accepted(any_lake, post_batch(any_lake, table, [{"id": 1, "v": text}, {"id": 2, "v": "x"}]))
    file = read_parquet(any_lake.lake.read(key))
    assert file.values("id") == [1, 2]
    assert file.rows[0]["v"] == text
    assert file.rows[1]["v"] == "x"


def test_twenty_thousand_records(any_lake, table):
    records = [
        {
            "id": number,
            "metric": f"m{number % 7}",
            "value": number / 8,
            "flag": number % 3 == 0,
            "note": None if number % 5 else f"é{number}",
        }
        for number in range(20_000)
    ]
    answer = post_batch(any_lake, table, records, "2025-12-20")
    assert answer.json()["record_count"] == 20_000
    file = read_parquet(any_lake.lake.read(accepted(any_lake, answer)))
    assert file.types == {
        "id": "BIGINT",
        "metric": "VARCHAR",
        "value": "DOUBLE",
        "flag": "BOOLEAN",
        "note": "VARCHAR",
    }
    assert_rows_equal(file.rows, records)


def test_three_hundred_columns(any_lake, table):
    kinds = [lambda n: n, lambda n: n / 4, lambda n: f"s{n}", lambda n: n % 2 == 0]
    records = [{f"c{c}": kinds[c % 4](c * row) for c in range(300)} for row in range(1, 4)]
    key = accepted(any_lake, post_batch(any_lake, table, records))
    assert_rows_equal(read_parquet(any_lake.lake.read(key)).rows, records)


def test_one_late_value_decides_the_type(any_lake, table):
    """Types come from all records, not from a sample at the front of the batch."""
    texts = ["1"] * 25_000 + ['"late"']
    file = stored(any_lake, table, column(texts))
    assert file.types == {"v": "VARCHAR"}
    assert file.rows[-1]["v"] == "late"
    assert file.rows[0]["v"] == "1"


def test_one_late_column_is_kept(any_lake, table):
    file = stored(any_lake, table, "[" + '{"a":1},' * 25_000 + '{"a":1,"late":"x"}]')
    assert file.columns == ["a", "late"]
    assert file.rows[-1] == {"a": 1, "late": "x"}


def test_doubles_keep_every_bit(eider, table):
    values = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, -0.0, 123456789.123456789]
    file = stored(eider, table, column([repr(value) for value in values]))
    assert file.types == {"v": "DOUBLE"}
    for found, expected in zip(file.values("v"), values, strict=True):
        assert same_value(found, expected)
