"""Honest attention, positions and recurrences pass every check of their kind; each bug fails."""

from __future__ import annotations

import pytest
import right_attentions
import right_sequences
import wrong_attentions
import wrong_sequences
from verdicts import is_found, verdicts

from dlcheck import Subject
from dlcheck.model import Verdict

OWN = (
    "dlcheck.checks.attention.*",
    "dlcheck.checks.positional.*",
    "dlcheck.checks.recurrent.*",
    "dlcheck.checks.layer.modes:eval_is_deterministic",
)
RIGHT = [*right_attentions.RIGHT, *right_sequences.RIGHT]
WRONG = [*wrong_attentions.WRONG, *wrong_sequences.WRONG]


@pytest.mark.parametrize(
    "subject",
    [pytest.param(each, marks=[pytest.mark.nightly] * (place % 3 > 0), id=each.name)
     for place, each in enumerate(RIGHT)],
)  # fmt: skip
def test_an_honest_subject_passes(subject: Subject) -> None:
    found = verdicts(subject, OWN)
    assert Verdict.PASSED in found.values()
    assert not {name: verdict for name, verdict in found.items() if not verdict.is_good}


@pytest.mark.parametrize("subject", WRONG, ids=lambda subject: subject.name)
def test_a_real_bug_fails(subject: Subject) -> None:
    assert is_found(subject, OWN)
