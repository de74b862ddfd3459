"""A client of the snapshot personality, and the readers that check what it wrote."""

import http.client
import io
import json
import socket
import threading
from urllib.parse import urlsplit

import duckdb
import pyarrow.parquet
import requests

JSON_TYPE = "application/json; charset=utf-8"
REQUEST_TIMEOUT = 120.0

# Statements that run for minutes. The first obeys an interrupt within milliseconds; the second is one call of a string
# kernel that does not look at it for some twenty seconds.
ENDLESS = "SELECT count(*) AS c FROM range(100000000000000)"
DEAF = "SELECT levenshtein(repeat('a', 200000 + i::INTEGER), repeat('b', 200000)) AS d FROM range(1) AS t(i)"


def column(source, kind, target=None):
    return {"source": source, "target": target or source, "type": kind}


def declare(tables):
    """{"name": "key"} or {"name": ["key", "key"]} as the `tables` of a query; a list is taken as it is."""
    if not isinstance(tables, dict):
        return list(tables or [])
    return [{"name": name, ("s3_path" if isinstance(keys, str) else "s3_paths"): keys} for name, keys in tables.items()]


def error_of(answer, *statuses):
    """Checks the one error shape and returns its text."""
    assert answer.status_code in statuses, f"{answer.status_code}, not {statuses}: {answer.text[:500]}"
    assert answer.headers["Content-Type"] == JSON_TYPE
    body = answer.json()
    assert set(body) == {"error"}, body
    assert isinstance(body["error"], str) and body["error"].strip(), body
    return body["error"]


def caller_error(answer):
    """Any 4xx in the error shape."""
    assert 400 <= answer.status_code < 500, f"{answer.status_code}: {answer.text[:500]}"
    return error_of(answer, answer.status_code)


class Sidecar:
    """One base URL, one S3 server, one bucket."""

    def __init__(self, base, s3, bucket=None, endpoint=None):
        self.base = base
        self.s3 = s3
        self.bucket = bucket or s3.make_bucket("snapshot")
        self.config = s3.config(self.bucket, endpoint)

    # ---- requests ----
    def post(self, path, body, **options):
        """`body` may be text or bytes, sent as they are, or anything that JSON can hold."""
        raw = body if isinstance(body, (str, bytes)) else json.dumps(body)
        raw = raw.encode() if isinstance(raw, str) else raw
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        options.setdefault("timeout", REQUEST_TIMEOUT)
        return requests.post(self.base + path, data=raw, headers=headers, allow_redirects=False, **options)

    def get(self, path, **options):
        options.setdefault("timeout", REQUEST_TIMEOUT)
        return requests.get(self.base + path, allow_redirects=False, **options)

    def query_body(self, sql, tables=None, **fields):
        return {"sql": sql, "s3_config": self.config, "tables": declare(tables), **fields}

    def query(self, sql, tables=None, **fields):
        return self.post("/query", self.query_body(sql, tables, **fields))

    def snapshot_body(self, key, data, columns, **fields):
        return {
            "table_name": "test",
            "s3_key": key,
            "s3_config": self.config,
            "data": data,
            "columns": columns,
            **fields,
        }

    def snapshot(self, key, data, columns, **fields):
        return self.post("/snapshot", self.snapshot_body(key, data, columns, **fields))

    # ---- requests that have to succeed ----
    def result(self, sql, tables=None, **fields):
        """The body of a 200, its three fields checked against each other."""
        answer = self.query(sql, tables, **fields)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:500]}\n{sql}"
        assert answer.headers["Content-Type"] == JSON_TYPE
        body = answer.json()
        assert list(body) == ["columns", "rows", "row_count"]
        assert body["row_count"] == len(body["rows"])
        for row in body["rows"]:
            assert list(row) == body["columns"]
        return body

    def rows(self, sql, tables=None, **fields):
        return [tuple(row.values()) for row in self.result(sql, tables, **fields)["rows"]]

    def write(self, key, data, columns, **fields):
        """A snapshot that has to succeed; checks the answer against the stored object and returns the answer."""
        answer = self.snapshot(key, data, columns, **fields)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:500]}"
        assert answer.headers["Content-Type"] == JSON_TYPE
        body = answer.json()
        assert list(body) == ["s3_key", "row_count", "parquet_size_bytes"]
        assert body["s3_key"] == key
        assert body["row_count"] == len(data)
        assert body["parquet_size_bytes"] == len(self.object(key.lstrip("/")))
        return body

    def alive(self):
        assert self.rows("SELECT 42 AS v") == [(42,)]
        return True

    # ---- the bucket, past the server ----
    def object(self, key):
        return self.s3.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def put_object(self, key, body):
        self.s3.client().put_object(Bucket=self.bucket, Key=key, Body=body)
        return key

    def put_table(self, key, table, **options):
        """Stores a pyarrow table as Parquet."""
        into = io.BytesIO()
        pyarrow.parquet.write_table(table, into, **options)
        return self.put_object(key, into.getvalue())

    def keys(self, prefix=""):
        return self.s3.keys(self.bucket, prefix)

    def parquet(self, key):
        return pyarrow.parquet.ParquetFile(io.BytesIO(self.object(key)))


def duckdb_rows(folder, body, select="*"):
    """What another DuckDB reads from the bytes of a Parquet file."""
    path = folder / "read-back.parquet"
    path.write_bytes(body)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(f"SELECT {select} FROM read_parquet(?)", [str(path)]).fetchall()


class InFlight:
    """A call on a thread of its own: `with` it or ask for result()."""

    def __init__(self, call, *args, **options):
        self._value = None
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(call, args, options), daemon=True)
        self._thread.start()

    def _run(self, call, args, options):
        try:
            self._value = call(*args, **options)
        except BaseException as error:
            self._error = error

    def done(self):
        return not self._thread.is_alive()

    def wait(self, timeout=60.0):
        """Until the call is over, however it ended."""
        self._thread.join(timeout)
        assert self.done(), f"no answer within {timeout} s"

    def result(self, timeout=60.0):
        self._thread.join(timeout)
        assert self.done(), f"no answer within {timeout} s"
        if self._error is not None:
            raise self._error
        return self._value


class RawPost:
    """A POST on a bare socket, for clients that leave or read slowly."""

    def __init__(self, base, path, body, receive_buffer=None):
        parts = urlsplit(base)
        raw = json.dumps(body).encode()
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(60)
        self.socket.connect((parts.hostname, parts.port))
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(raw)}\r\nConnection: close\r\n\r\n"
        )
        self.socket.sendall(head.encode() + raw)

    def answer(self):
        answer = http.client.HTTPResponse(self.socket)
        answer.begin()
        return answer

    def close(self):
        self.socket.close()
