"""What a disk may hold after a power cut, made from a trace of calls (fault_trace).

The model allows a file system everything that POSIX allows it: bytes and sizes of a file are sure after fsync or
fdatasync of the file, names (made, moved, taken away) after fsync of the folder they are in. Of what is not sure, any
part may be there, in any order; a write may be there in sectors of 512 bytes or pages of 4 KiB, and where it is not,
there is what was there before, or garbage. A move is one step: both names change or none.
"""

import hashlib
import os
import random
import re
import tempfile
from dataclasses import dataclass

SECTOR, PAGE = 512, 4096
SUBSET_MAX = 6  # of so many calls that are not sure, all subsets are made
DATA_KINDS = ("write", "truncate", "fallocate")
NAME_KINDS = ("create", "rename", "unlink", "mkdir", "rmdir", "link")
FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE, FALLOC_FL_PUNCH_HOLE = 1, 0x10, 2
REPLY_HEAD = re.compile(rb"HTTP/1\.1 (\d\d\d) ")
REPLY_ID = re.compile(rb"\r\nX-Request-Id: req-(\d+)-", re.IGNORECASE)


@dataclass(frozen=True)
class Image:
    """The calls before `at` that reached the disk, and how some writes did: {index: (kind, seed)}."""

    at: int
    kept: tuple
    torn: tuple = ()  # (index, "first" | "last" | "sectors" | "pages" | "garbage")
    seed: int = 0

    def __str__(self):
        return f"before call {self.at}: {len(self.kept)} calls kept" + (f", torn {self.torn}" if self.torn else "")


class Recording:
    def __init__(self, calls):
        self.calls = calls
        self.good = [call for call in calls if call.error == 0]
        self.file_of = {}  # index -> which file: the index of its making; numbers of inodes are used again
        self._follow_files()

    def _follow_files(self):
        by_inode, by_name = {}, {}
        for call in self.good:
            if call.kind == "create":
                by_inode[call.inode] = by_name[call.path] = self.file_of[call.index] = call.index
            elif call.kind in ("rename", "link"):
                self.file_of[call.index] = by_name.get(call.path)
                by_name[call.other] = by_name.get(call.path)
                if call.kind == "rename":
                    by_name.pop(call.path, None)
            elif call.kind == "unlink":
                by_name.pop(call.path, None)
            elif call.inode:
                self.file_of[call.index] = by_inode.get(call.inode, -call.inode)

    # ---- what is sure ----
    def sure_and_open(self, at):
        """(indices that are sure, indices that may or may not be there) of a cut just before call `at`."""
        sure, data, names = set(), {}, {}
        for call in self.good:
            if call.index >= at:
                break
            if call.kind in DATA_KINDS:
                data.setdefault(self.file_of[call.index], []).append(call.index)
            elif call.kind in NAME_KINDS:
                names.setdefault(call.parent, []).append(call.index)
            elif call.kind in ("fsync", "fdatasync"):
                sure.update(data.pop(self.file_of[call.index], ()))
                sure.update(names.pop(call.path, ()))
        left = [index for indices in (*data.values(), *names.values()) for index in indices]
        return sure, sorted(left)

    def cuts(self):
        """Where the power is cut: before each sync, before and behind each answer, and at the end."""
        found = {len(self.calls)}
        for call in self.calls:
            if call.kind in ("fsync", "fdatasync"):
                found.add(call.index)
            elif call.kind == "reply":
                found.update((call.index, call.index + 1))
        return sorted(found)

    def images(self, at, rng):
        """Images of one cut: nothing that is open, all of it, all but one, one alone, or all subsets of a few; torn."""
        sure, left = self.sure_and_open(at)
        subsets = {(), tuple(left)}
        if len(left) <= SUBSET_MAX:
            subsets |= {tuple(x for b, x in enumerate(left) if bits >> b & 1) for bits in range(1 << len(left))}
        else:
            near = left[-SUBSET_MAX:]
            older = tuple(left[:-SUBSET_MAX])
            for bits in rng.sample(range(1 << SUBSET_MAX), 16):
                subsets.add(older + tuple(x for b, x in enumerate(near) if bits >> b & 1))
            subsets |= {tuple(x for x in left if x != gone) for gone in rng.sample(left, min(8, len(left)))}
            subsets |= {(x,) for x in rng.sample(left, min(4, len(left)))}
        made = [Image(at, tuple(sorted(sure | set(subset)))) for subset in sorted(subsets)]
        writes = [x for x in left if self.calls[x].kind == "write" and self.calls[x].size > 0]
        everything = tuple(sorted(sure | set(left)))
        for index in writes[-4:]:
            for how in ("first", "last", "sectors", "pages", "garbage"):
                made.append(Image(at, everything, ((index, how),), rng.randrange(1 << 30)))
        if len(writes) > 1:
            how = tuple((index, rng.choice(("sectors", "pages"))) for index in writes[-8:])
            made.append(Image(at, everything, how, rng.randrange(1 << 30)))
        return made

    # ---- what was promised ----
    def answers(self, at):
        """{request: [status, ...]} of the answers that had begun to leave before call `at`."""
        found = {}
        for call in self.calls[:at]:
            if call.kind == "reply":
                head, name = REPLY_HEAD.match(call.data), REPLY_ID.search(call.data)
                if head and name:
                    found.setdefault(int(name[1]), []).append(int(head[1]))
        return found

    # ---- the disk ----
    def different(self, images):
        """Of those that are the same disk the one that was cut last: most was promised by then."""
        found, digests = {}, {}
        for image in sorted(images, key=lambda image: image.at):
            files, names, folders = self._state(image, "")
            disk = [(path, self._digest(files.get(number, ()), image, digests)) for path, number in sorted(names.items())]
            found[hashlib.sha256(repr((sorted(folders), disk)).encode()).digest()] = image
        return list(found.values())

    def _digest(self, calls, image, digests):
        """Of a file, as `build` would make it."""
        torn = tuple((index, how) for index, how in image.torn if any(call.index == index for call in calls))
        key = (tuple(call.index for call in calls), torn, image.seed if torn else 0)
        if key not in digests:
            with tempfile.TemporaryFile() as file:
                write_calls(file, calls, dict(torn), random.Random(image.seed))
                file.seek(0)
                digests[key] = hashlib.file_digest(file, "sha256").digest()
        return digests[key]

    def _state(self, image, root):
        """The calls of each file, the files' names, the folders."""
        files, names, folders = {}, {}, {root}
        for index in image.kept:
            self._apply(self.calls[index], files, names, folders)
        return files, names, folders

    def build(self, image, root, folder):
        """Makes the image of `root`, which was empty but for what is in `folder` already, in `folder`."""
        files, names, folders = self._state(image, root)
        torn = dict(image.torn)
        for path in sorted(folders - {root}):
            target = folder + path[len(root) :]
            if os.path.isdir(os.path.dirname(target)):  # a folder whose own folder was lost is lost too
                os.makedirs(target, exist_ok=True)
        for path, number in names.items():
            target = folder + path[len(root) :]
            if os.path.isdir(os.path.dirname(target)):
                with open(target, "w+b") as file:
                    write_calls(file, files.get(number, ()), torn, random.Random(image.seed))

    def _apply(self, call, files, names, folders):
        number = self.file_of.get(call.index)
        if call.kind in DATA_KINDS:
            files.setdefault(number, []).append(call)
        elif call.kind == "mkdir":
            folders.add(call.path)
        elif call.kind == "rmdir":
            folders.discard(call.path)
        elif call.kind == "create":
            names[call.path] = number
        elif call.kind == "unlink":
            names.pop(call.path, None)
        else:
            names[call.other] = number
            if call.kind == "rename":
                names.pop(call.path, None)


def write_calls(file, calls, torn, rng):
    for call in calls:
        write_call(file, call, torn.get(call.index), rng)


def write_call(file, call, how, rng):
    if call.kind == "truncate":
        file.truncate(call.size)
    elif call.kind == "fallocate":
        if call.flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE):
            file.seek(call.offset)
            file.write(bytes(call.size - call.offset))
        if not call.flags & FALLOC_FL_KEEP_SIZE and os.fstat(file.fileno()).st_size < call.size:
            file.truncate(call.size)
    else:
        for offset, data in torn_parts(call, how, rng):
            file.seek(offset)
            file.write(data)
        file.flush()
        if how and os.fstat(file.fileno()).st_size < call.offset + call.size:
            file.truncate(call.offset + call.size)  # the size came, the bytes did not


def torn_parts(call, how, rng):
    """What of a write arrived: (offset, bytes), cut where the disk cuts."""
    if how is None:
        return [(call.offset, call.data)]
    if how == "garbage":
        half = len(call.data) // 2
        return [(call.offset, call.data[:half] + rng.randbytes(len(call.data) - half))]
    unit = PAGE if how == "pages" else SECTOR
    parts, at = [], 0
    while at < len(call.data):
        end = min(len(call.data), (call.offset + at) // unit * unit + unit - call.offset)
        parts.append((call.offset + at, call.data[at:end]))
        at = end
    if how == "first":
        return parts[: max(1, len(parts) // 2)]
    if how == "last":
        return parts[(len(parts) + 1) // 2 :]
    return [part for part in parts if rng.random() < 0.5]
