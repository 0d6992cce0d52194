"""Colours: brightness, contrast, saturation and hue of images with three channels in [0, 1]."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcheck.registry import reference

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def _factors(images: Tensor, strength: float, centre: float = 1.0) -> Tensor:
    """[b, 1, 1, 1], uniform in centre ± strength."""
    drawn = torch.rand((len(images), 1, 1, 1), device=images.device, dtype=images.dtype)
    return centre + strength * (2 * drawn - 1)


def _grey(images: Tensor) -> Tensor:
    """The luma of each pixel, [b, 1, h, w]."""
    weights = images.new_tensor(_LUMA).view(1, 3, 1, 1)
    return (weights * images).sum(1, keepdim=True)


def _turned_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Colours turned about the grey axis (1, 1, 1)/√3 by a share of a full turn.

    Rodrigues: x cos θ + (k × x) sin θ + k (k·x)(1 − cos θ), with k × x = (b − g, r − b, g − r)/√3
    and k (k·x) the mean of the channels.
    """
    angle = 2 * math.pi * turns
    red, green, blue = images.split(1, 1)
    cross = torch.cat([blue - green, red - blue, green - red], 1) / math.sqrt(3)
    mean = images.mean(1, keepdim=True)
    # x + (cos θ − 1)(x − m) + …: at θ = 0 each term but x is 0, exactly.
    return images + (angle.cos() - 1) * (images - mean) + angle.sin() * cross


@reference(
    kind="augmentation",
    formula="brightness f·x; contrast m + f(x − m), m the mean luma; saturation g + f(x − g), g "
    "the luma; hue turned about the grey axis; clipped to [0, 1] after each",
    source="Howard, Some Improvements on Deep Convolutional Neural Network Based Image "
    "Classification, ICLR 2014, §2.2; Haeberli, Matrix Operations for Image Processing, 1993",
    inputs={"images": "image b 3 h w", "labels": "label[k] b"},
    args={"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    traits=["stochastic_in_eval"],
    options={
        "labels": "kept",
        "unit": "sample",
        "neutral": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
    },
)
def colour_jitter(
    images: Tensor,
    labels: Tensor,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """Each image gets its own factors in 1 ± strength, and its own turn of the hue in ± hue.

    images [b, 3, h, w] in [0, 1], labels [b]. A change is x + (f − 1)(…): at strength 0 it is x.
    """
    x = images
    x = (x + (_factors(x, brightness) - 1) * x).clamp(0, 1)
    mean = _grey(x).mean((2, 3), keepdim=True)
    x = (x + (_factors(x, contrast) - 1) * (x - mean)).clamp(0, 1)
    x = (x + (_factors(x, saturation) - 1) * (x - _grey(x))).clamp(0, 1)
    return _turned_hue(x, _factors(x, hue, centre=0.0)).clamp(0, 1), labels
