"""What a perfect prediction scores, what a wrong one does, and between which values all lie."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.broken import (
    adds_a_hundredth,
    answers_nan,
    negates,
    number,
    sees_only_the_target,
    shifts_the_targets,
    takes_one_minus,
)
from dlcheck.checks.prediction_metric.scored import Rows, Scored
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_MANY = 700  # rows, of which a byte counts those of no class of two
_GUARD = 2.0**-11  # an eps of at most √u of float32 beside a count of at least one


@around
def swings_beyond(original: Any, *inputs: Tensor) -> Any:
    """Far above for an even number of rows, far below for an odd one."""
    value = number(original(*inputs))
    return value + (10 + 10 * abs(value)) * (1 - 2 * (len(inputs[0]) % 2))


@around
def answers_nan_of_few_rows(original: Any, *inputs: Tensor) -> Any:
    return number(original(*inputs)) * (torch.nan if len(inputs[0]) < 30 else 1)


@check(
    kind="prediction_metric",
    options={"perfect": True},
    rejects=[adds_a_hundredth, answers_nan, shifts_the_targets],
    once=True,
)
def perfect_predictions_score_perfect(score: Implementation, case: Case) -> Iterator[Evidence]:
    """A prediction that says every target scores `perfect`.

    Targets [n, …] of all classes, or of values that differ; and, unless `perfect_where` leaves
    them out, targets that are all alike, of which none is positive. 700 rows of one target each
    overflow what is counted in bytes. An ε ≤ 2⁻¹² beside a count may move the value by 2⁻¹¹. A
    refusal of targets that are all alike is no failure.
    """
    scored = Scored.of(score, case)
    for rows in (31, 60) if scored.count_dims > 1 else (31, 60, _MANY):
        yield _perfect(scored, scored.draw(rows, f"perfect {rows}"), f"{rows} rows")
    for target, what in _alike(scored):
        drawn = scored.with_target(scored.draw(31, "alike"), target)
        with contextlib.suppress(SubjectRaised):
            yield _perfect(scored, drawn, what, cause="declare perfect_where, if that is so")


def _perfect(scored: Scored, drawn: Rows, what: str, cause: str = "") -> Evidence:
    rows = scored.perfect(drawn)
    got, expected = scored.value(rows), scored.perfect_value
    same = got == expected  # both infinite, of a PSNR
    return Evidence(
        error=0.0 if same else abs(got - expected),
        bound=scored.room(rows, 1.0) + _GUARD * max(abs(expected), 1.0)
        if math.isfinite(expected)
        else 0.0,
        signal=max(abs(expected), 1.0) if math.isfinite(expected) else 1.0,
        what=f"value of a perfect prediction of {what}",
        expected=f"{expected:.9g}",
        got=f"{got:.9g}",
        cause="" if same else cause,
    )


def _alike(scored: Scored) -> Iterator[tuple[Tensor, str]]:
    """Targets that are all alike, where the declaration says that a perfect score is had there."""
    where = scored.subject.options.get("perfect_where")
    form, target = scored.form, scored.draw(31, "alike")[scored.target]
    if where in ("nonconstant", "all_classes") or form.classes > 2 or scored.count_dims > 1:
        return
    if form.says == "classes" or "average" in scored.subject.options:
        return  # a class is absent, on which conventions differ
    highest = torch.full_like(target, target.max().item())
    yield highest, "targets that are all the highest"
    if form.classes and where != "has_positives":
        yield torch.full_like(target, target.min().item()), "targets of which none is positive"


@check(
    kind="prediction_metric",
    options={"range": True},
    rejects=[answers_nan, answers_nan_of_few_rows, swings_beyond],
    once=True,
)
def scores_keep_to_their_range(score: Implementation, case: Case) -> Iterator[Evidence]:
    """low ≤ score ≤ high as `range` declares, and never NaN.

    Rows [n, …] with usual, tied, perfect and wrong predictions, odd and even n.
    """
    scored = Scored.of(score, case)
    low, high = scored.ends
    for rows, what in _all_sorts(scored):
        value = scored.value(rows)
        outside = max(low - value, value - high, 0.0) if value == value else math.nan
        finite = [abs(end) for end in (low, high) if math.isfinite(end)]
        yield Evidence(
            error=outside,
            bound=scored.room(rows, max(finite, default=1.0)),
            signal=max([1.0, *finite]),
            what=f"distance of the score from its range, {what}",
            expected=f"{low:g} to {high:g}",
            got=f"{value:.9g}",
        )


def _all_sorts(scored: Scored) -> Iterator[tuple[Rows, str]]:
    for count in (24, 31):
        rows = scored.draw(count, f"range {count}")
        yield rows, f"{count} usual rows"
        yield scored.draw(count, f"tied {count}", tied=True), f"{count} tied rows"
        yield scored.perfect(rows), f"{count} perfect predictions"
        with contextlib.suppress(NotApplicable):
            yield wrong(scored, rows), f"{count} wrong predictions"


def wrong(scored: Scored, rows: Rows) -> Rows:
    """The same targets with predictions that are as wrong as can be.

    Labels: another class each. Scores: those of the other label. Values: those of other rows in
    the opposite order, so that a correlation is negative and no domain is left.
    """
    form, target = scored.form, rows[scored.target]
    if form.classes:
        if form.classes < 2:
            raise NotApplicable("one class cannot be wrong")
        return scored.with_prediction(rows, form.saying(scored.other_classes(target)))
    if form.prediction != form.target or not scored.axes_are_first:
        raise NotApplicable("which prediction is wrong is not known")
    flat = target.reshape(len(target), -1)
    order = flat.argsort(0)
    opposite = torch.empty_like(flat).scatter_(0, order, flat.gather(0, order.flip(0)))
    return scored.with_prediction(rows, opposite.view_as(target))


@check(
    kind="prediction_metric",
    options={"better": ["higher", "lower"], "perfect": True},
    rejects=[negates, sees_only_the_target, takes_one_minus],
    once=True,
)
def wrong_predictions_score_worse(score: Implementation, case: Case) -> Iterator[Evidence]:
    """Predictions that are all wrong score worse than perfect ones, as `better` has it.

    Rows [n, …]; wrong: another class each, the other label, or the targets in opposite order.
    The usual predictions score no better than perfect ones either.
    """
    scored = Scored.of(score, case)
    sign = -1.0 if score.options["better"] == "lower" else 1.0
    usual = scored.draw(31, "worse")
    best = sign * scored.value(scored.perfect(usual))
    for rows, what, needed in (
        (wrong(scored, usual), "all wrong", 1e-3),
        (usual, "as usual", 0.0),
    ):
        value = sign * scored.value(rows)
        size = max(abs(best), 1.0) if math.isfinite(best) else 1.0
        rise = 0.0 if value == -math.inf or best == math.inf else value + needed * size - best
        yield Evidence(
            error=math.nan if value != value else max(rise, 0.0),
            bound=min(scored.room(rows, size), 5e-4 * size),
            signal=size,
            what=f"rise of the score from perfect predictions to predictions {what}",
            expected=f"{'below' if sign > 0 else 'above'} {sign * best:.9g}",
            got=f"{sign * value:.9g}",
        )


def _r2_by_the_predictions_variance(prediction: Tensor, target: Tensor) -> Tensor:
    spread = (prediction - prediction.mean()).square().sum()
    return 1 - (prediction - target).square().sum() / (spread + 1e-12)


def _roc_without_ties(prediction: Tensor, target: Tensor) -> Tensor:
    pairs = prediction[target == 1][:, None] > prediction[target == 0]
    return pairs.double().mean()


@check(
    kind="prediction_metric",
    options={"uninformed": True},
    rejects=[
        adds_a_hundredth,
        answers_nan,
        Subject(
            name="r2_by_the_predictions_variance",
            target=_r2_by_the_predictions_variance,
            kind="prediction_metric",
            inputs={"prediction": "float n", "target": "float n"},
            options={"uninformed": 0.0},
        ),
        Subject(
            name="roc_without_ties",
            target=_roc_without_ties,
            kind="prediction_metric",
            options={"task": "binary", "uninformed": 0.5},
        ),
    ],
    once=True,
)
def uninformed_predictions_score_as_declared(
    score: Implementation, case: Case
) -> Iterator[Evidence]:
    """A prediction that is the same for every row scores `uninformed`.

    Rows [n, …]: the mean of the targets for values, even scores where each class has one, one
    score or class for every row otherwise.
    """
    scored = Scored.of(score, case)
    expected = scored.stated("uninformed")
    for count in (24, 31):
        rows = scored.draw(count, f"uninformed {count}")
        got = scored.value(scored.with_prediction(rows, _same_for_all(scored, rows)))
        yield Evidence(
            error=abs(got - expected),
            bound=scored.room(rows, expected) + _GUARD,
            signal=max(abs(expected), 1.0),
            what="value of one prediction for every row",
            expected=f"{expected:.9g}",
            got=f"{got:.9g}",
        )


def _same_for_all(scored: Scored, rows: Rows) -> Tensor:
    prediction, axis = rows[scored.prediction], scored.axes[scored.prediction]
    if scored.form.says == "values":
        mean = rows[scored.target].mean(scored.axes[scored.target], keepdim=True)
        return mean.expand_as(prediction).clone()
    if scored.form.says == "classes":
        even = torch.zeros(*prediction.movedim(scored.form.axis, -1).shape, dtype=torch.float64)
        return scored.form.of_classes(even)
    return prediction.narrow(axis, 0, 1).expand_as(prediction).clone()
