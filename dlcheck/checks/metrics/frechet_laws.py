"""How the Fréchet distance answers to moving and scaling: laws that hold on every sample.

A distance with the option `estimator` is a kernel distance, and one with the trait
`other_distance` something else: neither has these laws.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from dlcheck.checks.metrics.broken_distances import (
    adds_the_root,
    averages_with_the_set_itself,
    compares_only_the_means,
    does_not_square_the_means,
    drops_the_last_row,
    forgets_the_factor_two,
    forgets_the_means,
    measures_in_units_of_the_first_set,
    normalizes_the_rows,
    returns_the_square_root,
    rounds_the_features,
    sums_the_squares_in_float32,
    takes_the_root_of_each_element,
    weights_the_rows,
)
from dlcheck.checks.metrics.feature_sets import (
    ddof_of,
    given,
    pair,
    resolvable,
    resolvable_when_regular,
    rotation,
    scale_of,
    trace_of,
    vector,
)
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[
        averages_with_the_set_itself,
        drops_the_last_row,
        forgets_the_factor_two,
        takes_the_root_of_each_element,
        weights_the_rows,
    ],
)
def a_set_is_at_distance_zero_from_itself(metric: Implementation, case: Case) -> Evidence:
    """f(X, X) = 0, the second copy in another order.

    X [N, d] of full rank; the signal is the trace of the covariances, whose terms cancel to 0.
    """
    first, _ = pair(metric, case)
    order = torch.randperm(len(first), generator=case.generator("order"))
    value = given(metric, case, first, first[order])
    return Evidence(
        error=abs(value),
        bound=resolvable(metric, case, first, first),
        signal=trace_of(first, first),
        what="distance of a set from itself",
        expected="0",
        got=f"{value:.9g}",
    )


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[measures_in_units_of_the_first_set, normalizes_the_rows, rounds_the_features],
)
def moving_both_sets_changes_nothing(metric: Implementation, case: Case) -> Evidence:
    """f(XQ + v, YQ + v) = f(X, Y): only the difference of the means counts.

    X [N, d], Y [M, d] of full rank, Q orthogonal, v [d] about as long as a row.
    """
    first, second = pair(metric, case)
    g = case.generator("motion")
    turn, step = rotation(first.shape[1], g), vector(first.shape[1], g)
    before = given(metric, case, first, second)
    moved = first @ turn + step, second @ turn + step
    after = given(metric, case, *moved)
    return Evidence(
        error=abs(after - before),
        bound=resolvable(metric, case, first, second) + resolvable(metric, case, *moved),
        signal=abs(before),
        what="change of the distance under a common motion",
        expected=f"{before:.9g}",
        got=f"{after:.9g}",
    )


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    dtypes=["float64"],
    rejects=[normalizes_the_rows, rounds_the_features, sums_the_squares_in_float32],
)
def a_large_common_offset_changes_nothing(metric: Implementation, case: Case) -> Evidence:
    """Adding 1000 to every feature of both sets leaves the distance: covariances are centred.

    X [N, d], Y [M, d] of full rank and unit size. One-pass sums, E[xxᵀ] − μμᵀ, lose six digits
    here: in float64 ten are left, in float32 one.
    """
    offset = 1000.0
    first, second = pair(metric, case)
    before = given(metric, case, first, second)
    after = given(metric, case, first + offset, second + offset)
    return Evidence(
        error=abs(after - before),
        bound=resolvable_when_regular(metric, case, first, second, offset),
        signal=abs(before),
        what="change of the distance under a common offset of 1000",
        expected=f"{before:.9g}",
        got=f"{after:.9g}",
    )


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[
        does_not_square_the_means,
        measures_in_units_of_the_first_set,
        normalizes_the_rows,
        returns_the_square_root,
    ],
)
def scaling_both_sets_scales_by_the_square(
    metric: Implementation, case: Case
) -> Iterator[Evidence]:
    """f(aX, aY) = a² f(X, Y): the distance has the unit of the features, squared.

    X [N, d], Y [M, d] of full rank; a = 3 and −¼.
    """
    first, second = pair(metric, case)
    before = given(metric, case, first, second)
    allowed = 2 * resolvable(metric, case, first, second)
    for factor in (3.0, -0.25):
        after = given(metric, case, factor * first, factor * second)
        yield Evidence(
            error=abs(after - factor**2 * before),
            bound=factor**2 * allowed,
            signal=factor**2 * abs(before),
            what=f"distance of both sets times {factor:g}",
            expected=f"{factor**2 * before:.9g}",
            got=f"{after:.9g}",
        )


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[
        does_not_square_the_means,
        forgets_the_means,
        forgets_the_factor_two,
        normalizes_the_rows,
        returns_the_square_root,
    ],
)
def a_shift_costs_its_squared_length(metric: Implementation, case: Case) -> Evidence:
    """f(X, X + v) = ‖v‖²: the covariances are equal, and only the means are apart.

    X [N, d] of full rank, v [d].
    """
    first, _ = pair(metric, case)
    step = 2 * vector(first.shape[1], case.generator("shift"))
    value = given(metric, case, first, first + step)
    expected = float(step.square().sum())
    return Evidence(
        error=abs(value - expected),
        bound=resolvable(metric, case, first, first + step),
        signal=expected,
        what="distance of a set from its shifted copy",
        expected=f"{expected:.9g}",
        got=f"{value:.9g}",
    )


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[adds_the_root, compares_only_the_means, forgets_the_means, normalizes_the_rows],
)
def the_distance_keeps_to_its_bounds(metric: Implementation, case: Case) -> Evidence:
    """‖Δμ‖² + (√tr Σ₁ − √tr Σ₂)² ≤ f ≤ ‖Δμ‖² + tr Σ₁ + tr Σ₂.

    X [N, d], Y [M, d] of full rank, the second tripled in size. Both ends follow from
    0 ≤ tr(Σ₁Σ₂)^½ ≤ √(tr Σ₁ tr Σ₂), Cauchy–Schwarz for the coupling of the two Gaussians.
    """
    first, second = pair(metric, case)
    second = 3 * second
    apart = float((first.mean(0) - second.mean(0)).square().sum())
    ddof = ddof_of(metric)
    one, two = (float(rows.var(0, correction=ddof).sum()) for rows in (first, second))
    low, high = apart + (one**0.5 - two**0.5) ** 2, apart + one + two
    value = given(metric, case, first, second)
    return Evidence(
        error=_outside(value, low, high),
        bound=resolvable(metric, case, first, second),
        signal=min(high, scale_of(first, second)),
        what="distance beyond its bounds",
        expected=f"{low:.9g} to {high:.9g}",
        got=f"{value:.9g}",
    )


def _outside(value: float, low: float, high: float) -> float:
    """How far value lies outside [low, high]; NaN stays NaN."""
    return value if value != value else max(low - value, value - high, 0.0)
