"""Alpha dropout: what is dropped becomes SELU's least value; an affine map keeps the moments."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcheck.references.layers.dropout_factors import checked_rate, multiplied
from dlcheck.registry import reference

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


@reference(
    kind="dropout",
    formula="y = a (m ⊙ x + α'(1 − m)) + c,  m = Bernoulli(1 − p),  α' = −λα,  "
    "a = ((1 − p)(1 + p α'²))^(−½),  c = −a p α'",
    source="Klambauer et al., Self-Normalizing Neural Networks, NeurIPS 2017, 'New Dropout "
    "Technique'",
    inputs={"x": "float b n"},
    traits=["stochastic"],
    options={"p": "p", "rescale": "alpha", "noise": "bernoulli"},
)
class AlphaDropout(nn.Module):
    """Dropout for SELU networks: mean 0 and variance 1 stay.

    E y = a((1 − p)·0 + p α') + c = 0 and E y² = (1 − p)(a² + c²) + p(a α' + c)² = 1 for such an x.
    x of any shape; y like x; p = 1 gives zeros. Raises ValueError where p is no probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = checked_rate(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if self.p == 1:
            return multiplied(x, torch.zeros_like(x))
        least = -SELU_SCALE * SELU_ALPHA
        scale = ((1 - self.p) * (1 + self.p * least**2)) ** -0.5
        wide = torch.promote_types(x.dtype, torch.float32)
        kept = (torch.rand(x.shape, device=x.device, dtype=wide) >= self.p).to(x.dtype)
        dropped: Tensor = scale * (least * (1 - kept) - self.p * least)
        return multiplied(x, scale * kept) + dropped
