"""Bodies of Parquet and Arrow to POST /tables/{name}/rows: every value that pyarrow can write comes back from SQL, with
its type. Arrow streams that lie about themselves are tests/unit/test_worker_arrow_read.c and tests/fuzz."""

import datetime as dt
import io
from decimal import Decimal

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
FORMATS = ["arrow", "parquet"]


def stream_of(data, **options):
    body = io.BytesIO()
    with pa.ipc.new_stream(body, data.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(data)
    return body.getvalue()


def parquet_of(data, **options):
    body = io.BytesIO()
    pq.write_table(data, body, **options)
    return body.getvalue()


def post(server, table, body, content_type, query="", **headers):
    return server.post(f"/tables/{table}/rows{query}", data=body, headers={"Content-Type": content_type} | headers)


def send(server, table, data, kind, query="", **options):
    """Posts a table and answers how many rows were accepted."""
    made = stream_of(data, **options) if kind == "arrow" else parquet_of(data, **options)
    answer = post(server, table, made, ARROW if kind == "arrow" else PARQUET, query)
    assert answer.status_code == 200, answer.text
    return answer.json()["accepted"]


def texts(server, table, names):
    """The rows in order of `id`, each value as the engine's text."""
    columns = ", ".join(f'CAST("{name}" AS VARCHAR) AS "{name}"' for name in names)
    return server.sql(f"SELECT {columns} FROM {table} ORDER BY id")["rows"]


def types(server, table, names):
    columns = ", ".join(f'typeof("{name}") AS "{name}"' for name in names)
    return server.sql(f"SELECT {columns} FROM {table} LIMIT 1")["rows"][0]


# name: array of two values, type in the table, texts of them; a third value is always null
VALUES = {
    "b": (pa.array([True, False]), "BOOLEAN", ["true", "false"]),
    "i1": (pa.array([-128, 127], pa.int8()), "TINYINT", ["-128", "127"]),
    "i2": (pa.array([-32768, 1], pa.int16()), "SMALLINT", ["-32768", "1"]),
    "i4": (pa.array([-(2**31), 1], pa.int32()), "INTEGER", ["-2147483648", "1"]),
    "i8": (pa.array([-(2**63), 2**53 + 1], pa.int64()), "BIGINT", ["-9223372036854775808", "9007199254740993"]),
    "u1": (pa.array([255, 0], pa.uint8()), "UTINYINT", ["255", "0"]),
    "u4": (pa.array([2**32 - 1, 0], pa.uint32()), "UINTEGER", ["4294967295", "0"]),
    "u8": (pa.array([2**64 - 1, 0], pa.uint64()), "UBIGINT", ["18446744073709551615", "0"]),
    "f4": (pa.array([0.1, float("inf")], pa.float32()), "FLOAT", ["0.1", "inf"]),
    "f8": (pa.array([0.1, float("nan")], pa.float64()), "DOUBLE", ["0.1", "nan"]),
    "dec": (
        pa.array([Decimal("-1.05"), Decimal("123456789012345678901234567890123456.78")], pa.decimal128(38, 2)),
        "DECIMAL(38,2)",
        ["-1.05", "123456789012345678901234567890123456.78"],
    ),
    "t": (pa.array(['a"\n\té', ""]), "VARCHAR", ['a"\n\té', ""]),
    "lt": (pa.array(["x" * 100, "y"], pa.large_string()), "VARCHAR", ["x" * 100, "y"]),
    "bin": (pa.array([b"a\x00\xff\\'", b""]), "BLOB", ["a\\x00\\xFF\\x5C\\x27", ""]),
    "fixed": (pa.array([b"ab", b"\x00\x01"], pa.binary(2)), "BLOB", ["ab", "\\x00\\x01"]),
    "date": (pa.array([dt.date(2024, 2, 29), dt.date(1, 1, 1)]), "DATE", ["2024-02-29", "0001-01-01"]),
    "time": (pa.array([1, 86399999999], pa.time64("us")), "TIME", ["00:00:00.000001", "23:59:59.999999"]),
    "us": (
        pa.array([-1, 1709201472123456], pa.timestamp("us")),
        "TIMESTAMP",
        ["1969-12-31 23:59:59.999999", "2024-02-29 10:11:12.123456"],
    ),
    "ns": (
        pa.array([-1, 1709201472123456789], pa.timestamp("ns")),
        "TIMESTAMP_NS",
        ["1969-12-31 23:59:59.999999999", "2024-02-29 10:11:12.123456789"],
    ),
    "tz": (
        pa.array([0, 1709201472123456], pa.timestamp("us", "Europe/Berlin")),
        "TIMESTAMP WITH TIME ZONE",
        ["1970-01-01 00:00:00+00", "2024-02-29 10:11:12.123456+00"],
    ),
    "list": (pa.array([[1, None, 3], []]), "VARCHAR", ["[1,null,3]", "[]"]),
    "struct": (
        pa.array(
            [{"x": 1, "y z": [Decimal("1.5")]}, {"x": None, "y z": None}],
            pa.struct([("x", pa.int64()), ("y z", pa.list_(pa.decimal128(4, 2)))]),
        ),
        "VARCHAR",
        ['{"x":1,"y z":["1.50"]}', '{"x":null,"y z":null}'],
    ),
    "map": (
        pa.array([[("k", 1), ("l", None)], []], pa.map_(pa.string(), pa.int64())),
        "VARCHAR",
        ['{"k":1,"l":null}', "{}"],
    ),
    "dict": (pa.array(["x", "y"]).dictionary_encode(), "VARCHAR", ["x", "y"]),
}


def all_values():
    columns = {"id": pa.array([0, 1, 2])}
    for name, (array, _, _) in VALUES.items():
        columns[name] = pa.concat_arrays([array, pa.nulls(1, array.type)])
    return pa.table(columns)


@pytest.mark.parametrize("stored", [False, True], ids=["tail", "lake"])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_value_comes_back(eider, table, kind, stored):
    assert send(eider, table, all_values(), kind, "?wait=lake" if stored else "") == 3
    assert types(eider, table, VALUES) == {name: sql_type for name, (_, sql_type, _) in VALUES.items()}
    rows = texts(eider, table, VALUES)
    for index in range(2):
        assert rows[index] == {name: expected[index] for name, (_, _, expected) in VALUES.items()}
    assert set(rows[2].values()) == {None}


@pytest.mark.once
@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"compression": "lz4"},
        {"metadata_version": pa.ipc.MetadataVersion.V4},
        {"use_legacy_format": True},
        {"emit_dictionary_deltas": True},
    ],
    ids=lambda options: "-".join(str(part) for part in next(iter(options.items()))),
)
def test_every_kind_of_arrow_stream(eider, table, options):
    assert send(eider, table, all_values(), "arrow", **options) == 3
    assert texts(eider, table, VALUES)[1] == {name: expected[1] for name, (_, _, expected) in VALUES.items()}


@pytest.mark.parametrize("kind", FORMATS)
def test_no_rows_and_only_nulls(eider, table, kind):
    data = pa.table({"id": pa.array([1, 2]), "never": pa.nulls(2)})
    assert send(eider, table, data.slice(0, 0), kind) == 0
    assert send(eider, table, data, kind) == 2
    assert [row["never"] for row in texts(eider, table, ["never"])] == [None, None]


@pytest.mark.parametrize("kind", FORMATS)
def test_slices_batches_and_dictionaries_that_change(eider, table, kind):
    chunks = [pa.array(values).dictionary_encode() for values in (["a", "b"], ["c", None, "a"], ["b"])]
    data = pa.table({"id": pa.array(range(6)), "word": pa.chunked_array(chunks)}).slice(1, 4)
    assert send(eider, table, data, kind) == 4
    assert [row["word"] for row in texts(eider, table, ["word"])] == ["b", "c", None, "a"]


@pytest.mark.once
@pytest.mark.parametrize("kind", FORMATS)
def test_a_million_rows(eider, table, kind):
    count = 1_000_000
    data = pa.table(
        {
            "id": pa.array(range(count)),
            "name": pa.array([f"user-{i % 1000}" for i in range(count)]),
            "at": pa.array(range(count), pa.timestamp("ms")),
        }
    )
    assert send(eider, table, data, kind) == count
    row = eider.sql(f"SELECT count(*) AS n, sum(id) AS s, count(DISTINCT name) AS d FROM {table}")["rows"][0]
    assert row == {"n": count, "s": count * (count - 1) // 2, "d": 1000}


@pytest.mark.parametrize("kind", FORMATS)
def test_names_that_are_empty_or_repeated(eider, table, kind):
    column = pa.array([1])
    cases = ((["a", ""], "column 2 of the body has no name"), (["a", "A"], 'the body has more than one column "A"'))
    for names, reason in cases:
        data = pa.table([column, column], names=names)
        made = stream_of(data) if kind == "arrow" else parquet_of(data)
        answer = post(eider, table, made, ARROW if kind == "arrow" else PARQUET)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"] == reason


def damage(body):
    """A frame's magic number is wrong."""
    magic = next(word for word in (b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd") if word in body)
    return body.replace(magic, b"none")


def refused():
    """What is not read, and the words that say so."""
    plain = stream_of(pa.table({"a": pa.array(range(1000))}))
    file = io.BytesIO()
    with pa.ipc.new_file(file, pa.schema([("a", pa.int64())])):
        pass
    unions = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    runs = pa.RunEndEncodedArray.from_arrays([1], [1])
    good = parquet_of(pa.table({"a": pa.array(range(1000))}))
    return [
        (ARROW, b"", "not an Arrow stream"),
        (ARROW, b'{"a":1}\n', "not an Arrow stream"),
        (ARROW, plain[:-100], "damaged"),
        (ARROW, plain + b"more", "behind its end"),
        (ARROW, file.getvalue(), "send an IPC stream"),
        (ARROW, good, "not an Arrow stream"),
        (ARROW, damage(stream_of(pa.table({"a": pa.array(range(1000))}), compression="lz4")), "does not unpack"),
        (ARROW, damage(stream_of(pa.table({"a": pa.array(range(1000))}), compression="zstd")), "does not unpack"),
        (ARROW, stream_of(pa.table({"u": unions})), "unions"),
        (ARROW, stream_of(pa.table({"r": runs})), "run-end"),
        (PARQUET, b"", "not a readable Parquet file"),
        (PARQUET, b"PAR1PAR1", "not a readable Parquet file"),
        (PARQUET, good[:-1], "not a readable Parquet file"),
        (PARQUET, good[: len(good) // 2] + good[-8:], "not a readable Parquet file"),
        (PARQUET, plain, "not a readable Parquet file"),
    ]


def test_bodies_that_are_something_else(eider, table):
    """Refused with a reason, and nothing of them is kept."""
    for content_type, body, reason in refused():
        answer = post(eider, table, body, content_type)
        assert answer.status_code == 400, (reason, answer.status_code, answer.text)
        assert reason in answer.text, answer.text
        assert "job://" not in answer.text
    send(eider, table, pa.table({"id": pa.array([7])}), "arrow")
    assert texts(eider, table, ["id"]) == [{"id": "7"}]
