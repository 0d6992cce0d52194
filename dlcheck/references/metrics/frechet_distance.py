"""The Fréchet distance of two feature sets, as the FID uses it, without a general matrix root."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dlcheck.numerics.moments import Moments
from dlcheck.registry import reference


@reference(
    kind="distribution_metric",
    formula="‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½)",
    source="Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash "
    "Equilibrium, NeurIPS 2017, eq. 6; Dowson & Landau, The Fréchet Distance between Multivariate "
    "Normal Distributions, J. Multivariate Analysis 12(3), 1982",
    inputs={"a": "float n d", "b": "float m d"},
    args={"ddof": 1},
    traits=["nonnegative", "symmetric"],
    options={
        "ddof": "ddof",
        "better": "lower",
        "perfect": 0.0,
        "sizes": {"n": [2, 17], "m": [2, 17]},
    },
)
def frechet_distance(a: Tensor, b: Tensor, ddof: int = 1, algorithm: str = "auto") -> Tensor:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) of the rows of a [n, d] and b [m, d].

    In float64 whatever the features are; returns []. Needs n, m > ddof. `algorithm` is
    `"cholesky"` (chosen where n, m > d), `"singular_values"` (chosen otherwise), or
    `"procrustes"`: slower, a sum of squares, and so right to its last digits near 0.
    """
    if algorithm == "auto":
        full = min(len(a), len(b)) > a.shape[1]
        algorithm = "cholesky" if full else "singular_values"
    return _ALGORITHMS[algorithm](a.double(), b.double(), ddof)


def from_moments(first: Moments, second: Moments, ddof: int = 1) -> Tensor:
    """The same from moments: what a stream of batches leaves; returns []."""
    one, two = first.covariance(ddof), second.covariance(ddof)
    total = (first.mean - second.mean).square().sum() + one.trace() + two.trace()
    # The rounding of three sums that cancel can leave −10⁻¹⁵ of what is ≥ 0.
    return (total - 2 * _trace_of_root(one, two)).clamp_min(0)


class StreamingFrechetDistance:
    """The same by update(a, b), compute() and reset(): one d × d scatter for each side."""

    def __init__(self, ddof: int = 1) -> None:
        self.ddof = ddof
        self.reset()

    def reset(self) -> None:
        self._sides: list[Moments] = []

    def update(self, a: Tensor, b: Tensor) -> None:
        new = [Moments.of(a), Moments.of(b)]
        old = self._sides
        self._sides = [x.merged(y) for x, y in zip(old, new, strict=True)] if old else new

    def compute(self) -> Tensor:
        first, second = self._sides
        return from_moments(first, second, self.ddof)


def _trace_of_root(one: Tensor, two: Tensor) -> Tensor:
    """tr (Σ₁Σ₂)^½. With Σ₁ = LLᵀ, Σ₁Σ₂ has the eigenvalues of the symmetric LᵀΣ₂L."""
    factor, failed = torch.linalg.cholesky_ex(one)
    if not bool(failed):
        values: Tensor = torch.linalg.eigvalsh(factor.mT @ two @ factor)
        return values.clamp_min(0).sqrt().sum()
    return _nuclear_norm(_root(one).mT @ _root(two))


def _nuclear_norm(matrix: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svdvals(matrix)
    return values.sum()


def _root(covariance: Tensor) -> Tensor:
    """R with RRᵀ = Σ, eigenvalues below the rounding of the largest taken for the 0 they are."""
    values, vectors = torch.linalg.eigh(covariance)
    cut = len(values) * torch.finfo(values.dtype).eps * values.max()
    root: Tensor = vectors * torch.where(values > cut, values, 0).sqrt()
    return root


def _cholesky(a: Tensor, b: Tensor, ddof: int) -> Tensor:
    return from_moments(Moments.of(a), Moments.of(b), ddof)


def _centred(rows: Tensor, ddof: int) -> tuple[Tensor, Tensor]:
    """(mean, A) with AᵀA = Σ: no more rows than features, by QR where there were more."""
    mean = rows.mean(0)
    factor = (rows - mean) / (len(rows) - ddof) ** 0.5
    return mean, torch.linalg.qr(factor, mode="r").R if len(rows) > rows.shape[1] else factor


def _singular_values(a: Tensor, b: Tensor, ddof: int) -> Tensor:
    """With Σᵢ = AᵢᵀAᵢ, tr (Σ₁Σ₂)^½ is the sum of the singular values of A₁A₂ᵀ."""
    (first, one), (second, two) = _centred(a, ddof), _centred(b, ddof)
    total = (first - second).square().sum() + one.square().sum() + two.square().sum()
    return (total - 2 * _nuclear_norm(one @ two.mT)).clamp_min(0)


def _procrustes(a: Tensor, b: Tensor, ddof: int) -> Tensor:
    """min over orthogonal Q of ‖A₁ − QᵀA₂‖²: the same trace, written as a sum of squares.

    ‖A₁ − QᵀA₂‖² = tr Σ₁ + tr Σ₂ − 2 tr(Q A₁A₂ᵀ), and with A₂A₁ᵀ = USVᵀ the best Q is UVᵀ.
    """
    (first, one), (second, two) = _centred(a, ddof), _centred(b, ddof)
    rows = max(len(one), len(two))
    one, two = (torch.nn.functional.pad(x, (0, 0, 0, rows - len(x))) for x in (one, two))
    u, _, vh = torch.linalg.svd(two @ one.mT)
    best: Tensor = u @ vh
    return (first - second).square().sum() + (one - best.mT @ two).square().sum()


_ALGORITHMS: Mapping[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "cholesky": _cholesky,
    "singular_values": _singular_values,
    "procrustes": _procrustes,
}


def by_matrix_root(a: Tensor, b: Tensor) -> Tensor:
    """The same as the FID's published code writes it, with SciPy's general matrix root.

    A peer to compare with: Σ₁Σ₂ is not symmetric, so its root may come out complex, and near
    singular covariances cost half of the digits. Source: pytorch-fid, `calculate_frechet_distance`.
    """
    from scipy.linalg import sqrtm

    first, second = Moments.of(a), Moments.of(b)
    one, two = first.covariance(), second.covariance()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the product is singular
        root = torch.as_tensor(sqrtm((one @ two).cpu().numpy()).real)
    trace = root.trace().to(one.device)
    return (first.mean - second.mean).square().sum() + one.trace() + two.trace() - 2 * trace
