"""What leaves a distance of two feature sets as it was: for FID and KID alike."""

from __future__ import annotations

import torch

from dlcheck.checks.metrics.broken_distances import (
    averages_with_the_set_itself,
    cuts_the_longer_set,
    divides_both_by_the_first_count,
    drops_the_last_row,
    measures_in_units_of_the_first_set,
    rounds_the_features,
    sees_only_the_diagonal,
    takes_the_root_of_each_element,
    weights_the_rows,
)
from dlcheck.checks.metrics.distance_bounds import compared, resolvable, together
from dlcheck.checks.metrics.feature_sets import given, pair, rotation
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    rejects=[
        averages_with_the_set_itself,
        divides_both_by_the_first_count,
        measures_in_units_of_the_first_set,
        weights_the_rows,
    ],
)
def exchanging_the_sets_changes_nothing(metric: Implementation, case: Case) -> Evidence:
    """f(Y, X) = f(X, Y), with unequal counts too.

    X [N, d], Y [M, d] of full rank, means and covariances all different.
    """
    first, second = pair(metric, case)
    there, back = given(metric, case, first, second), given(metric, case, second, first)
    allowed = together(*[resolvable(metric, first, second)] * 2)
    what = "change of the distance when the sets are exchanged"
    return compared(metric, case, back, there, allowed, what=what)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    rejects=[cuts_the_longer_set, drops_the_last_row, weights_the_rows],
)
def reordering_rows_changes_nothing(metric: Implementation, case: Case) -> Evidence:
    """The distance of two sets does not depend on the order of their rows.

    X [N, d], Y [M, d] of full rank, each shuffled on its own. A metric that truncates the longer
    set or drops the last batch shows here.
    """
    first, second = pair(metric, case)
    g = case.generator("order")
    orders = [torch.randperm(len(rows), generator=g) for rows in (first, second)]
    before = given(metric, case, first, second)
    after = given(metric, case, first[orders[0]], second[orders[1]])
    allowed = together(*[resolvable(metric, first, second)] * 2)
    what = "change of the distance when rows are shuffled"
    return compared(metric, case, after, before, allowed, what=what)


@check(
    kind="distribution_metric",
    forbids={"stochastic", "stochastic_in_eval", "other_distance"},
    rejects=[
        measures_in_units_of_the_first_set,
        rounds_the_features,
        sees_only_the_diagonal,
        takes_the_root_of_each_element,
    ],
)
def rotating_both_sets_changes_nothing(metric: Implementation, case: Case) -> Evidence:
    """f(XQ, YQ) = f(X, Y) for orthogonal Q: no feature is special.

    X [N, d], Y [M, d] of full rank, means and covariances all different. With d = 1, Q is a sign.
    """
    first, second = pair(metric, case)
    turn = rotation(first.shape[1], case.generator("rotation"))
    before = given(metric, case, first, second)
    after = given(metric, case, first @ turn, second @ turn)
    allowed = together(*[resolvable(metric, first, second)] * 2)
    what = "change of the distance under a common rotation"
    return compared(metric, case, after, before, allowed, what=what)
