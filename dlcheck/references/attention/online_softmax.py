"""Attention tile by tile: the weights of all keys are never in memory at once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlcheck.references.attention.scaled_dot_product import not_seen
from dlcheck.references.precision import wide
from dlcheck.registry import reference


class _AttendByTiles(torch.autograd.Function):
    """O = softmax(s Q Kᵀ) V from tiles of keys; also L = Σ_keys e^{S − m}, m the largest logit.

    Forward: with the largest logit m so far, sums L = Σ e^{S − m} and A = Σ e^{S − m} V; a tile
    with a larger m′ first multiplies both by e^{m − m′}. O = A/L.
    Backward: a tile's weights are P = e^{S − m}/L again, m being a constant that cancels. With
    cotangents V̇ of O and L̇ of L, G = V̇ Vᵀ, Δ = Σ_keys P ⊙ G, and since dL = L Σ_keys P ⊙ dS,
    dL/dS = P ⊙ (G − Δ + L L̇) =: D;  dL/dQ = s D K, dL/dK = s Dᵀ Q, dL/dV = Pᵀ V̇.
    Δ = Σ_e V̇ ⊙ O would save a pass, but leave a rounding of G − Δ where one key has all the
    weight, D is 0, and K or Q may be large.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        query: Tensor, key: Tensor, value: Tensor, dropped: Tensor | None, scale: float, tile: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        largest = query.new_full((*query.shape[:-1], 1), -torch.inf)
        total = torch.zeros_like(largest)
        summed = torch.zeros_like(query[..., :1] * value[..., :1, :])
        for keys in _tiles(key.shape[-2], tile):
            logits = _logits(query, key, dropped, scale, keys)
            new = torch.maximum(largest, logits.amax(-1, keepdim=True))
            finite = new.masked_fill(new == -torch.inf, 0)  # no key so far: e^{−inf − 0} = 0
            shrink, powers = (largest - finite).exp(), (logits - finite).exp()
            total = shrink * total + powers.sum(-1, keepdim=True)
            summed = shrink * summed + powers.to(value.dtype) @ value[..., keys, :]
            largest = new
        empty = total == 0
        total, largest = total.masked_fill(empty, 1), largest.masked_fill(empty, 0)
        return (summed / total).to(value.dtype), total, largest

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        query, key, value, dropped, ctx.scale, ctx.tile = inputs
        ctx.save_for_backward(query, key, value, dropped, *output[1:])
        ctx.mark_non_differentiable(output[2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, dropped, total, largest = ctx.saved_tensors
        to_output, to_total, _ = gradients

        def tile(keys: slice) -> tuple[Tensor, Tensor]:
            logits = _logits(query, key, dropped, ctx.scale, keys)
            return (logits - largest).exp() / total, to_output @ value[..., keys, :].mT  # P, G

        tiles = _tiles(key.shape[-2], ctx.tile)
        common = total * to_total  # L L̇ − Δ
        for keys in tiles:
            weights, to_weights = tile(keys)
            common = common - (weights * to_weights).sum(-1, keepdim=True)
        to_query, to_key, to_value = torch.zeros_like(query), [], []
        for keys in tiles:
            weights, to_weights = tile(keys)
            to_logits = ctx.scale * weights * (to_weights + common)
            to_query = to_query + to_logits @ key[..., keys, :]
            to_key.append(to_logits.mT @ query)
            to_value.append(weights.mT @ to_output)
        return to_query, torch.cat(to_key, -2), torch.cat(to_value, -2), None, None, None


def _tiles(n: int, tile: int) -> list[slice]:
    return [slice(start, min(start + tile, n)) for start in range(0, n, tile)]


def _logits(
    query: Tensor, key: Tensor, dropped: Tensor | None, scale: float, keys: slice
) -> Tensor:
    """s Q Kᵀ for a tile of keys, −inf where they are not seen."""
    logits = ((scale * query) @ key[..., keys, :].mT).to(query.dtype)
    if dropped is None:
        return logits
    return logits.masked_fill(dropped if dropped.shape[-1] == 1 else dropped[..., keys], -torch.inf)


@reference(
    kind="attention",
    formula="softmax(Q Kᵀ/√d) V, the softmax summed online over tiles of keys",
    source="Dao et al., FlashAttention, NeurIPS 2022, algorithms 2 and 4; Milakov & Gimelshein, "
    "Online Normalizer Calculation for Softmax, 2018, algorithm 3",
    inputs={"query": "float b h m d", "key": "float b h n d", "value": "float b h n e"},
    args={"is_causal": True, "tile": 3},
    traits=["smooth", "causal"],
    options={
        "mask": {"name": "attn_mask", "meaning": "keep", "axis": "pair"},
        "invariant_to": ["tile"],
    },
)
def online_softmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,  # noqa: FBT001, FBT002
    scale: float | None = None,
    tile: int = 64,
) -> Tensor:
    """softmax(s Q Kᵀ) V: query […, m, d], key […, n, d], value […, n, e]; returns […, m, e].

    Memory [m, tile] instead of [m, n] for each head. s = 1/√d unless told. attn_mask is boolean
    and broadcasts to […, m, n]: true where the key is kept. With is_causal query i sees keys
    j ≤ i. A query that sees no key gets 0, with gradient 0. The gradient can be differentiated
    again, but where one key has nearly all the weight and logits are large, terms that cancel
    leave their rounding, so no second derivative is promised. Raises TypeError for a mask of
    numbers.
    """
    dropped = not_seen(query, key, attn_mask, is_causal=is_causal)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    found = _AttendByTiles.apply(wide(query), wide(key), wide(value), dropped, factor, tile)
    output: Tensor = found[0].to(value.dtype)
    return output
