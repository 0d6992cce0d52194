"""Averages over classes: micro pools the counts, macro sees which class is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.broken import labelled
from dlcheck.checks.prediction_metric.classes import (
    MICRO,
    class_count,
    renamed,
    takes_class_zero_for_background,
)
from dlcheck.checks.prediction_metric.row_order import same_answer
from dlcheck.checks.prediction_metric.scored import Rows, Scored
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@around
def averages_recall_over_classes(original: Any, prediction: Tensor, target: Tensor) -> Any:
    said = labelled(prediction, target)
    shares = [(said[target == c] == c).double().mean() for c in target.unique()]
    return torch.stack(shares).mean()


@around
def averages_precision_over_classes(original: Any, prediction: Tensor, target: Tensor) -> Any:
    said = labelled(prediction, target)
    shares = [(target[said == c] == c).double().mean() for c in said.unique()]
    return torch.stack(shares).mean()


@check(
    kind="prediction_metric",
    options={"average": True},
    rejects=[
        averages_precision_over_classes,
        averages_recall_over_classes,
        takes_class_zero_for_background,
    ],
    accepts=[MICRO],
    once=True,
)
def micro_averages_see_only_right_and_wrong(
    score: Implementation, case: Case
) -> Iterator[Evidence]:
    """Counts pooled over classes do not see which class is right or wrong.

    Rows [n, …] of one label each: the classes of each row renamed for itself, prediction and
    target alike, leave a micro average. It keeps TP, FP and FN, of which all are sums over rows.
    Source: Sokolova & Lapalme, A systematic analysis of performance measures for classification
    tasks, Information Processing & Management 45(4), 2009, §3.
    """
    scored = Scored.of(score, case)
    if scored.average != "micro":
        raise NotApplicable("no micro average is declared")
    class_count(scored, 3)
    for count in (31, 60):
        rows = scored.draw(count, f"pooled {count}")
        before, after = scored.answer(rows), scored.answer(_each_renamed(scored, rows))
        what = "change of a micro average when each row renames its classes"
        yield same_answer(scored, before, after, rows, what, cause="it weighs classes: macro?")


def _each_renamed(scored: Scored, rows: Rows) -> Rows:
    """Every row with its classes turned by another step."""
    classes, target = scored.form.classes, rows[scored.target]
    axis, count = scored.axes[scored.target], scored.count(rows)
    parts = []
    for row in range(count):
        one = scored.take(rows, [row])
        order = (torch.arange(classes) + (row * row) % classes) % classes
        parts.append(renamed(scored, one, order))
    assert target.shape[axis] == count
    return scored.joined(*parts)


@around
def pools_the_counts(original: Any, prediction: Tensor, target: Tensor) -> Any:
    return (labelled(prediction, target) == target).double().mean()


@around
def answers_the_error_rate(original: Any, prediction: Tensor, target: Tensor) -> Any:
    return (labelled(prediction, target) != target).double().mean()


@around
def answers_jaccard_of_the_pool(original: Any, prediction: Tensor, target: Tensor) -> Any:
    right = (labelled(prediction, target) == target).double().sum()
    return right / (2 * target.numel() - right)


@check(
    kind="prediction_metric",
    options={"average": True},
    rejects=[answers_jaccard_of_the_pool, answers_the_error_rate, pools_the_counts],
    once=True,
)
def macro_averages_see_which_class_is_wrong(score: Implementation, case: Case) -> Evidence:
    """A macro average changes with the classes in which the mistakes are.

    Rows [n, …] of classes of unequal size; the classes of each row renamed for itself keep what
    is right and wrong, and must change the value in one of four draws: else it is micro. Not of
    rows of many targets: a mean over rows of what is macro within a row may keep its value.
    """
    scored = Scored.of(score, case)
    if scored.average != "macro":
        raise NotApplicable("no macro average is declared")
    if scored.count_dims > 1:
        raise NotApplicable("a row has several targets: classes may be averaged within each row")
    class_count(scored, 3)
    moved = []
    for draw in range(4):
        rows = scored.draw(40, f"weighed {draw}")
        moved.append(abs(scored.value(_each_renamed(scored, rows)) - scored.value(rows)))
    largest, least = max(moved), 2 * scored.room(rows)
    return Evidence(
        error=float(largest <= least),
        bound=0.0,
        signal=1.0,
        what="macro average that never changes with the class of the mistakes",
        expected=f"a change above {least:.3g}",
        got=f"{largest:.3g}",
        cause="counts are pooled over classes: micro instead of macro",
    )
