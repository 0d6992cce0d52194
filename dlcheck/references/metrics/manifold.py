"""How much of one feature set lies in the other's manifold: precision, recall, density, coverage.

A set's manifold is the union of balls about its rows, each as wide as the distance to its k-th
nearest neighbour among the others.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.references.metrics.feature_sets import compared_sets, copied, must_be_finite
from dlcheck.registry import reference

_TILE = 1024  # rows: what is held is a tile of distances, not all of them


@reference(
    kind="distribution_metric",
    formula="mean over generated g of 1[ some real r with ‖g − r‖ ≤ NND_k(r) ]",
    source="Kynkäänniemi et al., Improved Precision and Recall Metric for Assessing Generative "
    "Models, NeurIPS 2019, eq. 1 and 2",
    inputs={"real": "float n d", "generated": "float m d"},
    traits=["other_distance", "motion_invariant", "scale_invariant", "nondifferentiable"],
    options={
        "range": [0, 1],
        "better": "higher",
        "perfect": 1.0,
        "sizes": {"n": [5, 17], "m": [5, 17]},
    },
)
def generative_precision(real: Tensor, generated: Tensor, neighbours: int = 3) -> Tensor:
    """The share of generated [m, d] that lies in the manifold of real [n, d]; returns [].

    In float64; distances below their own rounding are 0. Needs n > neighbours. Raises ValueError
    for NaN, infinity, other widths or devices, too few rows, TypeError for no real numbers.
    """
    inside = [(d <= radii).any(1) for d, radii in _balls(real, generated, neighbours)]
    return torch.cat(inside).double().mean()


@reference(
    kind="distribution_metric",
    formula="mean over real r of 1[ some generated g with ‖r − g‖ ≤ NND_k(g) ]",
    source="Kynkäänniemi et al., Improved Precision and Recall Metric for Assessing Generative "
    "Models, NeurIPS 2019, eq. 1 and 2",
    inputs={"real": "float n d", "generated": "float m d"},
    traits=["other_distance", "motion_invariant", "scale_invariant", "nondifferentiable"],
    options={
        "range": [0, 1],
        "better": "higher",
        "perfect": 1.0,
        "sizes": {"n": [5, 17], "m": [5, 17]},
    },
)
def generative_recall(real: Tensor, generated: Tensor, neighbours: int = 3) -> Tensor:
    """The share of real [n, d] that lies in the manifold of generated [m, d]; returns []."""
    compared_sets(real, generated)  # so that an error names the set as it was given
    must_be_finite("first", real)
    must_be_finite("second", generated)
    return generative_precision(generated, real, neighbours)


def generative_precision_and_recall(
    real: Tensor, generated: Tensor, neighbours: int = 3
) -> tuple[Tensor, Tensor]:
    """Both of them, in this order."""
    precision = generative_precision(real, generated, neighbours)
    return precision, generative_recall(real, generated, neighbours)


def density_and_coverage(
    real: Tensor, generated: Tensor, neighbours: int = 5
) -> tuple[Tensor, Tensor]:
    """How many real balls a generated row lies in, over k; the share of real balls that hold one.

    real [n, d], generated [m, d]; returns [] and []. Density may exceed 1, and does not reward
    one outlier among the real rows as precision does.
    Source: Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, ICML 2020,
    §3.
    """
    balls, covered = 0.0, torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for distances, radii in _balls(real, generated, neighbours):
        inside = distances <= radii
        balls += float(inside.sum())
        covered |= inside.any(0)
    density = torch.tensor(balls / (neighbours * len(generated)), dtype=torch.float64)
    return density.to(real.device), covered.double().mean()


def _balls(real: Tensor, other: Tensor, neighbours: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Tiles of squared distances [t, n] of `other` to `real`, with the squared radii [n]."""
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; a ball needs at least 1")
    compared_sets(real, other)
    if len(real) <= neighbours:
        raise ValueError(
            f"a manifold of {len(real)} rows has no neighbour number {neighbours} beside each: "
            "give more rows or fewer neighbours"
        )
    must_be_finite("first", real)
    must_be_finite("second", other)
    centres, points = copied(real, other)
    # The row itself, at distance 0, comes first.
    radii = torch.cat(
        [
            _squared_distances(x, centres).kthvalue(neighbours + 1, dim=1).values
            for x in centres.split(_TILE)
        ]
    )
    for x in points.split(_TILE):
        yield _squared_distances(x, centres), radii


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x − y‖² [n, m] by one product; what is below the rounding of its three terms is 0."""
    sizes = x.square().sum(1)[:, None] + y.square().sum(1)
    squares = sizes - 2 * (x @ y.mT)
    rounding = 4 * x.shape[1] * torch.finfo(x.dtype).eps
    return torch.where(squares > rounding * sizes, squares, 0)
