"""Rectangles that are erased: cutout and random erasing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcheck.registry import reference


def _inside(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """[b, 1, h, w]: True in the rectangle of each image; what lies outside is clipped."""
    rows = torch.arange(images.shape[-2], device=images.device)
    columns = torch.arange(images.shape[-1], device=images.device)
    in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def _below(limits: Tensor) -> Tensor:
    """[b], uniform in {0, …, limit − 1} of each."""
    drawn = torch.rand(limits.shape, device=limits.device) * limits
    return torch.minimum(drawn.floor().long(), limits - 1)


@reference(
    kind="augmentation",
    formula="y = x outside a square of side s centred anywhere in the image, 0 inside",
    source="DeVries & Taylor, Improved Regularization of Convolutional Neural Networks with "
    "Cutout, 2017, §3.2",
    inputs={"images": "image b c h w", "labels": "label[k] b"},
    args={"side": 6},
    traits=["stochastic_in_eval"],
    options={"labels": "kept", "unit": "sample", "neutral": {"side": 0}, "integers": True},
)
def cutout(images: Tensor, labels: Tensor, *, side: int = 6) -> tuple[Tensor, Tensor]:
    """A square of each image becomes 0; its centre is any pixel, so that it may be cut off.

    images [b, c, h, w] of any type, labels [b].
    """
    b, height, width = len(images), images.shape[-2], images.shape[-1]
    row = torch.randint(height, (b,), device=images.device)
    column = torch.randint(width, (b,), device=images.device)
    sides = torch.full_like(row, side)
    erased = _inside(images, row - side // 2, column - side // 2, sides, sides)
    return torch.where(erased, 0, images), labels


@reference(
    kind="augmentation",
    formula="y = x outside a rectangle of area a·h·w and aspect r, uniform noise inside;  "
    "a ~ U(scale), ln r ~ U(−ln ratio, ln ratio), with probability p",
    source="Zhong et al., Random Erasing Data Augmentation, AAAI 2020, algorithm 1",
    inputs={"images": "image b c h w", "labels": "label[k] b"},
    args={"p": 0.5},
    traits=["stochastic_in_eval"],
    options={"labels": "kept", "unit": "sample", "probability": "p"},
)
def random_erasing(
    images: Tensor,
    labels: Tensor,
    *,
    p: float = 0.5,
    least: float = 0.05,
    most: float = 0.3,
    ratio: float = 2.0,
) -> tuple[Tensor, Tensor]:
    """A rectangle of each image becomes noise in [0, 1), with probability p.

    images [b, c, h, w] in [0, 1], labels [b]. The sides are at least 1 and at most the image's.
    """
    b, height, width = len(images), images.shape[-2], images.shape[-1]
    u = torch.rand((3, b), device=images.device)
    area = (least + (most - least) * u[0]) * height * width
    aspect = ((2 * u[1] - 1) * math.log(ratio)).exp()
    tall = (area * aspect).sqrt().round().long().clamp(1, height)
    wide = (area / aspect).sqrt().round().long().clamp(1, width)
    erased = _inside(images, _below(height - tall + 1), _below(width - wide + 1), tall, wide)
    noise = torch.rand(images.shape, device=images.device, dtype=images.dtype)
    return torch.where(erased & (u[2] < p).view(-1, 1, 1, 1), noise, images), labels
