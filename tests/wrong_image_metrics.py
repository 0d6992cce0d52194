"""Wrong metrics of image pairs: bugs of published code and of first drafts, honestly declared.

Each is declared as its author would who believes that it is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcheck.references.metrics.fsim import fsim
from dlcheck.references.metrics.lpips import LPIPS
from dlcheck.references.metrics.ms_ssim import ms_ssim

IMAGES = {"x": "image b c h w", "y": "image b c h w"}
SYMMETRIES = ("symmetric", "mirror_invariant", "transpose_invariant", "grey_is_colour")

PSNR: dict[str, Any] = {
    "inputs": IMAGES,
    "traits": (*SYMMETRIES, "shift_invariant"),
    "options": {"better": "higher", "perfect": math.inf, "formula": "psnr"},
}
SSIM: dict[str, Any] = {
    "inputs": IMAGES,
    "traits": (*SYMMETRIES, "flat_at_identity"),
    "options": {
        "better": "higher",
        "perfect": 1.0,
        "range": [-1, 1],
        "formula": "ssim",
    },
}
MS_SSIM: dict[str, Any] = {
    **SSIM,
    "options": {**SSIM["options"], "formula": "ms_ssim", "range": [0, 1]},
}
FSIM: dict[str, Any] = {
    "inputs": IMAGES,
    "traits": ("symmetric", "grey_is_colour"),
    "options": {"better": "higher", "perfect": 1.0, "range": [0, 1]},
    "args": {"data_range": 1.0},
}
DISTANCE: dict[str, Any] = {
    "inputs": {"x": "image[-1:1] b 3 h w", "y": "image[-1:1] b 3 h w"},
    "traits": ("symmetric", "nonnegative", "flat_at_identity"),
    "options": {"better": "lower", "perfect": 0.0, "range": [0, "inf"]},
}
LEARNED: dict[str, Any] = {
    **DISTANCE,
    "reference": "dlcheck.references.metrics.lpips:LPIPS",
}


# --- PSNR -------------------------------------------------------------------------------------


def natural_logarithm(x: Tensor, y: Tensor) -> Tensor:
    return -10 * (x - y).square().mean((1, 2, 3)).log()


def twenty_times(x: Tensor, y: Tensor) -> Tensor:
    return -20 * (x - y).square().mean((1, 2, 3)).log10()


def root_forgotten(x: Tensor, y: Tensor) -> Tensor:
    """20 log₁₀ R/RMSE with the mean absolute error for the RMSE."""
    return -20 * (x - y).abs().mean((1, 2, 3)).log10()


def for_bytes_by_default(x: Tensor, y: Tensor, data_range: float = 255.0) -> Tensor:
    return 20 * math.log10(data_range) - 10 * (x - y).square().mean((1, 2, 3)).log10()


def of_the_whole_batch(x: Tensor, y: Tensor) -> Tensor:
    """Declared as the mean over pairs: the logarithm of the mean instead."""
    return -10 * (x - y).square().mean().log10()


def mean_of_channels(x: Tensor, y: Tensor) -> Tensor:
    """One PSNR per channel and then the mean."""
    return (-10 * (x - y).square().mean((2, 3)).log10()).mean(1)


def wraps_around(x: Tensor, y: Tensor) -> Tensor:
    """Differences of bytes without a sign."""
    difference = ((x * 255).to(torch.uint8) - (y * 255).to(torch.uint8)).to(x.dtype)
    return 20 * math.log10(255) - 10 * difference.square().mean((1, 2, 3)).log10()


def caps_at_a_hundred(x: Tensor, y: Tensor) -> Tensor:
    """1e-10 under the logarithm: 100 dB of an image with itself, declared infinite."""
    return -10 * ((x - y).square().mean((1, 2, 3)) + 1e-10).log10()


def range_of_the_batch(x: Tensor, y: Tensor) -> Tensor:
    """The range is taken from whatever is in the batch."""
    span = torch.maximum(x, y).max() - torch.minimum(x, y).min()
    return 20 * span.log10() - 10 * (x - y).square().mean((1, 2, 3)).log10()


# --- SSIM -------------------------------------------------------------------------------------


def gaussian(size: int, deviation: float, like: Tensor) -> Tensor:
    offsets = torch.arange(size, dtype=like.dtype) - (size - 1) / 2
    weights = torch.exp(-(offsets**2) / (2 * deviation**2))
    return weights / weights.sum()


def ssim_with(
    *,
    size: int = 11,
    deviation: float = 1.5,
    k: tuple[float, float] = (0.01, 0.03),
    span: float = 1.0,
    padding: int = 0,
    sample: float = 1.0,
    uniform: bool = False,
    squared: bool = True,
    detached: bool = False,
    normed: bool = True,
) -> Callable[[Tensor, Tensor], Tensor]:
    def ssim(x: Tensor, y: Tensor) -> Tensor:
        c = x.shape[1]
        g = torch.full((size,), 1 / size).to(x) if uniform else gaussian(size, deviation, x)
        g = g if normed else g * (1 + 1 / size)
        window = torch.outer(g, g).expand(c, 1, size, size)

        def mean(z: Tensor) -> Tensor:
            return F.conv2d(z, window, padding=padding, groups=c)

        a, b = mean(x), mean(y)
        if detached:
            a, b = a.detach(), b.detach()
        c1, c2 = ((v * span) ** 2 if squared else v * span for v in k)
        covariance, both = mean(x * y) - a * b, mean(x * x) - a * a + mean(y * y) - b * b
        structure = (2 * sample * covariance + c2) / (sample * both + c2)
        return ((2 * a * b + c1) / (a * a + b * b + c1) * structure).mean((1, 2, 3))

    return ssim


def grey_first(x: Tensor, y: Tensor) -> Tensor:
    return ssim_with()(x.mean(1, keepdim=True), y.mean(1, keepdim=True))


def structure_only(x: Tensor, y: Tensor) -> Tensor:
    """The luminance was lost in a refactoring: local means are removed first."""
    g = gaussian(11, 1.5, x)
    window = torch.outer(g, g).expand(x.shape[1], 1, 11, 11)
    x, y = (
        z - F.conv2d(F.pad(z, (5,) * 4, mode="reflect"), window, groups=z.shape[1]) for z in (x, y)
    )
    return ssim_with()(x, y)


def without_factor_two(x: Tensor, y: Tensor) -> Tensor:
    value = ssim_with()(x, y)
    return (1 + value) / 2


def height_taken_for_width(x: Tensor, y: Tensor) -> Tensor:
    """One image was read by rows, the other by columns."""
    b, c, h, w = x.shape
    return ssim_with()(x.reshape(b, c, w, h), y.reshape(b, c, h, w).mT.contiguous())


def cuts_at_zero(x: Tensor, y: Tensor) -> Tensor:
    """Images are normalised to [−1, 1], then clamped to [0, 1] as before."""
    return ssim_with()((2 * x - 1).clamp(0, 1), (2 * y - 1).clamp(0, 1))


def dissimilarity(x: Tensor, y: Tensor) -> Tensor:
    """1 − SSIM, declared as SSIM."""
    return 1 - ssim_with()(x, y)


def normalised_by_batch(x: Tensor, y: Tensor) -> Tensor:
    low, high = x.amin(), x.amax()
    return ssim_with()((x - low) / (high - low), (y - low) / (high - low))


# --- MS-SSIM ----------------------------------------------------------------------------------

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def scales(x: Tensor, y: Tensor, *, plain: bool = False, pool: bool = True) -> list[Tensor]:
    """Means per scale [b, c]: contrast-structure, at the last (if plain, at all) with luminance."""
    means = []
    for scale in range(5):
        window = torch.outer(gaussian(11, 1.5, x), gaussian(11, 1.5, x))
        window = window.expand(x.shape[1], 1, 11, 11)
        maps = [F.conv2d(z, window, groups=x.shape[1]) for z in (x, y, x * x, y * y, x * y)]
        a, b, aa, bb, ab = maps
        value = (2 * (ab - a * b) + 9e-4) / (aa - a * a + bb - b * b + 9e-4)
        if scale == 4 or plain:
            value = value * (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
        means.append(value.mean((2, 3)).relu())
        x, y = (F.avg_pool2d(z, 2) if pool else z[..., ::2, ::2] for z in (x, y))
    return means


def product(means: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    powers = [m**w for m, w in zip(means, weights, strict=True)]
    return torch.stack(powers).prod(0).mean(1)


def last_weight_missing(x: Tensor, y: Tensor) -> Tensor:
    return product(scales(x, y), (*WEIGHTS[:4], 1.0))


def luminance_at_each_scale(x: Tensor, y: Tensor) -> Tensor:
    return product(scales(x, y, plain=True), WEIGHTS)


def weighted_sum(x: Tensor, y: Tensor) -> Tensor:
    means = scales(x, y)
    return sum(w * m.mean(1) for w, m in zip(WEIGHTS, means, strict=True))  # type: ignore[return-value]


def weights_reversed(x: Tensor, y: Tensor) -> Tensor:
    return product(scales(x, y), WEIGHTS[::-1])


def strided_without_average(x: Tensor, y: Tensor) -> Tensor:
    return product(scales(x, y, pool=False), WEIGHTS)


def clamped_away(x: Tensor, y: Tensor) -> Tensor:
    """Clamped to [0.9, 1], against NaN in the power."""
    return ms_ssim(x, y, data_range=1.0).clamp(0.9, 1.0)


# --- FSIM -------------------------------------------------------------------------------------


def for_unit_images(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """The constants for 0 to 255 on images from 0 to 1: always near 1."""
    return fsim(x, y, data_range=255.0 * data_range)


def one_side_weighs(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """Weighted by the first image alone: not symmetric."""
    grey = x.mean(1, keepdim=True)
    edges = (grey - F.avg_pool2d(grey, 5, 1, 2)).abs()
    difference = (x - y).square().mean(1, keepdim=True) / data_range**2
    similarity = 1 / (1 + 10 * difference)
    return (similarity * edges).sum((1, 2, 3)) / edges.sum((1, 2, 3))


def range_forgotten(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    return fsim(x, y, data_range=1.0)


# --- LPIPS ------------------------------------------------------------------------------------


class Spoiled(nn.Module):
    """LPIPS with the change of `self.values`, on the same backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.right = LPIPS("alex")

    def layers(self, x: Tensor) -> list[Tensor]:
        x = (x - self.right.shift) / self.right.scale
        found = []
        for index, module in enumerate(self.right.features[:12]):
            x = module(x)
            if index in self.right.taps:
                found.append(x)
        return found

    def heads(self) -> list[Tensor]:
        return [self.right.get_buffer(f"head{layer}") for layer in range(5)]

    def unit(self, z: Tensor) -> Tensor:
        return z / (z.square().sum(1, keepdim=True).sqrt() + 1e-10)

    def distance(self, a: Tensor, b: Tensor, head: Tensor) -> Tensor:
        return ((a - b).square() * head).sum(1).mean((1, 2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros(len(x), dtype=x.dtype)
        for a, b, head in zip(self.layers(x), self.layers(y), self.heads(), strict=True):
            total = total + self.distance(self.unit(a), self.unit(b), head)
        return total


class WithoutNormalization(Spoiled):
    def unit(self, z: Tensor) -> Tensor:
        return z


class NormalizedOverSpace(Spoiled):
    def unit(self, z: Tensor) -> Tensor:
        return z / (z.square().sum((2, 3), keepdim=True).sqrt() + 1e-10)


class RootOfEachLayer(Spoiled):
    def distance(self, a: Tensor, b: Tensor, head: Tensor) -> Tensor:
        return super().distance(a, b, head).sqrt()


class SignedHeads(Spoiled):
    """Weights that were trained without being kept at least 0."""

    def heads(self) -> list[Tensor]:
        return [head * (1 - 2 * (torch.arange(len(head)) % 2)[:, None, None]) for head in
                super().heads()]  # fmt: skip


class HeadsSquared(Spoiled):
    """w², as the paper writes it, with the heads of the code."""

    def heads(self) -> list[Tensor]:
        return [head.square() for head in super().heads()]


class WrongLayers(Spoiled):
    """The heads of the two layers of 256 channels are exchanged."""

    def heads(self) -> list[Tensor]:
        first, second, third, fourth, fifth = super().heads()
        return [first, second, third, fifth, fourth]


class UnitInterval(Spoiled):
    """Takes [−1, 1] for [0, 1] and brings it to [−1, 1] once more."""

    def layers(self, x: Tensor) -> list[Tensor]:
        return super().layers(2 * x - 1)


class InTraining(Spoiled):
    """With the dropout of the heads left on."""

    def unit(self, z: Tensor) -> Tensor:
        return F.dropout(super().unit(z), 0.5)


Declared = tuple[Any, Mapping[str, Any]]
WRONG: Mapping[str, Declared] = {
    **{
        f.__name__: (f, PSNR)
        for f in (
            natural_logarithm, twenty_times, root_forgotten, for_bytes_by_default,
            mean_of_channels, wraps_around, caps_at_a_hundred, range_of_the_batch,
        )
    },
    "of_the_whole_batch": (
        of_the_whole_batch,
        {**PSNR, "options": {**PSNR["options"], "reduction": "mean"}},
    ),
    **{
        f.__name__: (f, SSIM)
        for f in (
            grey_first, structure_only, without_factor_two, height_taken_for_width, cuts_at_zero,
            dissimilarity, normalised_by_batch,
        )
    },
    "sample_covariance": (ssim_with(size=11, sample=121 / 120), SSIM),
    "uniform_window": (ssim_with(uniform=True), SSIM),
    "window_of_seven": (ssim_with(size=7), SSIM),
    "deviation_of_eleven": (ssim_with(deviation=11.0), SSIM),
    "size_and_deviation_mixed_up": (ssim_with(size=3, deviation=11.0), SSIM),
    "range_of_bytes": (ssim_with(span=255.0), SSIM),
    "constants_exchanged": (ssim_with(k=(0.03, 0.01)), SSIM),
    "constants_not_squared": (ssim_with(squared=False), SSIM),
    "padding_same": (ssim_with(padding=5), SSIM),
    "means_detached": (ssim_with(detached=True), SSIM),
    "window_not_normalised": (ssim_with(normed=False), SSIM),
    **{
        f.__name__: (f, MS_SSIM)
        for f in (
            last_weight_missing, luminance_at_each_scale, weighted_sum, weights_reversed,
            strided_without_average, clamped_away,
        )
    },
    "for_unit_images": (
        for_unit_images,
        {**FSIM, "reference": "dlcheck.references.metrics.fsim:fsim"},
    ),
    "one_side_weighs": (one_side_weighs, FSIM),
    "range_forgotten": (
        range_forgotten,
        {**FSIM, "options": {**FSIM["options"], "data_range": "data_range"}},
    ),
    **{
        c.__name__: (c, LEARNED)
        for c in (
            WithoutNormalization, NormalizedOverSpace, RootOfEachLayer, SignedHeads, HeadsSquared,
            WrongLayers, UnitInterval, InTraining,
        )
    },
}  # fmt: skip

# The check that finds it, where it is not the one that compares the value with the formula's.
FOUND_BY: Mapping[str, str] = {
    "caps_at_a_hundred": "an_image_scores_perfectly_with_itself",
    "of_the_whole_batch": "pairs_of_a_batch_do_not_meet",
    "means_detached": "the_gradient_is_that_of_the_value",
    "one_side_weighs": "exchanging_the_images_changes_nothing",
    "range_forgotten": "the_unit_of_brightness_does_not_matter",
    "InTraining": "an_image_scores_perfectly_with_itself",
    "RootOfEachLayer": "the_gradient_vanishes_where_images_are_equal",
    "SignedHeads": "values_keep_to_their_range",
}


def found_by(name: str) -> str:
    """The check that must find a wrong metric."""
    other = "reference" if "reference" in WRONG[name][1] else "formula"
    usual = {
        "reference": "value_is_that_of_the_reference",
        "formula": "value_follows_its_formula",
    }
    return FOUND_BY.get(name, usual[other])
