"""Runs the benchmarks and prints the table. Started by bench/run."""

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import workloads
from figures import table
from parts import OUTPUT, REPOSITORY, Bench, build_programs


def first_line(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip().splitlines()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "unknown"


def machine():
    """Where the figures come from: without it they mean nothing."""
    cpu = next((l.partition(":")[2].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown")
    memory = next(int(l.split()[1]) for l in open("/proc/meminfo") if l.startswith("MemTotal")) / 1024 / 1024
    duckdb = (Path(os.environ["DUCKDB_DIR"]) / "VERSION").read_text().strip()
    return "\n".join(
        [
            f"time      {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
            f"machine   {cpu}, {os.cpu_count()} processors, {memory:.1f} GiB",
            f"system    {first_line('sh', '-c', '. /etc/os-release; echo $PRETTY_NAME')}, Linux {platform.release()}",
            f"load      {os.getloadavg()[0]:.2f} before the run (anything much above 0 makes figures worse)",
            f"eider     {first_line('git', '-C', str(REPOSITORY), 'describe', '--always', '--dirty')}, DuckDB {duckdb}",
        ]
    )


def parse_arguments():
    parser = argparse.ArgumentParser(prog="bench/run", description="Each workload beside its bound, in one table.")
    parser.add_argument("--only", action="append", choices=workloads.WORKLOADS, metavar="NAME", help="see --list")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side, taken in turn (5)")
    parser.add_argument("--list", action="store_true", help="the names of the workloads")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.list:
        print(workloads.describe())
        return
    build_programs()
    print(machine(), flush=True)
    bench = Bench(arguments.rounds)
    rows = []
    try:
        for name in arguments.only or workloads.WORKLOADS:
            print(f"== {name}", file=sys.stderr, flush=True)
            rows += workloads.WORKLOADS[name](bench)
    finally:
        bench.close()
        results = OUTPUT / "results.jsonl"
        workloads.save(results, rows)
        print(f"\n{table(rows)}\n\nevery round: {results.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
