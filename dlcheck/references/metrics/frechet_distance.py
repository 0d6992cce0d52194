"""The Fréchet distance of two feature sets, as the FID uses it, without a general matrix root."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.numerics.moments import Moments, MomentStream
from dlcheck.references.metrics.feature_sets import compared_sets, copied, must_be_finite
from dlcheck.references.metrics.trace_of_root import (
    nuclear_norm,
    trace_if_regular,
    trace_of_root,
)
from dlcheck.registry import reference

_STRIPE = 128
_ASYMMETRY = 1e-6  # relative: what float32 leaves of symmetry


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

    In float64 whatever the features are, integers too; returns [], never negative. `algorithm`:

    - `"cholesky"`, from the covariances: the fastest, chosen where n, m > d and neither covariance
      is singular to rounding;
    - `"singular_values"`, from the rows: chosen otherwise, right to its last digits for any rank;
    - `"procrustes"`, from the rows, a sum of squares: slower, right to its last digits near 0 too.

    Raises ValueError for NaN, infinity, other widths or devices, n or m ≤ ddof, and TypeError for
    what holds no real numbers.
    """
    if algorithm != "auto" and algorithm not in _ALGORITHMS:
        raise ValueError(f"algorithm is auto, {', '.join(_ALGORITHMS)}, not {algorithm!r}")
    compared_sets(a, b, least=ddof + 1)
    must_be_finite("first", a)
    must_be_finite("second", b)
    if algorithm == "auto":
        return _chosen(a, b, ddof)
    return _ALGORITHMS[algorithm](a, b, ddof)


def frechet_distance_from_moments(
    mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor
) -> Tensor:
    """The same from means [d] and covariances [d, d], as files of statistics hold them; [].

    Raises ValueError where a covariance is not square or not symmetric to 10⁻⁶ (it is made so),
    where a variance is negative, or where a number is not finite.
    """
    one = _symmetric("first", mean_a, covariance_a)
    two = _symmetric("second", mean_b, covariance_b)
    return _distance(mean_a.double() - mean_b.double(), one, two)


def from_moments(first: Moments, second: Moments, ddof: int = 1) -> Tensor:
    """The same from moments with one origin: what two streams of batches leave; returns []."""
    return _distance(first.mean - second.mean, first.covariance(ddof), second.covariance(ddof))


class StreamingFrechetDistance:
    """The same by update(a, b), compute(), merge(other) and reset(); counts may differ.

    Holds the rows of a side themselves, in float64, until there are max(512, d/2); from then on
    one [d, d] matrix a side and at most 512 rows that wait for it. The result is what
    `frechet_distance` says of all rows at once.
    """

    def __init__(self, ddof: int = 1) -> None:
        self.ddof = ddof
        self.reset()

    def reset(self) -> None:
        self._sides: tuple[MomentStream, MomentStream] | None = None
        self._width = 0

    def update(self, a: Tensor, b: Tensor) -> None:
        """Take rows a [n, d] and b [m, d]; one of the two may be empty. Raises as
        `frechet_distance` does, and then nothing of the batch is taken."""
        compared_sets(a, b, least=0)
        if self._width and a.shape[1] != self._width:
            raise ValueError(
                f"this batch has {a.shape[1]} features and those before had {self._width}; reset() "
                "before another network's features"
            )
        must_be_finite("first", a)
        must_be_finite("second", b)
        if self._sides is None:
            if not len(a) + len(b):
                return
            origin = (a if len(a) else b)[0].detach().double()
            self._sides, self._width = (MomentStream(origin), MomentStream(origin)), a.shape[1]
        for stream, rows in zip(self._sides, (a, b), strict=True):
            if len(rows):
                stream.update(rows.detach())  # read much later: no graph is kept

    def merge(self, other: StreamingFrechetDistance) -> None:
        """Take what the other saw, as if it had been given here.

        Raises ValueError where its ddof or its width are others.
        """
        if self.ddof != other.ddof:
            raise ValueError(
                f"this stream has ddof {self.ddof} and the other {other.ddof}; merge streams of "
                "one metric"
            )
        if other._sides is None:
            return
        if self._sides is None:
            origin = other._sides[0].origin
            self._sides, self._width = (MomentStream(origin), MomentStream(origin)), other._width
        if self._width != other._width:
            raise ValueError(
                f"this stream has {self._width} features and the other {other._width}; both must "
                "come from the same layer of the same network"
            )
        for mine, theirs in zip(self._sides, other._sides, strict=True):
            mine.merge(theirs)

    def state_dict(self) -> dict[str, Any]:
        return {"sides": [side.state_dict() for side in self._sides or ()], "width": self._width}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.reset()
        if state["sides"]:
            one, two = map(MomentStream.of_state, state["sides"])
            self._sides, self._width = (one, two), state["width"]

    def compute(self) -> Tensor:
        """[]. Raises ValueError where a side has no more rows than ddof."""
        rows = [stream.rows for stream in self._sides or ()] or [0, 0]
        if self._sides is None or min(rows) <= self.ddof:
            raise ValueError(
                f"the sets have {rows[0]} and {rows[1]} rows, and this needs at least "
                f"{self.ddof + 1} in each: call update() before compute()"
            )
        one, two = self._sides
        first, second = one.kept(), two.kept()
        if first is not None and second is not None:
            return _chosen(first, second, self.ddof)
        return from_moments(one.moments(), two.moments(), self.ddof)


def _chosen(a: Tensor, b: Tensor, ddof: int) -> Tensor:
    """From the covariances where both are regular, else from the rows."""
    if min(len(a), len(b)) <= a.shape[1]:
        return _singular_values(a, b, ddof)
    first, second = _moments(a, b)
    one, two = first.covariance(ddof), second.covariance(ddof)
    trace = trace_if_regular(one, two)
    if trace is None:
        return _singular_values(a, b, ddof)
    return _summed(first.mean - second.mean, one, two, trace)


def _distance(step: Tensor, one: Tensor, two: Tensor) -> Tensor:
    return _summed(step, one, two, trace_of_root(one, two))


def _summed(step: Tensor, one: Tensor, two: Tensor, trace: Tensor) -> Tensor:
    # The rounding of three sums that cancel can leave −10⁻¹⁵ of what is ≥ 0.
    return (step.square().sum() + one.trace() + two.trace() - 2 * trace).clamp_min(0)


def _moments(a: Tensor, b: Tensor) -> tuple[Moments, Moments]:
    """The moments of both about the first row of the first."""
    streams = MomentStream(a[0].double()), MomentStream(a[0].double())
    for stream, rows in zip(streams, (a, b), strict=True):
        stream.update(rows)
    first, second = streams
    return first.moments(), second.moments()


def _cholesky(a: Tensor, b: Tensor, ddof: int) -> Tensor:
    first, second = _moments(a, b)
    return from_moments(first, second, ddof)


def _centred(rows: Tensor, ddof: int) -> tuple[Tensor, Tensor]:
    """(mean, A) with AᵀA = Σ: no more rows than features, by QR where there were more."""
    mean = rows.mean(0)
    factor = (rows - mean) / (len(rows) - ddof) ** 0.5
    return mean, torch.linalg.qr(factor, mode="r").R if len(rows) > rows.shape[1] else factor


def _factors(a: Tensor, b: Tensor, ddof: int) -> tuple[Tensor, Tensor, Tensor]:
    """μ₁ − μ₂ and factors A₁, A₂ of the covariances."""
    (first, one), (second, two) = (_centred(rows, ddof) for rows in copied(a, b))
    return first - second, one, two


def _singular_values(a: Tensor, b: Tensor, ddof: int) -> Tensor:
    """With Σᵢ = AᵢᵀAᵢ, tr (Σ₁Σ₂)^½ is the sum of the singular values of A₁A₂ᵀ."""
    step, one, two = _factors(a, b, ddof)
    total = step.square().sum() + one.square().sum() + two.square().sum()
    return (total - 2 * nuclear_norm(one @ two.mT)).clamp_min(0)


def _procrustes(a: Tensor, b: Tensor, ddof: int) -> Tensor:
    """min over orthogonal Q of ‖A₁ − QᵀA₂‖²: the same trace, written as a sum of squares.

    ‖A₁ − QᵀA₂‖² = tr Σ₁ + tr Σ₂ − 2 tr(Q A₁A₂ᵀ), and with A₂A₁ᵀ = USVᵀ the best Q is UVᵀ.
    """
    step, one, two = _factors(a, b, ddof)
    rows = max(len(one), len(two))
    one, two = (torch.nn.functional.pad(x, (0, 0, 0, rows - len(x))) for x in (one, two))
    u, _, vh = torch.linalg.svd(two @ one.mT)
    best: Tensor = u @ vh
    return step.square().sum() + (one - best.mT @ two).square().sum()


_ALGORITHMS: Mapping[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "cholesky": _cholesky,
    "singular_values": _singular_values,
    "procrustes": _procrustes,
}


def _symmetric(name: str, mean: Tensor, covariance: Tensor) -> Tensor:
    """The covariance in float64, once it is seen to be one."""
    if covariance.shape != (len(mean), len(mean)) or mean.ndim != 1:
        raise ValueError(
            f"the {name} mean has the shape {tuple(mean.shape)} and its covariance "
            f"{tuple(covariance.shape)}; they must be [d] and [d, d]"
        )
    covariance = covariance.double()
    largest = float(covariance.abs().max())
    if not math.isfinite(largest + float(mean.abs().max())):
        raise ValueError(f"the {name} moments hold NaN or infinity: compute them anew")
    apart = _asymmetry(covariance)
    if apart > _ASYMMETRY * largest or float(covariance.diagonal().min()) < 0:
        raise ValueError(
            f"the {name} covariance is off by {apart:.3g} from its transpose, with elements up to "
            f"{largest:.3g}, or has a negative variance; give Σ(x − μ)(x − μ)ᵀ/(n − 1) of the rows"
        )
    return covariance if apart == 0 else (covariance + covariance.mT) / 2


def _asymmetry(matrix: Tensor) -> float:
    """max |M − Mᵀ|, stripe by stripe, so that no second matrix is made."""
    worst = 0.0
    for start in range(0, len(matrix), _STRIPE):
        stripe = slice(start, start + _STRIPE)
        apart = matrix[stripe, start:] - matrix[start:, stripe].mT
        worst = max(worst, float(apart.abs_().max()))
    return worst


def by_matrix_root(a: Tensor, b: Tensor) -> Tensor:
    """The same as the FID's published code writes it, with SciPy's general matrix root.

    A peer to compare with: Σ₁Σ₂ is not symmetric, so its root may come out complex, and near
    singular covariances cost half of the digits. Where the root is not finite, 10⁻⁶ is added to
    both diagonals, as there. Source: pytorch-fid, `calculate_frechet_distance`.
    """
    from scipy.linalg import sqrtm

    first, second = Moments.of(a), Moments.of(b)
    one, two = first.covariance(), second.covariance()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the product is singular
        root = torch.as_tensor(sqrtm((one @ two).cpu().numpy()).real)
        if not bool(root.isfinite().all()):
            guard = 1e-6 * torch.eye(len(one), dtype=one.dtype, device=one.device)
            root = torch.as_tensor(sqrtm(((one + guard) @ (two + guard)).cpu().numpy()).real)
    trace = root.trace().to(one.device)
    return (first.mean - second.mean).square().sum() + one.trace() + two.trace() - 2 * trace
