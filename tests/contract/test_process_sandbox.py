"""What a worker is while it runs somebody's SQL, seen through /proc: section 3.14 of the reliability rules."""

import os
import re
from pathlib import Path

import pyarrow
import pytest

from harness.eider_process import EiderFactory
from harness.snapshot_client import ENDLESS, RawPost, Sidecar
from harness.snapshot_processes import busy_worker, gone, status, zygote

SECRET = "environment-canary-90ab"
MAPPING_MAX = 128 << 20
SANITIZED = bool(os.environ.get("ASAN_OPTIONS") or os.environ.get("UBSAN_OPTIONS"))


class Caught:
    """A worker in the middle of a statement."""

    def __init__(self, server, sidecar):
        self.server = server
        self.sidecar = sidecar
        sql = f"SELECT (SELECT sum(a) FROM t), ({ENDLESS})"
        self.client = RawPost(sidecar.base, "/query", sidecar.query_body(sql, {"t": "x.parquet"}))
        self.pid = busy_worker(server)


@pytest.fixture(scope="module")
def caught(eider_binary, tmp_path_factory, s3):
    factory = EiderFactory(eider_binary, lambda: tmp_path_factory.mktemp("process"))
    server = factory(
        {
            "EIDER_SNAPSHOT_LISTEN": "127.0.0.1:0",
            "EIDER_QUERY_TIMEOUT_MS": 100000,
            "DUCKDB_MEMORY_LIMIT": "512MB",
            "DUCKDB_THREADS": "2",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
    )
    sidecar = Sidecar(server.snapshot, s3)
    sidecar.put_table("x.parquet", pyarrow.table({"a": [1]}))
    caught = Caught(server, sidecar)
    yield caught
    caught.client.close()
    factory.finish()


def read_or_nothing(path):
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def limits(pid):
    """/proc/PID/limits as {name: soft limit}."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {fields[0]: fields[1] for fields in (re.split(r" {2,}", line) for line in lines)}


def descriptors(pid):
    folder = f"/proc/{pid}/fd"
    found = {}
    for name in os.listdir(folder):
        try:
            found[int(name)] = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            pass
    return found


def test_the_server_still_answers(caught):
    caught.sidecar.alive()
    assert not gone(caught.pid)


def test_seccomp_and_no_new_privileges_in_every_thread(caught):
    threads = os.listdir(f"/proc/{caught.pid}/task")
    for thread in threads:
        seen = status(f"{caught.pid}/task/{thread}")
        assert (seen["Seccomp"], seen["NoNewPrivs"]) == ("2", "1"), (thread, seen["Name"])


def test_no_privileges(caught):
    seen = status(caught.pid)
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(seen[name], 16) == 0
    if os.geteuid() == 0:
        assert "0" not in seen["Uid"].split() and "0" not in seen["Gid"].split()
        assert "0" not in seen.get("Groups", "").split()


def test_no_environment(caught):
    for pid in (caught.pid, zygote(caught.server)):
        environment = read_or_nothing(f"/proc/{pid}/environ")
        assert environment.strip(b"\0") == b""


def writable_memory(pid):
    """The writable memory of a process, mapping by mapping."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            fields = line.split()
            first, last = (int(part, 16) for part in fields[0].split("-"))
            if fields[1].startswith("rw"):
                memory.seek(first)
                try:
                    yield memory.read(min(last - first, MAPPING_MAX))
                except OSError:
                    continue


@pytest.mark.once
@pytest.mark.parametrize("who", ["worker", "zygote"])
def test_no_secret_in_its_memory(caught, who):
    """Neither the server's environment nor the keys of the request it works for."""
    pid = caught.pid if who == "worker" else zygote(caught.server)
    secrets = [SECRET.encode(), *(caught.sidecar.config[name].encode() for name in ("secretAccessKey", "accessKeyId"))]
    try:
        scanned = 0
        for part in writable_memory(pid):
            scanned += len(part)
            assert not any(secret in part for secret in secrets)
    except PermissionError:
        pytest.skip("this user may not look into the memory of another process")
    assert scanned > 1 << 20


def test_no_socket_to_the_outside(caught):
    """Its only sockets are Unix ones without a name: none of them is in a table of the Internet families."""
    inodes = {target[8:-1] for target in descriptors(caught.pid).values() if target.startswith("socket:[")}
    assert inodes, "it has the socket of its job"
    for family in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "netlink", "packet"):
        table = read_or_nothing(f"/proc/{caught.pid}/net/{family}").decode().splitlines()[1:]
        assert inodes.isdisjoint(field for line in table for field in line.split())


def test_few_descriptors_and_none_of_the_server_s(caught):
    """The job's socket, perhaps the standard three, a file per object: no log, no listener, no epoll, no folder."""
    found = descriptors(caught.pid)
    assert len(found) <= 12, found
    for target in found.values():
        assert "anon_inode:[eventpoll]" not in target
        assert not os.path.isdir(target)
    standard = {found.get(number) for number in (0, 1, 2)} - {None}
    assert standard <= {"/dev/null"} or all(target.startswith(("pipe:", "socket:", "/dev/null")) for target in standard)


def test_output_cannot_reach_the_server_s_streams(caught):
    ours = {os.readlink(f"/proc/{caught.server.pid}/fd/1")}
    assert ours.isdisjoint(descriptors(caught.pid).values())


def test_limits(caught):
    seen = limits(caught.pid)
    assert seen["Max core file size"] == "0"
    assert int(seen["Max open files"]) <= 1024
    assert seen["Max cpu time"] != "unlimited"
    assert seen["Max file size"] != "unlimited"
    if not SANITIZED:
        assert 512 << 20 <= int(seen["Max address space"]) <= 8 << 30


def test_it_dies_with_its_parent_and_cannot_be_traced_by_its_kind(caught):
    seen = status(caught.pid)
    assert seen["TracerPid"] == "0"
    assert seen["PPid"] == str(zygote(caught.server))


def test_the_client_leaves_and_all_of_it_is_gone(caught, wait_until):
    """Last of the module."""
    caught.client.close()
    wait_until(lambda: gone(caught.pid), 1, "the worker is gone")
    caught.sidecar.alive()
