"""The bound of durable bodies: the same NDJSON into a MergeTree of chDB, each insert synced. Prints one JSON object.

Usage: chdb_insert.py FILE ROWS INSERTS FOLDER
"""

import json
import sys
import time

from chdb import session

COLUMNS = "id Int64, city String, state String, at String, price Float64, paid Bool, count Int64"


def main():
    file, rows, inserts, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    engine = session.Session(folder)
    engine.query("CREATE DATABASE bench ENGINE = Atomic")
    synced = "fsync_after_insert = 1, fsync_part_directory = 1"
    engine.query(f"CREATE TABLE bench.events ({COLUMNS}) ENGINE = MergeTree ORDER BY tuple() SETTINGS {synced}")
    insert = f"INSERT INTO bench.events SELECT * FROM file('{file}', 'JSONEachRow', '{COLUMNS}')"
    engine.query(insert)
    took = []
    began = time.monotonic()
    for _ in range(inserts):
        before = time.monotonic()
        engine.query(insert)
        took.append(1000 * (time.monotonic() - before))
    seconds = time.monotonic() - began
    found = int(str(engine.query("SELECT count() FROM bench.events")).strip())
    assert found == rows * (inserts + 1), f"{found} rows of {rows * (inserts + 1)}"
    took.sort()
    figures = {"per_second": inserts / seconds, "p50_ms": took[len(took) // 2], "p99_ms": took[len(took) * 99 // 100]}
    print(json.dumps(figures))
    engine.close()


if __name__ == "__main__":
    main()
