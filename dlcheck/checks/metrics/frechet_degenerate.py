"""The Fréchet distance of sets with little or no spread, and what a small sample adds to it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.metrics.broken_distances import (
    adds_the_root,
    compares_only_the_means,
    divides_by_one_row_less,
    divides_by_one_row_more,
    divides_by_the_norm_of_the_product,
    forgets_the_factor_two,
    forgets_the_means,
    returns_the_square_root,
)
from dlcheck.checks.metrics.distance_bounds import (
    Allowance,
    compared,
    resolvable_when_singular,
    together,
)
from dlcheck.checks.metrics.feature_sets import (
    Sizes,
    ddof_of,
    given,
    least_rows,
    pair,
    spread,
    vector,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_GUARD = 1e-6
_MOST = 6  # rows of which every sample is looked at


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[
        compares_only_the_means,
        divides_by_one_row_less,
        divides_by_one_row_more,
        forgets_the_factor_two,
        returns_the_square_root,
    ],
)
def two_points_are_as_far_as_their_deviations(metric: Implementation, case: Case) -> Evidence:
    """{−a, a} and {−b, b} with b = sa are at f = (1 − s)² Σ‖x‖²/(n − ddof): 2(a − b)² for n = 2.

    [n, d], each point n/2 times where fewer than 2 rows are not taken; means 0, one direction.
    The covariances have rank one, and a root of an eigenvalue 0 may be off by √ε.
    """
    low, ddof = max(least_rows(metric, case), 2), ddof_of(metric)
    g, copies = case.generator("points"), -(-low // 2)
    point = vector(Sizes.of(metric, case).features, g)
    point = 2 * point / point.norm() * (1 + torch.rand((), generator=g, dtype=torch.float64))
    share = 0.25 + 0.25 * float(torch.rand((), generator=g, dtype=torch.float64))
    first = torch.stack([point, -point] * copies)
    expected = (1 - share) ** 2 * float(first.square().sum()) / (len(first) - ddof)
    value = given(metric, case, first, share * first)
    allowed = resolvable_when_singular(first, share * first)
    return compared(metric, case, value, expected, allowed, what="distance of two pairs of points")


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[
        compares_only_the_means,
        divides_by_the_norm_of_the_product,
        forgets_the_means,
        returns_the_square_root,
    ],
)
def a_constant_set_is_as_far_as_the_spread_about_it(
    metric: Implementation, case: Case
) -> Iterator[Evidence]:
    """f(X, {c, c, …}) = ‖μ − c‖² + tr Σ: one picture repeated is far, by a finite number.

    X [N, d] of full rank, c [d] repeated; and f({b, …}, {c, …}) = ‖b − c‖². A covariance of zeros
    has the root 0. Where a root is not finite, libraries add ε = 10⁻⁶ to both diagonals, which
    costs 2 Σ √(ε(λ + ε)), and is allowed.
    """
    first, second = pair(metric, case)
    g, d = case.generator("constant"), first.shape[1]
    constants = [vector(d, g).expand(len(x), -1) for x in (first, second)]
    away = float((first.mean(0) - constants[1][0]).square().sum())
    between = float((constants[0][0] - constants[1][0]).square().sum())
    for rows, expected, what in (
        (first, away + spread(metric, first), "distance of a set from one point"),
        (constants[0], between, "distance of two sets without spread"),
    ):
        value = given(metric, case, rows, constants[1])
        # The covariance of the other set is off by rounding alone, at the scale of this one.
        allowed = together(
            resolvable_when_singular(rows, constants[1]),
            resolvable_when_singular(first, constants[1]),
            _guarded(rows),
        )
        signal = max(expected, spread(metric, first))
        yield compared(metric, case, value, expected, allowed, what=what, signal=signal)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    once=True,
    rejects=[
        adds_the_root,
        compares_only_the_means,
        divides_by_one_row_less,
        divides_by_one_row_more,
        forgets_the_factor_two,
    ],
)
def two_samples_of_one_law_are_apart_by_the_bias(metric: Implementation, case: Case) -> Evidence:
    """E f of two samples of one law is above 0, by an amount that is known: f is biased.

    Rows ±u, each with probability ½: every pair of samples of n rows is looked at, with its
    probability, so that the expectation is exact: E f = E (m₁ − m₂)² + E (s₁ − s₂)², with the
    mean m = (2j − n)/n and s² = n(1 − m²)/(n − ddof) where j rows are +u. For normal rows it is
    about σ²(2d + d(d + 1)/2)/n.
    """
    n, ddof = max(3, least_rows(metric, case)), ddof_of(metric)
    if n > _MOST or n <= ddof:
        raise NotApplicable(f"samples of {n} rows are too many to look at all")
    point = vector(Sizes.of(metric, case).features, case.generator("bias"))
    samples = [_sample(point / point.norm(), n, j) for j in range(n + 1)]
    found = expected = 0.0
    for j, first in enumerate(samples):
        for k, second in enumerate(samples):
            weight = math.comb(n, j) * math.comb(n, k) / 4.0**n
            found += weight * given(metric, case, first, second)
            (m1, s1), (m2, s2) = (_one_feature(n, i, ddof) for i in (j, k))
            expected += weight * ((m1 - m2) ** 2 + (s1 - s2) ** 2)
    allowed = resolvable_when_singular(samples[n // 2], samples[n // 2])
    what = f"mean distance of two samples of {n} rows of one law"
    return compared(metric, case, found, expected, allowed, what=what)


def _guarded(rows: Tensor) -> Allowance:
    """2 Σ √(ε(λ + ε)) ≤ 2 √(dε(tr Σ + dε)): what ε on the diagonal costs beside a set of points."""
    d, trace = rows.shape[1], float(rows.var(0).sum())
    cost = 2 * math.sqrt(d * _GUARD * (trace + d * _GUARD))
    return lambda _: cost


def _sample(point: Tensor, rows: int, positive: int) -> Tensor:
    return torch.stack([point] * positive + [-point] * (rows - positive))


def _one_feature(rows: int, positive: int, ddof: int) -> tuple[float, float]:
    """Mean and deviation of ±1 of which so many are +1."""
    mean = (2 * positive - rows) / rows
    return mean, math.sqrt(rows * (1 - mean**2) / (rows - ddof))
