"""Splits, transforms, cross-validations: references against scikit-learn, what is right, bugs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import model_selection as sklearn
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from wrong_splits import CROSS_VALIDATIONS, SPLITS, TRANSFORMS

import dlcheck
from dlcheck.errors import UsageError
from dlcheck.model import Verdict
from dlcheck.references.selection import folds, groups, holdout, standardization, time_series
from dlcheck.references.selection.early_stopping import early_stopping
from dlcheck.reporting.report import Report

RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat([3, 1, 7], [20, 11, 6]))
GROUPS = RNG.permutation(np.repeat(np.arange(9), [8, 7, 6, 5, 4, 3, 2, 1, 1]))
N = 37
X = RNG.normal(3, 2, (N, 4))


def same(ours: Any, theirs: Any) -> None:
    a, b = list(ours), list(theirs)
    assert len(a) == len(b)
    for pair, other in zip(a, b, strict=True):
        for part, expected in zip(pair, other, strict=True):
            np.testing.assert_array_equal(np.sort(part), np.sort(expected))


@pytest.mark.parametrize("k", [2, 3, 5, N])
def test_k_fold_is_scikit_learns(k: int) -> None:
    same(folds.k_fold(N, folds=k), sklearn.KFold(k).split(X))
    same(
        folds.shuffled_k_fold(N, folds=k, seed=4),
        sklearn.KFold(k, shuffle=True, random_state=4).split(X),
    )


@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("seed", [None, 0, 9])
def test_stratified_folds_are_scikit_learns(k: int, seed: int | None) -> None:
    theirs = sklearn.StratifiedKFold(k, shuffle=seed is not None, random_state=seed)
    same(folds.StratifiedFolds(k, seed).split(X, LABELS), theirs.split(X, LABELS))


@pytest.mark.parametrize("k", [2, 3, 9])
def test_group_folds_are_scikit_learns(k: int) -> None:
    same(
        groups.GroupFolds(k).split(X, LABELS, GROUPS),
        sklearn.GroupKFold(k).split(X, LABELS, GROUPS),
    )
    same(
        groups.leave_one_group_out(N, LABELS, GROUPS),
        sklearn.LeaveOneGroupOut().split(X, LABELS, GROUPS),
    )


@pytest.mark.parametrize("k", [2, 3, 5])
def test_stratified_group_folds_are_scikit_learns(k: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of six rows, in groups
        theirs = list(sklearn.StratifiedGroupKFold(k).split(X, LABELS, GROUPS))
    same(groups.StratifiedGroupFolds(k).split(X, LABELS, GROUPS), theirs)


@pytest.mark.parametrize(("k", "gap"), [(2, 0), (4, 3), (5, 1)])
def test_time_series_folds_are_scikit_learns(k: int, gap: int) -> None:
    same(
        time_series.time_series_folds(N, folds=k, gap=gap),
        sklearn.TimeSeriesSplit(k, gap=gap).split(X),
    )


@pytest.mark.parametrize("seed", [0, 5])
def test_holdout_is_scikit_learns(seed: int) -> None:
    theirs = sklearn.train_test_split(np.arange(N), test_size=0.25, random_state=seed)
    ours = holdout.holdout(N, share=0.25, seed=seed)
    for part, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(part, expected)  # in this order too
    same(folds.leave_one_out(N), sklearn.LeaveOneOut().split(X))


def test_scales_are_scikit_learns() -> None:
    train, test = torch.tensor(X[:25]), torch.tensor(X[25:])
    ours = standardization.standardized(train, test)
    scaler = StandardScaler().fit(X[:25])
    for part, rows in zip(ours, (X[:25], X[25:]), strict=True):
        np.testing.assert_allclose(part, scaler.transform(rows), rtol=0, atol=1e-14)
    ranges = standardization.RangeScaler().fit(X[:25]).transform(X[25:])
    theirs = MinMaxScaler().fit(X[:25]).transform(X[25:])
    np.testing.assert_allclose(ranges, theirs, rtol=0, atol=1e-14)
    turned = standardization.PrincipalComponents().fit(X[:25]).transform(X[25:]).numpy()[:, ::-1]
    whitened = PCA(whiten=True).fit(X[:25]).transform(X[25:]) * np.sqrt(25 / 24)  # n, not n − 1
    np.testing.assert_allclose(np.abs(turned), np.abs(whitened), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "expected"),
    [
        ([3.0, 2.0, 1.0], 2, 0.0, (2, 2)),  # to the end
        ([3.0, 2.0, 2.5, 2.4, 1.0], 2, 0.0, (3, 1)),  # stopped before the best
        ([3.0, 2.0, 2.5, 1.9, 2.0], 2, 0.0, (4, 3)),  # saved in time
        ([3.0, 2.95, 2.91, 2.85, 2.7], 2, 0.1, (2, 0)),  # each step below min_delta
        ([3.0, 2.95, 2.85, 2.8, 2.7], 2, 0.1, (4, 4)),  # together above it: measured from the best
        ([1.0, 1.0, 1.0], 1, 0.0, (1, 0)),  # equal is not better
        ([2.0, float("nan"), float("nan"), 1.0], 2, 0.0, (2, 0)),
    ],
)
def test_early_stopping_waits_for_its_patience(
    losses: list[float], patience: int, min_delta: float, expected: tuple[int, int]
) -> None:
    found = early_stopping(torch.tensor(losses, dtype=torch.float64), patience, min_delta)
    assert tuple(found.tolist()) == expected


def outcome(subject: Any, kind: str, **declared: Any) -> Report:
    return dlcheck.validate(subject, kind, device="cpu", profile="quick", **declared)


def bad(report: Report) -> dict[str, str]:
    return {
        found.check: found.message or str(found.worst)
        for found in report.outcomes
        if found.verdict not in (Verdict.PASSED, Verdict.SKIPPED)
    }


def cases(bugs: dict[Any, tuple[str, dict[str, Any]]], kind: str) -> list[Any]:
    return [pytest.param(bug, kind, *said, id=bug.__name__) for bug, said in bugs.items()]


@pytest.mark.parametrize(
    ("bug", "kind", "check", "declared"),
    [
        *cases(SPLITS, "split"),
        *cases(TRANSFORMS, "transform"),
        *cases(CROSS_VALIDATIONS, "cross_validation"),
    ],
)
def test_finds_real_bugs(bug: Any, kind: str, check: str, declared: dict[str, Any]) -> None:
    found = outcome(bug, kind, checks=[check], **declared)
    assert set(bad(found)) == {check}
    assert found.outcomes[0].evidence, f"failed by raising: {found.outcomes[0].message}"


def by_random_split(n: int, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.utils.data.random_split(range(n), [0.7, 0.15, 0.15], generator=generator))


def with_tensors(x: torch.Tensor, labels: torch.Tensor, k: int = 4) -> Any:
    """Takes what comes as tensors, in batches of a class."""
    fold = torch.empty(len(x), dtype=torch.long)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        fold[rows] = torch.arange(len(rows)) % k
    for i in range(k):
        yield (fold != i).nonzero()[:, 0], (fold == i).nonzero()[:, 0]


@pytest.mark.parametrize(
    ("subject", "declared"),
    [
        (sklearn.KFold(5), {"options": {"folds": 5}, "traits": ["validates"]}),
        (
            by_random_split,
            {"args": {"seed": 0},
             "options": {"folds": 1, "seed": "seed", "shuffle": True,
                         "shares": [0.7, 0.15, 0.15]}},
        ),
        (
            with_tensors,
            {"options": {"folds": 4, "stratified": True, "takes": "rows", "arrays": "torch"}},
        ),
        (
            sklearn.GroupShuffleSplit,
            {"args": {"n_splits": 3, "random_state": 0}, "traits": ["overlapping"],
             "options": {"folds": "n_splits", "grouped": True, "seed": "random_state"}},
        ),
        (sklearn.LeavePOut, {"args": {"p": 2}, "traits": ["overlapping"]}),
    ],
    ids=["KFold", "random_split", "tensors", "GroupShuffleSplit", "LeavePOut"],
)  # fmt: skip
def test_takes_what_is_right(subject: Any, declared: dict[str, Any]) -> None:
    assert not bad(outcome(subject, "split", **declared))


def test_takes_a_pipeline() -> None:
    pipeline = make_pipeline(StandardScaler(), PCA(2))
    assert not bad(outcome(pipeline, "transform", traits=["fits_on_train", "row_by_row"]))


def by_scikit_learn(build: Any, rows: Any, folds: Any) -> Any:
    return sklearn.cross_val_score(build(), *rows, cv=folds)


def by_hand_in_torch(build: Any, rows: Any, folds: Any) -> list[float]:
    x, y = rows
    found = []
    for train, test in folds:
        mean = x[train].mean(0)
        model = build().fit(x[train] - mean, y[train])
        found.append(model.score(x[test] - mean, y[test]))
    return found


def blocks(build: Any, rows: Any, count: int) -> list[float]:
    return by_hand_in_torch(build, rows, list(sklearn.KFold(count).split(rows[0])))


@pytest.mark.parametrize(
    ("subject", "options"),
    [
        (by_scikit_learn, {}),
        (by_hand_in_torch, {"arrays": "torch"}),
        (blocks, {"folds": "count"}),
    ],
)
def test_takes_right_cross_validations(
    subject: Callable[..., Any], options: dict[str, Any]
) -> None:
    checks = ["scores*", "folds*", "inputs*"]
    assert not bad(outcome(subject, "cross_validation", options=options, checks=checks))


def needs_twenty_rows(n: int) -> Any:
    if n < 26:
        raise ValueError("at least 26 rows")
    return np.arange(n // 2, n), np.arange(n // 2)


def test_a_refusal_is_told_once_with_its_remedy() -> None:
    found = outcome(needs_twenty_rows, "split", options={"folds": 1})
    assert set(bad(found)) == {"splits_its_declared_tables"}
    assert "rejects = { n = " in found.failures[0].worst.cause
    for said in ({"sizes": {"n": [26, 60]}}, {"rejects": {"exception": "ValueError"}}):
        assert not bad(outcome(needs_twenty_rows, "split", options={"folds": 1, **said}))


def test_unknown_words_are_told() -> None:
    with pytest.raises(UsageError, match="Did you mean 'rows'"):
        outcome(needs_twenty_rows, "split", options={"takes": "rowz"})


def gives_numbers(n: int) -> Any:
    return [0.8, 0.2]


def test_what_is_no_split_is_told() -> None:
    found = outcome(gives_numbers, "split", checks=["splits_its_declared_tables"])
    assert "gives pairs (train, test)" in found.failures[0].worst.got
