"""A PostgreSQL of one run, in a folder of its own, and pgbench as its client."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

TABLE = "id bigint, city text, state text, at timestamptz, price double precision, paid boolean, count bigint"
INSERT = (
    "\\set id random(1, 1000000000)\n"
    "INSERT INTO events VALUES (:id, 'Amsterdam', 'shipped', '2026-03-01T10:00:00Z', 12.5, true, 7);\n"
)
SELECT = "\\set v random(1, 1000000000)\nSELECT :v AS v;\n"
CONFIG = """
listen_addresses = ''
unix_socket_directories = '{folder}'
synchronous_commit = on
fsync = on
max_connections = 100
shared_buffers = 256MB
max_wal_size = 4GB
"""


def programs():
    """The folder of the newest version's programs, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    return found[-1].parent if found else None


class Postgres:
    def __init__(self, folder):
        self._bin = programs()
        assert self._bin, "no PostgreSQL: tools/packages.sh bench"
        self._folder = folder
        self._user = []
        if os.getuid() == 0:  # it refuses to run as root
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            self._user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._run("initdb", "-D", folder / "data", "-A", "trust", "-U", "bench", "--no-instructions", "-E", "UTF8")
        config = folder / "data" / "postgresql.conf"
        config.write_text(config.read_text() + CONFIG.format(folder=folder))
        self._run("pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w", "start")
        self._psql(f"CREATE TABLE events ({TABLE})")
        (folder / "insert.sql").write_text(INSERT)
        (folder / "select.sql").write_text(SELECT)

    def _run(self, program, *arguments):
        command = [*self._user, self._bin / program, *arguments]
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self._folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,  # its server keeps a pipe open
            stderr=subprocess.STDOUT if program != "pg_ctl" else subprocess.DEVNULL,
            text=True,
            timeout=300,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {(done.stdout or '')[-1000:]}")
        return done.stdout or ""

    def _psql(self, statement):
        return self._run("psql", "-h", self._folder, "-U", "bench", "-d", "postgres", "-qAtc", statement)

    def insert(self, clients, seconds):
        """Single-row INSERTs, each a transaction."""
        return self._bench("insert.sql", clients, seconds)

    def select(self, clients, seconds):
        """A SELECT of a bound value, another one each time."""
        return self._bench("select.sql", clients, seconds)

    def _bench(self, script, clients, seconds):
        """Prepared: {"per_second", "p50_ms", "p99_ms"}."""
        for old in self._folder.glob("times.*"):
            old.unlink()
        output = self._run(
            "pgbench", "-h", self._folder, "-U", "bench", "-n", "-M", "prepared", "-c", clients, "-j", 1,
            "-T", seconds, "-f", self._folder / script, "--log", f"--log-prefix={self._folder}/times",
            "postgres",
        )  # fmt: skip
        rate = next(line for line in output.splitlines() if line.startswith("tps"))
        took = []
        for path in self._folder.glob("times.*"):
            took += [int(line.split()[2]) / 1000 for line in path.read_text().splitlines()]
        took.sort()
        return {
            "per_second": float(rate.split()[2]),
            "p50_ms": took[len(took) // 2],
            "p99_ms": took[len(took) * 99 // 100],
        }

    def stop(self):
        self._run("pg_ctl", "-D", self._folder / "data", "-m", "fast", "-w", "stop")
        shutil.rmtree(self._folder / "data", ignore_errors=True)
