"""Spectral normalization: a linear layer whose weight is divided by its largest singular value."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcheck.references.layers.linear import affine, fill_by_fan_in
from dlcheck.registry import reference


@reference(
    kind="layer",
    formula="y = (W/σ) x + b,  σ = uᵀWv,  u ← Wv/‖Wv‖, v ← Wᵀu/‖Wᵀu‖ in each call in train",
    source="Miyato et al., Spectral Normalization for Generative Adversarial Networks, ICLR 2018, "
    "§2.1 and algorithm 1",
    inputs={"x": "float b m"},
    args={"in_features": {"dim": "m"}, "out_features": 3},
    traits=["surrogate_gradient", "updates_buffers"],
)
class SpectralLinear(nn.Module):
    """y = (W/σ)x + b: x [b, in_features]; y [b, out_features].

    σ is the largest singular value of W as power iteration knows it: one step in each call in
    train, none in evaluation, fifteen at the start. u and v are constants in the gradient: that is
    the derivative at the true ones, where dσ = uᵀdW v, and a surrogate before they are reached.
    """

    u: Tensor
    v: Tensor

    def __init__(self, in_features: int, out_features: int, eps: float = 1e-12) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.eps = eps
        fill_by_fan_in(self, in_features)
        self.register_buffer("u", nn.functional.normalize(torch.randn(out_features), dim=0))
        self.register_buffer("v", nn.functional.normalize(torch.randn(in_features), dim=0))
        for _ in range(15):
            self._iterate()

    @torch.no_grad()
    def _iterate(self) -> None:
        """u ← Wv/‖Wv‖, v ← Wᵀu/‖Wᵀu‖."""
        self.u.copy_(nn.functional.normalize(self.weight @ self.v, dim=0, eps=self.eps))
        self.v.copy_(nn.functional.normalize(self.weight.mT @ self.u, dim=0, eps=self.eps))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._iterate()
        u, v = self.u.clone(), self.v.clone()  # the next call must not move what backward needs
        sigma = (u * (self.weight @ v)).sum()
        return affine(x, self.weight / sigma, self.bias)
