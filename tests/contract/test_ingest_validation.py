"""What /ingest refuses, and in which words: contracts/ingest.md sections 2.2 and 3, checks 5 to 12, 17, 28, 32."""

import itertools
import json

import pytest

from harness.ingest_client import S3_PATH, accepted, batch_text, post_batch, post_text, refused
from harness.parquet_readers import read_table

RESERVED = (
    "select insert update delete drop create alter table from where join union order group having limit offset values "
    "set into as on and or not null true false case when then else end with by"
).split()
WORDS_ONLY_THE_ENGINE_KNOWS = (
    "all any array asc at check collate column constraint cross default desc describe distinct do except fetch for "
    "foreign full glob in inner is left like natural only outer primary qualify references returning right show similar "
    "some summarize to unique using window"
).split()
CHARSET = "Only alphanumeric characters and underscores are allowed."
OBJECT = "Input should be a valid dictionary or object to extract fields from"


@pytest.fixture(params=["ingest", "main"])
def base(request, eider):
    return eider.listener(request.param)


def entries(answer):
    """The entries of a 422 as (type, loc, msg), their other fields checked."""
    found = refused(answer, 422)
    assert isinstance(found, list)
    for entry in found:
        assert set(entry) <= {"type", "loc", "msg", "input", "ctx"}, entry
        assert "input" in entry
        assert ("ctx" in entry) == (entry["type"] in ("value_error", "json_invalid")), entry
        if entry["type"] == "value_error":
            assert entry["ctx"] == {"error": {}}
    return [(entry["type"], entry["loc"], entry["msg"]) for entry in found]


def post_body(server, body, base):
    return post_text(server, json.dumps(body), base)


def one_name_error(name, message):
    return [("value_error", ["body", "table_name"], "Value error, " + message.format(n=name))]


# ---- check 7 ----
def test_missing_fields_are_reported_together(eider, base):
    answer = post_body(eider, {}, base)
    assert entries(answer) == [
        ("missing", ["body", "table_name"], "Field required"),
        ("missing", ["body", "records"], "Field required"),
    ]
    assert [entry["input"] for entry in answer.json()["detail"]] == [{}, {}]


# ---- check 8 ----
@pytest.mark.parametrize("text", ["{bad", '{"table_name":', "[1,]", '{"a":1}x', "{'a':1}", '{"a":01}'])
def test_malformed_json(eider, base, text):
    answer = post_text(eider, text, base)
    assert answer.status_code == 422
    (entry,) = answer.json()["detail"]
    assert (entry["type"], entry["msg"], entry["input"]) == ("json_invalid", "JSON decode error", {})
    assert entry["loc"][0] == "body" and isinstance(entry["loc"][1], int)
    assert isinstance(entry["ctx"]["error"], str) and entry["ctx"]["error"]


def test_malformed_json_says_where(eider):
    (entry,) = post_text(eider, "{bad").json()["detail"]
    assert entry["loc"] == ["body", 1]


@pytest.mark.parametrize("text", ["", "null"])
def test_no_body(eider, base, text):
    answer = post_text(eider, text, base)
    assert entries(answer) == [("missing", ["body"], "Field required")]
    assert answer.json()["detail"][0]["input"] is None


@pytest.mark.parametrize("text", ["[]", "5", '"x"', "true", "NaN"])
def test_body_that_is_no_object(eider, base, text):
    assert entries(post_text(eider, text, base)) == [("model_attributes_type", ["body"], OBJECT)]


@pytest.mark.parametrize(
    "body",
    [b'{"table_name":"t\xff"}', b"\x1f\x8b\x08\x00", b'{"a":' * 3000 + b"1" + b"}" * 3000],
    ids=["bad-utf8", "gzip-without-saying-so", "too-deep"],
)
def test_body_that_cannot_be_parsed(eider, base, body):
    assert refused(post_text(eider, body, base), 400) == "There was an error parsing the body"


# ---- check 9 ----
@pytest.mark.parametrize("value", [5, None, 1.5, True, ["t"], {"a": 1}])
def test_table_name_that_is_no_string(eider, base, value):
    answer = post_body(eider, {"table_name": value, "records": [{"a": 1}]}, base)
    assert entries(answer) == [("string_type", ["body", "table_name"], "Input should be a valid string")]
    assert answer.json()["detail"][0]["input"] == value


@pytest.mark.parametrize(
    "name, message",
    [
        ("", "Table name cannot be empty"),
        ("select", "Invalid table name: {n}. Cannot use SQL reserved words."),
        ("SELECT", "Invalid table name: {n}. Cannot use SQL reserved words."),
        ("a-b", "Invalid table name: {n}. " + CHARSET),
        ("1-a", "Invalid table name: {n}. " + CHARSET),
        ("-" * 65, "Invalid table name: {n}. " + CHARSET),
        ("é", "Invalid table name: {n}. " + CHARSET),
        ("１a", "Invalid table name: {n}. " + CHARSET),
        ("a b", "Invalid table name: {n}. " + CHARSET),
        ("a.b", "Invalid table name: {n}. " + CHARSET),
        ("../x", "Invalid table name: {n}. " + CHARSET),
        ("events\n", "Invalid table name: {n}. " + CHARSET),
        ("select\n", "Invalid table name: {n}. " + CHARSET),
        ("a\0", "Invalid table name: {n}. " + CHARSET),
        ("1a", "Invalid table name: {n}. Table names cannot start with a digit."),
        ("1" + "a" * 64, "Invalid table name: {n}. Table names cannot start with a digit."),
        ("a" * 65, "Table name too long: {n}. Maximum 64 characters."),
    ],
)
def test_bad_table_names(eider, base, name, message):
    before = eider.lake.keys()
    answer = post_body(eider, {"table_name": name, "records": [{"a": 1}]}, base)
    assert entries(answer) == one_name_error(name, message)
    assert answer.json()["detail"][0]["input"] == name
    assert eider.lake.keys() == before


@pytest.mark.parametrize("word", RESERVED)
def test_reserved_words_are_refused_in_any_case(eider, word):
    for name in (word, word.upper(), word.capitalize()):
        answer = post_body(eider, {"table_name": name, "records": [{name: 1}]}, eider.ingest)
        assert entries(answer) == one_name_error(
            name, "Invalid table name: {n}. Cannot use SQL reserved words."
        ) + [
            (
                "value_error",
                ["body", "records"],
                f"Value error, Invalid column name: {name}. Cannot use SQL reserved words.",
            )
        ]


_unique_names = itertools.count()


@pytest.mark.parametrize("name", ["a" * 64, "_x", "T1", "selects", "order_", "CamelCase"])
def test_good_table_names(any_lake, name):
    key = accepted(any_lake, post_batch(any_lake, name, [{"a": next(_unique_names)}]))
    assert key.startswith(f"data/{name}/")


# ---- check 10 ----
@pytest.mark.parametrize(
    "records, expected",
    [
        ([], ("value_error", ["body", "records"], "Value error, Records list cannot be empty")),
        (None, ("list_type", ["body", "records"], "Input should be a valid list")),
        ({}, ("list_type", ["body", "records"], "Input should be a valid list")),
        ("x", ("list_type", ["body", "records"], "Input should be a valid list")),
        ([5], ("dict_type", ["body", "records", 0], "Input should be a valid dictionary")),
        ([{"a": 1}, [1]], ("dict_type", ["body", "records", 1], "Input should be a valid dictionary")),
    ],
)
def test_records_of_the_wrong_shape(eider, base, table, records, expected):
    answer = post_body(eider, {"table_name": table, "records": records}, base)
    assert entries(answer) == [expected]


def test_every_record_of_the_wrong_shape_is_reported(eider, table):
    answer = post_body(eider, {"table_name": table, "records": [5, {"a": 1}, None]}, eider.ingest)
    assert [entry[1] for entry in entries(answer)] == [["body", "records", 0], ["body", "records", 2]]


# ---- check 11 ----
@pytest.mark.parametrize(
    "column, message",
    [
        ("", "Column name cannot be empty"),
        ("order", "Invalid column name: order. Cannot use SQL reserved words."),
        ("a b", "Invalid column name: a b. " + CHARSET),
        ("a\n", "Invalid column name: a\n. " + CHARSET),
        ("naïve", "Invalid column name: naïve. " + CHARSET),
        ('a"', 'Invalid column name: a". ' + CHARSET),
    ],
)
def test_bad_column_names_in_any_record(eider, base, table, column, message):
    for records in ([{column: 1}], [{"a": 1}, {"a": 2, column: 1}]):
        answer = post_body(eider, {"table_name": table, "records": records}, base)
        assert entries(answer) == [("value_error", ["body", "records"], "Value error, " + message)]
    assert not eider.lake.table_keys(table)


def test_error_answers_do_not_echo_the_batch(eider, table):
    records = [{"a": "x" * 1000} for _ in range(2000)] + [{"a b": 1}]
    answer = post_body(eider, {"table_name": table, "records": records}, eider.ingest)
    assert entries(answer)[0][1] == ["body", "records"]
    assert len(answer.content) < 100_000


def test_a_column_name_over_a_mebibyte_is_too_long(eider, table):
    answer = post_body(eider, {"table_name": table, "records": [{"a" * ((1 << 20) + 1): 1}]}, eider.ingest)
    assert entries(answer) == [("value_error", ["body", "records"], "Value error, Column name too long")]


def test_the_list_of_problems_ends_at_a_thousand(eider, table):
    answer = post_body(eider, {"table_name": table, "records": ["x" * 900] * 20_000}, eider.ingest)
    found = entries(answer)
    assert len(found) == 1000
    assert found[-1] == ("dict_type", ["body", "records", 999], "Input should be a valid dictionary")


def test_names_of_a_mebibyte_that_are_escaped_make_a_whole_answer(eider):
    name = "\x01" * ((1 << 20) - 1)
    answer = post_body(eider, {"table_name": name, "records": [{name: 1}]}, eider.ingest)
    assert entries(answer) == one_name_error(name, "Invalid table name: {n}. " + CHARSET) + [
        ("value_error", ["body", "records"], f"Value error, Invalid column name: {name}. {CHARSET}")
    ]


# ---- texts that hold NUL ----
@pytest.mark.parametrize("method, path, prefix", [
    ("GET", "/table/a%00b/count", ""),
    ("POST", "/flush?table_name=a%00b", "Flush failed: "),
    ("POST", "/ingest/stream?table_name=a%00b", "Stream ingestion failed: "),
])
def test_nul_in_a_table_name_of_the_address(eider, base, method, path, prefix):
    answer = eider.request(method, path, base, json={"data": {"a": 1}} if "stream" in path else None)
    assert refused(answer, 400) == f"{prefix}Invalid table name: a\0b. {CHARSET}"
    assert r"a\u0000b" in answer.text


def test_nul_in_a_date(eider, base, table):
    answer = post_batch(eider, table, [{"a": 1}], "2025-01-01\0x", base)
    assert refused(answer, 400) == "Ingestion failed: Invalid date format: 2025-01-01\0x. Expected YYYY-MM-DD"


# ---- slashes at the end ----
@pytest.mark.parametrize("path, bare", [
    ("/ingest/", "/ingest"), ("/ingest//", "/ingest"), ("/table/t/count/", "/table/t/count"), ("/nope/", None), ("//", None), ("/table/", None),
])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_only_paths_of_routes_are_redirected(eider, method, path, bare):
    answer = eider.request(method, path, eider.ingest)
    if bare is None:
        assert refused(answer, 404) == "Not Found"
    else:
        assert answer.status_code == 307
        assert answer.headers["location"] == eider.ingest + bare


# ---- check 12 ----
def test_three_faults_at_once(eider, base):
    answer = post_body(eider, {"table_name": "select", "records": [], "partition_date": 20251220}, base)
    assert entries(answer) == [
        (
            "value_error",
            ["body", "table_name"],
            "Value error, Invalid table name: select. Cannot use SQL reserved words.",
        ),
        ("value_error", ["body", "records"], "Value error, Records list cannot be empty"),
        ("string_type", ["body", "partition_date"], "Input should be a valid string"),
    ]


# ---- check 32 ----
def test_bad_names_beside_nan_are_422_in_json(eider, base):
    answer = post_text(eider, '{"table_name":"select","records":[{"a b":NaN}]}', base)
    assert [entry[1] for entry in entries(answer)] == [["body", "table_name"], ["body", "records"]]


def test_lone_surrogate_in_a_name_is_an_error_in_json(eider):
    answer = post_text(eider, r'{"table_name":"t\ud800","records":[{"a":1}]}')
    assert answer.status_code in (400, 422)
    assert "detail" in answer.json()


# ---- check 13 ----
def test_words_only_the_engine_knows_are_good_names(any_lake, table):
    columns = WORDS_ONLY_THE_ENGINE_KNOWS + ["1a", "date", "timestamp", "value", "name", "id", "event", "x" * 200]
    record = {column: number for number, column in enumerate(columns)}
    accepted(any_lake, post_batch(any_lake, table, [record]))
    (file,) = read_table(any_lake.lake, table).values()
    assert file.columns == columns
    assert file.rows == [record]


@pytest.mark.parametrize("name", ["default", "desc", "all", "window", "sqlite_master", "duckdb_tables", "pg_class"])
def test_tables_named_like_words_of_the_engine(eider, name):
    key = accepted(eider, post_batch(eider, name, [{"a": 1}]))
    assert key.startswith(f"data/{name}/")
    assert name in eider.get("/tables", eider.ingest).json()["tables"]


# ---- checks 4, 5, 6: dates ----
@pytest.mark.parametrize(
    "date, folder",
    [
        ("2025-12-20", "year=2025/month=12/day=20"),
        ("2025-1-2", "year=2025/month=01/day=02"),
        ("2024-02-29", "year=2024/month=02/day=29"),
        ("2000-02-29", "year=2000/month=02/day=29"),
        ("0999-12-31", "year=0999/month=12/day=31"),
        ("0001-01-01", "year=0001/month=01/day=01"),
        ("9999-12-31", "year=9999/month=12/day=31"),
    ],
)
def test_partition_date_is_echoed_and_padded_in_the_key(any_lake, table, date, folder):
    answer = post_batch(any_lake, table, [{"a": 1}], date)
    key = accepted(any_lake, answer)
    assert answer.json()["partition_date"] == date
    assert key.startswith(f"data/{table}/{folder}/data_")


BAD_DATES = [
    "2025-02-30",
    "2025-13-01",
    "2023-02-29",
    "1900-02-29",
    "2025-00-10",
    "2025-01-00",
    "0000-01-01",
    "20251220",
    " 2025-01-01",
    "2025-01-01 ",
    "2025-01-01\n",
    "2025-12-20T00:00:00",
    "25-12-20",
    "12025-12-20",
    "2025-123-1",
    "2025/12/20",
    "-2025-12-20",
    "today",
    "../../x",
]


@pytest.mark.parametrize("date", BAD_DATES)
def test_bad_dates_are_400_and_nothing_is_kept(eider, base, table, date):
    answer = post_batch(eider, table, [{"a": 1}], date, base)
    assert refused(answer, 400) == f"Ingestion failed: Invalid date format: {date}. Expected YYYY-MM-DD"
    assert not eider.lake.table_keys(table)
    assert eider.get(f"/table/{table}/count", base).json()["buffered_count"] == 0


def test_a_good_batch_after_a_bad_date_has_only_its_own_rows(any_lake, table):
    refused(post_batch(any_lake, table, [{"a": 1}], "2025-02-30"), 400)
    accepted(any_lake, post_batch(any_lake, table, [{"a": 2}], "2025-02-28"))
    (file,) = read_table(any_lake.lake, table).values()
    assert file.rows == [{"a": 2}]


@pytest.mark.parametrize("date", [5, 2025.5, True, ["2025-01-01"]])
def test_dates_that_are_no_strings(eider, table, date):
    answer = post_body(eider, {"table_name": table, "records": [{"a": 1}], "partition_date": date}, eider.ingest)
    assert entries(answer) == [("string_type", ["body", "partition_date"], "Input should be a valid string")]


# ---- check 17: all or nothing ----
@pytest.mark.parametrize(
    "bad", [r'{"a":"\ud800"}', r'{"a":{"b":"x\udfff"}}'], ids=["surrogate", "nested-surrogate"]
)
def test_a_bad_value_in_row_three_stores_nothing(any_lake, table, bad):
    answer = post_text(any_lake, batch_text(table, '[{"a":"x"},{"a":"y"},' + bad + "]"))
    refused(answer, 400, "Ingestion failed: ")
    assert not any_lake.lake.table_keys(table)
    accepted(any_lake, post_text(any_lake, batch_text(table, '[{"a":"x"},{"a":"y"},{"a":"z"}]')))
    (file,) = read_table(any_lake.lake, table).values()
    assert file.values("a") == ["x", "y", "z"]


def test_records_without_any_column_are_refused(eider, table):
    answer = post_batch(eider, table, [{}])
    assert answer.status_code in (400, 422)
    assert "detail" in answer.json()
    assert not eider.lake.table_keys(table)


# ---- tolerance ----
def test_unknown_fields_and_parameters_are_ignored(eider, table):
    text = f'{{"x":[1],"table_name":"{table}","records":[{{"a":1}}],"mode":"append"}}'
    answer = post_text(eider, text, eider.ingest, params={"debug": "1"})
    accepted(eider, answer)


def test_of_repeated_keys_the_last_wins(eider, table):
    text = f'{{"table_name":"select","table_name":"{table}","records":[],"records":[{{"a":1,"a":2}}]}}'
    accepted(eider, post_text(eider, text))
    (file,) = read_table(eider.lake, table).values()
    assert file.rows == [{"a": 2}]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_encodings_of_json(eider, table, encoding):
    text = batch_text(table, '[{"a":"é€😀"}]')
    answer = post_text(eider, text.encode(encoding))
    accepted(eider, answer)
    (file,) = read_table(eider.lake, table).values()
    assert file.rows == [{"a": "é€😀"}]


def test_the_path_in_the_answer_has_the_documented_form(eider, table):
    body = post_batch(eider, table, [{"a": 1}], "2025-12-20").json()
    parts = S3_PATH.search(body["s3_path"]).groupdict()
    assert (parts["table"], parts["year"], parts["month"], parts["day"]) == (table, "2025", "12", "20")
