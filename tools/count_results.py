"""Sums the reports of a test run and prints `N passed, N failed` as the last line.

Usage: count_results.py FOLDER

FOLDER has, for each step NAME, NAME.status (the exit status of its runner) and NAME.xml (JUnit, as
pytest, ctest and tools/tidy write it). A step whose report is missing, empty of tests, or happy
although its runner was not, counts as one failure more: a runner that dies must not look green.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree


def read_cases(report):
    """Returns (passed, names of failed, skipped)."""
    passed, failed, skipped = 0, [], 0
    for case in ElementTree.parse(report).iter("testcase"):
        children = {child.tag for child in case}
        name = "::".join(filter(None, [case.get("classname"), case.get("name")]))
        if children & {"failure", "error"} or case.get("status") == "fail":
            failed.append(name)
        elif "skipped" in children or case.get("status") in ("notrun", "disabled"):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def read_step(folder, name):
    status = int((folder / f"{name}.status").read_text())
    report = folder / f"{name}.xml"
    try:
        passed, failed, skipped = read_cases(report)
    except (OSError, ElementTree.ParseError) as error:
        return 0, [f"no report ({error})"], 0
    if passed + len(failed) + skipped == 0:
        failed.append("ran no test")
    elif status != 0 and not failed:
        failed.append(f"its runner ended with status {status}")
    return passed, failed, skipped


def main(folder):
    folder = Path(folder)
    steps = sorted(folder.glob("*.status"), key=lambda path: path.stat().st_mtime_ns)
    totals = [0, 0, 0]
    print("\nsummary")
    for name in [path.stem for path in steps]:
        passed, failed, skipped = read_step(folder, name)
        print(f"  {name:14} {passed} passed, {len(failed)} failed, {skipped} skipped")
        for test in failed:
            print(f"    failed: {test}")
        totals = [sum(pair) for pair in zip(totals, (passed, len(failed), skipped))]
    skipped_note = f", {totals[2]} skipped" if totals[2] else ""
    print(f"{totals[0]} passed, {totals[1]} failed{skipped_note}", flush=True)
    return 0 if totals[0] > 0 and totals[1] == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
