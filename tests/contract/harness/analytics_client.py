"""A client of the analytics personality, and the shapes of its answers."""

import itertools
import json
import threading

import requests

PREFIX = "/api/v1/duckdb"
QUERY_KEYS = {"data", "execution_time", "memory_usage", "row_count", "columns", "query_hash"}
ENDLESS = "SELECT count(*) AS c FROM range(100000000000) a, range(1000) b"
REQUEST_TIMEOUT = 60.0


def error_of(answer, status):
    """Checks the envelope of errors and returns its text."""
    assert answer.status_code == status, f"{answer.status_code}, not {status}: {answer.text[:500]}"
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert set(body) == {"detail", "status_code", "path"}, body
    assert body["status_code"] == status
    assert body["path"] == answer.request.url
    assert isinstance(body["detail"], str) and body["detail"]
    return body["detail"]


def faults_of(answer):
    """Checks the shape of a validation error and returns {field: (type, message)}."""
    assert answer.status_code == 422, f"{answer.status_code}: {answer.text[:500]}"
    body = answer.json()
    assert set(body) == {"detail", "errors"} and body["detail"] == "Validation error", body
    assert all(set(fault) == {"field", "message", "type"} for fault in body["errors"]), body
    return {fault["field"]: (fault["type"], fault["message"]) for fault in body["errors"]}


class Analytics:
    """The routes of one database; the default one without a name."""

    _names = itertools.count(1)

    def __init__(self, server, database=None):
        self.server = server
        self.name = database
        self.base = server.listener("analytics")

    def path(self, route):
        return f"{PREFIX}/databases/{self.name}{route}" if self.name else PREFIX + route

    def request(self, method, path, **options):
        options.setdefault("timeout", REQUEST_TIMEOUT)
        return requests.request(method, self.base + path, allow_redirects=False, **options)

    def get(self, route, **options):
        return self.request("GET", self.path(route), **options)

    def post(self, route, body=None, **options):
        """`body` may be text or bytes, sent as they are, or anything that JSON can hold."""
        if body is not None:
            raw = body if isinstance(body, (str, bytes)) else json.dumps(body)
            options["data"] = raw.encode() if isinstance(raw, str) else raw
            options["headers"] = {"Content-Type": "application/json", **options.get("headers", {})}
        return self.request("POST", self.path(route), **options)

    def query(self, sql, params=None, options=None, **fields):
        body = {"query": sql, **fields}
        if params is not None:
            body["params"] = params
        return self.post("/query", body, **(options or {}))

    def result(self, sql, params=None, **fields):
        answer = self.query(sql, params, **fields)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:500]}\n{sql}"
        body = answer.json()
        assert set(body) - {"truncated"} == QUERY_KEYS, body
        return body

    def rows(self, sql, params=None, **fields):
        return self.result(sql, params, **fields)["data"]

    def value(self, sql, params=None, **fields):
        return self.rows(sql, params, **fields)[0][0]

    def error(self, sql, params=None, status=400, **fields):
        return error_of(self.query(sql, params, **fields), status)

    def batch(self, queries, **fields):
        return self.post("/batch", {"queries": queries, **fields})

    def statistics(self):
        answer = self.get("/statistics")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def listed(self):
        """{name: description} of all databases."""
        answer = self.request("GET", f"{PREFIX}/databases")
        assert answer.status_code == 200, answer.text
        return {entry["name"]: entry for entry in answer.json()["databases"]}

    def make(self, name=None):
        """A new database, and its client."""
        name = name or f"made-{next(self._names)}"
        answer = self.request("POST", f"{PREFIX}/databases", json={"name": name})
        assert answer.status_code == 201, answer.text
        return Analytics(self.server, name)

    def drop(self, name=None):
        return self.request("DELETE", f"{PREFIX}/databases/{name or self.name}")


class Background:
    """A request in a thread of its own: .done() .answer()."""

    def __init__(self, call):
        self._answer = None
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call):
        try:
            self._answer = call()
        except Exception as error:  # shown by answer()
            self._error = error

    def done(self):
        return not self._thread.is_alive()

    def answer(self, timeout=60):
        self._thread.join(timeout)
        assert self.done(), f"no answer within {timeout} s"
        if self._error:
            raise self._error
        return self._answer
