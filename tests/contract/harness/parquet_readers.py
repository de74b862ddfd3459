"""Reads a Parquet file with two independent readers, pyarrow and the DuckDB client, and refuses any disagreement."""

import io
import tempfile
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

# What each DuckDB type of a lake file has to look like to pyarrow.
ARROW_TYPES = {
    "BOOLEAN": (pa.bool_(),),
    "BIGINT": (pa.int64(),),
    "DOUBLE": (pa.float64(),),
    "VARCHAR": (pa.string(), pa.large_string()),
    "DECIMAL(38,0)": (pa.decimal128(38, 0),),
}


@dataclass
class ParquetFile:
    types: dict  # column name -> DuckDB type, in file order
    rows: list  # dicts, in file order
    compressions: set
    row_groups: list  # rows in each

    @property
    def columns(self):
        return list(self.types)

    def values(self, column):
        return [row[column] for row in self.rows]


def same_value(left, right):
    """Equal in type and value; NaN equals NaN and 0.0 is not -0.0."""
    return type(left) is type(right) and (left == right or left != left) and repr(left) == repr(right)


def assert_rows_equal(found, expected):
    assert len(found) == len(expected), f"{len(found)} rows, expected {len(expected)}"
    for number, (left, right) in enumerate(zip(found, expected)):
        assert list(left) == list(right), f"row {number}: columns {list(left)}, expected {list(right)}"
        for name in right:
            assert same_value(left[name], right[name]), (
                f"row {number}, {name}: {left[name]!r}, expected {right[name]!r}"
            )


def read_with_duckdb(path):
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        relation = connection.execute(
            "SELECT * FROM read_parquet(?, hive_partitioning = false)", [str(path)]
        )
        types = {column[0]: str(column[1]) for column in relation.description}
        rows = [dict(zip(types, row)) for row in relation.fetchall()]
    return types, rows


def read_parquet(body):
    """`body`: the bytes of the file."""
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        file.write(body)
        file.flush()
        types, rows = read_with_duckdb(file.name)
    table = pq.read_table(io.BytesIO(body))
    arrow_rows = table.to_pylist()
    assert table.column_names == list(types), "the readers see different columns"
    for field in table.schema:
        allowed = ARROW_TYPES.get(types[field.name])
        assert allowed is None or field.type in allowed, f"{field.name}: {types[field.name]}, arrow {field.type}"
    assert_rows_equal(rows, arrow_rows)
    meta = pq.ParquetFile(io.BytesIO(body)).metadata
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    return ParquetFile(
        types=types,
        rows=rows,
        compressions={group.column(c).compression for group in groups for c in range(meta.num_columns)},
        row_groups=[group.num_rows for group in groups],
    )


def read_table(lake, table):
    """All files of a lake table: a list of ParquetFile, by key."""
    return {key: read_parquet(lake.read(key)) for key in lake.table_keys(table)}
