"""A bootstrap draws with replacement, each row alike, and tests on what was not drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats as laws

from dlcheck.checks.split.broken import (
    Call,
    as_folds,
    called,
    complement,
    size_of,
)
from dlcheck.checks.split.calls import Fold, split_or_leave
from dlcheck.checks.split.chance import noticed
from dlcheck.checks.split.tables import Indices, Table, rows_of
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, bonferroni, detectable, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _redrawn(draw: Callable[[int], Indices]) -> Any:
    """A mutant whose train part is `draw(rows)`, and whose test part is the rest."""

    def call(original: Call, first: Any, *more: Any, **named: Any) -> Any:
        rows = size_of(first)
        drawn = [draw(rows) for _ in as_folds(original(first, *more, **named))]
        return [(train, complement(train, rows)) for train in drawn]

    call.__name__ = draw.__name__
    return called(call)


@_redrawn
def draws_without_replacement(rows: int) -> Indices:
    return np.random.permutation(rows)[: int(0.632 * rows)]


@_redrawn
def never_draws_the_last_row(rows: int) -> Indices:
    """`randint(0, n - 1)` where the end is left out."""
    return np.random.randint(0, rows - 1, rows)


@_redrawn
def draws_the_first_rows_more_often(rows: int) -> Indices:
    return (rows * np.random.random(rows) ** 1.1).astype(np.int64)


@_redrawn
def draws_half_as_many(rows: int) -> Indices:
    return np.random.randint(0, rows, rows // 2)


@check(
    kind="split",
    needs={"with_replacement"},
    forbids={"partial"},
    tags=["statistical"],
    rejects=[
        draws_without_replacement,
        never_draws_the_last_row,
        draws_the_first_rows_more_often,
        draws_half_as_many,
    ],
    once=True,
)
def bootstrap_draws_every_row_alike(subject: Implementation, case: Case) -> Evidence:
    """n draws with replacement: each row as often, and (1 − 1/n)ⁿ of the rows left for the test.

    Over folds the draws of N rows are multinomial: Σ (Oᵢ − E)²/E ~ χ²(N − 1). The number of rows
    left out of a draw has mean N q₁ and variance N q₁ + N(N − 1) q₂ − N² q₁² with
    qᵢ = (1 − i/N)ᴺ. Bonferroni; three strikes. A train part of another size than N fails at once.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 17.7.
    """
    rows = 24
    table, name = Table(rows_of(case, rows)), subject.options.get("seed")

    def sample(stream: Stream, n: int) -> Finding:
        folds: list[Fold] = []
        while len(folds) < n:
            seed = int(stream.numpy.integers(2**31))
            made = subject.rebuilt(**{name: seed}) if isinstance(name, str) else subject
            drawn = split_or_leave(made, table)
            if not drawn:
                raise NotApplicable("it gives no fold; see folds_are_as_many_as_declared")
            folds += drawn
        return _bootstrap_law(folds, rows)

    return three_strikes(
        case.root,
        case.claim,
        100 * case.profile.effort,
        sample,
        what="chance of a row to be drawn or left out",
        unit="of the expected",
        resolution=1.0,
    )


def _bootstrap_law(folds: list[Fold], rows: int) -> Finding:
    n = len(folds)
    if wrong := [len(fold.train) for fold in folds if len(fold.train) != rows]:
        return Finding(p_value=0.0, error=abs(wrong[0] / rows - 1), detectable=1 / rows, signal=1.0,
                       n=n, expected=f"{rows} draws", got=f"{wrong[0]}")  # fmt: skip
    counts = np.bincount(np.concatenate([fold.train for fold in folds]), minlength=rows)
    statistic = float(((counts - n) ** 2).sum()) / n
    q1, q2 = (1 - 1 / rows) ** rows, (1 - 2 / rows) ** rows
    mean = rows * q1
    sigma = math.sqrt(mean + rows * (rows - 1) * q2 - mean**2)
    left = float(np.mean([rows - len(np.unique(fold.train)) for fold in folds]))
    return bonferroni([
        Finding(p_value=float(laws.chi2.sf(statistic, rows - 1)),
                error=math.sqrt(max(0.0, statistic - rows + 1) / (n * rows)),
                detectable=math.sqrt(noticed(rows - 1) / (n * rows)), signal=1.0, n=n,
                expected=f"χ² of {rows - 1}", got=f"{statistic:.1f}", where="draws of a row"),
        Finding(p_value=2 * float(laws.norm.sf(abs(left - mean) * math.sqrt(n) / sigma)),
                error=abs(left / mean - 1), detectable=detectable(sigma / mean, n), signal=1.0,
                n=n, expected=f"{mean:.4g} rows left out", got=f"{left:.4g}",
                where="rows left out"),
    ])  # fmt: skip
