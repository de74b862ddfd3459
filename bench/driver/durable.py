"""The workloads of records that are kept: single rows, bodies of rows, and minutes of both ends at once."""

import json
import re
import shutil
import subprocess
import threading
import time

from figures import Aim, Row
from parts import REPOSITORY, embedded, load, processor_ms, run_program
from postgres import Postgres, programs

NDJSON = "Content-Type: application/x-ndjson"
ROUND_SECONDS = 4
BODY_ROWS = 10_000
BODY_CLIENTS = 4
SUSTAINED_SECONDS = 60
LOG_MAX = 256 << 20
COLUMNS = "{'id': 'BIGINT', 'city': 'VARCHAR', 'state': 'VARCHAR', 'at': 'VARCHAR', 'price': 'DOUBLE', " + (
    "'paid': 'BOOLEAN', 'count': 'BIGINT'}"
)


def record(number):
    cities = ("Berlin", "Amsterdam", "San Francisco", "Oslo")
    mixed = number * 2654435761 >> 7
    return {
        "id": number,
        "city": cities[mixed % 4],
        "state": ("shipped", "pending", "cancelled")[mixed % 3],
        "at": f"2026-03-{mixed % 28 + 1:02}T{mixed % 24:02}:{mixed // 24 % 60:02}:00Z",
        "price": mixed % 1000000 / 100,
        "paid": mixed % 2 == 0,
        "count": mixed % 977,
    }


def write_rows(path, count):
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            file.write(json.dumps(record(number), separators=(",", ":")) + "\n")
    return path


def figures_of(name, clients, bound, aims):
    return {
        "rate": Row(f"{name}, c={clients}: rate", "1/s", True, bound, aims.get("rate")),
        "p50": Row(f"{name}, c={clients}: p50", "ms", False, bound, aims.get("p50")),
        "p99": Row(f"{name}, c={clients}: p99", "ms", False, bound, aims.get("p99")),
    }


def add_round(rows, ours, bound):
    for name, key in (("rate", "per_second"), ("p50", "p50_ms"), ("p99", "p99_ms")):
        rows[name].our_rounds.append(ours[key])
        rows[name].bound_rounds.append(bound[key])
    rows["rate"].our_cpu_ms.append(ours["cpu_ms"])


# ---- single rows ----


def durable(bench):
    """One row per request, answered when it is on disk, beside PostgreSQL's INSERT and a bare append + fdatasync."""
    server = bench.start_eider()
    request = bench.folder / "row.request.json"
    request.write_text(json.dumps({"data": record(7)}))
    path = "/ingest/stream?table_name=events"
    bare = figures_of("durable row", 1, "append + fdatasync", {})
    one = figures_of("durable row", 1, "PostgreSQL INSERT", {})
    many = figures_of(
        "durable row", 64, "PostgreSQL INSERT", {"rate": Aim("ratio", 2.0), "p99": Aim("figure", 5.0)}
    )
    wanted = Row("durable row, c=64: rate wanted", "1/s", True, "", Aim("figure", 50_000))
    if programs() is None:
        one["rate"].missing = many["rate"].missing = "no PostgreSQL here"
        return [one["rate"], many["rate"]]
    postgres = bench.closing(Postgres(bench.make_folder()))
    size = request.stat().st_size
    server.load(path, request, requests=200)
    for _ in range(bench.rounds):
        disk = run_program("append_sync", server.data / "append_sync", size, ROUND_SECONDS // 2)
        single = server.load(path, request, requests=4000, warmup=100)
        add_round(bare, single, disk)
        add_round(one, single, postgres.insert(1, ROUND_SECONDS // 2))
        group = server.load(path, request, connections=64, requests=100_000, warmup=2000)
        add_round(many, group, postgres.insert(64, ROUND_SECONDS))
        wanted.our_rounds.append(group["per_second"])
    many["rate"].note = "the client of both takes its part of the same processors"
    server.process.stop()
    return [*bare.values(), *one.values(), *many.values(), wanted]


# ---- bodies ----


def bodies(bench):
    """NDJSON bodies of 10,000 rows from 4 clients, answered when on disk, beside chDB and the check of records alone."""
    body = write_rows(bench.folder / "body.ndjson", BODY_ROWS)
    server = bench.start_eider({"EIDER_LOG_MAX": "64GiB", "EIDER_LOG_FREE_MIN": "64MiB"})
    name = f"durable bodies of {BODY_ROWS:,} rows, c={BODY_CLIENTS}"
    rate = Row(f"{name}: rate", "rows/s", True, "chDB, synced", Aim("figure", 4e6))
    check = Row(f"{name}: beside the check", "rows/s", True, "check_rate, one core")
    p99 = Row(f"{name}: p99", "ms", False, "chDB, one client")
    p50 = Row(f"{name}: p50", "ms", False, "chDB, one client")
    path = "/tables/bodies/rows"
    load(server.port, path, "POST", body, [NDJSON], requests=5)
    for number in range(bench.rounds):
        ours = rows_load(server, path, body)
        for row in (rate, check):
            row.our_rounds.append(ours["per_second"] * BODY_ROWS)
            row.our_cpu_ms.append(ours["cpu_ms"])
        p50.our_rounds.append(ours["p50_ms"])
        p99.our_rounds.append(ours["p99_ms"])
        check.bound_rounds.append(check_rate())
        bound = chdb(bench, body, number)
        if isinstance(bound, str):
            rate.note = f"no chDB: {bound}"
            continue
        rate.bound_rounds.append(bound["per_second"] * BODY_ROWS)
        p50.bound_rounds.append(bound["p50_ms"])
        p99.bound_rounds.append(bound["p99_ms"])
    server.process.stop()
    return [rate, check, p50, p99]


def rows_load(server, path, body):
    before = processor_ms(server.process.pid)
    figures = load(server.port, path, "POST", body, [NDJSON], connections=BODY_CLIENTS, requests=400, warmup=8)
    figures["cpu_ms"] = (processor_ms(server.process.pid) - before) / 408
    return figures


def check_rate():
    """Rows per second of one core that only checks them."""
    program = REPOSITORY / "build" / "release" / "check_rate"
    build = ["cmake", "--build", str(REPOSITORY / "build" / "release"), "--target", "check_rate"]
    subprocess.run(build, check=True, capture_output=True)
    text = subprocess.run([program, "64", "5"], check=True, capture_output=True, text=True).stdout
    return 1e6 * float(re.search(r"^ndjson +best .*?([\d.]+) M rows/s", text, re.MULTILINE)[1])


def chdb(bench, body, number):
    """Figures, or why there are none."""
    folder = bench.folder / f"chdb-{number}"
    try:
        return run_program("chdb_insert.py", body, BODY_ROWS, 30, folder)
    except RuntimeError as error:
        return str(error).splitlines()[-1][:120]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- into the lake, for a minute ----


class LogWatch(threading.Thread):
    """The largest log that was seen."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self._server = server
        self._end = threading.Event()
        self.largest = 0

    def run(self):
        while not self._end.wait(0.1):
            total = 0
            for path in (self._server.data / "log" / "records").glob("*.wal"):
                try:
                    total += path.stat().st_size
                except FileNotFoundError:
                    pass  # trimmed meanwhile
            self.largest = max(self.largest, total)

    def stop(self):
        self._end.set()
        self.join()


def backlog_rows(server):
    return server.process.get("/health/ready").json()["backlog"]["rows"]


def sustained(bench):
    """60 s of rows into the lake, 4 clients, flushes running, the log under 256 MB, beside embedded COPY .. PARTITION_BY."""
    body = write_rows(bench.folder / "body.ndjson", BODY_ROWS)
    file = write_rows(bench.folder / "million.ndjson", 1_000_000)
    rate = Row("sustained into the lake", "rows/s", True, "COPY PARTITION_BY", Aim("figure", 1.5e6))
    p99 = Row("sustained into the lake: p99 of a body", "ms", False)
    size = Row("sustained into the lake: largest log", "MiB", False, "", Aim("figure", 256.0))
    statement = (
        f"COPY (SELECT *, 1 AS day FROM read_json('{file}', format = 'newline_delimited', columns = {COLUMNS})) "
        f"TO '{bench.folder / 'copied'}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (day), OVERWRITE_OR_IGNORE)"
    )
    for _ in range(min(bench.rounds, 2)):
        settings = {"EIDER_LOG_MAX": LOG_MAX, "EIDER_LOG_SEGMENT": "16MiB", "EIDER_FLUSH_BYTES": "32MiB"}
        server = bench.start_eider(settings | {"EIDER_LOG_FREE_MIN": "64MiB"})
        load(server.port, "/tables/sustained/rows", "POST", body, [NDJSON], requests=2)
        watch = LogWatch(server)
        watch.start()
        began, before = time.monotonic(), backlog_rows(server)
        done = run_program(
            "sustained_client.py", server.port, "/tables/sustained/rows", body, BODY_CLIENTS, SUSTAINED_SECONDS
        )
        left = backlog_rows(server)
        seconds = time.monotonic() - began
        watch.stop()
        rate.our_rounds.append((done["requests"] * BODY_ROWS + before - left) / seconds)
        p99.our_rounds.append(done["p99_ms"])
        size.our_rounds.append(watch.largest / (1 << 20))
        rate.note = f"{done['requests']} bodies taken, {done['refused']} refused for a while, {left} rows not flushed"
        server.process.stop()
        shutil.rmtree(server.data, ignore_errors=True)
        bound = embedded(2, 3, statement)
        rate.bound_rounds.append(1e9 / sorted(one["ms"] for one in bound)[1])
    return [rate, p99, size]
