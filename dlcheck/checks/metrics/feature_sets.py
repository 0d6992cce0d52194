"""Feature sets with moments that are known exactly, and how well their distance can be computed.

Every set is drawn from a case's sizes and seed, in float64, and then cast to the case's dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.checks.metrics.precision import precision
from dlcheck.numerics.rounding import gamma
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows the two sets have, and how many features; covariances of full rank."""

    first: int
    second: int
    features: int

    @classmethod
    def of(cls, case: Case) -> Sizes:
        """From the drawn sets [n, d] and [m, d]: d features, d + n + 2 and d + n + m + 4 rows.

        More rows than features, and never as many in one set as in the other.
        """
        first, second = case.tensors[:2]
        d = first.shape[1]
        return cls(d + len(first) + 2, d + len(first) + len(second) + 4, d)


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


def pair(metric: Implementation, case: Case) -> tuple[Tensor, Tensor]:
    """Two sets of full rank with other means, covariances that do not commute, other counts."""
    sizes, g, ddof = Sizes.of(case), case.generator("pair"), ddof_of(metric)
    d = sizes.features
    first = whitened(sizes.first, d, ddof, g) @ shaping(d, g) + vector(d, g)
    second = whitened(sizes.second, d, ddof, g) @ shaping(d, g) + vector(d, g)
    return first, second


def given(metric: Implementation, case: Case, first: Tensor, second: Tensor) -> float:
    """The metric of two sets, handed over in the case's dtype on its device."""
    sets = (rows.to(device=case.device, dtype=case.dtype) for rows in (first, second))
    return metric.number(*sets)


def scale_of(first: Tensor, second: Tensor) -> float:
    """E‖x‖² of the larger set about zero: no term of a distance of them is of higher order."""
    squares = [rows.double().square().sum(1).mean() for rows in (first, second)]
    return float(torch.stack(squares).max())


def trace_of(first: Tensor, second: Tensor) -> float:
    """‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂: the terms of the distance, before any of them cancel."""
    first, second = first.double(), second.double()
    apart = (first.mean(0) - second.mean(0)).square().sum()
    return float(apart + first.var(0, correction=0).sum() + second.var(0, correction=0).sum())


def resolvable(metric: Implementation, case: Case, first: Tensor, second: Tensor) -> float:
    """The error that a right distance of two sets with regular covariances may have.

    A Fréchet distance may lose what its own precision costs on regular covariances, and, in
    float64, half of its digits besides: general matrix roots and guarded ones do, and no one
    needs more. A kernel distance is three means of at most N² kernels, each a sum of d products:
    4 γ(N² + d) max k, where k = (xᵀy/d + 1)³ at its largest.
    """
    if "estimator" in metric.options:
        rows, features = max(len(first), len(second)), first.shape[1]
        longest = max(float(x.double().square().sum(1).max()) for x in (first, second))
        terms = gamma(rows**2 + features, precision(metric, case))
        return 4 * terms * (longest / features + 1) ** 3
    regular = resolvable_when_regular(metric, case, first, second)
    return max(regular, _singular(first, second, torch.float64))


def resolvable_when_singular(
    metric: Implementation, case: Case, first: Tensor, second: Tensor
) -> float:
    """The error that a right Fréchet distance may have for any covariances: about √ε trace.

    Moments of N rows, summed in any order, one pass or two, are off by at most
    δ = γ(N + d) E‖x‖². An eigenvalue of Σ₁Σ₂ then moves by at most η = 2 δ ‖Σ‖, and since
    |√x − √y| ≤ √|x − y|, each of d roots by √η, wherever an eigenvalue is close to 0. Twice the
    sum of the roots, and four sums of moments: 2d√η + 4δ.
    """
    return _singular(first, second, precision(metric, case))


def _singular(first: Tensor, second: Tensor, dtype: torch.dtype) -> float:
    delta = _moments_off_by(first, second, dtype)
    root: float = (2 * delta * _norm(first, second)) ** 0.5
    return 2 * first.shape[1] * root + 4 * delta


def resolvable_when_regular(
    metric: Implementation, case: Case, first: Tensor, second: Tensor, offset: float = 0.0
) -> float:
    """The same for sets of `pair`, and `transport`s of them, moved by `offset` in every feature.

    Their covariances have eigenvalues from ¼, or ¼ · ¼, to 2¼, so that no root is close to 0 and
    |√x − √y| ≤ |x − y|/√x applies with √x ≥ ⅛; the eigenvectors of Σ₁Σ₂ have condition 3. So
    each root moves by at most 24 η.
    """
    delta = _moments_off_by(first + offset, second + offset, precision(metric, case))
    return 2 * first.shape[1] * 24 * 2 * delta * _norm(first, second) + 4 * delta


def _moments_off_by(first: Tensor, second: Tensor, dtype: torch.dtype) -> float:
    rows = max(len(first), len(second))
    return gamma(rows + first.shape[1], dtype) * scale_of(first, second)


def _norm(first: Tensor, second: Tensor) -> float:
    """The larger spectral norm of the two covariances, from the smaller of XᵀX and XXᵀ."""
    norms = []
    for rows in (first, second):
        centred = rows.double() - rows.double().mean(0)
        wide = centred if len(rows) <= rows.shape[1] else centred.mT
        norms.append(torch.linalg.eigvalsh(wide @ wide.mT)[-1] / max(len(rows) - 1, 1))
    return float(torch.stack(norms).max())
