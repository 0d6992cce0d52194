"""A penalty of one's own, and a twin with one mistake: what `group_lasso.toml` checks."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def group_lasso(weight: Tensor, strength: float = 0.1) -> Tensor:
    """λ √p Σ ‖w_i‖ over the rows w_i of p weights: weight [n, p] → [].

    Yuan & Lin, Model Selection and Estimation in Regression with Grouped Variables, JRSS B 68(1),
    2006. torch's norm sends the subgradient 0 from a row of zeros.
    """
    return strength * math.sqrt(weight.shape[1]) * torch.linalg.vector_norm(weight, dim=1).sum()


def broken_group_lasso(weight: Tensor, strength: float = 0.1) -> Tensor:
    """The root of a sum of squares: the first row that the penalty brings to zero sends NaN."""
    return strength * math.sqrt(weight.shape[1]) * weight.square().sum(dim=1).sqrt().sum()
