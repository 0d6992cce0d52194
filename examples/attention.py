"""Causal self-attention of one's own, and a twin with one mistake: what `attention.toml` checks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class CausalAttention(nn.Module):
    """softmax(QKᵀ/√d, none of the future) V in each head: x [b, t, width] → [b, t, width].

    Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.2.
    """

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self.split(each) for each in self.inputs(x).chunk(3, dim=-1))
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(self.join(seen))

    def split(self, x: Tensor) -> Tensor:
        """[b, t, width] → [b, heads, t, width/heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def join(self, x: Tensor) -> Tensor:
        """[b, heads, t, width/heads] → [b, t, width]."""
        return x.transpose(1, 2).flatten(-2)


class BrokenAttention(CausalAttention):
    """view(b, heads, t, −1) for a transpose: a head gets a few whole tokens, not a part of each."""

    def split(self, x: Tensor) -> Tensor:
        b, t, width = x.shape
        return x.reshape(b, self.heads, t, width // self.heads)

    def join(self, x: Tensor) -> Tensor:
        b, heads, t, size = x.shape
        return x.reshape(b, t, heads * size)
