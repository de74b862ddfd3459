"""The workloads of hosted databases: small statements, single rows, a group-by, an answer that is known already."""

import os

import clickhouse
import postgres
from figures import Aim, Row
from parts import Nginx, embedded, load, processor_ms

QUERY = "/api/v1/duckdb/query"
NO_RESULT_CACHE = "Cache-Control: no-cache"
ROUND_SECONDS = 2
RATES = {1: 18_000.0, 16: 35_000.0}  # requests per second that are wanted, by clients
TABLE = "CREATE TABLE g AS SELECT i, i % 1000 AS k, (i * 7919 % 1000003) / 100.0 AS v FROM range(1000000) AS t(i)"
GROUP_BY = "SELECT k, count(*) AS n, sum(v) AS s, max(i) AS m FROM g GROUP BY k ORDER BY s DESC LIMIT 10"
THREADS = 4  # of one database: the default of DUCKDB_WORKER_THREADS


class Hosted:
    """A server whose hosted databases are asked."""

    def __init__(self, bench):
        self.server = bench.start_eider({"EIDER_ANALYTICS_LISTEN": "127.0.0.1:0"})
        self.port = self.server.process.address("analytics")[1]
        self._ours = self.server.processor_ms
        self.server.port = self.port
        self.server.processor_ms = self._processor_ms

    def _processor_ms(self):
        """The processes of databases live on: they are not in what the zygote has seen end."""
        children = f"/proc/{self.server.zygote}/task/{self.server.zygote}/children"
        with open(children, encoding="ascii") as file:
            return self._ours() + sum(processor_ms(pid) for pid in file.read().split() if os.path.exists(f"/proc/{pid}"))

    def run(self, sql):
        base = f"http://127.0.0.1:{self.port}"
        answer = self.server.process.post(QUERY, base=base, json={"query": sql, "timeout_seconds": 300})
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code}: {answer.text[:500]}")

    def load(self, request, headers=(), **options):
        return self.server.load(QUERY, request, headers, **options)


def hosted(bench):
    """Hosted databases: a bound value, a row, a group-by and a cache hit beside PostgreSQL, ClickHouse, DuckDB, nginx."""
    server = Hosted(bench)
    server.run("CREATE TABLE events (id BIGINT, city VARCHAR, moment TIMESTAMP, price DOUBLE)")
    server.run(TABLE)
    rows = small_statements(bench, server) + group_by(bench, server) + hits(bench, server)
    server.server.process.stop()
    return rows


# ---- small statements ----


def small_statements(bench, server):
    again = bench.request_file("again", {"query": "SELECT $v AS v", "params": {"v": 42}})
    other = bench.folder / "other.request.json"  # the load generator puts a number there
    other.write_text('{"query": "SELECT $v AS v", "params": {"v": ########}}')
    insert = bench.folder / "insert.request.json"
    values = "VALUES ($v, 'Amsterdam', '2026-03-01 10:00:00', 12.5)"
    insert.write_text('{"query": "INSERT INTO events %s", "params": {"v": ########}}' % values)
    peers = peers_of(bench)
    rows = []
    inserted = Row("hosted: INSERT of a row, c=1", "1/s", True, "PostgreSQL INSERT")
    for clients, wanted in RATES.items():
        for name, request in (("asked again", again), ("another value", other)):
            aim = Aim("figure", wanted)
            rows += statement_rows(bench, server, peers, f"hosted: SELECT $v, {name}, c={clients}", clients, request, aim)
    if "PostgreSQL" not in peers:
        inserted.missing = "no PostgreSQL here"
        return [*rows, inserted]
    for _ in range(bench.rounds):
        ours = server.load(insert, requests=1000, warmup=50)
        inserted.our_rounds.append(ours["per_second"])
        inserted.our_cpu_ms.append(ours["cpu_ms"])
        inserted.bound_rounds.append(peers["PostgreSQL"].insert(1, ROUND_SECONDS)["per_second"])
    inserted.note = "both answer when it is on disk"
    return [*rows, inserted]


def peers_of(bench):
    peers = {}
    if postgres.programs() is not None:
        peers["PostgreSQL"] = bench.closing(postgres.Postgres(bench.make_folder()))
    if clickhouse.program() is not None:
        peers["ClickHouse"] = bench.closing(clickhouse.ClickHouse(bench.make_folder()))
    return peers


def statement_rows(bench, server, peers, name, clients, request, aim):
    """One row for each peer, all with the same rounds of ours."""
    beside = {peer: Row(name, "1/s", True, peer, aim) for peer in ("PostgreSQL", "ClickHouse")}
    for peer, row in beside.items():
        row.missing = "" if peer in peers else f"no {peer} here"
    requests = 2000 if "another" in name else 10_000
    for _ in range(bench.rounds):
        ours = server.load(request, connections=clients, requests=requests, warmup=requests // 10)
        for peer, row in beside.items():
            if row.missing:
                continue
            amount = ROUND_SECONDS if peer == "PostgreSQL" else requests
            row.our_rounds.append(ours["per_second"])
            row.our_cpu_ms.append(ours["cpu_ms"])
            row.bound_rounds.append(peers[peer].select(clients, amount)["per_second"])
            row.note = f"p50 {ours['p50_ms']:.3f} ms, p99 {ours['p99_ms']:.3f} ms, {ours['cache_hits']} hits"
    return list(beside.values())


# ---- a group-by, a hit ----


def group_by(bench, server):
    took = Row("hosted: group-by of 1 M rows: p50", "ms", False, "embedded, one client")
    more = Row("hosted: group-by: more than embedded", "ms", False, "", Aim("figure", 1.0))
    request = bench.request_file("group_by", {"query": GROUP_BY})
    for _ in range(bench.rounds):
        ours = server.load(request, [NO_RESULT_CACHE], requests=20, warmup=3)
        bound = embedded(THREADS, 20, GROUP_BY, TABLE)
        middle = sorted(one["ms"] for one in bound)[len(bound) // 2]
        took.our_rounds.append(ours["p50_ms"])
        took.our_cpu_ms.append(ours["cpu_ms"])
        took.bound_rounds.append(middle)
        more.our_rounds.append(ours["p50_ms"] - middle)
    more.note = "the table is in memory there, in a database file here; both are warm"
    return [took, more]


def hits(bench, server):
    row = Row("hosted: cache hit, c=16", "1/s", True, "nginx, a file", Aim("ratio", 0.7))
    nginx = bench.closing(Nginx(bench.make_folder()))
    request = bench.request_file("hit", {"query": GROUP_BY})
    file = nginx.files / "hit.json"
    server.load(request, requests=2, save=file)
    file.chmod(0o644)
    for _ in range(bench.rounds):
        options = {"connections": 16, "requests": 20_000, "warmup": 1000}
        bound = load(nginx.port, "/hit.json", **options)
        ours = server.load(request, **options)
        row.our_rounds.append(ours["per_second"])
        row.our_cpu_ms.append(ours["cpu_ms"])
        row.bound_rounds.append(bound["per_second"])
        row.note = f"{file.stat().st_size} bytes, {ours['cache_hits']} hits in the last round"
    return [row]
