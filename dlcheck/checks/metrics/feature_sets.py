"""Feature sets with moments that are known exactly.

Every set is drawn from a case's sizes and seed, in float64, and then cast to the case's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.domains import size_bounds
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_WIDEST, _LONGEST = 9, 17  # features and drawn rows: more show nothing new, and roots are slow


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows the two sets have, and how many features; covariances of full rank."""

    first: int
    second: int
    features: int

    @classmethod
    def of(cls, metric: Implementation, case: Case) -> Sizes:
        """From the drawn sets [n, d] and [m, d]: d features, d + n + 2 and d + n + m + 4 rows.

        More rows than features, and never as many in one set as in the other, unless they are
        declared with one dim. What is drawn larger than needed is cut, unless the declaration asks
        for so many features.
        """
        first, second = case.tensors[:2]
        low, _ = widths(metric, case)
        least = least_rows(metric, case)
        n, m = (max(least, min(len(x), _LONGEST)) for x in (first, second))
        d = max(low, min(first.shape[1], _WIDEST))
        second_count = d + n + 2 if as_many(case) else d + n + m + 4
        return cls(d + n + 2, second_count, d)


def as_many(case: Case) -> bool:
    """Does the declaration ask for as many rows in one set as in the other?"""
    first, second = [spec.dims[0] for spec in case.specs.values()][:2]
    return first == second


def widths(metric: Implementation, case: Case) -> tuple[int, float]:
    """The least and the largest number of features that the declaration allows."""
    width = next(iter(case.specs.values())).dims[-1]
    if not width.name:
        return width.times, width.times
    return size_bounds(metric.options, width.name) or (1, float("inf"))


def least_rows(metric: Implementation, case: Case) -> int:
    """The least number of rows that the declaration allows in both sets."""
    names = [spec.dims[0].name for spec in case.specs.values()]
    bounds = [size_bounds(metric.options, name) for name in names if name]
    return max([1, *(low for low, _ in filter(None, bounds))])


def ddof_of(metric: Implementation) -> int:
    """The declared delta degrees of freedom of the covariance; 1 as in every library."""
    return int(metric.argument("ddof", 1))


def whitened(rows: int, features: int, ddof: int, generator: torch.Generator) -> Tensor:
    """[rows, features] float64 whose sample mean is 0 and whose sample covariance is I.

    Centred columns stay orthogonal to the constant column, so QR keeps their mean at 0; needs
    rows > features.
    """
    z = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    columns: Tensor = torch.linalg.qr(z - z.mean(0)).Q
    scale: float = (rows - ddof) ** 0.5
    return columns * scale


def shaping(features: int, generator: torch.Generator) -> Tensor:
    """[d, d] dense, singular values from ½ to 1½: a covariance that a root resolves well."""
    left, right = rotation(features, generator), rotation(features, generator)
    return (left * torch.linspace(0.5, 1.5, features, dtype=torch.float64)) @ right


def transport(features: int, generator: torch.Generator) -> Tensor:
    """[d, d] symmetric positive definite, eigenvalues from ½ to 1½, dense."""
    turn = rotation(features, generator)
    return (turn * torch.linspace(0.5, 1.5, features, dtype=torch.float64)) @ turn.mT


def rotation(features: int, generator: torch.Generator) -> Tensor:
    """[d, d] orthogonal."""
    z = torch.randn(features, features, generator=generator, dtype=torch.float64)
    turn: Tensor = torch.linalg.qr(z).Q
    return turn


def vector(features: int, generator: torch.Generator) -> Tensor:
    return torch.randn(features, generator=generator, dtype=torch.float64)


def pair(metric: Implementation, case: Case, salt: str = "pair") -> tuple[Tensor, Tensor]:
    """Two sets of full rank with other means, covariances that do not commute, other counts."""
    sizes, g, ddof = Sizes.of(metric, case), case.generator(salt), ddof_of(metric)
    d = sizes.features
    first = whitened(sizes.first, d, ddof, g) @ shaping(d, g) + vector(d, g)
    second = whitened(sizes.second, d, ddof, g) @ shaping(d, g) + vector(d, g)
    return first, second


def given(metric: Implementation, case: Case, first: Tensor, second: Tensor) -> float:
    """The metric of two sets, handed over in the case's dtype on its device.

    Raises NotApplicable where the metric refuses such sets, as its option `rejects` says.
    """
    sets = [rows.to(device=case.device, dtype=case.dtype) for rows in (first, second)]
    as_arrays = metric.options.get("arrays") == "numpy"
    try:
        return metric.number(*([x.cpu().numpy() for x in sets] if as_arrays else sets))
    except SubjectRaised as error:
        if _is_documented(metric, case, sets, error.__cause__):
            raise NotApplicable(f"it refuses such sets, as documented: {error}") from error
        raise


def _is_documented(
    metric: Implementation, case: Case, sets: Sequence[Tensor], raised: BaseException | None
) -> bool:
    """Is this what `options.rejects` says of the exception's type and of the sets' sizes?"""
    refused = dict(metric.options.get("rejects", {}))
    wanted = refused.pop("exception", None)
    if wanted not in [None, *(made.__name__ for made in type(raised).__mro__)]:
        return False
    if not refused:
        return wanted is not None
    for spec, rows in zip(case.specs.values(), sets, strict=False):
        for dim, size in zip(spec.dims, rows.shape, strict=True):
            values = refused.get(dim.name, ())
            if size in (values if isinstance(values, (list, tuple)) else [values]):
                return True
    return False


def apart(first: Tensor, second: Tensor) -> Tensor:
    """μ₂ − μ₁ [d] of the samples."""
    return second.mean(0) - first.mean(0)


def spread(metric: Implementation, rows: Tensor) -> float:
    """tr Σ of the sample with the declared ddof."""
    return float((rows - rows.mean(0)).square().sum() / (len(rows) - ddof_of(metric)))


def terms_of(metric: Implementation, first: Tensor, second: Tensor) -> float:
    """‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂: the terms of the distance, before any of them cancel."""
    moved = float(apart(first, second).square().sum())
    return moved + spread(metric, first) + spread(metric, second)


def scatter_of(rows: Tensor) -> float:
    """√(tr Σ) of rows that are at least 2."""
    return float(rows.var(0).sum().sqrt())
