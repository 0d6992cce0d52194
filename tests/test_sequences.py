"""Honest positions and recurrences pass every check of their kind; each real bug fails one."""

from __future__ import annotations

import pytest
from right_sequences import RIGHT
from verdicts import verdicts
from wrong_sequences import WRONG

from dlcheck import Subject
from dlcheck.model import Verdict

OWN = (
    "dlcheck.checks.positional.*",
    "dlcheck.checks.recurrent.*",
    "dlcheck.checks.layer.modes:eval_is_deterministic",
)


@pytest.mark.parametrize("subject", RIGHT, ids=lambda subject: subject.name)
def test_honest_sequence_passes(subject: Subject) -> None:
    found = verdicts(subject, OWN)
    assert Verdict.PASSED in found.values()
    assert not {name: verdict for name, verdict in found.items() if not verdict.is_good}


@pytest.mark.parametrize("subject", WRONG, ids=lambda subject: subject.name)
def test_a_real_bug_fails(subject: Subject) -> None:
    assert Verdict.FAILED in verdicts(subject, OWN, "default").values()
