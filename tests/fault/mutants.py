#!/usr/bin/env python3
"""mutants.py - breaks one mechanism of the log at a time and shows that the test of its promise turns red.

Usage: tests/fault/mutants.py [--only NAME]... [--list]

Each mutant is a text in a source file and what it becomes. The sources are copied to a folder of their own, built there
(the first time all of it, then what changed), and the named tests run against that binary; before, they have to pass
without any change. Prints a table; ends with 1
when a mutant survived, did not build, or no longer applies. DUCKDB_DIR as for tools/build.sh; Python must be the one of
the tests' environment (tools/venv.sh -r tests/requirements.txt).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = ["src", "cmake", "tests", "bench", "CMakeLists.txt", "CMakePresets.json"]


@dataclass
class Mutant:
    name: str
    promise: str
    what: str
    file: str
    old: str
    new: str
    tests: str  # arguments of pytest in tests/contract


INGEST = "test_promises_ingest.py"
MUTANTS = [
    Mutant(
        "no-sync", "P1", "answers without fdatasync", "src/wal/wal_write.c",
        "code = code < 0 ? code : wal_file_sync_data(&wal->folder, wal->current.fd);",
        "code = code < 0 ? code : 0;",
        f"{INGEST} -k p1",
    ),
    Mutant(
        "no-folder-sync", "P1", "a segment's name is not synced", "src/wal/wal_segment.c",
        "return code < 0 ? code : wal_folder_sync(&wal->folder);\n}\n\nint wal_segment_remove",
        "return code;\n}\n\nint wal_segment_remove",
        f"{INGEST} -k p1_every_byte",
    ),
    Mutant(
        "no-replay", "P2", "a start forgets the rows that wait for a flush", "src/lake/lake_replay.c",
        "if (part->record.rows > 0 && position > part->table->committed) {",
        "if (part->record.rows > 0 && position > part->table->committed + 1000000) {",
        f"{INGEST} -k p2",
    ),
    Mutant(
        "replay-twice", "P2", "a start takes rows for waiting that are in the lake", "src/lake/lake_replay.c",
        "if (part->record.rows > 0 && position > part->table->committed) {",
        "if (part->record.rows > 0) {",
        "fault/test_fault_crash.py -k test_crash_points_of_a_lake_in_a_folder",
    ),
    Mutant(
        "open-group", "P3", "a request counts before its last record", "src/lake/lake_replay.c",
        "        if (rows.last) {",
        "        if (rows.rows > 0) {",
        f"{INGEST} -k p3",
    ),
    Mutant(
        "no-keys", "P4", "a start forgets the keys that are in the log", "src/lake/lake_replay.c",
        "    if (rows->has_key) {\n        restore_key",
        "    if (rows->has_key && position == 0) {\n        restore_key",
        f"{INGEST} -k p4_the_same_key",
    ),
    Mutant(
        "retry-sync", "P8", "a sync that failed is tried again", "src/wal/wal_io.c",
        "return result_of(fdatasync(fd));",
        "return result_of(fdatasync(fd) == 0 ? 0 : fdatasync(fd));",
        f"{INGEST} -k 'p8 and fdatasync'",
    ),
    Mutant(
        "log-goes-on", "P8", "a broken log does not end the process", "src/lake/lake.c",
        "    if (lake->options.broken != NULL) {",
        "    if (lake->options.broken != NULL && err == NULL) {",
        f"{INGEST} -k 'p8_an_error_of_the_log_ends'",
    ),
    Mutant(
        "skip-damage", "P9", "a closed segment may end early", "src/wal/wal_scan.c",
        "        return end.last == last ||",
        "        return end.last <= last ||",
        f"{INGEST} -k p9_damage",
    ),
    Mutant(
        "no-crc", "P9", "the bytes of a record are not checked", "src/wal/wal_format.c",
        "    return ret_header->crc == record_crc(", "    return true || ret_header->crc == record_crc(",
        f"{INGEST} -k p9_damage",
    ),
    Mutant(
        "part-shows", "P3", "a part of a request shows before the whole is there", "src/lake/lake_object.c",
        "    last = str_first(last, str_find_byte(last, '-')); /* -p<part> may follow */\n", "",
        "test_flush_large.py -k show_as_one",
    ),
    Mutant(
        "clock-believed", "P29", "retention believes any clock", "src/lake/lake_ship_house.c",
        "if (clock_doubt_look(&lake->clock, clock_wall_ms(), now_ms)) {",
        "if (clock_doubt_look(&lake->clock, clock_wall_ms(), now_ms) || now_ms > 0) {",
        "test_promises_service.py -k far_ahead",
    ),
]  # fmt: skip


class Workshop:
    """A copy of the sources with its own build folder."""

    def __init__(self, folder):
        self.folder = folder
        self.build = folder / "build"
        for name in COPIED:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, folder / name)
            else:
                shutil.copy2(source, folder / name)
        duckdb = os.environ.get("DUCKDB_DIR") or subprocess.run(
            [REPOSITORY / "tools" / "duckdb.sh"], check=True, capture_output=True, text=True
        ).stdout.strip()
        self._run(
            "cmake", "-G", "Ninja", "-S", str(folder), "-B", str(self.build), f"-DDUCKDB_DIR={duckdb}",
            "-DCMAKE_BUILD_TYPE=Release",
        )  # fmt: skip

    def _run(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            raise RuntimeError((done.stdout + done.stderr)[-2000:])

    def make(self):
        self._run("cmake", "--build", str(self.build), "--target", "eider", "fault_shim", "-j2")

    def change(self, mutant):
        """Applies it, and returns the text that was there."""
        path = self.folder / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            raise RuntimeError(f"{mutant.file} has {text.count(mutant.old)} times what {mutant.name} is about")
        path.write_text(text.replace(mutant.old, mutant.new))
        return text

    def test(self, mutant):
        """(red, the last line that pytest says)"""
        command = f"{sys.executable} -m pytest -q -p no:cacheprovider -x -m 'not long' {mutant.tests}"
        done = subprocess.run(
            command,
            shell=True,
            cwd=REPOSITORY / "tests" / "contract",
            env=os.environ | {"EIDER_BIN": str(self.build / "eider")},
            capture_output=True,
            text=True,
            timeout=900,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        last = (lines or done.stdout.strip().splitlines() or ["nothing"])[-1]
        return done.returncode == 1, last.split(" - ")[0]


def judge(workshop, mutant):
    try:
        before = workshop.change(mutant)
    except RuntimeError as error:
        return "does not apply", str(error)
    try:
        workshop.make()
        red, line = workshop.test(mutant)
        return ("red" if red else "SURVIVED"), line
    except RuntimeError as error:
        return "does not build", str(error)[-300:]
    finally:
        (workshop.folder / mutant.file).write_text(before)


def run(names=None):
    """[(mutant, verdict, which test)]"""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    with tempfile.TemporaryDirectory(prefix="eider-mutants.") as folder:
        workshop = Workshop(Path(folder))
        workshop.make()
        found = [(mutant, "red without it", line) for mutant in chosen for red, line in [workshop.test(mutant)] if red]
        if found:
            return found
        for mutant in chosen:
            verdict, line = judge(workshop, mutant)
            print(f"{mutant.promise:4} {mutant.name:16} {verdict:10} {line}", flush=True)
            found.append((mutant, verdict, line))
        return found


def table(found):
    rows = [("promise", "mutant", "what it does", "verdict", "by")]
    rows += [(m.promise, m.name, m.what, verdict, line) for m, verdict, line in found]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join("  ".join([*(row[i].ljust(widths[i]) for i in range(4)), row[4]]) for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=[mutant.name for mutant in MUTANTS], metavar="NAME")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        print(table([(mutant, "", mutant.tests) for mutant in MUTANTS]))
        return 0
    found = run(arguments.only)
    print("\n" + table(found))
    return 0 if all(verdict == "red" for _, verdict, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main())
