"""The known client of the service, told again in Python: contract section 6. Only its base URL is set."""

import http.client
import json
import time
from urllib.parse import urlsplit

import pyarrow
import pytest

from harness.snapshot_client import Sidecar, column


class Client:
    """One POST per call with no header but Content-Type; errors are told from the text in `error` alone."""

    def __init__(self, url, s3_config, timeout=120.0):
        self.url = url.removesuffix("/")
        self.s3_config = s3_config
        self.timeout = timeout
        self.tables = {}

    def _post(self, path, body, what):
        parts = urlsplit(self.url + path)
        raw = json.dumps(body).encode()
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout)
        try:
            connection.putrequest("POST", parts.path, skip_accept_encoding=True)
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(raw)))
            connection.endheaders(raw)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            try:
                told = json.loads(text)["error"]
            except (ValueError, KeyError):
                told = answer.reason
            raise RuntimeError(f"Sidecar {what} failed: {told}")
        return json.loads(text)

    def snapshot(self, table, data, columns, prefix=None):
        """Stores the rows under `<prefix>/<epoch ms>.parquet` and remembers the key that the answer has."""
        key = f"{prefix or table}/{time.time_ns() // 1000000}.parquet"
        body = {"table_name": table, "s3_key": key, "s3_config": self.s3_config, "data": data, "columns": columns}
        answer = self._post("/snapshot", body, "snapshot")
        self.tables[table] = answer["s3_key"]
        return answer

    def query(self, sql, names=None):
        tables = [{"name": name, "s3_path": self.tables[name]} for name in names or self.tables]
        return self._post("/query", {"sql": sql, "s3_config": self.s3_config, "tables": tables}, "query")


@pytest.fixture(params=["", "/"])
def client(eider, s3, request):
    config = s3.config(s3.make_bucket("client"))
    del config["region"]
    return Client(eider.snapshot + request.param, config)


DAILY_SALES = [
    {"_id": f"s{n}", "_creationTime": 1706140800000.25 + n, "store": f"store {n % 3}", "units": n, "amount": n * 1.25}
    for n in range(90)
]
SALES_COLUMNS = [
    column("_id", "VARCHAR", "id"),
    column("_creationTime", "DOUBLE", "created_at"),
    column("store", "VARCHAR"),
    column("units", "INTEGER"),
    column("amount", "DOUBLE"),
]


def test_snapshot_and_query(client):
    answer = client.snapshot("daily_sales", DAILY_SALES, SALES_COLUMNS)
    assert answer["row_count"] == 90 and answer["parquet_size_bytes"] > 0
    result = client.query(
        "SELECT store, sum(units) AS units, sum(amount) AS amount FROM daily_sales GROUP BY 1 ORDER BY 1"
    )
    assert result == {
        "columns": ["store", "units", "amount"],
        "rows": [
            {"store": f"store {at}", "units": sum(range(at, 90, 3)), "amount": sum(range(at, 90, 3)) * 1.25}
            for at in range(3)
        ],
        "row_count": 3,
    }


def test_two_tables_and_a_stale_one(client):
    client.snapshot("daily_sales", DAILY_SALES, SALES_COLUMNS)
    client.snapshot(
        "stores",
        [{"name": f"store {n}", "city": f"c{n}"} for n in range(3)],
        [column("name", "VARCHAR"), column("city", "VARCHAR")],
    )
    client.tables["stale"] = "stale/1.parquet"
    sql = "SELECT city, count(*) AS n FROM daily_sales d JOIN stores s ON d.store = s.name GROUP BY 1 ORDER BY 1"
    assert [tuple(row.values()) for row in client.query(sql)["rows"]] == [("c0", 30), ("c1", 30), ("c2", 30)]


def test_a_table_in_chunks(client, s3):
    base = Sidecar(client.url, s3, client.s3_config["bucket"])
    for chunk in range(3):
        base.put_table(f"orders/1.parquet/{chunk}.parquet", pyarrow.table({"n": [chunk]}))
    client.tables["orders"] = "orders/1.parquet" + "/*.parquet"
    assert client.query("SELECT sum(n) AS n FROM orders")["rows"] == [{"n": 3}]


def test_errors_are_read_from_the_body(client):
    with pytest.raises(RuntimeError, match="^Sidecar query failed: .*syntax error"):
        client.query("selec 1")
    with pytest.raises(RuntimeError, match="^Sidecar snapshot failed: columns must be non-empty$"):
        client.snapshot("t", [], [])
    client.s3_config = {**client.s3_config, "bucket": "no-such-bucket-at-all"}
    with pytest.raises(RuntimeError, match="^Sidecar snapshot failed: ."):
        client.snapshot("t", [{"a": 1}], [column("a", "BIGINT")])
