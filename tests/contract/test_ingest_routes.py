"""The ingest personality's routes apart from /ingest itself: contracts/ingest.md sections 2 and 4, checks 1, 2, 24, 29, 30."""

import json

import pytest

from harness.ingest_client import accepted, batch_text, post_batch, post_text, refused
from harness.lakes import FolderLake
from harness.raw_http import RawConnection

ENDPOINTS = {"/health", "/ingest", "/ingest/stream", "/flush", "/tables", "/table/{name}/count"}
ROUTES = [
    ("GET", "/"),
    ("GET", "/health"),
    ("POST", "/ingest"),
    ("POST", "/ingest/stream"),
    ("POST", "/flush"),
    ("GET", "/tables"),
    ("GET", "/table/events/count"),
]


@pytest.fixture(params=["ingest", "main"])
def base(request, eider):
    """The two addresses that serve the ingest routes."""
    return eider.listener(request.param)


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# ---- check 1 ----
def test_health_names_the_store_as_configured(eider_s3):
    answer = eider_s3.get("/health", eider_s3.ingest)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == compact(
        {
            "status": "healthy",
            "service": "duckdb-sidecar",
            "s3_endpoint": eider_s3.env["S3_ENDPOINT"],
            "s3_bucket": eider_s3.lake.bucket,
        }
    )


def test_health_over_a_folder_has_the_same_four_fields(eider):
    answer = eider.get("/health", eider.ingest)
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["status", "service", "s3_endpoint", "s3_bucket"]
    assert body["status"] == "healthy" and body["service"] == "duckdb-sidecar"
    assert isinstance(body["s3_endpoint"], str) and isinstance(body["s3_bucket"], str)


# ---- check 2 ----
def test_root_describes_the_service_and_shows_no_secret(eider_s3):
    answer = eider_s3.get("/", eider_s3.ingest)
    assert answer.status_code == 200
    body = answer.json()
    assert body["service"] == "DuckDB S3 Sidecar"
    assert body["version"] == "1.0.0"
    assert isinstance(body["description"], str)
    assert set(body["endpoints"]) == ENDPOINTS
    assert all(isinstance(text, str) and text for text in body["endpoints"].values())
    assert body["s3_config"] == {
        "endpoint": eider_s3.env["S3_ENDPOINT"],
        "bucket": eider_s3.lake.bucket,
        "region": eider_s3.env["S3_REGION"],
    }
    assert eider_s3.env["S3_SECRET_KEY"] not in answer.text
    assert eider_s3.env["S3_ACCESS_KEY"] not in answer.text


def test_root_over_a_folder_still_lists_the_six_endpoints(eider):
    body = eider.get("/", eider.ingest).json()
    assert set(body["endpoints"]) == ENDPOINTS
    assert set(body["s3_config"]) == {"endpoint", "bucket", "region"}


# ---- check 29 ----
@pytest.mark.parametrize("method, path", ROUTES)
def test_wrong_method_is_405_and_names_the_right_one(eider, method, path):
    wrong = "GET" if method == "POST" else "POST"
    for other in (wrong, "PUT", "DELETE", "OPTIONS"):
        answer = eider.request(other, path, eider.ingest)
        assert refused(answer, 405) == "Method Not Allowed"
        assert answer.headers["allow"] == method


@pytest.mark.parametrize("method, path", ROUTES)
def test_head_is_405_without_a_body(eider, method, path):
    with RawConnection(eider.address("ingest")) as connection:
        connection.request("HEAD", path)
        answer = connection.answer("HEAD")
        assert answer.status == 405
        assert answer.headers["allow"] == method
        connection.request("GET", "/nope")  # a body after HEAD would be read as the next answer
        assert connection.answer().status == 404


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
def test_unknown_path_is_404(eider, method):
    answer = eider.request(method, "/nope", eider.ingest)
    assert answer.status_code == 404
    if method != "HEAD":
        assert answer.text == '{"detail":"Not Found"}'


def test_paths_are_compared_exactly(eider):
    for path in ("/HEALTH", "/Ingest", "/table/events", "/table/events/counts", "//health"):
        with RawConnection(eider.address("ingest")) as connection:
            connection.request("GET", path)
            assert connection.answer().status == 404, path


# ---- check 30 ----
@pytest.mark.parametrize("method, path", [route for route in ROUTES if route[1] != "/"])
def test_trailing_slash_is_redirected(eider, method, path):
    answer = eider.request(method, path + "/", eider.ingest)
    assert answer.status_code == 307
    assert answer.headers["location"] == eider.ingest + path
    assert answer.content == b""


def test_redirect_keeps_the_query(eider):
    answer = eider.post("/flush/?table_name=a%20b", eider.ingest)
    assert answer.status_code == 307
    assert answer.headers["location"] == eider.ingest + "/flush?table_name=a%20b"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_guides_are_html(eider, path):
    answer = eider.get(path, eider.ingest)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "<html" in answer.text.lower()


def test_guides_list_what_is_new_beside_the_contract(eider):
    assert "/tables/{name}/rows" in eider.get("/docs", eider.ingest).text


def test_openapi_describes_seven_paths(eider):
    answer = eider.get("/openapi.json", eider.ingest)
    assert answer.status_code == 200
    body = answer.json()
    assert body["openapi"] == "3.1.0"
    assert body["info"]["title"] == "DuckDB S3 Sidecar"
    assert body["info"]["version"] == "1.0.0"
    assert len(body["paths"]) == 7
    assert {"/", "/health", "/ingest", "/ingest/stream", "/flush", "/tables"} <= set(body["paths"])
    assert set(body["components"]["schemas"]) == {
        "DataBatch",
        "DataRecord",
        "HTTPValidationError",
        "ValidationError",
    }


# ---- /tables ----
def test_tables_of_a_fresh_server_is_empty(start_eider):
    server = start_eider({"EIDER_INGEST_LISTEN": "127.0.0.1:0"}, lake=FolderLake())
    assert server.get("/tables", server.ingest).text == '{"status":"success","tables":[]}'


def test_tables_lists_what_was_posted_in_the_case_used(any_lake, table):
    names = [f"Orders_{table}", f"products_{table}"]
    for name in names:
        accepted(any_lake, post_batch(any_lake, name, [{"id": 1}]))
    for base in (any_lake.ingest, any_lake.url):
        answer = any_lake.get("/tables", base)
        assert answer.status_code == 200
        body = answer.json()
        assert list(body) == ["status", "tables"] and body["status"] == "success"
        assert set(names) <= set(body["tables"])
        assert len(set(body["tables"])) == len(body["tables"])


def test_tables_does_not_list_a_refused_batch(eider, table):
    assert post_batch(eider, table, [{"id": 1}], date="2025-02-30").status_code == 400
    assert post_batch(eider, table, []).status_code == 422
    assert table not in eider.get("/tables", eider.ingest).json()["tables"]


# ---- check 24 ----
def test_count_of_an_unknown_table_is_zero(eider, base):
    answer = eider.get("/table/unknown/count", base)
    assert answer.status_code == 200
    assert answer.text == '{"status":"success","table_name":"unknown","buffered_count":0}'


def test_count_after_a_batch_is_zero(any_lake, table):
    accepted(any_lake, post_batch(any_lake, table, [{"id": 1}, {"id": 2}]))
    body = any_lake.get(f"/table/{table}/count", any_lake.ingest).json()
    assert body == {"status": "success", "table_name": table, "buffered_count": 0}


@pytest.mark.parametrize(
    "segment, message",
    [
        ("select", "Invalid table name: select. Cannot use SQL reserved words."),
        ("a%20b", "Invalid table name: a b. Only alphanumeric characters and underscores are allowed."),
        ("a-b", "Invalid table name: a-b. Only alphanumeric characters and underscores are allowed."),
        ("a+b", "Invalid table name: a+b. Only alphanumeric characters and underscores are allowed."),
        ("%C3%A9", "Invalid table name: é. Only alphanumeric characters and underscores are allowed."),
        ("events%0A", "Invalid table name: events\n. Only alphanumeric characters and underscores are allowed."),
        ("1a", "Invalid table name: 1a. Table names cannot start with a digit."),
        ("a" * 65, f"Table name too long: {'a' * 65}. Maximum 64 characters."),
    ],
)
def test_count_of_a_bad_name_is_400(eider, base, segment, message):
    assert refused(eider.get(f"/table/{segment}/count", base), 400) == message


@pytest.mark.parametrize("path", ["/table/a%2Fb/count", "/table/a/b/count", "/table/a%2fb/count"])
def test_count_of_a_name_with_a_slash_is_404(eider, path):
    with RawConnection(eider.address("ingest")) as connection:
        connection.request("GET", path)
        answer = connection.answer()
    assert answer.status == 404
    assert answer.body == b'{"detail":"Not Found"}'


def test_percent_escapes_of_plain_letters_are_decoded(eider):
    with RawConnection(eider.address("ingest")) as connection:
        connection.request("GET", "/table/%65vents_none/count")
        assert connection.answer().json()["table_name"] == "events_none"


# ---- check 31 ----
@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"],
)
def test_json_content_types_are_parsed(eider, base, table, content_type):
    answer = post_text(eider, batch_text(table, '[{"a":1}]'), base, content_type)
    accepted(eider, answer)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_other_content_types_are_422_or_parsed(eider, table, content_type):
    answer = post_text(eider, batch_text(table, '[{"a":1}]'), eider.ingest, content_type)
    if answer.status_code == 200:
        accepted(eider, answer)
        return
    (entry,) = refused(answer, 422)
    assert (entry["type"], entry["loc"]) == ("model_attributes_type", ["body"])
    assert not eider.lake.table_keys(table)
