"""Stochastic depth of one's own, and twins with one mistake each: what `drop_path.toml` checks."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drops the residual path of whole samples, and scales what is left: x + DropPath(f(x)).

    Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, with the scale in training.
    """

    def __init__(self, drop_prob: float = 0.1) -> None:
        super().__init__()
        if not 0 <= drop_prob < 1:
            raise ValueError(f"drop_prob is {drop_prob}, but lies between 0 and 1")
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0:
            return x
        return x * self.mask(x) / (1 - self.drop_prob)

    def mask(self, x: Tensor) -> Tensor:
        """1 or 0 for each sample."""
        shape = (x.shape[0],) + (1,) * (x.dim() - 1)
        return torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(1 - self.drop_prob)


class BrokenDropPath(DropPath):
    """The mask has an entry for each element: it is dropout, and no path is ever dropped."""

    def mask(self, x: Tensor) -> Tensor:
        return torch.empty_like(x).bernoulli_(1 - self.drop_prob)


class UnscaledDropPath(DropPath):
    """What is kept is not divided by 1 − p: in evaluation everything is larger than in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask(x) if self.training else x


class BatchDropPath(DropPath):
    """One number for the whole batch."""

    def mask(self, x: Tensor) -> Tensor:
        return torch.empty((), dtype=x.dtype, device=x.device).bernoulli_(1 - self.drop_prob)


class EverLastingDropPath(DropPath):
    """F.dropout's `training` is True unless it is passed on."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.new_ones((x.shape[0],) + (1,) * (x.dim() - 1))
        return x * nn.functional.dropout(rows, self.drop_prob)
