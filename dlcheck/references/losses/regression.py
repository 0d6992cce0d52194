"""Losses of a residual r = prediction − target: squares, absolute values, and what lies between."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlcheck.references.activations.sigmoids import tanh
from dlcheck.references.losses.reduction import alike, reduced
from dlcheck.registry import reference

Curve = Callable[[Tensor, float], Tensor]


class _OfResidual(torch.autograd.Function):
    """ρ(r), whose slope ρ′ is given too: dρ = ρ′(r) dr, so dL/dr = v ρ′(r).

    ρ′ consists of differentiable operations: the second derivative is that of the slope.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(r: Tensor, value: Curve, slope: Curve, scale: float) -> Tensor:
        return value(r, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        r, _, ctx.slope, ctx.scale = inputs
        ctx.save_for_backward(r)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (r,) = ctx.saved_tensors
        return gradients[0] * ctx.slope(r, ctx.scale), None, None, None


def _loss(
    prediction: Tensor, target: Tensor, reduction: str, value: Curve, slope: Curve, scale: float
) -> Tensor:
    x, y = alike(prediction=prediction, target=target)
    return reduced(_OfResidual.apply(x - y, value, slope, scale), reduction, prediction.dtype)


def _square(r: Tensor, scale: float) -> Tensor:
    return scale * r * r


def _twice(r: Tensor, scale: float) -> Tensor:
    return 2 * scale * r


@reference(
    kind="loss",
    formula="(x − y)²",
    source="Legendre, Nouvelles méthodes pour la détermination des orbites des comètes, 1805, "
    "appendix",
    traits=["nonnegative", "convex", "symmetric", "smooth", "twice_differentiable", "continuous"],
    options={"task": "regression", "reduction": "reduction"},
)
def mse_loss(prediction: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """(x − y)²: prediction and target of one shape; returns [] or, with "none", that shape.

    Raises ValueError for two shapes.
    """
    return _loss(prediction, target, reduction, _square, _twice, 1.0)


def _absolute(r: Tensor, scale: float) -> Tensor:
    return scale * r.abs()


def _sign(r: Tensor, scale: float) -> Tensor:
    return scale * r.sign()


@reference(
    kind="loss",
    formula="|x − y|",
    source="Laplace, Sur quelques points du système du monde, 1789, §8",
    traits=["nonnegative", "convex", "symmetric", "nonsmooth", "continuous"],
    options={"task": "regression", "reduction": "reduction"},
)
def l1_loss(prediction: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """|x − y|, the absolute error: two tensors of one shape; the subgradient at x = y is 0.

    Raises ValueError for two shapes.
    """
    return _loss(prediction, target, reduction, _absolute, _sign, 1.0)


def _huber(r: Tensor, delta: float) -> Tensor:
    # with c = min(|r|, δ): ½c² + δ(|r| − c) is ½r² inside and δ(|r| − ½δ) outside, and never
    # squares what is large
    near = r.abs().clamp(max=delta)
    return 0.5 * near * near + delta * (r.abs() - near)


def _clipped(r: Tensor, delta: float) -> Tensor:
    return r.clamp(-delta, delta)


@reference(
    kind="loss",
    formula="½r² where |r| ≤ δ, δ(|r| − ½δ) elsewhere;  r = x − y",
    source="Huber, Robust Estimation of a Location Parameter, Ann. Math. Statist. 35(1), 1964, §1",
    args={"delta": 0.7},
    traits=["nonnegative", "convex", "symmetric", "continuous"],
    options={"task": "regression", "reduction": "reduction"},
)
def huber_loss(
    prediction: Tensor, target: Tensor, *, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """Quadratic up to δ > 0, with the slope ±δ beyond: two tensors of one shape.

    Raises ValueError for two shapes.
    """
    return _loss(prediction, target, reduction, _huber, _clipped, delta)


def _huber_over_beta(r: Tensor, beta: float) -> Tensor:
    return _huber(r, beta) / beta


def _clipped_over_beta(r: Tensor, beta: float) -> Tensor:
    return (r / beta).clamp(-1, 1)


@reference(
    kind="loss",
    formula="½r²/β where |r| < β, |r| − ½β elsewhere;  r = x − y",
    source="Girshick, Fast R-CNN, ICCV 2015, eq. 3, where β = 1",
    args={"beta": 0.6},
    traits=["nonnegative", "convex", "symmetric", "continuous"],
    options={"task": "regression", "reduction": "reduction"},
)
def smooth_l1_loss(
    prediction: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """Huber's loss over β, so that the slope far away is ±1; β = 0 is |x − y|.

    Two tensors of one shape. Raises ValueError for two shapes.
    """
    if beta == 0:
        return _loss(prediction, target, reduction, _absolute, _sign, 1.0)
    return _loss(prediction, target, reduction, _huber_over_beta, _clipped_over_beta, beta)


def _log_cosh(r: Tensor, scale: float) -> Tensor:
    # log cosh r = |r| + log(1 + e^{−2|r|}) − log 2 where that cancels little, and near 0
    # cosh r = 1 + 2 sinh²(r/2), so log cosh r = log1p(2 sinh²(r/2)), which keeps its digits
    size = r.abs()
    far = size + (-2 * size).exp().log1p() - math.log(2)
    half = (size.clamp(max=1.0) / 2).sinh()
    return torch.where(size > 1, far, (2 * half * half).log1p())


def _tanh(r: Tensor, scale: float) -> Tensor:
    return tanh(r)


@reference(
    kind="loss",
    formula="log cosh(x − y)",
    source="Green, Reweighted Algorithms for Emission Tomography, IEEE Trans. Med. Imaging 9(1), "
    "1990, §III",
    traits=["nonnegative", "convex", "symmetric", "smooth", "twice_differentiable", "continuous"],
    options={"task": "regression", "reduction": "reduction"},
)
def log_cosh_loss(prediction: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """log cosh(x − y), ½r² for small and |r| − log 2 for large errors; nothing overflows.

    Two tensors of one shape; the slope is tanh r. Raises ValueError for two shapes.
    """
    return _loss(prediction, target, reduction, _log_cosh, _tanh, 1.0)


def _biweight(r: Tensor, c: float) -> Tensor:
    # 1 − (1 − s)³ = s (3 − 3s + s²) with s = (r/c)²: no cancellation near 0
    s = (r / c).clamp(-1, 1).square()
    return c * c / 6 * s * (3 - 3 * s + s * s)


def _biweight_slope(r: Tensor, c: float) -> Tensor:
    return r.clamp(-c, c) * (1 - (r / c).clamp(-1, 1).square()).square()


@reference(
    kind="loss",
    formula="c²/6 (1 − (1 − (r/c)²)³) where |r| ≤ c, c²/6 elsewhere;  r = x − y",
    source="Beaton & Tukey, The Fitting of Power Series, Meaning Polynomials, Illustrated on "
    "Band-Spectroscopic Data, Technometrics 16(2), 1974, §4",
    traits=[
        "nonnegative", "nonconvex", "symmetric", "smooth", "twice_differentiable", "redescending",
        "continuous",
    ],
    options={"task": "regression", "reduction": "reduction"},
)  # fmt: skip
def tukey_biweight_loss(
    prediction: Tensor, target: Tensor, *, reduction: str = "mean", c: float = 4.685
) -> Tensor:
    """Tukey's biweight: ½r² near 0, constant and without gradient beyond c.

    Two tensors of one shape; at c = 4.685 it is 95 % efficient under Gaussian errors of unit
    variance. Raises ValueError for two shapes.
    """
    return _loss(prediction, target, reduction, _biweight, _biweight_slope, c)
