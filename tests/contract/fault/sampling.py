"""How many of the cases of an exhaustive test run: all in the long tier, a sample that is always the same in the other."""

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
    say(f"{what}: {len(chosen)} of {len(cases)} (seed {SEED})")
    return chosen


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
