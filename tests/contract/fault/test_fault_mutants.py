"""Each promise of the log that was broken on purpose is noticed by its own test (tests/fault/mutants.py)."""

import sys

import pytest

from conftest import REPOSITORY

pytestmark = [pytest.mark.once, pytest.mark.long]


def test_every_mutant_is_noticed(no_deadline):
    sys.path.insert(0, str(REPOSITORY / "tests" / "fault"))
    import mutants

    found = mutants.run()
    print(mutants.table(found))
    assert [mutant.name for mutant, verdict, _ in found if verdict != "red"] == []
