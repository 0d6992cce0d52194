"""Kernel distances with one mistake each, as people make them, and a right one that draws subsets.

The mistakes are made in the kernel distance of the literature, (xᵀy/d + 1)³.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.kernels import Kernel, mean_off_the_diagonal
from dlcheck.model import Subject
from dlcheck.mutants import around


def _distance(
    a: Tensor,
    b: Tensor,
    *,
    kernel: Kernel | None = None,
    within: Callable[[Tensor], Tensor] = mean_off_the_diagonal,
    cross: Callable[[Tensor], Tensor] = torch.mean,
    weight: float = 2.0,
) -> Tensor:
    k = kernel or Kernel(3, 1 / a.shape[1], 1.0)
    return within(k(a, a)) + within(k(b, b)) - weight * cross(k(a, b))


@around
def uses_the_other_estimator(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """k(x, x) counted where it is to be left out, and left out where it is to be counted."""
    answer = original(a, b, **keywords)
    value = float(answer[0] if isinstance(answer, tuple) else answer)
    biased, unbiased = float(_distance(a, b, within=torch.mean)), float(_distance(a, b))
    return biased if abs(value - unbiased) < abs(value - biased) else unbiased


@around
def does_not_divide_by_the_width(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """The kernel's γ is 1 where it should be 1/d; with one feature, ½."""
    return _distance(a, b, kernel=Kernel(3, 1.0 if a.shape[1] > 1 else 0.5, 1.0))


@around
def forgets_the_constant(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return _distance(a, b, kernel=Kernel(3, 1 / a.shape[1], 0.0))


@around
def squares_instead_of_cubing(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return _distance(a, b, kernel=Kernel(2, 1 / a.shape[1], 1.0))


@around
def counts_the_cross_term_once(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return _distance(a, b, weight=1.0)


@around
def leaves_the_cross_diagonal_out(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """aᵢ and bᵢ are no pair: nothing is to be left out of the cross term."""
    rows = min(len(a), len(b))
    return _distance(a[:rows], b[:rows], cross=mean_off_the_diagonal)


@around
def divides_the_sum_off_the_diagonal_by_all(
    original: Any, a: Tensor, b: Tensor, **keywords: Any
) -> Any:
    """The diagonal is taken out of the sum and not out of the count."""
    return _distance(a, b, within=lambda k: mean_off_the_diagonal(k) * (len(k) - 1) / len(k))


@around
def cuts_off_below_zero(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """A squared distance, so it must not be negative: but the estimate may, and has to be."""
    return _distance(a, b).clamp_min(0)


@around
def takes_the_root_of_the_square(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return _distance(a, b).abs().sqrt()


@around
def centres_the_features(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    centre = torch.cat([a, b]).mean(0)
    return _distance(a - centre, b - centre)


@around
def takes_a_radial_kernel(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(x.double(), y.double()).square() / (2 * x.shape[1]))

    own = mean_off_the_diagonal(kernel(a, a)) + mean_off_the_diagonal(kernel(b, b))
    return own - 2 * kernel(a, b).mean()


def subset_kernel_distance(a: Tensor, b: Tensor, subset_size: int = 4) -> Tensor:
    """The mean over 10 random subsets, as libraries report it; right."""
    return _over_subsets(a, b, lambda n: torch.randperm(n)[:subset_size])


@around
def draws_subsets_with_replacement(
    original: Any, a: Tensor, b: Tensor, subset_size: int = 4
) -> Any:
    return _over_subsets(a, b, lambda n: torch.randint(n, (subset_size,)))


@around
def draws_from_the_first_rows(original: Any, a: Tensor, b: Tensor, subset_size: int = 4) -> Any:
    return _over_subsets(a, b, lambda n: torch.randperm(min(n, 2 * subset_size))[:subset_size])


@around
def keeps_the_diagonal_of_every_subset(
    original: Any, a: Tensor, b: Tensor, subset_size: int = 4
) -> Any:
    def within(k: Tensor) -> Tensor:
        return k.mean()

    return _over_subsets(a, b, lambda n: torch.randperm(n)[:subset_size], within)


def _over_subsets(
    a: Tensor,
    b: Tensor,
    choose: Callable[[int], Tensor],
    within: Callable[[Tensor], Tensor] = mean_off_the_diagonal,
) -> Tensor:
    values = [_distance(a[choose(len(a))], b[choose(len(b))], within=within) for _ in range(10)]
    return torch.stack(values).mean()


def _distance_of_kernels(
    a: Tensor, b: Tensor, estimator: str = "unbiased", degree: int = 3
) -> Tensor:
    within = torch.mean if estimator == "biased" else mean_off_the_diagonal
    return _distance(a, b, kernel=Kernel(degree, 1 / a.shape[1], 1.0), within=within)


BIASED = Subject(
    name="biased_kernel_distance",
    target=_distance_of_kernels,
    kind="distribution_metric",
    args={"estimator": "biased"},
    traits=frozenset({"symmetric", "nonnegative"}),
    options={"estimator": "estimator", "better": "lower", "perfect": 0.0},
)
OF_SUBSETS = Subject(
    name="kernel_distance_of_subsets",
    target=subset_kernel_distance,
    kind="distribution_metric",
    traits=frozenset({"stochastic"}),
    options={"estimator": "unbiased", "better": "lower", "sizes": {"n": [4, 17], "m": [4, 17]}},
)
