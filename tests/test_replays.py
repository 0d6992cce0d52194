"""What a failure prints shows it again, in a fresh process: a sample of the mutants of all checks.

`benchmarks/replayed.py` does the same with every mutant.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from replays import shown_again

from dlcheck.registry import catalogue

_EVERY = 64  # of so many checks one is taken
_TAKES_SECONDS = frozenset({"experiment", "benchmark", "slow", "statistical"})
_QUICK = [
    name
    for name in sorted(catalogue().checks)
    if not catalogue().checks[name].tags & _TAKES_SECONDS
]
_SAMPLE = _QUICK[::_EVERY]
_PARTS = 2


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(_PARTS))
def test_every_printed_form_shows_the_failure_again(part: int, tmp_path: Path) -> None:
    chosen = _SAMPLE[part::_PARTS]
    shown = list(shown_again(tmp_path, {check: [0] for check in chosen}))
    assert len(shown) > len(chosen) / 2  # some mutants do not apply to their subject
    wrong = {
        f"{each.outcome.check} of {each.outcome.subject}, {form}": told
        for each in shown
        for form, told in each.forms.items()
        if told
    }
    assert not wrong
    assert all(each.size <= 9 for each in shown)
