"""Confidences of exactly 0 and 1 count."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.broken import answers_nan, or_nan
from dlcheck.checks.prediction_metric.scored import Rows, Scored
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_AWAY = 2.0**-12  # from 0 and 1: far inside of any bin, far above the rounding of float32


def _certain(prediction: Tensor) -> Tensor:
    """Which rows are sure of something: bool [n]."""
    if prediction.dim() == 1:
        return (prediction == 0) | (prediction == 1)
    return (prediction == 1).flatten(1).any(1)


@around
def drops_certain_rows(original: Any, prediction: Tensor, *rest: Tensor) -> Any:
    """The last bin is [0.9, 1), and a confidence of 1 in none."""
    keep = ~_certain(prediction)
    return or_nan(original, prediction[keep], *(x[keep] for x in rest))


@around
def takes_certain_rows_for_right(original: Any, prediction: Tensor, target: Tensor) -> Any:
    """A gap between a confidence of 1 and the accuracy that is looked up in the bin beside it."""
    sure = _certain(prediction)
    said = prediction.argmax(-1) if prediction.dim() > 1 else prediction.round()
    return original(prediction, torch.where(sure, said.to(target), target))


@around
def answers_nan_where_certain(original: Any, prediction: Tensor, *rest: Tensor) -> Any:
    """0 · log 0."""
    return original(prediction, *rest) * (torch.nan if bool(_certain(prediction).any()) else 1)


@check(
    kind="prediction_metric",
    rejects=[
        answers_nan,
        answers_nan_where_certain,
        drops_certain_rows,
        takes_certain_rows_for_right,
    ],
    once=True,
)
def certain_predictions_count_like_all_others(
    score: Implementation, case: Case
) -> Iterator[Evidence]:
    """Confidences of exactly 0 and of exactly 1 give a number, and their targets count.

    Probabilities [n, …] of which each third row is certain, with targets that are all what those
    rows say, and all something else. Where this changes the score at confidences of 2⁻¹² and
    1 − 2⁻¹² by more than rounding, it does at 0 and 1 too: no bin, no threshold and no logarithm
    is that near to them. Where the range has no end, a certain mistake may cost infinity, and the
    score is to be a number where what is certain is right.
    """
    scored = Scored.of(score, case)
    if scored.form.as_ != "probabilities" or scored.form.classes < 2:
        raise NotApplicable("predicts no probabilities of classes")
    low, high = scored.ends
    for said, count in ((1.0, 31), (0.0, 31), (1.0, 60), (0.0, 60)):
        rows = scored.draw(count, f"certain {count}")
        right, wrong = _certain_rows(scored, rows, said, 0.0)
        got = scored.value(right)
        counts, other = True, got
        if high - low < math.inf:
            other = scored.value(wrong)
            near, far = (scored.value(r) for r in _certain_rows(scored, rows, said, _AWAY))
            counts = abs(got - other) > scored.room(rows) or abs(near - far) <= scored.room(rows)
        yield Evidence(
            error=math.nan if got != got or other != other else float(not counts),
            bound=0.0,
            signal=1.0,
            what=f"no change of the score with the targets of rows of confidence {said:g}",
            expected=f"a change, as with those of confidence {abs(said - _AWAY):.5g}",
            got=f"{got:.9g} when they are right, {other:.9g} when they are wrong",
            cause="" if counts else f"rows with a confidence of exactly {said:g} are dropped",
        )


def _certain_rows(scored: Scored, rows: Rows, said: float, away: float) -> tuple[Rows, Rows]:
    """Every third row certain up to `away`, with targets that are all right, and all wrong.

    said: the confidence of a yes. Of several classes the best one has 1, and the others 0.
    """
    form, prediction = scored.form, rows[scored.prediction].double()
    target = rows[scored.target]
    if form.says == "classes":
        best = prediction.argmax(form.axis)
        certain = torch.zeros_like(prediction)
        certain.scatter_(form.axis, best.unsqueeze(form.axis), 1.0)
        certain = (1 - away) * certain + away / form.classes
    else:
        certain = torch.full_like(prediction, abs(said - away))
        best = torch.full_like(target, target.max().item() if said else target.min().item())
    third = torch.arange(scored.count(rows), device=target.device) % 3 == 0
    sure = scored.with_prediction(
        rows, torch.where(_along(third, prediction, scored, scored.prediction), certain, prediction)
    )
    marked = _along(third, target, scored, scored.target)
    right = torch.where(marked, best.to(target), target)
    wrong = torch.where(marked, scored.other_classes(best.to(target)), target)
    return scored.with_target(sure, right), scored.with_target(sure, wrong)


def _along(rows: Tensor, x: Tensor, scored: Scored, name: str) -> Tensor:
    """A mask of rows [n] in the shape that x is compared with."""
    axis = scored.axes[name]
    return rows.view([-1 if a == axis else 1 for a in range(x.dim())])
