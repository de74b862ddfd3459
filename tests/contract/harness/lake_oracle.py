"""Judges a lake by what was sent and what was answered. Reads it with pyarrow alone and knows no code of the server.

Usage: lake_oracle.py JOURNAL LAKE      LAKE: a folder, or the JSON of {endpoint, access_key, secret_key, region, bucket,
                                        prefix}. Prints one JSON object; ends with 1 when something is wrong.

Each row that a test sends says which request it belongs to: columns `req` (unique over the test), `n` (its number in the
request) and `of` (rows of the request). JOURNAL has a line of JSON per request: {"req", "table", "of", "verdict"}.
  acked     answered with a 2xx: all of its rows are in the lake
  refused   answered with an error that says that nothing was kept: none of its rows is
  open      no answer, or one that leaves it open: all of its rows or none
No row may be there twice, under another table, or without having been sent.
"""

import json
import sys
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as fs
import pyarrow.parquet as pq

FIELDS = [("req", pa.int64()), ("n", pa.int64()), ("of", pa.int64())]
SHOWN = 20


def open_lake(address):
    """(file system, folder in it)"""
    if not address.startswith("{"):
        return fs.LocalFileSystem(), str(address)
    at = json.loads(address)
    scheme, _, host = at["endpoint"].partition("://")
    store = fs.S3FileSystem(
        access_key=at["access_key"],
        secret_key=at["secret_key"],
        region=at["region"],
        scheme=scheme,
        endpoint_override=host,
    )
    return store, f"{at['bucket']}/{at['prefix']}".rstrip("/")


def read_lake(address):
    """(rows by table, number of objects, complaints)"""
    store, root = open_lake(address)
    found = store.get_file_info(fs.FileSelector(f"{root}/data", recursive=True, allow_not_found=True))
    tables, complaints, objects = {}, [], 0
    for info in found:
        path = PurePosixPath(info.path)
        if info.type != fs.FileType.File or "=" in path.name:
            continue  # a file in the place of a partition is an obstacle that a test has put there
        objects += 1
        if path.suffix != ".parquet":
            complaints.append(f"stray object {path}")
            continue
        table = path.parts[len(PurePosixPath(root).parts) + 1]
        try:
            rows = pq.read_table(info.path, filesystem=store, columns=[name for name, _ in FIELDS], partitioning=None)
        except Exception as error:  # whatever pyarrow says: a reader would have met it too
            complaints.append(f"unreadable object {path}: {error}")
            continue
        tables.setdefault(table, []).append(rows.cast(pa.schema(FIELDS)))
    return {table: pa.concat_tables(parts) for table, parts in tables.items()}, objects, complaints


def judge_request(entry, table, found):
    """What is wrong with one request; `found` is None or what the lake says of it."""
    if found is None:
        return "is lost" if entry["verdict"] == "acked" else None
    if entry["verdict"] == "refused":
        return f"was refused and has {found['rows']} rows"
    if table != entry["table"]:
        return f"is in table {table}, not {entry['table']}"
    if found["rows"] != found["different"]:
        return f"has {found['rows']} rows, {found['different']} different ones"
    if found["rows"] != entry["of"] or (found["first"], found["last"]) != (0, entry["of"] - 1):
        return f"has {found['rows']} rows ({found['first']}..{found['last']}) of {entry['of']}"
    return None


def judge(journal, tables):
    """Complaints, one line each."""
    sent = {entry["req"]: entry for entry in journal}
    seen, complaints = {}, []
    for table, rows in tables.items():
        sums = rows.group_by("req").aggregate([("n", "count"), ("n", "count_distinct"), ("n", "min"), ("n", "max")])
        for line in sums.to_pylist():
            if line["req"] not in sent:
                complaints.append(f"request {line['req']} in {table} was never sent")
            elif line["req"] in seen:
                complaints.append(f"request {line['req']} is in {table} and in {seen[line['req']][0]}")
            else:
                figures = {"rows": line["n_count"], "different": line["n_count_distinct"]}
                seen[line["req"]] = table, {**figures, "first": line["n_min"], "last": line["n_max"]}
        missing = pc.sum(pc.cast(pc.is_null(rows["req"]), pa.int64())).as_py()
        if missing:
            complaints.append(f"{missing} rows in {table} lack their request")
    for number, entry in sent.items():
        table, figures = seen.get(number, (None, None))
        wrong = judge_request(entry, table, figures)
        if wrong:
            complaints.append(f"request {number} ({entry['verdict']}, {entry['table']}) {wrong}")
    return complaints


def check(journal, address):
    """{"violations", "objects", "rows", "requests"}"""
    tables, objects, complaints = read_lake(address)
    complaints += judge(journal, tables)
    rows = sum(table.num_rows for table in tables.values())
    return {"violations": complaints, "objects": objects, "rows": rows, "requests": len(journal)}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        journal = [json.loads(line) for line in file]
    result = check(journal, sys.argv[2])
    result["violations_count"] = len(result["violations"])
    result["violations"] = result["violations"][:SHOWN]
    print(json.dumps(result))
    sys.exit(1 if result["violations"] else 0)


if __name__ == "__main__":
    main()
