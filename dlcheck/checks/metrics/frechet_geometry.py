"""The Fréchet distance as a metric of Gaussians: triangles, projections, sums of spaces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.broken_distances import (
    adds_the_root,
    compares_only_the_means,
    does_not_square_the_means,
    forgets_the_factor_two,
    returns_the_square_root,
    sees_only_the_diagonal,
    takes_the_root_of_each_element,
)
from dlcheck.checks.metrics.distance_bounds import (
    compared,
    judged,
    resolvable,
    resolvable_when_singular,
    times,
    together,
)
from dlcheck.checks.metrics.feature_sets import (
    Sizes,
    ddof_of,
    given,
    pair,
    rotation,
    terms_of,
    vector,
    whitened,
    widths,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@around
def averages_over_the_features(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    """mean() where sum over the features is meant."""
    return torch.as_tensor(original(*sets, **keywords)) / sets[0].shape[1]


@around
def squares_the_distance_again(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    return torch.as_tensor(original(*sets, **keywords)) ** 2


@around
def whitens_by_both_sets(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """Every feature over its deviation in both sets together, as a preprocessing would."""
    deviation = torch.cat([a, b]).std(0) + 1e-12
    return original(a / deviation, b / deviation, **keywords)


@around
def adds_a_thousandth_to_the_diagonal(
    original: Any, a: Tensor, b: Tensor, **keywords: Any
) -> Tensor:
    """A variance in every feature that is in neither set: it counts where one of them has none."""
    extra = 1e-3 * a.shape[1]
    return torch.as_tensor(original(a, b, **keywords)) + extra


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[squares_the_distance_again],
)
def the_root_satisfies_the_triangle_inequality(metric: Implementation, case: Case) -> Evidence:
    """√f(X, Z) ≤ √f(X, Y) + √f(Y, Z): the root of the distance is a metric.

    X [N, d], Y [M, d] of full rank, and Z = Y spread by ½ more and moved on: nearly on a line with
    them, so that the two sides are close. A deviation δ of f moves √f by at most δ/√f, and √δ.
    """
    first, middle = pair(metric, case)
    step = middle.mean(0) - first.mean(0)
    last = 1.5 * (middle - middle.mean(0)) + middle.mean(0) + 4 * step
    sides = [(first, middle), (middle, last), (first, last)]
    one, two, whole = (math.sqrt(max(given(metric, case, x, y), 0.0)) for x, y in sides)
    rooms = [
        (resolvable(metric, x, y), r) for (x, y), r in zip(sides, (one, two, whole), strict=True)
    ]

    def allowed(dtype: torch.dtype) -> float:
        return sum(min(room(dtype) / max(r, 1e-300), math.sqrt(room(dtype))) for room, r in rooms)

    return judged(
        metric,
        case,
        max(whole - one - two, 0.0) if whole == whole else whole,
        allowed,
        what="longest side beyond the sum of the other two",
        signal=whole,
        expected=f"at most {one + two:.9g}",
        got=f"{whole:.9g}",
    )


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[adds_the_root, averages_over_the_features, whitens_by_both_sets],
)
def leaving_out_directions_brings_sets_closer(
    metric: Implementation, case: Case
) -> Iterator[Evidence]:
    """f(XP, YP) ≤ f(X, Y) for P [d, k] with orthonormal columns: a projection contracts.

    X [N, d], Y [M, d] of full rank; k from 1 to d − 1. The parts of the distance in orthogonal
    subspaces sum to at most the whole: f(XP, YP) + f(XP′, YP′) ≤ f(X, Y), P and P′ a basis.
    """
    first, second = pair(metric, case)
    d = first.shape[1]
    low, _ = widths(metric, case)
    if d < 2 * low or d < 2:
        raise NotApplicable(f"of {d} features none can be left out")
    turn = rotation(d, case.generator("projection"))
    whole = given(metric, case, first, second)
    kept = int(torch.randint(low, d - low + 1, (), generator=case.generator("kept")))
    parts = [(first @ p, second @ p) for p in (turn[:, :kept], turn[:, kept:])]
    values = [given(metric, case, *part) for part in parts]
    allowed = together(resolvable(metric, first, second), *(resolvable(metric, *p) for p in parts))
    total = sum(values)
    yield judged(
        metric,
        case,
        max(total - whole, 0.0) if total == total else total,
        allowed,
        what="distances in two orthogonal subspaces beyond the whole",
        signal=abs(whole),
        expected=f"at most {whole:.9g}",
        got=f"{values[0]:.9g} + {values[1]:.9g}",
    )


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[adds_a_thousandth_to_the_diagonal, averages_over_the_features],
)
def features_that_are_zero_change_nothing(metric: Implementation, case: Case) -> Evidence:
    """f([X, 0], [Y, 0]) = f(X, Y): dead features, as ReLUs have them, are no distance.

    X [N, d], Y [M, d] of full rank, two features more that are 0 in both. The covariances are
    singular then, and a root of an eigenvalue 0 may be off by √ε.
    """
    first, second = pair(metric, case)
    if first.shape[1] + 2 > widths(metric, case)[1]:
        raise NotApplicable("no further features are allowed")
    padded = [torch.nn.functional.pad(x, (0, 2)) for x in (first, second)]
    before, after = given(metric, case, first, second), given(metric, case, *padded)
    allowed = together(resolvable(metric, first, second), resolvable_when_singular(*padded))
    what = "change of the distance by two features that are zero"
    return compared(metric, case, after, before, allowed, what=what)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[
        averages_over_the_features,
        does_not_square_the_means,
        returns_the_square_root,
        sees_only_the_diagonal,
        takes_the_root_of_each_element,
    ],
)
def writing_every_feature_twice_doubles_the_distance(
    metric: Implementation, case: Case
) -> Evidence:
    """f([X, X], [Y, Y]) = 2 f(X, Y): copies of a feature are correlated with it.

    X [N, d], Y [M, d] of full rank; a rotation takes [X, X] to [√2 X, 0]. Singular covariances.
    """
    first, second = pair(metric, case)
    if 2 * first.shape[1] > widths(metric, case)[1]:
        raise NotApplicable("no further features are allowed")
    turn = rotation(first.shape[1], case.generator("turn"))
    twice = [torch.cat([x, x @ turn], 1) for x in (first, second)]
    before, after = given(metric, case, first, second), given(metric, case, *twice)
    allowed = together(
        times(2.0, resolvable(metric, first, second)), resolvable_when_singular(*twice)
    )
    what = "distance of two sets whose features are written twice"
    return compared(metric, case, after, 2 * before, allowed, what=what)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[
        adds_a_thousandth_to_the_diagonal,
        compares_only_the_means,
        forgets_the_factor_two,
        sees_only_the_diagonal,
    ],
)
def independent_features_add_up(metric: Implementation, case: Case) -> Evidence:
    """f of features uncorrelated in both sets is the sum over them of Δμ² + (σ₁ − σ₂)².

    X and Y are whitened samples times a diagonal and turned by one rotation, which changes
    nothing: in the turned features every entry of the covariances counts.
    """
    first, second, expected = _uncorrelated(metric, case)
    turn = rotation(first.shape[1], case.generator("turn"))
    value = given(metric, case, first @ turn, second @ turn)
    allowed = resolvable(metric, first, second)
    what = "distance of sets with commuting covariances"
    signal = min(expected, terms_of(metric, first, second))
    return compared(metric, case, value, expected, allowed, what=what, signal=signal)


def _uncorrelated(metric: Implementation, case: Case) -> tuple[Tensor, Tensor, float]:
    sizes, g, ddof = Sizes.of(metric, case), case.generator("uncorrelated"), ddof_of(metric)
    d = sizes.features
    one = torch.linspace(0.5, 1.5, d, dtype=torch.float64)
    two = one[torch.randperm(d, generator=g)] * 0.75
    means = vector(d, g), vector(d, g)
    first = whitened(sizes.first, d, ddof, g) * one + means[0]
    second = whitened(sizes.second, d, ddof, g) * two + means[1]
    expected = (means[0] - means[1]).square().sum() + (one - two).square().sum()
    return first, second, float(expected)
