"""What a kernel distance (KID) is on every sample, and on average."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dlcheck import stats
from dlcheck.checks.metrics.broken_distances import cuts_the_longer_set, normalizes_the_rows
from dlcheck.checks.metrics.broken_kernels import (
    BIASED,
    OF_SUBSETS,
    centres_the_features,
    counts_the_cross_term_once,
    cuts_off_below_zero,
    divides_the_sum_off_the_diagonal_by_all,
    does_not_divide_by_the_width,
    draws_from_the_first_rows,
    draws_subsets_with_replacement,
    forgets_the_constant,
    keeps_the_diagonal_of_every_subset,
    leaves_the_cross_diagonal_out,
    squares_instead_of_cubing,
    takes_a_radial_kernel,
    takes_the_root_of_the_square,
    uses_the_other_estimator,
)
from dlcheck.checks.metrics.distance_bounds import compared, resolvable, together
from dlcheck.checks.metrics.feature_sets import Sizes, as_many, given, least_rows, pair, vector
from dlcheck.checks.metrics.kernels import discrepancy, is_unbiased, kernel_of, mean_sizes
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_CALLS = 30  # of a metric that draws subsets, in the first strike
_ATOMS = 3  # points of a law of which every sample is looked at


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": True},
    accepts=[BIASED],
    rejects=[
        counts_the_cross_term_once,
        cuts_the_longer_set,
        divides_the_sum_off_the_diagonal_by_all,
        does_not_divide_by_the_width,
        forgets_the_constant,
        leaves_the_cross_diagonal_out,
        normalizes_the_rows,
        squares_instead_of_cubing,
        takes_a_radial_kernel,
        takes_the_root_of_the_square,
        uses_the_other_estimator,
    ],
)
def a_kernel_distance_is_three_means_of_its_kernel(metric: Implementation, case: Case) -> Evidence:
    """f(X, Y) = mean k(x, x′) + mean k(y, y′) − 2 mean k(x, y), with the declared kernel.

    X [N, d], Y [M, d], N ≠ M; k(x, y) = (xᵀy/d + 1)³ unless `degree`, `gamma`, `coef0` say other;
    x ≠ x′ are different rows where the estimator is unbiased, any two where it is biased.
    Source: Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012, eq. 3 and 5.
    """
    first, second = pair(metric, case)
    value = given(metric, case, first, second)
    expected, allowed = discrepancy(metric, first, second), resolvable(metric, first, second)
    what = f"distance of {len(first)} and {len(second)} rows of {first.shape[1]} features"
    return compared(metric, case, value, expected, allowed, what=what)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": True},
    accepts=[BIASED],
    rejects=[
        cuts_off_below_zero,
        divides_the_sum_off_the_diagonal_by_all,
        takes_the_root_of_the_square,
        uses_the_other_estimator,
    ],
)
def a_set_is_not_at_distance_zero_from_itself_if_unbiased(
    metric: Implementation, case: Case
) -> Evidence:
    """f(X, X) = 2 (mean k off the diagonal − mean of all k) < 0 if unbiased, and 0 if biased.

    X [N, d]: the estimate takes the two sets for independent, and no independent set repeats the
    first, so it is negative. A distance cut off at 0 is biased.
    """
    first, _ = pair(metric, case)
    value = given(metric, case, first, first)
    expected = discrepancy(metric, first, first) if is_unbiased(metric) else 0.0
    signal = mean_sizes(metric, first, first)
    what = "distance of a set from itself"
    allowed = resolvable(metric, first, first)
    return compared(metric, case, value, expected, allowed, what=what, signal=signal)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": True},
    accepts=[BIASED],
    rejects=[centres_the_features, normalizes_the_rows, takes_a_radial_kernel],
)
def moving_both_sets_changes_a_kernel_distance(metric: Implementation, case: Case) -> Evidence:
    """f(X + v, Y + v) − f(X, Y) is what the kernel says, and not 0: xᵀy has an origin.

    X [N, d], Y [M, d], v [d]. Features must not be centred, nor compared by their differences.
    """
    first, second = pair(metric, case)
    step = vector(first.shape[1], case.generator("step")).abs() + 1
    moved = first + step, second + step
    found = given(metric, case, *moved) - given(metric, case, first, second)
    expected = discrepancy(metric, *moved) - discrepancy(metric, first, second)
    allowed = together(resolvable(metric, first, second), resolvable(metric, *moved))
    what = "change of the distance when both sets move"
    return compared(metric, case, found, expected, allowed, what=what)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": True},
    once=True,
    rejects=[
        cuts_off_below_zero,
        cuts_the_longer_set,
        divides_the_sum_off_the_diagonal_by_all,
        leaves_the_cross_diagonal_out,
        uses_the_other_estimator,
    ],
)
def the_mean_over_all_samples_is_the_distance_of_the_laws(
    metric: Implementation, case: Case
) -> Iterator[Evidence]:
    """E f = MMD² of the laws: every sample of n and n + 1 rows is looked at, with its probability.

    Two laws on three points each, and one law twice (MMD² = 0), with unequal probabilities;
    unbiased means that the mean is right to rounding for any n. NotApplicable if biased.
    """
    n = max(2, least_rows(metric, case))
    if not is_unbiased(metric) or n > 3:
        raise NotApplicable("it is biased" if n <= 3 else f"samples of {n} rows are too many")
    g, d = case.generator("laws"), Sizes.of(metric, case).features
    points = [torch.stack([vector(d, g) for _ in range(_ATOMS)]) for _ in range(2)]
    weights = (
        torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64),
    )
    for name, one, two in (("two laws", 0, 1), ("one law twice", 0, 0)):
        found, size = _mean_of_all(
            metric, case, points[one], points[two], weights[one], weights[two], n
        )
        expected = _of_laws(metric, points[one], points[two], weights[one], weights[two])
        allowed = resolvable(metric, points[one], points[two])
        what = f"mean distance of all samples of {name}"
        yield compared(metric, case, found, expected, allowed, what=what, signal=size)


def _mean_of_all(
    metric: Implementation, case: Case, first: Tensor, second: Tensor, p: Tensor, q: Tensor, n: int
) -> tuple[float, float]:
    """The mean over all samples of n and n + 1 rows (or n), and the mean size."""
    mean = size = 0.0
    more = n if as_many(case) else n + 1
    for rows, chance in _samples(p, n):
        for others, chance_of_others in _samples(q, more):
            value = given(metric, case, first[rows], second[others])
            mean += chance * chance_of_others * value
            size += chance * chance_of_others * abs(value)
    return mean, size


def _samples(weights: Tensor, n: int) -> Iterator[tuple[list[int], float]]:
    """Every multiset of n points with its probability: their order says nothing."""
    for rows in itertools.combinations_with_replacement(range(len(weights)), n):
        orders = math.factorial(n)
        for point in set(rows):
            orders //= math.factorial(rows.count(point))
        yield list(rows), orders * float(weights[list(rows)].prod())


def _of_laws(metric: Implementation, first: Tensor, second: Tensor, p: Tensor, q: Tensor) -> float:
    k = kernel_of(metric, first.shape[1])
    own = p @ k(first, first) @ p + q @ k(second, second) @ q
    return float(own - 2 * p @ k(first, second) @ q)


@check(
    kind="distribution_metric",
    needs={"stochastic"},
    forbids={"other_distance"},
    options={"estimator": True},
    once=True,
    accepts=[OF_SUBSETS],
    rejects=[
        draws_from_the_first_rows,
        draws_subsets_with_replacement,
        keeps_the_diagonal_of_every_subset,
    ],
)
def subsets_give_the_distance_of_all_rows_on_average(
    metric: Implementation, case: Case
) -> Evidence:
    """The mean over random subsets, drawn without replacement, is the unbiased distance of all.

    X [N, d], Y [M, d] fixed, sorted along their spread, so that the first rows are no sample. An
    estimate from a subset is a mean over pairs of rows, and every pair is as likely. With
    replacement a row meets itself. Three strikes of a t test over 30, 120 and 480 calls.
    """
    if not is_unbiased(metric):
        raise NotApplicable("the mean of a biased estimate depends on the size of the subsets")
    first, second = (x[x[:, 0].argsort()] for x in pair(metric, case))
    expected = discrepancy(metric, first, second)
    rounding = resolvable(metric, first, second)(case.dtype)

    def sample(stream: stats.Stream, calls: int) -> stats.Finding:
        values = np.array([given(metric, case, first, second) for _ in range(calls)])
        return stats.mean(
            values, expected, rounding=rounding, signal=mean_sizes(metric, first, second)
        )

    return stats.three_strikes(
        case.root, case.claim, _CALLS, sample, what="mean distance over random subsets"
    )
