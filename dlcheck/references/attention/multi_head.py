"""Multi-head attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcheck.references.attention.scaled_dot_product import attend
from dlcheck.references.layers.linear import Linear, affine
from dlcheck.registry import reference


@reference(
    kind="attention",
    formula="Concat(head₁, …, head_h) Wᴼ,  headᵢ = softmax(Q Wᵢᑫ (K Wᵢᵏ)ᵀ/√(d/h)) V Wᵢᵛ",
    source="Vaswani et al., Attention Is All You Need, NeurIPS 2017, §3.2.2",
    inputs={"query": "float b m 6", "key": "float b n 6", "value": "float b n 6"},
    args={"embed_dim": 6, "num_heads": 2, "batch_first": True},
    traits=["smooth", "twice_differentiable"],
    options={
        "heads": "num_heads",
        "mask": {"name": "attn_mask", "meaning": "drop", "axis": "pair"},
    },
)
class MultiheadAttention(nn.Module):
    """Attention of several heads: query [b, m, d], key and value [b, n, d], or with the batch axis
    second unless batch_first; returns [b, m, d] and, with need_weights, the mean of the heads'
    weights [b, m, n], else None.

    The masks are true where a key is dropped: key_padding_mask [b, n], attn_mask [m, n] or
    [b·heads, m, n]. in_proj_weight [3d, d] holds those of query, key and value in this order.
    Raises ValueError where the heads do not divide d.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        bias: bool = True,  # noqa: FBT001, FBT002
        batch_first: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"{embed_dim} features do not divide into {num_heads} heads")
        self.num_heads, self.batch_first = num_heads, batch_first
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias)
        nn.init.xavier_uniform_(self.in_proj_weight)
        if self.out_proj.bias is not None:
            nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,  # noqa: FBT001, FBT002
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        dropped = self._dropped(len(query), key_padding_mask, attn_mask)
        heads, weights = attend(*self._projected(query, key, value), dropped)
        y: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        y = y if self.batch_first else y.transpose(0, 1)
        return y, weights.mean(1) if need_weights else None

    def _projected(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value as [b, heads, tokens, d/heads]."""
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        query, key, value = (
            affine(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        return query, key, value

    def _dropped(
        self, batch: int, key_padding_mask: Tensor | None, attn_mask: Tensor | None
    ) -> Tensor | None:
        """Both masks as one that broadcasts to [b, heads, m, n]."""
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.unflatten(0, (batch, self.num_heads))
        if key_padding_mask is None:
            return attn_mask
        padding = key_padding_mask[:, None, None, :]
        return padding if attn_mask is None else padding | attn_mask
