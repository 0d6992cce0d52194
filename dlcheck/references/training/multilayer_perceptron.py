"""A network whose forward and backward are written by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.registry import reference


class _Backpropagation(torch.autograd.Function):
    """y = W₂ h + b₂, h = tanh(W₁ x + b₁), in rows.

    With δ₂ = ∂L/∂y the chain rule gives, layer by layer from the output,
        ∂L/∂W₂ = δ₂ᵀ h,  ∂L/∂b₂ = Σ δ₂,  δ₁ = (δ₂ W₂) ∘ (1 − h²)   (tanh′ = 1 − tanh²)
        ∂L/∂W₁ = δ₁ᵀ x,  ∂L/∂b₁ = Σ δ₁,  ∂L/∂x = δ₁ W₁.
    """

    @staticmethod
    def forward(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x @ w1.T + b1)
        return h @ w2.T + b2, h

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        x, w1, _, w2, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, output[1], w1, w2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        x, h, w1, w2 = ctx.saved_tensors
        delta2 = gradients[0]
        delta1 = (delta2 @ w2) * (1 - h.square())
        return delta1 @ w1, delta1.T @ x, delta1.sum(0), delta2.T @ h, delta2.sum(0)


@reference(
    kind="layer",
    formula="W₂ tanh(W₁ x + b₁) + b₂",
    source="Rumelhart, Hinton & Williams, Learning representations by back-propagating errors, "
    "Nature 323, 1986",
    inputs={"x": "float b d"},
    args={"inputs": {"dim": "d"}, "hidden": 5, "outputs": 3},
    traits=["smooth", "once_differentiable"],
)
class MultilayerPerceptron(nn.Module):
    """x [b, inputs] → [b, outputs] in the dtype of x; initialised as nn.Linear is."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.output = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.hidden, self.output
        y, _ = _Backpropagation.apply(x, first.weight, first.bias, second.weight, second.bias)
        return y  # type: ignore[no-any-return]


class AutogradPerceptron(MultilayerPerceptron):
    """The same network and parameters, differentiated by autograd."""

    def forward(self, x: Tensor) -> Tensor:
        return self.output(torch.tanh(self.hidden(x)))  # type: ignore[no-any-return]
