"""Attention as honest people write it, with what they would declare: no check may fail on these."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from declaring import declared
from torch import Tensor, nn

from dlcheck import Subject

CROSS = {"q": "float b h m d", "k": "float b h n d", "v": "float b h n e"}
ROWS = {"q": "float b m d", "k": "float b n d", "v": "float b n e"}
TOKENS = {"q": "float b t 8", "k": "float b t 8", "v": "float b t 8"}
SEQUENCE_FIRST = {"query": "float m b 8", "key": "float n b 8", "value": "float n b 8"}
BATCH_FIRST = {"query": "float b m 8", "key": "float b n 8", "value": "float b n 8"}
MHA = {"embed_dim": 8, "num_heads": 2}
PAIRS = {"name": "mask", "meaning": "keep", "axis": "pair"}
DROPS = {"name": "attn_mask", "meaning": "drop", "axis": "pair"}
PADDING = {"name": "key_padding_mask", "meaning": "drop", "axis": "key"}


def right(name: str, target: Any, inputs: dict[str, str], *traits: str, **more: Any) -> Subject:
    return declared("attention", name, target, inputs, *traits, **more)


def by_einsum(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """[b, t, h, d], as in FlashAttention."""
    logits = torch.einsum("bmhd,bnhd->bhmn", q, k) / math.sqrt(q.shape[-1])
    if mask is not None:
        logits = logits.masked_fill(~mask, torch.finfo(q.dtype).min)
    return torch.einsum("bhmn,bnhe->bmhe", logits.softmax(-1), v)


def by_tiles(q: Tensor, k: Tensor, v: Tensor, tile: int = 4) -> Tensor:
    """The softmax summed online over tiles of keys."""
    largest = q.new_full((*q.shape[:-1], 1), -torch.inf)
    total, summed = torch.zeros_like(largest), q.new_zeros(*q.shape[:-1], v.shape[-1])
    for start in range(0, k.shape[-2], tile):
        logits = q @ k[..., start : start + tile, :].mT / math.sqrt(q.shape[-1])
        new = torch.maximum(largest, logits.amax(-1, keepdim=True))
        powers, shrink = (logits - new).exp(), (largest - new).exp()
        total = shrink * total + powers.sum(-1, keepdim=True)
        summed = shrink * summed + powers @ v[..., start : start + tile, :]
        largest = new
    return summed / total


def annotated(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
    """The Annotated Transformer: −10⁹ where the mask is 0, and the weights beside the output."""
    scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.size(-1))
    if mask is not None:
        scores = scores.masked_fill(mask == 0, -1e9)
    weights = scores.softmax(dim=-1)
    return torch.matmul(weights, v), weights


def mask_required(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Fused(nn.Module):
    """One matrix for queries, keys and values, as in GPT and timm; causal, with dropout."""

    def __init__(self, causal: bool = True, p: float = 0.1) -> None:  # noqa: FBT001, FBT002
        super().__init__()
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.causal, self.p = causal, p

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        kept = torch.ones(t, t, dtype=torch.bool, device=x.device)
        kept = (kept.tril() if self.causal else kept)[None, None]
        if padding is not None:
            kept = kept & ~padding[:, None, None, :]
        logits = (q @ k.mT / 2).masked_fill(~kept, torch.finfo(x.dtype).min)
        weights = F.dropout(logits.softmax(-1), self.p, self.training)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, t, 8))


class SwinV2(nn.Module):
    """Cosine logits with a learned temperature for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.temperature = nn.Parameter(torch.full((2, 1, 1), math.log(10.0)))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
        logits = logits * self.temperature.clamp(max=math.log(100)).exp()
        return self.proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """x asks, a context answers: as in latent diffusion."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(8, 8, bias=False), nn.Linear(6, 16, bias=False)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        q = self.q(x).unflatten(-1, (2, 4)).transpose(1, 2)
        k, v = self.kv(context).unflatten(-1, (2, 2, 4)).permute(2, 0, 3, 1, 4)
        kept = None if mask is None else mask[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=kept)
        return self.out(y.transpose(1, 2).flatten(2))


class Rotating(nn.Module):
    """Rotary positions inside, grouped queries, causal: as in Llama."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 16), nn.Linear(8, 8), nn.Linear(8, 8)
        self.out = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (-1, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        angle = torch.arange(x.shape[1], device=x.device)[:, None] * torch.tensor([1.0, 0.01])
        cos, sin = angle.cos().to(x), angle.sin().to(x)
        q, k = (
            torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
            for a, b in (z.chunk(2, -1) for z in (q, k))
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(y.transpose(1, 2).flatten(2))


def alibi(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    slopes = 2.0 ** -torch.arange(1, q.shape[1] + 1, dtype=q.dtype)
    places = torch.arange(k.shape[-2], dtype=q.dtype)
    bias = slopes[:, None, None] * (places - places[-1])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(-1, q.shape[-2], -1))


def windowed(q: Tensor, k: Tensor, v: Tensor, window: int = 3) -> Tensor:
    """The last `window` tokens, itself among them, as in Mistral."""
    behind = torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(behind >= 0) & (behind < window))


def both_sides(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    far = (torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])).abs()
    return F.scaled_dot_product_attention(q, k, v, attn_mask=far <= 2)


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def with_sink(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """e^S/(1 + Σ e^S), "softmax off by one"."""
    logits = F.pad(q @ k.mT / math.sqrt(q.shape[-1]), (1, 0))
    return logits.softmax(-1)[..., 1:] @ v


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """φ = elu + 1 (Katharopoulos et al.); the ε takes a part of the weight."""
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return q @ (k.mT @ v) / (q @ k.sum(-2).unsqueeze(-1) + 1e-6)


SDPA = F.scaled_dot_product_attention
CROSS_MASKED = {**CROSS, "mask": "mask b 1 m n"}
RIGHT = [
    right("sdpa", SDPA, CROSS, mask={**DROPS, "meaning": "keep"}),
    right("sdpa_causal", SDPA, CROSS, "causal", args={"is_causal": True}),
    right("sdpa_bias", SDPA, CROSS, mask={**DROPS, "meaning": "additive"}),
    right("sdpa_rows", SDPA, ROWS, "permutation_equivariant"),
    right("mha", nn.MultiheadAttention, SEQUENCE_FIRST, "mask_keeps_one", args=MHA, mask=DROPS),
    right("mha_padding", nn.MultiheadAttention, BATCH_FIRST, "mask_keeps_one",
          "permutation_equivariant", args={**MHA, "batch_first": True}, mask=PADDING, heads=2),
    right("mha_sequence_first_padding", nn.MultiheadAttention, SEQUENCE_FIRST, "mask_keeps_one",
          args={**MHA, "bias": False}, mask=PADDING),
    right("mha_zero", nn.MultiheadAttention, BATCH_FIRST, "attention_sink",
          args={**MHA, "batch_first": True, "add_zero_attn": True}, mask=DROPS),
    right("mha_bias_kv", nn.MultiheadAttention, BATCH_FIRST, "attention_sink",
          args={**MHA, "batch_first": True, "add_bias_kv": True}, mask=PADDING),
    right("mha_dims", nn.MultiheadAttention,
          {"query": "float b m 8", "key": "float b n 5", "value": "float b n 6"}, "stochastic",
          args={**MHA, "batch_first": True, "kdim": 5, "vdim": 6, "dropout": 0.1}),
    right("einsum", by_einsum, {"q": "float b m h d", "k": "float b n h d", "v": "float b n h e"},
          mask=PAIRS),
    right("einsum_self", by_einsum,
          {"q": "float b t h d", "k": "float b t h d", "v": "float b t h e"}),
    right("tiles", by_tiles, CROSS, "permutation_equivariant"),
    right("annotated", annotated, CROSS_MASKED, mask=PAIRS),
    right("mask_required", mask_required, CROSS_MASKED, mask=PAIRS),
    right("fused_causal", Fused, {"x": "float b t 8"}, "causal", "stochastic",
          mask={"name": "padding", "meaning": "drop", "axis": "key"}),
    right("fused", Fused, {"x": "float b t 8", "padding": "mask b t"}, "permutation_equivariant",
          "stochastic", args={"causal": False}, heads=2,
          mask={"name": "padding", "meaning": "drop", "axis": "key"}),
    right("fused_projections", Fused, {"x": "float b t 8"}, args={"causal": False, "p": 0.0},
          heads=2, projections={"qkv": "qkv", "out": "proj"}),
    right("swin_v2", SwinV2, {"x": "float b t 8"}, "permutation_equivariant"),
    right("swin_v2_projections", SwinV2, {"x": "float b t 8"}, heads=2,
          projections={"qkv": "qkv", "out": "proj"}),
    right("cross", CrossAttention, {"x": "float b m 8", "context": "float b n 6"},
          "permutation_equivariant", mask={"name": "mask", "meaning": "keep", "axis": "key"}),
    right("rotating", Rotating, {"x": "float b t 8"}, "causal"),
    right("alibi", alibi, CROSS),
    right("windowed", windowed, CROSS, "causal", window="window"),
    right("both_sides", both_sides, TOKENS, window=2),
    right("grouped", grouped, {"q": "float b g*3 m d", "k": "float b g n d", "v": "float b g n d"}),
    right("sink", with_sink, ROWS, "attention_sink"),
    right("linear", linear_attention, CROSS, "permutation_equivariant", "attention_sink"),
]  # fmt: skip
