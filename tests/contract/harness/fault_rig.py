"""A server whose disk fails, stops or is cut off, and what is left of it afterwards."""

import json
import os
import signal
import time

from harness import fault_scenario, fault_trace, lake_oracle
from harness.eider_process import Eider
from harness.lakes import FolderLake
from harness.processes import kill_session

# A segment that a few requests fill, and flushes only when asked for: so that calls come in nearly the same order.
SCENARIO_ENV = {
    "EIDER_LOG_SEGMENT": "1MiB",
    "EIDER_FLUSH_AGE_MS": "3600000",
    "EIDER_FLUSH_BYTES": "128MiB",
    "EIDER_DRAIN_MS": "20000",
}


def answer_of(body):
    """An answer without the note that it was given before."""
    return {name: value for name, value in json.loads(body).items() if name != "repeated"}


class Rig:
    """A data folder that servers follow one another on."""

    def __init__(self, binary, folder, lake=None, env=None, plan=None):
        self.binary = binary
        self.folder = folder
        self.data = folder / "data"
        self.lake = lake or FolderLake()
        self.env = {"EIDER_DATA": str(self.data), "EIDER_LISTEN": "127.0.0.1:0", **SCENARIO_ENV}
        self.env |= self.lake.env(self.data) | (env or {})
        self.plan = plan or fault_scenario.waves()
        self.sent = {}
        self.ready_seconds = []
        self.servers = []
        self.count_file = folder / "count"
        self.trace_file = folder / "trace"
        self.data.mkdir(parents=True, exist_ok=True)
        if isinstance(self.lake, FolderLake) and self.lake.kind == "folder":
            self.block()

    def block(self):
        """A file where the partition of the batch that must fail would be."""
        date = fault_scenario.BLOCKED_DATE
        path = self.lake.root / "data" / fault_scenario.BLOCKED_TABLE / f"year={date[:4]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def shim(self, trace=False, before=(), **settings):
        """The environment of one life; its calls are counted from 1."""
        self.count_file.unlink(missing_ok=True)
        trace_file = self.trace_file if trace else None
        return fault_trace.shim_env(
            self.binary, self.data, before, count=self.count_file, trace=trace_file, **settings
        )

    def start(self, env=None):
        """The server once it is ready, or, when it ended instead, as it ended."""
        began = time.monotonic()
        server = Eider(self.binary, self.env | (env or {}), [], self.folder, self.data, self.lake)
        self.servers.append(server)
        if server.wait_ready_or_ended(0.002):
            self.ready_seconds.append(time.monotonic() - began)
        else:
            server.wait()
        return server

    def run(self, env=None):
        """One life: start, the waves, SIGTERM. Returns the exit status."""
        server = self.start(env)
        if server.running():
            address = server.address()
            fault_scenario.run_waves(address, self.plan, server.running, self.sent)
        return self.end(server)

    def end(self, server):
        """SIGTERM to what still runs; the exit status, negative for a signal."""
        if server.running():
            try:
                os.kill(server.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        return server.wait()

    def recover(self, env=None, retry=True):
        """Starts again, sends again what has a key, drains; the exit status has to be 0."""
        server = self.start(env)
        assert server.running(), f"no start after the crash, exit {server.returncode}:\n{server.stderr}"
        if retry:
            self.retry(server.address())
        code = self.end(server)
        assert code == 0, f"exit {code} after the recovery's drain:\n{server.stderr}"
        left = server.events("server.rows_left")
        assert not left, f"the drain left rows: {left}"
        return server

    def retry(self, address):
        """What has a key gets its answer, and the same as before when there was one."""
        for sent in self.sent.values():
            if sent.key is None:
                continue
            before = [body for status, body in sent.answers if status == 200]
            status, body = fault_scenario.send(address, sent)
            assert status == 200, f"request {sent.req} again: {status} {body}"
            if before:
                same = answer_of(body) == answer_of(before[0])
                assert same, f"request {sent.req}: another answer than before: {body} after {before[0]}"

    def lake_address(self):
        if self.lake.kind == "folder":
            return str(self.lake.root)
        server = self.lake.server
        return json.dumps(
            {
                "endpoint": server.endpoint,
                "access_key": server.access_key,
                "secret_key": server.secret_key,
                "region": server.region,
                "bucket": self.lake.bucket,
                "prefix": self.lake.prefix,
            }
        )

    def journal(self):
        return [sent.entry() for sent in self.sent.values()]

    def judge(self, journal=None):
        """What the oracle has to complain about."""
        return lake_oracle.check(self.journal() if journal is None else journal, self.lake_address())["violations"]

    def calls_counted(self):
        return fault_trace.read_count(self.count_file)

    def close(self):
        for server in self.servers:
            server._session.close()
            if server.running():
                server.process.kill()
                server.process.wait(10)
            kill_session(server.pid)
