"""The engine's own S3 reader: one cold scan in a fresh process. Prints {"ms": N, "answer": [...]}.

Usage: httpfs_scan.py ENDPOINT ACCESS-KEY SECRET-KEY REGION THREADS STATEMENT
"""

import json
import sys
import time

import duckdb
from duckdb_extensions import import_extension


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def main(endpoint, access_key, secret_key, region, threads, statement):
    import_extension("httpfs")
    connection = duckdb.connect(config={"threads": int(threads)})
    connection.execute("LOAD httpfs")
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID {quoted(access_key)}, SECRET {quoted(secret_key)}, REGION {quoted(region)}, "
        f"ENDPOINT {quoted(endpoint)}, URL_STYLE 'path', USE_SSL false)"
    )
    started = time.monotonic()
    answer = connection.execute(statement).fetchall()
    took_ms = (time.monotonic() - started) * 1000
    print(json.dumps({"ms": took_ms, "answer": [str(value) for value in answer[0]]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
