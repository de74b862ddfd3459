"""What /query and /snapshot refuse before they do anything: contract section 3, checks 7 to 11."""

import pytest

from harness.snapshot_client import Sidecar, column, error_of

CONFIG = {"endpoint": "http://127.0.0.1:9", "bucket": "bucket", "accessKeyId": "k", "secretAccessKey": "s"}
QUERY = {"sql": "SELECT 1 AS a", "s3_config": CONFIG, "tables": []}
SNAPSHOT = {
    "table_name": "t",
    "s3_key": "k.parquet",
    "s3_config": CONFIG,
    "data": [{"a": 1}],
    "columns": [column("a", "BIGINT")],
}
NOT_TEXTS = ["", "  ", "\t\n", 5, None, True, [], {}]
ABSENT = object()


@pytest.fixture(scope="module")
def sidecar(eider, s3):
    return Sidecar(eider.snapshot, s3)


def changed(body, **fields):
    merged = {**body, **fields}
    return {name: value for name, value in merged.items() if value is not ABSENT}


def refusal(sidecar, path, body):
    return error_of(sidecar.post(path, body), 400)


# ---- 7 and 11: the order of the checks ----
def test_query_reports_one_error_at_a_time_in_order(sidecar):
    body = {}
    for name, error in [
        ("sql", "sql must be a non-empty string"),
        ("s3_config", "s3_config must be an object"),
        ("tables", "tables must be an array"),
    ]:
        assert refusal(sidecar, "/query", body) == error
        body[name] = QUERY[name]
    assert sidecar.post("/query", body).status_code == 200


def test_snapshot_reports_one_error_at_a_time_in_order(sidecar):
    body = {}
    for name, error in [
        ("table_name", "table_name must be a non-empty string"),
        ("s3_key", "s3_key must be a non-empty string"),
        ("s3_config", "s3_config must be an object"),
        ("data", "data must be an array"),
        ("columns", "columns must be an array"),
    ]:
        assert refusal(sidecar, "/snapshot", body) == error
        body[name] = SNAPSHOT[name]
    error_of(sidecar.post("/snapshot", body), 502)  # all is well formed: now nobody answers at the endpoint


def test_the_first_fault_of_several_is_told(sidecar):
    assert refusal(sidecar, "/query", {"sql": "x", "s3_config": 5, "tables": 5}) == "s3_config must be an object"
    body = changed(SNAPSHOT, table_name=5, s3_key="", data=5)
    assert refusal(sidecar, "/snapshot", body) == "table_name must be a non-empty string"
    body = changed(SNAPSHOT, data=[5], columns=[])
    assert refusal(sidecar, "/snapshot", body) == "data[0] must be an object"
    body = changed(SNAPSHOT, data=[{"a": 1.5}, {"a": 1}, 7])
    assert refusal(sidecar, "/snapshot", body) == "data[2] must be an object"
    body = changed(SNAPSHOT, s3_config=changed(CONFIG, bucket="", region=""))
    assert refusal(sidecar, "/snapshot", body) == "s3_config.bucket must be a non-empty string"


@pytest.mark.parametrize("value", NOT_TEXTS)
@pytest.mark.parametrize("path, name", [("/query", "sql"), ("/snapshot", "table_name"), ("/snapshot", "s3_key")])
def test_required_texts(sidecar, path, name, value):
    body = changed(QUERY if path == "/query" else SNAPSHOT, **{name: value})
    assert refusal(sidecar, path, body) == f"{name} must be a non-empty string"


# ---- 8 and 9: s3_config ----
@pytest.mark.parametrize("path", ["/query", "/snapshot"])
@pytest.mark.parametrize("value", [None, 5, "x", [], True])
def test_config_is_an_object(sidecar, path, value):
    body = changed(QUERY if path == "/query" else SNAPSHOT, s3_config=value)
    assert refusal(sidecar, path, body) == "s3_config must be an object"


NO_URL = 's3_config.endpoint must be a valid URL (e.g. "http://minio:9000")'
ENDPOINTS = [
    ("", "s3_config.endpoint must be a non-empty string"),
    ("  ", "s3_config.endpoint must be a non-empty string"),
    (5, "s3_config.endpoint must be a non-empty string"),
    ("notaurl", NO_URL),
    ("http://", NO_URL),
    ("http://x:99999", NO_URL),
    ("http://x:port", NO_URL),
    ("ftp://x", "s3_config.endpoint must be http(s), got: ftp:"),
    ("file:///etc", "s3_config.endpoint must be http(s), got: file:"),
    ("minio:9000", "s3_config.endpoint must be http(s), got: minio:"),
    ("http://x/path", "s3_config.endpoint must not include a path: http://x/path"),
    ("http://x:9000/a/", "s3_config.endpoint must not include a path: http://x:9000/a/"),
]


@pytest.mark.parametrize("path", ["/query", "/snapshot"])
@pytest.mark.parametrize("endpoint, error", ENDPOINTS)
def test_endpoints(sidecar, path, endpoint, error):
    body = changed(QUERY if path == "/query" else SNAPSHOT, s3_config=changed(CONFIG, endpoint=endpoint))
    assert refusal(sidecar, path, body) == error


@pytest.mark.parametrize("endpoint", ["http://x:9000/", "http://x:9000", "https://x", "HTTP://X", "http://127.0.0.1:1"])
def test_good_endpoints(sidecar, endpoint):
    assert sidecar.post("/query", changed(QUERY, s3_config=changed(CONFIG, endpoint=endpoint))).status_code == 200


@pytest.mark.parametrize(
    "endpoint",
    ["http://user:word@x:9000", "http://ok@evil", "http://x?y=z", "http://x#frag", "http://x:9000/?a", "http://x\r\ny"],
)
def test_endpoints_that_hide_something(sidecar, endpoint):
    """Section 10 item 19: userinfo, query and fragment are refused; a signed request to them makes no sense."""
    error = refusal(sidecar, "/query", changed(QUERY, s3_config=changed(CONFIG, endpoint=endpoint)))
    assert error.startswith("s3_config.endpoint") and "word" not in error


FIELDS = [
    *[("bucket", value, "must be a non-empty string") for value in [ABSENT, *NOT_TEXTS]],
    *[("accessKeyId", value, "must be a non-empty string") for value in [ABSENT, *NOT_TEXTS]],
    *[("secretAccessKey", value, "must be a non-empty string") for value in [ABSENT, *NOT_TEXTS]],
    *[("region", value, "must be a non-empty string") for value in NOT_TEXTS],
    *[("forcePathStyle", value, "must be a boolean") for value in [None, "true", "", 1, 0, [], {}]],
]


@pytest.mark.parametrize("path", ["/query", "/snapshot"])
@pytest.mark.parametrize("name, value, error", FIELDS)
def test_config_fields(sidecar, path, name, value, error):
    body = changed(QUERY if path == "/query" else SNAPSHOT, s3_config=changed(CONFIG, **{name: value}))
    assert refusal(sidecar, path, body) == f"s3_config.{name} {error}"


@pytest.mark.parametrize("fields", [{"region": "eu-west-1"}, {"forcePathStyle": True}, {"forcePathStyle": False}])
def test_good_config_fields(sidecar, fields):
    assert sidecar.post("/query", changed(QUERY, s3_config=changed(CONFIG, **fields))).status_code == 200


@pytest.mark.parametrize("bucket", ["a/b", "../x", "a?b", "a#b", "x@evil", "a b", "a:80", "\u0001bc", ".ab", "a" * 300])
def test_bucket_names_have_a_pattern(sidecar, bucket):
    error = refusal(sidecar, "/query", changed(QUERY, s3_config=changed(CONFIG, bucket=bucket)))
    assert error.startswith("s3_config.bucket")


# ---- 10: tables ----
TABLES = [
    (ABSENT, "tables must be an array"),
    (None, "tables must be an array"),
    ({}, "tables must be an array"),
    ("x", "tables must be an array"),
    ([5], "tables[0] must be an object"),
    ([None], "tables[0] must be an object"),
    ([[]], "tables[0] must be an object"),
    ([{}], "tables[0].name must be a non-empty string"),
    ([{"name": " ", "s3_path": "a"}], "tables[0].name must be a non-empty string"),
    ([{"name": 5, "s3_path": "a"}], "tables[0].name must be a non-empty string"),
    ([{"name": "x"}], "tables[0].s3_path must be a non-empty string"),
    ([{"name": "x", "s3_path": ["a", "b"]}], "tables[0].s3_path must be a non-empty string"),
    ([{"name": "x", "s3_path": ""}], "tables[0].s3_path must be a non-empty string"),
    ([{"name": "x", "s3_path": "a"}, {"name": "y"}], "tables[1].s3_path must be a non-empty string"),
    ([{"name": "x", "s3_path": "a"}, 7], "tables[1] must be an object"),
]


@pytest.mark.parametrize("tables, error", TABLES)
def test_tables(sidecar, tables, error):
    assert refusal(sidecar, "/query", changed(QUERY, tables=tables)) == error


@pytest.mark.parametrize("paths", ["a", {}, [], [5], [""], ["a", " "], None])
def test_s3_paths_is_a_list_of_texts(sidecar, paths):
    error = refusal(sidecar, "/query", changed(QUERY, tables=[{"name": "x", "s3_paths": paths}]))
    assert error.startswith("tables[0].s3_path")


@pytest.mark.parametrize(
    "key", ["../x.parquet", "a/../b.parquet", "a/..", "/../a", "a//b.parquet", "./a", "a/./b", "a\u0000b", "a\nb"]
)
def test_keys_that_no_store_should_be_asked_for(sidecar, key):
    """Section 10 item 15. The rule is the same for what is written and for what is read."""
    refusal(sidecar, "/snapshot", changed(SNAPSHOT, s3_key=key))
    refusal(sidecar, "/query", changed(QUERY, sql="SELECT * FROM x", tables=[{"name": "x", "s3_path": key}]))
    refusal(sidecar, "/query", changed(QUERY, sql="SELECT * FROM x", tables=[{"name": "x", "s3_paths": ["a", key]}]))


def test_no_tables_are_needed(sidecar):
    assert sidecar.post("/query", QUERY).text == '{"columns":["a"],"rows":[{"a":1}],"row_count":1}'


# ---- 11: data and columns ----
@pytest.mark.parametrize("data", [ABSENT, None, {}, "x", 5])
def test_data_is_an_array(sidecar, data):
    assert refusal(sidecar, "/snapshot", changed(SNAPSHOT, data=data)) == "data must be an array"


@pytest.mark.parametrize("bad", [1, None, "x", [], True, 1.5])
@pytest.mark.parametrize("index", [0, 3])
def test_rows_are_objects(sidecar, bad, index):
    data = [{"a": 1}] * index + [bad, {"a": 2}, 5]
    assert refusal(sidecar, "/snapshot", changed(SNAPSHOT, data=data)) == f"data[{index}] must be an object"


@pytest.mark.parametrize(
    "columns, error",
    [
        (ABSENT, "columns must be an array"),
        ({}, "columns must be an array"),
        ([], "columns must be non-empty"),
        ([5], "columns[0] must be an object"),
        ([{}], "columns[0].source must be a non-empty string"),
        ([{"source": "a"}], "columns[0].target must be a non-empty string"),
        ([{"source": "a", "target": "a"}], "columns[0].type must be a non-empty string"),
        ([column("a", "BIGINT"), {"source": " "}], "columns[1].source must be a non-empty string"),
        ([column("a", "BIGINT"), column("b", 5)], "columns[1].type must be a non-empty string"),
    ],
)
def test_columns(sidecar, columns, error):
    assert refusal(sidecar, "/snapshot", changed(SNAPSHOT, columns=columns)) == error


@pytest.mark.parametrize(
    "kind",
    ["INTEGER[]", "VARCHAR; DROP TABLE x", "STRUCT(a INTEGER)", "TIMESTAMP WITH TIME ZONE", "INTEGER NOT NULL"]
    + ["1INT", "DECIMAL(18,2", "DECIMAL(-1,2)", "DECIMAL(1,2,3)", "VARCHAR--", "ENUM('a')", "a.b", '"x"', "é"],
)
def test_types_that_do_not_match_the_pattern(sidecar, kind):
    error = refusal(sidecar, "/snapshot", changed(SNAPSHOT, columns=[column("a", kind)]))
    assert error == (
        f'Unsupported/unsafe DuckDB type: "{kind}" (allowed: VARCHAR, BIGINT, DOUBLE, BOOLEAN, DECIMAL(p,s), etc.)'
    )


@pytest.mark.parametrize("kind", ["foo", "MAP", "ENUM", "BIGINT(5)", "DECIMAL(40,2)", "STRUCT", "DECIMAL(2,5)", "LIST"])
def test_types_that_the_engine_does_not_know(sidecar, kind):
    key = f"unknown-{kind}.parquet"
    error = error_of(sidecar.snapshot(key, [{"a": 1}], [column("a", kind)]), 400)
    assert "Unsupported/unsafe" not in error
    assert sidecar.keys("unknown-") == []


@pytest.mark.parametrize("targets", [("x", "x"), ("x", "X"), ("É", "É")])
def test_duplicate_targets(sidecar, targets):
    columns = [column("a", "BIGINT", targets[0]), column("b", "BIGINT", targets[1])]
    error_of(sidecar.snapshot("duplicate.parquet", [{"a": 1, "b": 2}], columns), 400)
    assert sidecar.keys("duplicate") == []


# ---- the network behind s3_config ----
@pytest.mark.parametrize(
    "endpoint",
    ["http://169.254.169.254", "http://169.254.1.1:80", "http://2852039166", "http://0xA9FEA9FE"]
    + ["http://[::ffff:169.254.169.254]", "http://[fe80::1]", "http://[fd00:ec2::254]", "http://169.254.169.254.:80"],
)
def test_metadata_addresses_are_not_contacted(sidecar, endpoint):
    config = changed(CONFIG, endpoint=endpoint)
    tables = [{"name": "x", "s3_path": "x.parquet"}]
    for answer in (
        sidecar.post("/query", changed(QUERY, sql="SELECT * FROM x", tables=tables, s3_config=config), timeout=2.5),
        sidecar.post("/snapshot", changed(SNAPSHOT, s3_config=config), timeout=2.5),
    ):
        error_of(answer, 400, 403)
