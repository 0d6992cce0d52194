"""How fast a gradient vanishes with depth: as fast as the slope of the activation says."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.activation.curve import Curve
from dlcheck.checks.activation.torch_activations import TORCH
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Figure
from dlcheck.mutants import around, through_backward
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

WIDTH, DEPTH, NETWORKS = 64, 8, 4
_STEP = 2.0**-12  # of the difference that gives the slope


@around
def takes_a_tenth_off_the_gradient(original: Any, x: Tensor) -> Any:
    return original(through_backward(x, lambda g: 0.9 * g))


@around
def passes_the_gradient_straight_through(original: Any, x: Tensor) -> Any:
    return x + (original(x) - x).detach() * 1.0 + 0.5 * (x - x.detach())


@around
def loses_the_gradient(original: Any, x: Tensor) -> Any:
    return original(through_backward(x, lambda g: 1e-3 * g))


@check(
    kind="activation",
    options={"axes": False, "expect": False},
    forbids={"stochastic", "surrogate_gradient", "nondifferentiable", "stochastic_in_eval"},
    rejects=[
        takes_a_tenth_off_the_gradient,
        passes_the_gradient_straight_through,
        loses_the_gradient,
    ],
    accepts=TORCH,
    dtypes=["float64", "float32"],
    once=True,
    textbook={
        "id": "R7",
        "says": "ReLU eases vanishing gradients",
        "verdict": "true if",
        "condition": "the weights have He's variance 2/fan_in; an activation is no regularizer",
    },
)
def gradient_falls_with_depth_as_the_slope_says(subject: Implementation, case: Case) -> Evidence:
    """Through 8 layers the gradient's norm falls, or grows, as the slope of the curve says.

    Layers h = W x, x' = f(h)/r, with W normal of variance 1/width and r the root mean square of
    f(h), so that every h is N(0, 1). The gradient goes down by the subject's own backward, and
    beside it by difference quotients of f with a step of 2⁻¹²: the logarithms of the two norms²
    agree within 2⁻⁶ a layer, a curvature of sixteen slopes. An error of a percent, which a look at
    one layer may overlook, grows with depth. The figure has the law E f'²/E f² a layer beside it:
    0.15 for a sigmoid, the vanishing gradient, and 1 for ReLU.
    Source: Glorot & Bengio, AISTATS 2010; He et al., ICCV 2015, §2.2; Schoenholz et al., Deep
    Information Propagation, ICLR 2017, eq. 7.
    """
    curve = Curve.of(subject, case)
    nodes = _normal_quantiles(4096)
    second = float(curve.at(nodes).double().square().mean())
    steep = float(_quotients(curve, nodes).square().mean())
    if not (0 < second < math.inf and 0 < steep < math.inf):
        raise NotApplicable("its value or slope is zero, or too large to be normalised")
    measured, expected = (norms.log().mean(0) for norms in _norms(curve, case))
    got, due = float(measured[-1]), float(expected[-1])
    law = [layer * math.log(steep / second) for layer in range(DEPTH + 1)]
    return Evidence(
        error=abs(got - due) if math.isfinite(due) else math.nan,
        bound=DEPTH * 2.0**-6,
        signal=2.0 * DEPTH,
        what=f"logarithm of the gradient's norm² after {DEPTH} layers",
        expected=f"{due:.4g} by difference quotients",
        got=f"{got:.4g}, or {_decades(got):+.3f} decades a layer",
        values={
            "decades of the gradient's norm a layer": _decades(got),
            "its law ½ log₁₀ E f'²/E f²": _decades(law[-1]),
        },
        figures=(_figure(subject, measured.tolist(), expected.tolist(), law),),
    )


def _decades(logarithm: float) -> float:
    """log₁₀ of the norm's factor a layer, from the logarithm of the norm² after all of them."""
    return logarithm / (2 * DEPTH * math.log(10))


def _normal_quantiles(n: int) -> Tensor:
    """n points of equal weight that stand for N(0, 1); none of them is 0."""
    share = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return math.sqrt(2) * torch.erfinv(2 * share - 1)


def _quotients(curve: Curve, points: Tensor) -> Tensor:
    """The slope by the smaller of the two one-sided differences: a jump is crossed by one alone."""
    left, middle, right = (curve.at(points + step).double().cpu() for step in (-_STEP, 0.0, _STEP))
    before, after = (middle - left) / _STEP, (right - middle) / _STEP
    return torch.where(before.abs() < after.abs(), before, after)


def _norms(curve: Curve, case: Case) -> tuple[Tensor, Tensor]:
    """The squared norms of both gradients, going down layer by layer: [networks, depth + 1]."""
    generator = case.generator("networks")
    x = _randn(generator, NETWORKS, WIDTH)
    x = x / x.square().mean(1, keepdim=True).sqrt()
    weights, slopes, quotients = [], [], []
    for _ in range(DEPTH):
        weights.append(_randn(generator, NETWORKS, WIDTH, WIDTH) / math.sqrt(WIDTH))
        h = torch.einsum("noi,ni->no", weights[-1], x)
        y, slope = curve.at(h.flatten()), curve.slope_at(h.flatten())
        if slope is None:
            raise NotApplicable("has no gradient")
        y, slope = (values.double().cpu().reshape(h.shape) for values in (y, slope))
        scale = y.square().mean(1, keepdim=True).sqrt()
        x = y / scale
        slopes.append(slope / scale)
        quotients.append(_quotients(curve, h.flatten()).reshape(h.shape) / scale)
    top = _randn(generator, NETWORKS, WIDTH)
    return _down(top, weights, slopes), _down(top, weights, quotients)


def _down(g: Tensor, weights: list[Tensor], slopes: list[Tensor]) -> Tensor:
    norms = [g.square().sum(1)]
    for w, slope in zip(reversed(weights), reversed(slopes), strict=True):
        g = torch.einsum("noi,no->ni", w, g * slope)
        norms.append(g.square().sum(1))
    return torch.stack(norms, 1) / norms[0][:, None]


def _randn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _figure(
    subject: Implementation, measured: list[float], expected: list[float], law: list[float]
) -> Figure:
    series = {"measured": measured, "by difference quotients": expected, "E f'²/E f² a layer": law}
    return Figure(
        title=f"Gradient against depth: {subject.declared.name}",
        x="layers passed",
        y="squared norm of the gradient",
        series={
            name: [(float(layer), math.exp(min(value, 700.0))) for layer, value in enumerate(logs)]
            for name, logs in series.items()
        },
        log_y=True,
        marks=("measured",),
        note=f"geometric mean of {NETWORKS} networks of width {WIDTH}",
    )
