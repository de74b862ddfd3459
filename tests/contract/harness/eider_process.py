"""One running `eider serve`, seen from outside: its ports, its log, its end."""

import json
import os
import re
import signal
import subprocess

import requests

from harness.processes import LineReader, kill_session, processes_of_session, spawn
from harness.waiting import wait_until

START_DEADLINE = 60.0
EXIT_DEADLINE = 20.0  # for a server that is expected to refuse to start
STOP_DEADLINE = 45.0
REQUEST_TIMEOUT = 60.0
LISTENERS = ("main", "ingest", "snapshot", "projects", "analytics", "staging")
SANITIZER_REPORT = re.compile(
    r"ERROR: (Address|Leak|Memory)Sanitizer|WARNING: ThreadSanitizer|: runtime error: |SUMMARY: \w+Sanitizer"
)
# Options of a sanitizer build come from whoever runs the suite; everything else of their environment stays outside.
PASSED_THROUGH = ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS")


def clean_environment(env):
    kept = {name: os.environ[name] for name in PASSED_THROUGH if name in os.environ}
    kept.update({name: str(value) for name, value in env.items() if value is not None})
    return kept


def run_eider(binary, *args, env=None, cwd=None, timeout=30):
    """Runs a command that ends by itself (`config`, `version`, `--help`) and returns its CompletedProcess."""
    return subprocess.run(
        [os.fspath(binary), *args],
        env=clean_environment(env or {}),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class Eider:
    """A server process. Addresses are learned from its own log, so every port may be 0.

    url, ingest, snapshot   base URLs (None where no listener was asked for); `listener(name)` for the others
    lake                    where its files are (harness.lakes), set by the fixtures
    data                    its EIDER_DATA folder
    """

    def __init__(self, binary, env, args, cwd, data, lake=None):
        self.lake = lake
        self.data = data
        self.cwd = cwd
        self.env = dict(env)
        self.process = spawn([binary, "serve", *args], env=clean_environment(env), cwd=cwd)
        self.pid = self.process.pid
        self._stdout = LineReader(self.process.stdout)
        self._stderr = LineReader(self.process.stderr)
        self._ended_on_purpose = False
        self._session = requests.Session()
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))
        self._addresses = {}

    # ---- start ----
    def wait_ready(self):
        """Returns once the server says that it is ready; fails with its log when it exits instead."""
        if not self.wait_ready_or_ended():
            raise AssertionError(f"eider exited with {self.process.returncode}:\n{self.stderr}")
        return self

    def wait_ready_or_ended(self, interval=0.01):
        """Whether it is ready; else it has exited."""

        def ready():
            if self.process.poll() is not None:
                return True
            return self.events("server.ready")

        wait_until(ready, START_DEADLINE, lambda: "server.ready in the log:\n" + self.stderr, interval)
        if self.process.poll() is not None:
            self._ended_on_purpose = True
            return False
        for line in self.events("server.listening"):
            self._addresses[line["name"]] = line["address"]
        return True

    def listener(self, name):
        address = self._addresses.get(name)
        return f"http://{address}" if address else None

    def address(self, name="main"):
        """(host, port) of a listener, for raw sockets."""
        host, _, port = self._addresses[name].rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def url(self):
        return self.listener("main")

    @property
    def ingest(self):
        return self.listener("ingest")

    @property
    def snapshot(self):
        return self.listener("snapshot")

    # ---- requests, always with a time limit ----
    def request(self, method, path, base=None, **options):
        options.setdefault("timeout", REQUEST_TIMEOUT)
        options.setdefault("allow_redirects", False)
        return self._session.request(method, (base or self.url) + path, **options)

    def get(self, path, base=None, **options):
        return self.request("GET", path, base, **options)

    def post(self, path, base=None, **options):
        return self.request("POST", path, base, **options)

    def sql(self, text):
        """Rows of SQL over the lake, on the main listener."""
        answer = self.post("/query", json={"sql": text})
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}\n{text}"
        body = answer.json()
        assert set(body) == {"columns", "rows", "row_count"}, body
        assert body["row_count"] == len(body["rows"])
        return body

    # ---- the log ----
    @property
    def stderr(self):
        return self._stderr.text()

    @property
    def stdout(self):
        return self._stdout.text()

    def log_lines(self):
        """Every JSON line of the log so far, as dicts."""
        parsed = []
        for line in list(self._stderr.lines):
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                parsed.append(value)
        return parsed

    def events(self, name):
        return [line for line in self.log_lines() if line.get("event") == name]

    # ---- the end ----
    @property
    def returncode(self):
        return self.process.returncode

    def running(self):
        return self.process.poll() is None

    def wait(self, timeout=STOP_DEADLINE):
        """Waits for the process, its output and all its children; returns the exit code."""
        self._ended_on_purpose = True
        code = self.process.wait(timeout)
        wait_until(
            lambda: not processes_of_session(self.pid),
            10,
            lambda: f"children of eider are gone: {processes_of_session(self.pid)}",
        )
        self._stdout.join(10)
        self._stderr.join(10)
        return code

    def send(self, signum):
        os.kill(self.pid, signum)

    def stop(self, signum=signal.SIGTERM, timeout=STOP_DEADLINE):
        self._ended_on_purpose = True
        if self.running():
            self.send(signum)
        return self.wait(timeout)

    def kill(self):
        """SIGKILL for the server alone; its children have to notice by themselves."""
        return self.stop(signal.SIGKILL, 10)

    def children(self):
        """The live processes of the server's session besides itself: zygote and workers."""
        return [pid for pid in processes_of_session(self.pid) if pid != self.pid]

    def finish(self):
        """The end of a test: orderly stop of what still runs, and no sanitizer report whatever happened."""
        self._session.close()
        try:
            if not self._ended_on_purpose:
                assert self.running(), f"eider died by itself with {self.returncode}:\n{self.stderr}"
                code = self.stop()
                assert code == 0, f"exit code {code} after SIGTERM:\n{self.stderr}"
            report = SANITIZER_REPORT.search(self.stderr)
            assert not report, f"sanitizer report:\n{self.stderr}"
        finally:
            if self.running():
                self.process.kill()
                self.process.wait(10)
            kill_session(self.pid)


class EiderFactory:
    """Makes servers and stops them all at the end of its scope."""

    def __init__(self, binary, make_folder):
        self.binary = binary
        self._make_folder = make_folder
        self._started = []

    def __call__(self, env=None, args=(), expect_exit=False, lake=None, data=None):
        folder = self._make_folder()
        data = data or folder / "eider-data"
        settings = {"EIDER_DATA": str(data), "EIDER_LISTEN": "127.0.0.1:0"}
        if lake is not None:
            settings.update(lake.env(data))
        settings.setdefault("EIDER_LOG_SEGMENT", "8MiB")  # hundreds of servers take their first segments at once
        settings.update(env or {})
        server = Eider(self.binary, settings, list(args), folder, data, lake)
        self._started.append(server)
        if expect_exit:
            try:
                server.wait(EXIT_DEADLINE)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"eider was expected to exit by itself:\n{server.stderr}") from None
            return server
        return server.wait_ready()

    def finish(self):
        failures = []
        for server in reversed(self._started):
            try:
                server.finish()
            except BaseException as error:  # every server is finished before the first failure is shown
                failures.append(error)
        self._started.clear()
        if failures:
            raise failures[0]
