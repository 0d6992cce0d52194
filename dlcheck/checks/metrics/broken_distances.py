"""Fréchet distances with one mistake each, as people make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlcheck.mutants import around


def _moments(rows: Tensor, ddof: int = 1) -> tuple[Tensor, Tensor]:
    rows = rows.double()
    centred = rows - rows.mean(0)
    return rows.mean(0), centred.mT @ centred / (len(rows) - ddof)


def _root(matrix: Tensor) -> Tensor:
    """The symmetric root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    return root


def _distance(a: Tensor, b: Tensor, trace: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The definition with another tr (Σ₁Σ₂)^½."""
    (first, one), (second, two) = _moments(a), _moments(b)
    return (first - second).square().sum() + one.trace() + two.trace() - 2 * trace(one, two)


def _right_trace(one: Tensor, two: Tensor) -> Tensor:
    half = _root(one)
    return _root(half @ two @ half).trace()


@around
def multiplies_the_separate_roots(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return _distance(a, b, lambda one, two: (_root(one) @ _root(two)).trace())


@around
def takes_the_root_of_each_element(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return _distance(a, b, lambda one, two: (one @ two).abs().sqrt().trace())


@around
def sees_only_the_diagonal(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return _distance(a, b, lambda one, two: (one.diagonal() * two.diagonal()).sqrt().sum())


@around
def forgets_the_factor_two(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return _distance(a, b, lambda one, two: _right_trace(one, two) / 2)


@around
def adds_the_root(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return _distance(a, b, lambda one, two: -_right_trace(one, two))


@around
def adds_a_millionth_to_the_diagonal(
    original: Any, a: Tensor, b: Tensor, **keywords: Any
) -> Tensor:
    def trace(one: Tensor, two: Tensor) -> Tensor:
        jitter = 1e-6 * torch.eye(len(one), dtype=one.dtype, device=one.device)
        return _right_trace(one + jitter, two + jitter)

    return _distance(a, b, trace)


@around
def divides_by_the_norm_of_the_product(
    original: Any, a: Tensor, b: Tensor, **keywords: Any
) -> Tensor:
    """Newton–Schulz from Σ₁Σ₂/‖Σ₁Σ₂‖: 0/0 where a set has no spread."""

    def trace(one: Tensor, two: Tensor) -> Tensor:
        product = one @ two
        size = product.norm()
        root, inverse = product / size, torch.eye(len(one), dtype=one.dtype, device=one.device)
        three = 3 * inverse
        for _ in range(60):
            step = (three - inverse @ root) / 2
            root, inverse = root @ step, step @ inverse
        value: Tensor = root.trace() * size.sqrt()
        return value

    return _distance(a, b, trace)


@around
def does_not_square_the_means(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    step = a.double().mean(0) - b.double().mean(0)
    return _distance(a, b, _right_trace) - step.square().sum() + step.square().sum().sqrt()


@around
def sums_the_squares_in_float32(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """E[xxᵀ] − μμᵀ in float32: the offset's square takes every digit of the covariance."""

    def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
        rows, n = rows.float(), len(rows)
        mean = rows.mean(0)
        return mean.double(), (
            (rows.mT @ rows / n - torch.outer(mean, mean)) * (n / (n - 1))
        ).double()

    (first, one), (second, two) = moments(a), moments(b)
    apart = (first - second).square().sum()
    return apart + one.trace() + two.trace() - 2 * _right_trace(one, two)


# --- what breaks any distance of two sets, whatever its formula ---------------------------------


@around
def forgets_the_means(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return original(a - a.mean(0), b - b.mean(0), **keywords)


@around
def compares_only_the_means(
    original: Any, a: Tensor, b: Tensor, *rest: Any, **keywords: Any
) -> Any:
    return (a.double().mean(0) - b.double().mean(0)).square().sum()


@around
def returns_the_square_root(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    return torch.as_tensor(original(*sets, **keywords)).abs().sqrt()


@around
def divides_by_one_row_less(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    """The covariance over n − 1 − ddof."""
    return original(*(_spread(x, len(x) / (len(x) - 1)) for x in sets), **keywords)


@around
def divides_by_one_row_more(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    """The population's covariance where the sample's is meant."""
    return original(*(_spread(x, (len(x) - 1) / len(x)) for x in sets), **keywords)


@around
def divides_both_by_the_first_count(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return original(a, _spread(b, (len(b) - 1) / (len(a) - 1)), **keywords)


def _spread(rows: Tensor, factor: float) -> Tensor:
    """The same mean, the covariance times `factor`."""
    mean = rows.mean(0)
    root: float = factor**0.5
    return mean + (rows - mean) * root


@around
def drops_the_last_row(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    return original(*(x[:-1] if len(x) > 3 else x for x in (a, b)), **keywords)


@around
def cuts_the_longer_set(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """What zip does to two sets of unequal counts."""
    rows = min(len(a), len(b))
    return original(a[:rows], b[:rows], **keywords)


@around
def weights_the_rows(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """Later batches count more, as in a running mean."""
    weights = torch.linspace(0.5, 1.5, len(a), dtype=a.dtype, device=a.device)
    return original(a * weights[:, None], b, **keywords)


@around
def measures_in_units_of_the_first_set(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """Standardised by the reference set: invariant to scale, as the distance is not."""
    return original(a / a.std(0), b / a.std(0), **keywords)


@around
def normalizes_the_rows(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    return original(*(torch.nn.functional.normalize(x, dim=1) for x in sets), **keywords)


@around
def averages_with_the_set_itself(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """The first set is measured against both: the cache of a reference set was not cleared."""
    return original(a, torch.cat([a, b]), **keywords)


@around
def rounds_the_features(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    """Features kept as bfloat16."""
    return original(*(x.bfloat16().to(x.dtype) for x in sets), **keywords)


# --- what breaks the meaning of any measure of two sets -------------------------------------------


def value_of(answer: Any) -> Tensor:
    """The measure, where it comes with its standard deviation too."""
    return torch.as_tensor(answer[0] if isinstance(answer, (tuple, list)) else answer)


@around
def is_higher_where_sets_are_closer(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    """A similarity where a distance is declared, and a distance where a similarity is."""
    return 1 / (1 + value_of(original(*sets, **keywords)))


@around
def negates_the_distance(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    return -value_of(original(*sets, **keywords))


@around
def compares_the_first_set_with_itself(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """The statistics of the real set, cached under the wrong name."""
    return original(a, a, **keywords)
