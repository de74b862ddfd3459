"""What POST /query takes beside the contract: `params`, `max_rows`, `timeout_ms`, and the choice of a format."""

import json
import socket
import time
import urllib.parse

import pytest


@pytest.fixture
def value(eider):
    """The one value, and its type, of a statement with one parameter."""

    def one(text):
        body = '{"sql": "SELECT $1 AS v, typeof($1) AS t", "params": [' + text + "]}"
        answer = eider.post(
            "/query", data=body.encode(), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        row = answer.json()["rows"][0]
        return row["v"], row["t"]

    return one


def refused(answer):
    assert answer.status_code == 400, f"{answer.status_code} {answer.text[:300]}"
    return answer.json()["error"]


# ---- parameters ----

@pytest.mark.parametrize(
    "text, expected, kind",
    [
        ("null", None, '"NULL"'),
        ("true", True, "BOOLEAN"),
        ("false", False, "BOOLEAN"),
        ("0", 0, "INTEGER"),
        ("-2147483648", -2147483648, "INTEGER"),
        ("2147483648", 2147483648, "BIGINT"),
        ("9223372036854775807", "9223372036854775807", "BIGINT"),
        ("9223372036854775808", "9223372036854775808", "HUGEINT"),
        ("0.10", 0.1, "DECIMAL(2,2)"),
        ("-12345678901234567890.123456789", "-12345678901234567890.123456789", "DECIMAL(29,9)"),
        ("1e3", 1000, "DOUBLE"),
        ("1e999", None, "DOUBLE"),
        ('"text"', "text", "VARCHAR"),
        ('""', "", "VARCHAR"),
        ('"\\u00e9\\ud83d\\ude00\\u0000x"', "é😀\0x", "VARCHAR"),
        ("[]", [], "\"NULL\"[]"),
        ("[1, 2, null]", [1, 2, None], "INTEGER[]"),
        ("[1, 5000000000]", [1, 5000000000], "BIGINT[]"),
        ("[1, 0.5]", [1, 0.5], "DOUBLE[]"),
        ('[["a"], ["b", "c"]]', [["a"], ["b", "c"]], "VARCHAR[][]"),
        ('{"a": 1, "b": {"c": [true]}}', {"a": 1, "b": {"c": [True]}}, "STRUCT(a INTEGER, b STRUCT(c BOOLEAN[]))"),
        ('[{"x": 1}, {"x": 3000000000}]', [{"x": 1}, {"x": 3000000000}], "STRUCT(x BIGINT)[]"),
    ],
)
def test_a_value_has_the_type_of_its_literal(value, text, expected, kind):
    assert value(text) == (expected, kind)


def test_a_value_is_never_sql(ask):
    hostile = "'; DROP TABLE x; -- \" $1 ?"
    assert ask("SELECT ? AS v", params=[hostile]).json()["rows"] == [{"v": hostile}]


@pytest.mark.parametrize(
    "sql, params, expected",
    [
        ("SELECT ? + ? AS v", [1, 2], 3),
        ("SELECT $2 - $1 AS v", [1, 10], 9),
        ("SELECT $1 + $1 AS v", [4], 8),
        ("SELECT $a || $b AS v", {"a": "x", "b": "y"}, "xy"),
        ("SELECT $a AS v", {"a": 1, "not asked for": 2}, 1),
        ("SELECT $1 AS v", {"1": "one"}, "one"),
        ("SELECT count(*) AS v FROM range(10) WHERE range < ?", [4], 4),
        ("SELECT len(list_filter($1, lambda x: x > $2)) AS v", [[1, 2, 3], 1], 2),
        ("SELECT 1 AS v", [], 1),
        ("SELECT 1 AS v", {}, 1),
    ],
)
def test_parameters_by_position_and_by_name(ask, sql, params, expected):
    answer = ask(sql, params=params)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == [{"v": expected}]


def test_parameters_in_a_pivot(eider, ask, table):
    rows = [{"k": "a", "n": 1}, {"k": "b", "n": 2}, {"k": "a", "n": 3}]
    assert eider.post("/ingest", json={"table_name": table, "partition_date": "2025-01-01", "records": rows}).ok
    answer = ask(f"FROM (PIVOT (SELECT k, n FROM {table}) ON k USING sum(n)) WHERE a > ?", params=[3])
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == [{"a": 4, "b": 2}]


@pytest.mark.parametrize(
    "sql, params, text",
    [
        ("SELECT ?", None, "parameters, and no values"),
        ("SELECT ?", [], "takes 1 values, params has 0"),
        ("SELECT ?", [1, 2], "takes 1 values, params has 2"),
        ("SELECT 1", [1], "takes 0 values, params has 1"),
        ("SELECT $a", [1], "has a name"),
        ("SELECT $a", {"b": 1}, "no value for $a"),
        ("SELECT ?", "x", "must be an array or an object"),
        ("SELECT ?", [[1, "a"]], "params[0] is a list whose elements have different types"),
        ("SELECT ?", [[[1], ["a"]]], "different types"),
        ("SELECT ?", [{}], "without members"),
        ("SELECT ?::INTEGER", ["not a number"], "Conversion Error"),
    ],
)
def test_wrong_parameters_are_told(ask, sql, params, text):
    fields = {} if params is None else {"params": params}
    assert text in refused(ask(sql, **fields))


def test_names_given_twice(eider):
    def post(body):
        return eider.post("/query", data=body, headers={"Content-Type": "application/json"})

    assert post('{"sql": "SELECT $a AS v", "params": {"a": 1, "a": 2}}').json()["rows"] == [{"v": 2}]
    assert "twice" in refused(post('{"sql": "SELECT $a AS v", "params": {"a": {"x": 1, "x": 2}}}'))


def test_many_parameters(ask):
    count = 2000
    sql = "SELECT list_sum([" + ", ".join(["?"] * count) + "]) AS v"
    assert ask(sql, params=list(range(count))).json()["rows"] == [{"v": count * (count - 1) // 2}]


# ---- max_rows ----

@pytest.mark.parametrize("rows, truncated", [(1, True), (4999, True), (5000, False), (5001, False)])
def test_max_rows(ask, rows, truncated):
    answer = ask("SELECT range AS v FROM range(5000)", max_rows=rows)
    body = answer.json()
    assert body["truncated"] is truncated
    assert body["row_count"] == len(body["rows"]) == min(rows, 5000)
    assert answer.headers.get("X-Truncated") == ("true" if truncated else None)


def test_without_max_rows_the_answer_is_the_contracts(ask):
    assert ask("SELECT 1 AS a").text == '{"columns":["a"],"rows":[{"a":1}],"row_count":1}'


def test_max_rows_ends_an_endless_statement_early(ask):
    answer = ask("SELECT range AS v FROM range(1000000000000)", max_rows=10)
    assert answer.json()["row_count"] == 10


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "10", None, True, 2**63])
def test_max_rows_must_be_a_count(ask, wrong):
    assert "max_rows must be a whole number" in refused(ask("SELECT 1", max_rows=wrong))


# ---- timeout_ms ----

def test_timeout_ms(ask):
    begin = time.monotonic()
    answer = ask("SELECT count(*) FROM range(100000000000)", timeout_ms=300)
    assert answer.status_code == 504, answer.text
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("wrong", [0, "1", 1e3, 10**9])
def test_timeout_ms_is_within_the_servers(ask, wrong):
    assert "timeout_ms must be a whole number from 1 to" in refused(ask("SELECT 1", timeout_ms=wrong))


# ---- the choice of a format ----

@pytest.mark.parametrize(
    "query, accept, content_type",
    [
        ("", None, "application/json"),
        ("", "*/*", "application/json"),
        ("", "text/html", "application/json"),
        ("", "application/json, text/plain, */*", "application/json"),
        ("", "text/csv", "text/csv"),
        ("", "application/x-ndjson", "application/x-ndjson"),
        ("", "text/csv;q=0.5, application/x-ndjson;q=0.9", "application/x-ndjson"),
        ("", "text/csv;q=0, */*;q=0.1", "application/json"),
        ("?format=json", "text/csv", "application/json"),
        ("?format=CSV", None, "text/csv"),
    ],
)
def test_the_format_is_chosen(ask, query, accept, content_type):
    answer = ask("SELECT 1 AS a", query=query, headers={"Accept": accept} if accept else {"Accept": None})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith(content_type)


def test_an_unknown_format_is_refused(ask):
    assert "json, ndjson, csv, arrow, parquet" in refused(ask("SELECT 1", query="?format=xml"))


@pytest.mark.parametrize("format", ["json", "ndjson", "csv", "arrow", "parquet"])
def test_an_early_error_keeps_its_status_in_every_format(ask, format):
    answer = ask("SELECT nothing_like_it", query=f"?format={format}")
    assert "nothing_like_it" in refused(answer)
    assert answer.headers["Content-Type"].startswith("application/json")


LATE = "SELECT CASE WHEN range < 3000000 THEN range ELSE ('x' || range)::BIGINT END AS v FROM range(4000000)"


@pytest.mark.parametrize("format", ["json", "ndjson", "csv", "arrow", "parquet"])
def test_a_late_error_cuts_the_body(eider, format):
    import requests

    answer = requests.post(
        f"{eider.url}/query?format={format}", json={"sql": LATE}, stream=True, timeout=60
    )
    assert answer.status_code == 200
    seen = b""
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        for piece in answer.iter_content(65536):
            seen = (seen + piece)[-4096:]
    if format == "ndjson":
        last = json.loads(seen.rstrip().rsplit(b"\n", 1)[-1])
        assert last["code"] == "invalid_request" and "Conversion Error" in last["error"]


@pytest.mark.parametrize("format", ["json", "ndjson", "csv"])
def test_a_late_error_resets_a_connection_of_http_1_0(eider, format):
    """A whole body ends with the connection there, so a cut one must not end in the same way."""
    body = json.dumps({"sql": LATE}).encode()
    head = f"POST /query?format={format} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    address = urllib.parse.urlsplit(eider.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionResetError):
            while connection.recv(65536):
                pass
            pytest.fail("the body ended as a whole one does")
