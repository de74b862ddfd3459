"""How many of the cases of an exhaustive test run: all in the long tier, a sample that is always the same in the other.

EIDER_FAULT_PART=2/5 runs the second fifth of them, for several processes or machines that share the work."""

import os
import random
import tempfile
from pathlib import Path

SEED = int(os.environ.get("EIDER_FAULT_SEED") or 20261121)


def sample(cases, count, what):
    """`count` of the cases in the default suite, in their own order; EIDER_FAULT_SEED chooses others."""
    count = int(os.environ.get("EIDER_FAULT_CASES") or count)
    chosen = list(cases)
    if len(chosen) > count:
        picked = sorted(random.Random(SEED).sample(range(len(chosen)), count))
        chosen = [chosen[index] for index in picked]
    part, parts = map(int, (os.environ.get("EIDER_FAULT_PART") or "1/1").split("/"))
    assert 1 <= part <= parts, "EIDER_FAULT_PART"
    chosen = chosen[part - 1 :: parts]
    say(f"{what}: {len(chosen)} of {len(cases)} (seed {SEED})")
    return chosen


def each(chosen, what):
    """The cases one by one; hours pass between the first and the last, so it says how far it is."""
    for done, case in enumerate(chosen, 1):
        yield case
        if done % 50 == 0:
            say(f"{what}: {done} of {len(chosen)} done")


def complain(failures, text):
    """A failure is shown when it is found, not only when all is over."""
    say(f"FAILURE {text}")
    failures.append(text)


def say(text):
    """Shown by pytest with -s and in the report of a failure."""
    print(text, flush=True)


class Folders:
    """Temporary folders, each gone when it was used: the cases are many."""

    def __init__(self, root):
        self.root = Path(root)

    def one(self):
        return tempfile.TemporaryDirectory(dir=self.root, prefix="case-", ignore_cleanup_errors=True)


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0
