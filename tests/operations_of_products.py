"""Matrix products, convolution and attention: right, loose and wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from operations import Operation, all_but_a_short_tile, half_of, rounded, tiles, wide
from operations_on_rows import last_row_lost
from torch import Tensor
from torch.nn import functional as F

TILE = 32
_LOG2_E = 1.4426950408889634
_FLOAT8 = torch.float8_e4m3fn

Change = Callable[[Tensor], Tensor]


def to_tf32(x: Tensor) -> Tensor:
    """float32 with 10 bits of mantissa, as tensor cores multiply."""
    bits = (x.detach().contiguous().view(torch.int32) + 0x1000) & ~0x1FFF
    return x + (bits.view(torch.float32) - x).detach()


# --- matrix product ---------------------------------------------------------------------------


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


def tiled(
    a: Tensor,
    b: Tensor,
    *,
    tile: int = TILE,
    sums_in: torch.dtype | None = None,
    drops: bool = False,
    changed: Change = lambda x: x,
) -> Tensor:
    x, y = changed(wide(a)), changed(wide(b))
    k = x.shape[-1]
    total = x.new_zeros((a.shape[0], b.shape[1]), dtype=sums_in)
    for begin, end in all_but_a_short_tile(k, tile) if drops else tiles(k, tile):
        total = total + (x[:, begin:end] @ y[begin:end]).to(total.dtype)
    return total.to(a.dtype)


def compensated(a: Tensor, b: Tensor) -> Tensor:
    """Kahan's sum over tiles."""
    x, y = wide(a), wide(b)
    total = x.new_zeros((a.shape[0], b.shape[1]))
    lost = torch.zeros_like(total)
    for begin, end in tiles(x.shape[-1], TILE):
        term = x[:, begin:end] @ y[begin:end] - lost
        new = total + term
        total, lost = new, (new - total) - term
    return total.to(a.dtype)


def outer_products(a: Tensor, b: Tensor) -> Tensor:
    x, y = wide(a), wide(b)
    total = x.new_zeros((a.shape[0], b.shape[1]))
    for i in range(x.shape[1]):
        total = total + x[:, i : i + 1] * y[i : i + 1]
    return total.to(a.dtype)


def split_k(a: Tensor, b: Tensor) -> Tensor:
    x, y, k = wide(a), wide(b), a.shape[1]
    ends = [part * k // 4 for part in range(5)]
    parts = [x[:, begin:end] @ y[begin:end] for begin, end in pairwise(ends)]
    return torch.stack(parts).sum(0).to(a.dtype)


def three_bfloat16_products(a: Tensor, b: Tensor) -> Tensor:
    """Each factor as a sum of two bfloat16 numbers; the product of the small ones left out."""
    x, y = wide(a), wide(b)
    high, other = rounded(x, torch.bfloat16), rounded(y, torch.bfloat16)
    low, least = rounded(x - high, torch.bfloat16), rounded(y - other, torch.bfloat16)
    return (high @ other + (high @ least + low @ other)).to(a.dtype)


def matmul_in_half_sums(a: Tensor, b: Tensor) -> Tensor:
    return tiled(a, b, sums_in=half_of(a))


def matmul_of_fewer_bits(a: Tensor, b: Tensor) -> Tensor:
    """TF32 for float32, sums in the half type over tiles of 16 for others."""
    if a.dtype == torch.float32:
        return tiled(a, b, changed=to_tf32)
    return tiled(a, b, sums_in=half_of(a), tile=16)


def matmul_of_bfloat16(a: Tensor, b: Tensor) -> Tensor:
    """Factors rounded to bfloat16; in bfloat16, sums over tiles of 8."""
    if a.dtype == torch.bfloat16:
        return tiled(a, b, sums_in=torch.bfloat16, tile=8)
    return tiled(a, b, changed=lambda x: rounded(x, torch.bfloat16))


def matmul_times(a: Tensor, b: Tensor, *, factor: float) -> Tensor:
    return ((wide(a) @ wide(b)) * factor).to(a.dtype)


MATMUL = Operation(
    name="matmul",
    reference=_matmul,
    inputs={"a": "float m k", "b": "float k n"},
    even={"m": 48, "k": 512, "n": 40},
    right={
        "tiled": tiled,
        "compensated": compensated,
        "outer products": outer_products,
        "reversed": lambda a, b: (wide(a).flip(1) @ wide(b).flip(0)).to(a.dtype),
        "transposed": lambda a, b: (b.t() @ a.t()).t(),
        "split k": split_k,
    },
    loose={"three bfloat16 products": three_bfloat16_products},
    wrong={
        "drops a tile": partial(tiled, drops=True),
        "half sums": matmul_in_half_sums,
        "fewer bits": matmul_of_fewer_bits,
        "bfloat16 factors": matmul_of_bfloat16,
        "times 1.001": partial(matmul_times, factor=1.001),
        "times 1.02": partial(matmul_times, factor=1.02),
        "last row lost": lambda a, b: last_row_lost(a @ b),
    },
)


# --- convolution ------------------------------------------------------------------------------


def _convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x, weight, bias, padding=1)


def unfolded(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    order: int = 1,
    flips: bool = False,
    padding: str = "constant",
    drops_a_channel: bool = False,
    sums_in: torch.dtype | None = None,
    changed: Change = lambda x: x,
) -> Tensor:
    """A product of the kernel with all patches."""
    y, kernel = changed(wide(x)), changed(wide(weight))
    kernel = (kernel.flip(2, 3) if flips else kernel).flatten(1)
    patches = F.unfold(F.pad(y, (1, 1, 1, 1), mode=padding), 3)
    if drops_a_channel:
        kept = kernel.shape[1] - (9 if x.shape[1] > 1 else 1)
        patches, kernel = patches[:, :kept], kernel[:, :kept]
    if order < 0:
        patches, kernel = patches.flip(1), kernel.flip(1)
    found = kernel @ patches if sums_in is None else _channel_sums(kernel, patches, sums_in)
    found = found + wide(bias)[:, None]
    return found.view(x.shape[0], weight.shape[0], *x.shape[2:]).to(x.dtype)


def _channel_sums(kernel: Tensor, patches: Tensor, dtype: torch.dtype) -> Tensor:
    """Added channel by channel in a half type."""
    parts = ((kernel[:, i:j] @ patches[:, i:j]).to(dtype) for i, j in tiles(kernel.shape[1], 9))
    total = next(parts)
    for part in parts:
        total = total + part
    return total.to(patches.dtype)


def convolved_by_shifts(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y, kernel, (h, w) = F.pad(wide(x), (1, 1, 1, 1)), wide(weight), x.shape[2:]
    total = wide(bias)[:, None, None]
    for i in range(3):
        for j in range(3):
            seen = y[:, :, i : i + h, j : j + w]
            total = total + torch.einsum("nchw,oc->nohw", seen, kernel[:, :, i, j])
    return total.to(x.dtype)


def convolved_channels_last(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x.to(memory_format=torch.channels_last), weight, bias, padding=1)


def convolved_by_fourier(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    h, w = x.shape[2:]
    size = (h + 2, w + 2)
    waves = torch.fft.rfft2(F.pad(wide(x), (1, 1, 1, 1)), size)
    kernel = torch.fft.rfft2(wide(weight), size)
    found = torch.fft.irfft2(torch.einsum("nchw,ochw->nohw", waves, kernel.conj()), size)
    return (found[..., :h, :w] + wide(bias)[:, None, None]).to(x.dtype)


def convolved_in_half_sums(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return unfolded(x, weight, bias, sums_in=half_of(x))


def convolved_with_fewer_bits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """TF32 for float32, float8 factors for others."""
    is_single = x.dtype == torch.float32
    change = to_tf32 if is_single else lambda y: rounded(y, _FLOAT8)
    return unfolded(x, weight, bias, changed=change)


def convolved_times_1001(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (unfolded(wide(x), wide(weight), wide(bias)) * 1.001).to(x.dtype)


CONVOLUTION = Operation(
    name="conv2d",
    reference=_convolution,
    inputs={"x": "float b c h w", "weight": "float o c 3 3", "bias": "float o"},
    even={"b": 2, "c": 16, "h": 16, "w": 16, "o": 8},
    right={
        "unfolded": unfolded,
        "reversed": partial(unfolded, order=-1),
        "by shifts": convolved_by_shifts,
        "channels last": convolved_channels_last,
    },
    loose={"by Fourier": convolved_by_fourier},
    wrong={
        "drops a channel": partial(unfolded, drops_a_channel=True),
        "replicates the border": partial(unfolded, padding="replicate"),
        "flips the kernel": partial(unfolded, flips=True),
        "no bias": lambda x, weight, bias: unfolded(x, weight, torch.zeros_like(bias)),
        "half sums": convolved_in_half_sums,
        "fewer bits": convolved_with_fewer_bits,
        "times 1.001": convolved_times_1001,
    },
)


# --- causal attention -------------------------------------------------------------------------


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def streamed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    tile: int = TILE,
    scale: float = 1.0,
    scales_query: bool = False,
    by_exp2: bool = False,
    rescales: bool = True,
    subtracts_maximum: bool = True,
    drops: bool = False,
    sees_ahead: int = 0,
    padding_leaks: bool = False,
    weights_in: torch.dtype | None = None,
    sums_in: torch.dtype | None = None,
) -> Tensor:
    """Tiles of keys, with maximum, sum and output carried along (Dao et al. 2022). [b h s d]."""
    q, k, v = wide(query), wide(key), wide(value)
    length, factor = q.shape[-2], scale * q.shape[-1] ** -0.5
    q, factor = (q * factor, 1.0) if scales_query else (q, factor)
    top = q.new_full((*q.shape[:-1], 1), -math.inf if subtracts_maximum else 0.0)
    total, out = torch.zeros_like(top), torch.zeros_like(q, dtype=sums_in)
    rows = torch.arange(length, device=q.device)[:, None]
    for begin, end in all_but_a_short_tile(length, tile) if drops else tiles(length, tile):
        scores = (q @ k[..., begin:end, :].mT) * factor
        hidden = torch.arange(begin, end, device=q.device) > rows + sees_ahead
        scores = scores.masked_fill(hidden, -math.inf)
        if padding_leaks:
            scores = F.pad(scores, (0, tile - (end - begin)))
        new = torch.maximum(top, scores.amax(-1, keepdim=True)) if subtracts_maximum else top
        weights = torch.exp2((scores - new) * _LOG2_E) if by_exp2 else torch.exp(scores - new)
        kept = torch.exp(top - new) if rescales else torch.ones_like(top)
        total, top = total * kept + weights.sum(-1, keepdim=True), new
        weights = weights[..., : end - begin]
        weights = weights if weights_in is None else rounded(weights, weights_in)
        out = (out.to(q.dtype) * kept + weights @ v[..., begin:end, :]).to(out.dtype)
    return (out.to(q.dtype) / total).to(query.dtype)


def _masked(scores: Tensor) -> Tensor:
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)


def attention_by_steps(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    q, k, v = wide(query), wide(key), wide(value)
    return attention_rounding_each_step(q, k, v).to(query.dtype)


def attention_rounding_each_step(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = (query @ key.mT) * query.shape[-1] ** -0.5
    return torch.softmax(_masked(scores), -1) @ value


def attention_with_weights_of_the_type(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return streamed(query, key, value, weights_in=query.dtype)


def attention_with_narrow_weights(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """bfloat16 in float32, float8 in half types."""
    narrow = torch.float8_e5m2 if query.dtype != wide(query).dtype else torch.bfloat16
    return streamed(query, key, value, weights_in=narrow)


def attention_in_half_sums(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return streamed(query, key, value, sums_in=half_of(query), tile=16)


_HEADS = "float b h s d"
ATTENTION = Operation(
    name="attention",
    reference=_attention,
    inputs={"query": _HEADS, "key": _HEADS, "value": _HEADS},
    even={"b": 1, "h": 2, "s": 128, "d": 64},
    right={
        "streamed": streamed,
        "streamed, tiles of 16": partial(streamed, tile=16),
        "by steps": attention_by_steps,
        "scaled query": partial(streamed, scales_query=True),
        "by exp2": partial(streamed, by_exp2=True),
    },
    loose={
        "each step rounded": attention_rounding_each_step,
        "weights of the type": attention_with_weights_of_the_type,
    },
    wrong={
        "no rescaling": partial(streamed, rescales=False),
        "drops a tile": partial(streamed, drops=True),
        "sees one ahead": partial(streamed, sees_ahead=1),
        "padding leaks": partial(streamed, padding_leaks=True),
        "no maximum": partial(streamed, subtracts_maximum=False),
        "scale off by 1 %": partial(streamed, scale=1.01),
        "narrow weights": attention_with_narrow_weights,
        "half sums": attention_in_half_sums,
    },
)
