"""Noise that is added: to inputs or activations, to weights, and weights that are dropped.

Of y = x + σz the backward is the identity, and E y = x, Var y = σ². Of a linear map whose weights
are random, W + σZ or m ⊙ W, with a draw for each sample, y is linear in x given the draw.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.references.layers.dropout_factors import bernoulli_factors, checked_rate, multiplied
from dlcheck.registry import reference


def checked_deviation(deviation: float) -> float:
    """σ itself. Raises ValueError where it is negative."""
    if not deviation >= 0:
        raise ValueError(f"the standard deviation is {deviation}, but it cannot be below 0")
    return deviation


@reference(
    kind="layer",
    formula="y = x + σ z,  z ~ N(0, 1) for each element;  y = x in evaluation",
    source="Bishop, Training with Noise is Equivalent to Tikhonov Regularization, Neural "
    "Computation 7(1), 1995, §2",
    inputs={"x": "float b n"},
    args={"deviation": 0.3},
    traits=["stochastic", "smooth", "twice_differentiable"],
    options={"mean": "x", "variance": "deviation ** 2"},
)
class GaussianNoise(nn.Module):
    """y = x + σz in train: on inputs or on activations.

    x of any shape; y like x. Raises ValueError where σ is negative.
    """

    def __init__(self, deviation: float = 0.1) -> None:
        super().__init__()
        self.deviation = checked_deviation(deviation)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.deviation == 0:
            return x
        return x + self.deviation * torch.randn_like(x)


class _PerSample(torch.autograd.Function):
    """y_b = W_b x_b for W [b, n, m], x [b, m].

    dL = Σ_b ⟨v_b, dW_b x_b + W_b dx_b⟩, so dL/dW_b = v_b x_bᵀ and dL/dx_b = W_bᵀ v_b.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, x: Tensor) -> Tensor:
        return (weight * x[:, None, :]).sum(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (v,) = gradients
        weight, x = ctx.saved_tensors
        return v[:, :, None] * x[:, None, :], (weight * v[:, :, None]).sum(1)


@reference(
    kind="op",
    formula="y_b = (W + σ Z_b) x_b,  Z_b ~ N(0, 1) for each sample and weight",
    source="Murray & Edwards, Enhanced MLP Performance and Fault Tolerance Resulting from Synaptic "
    "Weight Noise, IEEE Trans. Neural Networks 5(5), 1994, §II; Graves, Practical Variational "
    "Inference for Neural Networks, NeurIPS 2011, §4",
    inputs={"x": "float b m", "weight": "float n m"},
    args={"deviation": 0.3},
    traits=["stochastic", "smooth", "twice_differentiable"],
    options={
        "mean": "matmul(x, t(weight))",
        "variance": "deviation ** 2 * matmul(x ** 2, t(1 + 0 * weight))",
    },
)
def noisy_weights(x: Tensor, weight: Tensor, deviation: float = 0.1) -> Tensor:
    """(W + σZ_b) x_b: x [b, m], weight [n, m]; returns [b, n].

    E y = W x, Var y = σ²‖x‖². Raises ValueError where σ is negative.
    """
    shape = (len(x), *weight.shape)
    noise = torch.randn(shape, dtype=weight.dtype, device=weight.device)
    return _PerSample.apply(weight + checked_deviation(deviation) * noise, x)  # type: ignore[no-any-return]


@reference(
    kind="op",
    formula="y_b = (m_b ⊙ W) x_b,  m = Bernoulli(1 − p) / (1 − p) for each sample and weight",
    source="Wan et al., Regularization of Neural Networks using DropConnect, ICML 2013, §3; the "
    "scale of inverted dropout in place of the paper's Gaussian approximation at test time",
    inputs={"x": "float b m", "weight": "float n m"},
    args={"p": 0.3},
    traits=["stochastic"],
    options={
        "mean": "matmul(x, t(weight))",
        "variance": "p / (1 - p) * matmul(x ** 2, t(weight ** 2))",
    },
)
def drop_connect(x: Tensor, weight: Tensor, p: float = 0.5) -> Tensor:
    """(m_b ⊙ W) x_b: x [b, m], weight [n, m]; returns [b, n].

    E y = W x, Var y_n = p/(1 − p) Σ_m W_nm² x_m². Raises ValueError where p is no probability.
    """
    factors = bernoulli_factors(weight, (len(x), *weight.shape), checked_rate(p))
    masked = multiplied(weight.expand(factors.shape), factors)
    return _PerSample.apply(masked, x)  # type: ignore[no-any-return]
