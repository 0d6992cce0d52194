"""Dropout by hand: of elements, of channels, and with Gaussian noise.

All three multiply by a factor m that does not depend on x: y = m ⊙ x. So dy/dx = diag(m), and
the backward is Jᵀv = m ⊙ v with the same m. The factors are made so that E m = 1 ("inverted"
dropout): the scale is in training and evaluation is the identity.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.registry import reference


class _Multiply(torch.autograd.Function):
    """y = m ⊙ x, with m a constant that broadcasts to x: gradient m ⊙ v, and none for m."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: Tensor) -> Tensor:
        return factor * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return factor * gradients[0], None


def _bernoulli(x: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
    """Factors 1/(1 − p) with probability 1 − p, else 0, in the dtype of x. p = 1 gives zeros.

    The uniform numbers are of at least float32: in float16 they are multiples of 2⁻¹¹, and a rate
    would be rounded to one.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    kept = torch.rand(shape, device=x.device, dtype=wide) >= p
    return kept.to(x.dtype) * (1.0 / (1.0 - p) if p < 1 else 0.0)


def _checked(p: float) -> float:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"the probability of dropping is {p}, but it lies between 0 and 1")
    return p


@reference(
    kind="dropout",
    formula="y = m ⊙ x,  mᵢ = Bernoulli(1 − p) / (1 − p);  y = x in evaluation",
    source="Srivastava et al., Dropout, JMLR 15, 2014, §4 and §10",
    inputs={"x": "float b n"},
    traits=["stochastic"],
    options={"p": "p", "rescale": "train", "noise": "bernoulli"},
)
class Dropout(nn.Module):
    """yᵢ = mᵢ xᵢ with mᵢ = Bernoulli(1 − p)/(1 − p), a factor for each element.

    x of any shape; y like x. Raises ValueError where p is no probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = _checked(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return _Multiply.apply(x, _bernoulli(x, tuple(x.shape), self.p))  # type: ignore[no-any-return]


@reference(
    kind="dropout",
    formula="y_{bc··} = m_{bc} x_{bc··},  m_{bc} = Bernoulli(1 − p) / (1 − p)",
    source="Tompson et al., Efficient Object Localization Using Convolutional Networks, CVPR 2015, "
    "§3.2",
    inputs={"x": "float b c h w"},
    traits=["stochastic"],
    options={"p": "p", "rescale": "train", "noise": "bernoulli", "axes": [2, 3]},
)
class ChannelDropout(nn.Module):
    """Whole channels are dropped: one factor for each sample and channel.

    x [b, c, …] with any number of spatial axes, along which neighbours are so alike that dropping
    single ones hardly hides anything; y like x. Raises ValueError where p is no probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = _checked(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:]))
        return _Multiply.apply(x, _bernoulli(x, shape, self.p))  # type: ignore[no-any-return]


@reference(
    kind="dropout",
    formula="y = m ⊙ x,  mᵢ ~ N(1, p/(1 − p));  y = x in evaluation",
    source="Srivastava et al., Dropout, JMLR 15, 2014, §10",
    inputs={"x": "float b n"},
    traits=["stochastic"],
    options={"p": "p", "rescale": "train", "noise": "gaussian"},
)
class GaussianDropout(nn.Module):
    """yᵢ = mᵢ xᵢ with mᵢ ~ N(1, p/(1 − p)): mean and variance of Bernoulli dropout's factor.

    x of any shape; y like x. Raises ValueError where p is no probability below 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = _checked(p)
        if p == 1:
            raise ValueError("at p = 1 the variance p/(1 − p) is infinite")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        deviation = (self.p / (1.0 - self.p)) ** 0.5
        factor = 1.0 + deviation * torch.randn(x.shape, device=x.device, dtype=x.dtype)
        return _Multiply.apply(x, factor)  # type: ignore[no-any-return]
