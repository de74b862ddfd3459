"""What a client of the durable routes does: one record, rows in any format, flushes."""

import json

from harness.parquet_readers import read_table

NDJSON = "application/x-ndjson"
BUFFERED = {"status": "success", "message": "Record buffered"}
NOTHING = '{"status":"success","message":"No records to flush","record_count":0}'
# Nothing is flushed but by who asks for it.
NO_FLUSH = {"EIDER_FLUSH_AGE_MS": "86400000"}


def stream(server, table, record, base=None, key=None):
    headers = {"Idempotency-Key": key} if key else None
    return server.post(f"/ingest/stream?table_name={table}", base or server.ingest, json={"data": record}, headers=headers)


def buffered(server, table, record, base=None, key=None):
    answer = stream(server, table, record, base, key)
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    assert answer.json() == {**BUFFERED, "table_name": table}
    return answer


def count(server, table, base=None):
    answer = server.get(f"/table/{table}/count", base or server.ingest)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert list(body) == ["status", "table_name", "buffered_count"]
    return body["buffered_count"]


def flush(server, table, date=None, base=None):
    path = f"/flush?table_name={table}" + (f"&partition_date={date}" if date is not None else "")
    return server.post(path, base or server.ingest)


def flushed(server, table, date=None, base=None):
    """Flushes what there is; the answer."""
    answer = flush(server, table, date, base)
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    body = answer.json()
    if body["record_count"] == 0:
        assert answer.text == NOTHING
        return body
    assert list(body) == ["status", "message", "table_name", "s3_path", "partition_date", "record_count"]
    assert body["message"] == f"Flushed {body['record_count']} records to S3"
    return body


def stored(server, table):
    """All rows of the table's objects."""
    return [row for file in read_table(server.lake, table).values() for row in file.rows]


def ndjson(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def post_rows(server, table, body, content_type=NDJSON, base=None, headers=None, **parameters):
    return server.post(
        f"/tables/{table}/rows",
        base,
        data=body,
        params=parameters,
        headers={**({"Content-Type": content_type} if content_type else {}), **(headers or {})},
    )


def kept(answer):
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    return answer.json()
