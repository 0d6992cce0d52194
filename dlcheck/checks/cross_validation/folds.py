"""Each fold trains a new model on its own rows, and scores it on rows that it never saw."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dlcheck.checks.cross_validation import broken
from dlcheck.checks.cross_validation.recorder import (
    FITTED,
    SEEN,
    Plan,
    Ran,
    expected_scores,
    observed,
    plans,
    run,
    scorers,
    weights,
)
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROUNDED = 2.0**-40  # of sums of numbers up to 11, whose order is free: 10³ roundings


def _folded(subject: Implementation, plan: Plan, ran: Ran) -> Plan:
    """The plan, with the folds that were made where only their number was given."""
    if subject.options.get("folds", "pairs") == "pairs":
        return plan
    rows = np.arange(len(plan.values))
    tests = [scored for model in ran.log.models for scored in model.scored[:1]]
    return Plan(plan.x, plan.values, [(np.setdiff1d(rows, test), test) for test in tests])


def _ran(subject: Implementation, case: Case) -> Iterator[tuple[Plan, Ran]]:
    for plan in plans(subject, case):
        ran = observed(subject, plan)
        yield _folded(subject, plan, ran), ran


@check(
    kind="cross_validation",
    options={"candidates": False},
    rejects=[
        broken.trains_on_all_rows,
        broken.scores_on_train,
        broken.keeps_one_model,
        broken.starts_from_a_model_of_all_rows,
        broken.shifts_the_end_of_train,
    ],
    once=True,
    textbook={
        "id": "R10",
        "says": "Model selection by cross-validation",
        "verdict": "true if",
        "condition": "folds are disjoint and covering, and everything that is fitted, features and "
        "scales too, is fitted inside the fold",
    },
)
def scores_are_of_rows_never_seen(subject: Implementation, case: Case) -> Evidence:
    """No score is that of a model that was fitted to a row it is scored on.

    The model remembers every row: a share ε of seen rows adds 1,000 ε to its score, where the
    rest is at most 11. Scores of train that are made beside do not count, what is returned does.
    Source: Stone, Cross-Validatory Choice and Assessment of Statistical Predictions, JRSS B 36,
    1974, section 2.
    """
    leak, seen, where = 0.0, 0, ""
    for plan, ran in _ran(subject, case):
        for number, score in enumerate(ran.scores):
            share = max(0.0, score - FITTED - 1) / SEEN
            leak, seen = leak + share, seen + 1
            if share and not where:
                where = f"score {number} of {len(plan.folds)} folds: {share:.2g} of its rows"
    return Evidence(
        error=leak,
        bound=0.0,
        signal=float(max(seen, 1)),
        unit="shares",
        what="scored rows that the model was fitted to",
        where=where,
        cause="train holds test rows, or a model goes on from fold to fold" if leak else "",
    )


@check(
    kind="cross_validation",
    options={"candidates": False},
    rejects=[
        broken.keeps_one_model,
        broken.trains_on_half,
        broken.trains_on_the_next_fold,
        broken.starts_from_a_model_of_all_rows,
        broken.trains_on_the_first_rows,
    ],
    once=True,
)
def folds_start_afresh(subject: Implementation, case: Case) -> Evidence:
    """The model that is scored on a fold was built anew and fitted to the fold's train rows alone.

    The rows of all its fits are compared with the fold's, as a model that is kept has those of
    other folds in its weights, its optimizer and its running statistics. Exact: the bound is 0.
    """
    off, seen, where = 0, 0, ""
    for plan, ran in _ran(subject, case):
        for number, (train, test) in enumerate(plan.folds):
            models = scorers(ran.log, test.tolist())
            wrong = min(
                (len(np.setxor1d(model.seen, train)) for model in models), default=len(train)
            )
            off, seen = off + wrong, seen + len(train)
            if wrong and not where:
                where = f"{wrong} rows foreign or missing in fold {number}"
    return Evidence(
        error=float(off),
        bound=0.0,
        signal=float(seen),
        unit="rows",
        what="rows of a model's fits that are not those of its fold",
        where=where,
    )


@check(
    kind="cross_validation",
    options={"candidates": False},
    rejects=[
        broken.drops_the_last_fold,
        broken.scores_the_first_fold_again,
        broken.scores_the_folds_backwards,
        broken.rounds_the_scores,
        broken.weighs_the_first_fold_double,
    ],
    once=True,
)
def scores_are_those_of_the_folds(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """One score a fold, in their order; or the mean that is declared, of folds or of rows.

    The score of every model is known. Folds have unequal sizes, so that the mean over folds and
    that over rows differ. The bound is 2⁻⁴⁰ of the largest score: the order of a sum.
    """
    for plan, ran in _ran(subject, case):
        wanted = np.array(expected_scores(plan))
        returns = subject.options.get("returns", "scores")
        if returns != "scores":
            share = weights(plan) if returns == "weighted_mean" else np.full(len(wanted), 1.0)
            wanted = np.array([np.average(wanted, weights=share)])
        same = len(wanted) == len(ran.scores)
        error = float(np.abs(wanted - ran.scores).max()) if same else float("inf")
        yield Evidence(
            error=error,
            bound=_ROUNDED * float(np.abs(wanted).max()),
            signal=float(np.abs(wanted).max()),
            what="scores" if returns == "scores" else f"the {returns.replace('_', ' ')}",
            expected=", ".join(f"{score:.4g}" for score in wanted),
            got=", ".join(f"{score:.4g}" for score in ran.scores[:8]),
        )


@check(
    kind="cross_validation",
    options={"candidates": False, "folds": [None, "pairs"], "returns": [None, "scores"]},
    rejects=[
        broken.makes_its_own_folds,
        broken.sorts_the_targets,
        broken.trains_on_the_first_rows,
        broken.always_tests_the_last_row,
    ],
    once=True,
)
def order_of_the_rows_does_not_matter(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The table in another order, with the folds' indices moved along, has the same scores.

    The bound is 2⁻⁴⁰ of the largest: the order of a sum.
    """
    for plan in plans(subject, case):
        permutation = np.random.default_rng(len(plan.x)).permutation(len(plan.x))
        place = np.argsort(permutation)
        moved = [(place[train], place[test]) for train, test in plan.folds]
        here = observed(subject, plan).scores
        there = run(subject, plan.x, plan.values, moved, permutation).scores
        same = len(here) == len(there)
        yield Evidence(
            error=float(np.abs(np.subtract(here, there)).max()) if same else float("inf"),
            bound=_ROUNDED * max(map(abs, here)),
            signal=max(map(abs, here)),
            what="change of the scores when the rows are permuted",
        )


@check(
    kind="cross_validation",
    options={"candidates": False},
    rejects=[
        broken.standardizes_before_it_splits,
        broken.squashes_by_the_scale_of_all_rows,
        broken.clips_at_a_quantile_of_all_rows,
        broken.ranks_over_all_rows,
        broken.orders_columns_by_all_rows,
    ],
    once=True,
    textbook={
        "id": "R10",
        "says": "Model selection by cross-validation",
        "verdict": "true if",
        "condition": "folds are disjoint and covering, and everything that is fitted, features and "
        "scales too, is fitted inside the fold",
    },
)
def inputs_are_prepared_inside_the_fold(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """What a fold's model is fitted to does not depend on the inputs of the fold's test rows.

    For each fold in turn the inputs of its test rows are made a thousand times as large; the
    inputs with which the model of that fold is fitted must stay the same, whatever is done to
    them. The bound is 2⁻⁴⁰ of the largest: the grouping of the same sums.
    Source: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., 7.10.2.
    """
    for plan, ran in _ran(subject, case):
        off, size = 0.0, 1.0
        for _, test in plan.folds:
            x = plan.x.copy()
            x[test] *= 1000.0
            changed = run(subject, x, plan.values, plan.folds)
            before, after = (scorers(log, test.tolist()) for log in (ran.log, changed.log))
            if not before or len(before) != len(after):
                continue
            for old, new in zip(before, after, strict=True):
                for a, b in zip(old.inputs, new.inputs, strict=False):
                    size = max(size, float(np.abs(a).max()))
                    difference = np.abs(a - b).max() if a.shape == b.shape else np.inf
                    off = max(off, float(difference))
        yield Evidence(
            error=off,
            bound=_ROUNDED * size,
            signal=size,
            what="change of what a model is fitted to when its test rows change",
            cause="inputs are scaled, clipped or chosen over all rows" if off else "",
        )
