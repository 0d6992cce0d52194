"""A case that says nothing is left out; a check that says nothing is an error."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor
from torch.nn import functional as F

import dlcheck
from dlcheck import Subject
from dlcheck.expansion import Overrides
from dlcheck.model import Evidence, Outcome, Verdict
from dlcheck.proof import trial_of
from dlcheck.registry import Live, catalogue
from dlcheck.runner import run_trial

EXP = Subject(name="exp", target="torch:exp", kind="op", inputs={"x": "float n"})


def outcome_of(function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """What comes of a trial whose check is this function."""
    check = catalogue().checks["repeats_exactly"]
    monkeypatch.setattr("dlcheck.runner.live_check", lambda found: Live(found, function))
    return run_trial(replace(trial_of(check, EXP, Overrides(profile="quick")), minimal=False))


def test_a_case_that_says_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = itertools.count()

    def every_second(subject: object, case: object) -> Iterator[Evidence]:
        if next(turns) % 2:
            yield Evidence(error=0.0, bound=1e-9, signal=1.0)

    found = outcome_of(every_second, monkeypatch)
    assert (found.verdict, found.cases) == (Verdict.PASSED, 2)


def test_a_check_that_says_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def says_nothing(subject: object, case: object) -> Iterator[Evidence]:
        yield from ()

    found = outcome_of(says_nothing, monkeypatch)
    assert found.verdict is Verdict.ERRORED
    assert "'repeats_exactly'" in found.message
    assert found.message.endswith("measured nothing")


def losses_of_rows(prediction: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(prediction, target, reduction="none")


@pytest.mark.parametrize("seed", range(4))
def test_one_row_alone_is_no_error_of_the_check(seed: int) -> None:
    report = dlcheck.validate(
        losses_of_rows, kind="loss", options={"task": "binary", "reduction": "none"},
        checks=["reductions_agree"], profile="quick", seed=seed, device="cpu",
    )  # fmt: skip
    assert [o.verdict for o in report.outcomes] == [Verdict.PASSED]
