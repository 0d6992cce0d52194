"""How well a right distance of two feature sets can be computed, and what that makes of an error.

An allowance is a function of the type in which the metric computes. A metric that takes float64
and computes in float32 inside, as many do on purpose, is judged by float32: where an error is too
large for float64, `computes_in` looks which of the two it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dlcheck.checks.metrics.feature_sets import given, pair
from dlcheck.checks.metrics.kernels import is_kernel_distance, kernel_of, mean_sizes
from dlcheck.checks.metrics.precision import precision
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import gamma
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

Allowance = Callable[[torch.dtype], float]

_STEP = 2.0**-34  # relative: below what float32 holds, far above the rounding of float64


def compared(
    metric: Implementation,
    case: Case,
    got: float,
    expected: float,
    allowed: Allowance,
    *,
    what: str,
    signal: float | None = None,
) -> Evidence:
    """Evidence that two numbers are one, up to what is allowed."""
    return judged(
        metric,
        case,
        abs(got - expected),
        allowed,
        what=what,
        signal=abs(expected) if signal is None else signal,
        expected=f"{expected:.9g}",
        got=f"{got:.9g}",
    )


def judged(
    metric: Implementation,
    case: Case,
    error: float,
    allowed: Allowance,
    *,
    what: str,
    signal: float,
    expected: str,
    got: str,
) -> Evidence:
    """An error against what is allowed in the type that the metric computes in.

    In float32 a bound of half of the signal still says something: there the root of a rounding
    error is 3·10⁻⁴.
    """
    dtype = precision(metric, case)
    if not error <= allowed(dtype):
        dtype = computes_in(metric, case)
    return Evidence(
        error=error,
        bound=allowed(dtype),
        signal=signal,
        what=what,
        expected=expected,
        got=got,
        resolution=0.01 if dtype == torch.float64 else 0.5,
    )


def computes_in(metric: Implementation, case: Case) -> torch.dtype:
    """The declared `compute_dtype`; else the case's own type, or float32 where it shows.

    f(X(1 + h)) − f(X) is proportional to a small h. A metric in float64 shows that still at
    h = 2⁻³⁴; one that rounds to float32 anywhere sees nothing of it, or a thousand times as much.
    """
    declared = precision(metric, case)
    if declared != torch.float64 or "compute_dtype" in metric.options:
        return declared
    first, second = pair(metric, case, "precision")
    before = given(metric, case, first, second)
    large, small = (
        (given(metric, case, first * (1 + h), second * (1 + h)) - before) / h
        for h in (2.0**-10, _STEP)
    )
    return torch.float64 if abs(small - large) < 0.25 * abs(large) else torch.float32


def resolvable(metric: Implementation, first: Tensor, second: Tensor) -> Allowance:
    """The error that a right distance of two sets with regular covariances may have.

    A Fréchet distance may lose what its own precision costs on regular covariances, and, in
    float64, half of its digits besides: general matrix roots and guarded ones do, and no one
    needs more. A kernel distance may lose what its means of kernels cost.
    """
    if is_kernel_distance(metric):
        return _of_kernels(metric, first, second)
    regular = resolvable_when_regular(first, second)
    return lambda dtype: max(regular(dtype), _singular(first, second, torch.float64))


def resolvable_in(metric: Implementation, case: Case, first: Tensor, second: Tensor) -> float:
    """The same in the type that the metric computes in."""
    return resolvable(metric, first, second)(computes_in(metric, case))


def resolvable_when_singular(first: Tensor, second: Tensor) -> Allowance:
    """The error that a right Fréchet distance may have for any covariances: about √ε trace.

    Moments of N rows, summed in any order, one pass or two, are off by at most
    δ = γ(N + d) E‖x‖². An eigenvalue of Σ₁Σ₂ then moves by at most η = 2 δ ‖Σ‖, and since
    |√x − √y| ≤ √|x − y|, each of d roots by √η, wherever an eigenvalue is close to 0. Twice the
    sum of the roots, and four sums of moments: 2d√η + 4δ.
    """
    return lambda dtype: _singular(first, second, dtype)


def resolvable_when_regular(first: Tensor, second: Tensor) -> Allowance:
    """The same for sets of `pair`, and `transport`s of them, moved as a whole or not.

    Their covariances have eigenvalues from ¼, or ¼ · ¼, to 2¼, so that no root is close to 0 and
    |√x − √y| ≤ |x − y|/√x applies with √x ≥ ⅛; the eigenvectors of Σ₁Σ₂ have condition 3. So
    each root moves by at most 24 η.
    """

    def allowed(dtype: torch.dtype) -> float:
        delta = _moments_off_by(first, second, dtype)
        return 2 * first.shape[1] * 24 * 2 * delta * _norm(first, second) + 4 * delta

    return allowed


def resolvable_when_far(first: Tensor, second: Tensor) -> Allowance:
    """The same for sets of `pair` that a common offset has moved far: two passes, or float64.

    In float64 one pass is allowed. In float32 it is not, since it leaves no digit: there the mean
    is off by e = γ(N) max|x| in each of d features and the rows are centred by it, so that the
    covariances are off by δ = d e² + γ(N + d) E‖x − μ‖², and ‖Δμ‖² by 2‖Δμ‖·2e√d + 4de².
    """

    def allowed(dtype: torch.dtype) -> float:
        if dtype == torch.float64:
            return resolvable_when_regular(first, second)(dtype)
        rows, d = max(len(first), len(second)), first.shape[1]
        mean = gamma(rows + 1, dtype) * float(torch.cat([first, second]).abs().max())
        centred = first - first.mean(0), second - second.mean(0)
        delta = d * mean**2 + _moments_off_by(*centred, dtype)
        step = float((first.mean(0) - second.mean(0)).norm())
        roots = 2 * d * 24 * 2 * delta * _norm(first, second)
        return roots + 4 * delta + 4 * step * mean * math.sqrt(d) + 4 * d * mean**2

    return allowed


def together(*allowances: Allowance) -> Allowance:
    """The sum of allowances: of a comparison of several values."""
    return lambda dtype: sum(allowed(dtype) for allowed in allowances)


def times(factor: float, allowed: Allowance) -> Allowance:
    return lambda dtype: factor * allowed(dtype)


def _of_kernels(metric: Implementation, first: Tensor, second: Tensor) -> Allowance:
    """Three means of at most N² kernels: γ(N²) mean |k|, and what the argument of k loses.

    t = γ xᵀy + c is off by γ(d + 2) (γ‖x‖‖y‖ + |c|), its power p by p times that of the largest
    t^(p − 1): together at most (γ(N²) + γ(p(d + 4))) mean (γ‖x‖‖y‖ + |c|)^p, with weights
    1, 1 and 2.
    """
    rows, features = max(len(first), len(second)), first.shape[1]
    sizes, degree = mean_sizes(metric, first, second), kernel_of(metric, features).degree
    return lambda dtype: 4 * sizes * (gamma(rows**2, dtype) + gamma(degree * (features + 4), dtype))


def _singular(first: Tensor, second: Tensor, dtype: torch.dtype) -> float:
    delta = _moments_off_by(first, second, dtype)
    root: float = (2 * delta * _norm(first, second)) ** 0.5
    return 2 * first.shape[1] * root + 4 * delta


def _moments_off_by(first: Tensor, second: Tensor, dtype: torch.dtype) -> float:
    rows = max(len(first), len(second))
    squares = [float(x.double().square().sum(1).mean()) for x in (first, second)]
    return gamma(rows + first.shape[1], dtype) * max(squares)


def _norm(first: Tensor, second: Tensor) -> float:
    """The larger spectral norm of the two covariances, at most: their Frobenius norm."""
    norms = []
    for rows in (first, second):
        centred = rows.double() - rows.double().mean(0)
        norms.append(torch.linalg.matrix_norm(centred.mT @ centred) / max(len(rows) - 1, 1))
    return float(torch.stack(norms).max())
