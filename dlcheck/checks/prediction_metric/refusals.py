"""A score that promises to validate refuses what it cannot score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.scored import Rows, Scored
from dlcheck.errors import SubjectRaised
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@around
def answers_anyway(original: Any, *inputs: Tensor) -> Any:
    try:
        return original(*inputs)
    except (ValueError, TypeError):
        return torch.zeros(())


@around
def answers_nan_instead(original: Any, *inputs: Tensor) -> Any:
    try:
        return original(*inputs)
    except (ValueError, TypeError):
        return torch.tensor(torch.nan)


@around
def cuts_to_the_shorter(original: Any, *inputs: Tensor) -> Any:
    """As zip does: rows without a partner are dropped."""
    rows = min(map(len, inputs))
    return original(*(x[:rows] for x in inputs))


@check(
    kind="prediction_metric",
    needs={"validates"},
    rejects=[answers_anyway, answers_nan_instead, cuts_to_the_shorter],
    once=True,
)
def what_cannot_be_scored_is_refused(score: Implementation, case: Case) -> Iterator[Evidence]:
    """Bad rows raise before anything is scored, instead of giving a number.

    One NaN among the predictions, one row less in the target, no rows at all, a label that is
    beyond the classes, logits where probabilities are declared.
    """
    scored = Scored.of(score, case)
    for rows, what in _bad(scored):
        refused = False
        try:
            scored.rebuilt().answer(rows)
        except SubjectRaised:
            refused = True
        yield Evidence(
            error=float(not refused),
            bound=0.0,
            signal=1.0,
            what=f"answers {what} with a number",
            expected="an error that says what is wrong",
        )


def _bad(scored: Scored) -> Iterator[tuple[Rows, str]]:
    rows = scored.draw(40, "bad")
    prediction, target = rows[scored.prediction], rows[scored.target]
    if prediction.is_floating_point():
        holed = prediction.contiguous().clone()
        holed.view(-1)[holed.numel() // 2] = torch.nan
        yield {**rows, scored.prediction: holed}, "a prediction with NaN"
    shorter = target.narrow(scored.axes[scored.target], 0, 39)
    yield {**rows, scored.target: shorter}, "39 targets for 40 predictions"
    yield scored.take(rows, []), "no rows"
    if scored.form.classes and scored.case.specs[scored.target].count is not None:
        beyond = target.contiguous().clone()
        beyond.view(-1)[3] = scored.form.classes
        yield {**rows, scored.target: beyond}, f"a label {scored.form.classes}"
    if scored.form.as_ == "probabilities":
        yield {**rows, scored.prediction: 6 * prediction - 3}, "logits for probabilities"
