"""Group normalization: each sample over groups of channels."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from dlcheck.references.normalization.standardization import scale_and_shift, standardize
from dlcheck.references.precision import wide, wide_or_none
from dlcheck.registry import reference


@reference(
    kind="normalization",
    formula="y = γ_c (x − μ_bg)/√(σ²_bg + ε) + β_c,  over the channels of group g and all places",
    source="Wu & He, Group Normalization, ECCV 2018, §3.1",
    inputs={"x": "float b 6 h w"},
    args={"num_groups": 3, "num_channels": 6},
    traits=["smooth", "twice_differentiable"],
    options={
        "axes": [1, 2, 3],
        "groups": "num_groups",
        "eps": "eps",
        "centred": True,
        "sizes": {"h": [2, 9], "w": [1, 9]},
    },
)
class GroupNorm(nn.Module):
    """γ_c (x − μ)/√(σ² + ε) + β_c: x [b, c, …], y like x; μ and σ² per sample and group.

    num_groups = num_channels is instance normalization. weight γ [c] begins 1, bias β [c] 0.
    Raises ValueError where the groups do not divide the channels.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(f"{num_channels} channels do not divide into {num_groups} groups")
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.num_channels:
            raise ValueError(f"x {list(x.shape)} has not {self.num_channels} channels")
        each = prod(x.shape[1:]) // self.num_groups
        groups = wide(x).reshape(x.shape[0], self.num_groups, each)
        z = standardize(groups, (2,), self.eps).reshape(x.shape)
        weight, bias = wide_or_none(self.weight), wide_or_none(self.bias)
        return scale_and_shift(z, weight, bias, 1).to(x.dtype)
