"""The Fréchet distance of sets for which it is known in closed form, to rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.checks.metrics.broken_distances import (
    adds_a_millionth_to_the_diagonal,
    compares_only_the_means,
    cuts_the_longer_set,
    divides_both_by_the_first_count,
    divides_by_one_row_less,
    divides_by_one_row_more,
    drops_the_last_row,
    forgets_the_factor_two,
    multiplies_the_separate_roots,
    rounds_the_features,
    sees_only_the_diagonal,
    takes_the_root_of_each_element,
)
from dlcheck.checks.metrics.distance_bounds import (
    Allowance,
    compared,
    resolvable,
    resolvable_when_singular,
)
from dlcheck.checks.metrics.feature_sets import (
    Sizes,
    ddof_of,
    given,
    least_rows,
    pair,
    shaping,
    transport,
    vector,
    whitened,
    widths,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _moved_by(map_: Tensor, step: Tensor, covariance_root: Tensor) -> float:
    """‖step‖² + tr((I − T) Σ (I − T)): what moving a Gaussian by x → Tx + … costs; Σ = RᵀR."""
    stay = torch.eye(len(map_), dtype=map_.dtype)
    return float(step.square().sum() + (covariance_root @ (stay - map_)).square().sum())


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[
        compares_only_the_means,
        forgets_the_factor_two,
        multiplies_the_separate_roots,
        rounds_the_features,
        sees_only_the_diagonal,
        takes_the_root_of_each_element,
    ],
)
def a_transport_costs_what_it_moves(metric: Implementation, case: Case) -> Evidence:
    """Y = XT + v with T symmetric positive definite: f(X, Y) is what T and v move the rows.

    X [N, d] of full rank; f = ‖Δμ‖² + tr((I − T) Σ (I − T)) on the sample itself, since the
    gradient of a convex function is the cheapest transport. The covariances Σ and TΣT do not
    commute, so tr(√Σ₁√Σ₂) and anything diagonal fail.
    Source: Brenier, Polar Factorization and Monotone Rearrangement, CPAM 44(4), 1991.
    """
    first, _ = pair(metric, case)
    g, d = case.generator("transport"), first.shape[1]
    map_, step = transport(d, g), vector(d, g)
    second = first @ map_ + step
    centred = (first - first.mean(0)) / (len(first) - ddof_of(metric)) ** 0.5
    expected = _moved_by(map_, second.mean(0) - first.mean(0), centred)
    allowed = resolvable(metric, first, second)
    return _known(metric, case, first, second, expected, allowed)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[
        adds_a_millionth_to_the_diagonal,
        compares_only_the_means,
        multiplies_the_separate_roots,
        sees_only_the_diagonal,
    ],
)
def fewer_rows_than_features_stay_exact(metric: Implementation, case: Case) -> Evidence:
    """The same where the covariances are singular: as many rows as features, or fewer.

    X [N, d] with N ≤ d, Y = XT + v. A root of an eigenvalue that should be 0 may be off by √ε,
    and is allowed to; a jitter of 10⁻⁶ on the diagonal, in float64, is more than that.
    """
    sizes, ddof, g = Sizes.of(metric, case), ddof_of(metric), case.generator("few")
    d = int(min(sizes.features + 2, widths(metric, case)[1]))
    least = max(ddof + 1, least_rows(metric, case))
    if least > d:
        raise NotApplicable(f"it takes no fewer than {least} rows, and there are {d} features")
    rows = min(max(sizes.first - sizes.features - 2, least), d)
    first = torch.randn(rows, d, generator=g, dtype=torch.float64) + vector(d, g)
    map_, step = transport(d, g), vector(d, g)
    second = first @ map_ + step
    centred = (first - first.mean(0)) / (rows - ddof) ** 0.5
    expected = _moved_by(map_, second.mean(0) - first.mean(0), centred)
    allowed = resolvable_when_singular(first, second)
    return _known(metric, case, first, second, expected, allowed)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    options={"estimator": False},
    rejects=[
        cuts_the_longer_set,
        divides_both_by_the_first_count,
        divides_by_one_row_less,
        divides_by_one_row_more,
        drops_the_last_row,
        multiplies_the_separate_roots,
        sees_only_the_diagonal,
    ],
)
def gaussians_match_their_closed_form(metric: Implementation, case: Case) -> Evidence:
    """Two sets with chosen moments are as far apart as the two Gaussians with these moments.

    X [N, d] and Y [M, d] are drawn apart, N ≠ M, and whitened so that their sample means and
    covariances, with the declared `ddof` (1 by default), are exactly μ₁, Σ, μ₂, TΣT, for which
    f = ‖μ₁ − μ₂‖² + tr((I − T) Σ (I − T)).
    Source: Dowson & Landau, J. Multivariate Analysis 12(3), 1982.
    """
    sizes, ddof, g = Sizes.of(metric, case), ddof_of(metric), case.generator("gaussians")
    d = sizes.features
    root, map_, means = shaping(d, g), transport(d, g), (vector(d, g), vector(d, g))
    first = whitened(sizes.first, d, ddof, g) @ root + means[0]
    second = whitened(sizes.second, d, ddof, g) @ root @ map_ + means[1]
    expected = _moved_by(map_, means[1] - means[0], root)
    allowed = resolvable(metric, first, second)
    return _known(metric, case, first, second, expected, allowed)


def _known(
    metric: Implementation,
    case: Case,
    first: Tensor,
    second: Tensor,
    expected: float,
    allowed: Allowance,
) -> Evidence:
    value = given(metric, case, first, second)
    what = f"distance of {len(first)} and {len(second)} rows of {first.shape[1]} features"
    return compared(metric, case, value, expected, allowed, what=what)
