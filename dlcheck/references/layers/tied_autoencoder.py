"""Weight sharing: an autoencoder that decodes with the transpose of what it encodes with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcheck.references.layers.linear import affine, fill_by_fan_in
from dlcheck.registry import reference


@reference(
    kind="layer",
    formula="y = Wᵀ tanh(W x + b) + c",
    source="Vincent et al., Extracting and Composing Robust Features with Denoising Autoencoders, "
    "ICML 2008, §2.2 (tied weights); Goodfellow, Bengio & Courville, Deep Learning, 2016, §7.9",
    inputs={"x": "float b m"},
    args={"features": {"dim": "m"}, "hidden": 3},
    traits=["smooth", "twice_differentiable"],
    options={"tied": [["encoder.weight", "decoder.weight"]]},
)
class TiedAutoencoder(nn.Module):
    """Wᵀ tanh(Wx + b) + c: x [b, features]; y like x.

    One parameter under two names: its gradient is the sum of what either use would give it.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.encoder = _Affine(features, hidden, hidden)
        self.decoder = _Affine(features, hidden, features)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        code = torch.tanh(affine(x, self.encoder.weight, self.encoder.bias))
        return affine(code, self.decoder.weight.mT, self.decoder.bias)


class _Affine(nn.Module):
    """A weight [hidden, features] and a bias, as both halves name them."""

    def __init__(self, features: int, hidden: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden, features))
        self.bias = nn.Parameter(torch.empty(out))
        fill_by_fan_in(self, features)
