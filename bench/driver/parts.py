"""What the workloads stand on: small programs, the server, an S3 server, nginx, a proxy that delays."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "contract"))

from harness.eider_process import EiderFactory  # noqa: E402
from harness.processes import LineReader, kill_session, spawn  # noqa: E402
from harness.s3_server import S3Server, free_port  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

PROGRAMS = REPOSITORY / "bench" / "programs"
OUTPUT = REPOSITORY / "build" / "bench"
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
JSON_HEADER = "Content-Type: application/json"


def build_programs():
    """Compiles bench/programs/*.c, each a program of its own, where it is older than its source."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    duckdb = Path(os.environ["DUCKDB_DIR"])
    library = next(path for path in (duckdb / "lib", duckdb) if (path / "libduckdb.so").exists())
    include = next(p for p in (duckdb / "include", duckdb / "src/include", duckdb) if (p / "duckdb.h").exists())
    flags = ["-O2", "-g", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion"]
    for source in sorted(PROGRAMS.glob("*.c")):
        program = OUTPUT / source.stem
        if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
            continue
        command = ["cc", *flags, f"-I{include}", str(source), "-o", str(program), "-pthread"]
        if "duckdb.h" in source.read_text():
            command += [f"-L{library}", "-lduckdb", f"-Wl,-rpath,{library}"]
        subprocess.run(command, check=True)


def run_program(name, *arguments):
    """Runs one of ours, or a Python file of the driver, and returns the JSON it prints."""
    command = [str(OUTPUT / name)]
    if name.endswith(".py"):
        command = [sys.executable, str(REPOSITORY / "bench" / "driver" / name)]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed: {done.stderr.strip()[:2000]}")
    return json.loads(done.stdout)


def load(port, path="/", method="GET", body=None, headers=(), connections=1, requests=1, warmup=0, save=None):
    """The load generator; `body` and `save` are paths."""
    options = {"port": port, "path": path, "method": method, "connections": connections}
    options |= {"requests": requests, "warmup": warmup, "body": body, "save": save}
    arguments = [text for key, value in options.items() if value is not None for text in (f"--{key}", value)]
    for header in headers:
        arguments += ["--header", header]
    return run_program("load", *arguments)


def embedded(threads, rounds, statement, setup=None):
    """The bound: the statement in one warm process. Returns the rounds: [{"ms", "cpu_ms"}]."""
    return run_program("embedded", threads, rounds, statement, *([setup] if setup else []))["rounds"]


def processor_ms(pid, with_children=False):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return TICK_MS * sum(int(field) for field in fields[11 : 15 if with_children else 13])


def memory_kib(pid):
    """Resident and proportional memory, as the kernel counts them."""
    status = Path(f"/proc/{pid}/status").read_text()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    pick = lambda text, name: int(next(l for l in text.splitlines() if l.startswith(name)).split()[1])  # noqa: E731
    return {"rss": pick(status, "VmRSS:"), "pss": pick(rollup, "Pss:")}


class EiderServer:
    """A release server with the defaults of the product, its folder a temporary one."""

    def __init__(self, factory, env=None):
        self.process = factory({"EIDER_LOG_SEGMENT": None} | (env or {}))  # the tests' are small
        self.port = self.process.address()[1]
        self.data = Path(self.process.data)

    @property
    def zygote(self):
        names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in self.process.children()}
        return next(pid for pid, name in names.items() if name == "eider-zygote")

    def processor_ms(self):
        """Server, zygote, and all workers that have ended."""
        return processor_ms(self.process.pid) + processor_ms(self.zygote, with_children=True)

    def load(self, path, body, headers=(), **options):
        """The figures of the load generator, and what one request cost us in processor time."""
        before = self.processor_ms()
        figures = load(self.port, path, "POST", body, [JSON_HEADER, *headers], **options)
        count = options.get("requests", 1) + options.get("warmup", 0)
        figures["cpu_ms"] = (self.processor_ms() - before) / count
        return figures

    def query(self, body, path="/query", headers=None):
        answer = self.process.post(path, json=body, headers=headers or {})
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code}: {answer.text[:500]}")
        return answer


class DelayProxy:
    def __init__(self, upstream_port, delay_ms):
        command = [OUTPUT / "delay_proxy", str(upstream_port), str(delay_ms)]
        self._process = spawn(command, stdin=subprocess.PIPE)
        self._output = LineReader(self._process.stdout)
        self.port = int(self._line(0))
        self._reports = 0

    def _line(self, index):
        wait_until(lambda: len(self._output.lines) > index, 10, "the proxy prints", 0.001)
        return self._output.lines[index]

    def take_counts(self):
        """(requests, bytes of answers) since the last call."""
        self._process.stdin.write(b".")
        self._process.stdin.flush()
        self._reports += 1
        return tuple(int(word) for word in self._line(self._reports).split())

    def stop(self):
        self._process.stdin.close()
        self._process.wait(10)


NGINX_CONFIG = """
daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; default_type application/json;
    open_file_cache max=100;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen 127.0.0.1:{port}; root {folder}/files; }}
}}
"""


class Nginx:
    """Serves the files of `files` with what its manual recommends for static files."""

    def __init__(self, folder):
        self.port = free_port()
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        folder.chmod(0o755)
        (folder / "nginx.conf").write_text(NGINX_CONFIG.format(folder=folder, port=self.port))
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        self._process = spawn([binary, "-c", folder / "nginx.conf", "-e", folder / "error.log"], env={})
        wait_until(lambda: (folder / "pid").exists() and (folder / "pid").read_text(), 10, "nginx runs")

    def stop(self):
        self._process.terminate()
        self._process.wait(10)
        kill_session(self._process.pid)


class Bench:
    """Everything of one run: folders and processes are gone when it is closed."""

    def __init__(self, rounds):
        self.rounds = rounds
        OUTPUT.mkdir(parents=True, exist_ok=True)
        # nginx's workers run as another user when it is started as root: the folder must let them in.
        self.folder = Path(tempfile.mkdtemp(prefix="eider-bench."))
        self.folder.chmod(0o755)
        self.binary = Path(os.environ.get("EIDER_BIN") or REPOSITORY / "build" / "eider").resolve()
        self._folders = 0
        self._eiders = EiderFactory(self.binary, self.make_folder)
        self._s3 = None
        self._server = None
        self._bucket = None
        self._closers = []

    def make_folder(self):
        self._folders += 1
        folder = self.folder / f"{self._folders}"
        folder.mkdir()
        folder.chmod(0o755)
        return folder

    def start_eider(self, env=None):
        return EiderServer(self._eiders, env)

    @property
    def server(self):
        """One server for all workloads that do not need their own."""
        if self._server is None:
            self._server = self.start_eider()
        return self._server

    @property
    def s3(self):
        if self._s3 is None:
            self._s3 = S3Server(self.make_folder())
            self._closers.append(self._s3.stop)
        return self._s3

    @property
    def bucket(self):
        if self._bucket is None:
            self._bucket = self.s3.make_bucket("bench")
        return self._bucket

    def put(self, key, path):
        self.s3.client().upload_file(str(path), self.bucket, key)

    def request_file(self, name, body):
        path = self.folder / f"{name}.request.json"
        path.write_text(json.dumps(body))
        return path

    def query_body(self, sql, table, key, endpoint=None):
        return {
            "sql": sql,
            "s3_config": self.s3.config(self.bucket, endpoint),
            "tables": [{"name": table, "s3_path": key}],
        }

    def closing(self, part):
        self._closers.append(part.stop)
        return part

    def close(self):
        try:
            self._eiders.finish()
        finally:
            for stop in reversed(self._closers):
                stop()
            shutil.rmtree(self.folder, ignore_errors=True)
