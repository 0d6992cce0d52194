"""Softmax, layer normalization and cross-entropy: right, loose and wrong."""

from __future__ import annotations

import math
from functools import partial

import torch
from operations import Operation, all_but_a_short_tile, half_of, rounded, tiles, wide
from torch import Tensor
from torch.nn import functional as F

TILE = 64
_LOG2_E = 1.4426950408889634


# --- softmax ----------------------------------------------------------------------------------


def _softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, -1)


def _powers(x: Tensor) -> Tensor:
    y = wide(x)
    return torch.exp(y - y.amax(-1, keepdim=True))


def _shares(powers: Tensor, x: Tensor) -> Tensor:
    return (powers / powers.sum(-1, keepdim=True)).to(x.dtype)


def two_pass(x: Tensor) -> Tensor:
    return _shares(_powers(x), x)


def online(
    x: Tensor, *, tile: int = TILE, rescales: bool = True, follows_the_maximum: bool = True
) -> Tensor:
    """Maximum and sum in one pass over tiles (Milakov & Gimelshein 2018)."""
    y = wide(x)
    top, total = y.new_full((*y.shape[:-1], 1), -math.inf), y.new_zeros((*y.shape[:-1], 1))
    for begin, end in tiles(y.shape[-1], tile):
        new = torch.maximum(top, y[..., begin:end].amax(-1, keepdim=True))
        new = new if follows_the_maximum or not begin else top
        kept = total * torch.exp(top - new) if rescales else total
        total = kept + torch.exp(y[..., begin:end] - new).sum(-1, keepdim=True)
        top = new
    return (torch.exp(y - top) / total).to(x.dtype)


def softmax_by_exp2(x: Tensor) -> Tensor:
    y = wide(x) * _LOG2_E
    return _shares(torch.exp2(y - y.amax(-1, keepdim=True)), x)


def softmax_summed_in_order(x: Tensor) -> Tensor:
    powers = _powers(x)
    return (powers / powers.cumsum(-1)[..., -1:]).to(x.dtype)


def softmax_rounding_each_step(x: Tensor) -> Tensor:
    powers = torch.exp(x - x.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def softmax_by_logarithm(x: Tensor) -> Tensor:
    y = wide(x)
    return torch.exp(y - torch.logsumexp(y, -1, keepdim=True)).to(x.dtype)


def softmax_without_maximum(x: Tensor) -> Tensor:
    return _shares(torch.exp(wide(x)), x)


def softmax_dropping_a_tile(x: Tensor) -> Tensor:
    powers = _powers(x)
    kept = x.shape[-1] // TILE * TILE or x.shape[-1]
    return (powers / powers[..., :kept].sum(-1, keepdim=True)).to(x.dtype)


def softmax_padded_with_zeros(x: Tensor) -> Tensor:
    padded = F.pad(x, (0, -x.shape[-1] % TILE))
    return two_pass(padded)[..., : x.shape[-1]]


def softmax_with_eps(x: Tensor) -> Tensor:
    powers = _powers(x)
    return (powers / (powers.sum(-1, keepdim=True) + 1e-3)).to(x.dtype)


def softmax_summed_in_half(x: Tensor) -> Tensor:
    powers = _powers(x)
    return (powers / _half_sum(powers, half_of(x))).to(x.dtype)


def _half_sum(values: Tensor, dtype: torch.dtype, tile: int = 8) -> Tensor:
    """The sum over the last axis, kept, tile by tile in a half type."""
    total = values.new_zeros((*values.shape[:-1], 1), dtype=dtype)
    for begin, end in tiles(values.shape[-1], tile):
        total = total + values[..., begin:end].sum(-1, keepdim=True).to(dtype)
    return total.to(values.dtype)


def softmax_at_a_temperature(x: Tensor) -> Tensor:
    return torch.softmax(wide(x) * 1.002, -1).to(x.dtype)


def softmax_of_half_powers(x: Tensor) -> Tensor:
    return _shares(rounded(_powers(x), torch.float16), x)


SOFTMAX = Operation(
    name="softmax",
    reference=_softmax,
    inputs={"x": "float b n"},
    even={"b": 48, "n": 512},
    right={
        "two pass": two_pass,
        "online": online,
        "online, tiles of 16": partial(online, tile=16),
        "reversed": lambda x: two_pass(x.flip(-1)).flip(-1),
        "by exp2": softmax_by_exp2,
        "summed in order": softmax_summed_in_order,
    },
    loose={
        "each step rounded": softmax_rounding_each_step,
        "by logarithm": softmax_by_logarithm,
    },
    wrong={
        "no maximum": softmax_without_maximum,
        "drops a tile": softmax_dropping_a_tile,
        "padding leaks": softmax_padded_with_zeros,
        "eps 1e-3": softmax_with_eps,
        "half sum": softmax_summed_in_half,
        "temperature 1.002": softmax_at_a_temperature,
        "no rescaling": partial(online, rescales=False),
        "first maximum": partial(online, follows_the_maximum=False),
        "half powers": softmax_of_half_powers,
    },
)


# --- layer normalization ----------------------------------------------------------------------


def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), weight, bias, 1e-5)


def _affine(normal: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (normal * wide(weight) + wide(bias)).to(x.dtype)


def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float = 1e-5,
    ddof: int = 0,
    divides_by: str = "root",
) -> Tensor:
    y = wide(x)
    off = y - y.mean(-1, keepdim=True)
    variance = (off * off).sum(-1, keepdim=True) / (y.shape[-1] - ddof)
    scale = {
        "root": lambda: 1 / torch.sqrt(variance + eps),
        "rsqrt": lambda: torch.rsqrt(variance + eps),
        "deviation": lambda: 1 / (variance.sqrt() + eps),
    }[divides_by]()
    return _affine(off * scale, x, weight, bias)


def layer_norm_reversed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return layer_norm(x.flip(-1), weight.flip(-1), bias.flip(-1)).flip(-1)


def layer_norm_by_welford(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Mean and squares of tiles merged (Chan, Golub & LeVeque 1979)."""
    y, seen = wide(x), 0
    mean, squares = y.new_zeros((*y.shape[:-1], 1)), y.new_zeros((*y.shape[:-1], 1))
    for begin, end in tiles(y.shape[-1], 16):
        part, count = y[..., begin:end], end - begin
        own = part.mean(-1, keepdim=True)
        gap = own - mean
        squares = squares + ((part - own) ** 2).sum(-1, keepdim=True)
        squares = squares + gap * gap * (seen * count / (seen + count))
        mean, seen = mean + gap * (count / (seen + count)), seen + count
    return _affine((y - mean) * torch.rsqrt(squares / seen + 1e-5), x, weight, bias)


def layer_norm_summed_in_order(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = wide(x)
    off = y - y.cumsum(-1)[..., -1:] / y.shape[-1]
    variance = (off * off).cumsum(-1)[..., -1:] / y.shape[-1]
    return _affine(off * torch.rsqrt(variance + 1e-5), x, weight, bias)


def layer_norm_rounding_each_step(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    off = x - x.mean(-1, keepdim=True)
    return off * torch.rsqrt((off * off).mean(-1, keepdim=True) + 1e-5) * weight + bias


def layer_norm_in_one_pass(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = wide(x)
    mean = y.mean(-1, keepdim=True)
    variance = ((y * y).mean(-1, keepdim=True) - mean * mean).clamp_min(0)
    return _affine((y - mean) * torch.rsqrt(variance + 1e-5), x, weight, bias)


def layer_norm_with_mean_of_whole_tiles(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = wide(x)
    kept = y.shape[-1] // TILE * TILE or y.shape[-1]
    off = y - y[..., :kept].sum(-1, keepdim=True) / y.shape[-1]
    scale = torch.rsqrt((off * off).mean(-1, keepdim=True) + 1e-5)
    return _affine(off * scale, x, weight, bias)


def layer_norm_with_padding_in_variance(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each zero that fills the last tile adds mean² to the squares."""
    y = wide(x)
    mean, padding = y.mean(-1, keepdim=True), -y.shape[-1] % TILE
    squares = ((y - mean) ** 2).sum(-1, keepdim=True) + padding * mean * mean
    return _affine((y - mean) * torch.rsqrt(squares / y.shape[-1] + 1e-5), x, weight, bias)


def layer_norm_summed_in_half(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y, dtype = wide(x), half_of(x)
    off = y - _half_sum(y, dtype) / y.shape[-1]
    variance = _half_sum(off * off, dtype) / y.shape[-1]
    return _affine(off * torch.rsqrt(variance + 1e-5), x, weight, bias)


def layer_norm_without_bias(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return layer_norm(x, weight, torch.zeros_like(bias))


def layer_norm_repeating_a_row(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return last_row_lost(layer_norm(x, weight, bias))


def last_row_lost(y: Tensor) -> Tensor:
    """The last row of a grid that is one block short: what stood there before."""
    before = y[-2:-1] if y.shape[0] > 1 else torch.zeros_like(y)
    return torch.cat([y[:-1], before])


LAYER_NORM = Operation(
    name="layer norm",
    reference=_layer_norm,
    inputs={"x": "float b n", "weight": "float n", "bias": "float n"},
    even={"b": 48, "n": 512},
    right={
        "two pass": layer_norm,
        "by rsqrt": partial(layer_norm, divides_by="rsqrt"),
        "reversed": layer_norm_reversed,
        "by Welford": layer_norm_by_welford,
        "summed in order": layer_norm_summed_in_order,
    },
    loose={"each step rounded": layer_norm_rounding_each_step},
    wrong={
        "eps 1e-6": partial(layer_norm, eps=1e-6),
        "eps 1e-4": partial(layer_norm, eps=1e-4),
        "eps beside the root": partial(layer_norm, divides_by="deviation"),
        "ddof 1": partial(layer_norm, ddof=1),
        "one pass": layer_norm_in_one_pass,
        "mean of whole tiles": layer_norm_with_mean_of_whole_tiles,
        "padding in variance": layer_norm_with_padding_in_variance,
        "half sums": layer_norm_summed_in_half,
        "no bias": layer_norm_without_bias,
        "last row lost": layer_norm_repeating_a_row,
    },
)


# --- cross-entropy ----------------------------------------------------------------------------

IGNORED = 0  # a class, so that it is drawn


def _cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(prediction, target, ignore_index=IGNORED, reduction="none")


def _beside(log_sum: Tensor, prediction: Tensor, target: Tensor) -> Tensor:
    """log Σ exp − x_t, and 0 for what is ignored, in the type of the prediction."""
    chosen = wide(prediction).gather(1, target[:, None])[:, 0]
    return torch.where(target == IGNORED, 0.0, log_sum - chosen).to(prediction.dtype)


def cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    return _beside(torch.logsumexp(wide(prediction), 1), prediction, target)


def cross_entropy_online(
    prediction: Tensor,
    target: Tensor,
    *,
    tile: int = TILE,
    rescales: bool = True,
    drops: bool = False,
) -> Tensor:
    y, k = wide(prediction), prediction.shape[1]
    top, total = y.new_full(y.shape[:1], -math.inf), y.new_zeros(y.shape[:1])
    for begin, end in all_but_a_short_tile(k, tile) if drops else tiles(k, tile):
        new = torch.maximum(top, y[:, begin:end].amax(1))
        kept = total * torch.exp(top - new) if rescales else total
        total, top = kept + torch.exp(y[:, begin:end] - new[:, None]).sum(1), new
    return _beside(top + total.log(), prediction, target)


def cross_entropy_reversed(prediction: Tensor, target: Tensor) -> Tensor:
    y = wide(prediction)
    top = y.amax(1)
    total = torch.exp(y.flip(1) - top[:, None]).sum(1)
    return _beside(top + total.log(), prediction, target)


def cross_entropy_rounding_each_step(prediction: Tensor, target: Tensor) -> Tensor:
    top = prediction.amax(1, keepdim=True)
    log_sum = torch.exp(prediction - top).sum(1).log() + top[:, 0]
    chosen = prediction.gather(1, target[:, None])[:, 0]
    return torch.where(target == IGNORED, 0.0, log_sum - chosen)


def cross_entropy_without_maximum(prediction: Tensor, target: Tensor) -> Tensor:
    return _beside(torch.exp(wide(prediction)).sum(1).log(), prediction, target)


def cross_entropy_with_eps(prediction: Tensor, target: Tensor) -> Tensor:
    shares = torch.softmax(wide(prediction), 1).gather(1, target[:, None])[:, 0]
    return torch.where(target == IGNORED, 0.0, -(shares + 1e-7).log()).to(prediction.dtype)


def cross_entropy_padded_with_zeros(prediction: Tensor, target: Tensor) -> Tensor:
    padded = F.pad(wide(prediction), (0, -prediction.shape[1] % TILE))
    return _beside(torch.logsumexp(padded, 1), prediction, target)


def cross_entropy_ignoring_nothing(prediction: Tensor, target: Tensor) -> Tensor:
    y = wide(prediction)
    chosen = y.gather(1, target[:, None])[:, 0]
    return (torch.logsumexp(y, 1) - chosen).to(prediction.dtype)


def cross_entropy_summed_in_half(prediction: Tensor, target: Tensor) -> Tensor:
    y = wide(prediction)
    top = y.amax(1, keepdim=True)
    total = _half_sum(torch.exp(y - top), half_of(prediction))
    return _beside((top + total.log())[:, 0], prediction, target)


def cross_entropy_smoothed(prediction: Tensor, target: Tensor) -> Tensor:
    loss = F.cross_entropy(
        wide(prediction), target, ignore_index=IGNORED, reduction="none", label_smoothing=1e-3
    )
    return loss.to(prediction.dtype)


CROSS_ENTROPY = Operation(
    name="cross-entropy",
    reference=_cross_entropy,
    inputs={"prediction": "logit b k", "target": "label[k] b"},
    even={"b": 48, "k": 512},
    right={
        "log-sum-exp": cross_entropy,
        "online": cross_entropy_online,
        "online, tiles of 16": partial(cross_entropy_online, tile=16),
        "reversed": cross_entropy_reversed,
    },
    loose={"each step rounded": cross_entropy_rounding_each_step},
    wrong={
        "no maximum": cross_entropy_without_maximum,
        "eps 1e-7": cross_entropy_with_eps,
        "padding leaks": cross_entropy_padded_with_zeros,
        "ignores nothing": cross_entropy_ignoring_nothing,
        "half sum": cross_entropy_summed_in_half,
        "smoothing 1e-3": cross_entropy_smoothed,
        "no rescaling": partial(cross_entropy_online, rescales=False),
        "drops a tile": partial(cross_entropy_online, drops=True),
    },
)
