"""Confidences of exactly 0 and 1 count like those beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.broken import answers_nan
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
    return original(prediction[keep], *(x[keep] for x in rest))


@around
def counts_certain_rows_twice(original: Any, *inputs: Tensor) -> Any:
    """Bins that are closed at both ends."""
    sure = _certain(inputs[0])
    return original(*(torch.cat([x, x[sure]]) for x in inputs))


@around
def answers_nan_where_certain(original: Any, prediction: Tensor, *rest: Tensor) -> Any:
    """0 · log 0."""
    return original(prediction, *rest) * (torch.nan if bool(_certain(prediction).any()) else 1)


@check(
    kind="prediction_metric",
    rejects=[
        answers_nan,
        answers_nan_where_certain,
        counts_certain_rows_twice,
        drops_certain_rows,
    ],
    once=True,
)
def certain_predictions_count_like_all_others(
    score: Implementation, case: Case
) -> Iterator[Evidence]:
    """Confidences of exactly 0 and 1 give a number, that of confidences beside them.

    Probabilities [n, …] of which each third row is certain, right or wrong, against the same rows
    with 2⁻¹² and 1 − 2⁻¹² instead. In a score of bounded `range` all else is at least 1/n apart;
    the others must give a number where what is certain is right.
    """
    scored = Scored.of(score, case)
    if scored.form.as_ != "probabilities":
        raise NotApplicable("predicts no probabilities")
    low, high = scored.ends
    bounded = high - low < float("inf")
    for count in (31, 60):
        rows = scored.draw(count, f"certain {count}")
        source = rows if bounded else scored.perfect(rows)
        sure, beside = _sure(scored, rows, source, 0.0), _sure(scored, rows, source, _AWAY)
        got, expected = scored.value(sure), scored.value(beside)
        # Every row moves the score by what it moved by, times the slope; a row is worth 1/n.
        slack = 8 * _AWAY if bounded else float("inf")
        yield Evidence(
            error=abs(got - expected) if bounded else float(got != got),
            bound=slack * max(high - low, 1.0) + scored.room(sure) if bounded else 0.0,
            signal=max(abs(expected), 1.0) if bounded else 1.0,
            what="change of the score when confidences of 0 and 1 become 2⁻¹² and 1 − 2⁻¹²",
            expected=f"{expected:.9g}",
            got=f"{got:.9g}",
            cause="rows with a confidence of exactly 0 or 1 are dropped, or counted twice",
        )


def _sure(scored: Scored, rows: Rows, source: Rows, away: float) -> Rows:
    """Every third row certain of what it says in `source`, up to `away`."""
    prediction = rows[scored.prediction].double()
    says = source[scored.prediction].double()
    form, axis = scored.form, scored.axes[scored.prediction]
    if form.says == "classes":
        classes = prediction.shape[form.axis]
        best = torch.zeros_like(says)
        best.scatter_(form.axis, says.argmax(form.axis, keepdim=True), 1.0)
        certain = best * (1 - away) + (1 - best) * away / max(classes - 1, 1)
    else:
        certain = torch.where(says > 0.5, 1 - away, away)
    third = torch.arange(prediction.shape[axis], device=prediction.device) % 3 == 0
    shape = [-1 if a == axis else 1 for a in range(prediction.dim())]
    return scored.with_prediction(rows, torch.where(third.view(shape), certain, prediction))
