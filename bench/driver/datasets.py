"""The rows that the workloads work on: the same on every machine and in every run."""

import datetime
import json
import random

import pyarrow
import pyarrow.parquet

SNAPSHOT_COLUMNS = [
    {"source": "_id", "target": "id", "type": "BIGINT"},
    {"source": "customer", "target": "customer", "type": "VARCHAR"},
    {"source": "email", "target": "email", "type": "VARCHAR"},
    {"source": "quantity", "target": "quantity", "type": "INTEGER"},
    {"source": "total", "target": "total", "type": "DOUBLE"},
    {"source": "paid", "target": "paid", "type": "BOOLEAN"},
    {"source": "_creationTime", "target": "created_at", "type": "TIMESTAMP"},
]


def snapshot_records(count):
    pick = random.Random(4)
    start = datetime.datetime(2025, 1, 1)
    records = []
    for number in range(count):
        moment = start + datetime.timedelta(seconds=pick.randrange(30_000_000), milliseconds=pick.randrange(1000))
        records.append(
            {
                "_id": 1_000_000 + number,
                "customer": f"customer {pick.randrange(5000):05}",
                "email": f"person{pick.randrange(100_000)}@example.com",
                "quantity": pick.randrange(1, 50),
                "total": pick.randrange(1, 1_000_000) / 100,
                "paid": pick.random() < 0.8,
                "_creationTime": moment.isoformat(timespec="milliseconds") + "Z",
            }
        )
    return records


def embedded_copy(json_path, parquet_path):
    """What an embedded engine is told to make the same file: same types, order and compression."""
    types = ", ".join(f"\"{c['source']}\": '{c['type']}'" for c in SNAPSHOT_COLUMNS)
    names = ", ".join(f"\"{c['source']}\" AS \"{c['target']}\"" for c in SNAPSHOT_COLUMNS)
    return (
        f"COPY (SELECT {names} FROM read_json('{json_path}', format = 'array', columns = {{{types}}}) "
        f"ORDER BY created_at NULLS LAST) TO '{parquet_path}' (FORMAT parquet, COMPRESSION zstd)"
    )


def wide_table(rows, seed=7):
    """7 columns of the types that people have."""
    pick = random.Random(seed)
    start = datetime.datetime(2024, 1, 1)
    cities = [f"city number {i}" for i in range(300)]
    return pyarrow.table(
        {
            "id": pyarrow.array(range(rows), pyarrow.int64()),
            "city": pyarrow.array([cities[pick.randrange(300)] for _ in range(rows)]),
            "reference": pyarrow.array([f"R{pick.getrandbits(40):010x}" for _ in range(rows)]),
            "quantity": pyarrow.array([pick.randrange(1000) for _ in range(rows)], pyarrow.int32()),
            "price": pyarrow.array([pick.randrange(10_000_000) / 100 for _ in range(rows)], pyarrow.float64()),
            "paid": pyarrow.array([pick.random() < 0.7 for _ in range(rows)]),
            "moment": pyarrow.array(
                [start + datetime.timedelta(milliseconds=pick.randrange(31_536_000_000)) for _ in range(rows)],
                pyarrow.timestamp("ms"),
            ),
        }
    )


def write_parquet(path, table, rows_per_group):
    pyarrow.parquet.write_table(table, path, row_group_size=rows_per_group, compression="zstd")


def write_json(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")))
