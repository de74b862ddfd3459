"""Reads what tests/fault/shim.c tells of a server's calls, and preloads it."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

HEAD = struct.Struct("<IiQQQIIII")  # struct trace_record
KINDS = [
    "", "create", "write", "fsync", "fdatasync", "rename", "unlink", "mkdir", "rmdir", "truncate", "fallocate", "link",
    "reply",
]  # fmt: skip
SYNCS = ("fsync", "fdatasync")


@dataclass
class Call:
    index: int
    kind: str
    error: int
    inode: int
    offset: int
    size: int
    flags: int
    path: str
    other: str
    data: bytes

    @property
    def parent(self):
        """The folder whose entry the call makes, moves or takes away."""
        return os.path.dirname(self.other or self.path)

    def __str__(self):
        return f"#{self.index} {self.kind} {self.path}{' -> ' + self.other if self.other else ''} {self.offset}+{self.size}"


def read_trace(path):
    """All calls that are told of, in order."""
    text = Path(path).read_bytes() if Path(path).exists() else b""
    calls, at = [], 0
    while at + HEAD.size <= len(text):
        kind, error, inode, offset, size, flags, path_size, other_size, data_size = HEAD.unpack_from(text, at)
        at += HEAD.size
        name = text[at : at + path_size].decode()
        at += path_size
        other = text[at : at + other_size].decode()
        at += other_size
        calls.append(
            Call(len(calls), KINDS[kind], error, inode, offset, size, flags, name, other, text[at : at + data_size])
        )
        at += data_size
    return calls


def shim_path(binary):
    path = Path(binary).parent / "fault_shim.so"
    assert path.exists(), f"no {path}: build the target fault_shim"
    return path


def shim_env(binary, root, before=(), **settings):
    """Environment of a server whose calls below `root` are seen; `before`: libraries to be preloaded first."""
    libraries = ":".join([*map(str, before), str(shim_path(binary))])
    env = {"LD_PRELOAD": libraries, "FAULT_ROOT": os.path.realpath(root)}
    return env | {f"FAULT_{name.upper()}": str(value) for name, value in settings.items() if value is not None}


def read_count(path):
    """How many calls were counted so far."""
    text = Path(path).read_bytes() if Path(path).exists() else b""
    return struct.unpack("<Q", text)[0] if len(text) == 8 else 0


def write_clock(path, seconds):
    """The wall clock of the server is wrong by so much, from now on."""
    with open(path, "r+b" if Path(path).exists() else "w+b") as file:
        file.write(struct.pack("<q", seconds))
