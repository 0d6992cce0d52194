"""Classes: their names mean nothing, one may be absent, and averages over them differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.broken import answers_nan, number, or_nan
from dlcheck.checks.prediction_metric.row_order import same_answer
from dlcheck.checks.prediction_metric.scored import Rows, Scored
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_SYMMETRIC = ("macro", "micro", "weighted")
MICRO = Subject(
    name="micro_f_score",
    target="dlcheck.references.metrics.confusion:ClassScore",
    kind="prediction_metric",
    args={"average": "micro"},
)
_EACH = replace(MICRO, name="f_score_of_each_class", args={"average": "none"})


def _chosen(original: Any, inputs: tuple[Tensor, ...], keep: Tensor) -> Any:
    """The answer for these rows, and the first of the others, alone."""
    keep = keep | (~keep & ((~keep).cumsum(0) == 1))
    return or_nan(original, *(x[keep] for x in inputs))


def _first_label(target: Tensor) -> Tensor:
    return target.flatten(1)[:, 0] if target.dim() > 1 else target


@around
def takes_class_zero_for_background(original: Any, *inputs: Tensor) -> Any:
    return _chosen(original, inputs, _first_label(inputs[1]) != 0)


@around
def forgets_the_last_class(original: Any, *inputs: Tensor) -> Any:
    target = _first_label(inputs[1])
    return _chosen(original, inputs, target < target.max())


@around
def counts_class_one_twice(original: Any, *inputs: Tensor) -> Any:
    place = (_first_label(inputs[1]) == 1).nonzero()[:, 0]
    return original(*(torch.cat([x, x[place]]) for x in inputs))


@check(
    kind="prediction_metric",
    rejects=[counts_class_one_twice, forgets_the_last_class, takes_class_zero_for_background],
    accepts=[MICRO, _EACH],
    once=True,
)
def renaming_classes_changes_no_score(score: Implementation, case: Case) -> Iterator[Evidence]:
    """The score does not depend on which class has which number; values of classes move along.

    Rows [n, …] as usual, the classes of prediction and target renamed alike. For averages macro,
    micro and weighted, for values of each class (`average` none), and where `renaming` says so.
    The label of `ignore_index` keeps its name.
    """
    scored = Scored.of(score, case)
    is_renamed = score.options.get("renaming") is True
    average = scored.average if "average" in score.options else ""
    if not is_renamed and average not in (*_SYMMETRIC, "none"):
        raise NotApplicable("no average over classes is declared, and renaming is not")
    classes = class_count(scored, 2)
    named = torch.tensor([c for c in range(classes) if c != scored.ignored])
    if len(named) < 2:
        raise NotApplicable("one class has a name, beside the ignored label")
    for count in (31, 60):
        rows = scored.draw(count, f"renaming {count}")
        shuffled = torch.randperm(len(named), generator=case.generator(f"names {count}"))
        order = torch.arange(classes)
        order[named] = named.roll(1) if count == 31 else named[shuffled]
        before, after = scored.answer(rows), scored.answer(renamed(scored, rows, order))
        if average == "none" and not is_renamed:
            if before.numel() != classes:
                raise NotApplicable("answers something else than one number for each class")
            before = torch.empty_like(before).scatter_(0, order, before)
        what = "change of the score when classes are renamed"
        yield same_answer(scored, before, after, rows, what)


def class_count(scored: Scored, least: int) -> int:
    """How many classes there are. Raises NotApplicable for less than `least`."""
    form = scored.form
    if form.says not in ("labels", "classes") or form.target.count is None:
        raise NotApplicable("predicts no classes")
    if form.classes < least:
        raise NotApplicable(f"has {form.classes} classes, and {least} are needed")
    return form.classes


def renamed(scored: Scored, rows: Rows, order: Tensor) -> Rows:
    """Class c becomes order[c], in the target and in the prediction."""
    order = order.to(rows[scored.target].device)
    rows = scored.with_target(rows, order[rows[scored.target]])
    prediction = rows[scored.prediction]
    if scored.form.says == "labels":
        return scored.with_prediction(rows, order[prediction])
    return scored.with_prediction(rows, prediction.index_select(scored.form.axis, order.argsort()))


@around
def answers_nan_without_a_class(original: Any, *inputs: Tensor) -> Any:
    return number(original(*inputs)) * (torch.nan if _missing(inputs) else 1)


@around
def counts_an_absent_class_as_zero(original: Any, *inputs: Tensor) -> Any:
    many = int(inputs[1].max()) + 1
    return number(original(*inputs)) * (many - _missing(inputs)) / many


@around
def counts_an_absent_class_as_minus_one(original: Any, *inputs: Tensor) -> Any:
    many, missing = int(inputs[1].max()) + 1, _missing(inputs)
    return (number(original(*inputs)) * (many - missing) - missing) / many


def _missing(inputs: tuple[Tensor, ...]) -> int:
    """How many classes below the highest one of the target it does not name."""
    target = inputs[1]
    return int(target.max()) + 1 - len(target.unique())


@check(
    kind="prediction_metric",
    options={"absent_classes": True, "perfect": True},
    rejects=[
        answers_nan_without_a_class,
        counts_an_absent_class_as_minus_one,
        counts_an_absent_class_as_zero,
    ],
    once=True,
)
def absent_classes_count_as_declared(score: Implementation, case: Case) -> Iterator[Evidence]:
    """A perfect prediction of targets without some class scores as `absent_classes` says.

    `perfect` where an absent class is ignored or counts one; (k − 1)/k of it where it counts zero
    in a macro average; anything, NaN too, where it is nan. Rows [n, …] without class 0, and
    without two classes.
    """
    scored = Scored.of(score, case)
    classes, perfect = class_count(scored, 4), scored.perfect_value
    says = str(score.options["absent_classes"])
    if says == "nan" or (says == "zero" and scored.average != "macro"):
        raise NotApplicable(f"absent_classes = {says} says no value of this average")
    for without in ((0,), (0, 2)):
        rows = scored.perfect(_without(scored, scored.draw(40, f"absent {without}"), without))
        share = (classes - len(without)) / classes if says == "zero" else 1.0
        got, expected = scored.value(rows), perfect * share
        yield Evidence(
            error=abs(got - expected),
            bound=scored.room(rows) + 2.0**-11,
            signal=max(abs(expected), 1.0) if math.isfinite(expected) else 1.0,
            what=f"value of a perfect prediction of targets without class {list(without)}",
            expected=f"{expected:.9g}",
            got=f"{got:.9g}",
        )


@check(
    kind="prediction_metric",
    rejects=[
        answers_nan,
        answers_nan_without_a_class,
        Subject(
            name="iou_without_a_union",
            target="dlcheck.checks.prediction_metric.classes:iou_without_a_union",
            kind="prediction_metric",
            args={"classes": {"dim": "k"}},
            options={"task": "classification"},
        ),
    ],
    once=True,
)
def an_absent_class_leaves_a_number(score: Implementation, case: Case) -> Iterator[Evidence]:
    """Rows of which none names a class, neither as target nor as prediction, score a number.

    Not NaN; for a score of each class, not more NaN than absent classes. Rows [n, …] without
    class 0, and without the last. A refusal is no failure. `absent_classes = "nan"` and
    `perfect_where = "all_classes"` declare otherwise.
    """
    scored = Scored.of(score, case)
    classes = class_count(scored, 3)
    stated = score.options.get("absent_classes"), score.options.get("perfect_where")
    if stated[0] == "nan" or stated[1] == "all_classes":
        raise NotApplicable("an absent class is declared to leave no number")
    refused = None
    for without in (0, classes - 1):
        rows = _without(scored, scored.draw(31, f"missing {without}"), (without,))
        try:
            found = scored.answer(rows)
        except SubjectRaised as error:
            refused = error
            continue
        allowed = 0 if found.numel() == 1 else 1
        spoilt = int((found != found).sum())
        yield Evidence(
            error=float(max(spoilt - allowed, 0)),
            bound=0.0,
            signal=1.0,
            unit="NaN",
            what=f"NaN in the score of rows without class {without}",
            got=f"{spoilt} of {found.numel()} numbers",
        )
    if refused is not None:
        raise NotApplicable(f"it refuses rows without some class: {refused.__cause__}")


def _without(scored: Scored, rows: Rows, absent: tuple[int, ...]) -> Rows:
    """The rows with these classes taken for the next one that is there."""
    order = torch.arange(scored.form.classes)
    for c in absent:
        order[c] = next(
            d for d in (order + 1).tolist() if d % len(order) not in absent and d > c
        ) % len(order)
    order = order.to(rows[scored.target].device)
    rows = scored.with_target(rows, order[rows[scored.target]])
    prediction = rows[scored.prediction]
    if scored.form.says == "labels":
        return scored.with_prediction(rows, order[prediction])
    axis = scored.form.axis
    changed = prediction.clone()
    for c in absent:  # a class that is never the best, and has no mass
        least = prediction.amin(axis) - 1 if scored.form.as_ in ("logits", "values") else 0.0
        least = -60.0 if scored.form.as_ == "log_probabilities" else least
        changed.select(axis, c).copy_(torch.as_tensor(least).to(changed))
    if scored.form.as_ == "probabilities":
        changed = changed / changed.sum(axis, keepdim=True)
    return scored.with_prediction(rows, changed)


def iou_without_a_union(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """The mean over classes of |P ∩ T| / |P ∪ T|, 0 / 0 among them: what must be found."""
    values = []
    for c in range(classes):
        p, t = prediction == c, target == c
        values.append((p & t).sum() / (p | t).sum())
    return torch.stack(values).mean()
