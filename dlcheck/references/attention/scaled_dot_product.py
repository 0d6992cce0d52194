"""Scaled dot product attention, with all weights in memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlcheck.references.precision import wide
from dlcheck.registry import reference


class _Attend(torch.autograd.Function):
    """S = s Q Kᵀ, P = softmax S over the keys that are kept, O = P V; returns O and P.

    With cotangents V̇ of O and Ṗ of P: dL/dV = Pᵀ V̇, and dL/dP = V̇ Vᵀ + Ṗ =: G. Softmax gives
    dL/dS = P ⊙ (G − Σ_keys G ⊙ P) =: D, and S is bilinear: dL/dQ = s D K, dL/dK = s Dᵀ Q.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        query: Tensor, key: Tensor, value: Tensor, dropped: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        logits = (scale * query) @ key.mT
        if dropped is not None:
            logits = logits.masked_fill(dropped, -torch.inf)
        weights = _distribution(logits)
        return (weights.to(value.dtype) @ value).to(value.dtype), weights.to(value.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        query, key, value, _, ctx.scale = inputs
        ctx.save_for_backward(query, key, value, output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights = ctx.saved_tensors
        to_output, to_weights = gradients
        to_p = to_output @ value.mT + to_weights
        to_logits = ctx.scale * weights * (to_p - (to_p * weights).sum(-1, keepdim=True))
        return to_logits @ key, to_logits.mT @ query, weights.mT @ to_output, None, None


def _distribution(logits: Tensor) -> Tensor:
    """Softmax along the last axis, where a row of −inf only has weights 0."""
    largest = logits.amax(-1, keepdim=True)
    powers = (logits - largest.masked_fill(largest == -torch.inf, 0)).exp()
    total = powers.sum(-1, keepdim=True)
    return powers / total.masked_fill(total == 0, 1)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropped: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Outputs […, m, e] and weights […, m, n] of attention, in the dtype of value.

    query […, m, d], key […, n, d], value […, n, e] with the same leading axes; dropped, a boolean
    that broadcasts to […, m, n], is true where a query does not see a key.
    """
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    output, weights = _Attend.apply(wide(query), wide(key), wide(value), dropped, factor)
    return output.to(value.dtype), weights.to(value.dtype)


def not_seen(
    query: Tensor, key: Tensor, attn_mask: Tensor | None, *, is_causal: bool
) -> Tensor | None:
    """Where a query does not see a key: not kept by the mask, or in the future; None for nowhere.

    Query i sees key j ≤ i. Raises TypeError for a mask that is no boolean.
    """
    if attn_mask is not None and attn_mask.dtype != torch.bool:
        raise TypeError(f"the mask is boolean, true where a key is kept, not {attn_mask.dtype}")
    dropped = None if attn_mask is None else ~attn_mask
    if not is_causal:
        return dropped
    places = torch.arange(max(query.shape[-2], key.shape[-2]), device=query.device)
    future = places[: key.shape[-2]] > places[: query.shape[-2], None]
    return future if dropped is None else dropped | future


@reference(
    kind="attention",
    formula="softmax(Q Kᵀ/√d) V, over the keys that the mask keeps",
    source="Vaswani et al., Attention Is All You Need, NeurIPS 2017, §3.2.1; backward as in Dao et "
    "al., FlashAttention, NeurIPS 2022, appendix B.2",
    inputs={
        "query": "float b h m d",
        "key": "float b h n d",
        "value": "float b h n e",
        "attn_mask": "mask b 1 m n",
    },
    traits=["smooth", "twice_differentiable"],
    options={"mask": {"name": "attn_mask", "meaning": "keep", "axis": "pair"}},
)
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,  # noqa: FBT001, FBT002
    scale: float | None = None,
) -> Tensor:
    """softmax(s Q Kᵀ) V: query […, m, d], key […, n, d], value […, n, e]; returns […, m, e].

    s = 1/√d unless told. attn_mask is boolean and broadcasts to […, m, n]: true where the key is
    kept. With is_causal query i sees keys j ≤ i. A query that sees no key gets 0, with gradient 0.
    Raises TypeError for a mask of numbers.
    """
    dropped = not_seen(query, key, attn_mask, is_causal=is_causal)
    return attend(query, key, value, dropped, scale)[0]
