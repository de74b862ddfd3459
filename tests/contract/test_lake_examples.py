"""What the original services' own example clients do, with only host and port changed."""

import datetime

from harness.ingest_client import S3_PATH, accepted, in_parallel, post_batch
from harness.parquet_readers import read_table


def test_the_upstream_suite(any_lake):
    """The sequence of the ingest sidecar's own test program, its batch side."""
    assert any_lake.get("/health", any_lake.ingest).json()["status"] == "healthy"
    assert any_lake.get("/", any_lake.ingest).status_code == 200
    records = [
        {"id": 1, "name": "Test Item 1", "value": 100.5, "timestamp": "2025-12-20T10:00:00"},
        {"id": 2, "name": "Test Item 2", "value": 200.75, "timestamp": "2025-12-20T10:01:00"},
    ]
    body = post_batch(any_lake, "test_batch", records).json()
    assert (body["status"], body["record_count"], body["table_name"]) == ("success", 2, "test_batch")
    assert "test_batch" in any_lake.get("/tables", any_lake.ingest).json()["tables"]
    assert any_lake.get("/table/test_batch/count", any_lake.ingest).json()["buffered_count"] == 0


def test_daily_sales(any_lake):
    days = {
        "2025-12-18": [
            {"date": "2025-12-18", "metric": "revenue", "value": 1250.5},
            {"date": "2025-12-18", "metric": "orders", "value": 31},
        ],
        "2025-12-19": [
            {"date": "2025-12-19", "metric": "revenue", "value": 980.25},
            {"date": "2025-12-19", "metric": "orders", "value": 24},
        ],
        "2025-12-20": [
            {"date": "2025-12-20", "metric": "revenue", "value": 1410},
            {"date": "2025-12-20", "metric": "orders", "value": 37, "note": "record day"},
        ],
        "2024-12-20": [{"date": "2024-12-20", "metric": "revenue", "value": 700.125}],
    }
    for date, records in days.items():
        answer = post_batch(any_lake, "daily_sales", records, date)
        accepted(any_lake, answer)
        parts = S3_PATH.search(answer.json()["s3_path"]).groupdict()
        assert "{year}-{month}-{day}".format(**parts) == date

    body = any_lake.sql(
        "SELECT month, day, sum(value) AS revenue FROM daily_sales "
        "WHERE year = 2025 AND metric = 'revenue' GROUP BY month, day ORDER BY day"
    )
    assert body["columns"] == ["month", "day", "revenue"]
    assert body["rows"] == [
        {"month": 12, "day": 18, "revenue": 1250.5},
        {"month": 12, "day": 19, "revenue": 980.25},
        {"month": 12, "day": 20, "revenue": 1410},
    ]
    body = any_lake.sql("SELECT * FROM daily_sales WHERE year = 2025")
    assert sorted(body["columns"]) == sorted(["date", "metric", "value", "note", "year", "month", "day"])
    assert body["row_count"] == 6
    assert [row["note"] for row in body["rows"] if row["note"]] == ["record day"]
    assert any_lake.sql("SELECT count(*) AS n FROM daily_sales")["rows"] == [{"n": 7}]


def test_a_historical_backfill_of_thirty_dates(any_lake):
    """Thirty days across a change of year, posted by several writers at once."""
    start = datetime.date(2024, 12, 15)
    dates = [start + datetime.timedelta(days=n) for n in range(30)]

    def post(date):
        records = [
            {"date": date.isoformat(), "user_id": 1000 + n, "events": date.day * n, "score": n / 4} for n in range(20)
        ]
        return accepted(any_lake, post_batch(any_lake, "user_activity", records, date.isoformat()))

    keys = in_parallel(post, dates, threads=6)
    for date, key in zip(dates, keys, strict=True):
        assert key.startswith(f"data/user_activity/year={date:%Y}/month={date:%m}/day={date:%d}/")
    assert len(read_table(any_lake.lake, "user_activity")) == 30

    totals = any_lake.sql("SELECT year, count(*) AS n, sum(events) AS e FROM user_activity GROUP BY year ORDER BY year")
    expected = [
        {
            "year": year,
            "n": 20 * sum(date.year == year for date in dates),
            "e": sum(date.day * 190 for date in dates if date.year == year),
        }
        for year in (2024, 2025)
    ]
    assert totals["rows"] == expected
    agreed = any_lake.sql(
        "SELECT count(*) AS n FROM user_activity WHERE make_date(year, month, day) <> CAST(date AS DATE)"
    )
    assert agreed["rows"] == [{"n": 0}]
    day = any_lake.sql("SELECT * FROM user_activity WHERE year = 2025 AND month = 1 AND day = 3 ORDER BY user_id")
    assert day["row_count"] == 20
    assert day["rows"][2]["events"] == 6


def test_orders_customers_products(any_lake):
    tables = {
        "customers": [
            {"customer_id": 1, "name": "Ana", "email": "ana@example.com", "active": True},
            {"customer_id": 2, "name": "Bořek", "email": None, "active": False},
        ],
        "products": [
            {"product_id": 10, "title": "Kettle", "price": 39.9, "tags": ["kitchen", "steel"]},
            {"product_id": 11, "title": "Lamp", "price": 15, "tags": []},
        ],
        "orders": [
            {"order_id": 100, "customer_id": 1, "product_id": 10, "quantity": 2},
            {"order_id": 101, "customer_id": 2, "product_id": 11, "quantity": 1},
            {"order_id": 102, "customer_id": 1, "product_id": 11, "quantity": 4},
        ],
    }
    for name, records in tables.items():
        assert post_batch(any_lake, name, records, "2025-12-20").json()["record_count"] == len(records)
    assert set(tables) <= set(any_lake.get("/tables", any_lake.ingest).json()["tables"])
    body = any_lake.sql(
        "SELECT c.name, round(sum(o.quantity * p.price), 2) AS spent, count(*) AS orders "
        "FROM orders o JOIN customers c USING (customer_id) JOIN products p USING (product_id) "
        "WHERE o.year = 2025 GROUP BY c.name ORDER BY spent DESC"
    )
    assert body["rows"] == [
        {"name": "Ana", "spent": 139.8, "orders": 2},
        {"name": "Bořek", "spent": 15, "orders": 1},
    ]
    tags = any_lake.sql("SELECT tags FROM products ORDER BY product_id")
    assert [row["tags"] for row in tags["rows"]] == ['["kitchen","steel"]', "[]"]
