"""The workloads: each a function that takes a Bench and returns rows. bench/README.md says what they mean."""

import json

import boto3
import datasets
import durable
import hosted
from botocore.config import Config
from figures import Aim, Row
from parts import DelayProxy, Nginx, embedded, free_port, load, memory_kib, run_program

THREADS = 2  # of one query, on both sides
NO_RESULT_CACHE = "Cache-Control: no-cache"
KIB_PER_MIB = 1024


# ---- writing ----


def snapshot(bench):
    """20,000 rows through POST /snapshot, beside COPY of the same JSON in one process."""
    records = datasets.snapshot_records(20_000)
    plain = bench.folder / "records.json"
    datasets.write_json(plain, records)
    body = {
        "table_name": "orders",
        "s3_key": "snapshots/orders.parquet",
        "s3_config": bench.s3.config(bench.bucket),
        "columns": datasets.SNAPSHOT_COLUMNS,
        "data": records,
    }
    request = bench.folder / "snapshot.request.json"
    datasets.write_json(request, body)
    statement = datasets.embedded_copy(plain, bench.folder / "embedded.parquet")
    row = Row("snapshot, 20,000 rows", "rows/s", True, "embedded COPY", Aim("ratio", 0.5))
    bench.server.load("/snapshot", request, requests=2)
    for _ in range(bench.rounds):
        ours = bench.server.load("/snapshot", request, requests=10)
        bound = embedded(THREADS, 10, statement)
        row.our_rounds.append(20_000 / ours["p50_ms"] * 1000)
        row.our_cpu_ms.append(ours["cpu_ms"])
        row.bound_rounds.append(20_000 / middle(bound, "ms") * 1000)
        row.bound_cpu_ms.append(middle(bound, "cpu_ms"))
    return [row]


def middle(rounds, field):
    return sorted(one[field] for one in rounds)[len(rounds) // 2]


# ---- small queries ----


def count(bench):
    """count(*) over one object of 20,000 rows, a worker process for each."""
    path = bench.folder / "count.parquet"
    datasets.write_parquet(path, datasets.wide_table(20_000), 20_000)
    bench.put("count.parquet", path)
    request = bench.request_file("count", bench.query_body("SELECT count(*) AS n FROM t", "t", "count.parquet"))
    rows = []
    for connections in (1, 4, 16):
        p50 = Row(f"count(*), c={connections}: p50", "ms", False, "embedded, one client")
        p99 = Row(f"count(*), c={connections}: p99", "ms", False)
        rate = Row(f"count(*), c={connections}: rate", "1/s", True)
        p50.aim = Aim("figure", 4.0) if connections == 1 else None
        rate.aim = Aim("figure", 500.0) if connections == 16 else None
        rows += [p50, p99, rate]
    statement = f"SELECT count(*) AS n FROM read_parquet('{path}')"
    bench.server.load("/query", request, [NO_RESULT_CACHE], requests=20)
    for _ in range(bench.rounds):
        bound = embedded(1, 200, statement)
        for index, connections in enumerate((1, 4, 16)):
            p50, p99, rate = rows[3 * index : 3 * index + 3]
            ours = bench.server.load(
                "/query", request, [NO_RESULT_CACHE],
                connections=connections, requests=200 + 40 * connections, warmup=10 * connections,
            )  # fmt: skip
            p50.our_rounds.append(ours["p50_ms"])
            p50.our_cpu_ms.append(ours["cpu_ms"])
            p99.our_rounds.append(ours["p99_ms"])
            rate.our_rounds.append(ours["per_second"])
            p50.bound_rounds.append(middle(bound, "ms"))
    return rows


# ---- large results ----

# 7 columns that cost the engine little, so that what is measured is the way out.
GENERATED = (
    "SELECT i AS id, (i % 1000)::INTEGER AS quantity, i::DOUBLE / 100 AS price, i % 3 = 0 AS paid, "
    "make_timestamp(1704067200000000 + i * 1000000) AS moment, DATE '2024-01-01' + (i % 1000)::INTEGER AS day, "
    "CASE i % 4 WHEN 0 THEN 'Amsterdam' WHEN 1 THEN 'Berlin' WHEN 2 THEN 'a rather longer city name' ELSE 'Oslo' END "
    "AS city FROM range(1000000) AS t(i)"
)
FORMATS = {
    # name: (content type, rows per second that are wanted)
    "json": ("application/json", None),
    "ndjson": ("application/x-ndjson", 2e6),
    "csv": ("text/csv", None),
    "arrow": ("application/vnd.apache.arrow.stream", 8e6),
    "parquet": ("application/vnd.apache.parquet", None),
}


def formats(bench):
    """1,000,000 rows of 7 columns in every format, beside a process that fetches the same chunks and drops them."""
    path = bench.folder / "wide.parquet"
    datasets.write_parquet(path, datasets.wide_table(1_000_000), 122_880)
    bench.put("wide.parquet", path)
    generated = bench.request_file("generated", {"sql": GENERATED})
    stored = bench.request_file("wide", bench.query_body("SELECT * FROM t", "t", "wide.parquet"))
    work = [(GENERATED, generated, format_row(bench, name, "1 M rows")) for name in FORMATS]
    for name in ("json", "arrow"):
        row = format_row(bench, name, "1 M rows of an object")
        row.aim = None
        work.append((f"SELECT * FROM read_parquet('{path}')", stored, row))
    for _ in range(bench.rounds):
        bounds = {}
        for statement, request, row in work:
            if not row.missing:
                if statement not in bounds:
                    bounds[statement] = embedded(THREADS, 3, statement)
                format_round(bench, row, request, bounds[statement])
    return [row for _, _, row in work]


def format_round(bench, row, request, bound):
    ours = bench.server.load(f"/query?format={row.format}", request, [NO_RESULT_CACHE], requests=3)
    row.our_rounds.append(1e9 / ours["p50_ms"])
    row.our_cpu_ms.append(ours["cpu_ms"])
    row.bound_rounds.append(1e9 / middle(bound, "ms"))
    row.bound_cpu_ms.append(middle(bound, "cpu_ms"))
    row.note = f"{ours['body_bytes'] / 3 / 1e6:.0f} MB"


def format_row(bench, name, what):
    """A row of its own; a server that does not know the format yet is told by its Content-Type."""
    content_type, wanted = FORMATS[name]
    row = Row(f"{what} as {name}", "rows/s", True, "embedded fetch", Aim("figure", wanted) if wanted else None)
    row.format = name
    answer = bench.server.process.post(f"/query?format={name}", json={"sql": "SELECT 1 AS one"})
    found = answer.headers.get("Content-Type", "")
    if answer.status_code != 200 or not found.startswith(content_type):
        row.missing = f"not offered: {answer.status_code} {found}"
    return row


# ---- cold scans ----

SCAN = (
    "SELECT count(*) AS n, sum(id) AS a, min(city) AS b, max(reference) AS c, sum(quantity) AS d, "
    "min(price) AS e, count_if(paid) AS f, max(moment) AS g FROM "
)
SCAN_DELAY_MS = 20


def scan(bench):
    """A cold scan of 64 row groups from a store that is 20 ms away."""
    path = bench.folder / "scan.parquet"
    datasets.write_parquet(path, datasets.wide_table(64 * 16_384, seed=9), 16_384)
    proxy = bench.closing(DelayProxy(bench.s3.port, SCAN_DELAY_MS))
    endpoint = f"127.0.0.1:{proxy.port}"
    chunks = Row("cold scan: a GET per column", "ms", False, "synchronous reader", Aim("ratio", 5.0))
    groups = Row("cold scan: a GET per group", "ms", False, "synchronous reader")
    httpfs = Row("cold scan: the engine's own", "ms", False, "httpfs", Aim("ratio", 1.0))
    for number in range(bench.rounds):
        key = f"scan/{number}.parquet"  # a name that no cache has seen
        bench.put(key, path)
        request = bench.request_file("scan", bench.query_body(SCAN + "t", "t", key, f"http://{endpoint}"))
        proxy.take_counts()
        ours = bench.server.load("/query", request, [NO_RESULT_CACHE])
        our_requests, our_bytes = proxy.take_counts()
        for row in (chunks, groups, httpfs):
            row.our_rounds.append(ours["p50_ms"])
            row.our_cpu_ms.append(ours["cpu_ms"])
        arguments = [bench.s3.access_key, bench.s3.secret_key, bench.s3.region, THREADS]
        own = run_program("httpfs_scan.py", endpoint, *arguments, f"{SCAN}read_parquet('s3://{bench.bucket}/{key}')")
        httpfs_requests, httpfs_bytes = proxy.take_counts()
        httpfs.bound_rounds.append(own["ms"])
        url = presigned(bench, proxy, key)
        for row, unit in ((chunks, "chunks"), (groups, "groups")):
            found = run_program("synchronous_scan.py", url, unit)
            row.bound_rounds.append(found["ms"])
            row.note = f"{found['requests']} requests one after another"
        proxy.take_counts()
        httpfs.note = f"eider: {our_requests} requests, {our_bytes / 1e6:.1f} MB; " + (
            f"httpfs: {httpfs_requests} requests, {httpfs_bytes / 1e6:.1f} MB"
        )
    return [chunks, groups, httpfs]


def presigned(bench, proxy, key):
    """An address that a plain HTTP client can read for a while; its signature is for the proxy's address."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{proxy.port}",
        aws_access_key_id=bench.s3.access_key,
        aws_secret_access_key=bench.s3.secret_key,
        region_name=bench.s3.region,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    return client.generate_presigned_url("get_object", Params={"Bucket": bench.bucket, "Key": key}, ExpiresIn=3600)


# ---- results that are known already ----


def cache(bench):
    """The same answer again, beside nginx with the same bytes in a file."""
    nginx = bench.closing(Nginx(bench.make_folder()))
    path = bench.folder / "cached.parquet"
    datasets.write_parquet(path, datasets.wide_table(20_000), 20_000)
    bench.put("cached.parquet", path)
    bench.server.query({"table_name": "cached", "records": [{"n": n} for n in range(1000)]}, path="/ingest")
    lake = {"small": "SELECT count(*) AS n FROM cached", "64 KiB": "SELECT n, repeat('x', 49) AS x FROM cached"}
    bodies = {f"lake, {size}": {"sql": sql} for size, sql in lake.items()}
    bodies["S3 object, small"] = bench.query_body("SELECT count(*) AS n FROM t", "t", "cached.parquet")
    return [cache_row(bench, nginx, name, body) for name, body in bodies.items()]


def cache_row(bench, nginx, name, body):
    row = Row(f"result cache: {name}", "1/s", True, "nginx, a file", Aim("ratio", 0.7))
    request = bench.request_file("cache", body)
    file = nginx.files / f"{len(list(nginx.files.iterdir()))}.json"
    first = bench.server.load("/query", request, requests=3, save=file)
    file.chmod(0o644)
    if first["cache_hits"] == 0:
        row.missing = "no X-Cache: hit"
        return row
    for _ in range(bench.rounds):
        options = {"connections": 16, "requests": 20_000, "warmup": 1000}
        bound = load(nginx.port, f"/{file.name}", **options)
        ours = bench.server.load("/query", request, **options)
        row.our_rounds.append(ours["per_second"])
        row.our_cpu_ms.append(ours["cpu_ms"])
        row.bound_rounds.append(bound["per_second"])
        row.note = f"{ours['cache_hits']} hits in {options['requests'] + options['warmup']} requests of the last round"
    return row


# ---- the process ----


def memory(bench):
    """The idle server after its start, and after it has worked."""
    fresh = Row("memory of the idle server", "MiB", False, "", Aim("figure", 40.0))
    zygote = Row("memory of its zygote", "MiB", False)
    used = Row("memory after 200 queries", "MiB", False)
    worked = Row("memory of the zygote then", "MiB", False)
    for _ in range(min(bench.rounds, 3)):
        server = bench.start_eider()
        body = bench.request_file("memory", {"sql": "SELECT 42 AS n"})
        idle = memory_kib(server.process.pid)
        fresh.our_rounds.append(idle["rss"] / KIB_PER_MIB)
        child = memory_kib(server.zygote)
        zygote.our_rounds.append(child["rss"] / KIB_PER_MIB)
        server.load("/query", body, connections=8, requests=200)
        after = memory_kib(server.process.pid)
        used.our_rounds.append(after["rss"] / KIB_PER_MIB)
        parent = memory_kib(server.zygote)
        worked.our_rounds.append(parent["rss"] / KIB_PER_MIB)
        worked.note = f"resident; proportional share {parent['pss'] / KIB_PER_MIB:.1f} MiB (the engine's code among it)"
        fresh.note = f"resident; proportional share {idle['pss'] / KIB_PER_MIB:.1f} MiB"
        zygote.note = f"resident; proportional share {child['pss'] / KIB_PER_MIB:.1f} MiB"
        used.note = f"resident; proportional share {after['pss'] / KIB_PER_MIB:.1f} MiB"
        server.process.stop()
    return [fresh, zygote, used, worked]


def start(bench):
    """From exec to the first answers."""
    health = Row("cold start to GET /health", "ms", False, "", Aim("figure", 40.0))
    query = Row("cold start to POST /query", "ms", False)
    body = bench.request_file("start", {"sql": "SELECT 42 AS n"})
    data = bench.make_folder()
    for _ in range(3 * bench.rounds):
        port = free_port()
        environment = ["env", "-i", f"EIDER_DATA={data}", f"EIDER_LISTEN=127.0.0.1:{port}", str(bench.binary), "serve"]
        figures = run_program("cold_start", port, body, "/usr/bin/env", *environment[1:])
        health.our_rounds.append(figures["health_ms"])
        query.our_rounds.append(figures["query_ms"])
    return [health, query]


WORKLOADS = {
    "snapshot": snapshot,
    "count": count,
    "formats": formats,
    "scan": scan,
    "cache": cache,
    "memory": memory,
    "start": start,
    "durable": durable.durable,
    "bodies": durable.bodies,
    "sustained": durable.sustained,
    "hosted": hosted.hosted,
}


def describe():
    return "\n".join(f"{name:10} {function.__doc__.splitlines()[0]}" for name, function in WORKLOADS.items())


def save(path, rows):
    with open(path, "a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row.as_dict()) + "\n")
