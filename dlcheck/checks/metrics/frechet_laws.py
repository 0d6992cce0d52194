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
from dlcheck.checks.metrics.distance_bounds import (
    compared,
    judged,
    resolvable,
    resolvable_when_far,
    resolvable_when_regular,
    times,
    together,
)
from dlcheck.checks.metrics.feature_sets import (
    apart,
    given,
    pair,
    rotation,
    spread,
    terms_of,
    vector,
)
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_OFFSET, _GRID = 2048.0, 2.0**-11  # float32 holds multiples of the grid up to twice the offset


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
    allowed, what = resolvable(metric, first, first), "distance of a set from itself"
    signal = terms_of(metric, first, first)
    return compared(metric, case, value, 0.0, allowed, what=what, signal=signal)


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
    allowed = together(resolvable(metric, first, second), resolvable(metric, *moved))
    what = "change of the distance under a common motion"
    return compared(metric, case, after, before, allowed, what=what)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    dtypes=["float64", "float32"],
    rejects=[normalizes_the_rows, rounds_the_features, sums_the_squares_in_float32],
)
def a_large_common_offset_changes_nothing(metric: Implementation, case: Case) -> Evidence:
    """Adding 2048 to every feature of both sets leaves the distance: covariances are centred.

    X [N, d], Y [M, d] of full rank and unit size, rounded to multiples of 2⁻¹¹, so that float32
    holds them before and after. One-pass sums, E[xxᵀ] − μμᵀ, lose seven digits here: in float64
    nine are left, in float32 none.
    """
    first, second = ((x / _GRID).round() * _GRID for x in pair(metric, case))
    moved = first + _OFFSET, second + 2 + _OFFSET  # apart by enough to be seen in float32
    before = given(metric, case, first, second + 2)
    after = given(metric, case, *moved)
    allowed = together(resolvable_when_regular(first, second + 2), resolvable_when_far(*moved))
    what = "change of the distance under a common offset of 2048"
    return compared(metric, case, after, before, allowed, what=what)


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
    room = together(*[resolvable(metric, first, second)] * 2)
    for factor in (3.0, -0.25):
        after = given(metric, case, factor * first, factor * second)
        expected, allowed = factor**2 * before, times(factor**2, room)
        what = f"distance of both sets times {factor:g}"
        yield compared(metric, case, after, expected, allowed, what=what)


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
    expected, allowed = float(step.square().sum()), resolvable(metric, first, first + step)
    what = "distance of a set from its shifted copy"
    return compared(metric, case, value, expected, allowed, what=what)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[
        does_not_square_the_means,
        forgets_the_means,
        measures_in_units_of_the_first_set,
        normalizes_the_rows,
        returns_the_square_root,
    ],
)
def moving_one_set_adds_what_it_moves(metric: Implementation, case: Case) -> Evidence:
    """f(X, Y + w) = f(X, Y) + 2⟨μ_Y − μ_X, w⟩ + ‖w‖²: the covariances do not see the step.

    X [N, d], Y [M, d] of full rank, w [d] half along the difference of the means.
    """
    first, second = pair(metric, case)
    between = apart(first, second)
    step = vector(first.shape[1], case.generator("step")) + between
    before = given(metric, case, first, second)
    after = given(metric, case, first, second + step)
    gain = float(2 * between @ step + step.square().sum())
    allowed = together(resolvable(metric, first, second), resolvable(metric, first, second + step))
    what = "rise of the distance when one set moves"
    return compared(metric, case, after - before, gain, allowed, what=what)


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
    between = float(apart(first, second).square().sum())
    one, two = spread(metric, first), spread(metric, second)
    low, high = between + (one**0.5 - two**0.5) ** 2, between + one + two
    value = given(metric, case, first, second)
    return judged(
        metric,
        case,
        _outside(value, low, high),
        resolvable(metric, first, second),
        what="distance beyond its bounds",
        signal=high,
        expected=f"{low:.9g} to {high:.9g}",
        got=f"{value:.9g}",
    )


def _outside(value: float, low: float, high: float) -> float:
    """How far value lies outside [low, high]; NaN stays NaN."""
    return value if value != value else max(low - value, value - high, 0.0)
