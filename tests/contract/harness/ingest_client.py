"""What a client of the ingest routes does, and what it may rely on in the answer."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

S3_PATH = re.compile(
    r"/data/(?P<table>[^/]+)/year=(?P<year>\d{4})/month=(?P<month>\d\d)/day=(?P<day>\d\d)"
    r"/data_(?P<time>\d{6})_(?P<unique>[^/]+)\.parquet$"
)
SUCCESS_FIELDS = ["status", "message", "table_name", "s3_path", "partition_date", "record_count"]


def post_batch(server, table, records, date=None, base=None, **options):
    body = {"table_name": table, "records": records}
    if date is not None:
        body["partition_date"] = date
    return server.post("/ingest", base or server.ingest, json=body, **options)


def post_text(server, text, base=None, content_type="application/json", **options):
    """Posts a body as written, for JSON that Python would write otherwise."""
    headers = {**({"Content-Type": content_type} if content_type else {}), **options.pop("headers", {})}
    data = text if isinstance(text, bytes) else text.encode()
    return server.post("/ingest", base or server.ingest, data=data, headers=headers, **options)


def batch_text(table, records_text, date="2025-12-20"):
    """The text of an /ingest body around records that are JSON text already."""
    return f'{{"table_name":{json.dumps(table)},"records":{records_text},"partition_date":"{date}"}}'


def key_of(lake, s3_path):
    """The key of an answer's `s3_path`, after checking that it is an address in this lake."""
    start = lake.url("")
    assert s3_path.startswith(start), f"{s3_path} is not in {start}"
    return s3_path[len(start) :]


def accepted(server, answer):
    """The key of the object that a 200 promises, after checking the whole answer."""
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == SUCCESS_FIELDS
    assert answer.text == json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    assert body["status"] == "success"
    assert body["message"] == f"Ingested {body['record_count']} records"
    assert S3_PATH.search(body["s3_path"]), body["s3_path"]
    return key_of(server.lake, body["s3_path"])


def refused(answer, status, detail_start=None):
    """The `detail` of an error answer, which is JSON whatever went wrong."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["detail"], body
    if detail_start is not None:
        assert isinstance(body["detail"], str)
        assert body["detail"].startswith(detail_start), body["detail"]
    return body["detail"]


def in_parallel(function, arguments, threads=16):
    """Calls function(argument) for all arguments at once; results in order, the first exception raised."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, arguments))
