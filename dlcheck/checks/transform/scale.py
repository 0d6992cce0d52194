"""Columns come out finite, and standardized where that is declared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from dlcheck.checks.transform.broken import Apply, called
from dlcheck.checks.transform.calls import Rows, answer, pairs
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_U = 2.0**-53


@called
def divides_by_the_deviation(apply: Apply, train: Any, test: Any) -> Any:
    """0/0."""
    with np.errstate(all="ignore"):
        least = train.std(0).min()
        return tuple(x / least * least for x in apply(train, test))


@called
def divides_by_the_range(apply: Apply, train: Any, test: Any) -> Any:
    with np.errstate(all="ignore"):
        room = (train.max(0) - train.min(0)).min()
        return tuple(x / room * room if room else x / room for x in apply(train, test))


@called
def takes_the_log_of_the_deviation(apply: Apply, train: Any, test: Any) -> Any:
    with np.errstate(all="ignore"):
        log = np.log(train.std(0)).min()
        return tuple(x if math.isfinite(log) else x + log for x in apply(train, test))


@called
def correlates_the_columns(apply: Apply, train: Any, test: Any) -> Any:
    """A correlation with a constant is 0/0."""
    with np.errstate(all="ignore"):
        r = np.corrcoef(train.reshape(len(train), -1).T)
        return tuple(x + 0 * np.sum(r) for x in apply(train, test))


@check(
    kind="transform",
    rejects=[
        divides_by_the_deviation,
        divides_by_the_range,
        takes_the_log_of_the_deviation,
        correlates_the_columns,
    ],
    once=True,
)
def constant_columns_stay_finite(subject: Implementation, case: Case) -> Evidence:
    """A column that is constant in train gives finite numbers, in train and in test.

    The first column is 0 in every row, then 3, then 0.1; test has it too. In a fold a rare feature
    is constant soon. Exact: no NaN and no infinity; an exception is no number either, and passes.
    """
    broken, seen, where = 0, 0, ""
    for pair, value in zip(pairs(subject, case), (0.0, 3.0, 0.1), strict=True):
        if pair.train.dtype.kind != "f" or pair.train.ndim < 2 or not _may_be(case, value):
            continue
        train, test = pair.train.copy(), pair.test.copy()
        train[:, 0] = test[:, 0] = value
        seen += train.size
        try:
            found = answer(subject, train, test)
        except SubjectRaised:
            continue  # a clear refusal
        for rows in found:
            bad = int((~np.isfinite(rows.astype(np.float64))).sum())
            broken, seen = broken + bad, seen + rows.size
            if bad and not where:
                where = f"{bad} of {rows.size} elements for a column of {value}"
    if not seen:
        raise NotApplicable("its rows have no columns that could be 0, 3 or 0.1")
    return Evidence(
        error=float(broken),
        bound=0.0,
        signal=float(seen),
        unit="elements",
        what="elements that are not finite",
        where=where,
    )


def _may_be(case: Case, value: float) -> bool:
    """Is the value one of the declared domain?"""
    spec = next(iter(case.specs.values()))
    if spec.low is not None and spec.high is not None:
        return spec.low <= value <= spec.high
    within = {"float": True, "positive": value > 0, "unit": value <= 1, "logit": True}
    return within.get(spec.element, False)


@called
def forgets_to_centre(apply: Apply, train: Any, test: Any) -> Any:
    out, other = apply(train, test)
    return out + 0.1, other + 0.1


@called
def divides_by_the_variance(apply: Apply, train: Any, test: Any) -> Any:
    deviation = train.std(0)
    return tuple(x / np.where(deviation > 0, deviation, 1) for x in apply(train, test))


@called
def takes_one_deviation_for_all_columns(apply: Apply, train: Any, test: Any) -> Any:
    scale = np.linspace(1, 1.2, train.shape[-1] if train.ndim > 1 else 1)
    return tuple(x * scale for x in apply(train, test))


@called
def cancels_in_the_variance(apply: Apply, train: Any, test: Any) -> Any:
    """E x² − (E x)², in which a far mean cancels."""
    variance = (train**2).mean(0) - train.mean(0) ** 2
    ratio = train.std(0) / np.sqrt(np.maximum(variance, 1e-300))
    return tuple(x * ratio for x in apply(train, test))


@check(
    kind="transform",
    needs={"standardizes"},
    rejects=[
        forgets_to_centre,
        divides_by_the_variance,
        takes_one_deviation_for_all_columns,
        cancels_in_the_variance,
    ],
    once=True,
)
def train_is_standardized(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Every column of train has mean 0 and deviation 1 afterwards, by n − ddof.

    Where `ddof` is not declared, 0 and 1 are both taken. With κ = max|x|/σ, which a far mean makes
    large, a mean of n numbers rounds by n u κ of the deviation, and a deviation from it by as
    much: the bound is 8 n u (1 + κ). One-pass sums err by u κ².
    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 1.9.
    """
    for pair in pairs(subject, case):
        out, _ = answer(subject, pair.train, pair.test)
        x = out.astype(np.float64).reshape(len(out), -1)
        n = len(x)
        given = pair.train.reshape(n, -1)
        deviation = given.std(0)
        kappa = float((np.abs(given).max(0) / deviation).max())
        bound = 8 * n * _U * (1 + kappa)
        ddofs = [int(subject.argument("ddof"))] if "ddof" in subject.options else [0, 1]
        off = min(_from_standard(x, ddof) for ddof in ddofs)
        yield Evidence(
            error=off,
            bound=bound,
            signal=1.0,
            what="mean from 0, or deviation from 1, of a column",
            got=f"means up to {np.abs(x.mean(0)).max():.3g}, deviations {x.std(0).round(4)}",
        )


def _from_standard(x: Rows, ddof: int) -> float:
    return float(max(np.abs(x.mean(0)).max(), np.abs(x.std(0, ddof=ddof) - 1).max()))
