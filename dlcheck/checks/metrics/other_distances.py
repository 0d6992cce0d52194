"""What any measure of two feature sets keeps to, as far as its declaration says so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.broken_distances import (
    averages_with_the_set_itself,
    compares_the_first_set_with_itself,
    cuts_the_longer_set,
    drops_the_last_row,
    is_higher_where_sets_are_closer,
    measures_in_units_of_the_first_set,
    negates_the_distance,
    value_of,
    weights_the_rows,
)
from dlcheck.checks.metrics.distance_bounds import Allowance, compared, together
from dlcheck.checks.metrics.feature_sets import given, pair, rotation, scatter_of, vector
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_STEP = 2.0**-10  # × the size of the measure: what a nudge of √u does to no continuous one


def energy_distance(a: Tensor, b: Tensor) -> Tensor:
    """2 E‖x − y‖ − E‖x − x′‖ − E‖y − y′‖ ≥ 0 (Székely & Rizzo, 2013)."""
    a, b = a.double(), b.double()
    distance: Tensor = 2 * _mean_length(a, b) - _mean_length(a, a) - _mean_length(b, b)
    return distance


def _mean_length(x: Tensor, y: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(x[:, None] - y, dim=-1)
    return lengths.mean()


def one_nearest_neighbour_precision(real: Tensor, generated: Tensor) -> Tensor:
    """The share of generated rows no further from a real one than real rows are from each other."""
    own = torch.cdist(real, real).fill_diagonal_(torch.inf).amin(1).max()
    return (torch.cdist(generated, real).amin(1) <= own).double().mean()


ENERGY = Subject(
    name="energy_distance",
    target=energy_distance,
    kind="distribution_metric",
    traits=frozenset({"other_distance", "symmetric", "motion_invariant", "nonnegative"}),
    options={"better": "lower", "perfect": 0.0, "range": [0, "inf"], "sizes": {"n": [2, 17]}},
)
PRECISION = Subject(
    name="one_nearest_neighbour_precision",
    target=one_nearest_neighbour_precision,
    kind="distribution_metric",
    traits=frozenset({"other_distance", "motion_invariant", "scale_invariant"}),
    options={"better": "higher", "perfect": 1.0, "range": [0, 1], "sizes": {"n": [2, 17]}},
)
OTHERS = [ENERGY, PRECISION]


@around
def takes_one_from_it(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    return 1 - torch.as_tensor(value_of(original(*sets, **keywords)))


@around
def counts_in_percent_and_two_more(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    return -2 - 100 * torch.as_tensor(value_of(original(*sets, **keywords)))


@around
def adds_a_hundredth(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    return torch.as_tensor(value_of(original(*sets, **keywords))) + 0.01


@around
def adds_the_size_of_the_first_set(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    size = a.double().square().mean()
    return torch.as_tensor(value_of(original(a, b, **keywords))) + size


@around
def takes_the_first_row_for_the_set(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """A weight that an epoch's first batch keeps."""
    answer = torch.as_tensor(value_of(original(a, b, **keywords)))
    return answer + a[0].double().square().mean()


@check(
    kind="distribution_metric",
    needs={"other_distance"},
    forbids={"stochastic", "stochastic_in_eval"},
    options={"perfect": True},
    accepts=OTHERS,
    rejects=[adds_a_hundredth, adds_the_size_of_the_first_set, takes_one_from_it],
)
def a_copy_of_a_set_is_perfect(metric: Implementation, case: Case) -> Evidence:
    """f(X, X) is the declared `perfect`, the second copy in another order.

    X [N, d]; the signal is the distance of a set far away. n numbers whose terms cancel leave
    n·u of their size, and a measure that is the root of such a sum √(n·u).
    """
    first, second = pair(metric, case)
    order = torch.randperm(len(first), generator=case.generator("order"))
    copy = first[order]
    value, far = given(metric, case, first, copy), given(metric, case, first, second + 10)
    perfect = float(metric.options["perfect"])
    signal, numbers = max(abs(far - perfect), 1e-3), 16 + 2 * first.numel()
    room = _room(metric, case, first, copy)

    def allowed(dtype: torch.dtype) -> float:
        return room(dtype) + signal * math.sqrt(numbers * unit_roundoff(dtype))

    what = "measure of a set and its copy"
    return compared(metric, case, value, perfect, allowed, what=what, signal=signal)


@check(
    kind="distribution_metric",
    needs={"other_distance", "symmetric"},
    forbids={"stochastic", "stochastic_in_eval"},
    accepts=[ENERGY],
    rejects=[
        adds_the_size_of_the_first_set,
        averages_with_the_set_itself,
        measures_in_units_of_the_first_set,
    ],
)
def exchanging_symmetric_sets_changes_nothing(metric: Implementation, case: Case) -> Evidence:
    """f(Y, X) = f(X, Y) for a measure that is declared symmetric, with unequal counts too."""
    first, second = pair(metric, case)
    there, back = given(metric, case, first, second), given(metric, case, second, first)
    allowed = together(*[_room(metric, case, first, second)] * 2)
    what = "change of the measure when the sets are exchanged"
    signal = max(abs(there), 1e-3)
    return compared(metric, case, back, there, allowed, what=what, signal=signal)


@check(
    kind="distribution_metric",
    needs={"other_distance"},
    forbids={"stochastic", "stochastic_in_eval"},
    accepts=OTHERS,
    rejects=[
        cuts_the_longer_set,
        drops_the_last_row,
        takes_the_first_row_for_the_set,
        weights_the_rows,
    ],
)
def a_set_has_no_order(metric: Implementation, case: Case) -> Evidence:
    """A measure of two sets does not depend on the order of their rows, whatever it measures."""
    first, second = pair(metric, case)
    second = first.mean(0) + 1.5 * (second - second.mean(0))  # overlapping: shares are no 0 or 1
    g = case.generator("order")
    orders = [torch.randperm(len(rows), generator=g) for rows in (first, second)]
    before = given(metric, case, first, second)
    after = given(metric, case, first[orders[0]], second[orders[1]])
    allowed = together(*[_room(metric, case, first, second)] * 2)
    what, signal = "change of the measure when rows are shuffled", max(abs(before), 1e-3)
    return compared(metric, case, after, before, allowed, what=what, signal=signal)


@check(
    kind="distribution_metric",
    needs={"other_distance", "motion_invariant"},
    forbids={"stochastic", "stochastic_in_eval"},
    accepts=OTHERS,
    rejects=[
        adds_the_size_of_the_first_set,
        measures_in_units_of_the_first_set,
        takes_the_first_row_for_the_set,
    ],
)
def a_common_motion_changes_no_invariant_measure(metric: Implementation, case: Case) -> Evidence:
    """f(XQ + v, YQ + v) = f(X, Y), Q orthogonal, where that is declared; times 3 too, if it is."""
    first, second = pair(metric, case)
    second = first.mean(0) + 1.5 * (second - second.mean(0))
    first, second = (x * torch.linspace(1, 3, x.shape[1], dtype=x.dtype) for x in (first, second))
    g, d = case.generator("motion"), first.shape[1]
    turn, step = rotation(d, g), 3 * vector(d, g)
    scale = 3.0 if "scale_invariant" in metric.traits else 1.0
    moved = scale * first @ turn + step, scale * second @ turn + step
    before, after = given(metric, case, first, second), given(metric, case, *moved)
    allowed = together(_room(metric, case, first, second), _room(metric, case, *moved))
    what, signal = "change of the measure under a common motion", max(abs(before), 1e-3)
    return compared(metric, case, after, before, allowed, what=what, signal=signal)


@check(
    kind="distribution_metric",
    options={"range": True},
    forbids={"stochastic", "stochastic_in_eval"},
    accepts=OTHERS,
    rejects=[counts_in_percent_and_two_more],
)
def a_measure_of_sets_stays_in_its_range(metric: Implementation, case: Case) -> Evidence:
    """Sets alike, apart, far apart and without spread keep to the declared `range`."""
    first, second = pair(metric, case)
    constant = second[:1].expand(len(second), -1)
    pairs = [(first, second), (first, first), (first, second + 100), (first, constant)]
    low, high = (_end(end) for end in metric.options["range"])
    values = [given(metric, case, *sets) for sets in pairs]
    rooms = [_room(metric, case, *sets) for sets in pairs]
    over = [max(low - v, v - high, 0.0) if v == v else v for v in values]
    at = max(range(len(over)), key=lambda i: (over[i] != over[i], over[i]))
    signal = high - low if high - low < float("inf") else max(abs(v) for v in values)
    what = "measure beyond its declared range"
    return compared(metric, case, over[at], 0.0, rooms[at], what=what, signal=signal)


def _end(end: object) -> float:
    if isinstance(end, str) and end.lstrip("+-") != "inf":
        raise NotApplicable(f"the range of a measure of sets ends at a number, not at {end!r}")
    return float(end)  # type: ignore[arg-type]


@check(
    kind="distribution_metric",
    options={"better": ["lower", "higher"]},
    accepts=OTHERS,
    rejects=[
        compares_the_first_set_with_itself,
        is_higher_where_sets_are_closer,
        negates_the_distance,
    ],
)
def a_set_far_away_is_worse_than_a_near_copy(
    metric: Implementation, case: Case
) -> Iterator[Evidence]:
    """A set 100 deviations away scores worse than a copy with a thousandth of noise does.

    X [N, d]; worse as `better` says. The error counts the wrong orders, also with the sets
    exchanged, which no measure of two sets may have.
    """
    first, _ = pair(metric, case)
    noise = torch.randn(first.shape, generator=case.generator("noise"), dtype=first.dtype)
    near, far = first + 1e-3 * noise, first + 100 * scatter_of(first)
    sign = 1.0 if metric.options["better"] == "lower" else -1.0
    values = [given(metric, case, first, x) for x in (near, far)]
    values += [given(metric, case, x, first) for x in (near, far)]
    wrong = sum(not sign * b > sign * a for a, b in (values[:2], values[2:]))
    yield Evidence(
        error=float(wrong),
        bound=0.0,
        signal=2.0,
        unit="orders",
        what="sets far away that score no worse than a near copy",
        expected=f"a far set {'above' if sign > 0 else 'below'} {values[0]:.4g}",
        got=f"{values[1]:.4g}",
    )


def _room(metric: Implementation, case: Case, first: Tensor, second: Tensor) -> Allowance:
    """What rounding may move an unknown formula by: as it is seen to, when inputs are nudged.

    n numbers enter, each of which is rounded like a relative change by u: the error is within
    8√n·u·(A + size), A the response to changes of √u with random signs, size that of the measure
    of sets apart, whose terms cancel for sets alike. A root of what cancels answers to the last
    bits: four times what changes by 4u are seen to do. A step within √u says nothing: infinity.
    """

    def allowed(dtype: torch.dtype) -> float:
        u = unit_roundoff(dtype)
        h, g = math.sqrt(u), case.generator("room")
        before = given(metric, case, first, second)
        size = max(abs(before), abs(given(metric, case, first, second + 10)))
        coarse, fine = (
            max(
                abs(given(metric, case, _nudged(first, x, g), _nudged(second, x, g)) - before)
                for _ in range(4)
            )
            for x in (h, 4 * u)
        )
        if coarse > _STEP * size:
            return float("inf")
        numbers = 16 + first.numel() + second.numel()
        return max(8 * math.sqrt(numbers) * u * (coarse / h + size), 4 * fine)

    return allowed


def _nudged(rows: Tensor, h: float, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, rows.shape, generator=generator) * 2 - 1
    return rows * (1 + h * signs)
