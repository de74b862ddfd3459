"""A look at the server's child processes through /proc."""

import os
import signal
from pathlib import Path

from harness.waiting import wait_until

ZYGOTE, SPARE, WORKER = "eider-zygote", "eider-spare", "eider-worker"


def command_name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def children_named(server, name):
    return [pid for pid in server.children() if command_name(pid) == name]


def workers(server):
    """Workers that have a job or are about to get one."""
    return children_named(server, WORKER)


def zygote(server):
    """The one zygote, once it is there."""
    return wait_until(lambda: children_named(server, ZYGOTE), 10, "a zygote runs")[0]


def busy_worker(server):
    """The worker that has used processor time: the one in a statement, not one that waits ready."""

    def find():
        busy = [pid for pid in workers(server) if processor_ticks(pid) >= 10]
        return busy[0] if busy else None

    return wait_until(find, 15, "a worker runs a statement")


def processor_ticks(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def status(pid):
    """/proc/PID/status as a dict; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def gone(pid):
    return status(pid).get("State", "X")[0] in "XZ"


def resident_bytes(pid, field="VmRSS"):
    return int(status(pid).get(field, "0 kB").split()[0]) * 1024


def kill(pid):
    """SIGKILL for one child of a server that the test started."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid), 5, f"{pid} is gone")


def files_below(folder):
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if not path.is_dir()}
