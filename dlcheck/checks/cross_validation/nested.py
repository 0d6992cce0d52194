"""Candidates are chosen by the rows of train: the outer test rows have no say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dlcheck.checks.cross_validation.recorder import (
    FITTED,
    SEEN,
    Numbers,
    Plan,
    plans,
    run,
    scorers,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import instead
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_CANDIDATES = 4


def _means(build: Any, rows: Any, folds: Any, candidates: Any) -> list[float]:
    return [sum(_score(build(c), rows, *fold) for fold in folds) for c in candidates]


def _score(model: Any, rows: Any, train: Any, test: Any) -> float:
    x, y = rows
    return float(model.fit(x[train], y[train]).score(x[test], y[test]))


@instead
def chooses_once_for_all_folds(build: Any, rows: Any, folds: Any, candidates: Any) -> Any:
    """The best of a plain cross-validation, whose best score is reported."""
    best = candidates[int(np.argmax(_means(build, rows, folds, candidates)))]
    return [_score(build(best), rows, train, test) for train, test in folds]


@instead
def reports_the_best_score_of_each_fold(build: Any, rows: Any, folds: Any, candidates: Any) -> Any:
    """`max` over candidates of the test score."""
    return [max(_score(build(c), rows, *fold) for c in candidates) for fold in folds]


@instead
def chooses_by_the_score_on_train(build: Any, rows: Any, folds: Any, candidates: Any) -> Any:
    """All rows are asked, test among them."""
    found = []
    for train, test in folds:
        every = np.concatenate([train, test])
        scores = [_score(build(c), rows, every, every) for c in candidates]
        found.append(_score(build(candidates[int(np.argmax(scores))]), rows, train, test))
    return found


@instead
def splits_all_rows_inside(build: Any, rows: Any, folds: Any, candidates: Any) -> Any:
    """Inner folds are those of the table, not of train."""
    found = []
    for train, test in folds:
        means = _means(build, rows, folds[::-1], candidates)
        found.append(_score(build(candidates[int(np.argmax(means))]), rows, train, test))
    return found


@check(
    kind="cross_validation",
    options={"candidates": True, "returns": [None, "scores"]},
    rejects=[
        chooses_once_for_all_folds,
        reports_the_best_score_of_each_fold,
        chooses_by_the_score_on_train,
        splits_all_rows_inside,
    ],
    once=True,
)
def candidates_are_chosen_without_the_test_rows(
    subject: Implementation, case: Case
) -> Iterator[Evidence]:
    """Which candidate is scored on an outer fold does not depend on the scores of its test rows.

    On its test rows alone one candidate after the other is made a hundred times better than all
    others: the score of the fold must be that of the same candidate as before. No model may have
    seen a row it is scored on in the outer fold. Exact: the bound is 0.
    Source: Varma & Simon, Bias in Error Estimation When Using Cross-Validation for Model
    Selection, BMC Bioinformatics 7:91, 2006; Cawley & Talbot, JMLR 11, 2010.
    """
    for plan in plans(subject, case):
        swayed, seen = 0, 0
        for number, (_, test) in enumerate(plan.folds):
            chosen = {_chosen(subject, plan, number, _pull(plan, favoured, test))
                      for favoured in range(_CANDIDATES)}  # fmt: skip
            swayed, seen = swayed + len(chosen) - 1, seen + 1
        yield Evidence(
            error=float(swayed),
            bound=0.0,
            signal=float(seen),
            unit="folds",
            what="folds whose candidate changes with the test rows",
            cause="the outer test rows take part in the choice" if swayed else "",
        )


def _pull(plan: Plan, favoured: int, test: Any) -> Numbers:
    """What each candidate gains on each row: a small number, and 100 for one of them on test."""
    rng = np.random.default_rng(len(plan.values))
    pull = rng.integers(0, 64, (_CANDIDATES, 1)) / 64 + np.zeros((1, len(plan.values)))
    pull[:, test] = 0.0
    pull[favoured, test] = 100.0
    return np.asarray(pull)


def _chosen(subject: Implementation, plan: Plan, fold: int, pull: Numbers) -> int:
    """The candidate whose score is reported for the fold; −1 − candidate if it saw the test."""
    ran = run(subject, plan.x, plan.values, plan.folds, pull=pull)
    if len(ran.scores) != len(plan.folds):
        raise NotApplicable(f"it gave {len(ran.scores)} scores for {len(plan.folds)} folds")
    test = plan.folds[fold][1]
    models = scorers(ran.log, test.tolist())
    score = ran.scores[fold]
    exact = [m.candidate for m in models if abs(m.value(test) - score) < 1e-9]
    leaked = score > SEEN / len(plan.values) and score > FITTED + 102
    candidate = exact[-1] if exact and exact[-1] is not None else _CANDIDATES
    return -1 - candidate if leaked else candidate
