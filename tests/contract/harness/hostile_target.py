"""What hostile statements are sent against: a server, objects, files and a listener that must stay as they are."""

import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path

import pyarrow

from harness.eider_process import EiderFactory
from harness.snapshot_client import Sidecar

CANARY = "canary-3f9c1e77"
SECRET = "secret-canary-8d21b6"
ENVIRONMENT_SECRET = "environment-canary-55e0"
OWN = {"own": "own.parquet"}
NOT_KEPT = {"Cache-Control": "no-cache"}  # each statement runs, also one that ran before
SUM_OF_OWN = "SELECT sum(a) FROM own"


def contents(folder):
    """{path: digest} of every file below, names of folders too."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        try:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        except FileNotFoundError:
            pass
    return found


class Listener:
    """A TCP port on loopback that counts who comes, and hangs up."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.calls = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()

    def close(self):
        self.socket.close()


class Target:
    """`folder` holds canaries that any user may read and a folder that any user may write to."""

    def __init__(self, server, s3, folder):
        self.server = server
        self.s3 = s3
        self.folder = Path(folder)
        self.cwd = Path(server.cwd)
        self.sidecar = Sidecar(server.snapshot, s3)
        self.sidecar.put_table("own.parquet", pyarrow.table({"a": [1, 2, 3]}))
        self.sidecar.put_table("other.parquet", pyarrow.table({"a": [CANARY]}))
        self.other_bucket = s3.make_bucket("other")
        Sidecar(server.snapshot, s3, self.other_bucket).put_table("x.parquet", pyarrow.table({"a": [CANARY]}))
        self.listener = Listener()
        self.cwd_names = set(os.listdir(self.cwd))
        self.parquet = self.sidecar.object("other.parquet")
        self.lay_out()
        self.alive()
        self.before = self.files()
        self.objects = self.stored()
        self.sockets = internet_listeners(server)

    def lay_out(self):
        """The files as they are before a statement; whatever one has left is taken away."""
        shutil.rmtree(self.folder / "writable", ignore_errors=True)
        for path in self.escapes():
            Path(path).unlink()
        for name in set(os.listdir(self.cwd)) - self.cwd_names:
            shutil.rmtree(self.cwd / name)
        (self.folder / "canary.txt").write_text(CANARY)
        (self.folder / "canary.csv").write_text(f"a,b\n{CANARY},2\n")
        (self.folder / "canary.json").write_text(f'{{"a":"{CANARY}"}}')
        (self.folder / "canary.parquet").write_bytes(self.parquet)
        (self.folder / "schema.sql").write_text(f"SELECT '{CANARY}'")
        (self.folder / "load.sql").write_text("")
        (self.folder / "broken").mkdir(exist_ok=True)
        (self.folder / "broken" / "schema.sql").write_text(f"no SQL at all, {CANARY}")
        (self.folder / "writable").mkdir()
        for path in [self.folder, *self.folder.iterdir(), self.cwd, Path(self.server.data)]:
            path.chmod(0o777)

    def escapes(self):
        """Files at places that statements name outside of the folders."""
        places = [f"/tmp/eider-escape-{self.listener.port}.csv", self.cwd / "eider-escape.csv"]
        places.append(Path(self.server.data) / "x.csv")
        return [str(path) for path in places if os.path.exists(path)]

    def files(self):
        return contents(self.folder), contents(self.server.data), sorted(os.listdir(self.cwd)), self.escapes()

    def stored(self):
        return [(bucket, self.s3.keys(bucket)) for bucket in (self.sidecar.bucket, self.other_bucket)]

    def fill(self, sql):
        for name, value in {
            "<dir>": self.folder,
            "<data>": self.server.data,
            "<bucket>": self.sidecar.bucket,
            "<other>": self.other_bucket,
            "<port>": self.listener.port,
        }.items():
            sql = sql.replace(name, str(value))
        return sql

    def ask(self, sql):
        """The answer to a statement of the table, sent with one declared table."""
        body = self.sidecar.query_body(self.fill(sql), OWN)
        return self.server.post("/query", self.server.snapshot, json=body, headers=NOT_KEPT)

    def alive(self):
        answer = self.ask(SUM_OF_OWN)
        assert answer.status_code == 200 and "6" in answer.text, answer.text

    def hidden(self):
        """Texts that no answer may hold."""
        return [CANARY, SECRET, ENVIRONMENT_SECRET, self.s3.secret_key, "root:x:"]

    def paths(self):
        """Places of this machine that a client does not know."""
        return [str(self.folder), str(self.server.data), str(self.cwd), "/proc/self", "libduckdb", str(Path.home())]

    def close(self):
        self.listener.close()


def internet_listeners(server):
    """The listening and connected Internet sockets of the server's children, and the listening ones of the server:
    inodes. None where this user may not look."""
    try:
        own = _sockets(server.pid)
        children = set().union(*(_sockets(pid) for pid in server.children()), set())
    except PermissionError:
        return None
    rows = _internet_rows(server.pid)
    listening = {inode for inode, state in rows.items() if state == "0A"}
    return own & listening, children & set(rows)


def _sockets(pid):
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


def _internet_rows(pid):
    """{inode: state} of TCP and UDP, both families."""
    rows = {}
    for family in ("tcp", "tcp6", "udp", "udp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
                fields = line.split()
                rows[fields[9]] = fields[3]
    return rows


@contextlib.contextmanager
def running_target(binary, tmp_path_factory, s3, env=None):
    """A server with a snapshot listener and its canaries. The folder is not below pytest's own, which only one user
    may enter: file permissions must not do the sandbox's work."""
    factory = EiderFactory(binary, lambda: tmp_path_factory.mktemp("hostile"))
    settings = {
        "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
        "AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT",
        "AWS_SECRET_ACCESS_KEY": ENVIRONMENT_SECRET,
        "EIDER_QUERY_TIMEOUT_MS": 10000,
        "DUCKDB_THREADS": 2,
        **(env or {}),
    }
    with tempfile.TemporaryDirectory(prefix="eider-canaries-") as top:
        Path(top).chmod(0o777)
        folder = Path(top) / "canaries"
        folder.mkdir()
        target = Target(factory(settings, data=Path(top) / "data"), s3, folder)
        try:
            yield target
        finally:
            target.close()
            factory.finish()
            for path in target.escapes():
                os.unlink(path)
