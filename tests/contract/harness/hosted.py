"""Hosted databases as a test sees them: requests, the process that has a database open, its files."""

from pathlib import Path

from harness.snapshot_processes import children_named, kill
from harness.waiting import wait_until

PREFIX = "/api/v1/duckdb"
FRESH = {"Cache-Control": "no-cache"}  # each statement runs, also one that ran before
LISTENER = {"EIDER_ANALYTICS_LISTEN": "127.0.0.1:0", "DUCKDB_WORKER_THREADS": "2"}


class Hosted:
    """One server with hosted databases. `database` empty: the default one."""

    def __init__(self, server):
        self.server = server
        self.folder = Path(server.data) / "db"

    @property
    def base(self):
        return self.server.listener("analytics")

    # ---- requests ----
    def request(self, method, path, **options):
        options["headers"] = {**FRESH, **options.get("headers", {})}
        return self.server.request(method, PREFIX + path, self.base, **options)

    @staticmethod
    def beneath(database):
        return f"/databases/{database}" if database else ""

    def query(self, sql, database="", timeout=60, **fields):
        return self.request("POST", self.beneath(database) + "/query", json={"query": sql, **fields}, timeout=timeout)

    def batch(self, statements, database="", timeout=60, **fields):
        body = {"queries": statements, **fields}
        return self.request("POST", self.beneath(database) + "/batch", json=body, timeout=timeout)

    def rows(self, sql, database="", **fields):
        answer = self.query(sql, database, **fields)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}\n{sql}"
        return answer.json()["data"]

    def value(self, sql, database="", **fields):
        return self.rows(sql, database, **fields)[0][0]

    def make(self, name):
        answer = self.request("POST", "/databases", json={"name": name})
        assert answer.status_code == 201, answer.text
        return name

    def info(self, name="default"):
        listed = self.request("GET", "/databases").json()["databases"]
        return next((entry for entry in listed if entry["name"] == name), None)

    def breaker(self, name=""):
        return self.request("GET", self.beneath(name) + "/statistics").json()["circuit_breaker"]

    def reset_breaker(self, name=""):
        assert self.request("POST", self.beneath(name) + "/circuit-breaker/reset").status_code == 200

    # ---- files ----
    def path(self, name="default"):
        return self.folder / f"{name}.duckdb"

    def log(self, name="default"):
        return self.folder / f"{name}.duckdb.wal"

    def set_aside(self, name="default"):
        """What was renamed, as {end of the name: bytes}; the time is left out."""
        stem = f"{name}.duckdb.quarantine-"
        found = [path for path in self.folder.iterdir() if path.name.startswith(stem)]
        return {"".join(path.name[len(stem) :].partition(".wal")[1:]): path.read_bytes() for path in found}

    # ---- the process ----
    def processes(self):
        """Of the databases that are open."""
        return children_named(self.server, "eider-database")

    def process(self, name="default"):
        """The one that has the file of this database; of a single one, where nobody may look which it has."""

        def find():
            found = self.processes()
            return found if len(found) == 1 else [pid for pid in found if has_open(pid, self.path(name))]

        return wait_until(find, 30, f"database '{name}' has a process")[0]

    def kill_process(self, name="default"):
        pid = self.process(name)
        kill(pid)
        return pid


def has_open(pid, path):
    """Whether a process has that file open."""
    try:
        links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return path in links
