"""Activations that are the identity for large inputs: ReLU, softplus, GELU and SiLU."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlcheck.references.activations.sigmoids import sigmoid
from dlcheck.references.precision import wide
from dlcheck.registry import reference


class _ReLU(torch.autograd.Function):
    """y = max(x, 0): dL = v 1[x > 0] dx, with the subgradient 0 at x = 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return gradients[0].masked_fill(y <= 0, 0)


@reference(
    kind="activation",
    formula="y = max(x, 0)",
    source="Nair & Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, ICML 2010",
    inputs={"x": "float b n"},
    traits=[
        "elementwise", "nonsmooth", "twice_differentiable", "monotone", "nonnegative", "convex",
        "idempotent",
    ],
    options={
        "bounds": [0.0, "inf"], "monotone": True,
        "values": [[-2, 0], [0, 0], [3, 3]],
        "asymptotes": {"left": [0, 0], "right": [1, 0]},
    },
)  # fmt: skip
def relu(x: Tensor) -> Tensor:
    """max(x, 0): x of any shape, y like x. The subgradient at 0 is 0; NaN stays NaN."""
    y: Tensor = _ReLU.apply(x)
    return y


class _Softplus(torch.autograd.Function):
    """y = 1/β log(1 + e^{βx}), and x itself where βx > threshold.

    log(1 + eᵗ) = max(t, 0) + log(1 + e^{−|t|}), where nothing overflows or cancels. With t = βx
    dy/dx = eᵗ/(1 + eᵗ) = σ(t), and 1 beyond the threshold.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, beta: float, threshold: float) -> Tensor:
        t = beta * x
        y = (t.clamp(min=0) + (-t.abs()).exp().log1p()) / beta
        return torch.where(t > threshold, x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.beta, ctx.threshold = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        t = ctx.beta * x
        slope = torch.where(t > ctx.threshold, 1.0, sigmoid(t))
        return gradients[0] * slope, None, None


@reference(
    kind="activation",
    formula="y = 1/β log(1 + e^{βx});  y = x where βx > threshold",
    source="Dugas et al., Incorporating Second-Order Functional Knowledge for Better Option "
    "Pricing, NIPS 2000, §3",
    inputs={"x": "float b n"},
    traits=["elementwise", "twice_differentiable", "monotone", "nonnegative", "convex"],
    options={
        "bounds": [0.0, "inf"],
        "monotone": True,
        "values": [[0, 0.6931471805599453]],
        "asymptotes": {"left": [0, 0], "right": [1, 0]},
    },
)
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """1/β log(1 + e^{βx}): x of any shape, y like x; β > 0.

    Where βx > threshold y = x, as torch has it: a step of e^{−threshold}/β, 2e-9 at the default,
    which float64 sees. threshold = inf leaves it out, and nothing overflows either way.
    """
    y: Tensor = _Softplus.apply(wide(x), beta, threshold)
    return y.to(x.dtype)


class _SiLU(torch.autograd.Function):
    """y = x σ(x). With σ′(x) = σ(x) σ(−x): dy/dx = σ(x) (1 + x σ(−x))."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * sigmoid(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return gradients[0] * sigmoid(x) * (1 + x * sigmoid(-x))


@reference(
    kind="activation",
    formula="y = x σ(x)",
    source="Elfwing, Uchibe & Doya, Sigmoid-Weighted Linear Units, Neural Networks 107, 2018, §2",
    inputs={"x": "float b n"},
    traits=["elementwise", "smooth", "twice_differentiable"],
    options={
        "bounds": [-0.2784645427610738, "inf"],
        "values": [[0, 0]],
        "asymptotes": {"left": [0, 0], "right": [1, 0]},
    },
)
def silu(x: Tensor) -> Tensor:
    """x σ(x), also called swish: x of any shape, y like x. Least, −0.278, at x = −1.278."""
    y: Tensor = _SiLU.apply(wide(x))
    return y.to(x.dtype)


class _GELU(torch.autograd.Function):
    """y = x Φ(x), Φ the normal distribution function: dy/dx = Φ(x) + x φ(x).

    Φ(x) = ½ erfc(−x/√2), which keeps its digits in the lower tail, where 1 + erf cancels.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * _normal_cdf(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        density = (-0.5 * x.square()).exp() / math.sqrt(2 * math.pi)
        return gradients[0] * (_normal_cdf(x) + x * density)


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(x * -math.sqrt(0.5))


class _TanhGELU(torch.autograd.Function):
    """y = ½ x (1 + tanh u) = x σ(2u), u = √(2/π) (x + 0.044715 x³).

    dy/dx = σ(2u) + x σ(2u) σ(−2u) 2u′, u′ = √(2/π) (1 + 3·0.044715 x²).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * sigmoid(_bend(x)[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        argument, slope = _bend(x)
        rise = sigmoid(argument)
        return gradients[0] * (rise + x * rise * sigmoid(-argument) * slope)


def _bend(x: Tensor) -> tuple[Tensor, Tensor]:
    """2u and 2u′. Beyond ±1000 σ(2u) is 0 or 1 in every dtype, and x³ could overflow."""
    x = x.clamp(-1000, 1000)
    square = 0.044715 * x.square()
    factor = 2 * math.sqrt(2 / math.pi)
    return factor * x * (1 + square), factor * (1 + 3 * square)


@reference(
    kind="activation",
    formula="y = x Φ(x);  approximately ½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))",
    source="Hendrycks & Gimpel, Gaussian Error Linear Units, 2016, §2",
    inputs={"x": "float b n"},
    traits=["elementwise", "smooth", "twice_differentiable"],
    options={
        "bounds": [-0.16997120747990369, "inf"],
        "values": [[0, 0], [1, 0.8413447460685429]],
        "asymptotes": {"left": [0, 0], "right": [1, 0]},
    },
)
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x), or with approximate = "tanh" x σ(2u): x of any shape, y like x.

    Least, −0.1700, at x = −0.752. Raises ValueError for another approximation.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate is 'none' or 'tanh', not {approximate!r}")
    y: Tensor = (_GELU if approximate == "none" else _TanhGELU).apply(wide(x))
    return y.to(x.dtype)
