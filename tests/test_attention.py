"""Honest attention passes every check of its kind; each real bug fails one."""

from __future__ import annotations

import pytest
from right_attentions import RIGHT
from verdicts import verdicts
from wrong_attentions import WRONG

from dlcheck import Subject
from dlcheck.model import Verdict

OWN = ("dlcheck.checks.attention.*", "dlcheck.checks.layer.modes:eval_is_deterministic")


@pytest.mark.parametrize("subject", RIGHT, ids=lambda subject: subject.name)
def test_honest_attention_passes(subject: Subject) -> None:
    found = verdicts(subject, OWN)
    assert Verdict.PASSED in found.values()
    assert not {name: verdict for name, verdict in found.items() if not verdict.is_good}


@pytest.mark.parametrize("subject", WRONG, ids=lambda subject: subject.name)
def test_a_real_bug_fails(subject: Subject) -> None:
    assert Verdict.FAILED in verdicts(subject, OWN, "default").values()
