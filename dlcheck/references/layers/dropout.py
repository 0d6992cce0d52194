"""Dropout by hand: of elements, of channels, of paths, over time, and with Gaussian noise.

The factors are made so that E m = 1 ("inverted" dropout): the scale is in training and evaluation
is the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcheck.references.layers.dropout_factors import bernoulli_factors, checked_rate, multiplied
from dlcheck.registry import reference


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
        self.p = checked_rate(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return multiplied(x, bernoulli_factors(x, x.shape, self.p))


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
        self.p = checked_rate(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:]))
        return multiplied(x, bernoulli_factors(x, shape, self.p))


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
        self.p = checked_rate(p)
        if p == 1:
            raise ValueError("at p = 1 the variance p/(1 − p) is infinite")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        deviation = (self.p / (1.0 - self.p)) ** 0.5
        factor = 1.0 + deviation * torch.randn(x.shape, device=x.device, dtype=x.dtype)
        return multiplied(x, factor)


@reference(
    kind="dropout",
    formula="y_b = m_b x_b,  m_b = Bernoulli(1 − p) / (1 − p);  y = x in evaluation",
    source="Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, §3 (the mask of a "
    "residual path); Larsson et al., FractalNet, ICLR 2017, §3 (drop-path); the scale is "
    "Srivastava's of §10",
    inputs={"x": "float b c h w"},
    traits=["stochastic"],
    options={"p": "p", "rescale": "train", "noise": "bernoulli", "axes": [1, 2, 3]},
)
class DropPath(nn.Module):
    """Stochastic depth: the whole path of a sample falls or stays.

    x [b, …] of any shape; y like x. In a block, x + DropPath(f(x)). Raises ValueError where p is no
    probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = checked_rate(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        shape = (*x.shape[:1], *(1 for _ in x.shape[1:]))
        return multiplied(x, bernoulli_factors(x, shape, self.p))


@reference(
    kind="dropout",
    formula="y_{btd} = m_{bd} x_{btd},  m_{bd} = Bernoulli(1 − p) / (1 − p)",
    source="Gal & Ghahramani, A Theoretically Grounded Application of Dropout in Recurrent Neural "
    "Networks, NeurIPS 2016, §4 (variational); Merity, Keskar & Socher, Regularizing and "
    "Optimizing LSTM Language Models, ICLR 2018, §4.1 (locked)",
    inputs={"x": "float b t d"},
    traits=["stochastic"],
    options={"p": "p", "rescale": "train", "noise": "bernoulli", "axes": [1]},
)
class LockedDropout(nn.Module):
    """Variational dropout: one mask for all steps of a sequence.

    x [b, t, d]; y like x. Raises ValueError where p is no probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = checked_rate(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        batch, _, features = x.shape
        return multiplied(x, bernoulli_factors(x, (batch, 1, features), self.p))
