"""Attention with the bugs that people really make, each with an honest declaration."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from right_attentions import CROSS, CROSS_MASKED, PAIRS, ROWS, right
from torch import Tensor, nn


def weights_of(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / math.sqrt(q.shape[-1])


def divides_by_d(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / q.shape[-1]).softmax(-1) @ v


def no_scale(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-1) @ v


def scales_the_query_twice(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q / math.sqrt(q.shape[-1]), k, v)


def scales_by_all_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """√(h d) in the place of √d."""
    return (q @ k.mT / math.sqrt(q.shape[-1] * q.shape[1])).softmax(-1) @ v


def softmax_over_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return weights_of(q, k).softmax(-2) @ v


def softmax_over_everything(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return weights_of(q, k).flatten(-2).softmax(-1).unflatten(-1, (q.shape[-2], -1)) @ v


def keys_not_transposed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.reshape(*k.shape[:-2], k.shape[-1], -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v


def inverted(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    logits = weights_of(q, k)
    return (logits if mask is None else logits.masked_fill(mask, -1e30)).softmax(-1) @ v


def after_the_softmax(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    weights = weights_of(q, k).softmax(-1)
    return (weights if mask is None else weights * mask) @ v


def multiplied(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Masked logits are 0, not −∞."""
    logits = weights_of(q, k)
    return (logits if mask is None else logits * mask).softmax(-1) @ v


def minus_ten_thousand(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    logits = weights_of(q, k)
    return (logits if mask is None else logits - 1e4 * ~mask).softmax(-1) @ v


def nan_rows(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    logits = weights_of(q, k)
    return (logits if mask is None else logits.masked_fill(~mask, -torch.inf)).softmax(-1) @ v


def nan_behind_where(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """The value is mended, the gradient is not."""
    y = nan_rows(q, k, v, mask)
    return y if mask is None else torch.where(mask.any(-1, keepdim=True), y, 0.0)


def tiny_exponent(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    powers = weights_of(q, k).exp()
    return powers / (powers.sum(-1, keepdim=True) + 1e-2) @ v


def sees_one_ahead(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    kept = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=kept)


def not_itself(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    kept = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(-1)
    return weights_of(q, k).masked_fill(~kept, -1e30).softmax(-1) @ v


def upper_triangle(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    kept = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu()
    return F.scaled_dot_product_attention(q, k, v, attn_mask=kept)


def mask_or_causal(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    if mask is None:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Wrong(nn.Module):
    """Self-attention of two heads over x [b, t, 8], one thing wrong."""

    def __init__(self, bug: str = "") -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.bug = bug

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        b, t, _ = x.shape
        if self.bug == "split_not_transposed":
            q, k, v = (z.reshape(b, 2, t, 4) for z in self.qkv(x).chunk(3, -1))
        else:
            q, k, v = (z.reshape(b, t, 2, 4).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
        logits = q @ k.mT / (1.0 if self.bug == "no_scale" else 2.0)
        if self.bug == "causal_in_eval_only" and self.training:
            pass
        elif "causal" in self.bug:
            logits = logits.masked_fill(~torch.ones(t, t, dtype=torch.bool).tril(), -1e30)
        if padding is not None:
            logits = logits.masked_fill(self._dropped(padding), -1e30)
        weights = logits.softmax(-1)
        if self.bug == "dropout_in_eval":
            weights = F.dropout(weights, 0.3)
        y = weights @ v
        if self.bug != "joined_not_transposed":
            y = y.transpose(1, 2)
        if self.bug == "mixes_the_batch":
            y = y.transpose(0, 1).reshape(b, t, 8) if b == t else y.flip(0)
        return self.out(y.reshape(b, t, 8))

    def _dropped(self, padding: Tensor) -> Tensor:
        if self.bug == "padding_of_queries":
            return padding[:, None, :, None]
        if self.bug == "padding_of_first_row":
            return padding[:1, None, None, :]
        return padding[:, None, None, :]


def _module(bug: str, *traits: str, **options: Any) -> Any:
    return right(bug, Wrong, {"x": "float b t 8"}, *traits, args={"bug": bug}, **options)


def head_mixing(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (
        F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(*q.shape[:-1], v.shape[-1])
    )


def window_twice(q: Tensor, k: Tensor, v: Tensor, window: int = 3) -> Tensor:
    behind = torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(behind >= 0) & (behind < 2 * window))


def values_through_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return weights_of(q, k).softmax(-1) @ F.layer_norm(v, v.shape[-1:])


PADDED = {"mask": {"name": "padding", "meaning": "drop", "axis": "key"}}
WRONG = [
    *(
        right(f.__name__, f, CROSS)
        for f in (divides_by_d, no_scale, scales_the_query_twice, scales_by_all_heads,
                  softmax_over_queries, softmax_over_everything, keys_not_transposed,
                  tiny_exponent, head_mixing, values_through_keys)
    ),
    *(
        right(f.__name__, f, CROSS, mask=PAIRS)
        for f in (inverted, after_the_softmax, multiplied, minus_ten_thousand, nan_rows,
                  nan_behind_where)
    ),
    right("inverted_input", inverted, CROSS_MASKED, mask=PAIRS),
    *(right(f.__name__, f, ROWS, "causal") for f in (sees_one_ahead, not_itself, upper_triangle)),
    right("mask_or_causal", mask_or_causal, CROSS, "causal", mask=PAIRS),
    right("window_twice", window_twice, CROSS, "causal", window="window"),
    _module("split_not_transposed"),
    _module("joined_not_transposed"),
    _module("mixes_the_batch"),
    _module("no_scale", heads=2, projections={"qkv": "qkv", "out": "out"}),
    _module("causal_in_eval_only", "causal"),
    _module("padding_of_queries", **PADDED),
    _module("padding_of_first_row", **PADDED),
    _module("dropout_in_eval", "stochastic"),
]  # fmt: skip
