"""Rotations about the centre of the image, by any angle."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.registry import reference


def _angles(images: Tensor, degrees: float) -> Tensor:
    """[b], in radians, uniform in ± degrees."""
    drawn = torch.rand(len(images), device=images.device, dtype=images.dtype)
    return (2 * drawn - 1) * math.radians(degrees)


def _turned(x: Tensor, y: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
    """Points at (x, y) from the centre, turned counter-clockwise as seen (y points down)."""
    cos, sin = angles.cos(), angles.sin()
    return cos * x + sin * y, -sin * x + cos * y


def _sources(images: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel of the answer comes from, from the centre of the image: [b, h, w] twice.

    R⁻¹ of its place: that of the opposite angle.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device, dtype=images.dtype)
    columns = torch.arange(width, device=images.device, dtype=images.dtype)
    x, y = columns - (width - 1) / 2, rows[:, None] - (height - 1) / 2
    return _turned(x, y, -angles.view(-1, 1, 1))


def _sampled(images: Tensor, grid: Tensor) -> Tensor:
    sampled: Tensor = F.grid_sample(images, grid, mode="bilinear", align_corners=False)
    return sampled


def _bilinear(images: Tensor, angles: Tensor) -> Tensor:
    x, y = _sources(images, angles)
    height, width = images.shape[-2:]
    # From −1 at the left edge of the first pixel to 1 at the right edge of the last.
    grid = torch.stack([2 * x / width, 2 * y / height], -1)
    return _sampled(images, grid)


def _nearest(mask: Tensor, images: Tensor, angles: Tensor) -> Tensor:
    x, y = _sources(images, angles)
    height, width = mask.shape[-2:]
    column, row = (x + (width - 1) / 2).round().long(), (y + (height - 1) / 2).round().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    sample = torch.arange(len(mask), device=mask.device)[:, None, None]
    taken = mask[sample, row.clamp(0, height - 1), column.clamp(0, width - 1)]
    return torch.where(inside, taken, 0)


@reference(
    kind="augmentation",
    formula="y(p) = x(c + R⁻¹(p − c)), c the centre, bilinear; the mask by its nearest pixel",
    source="Ronneberger, Fischer & Brox, U-Net, MICCAI 2015, §3.1; Jaderberg et al., Spatial "
    "Transformer Networks, NeurIPS 2015, §3.2 and §3.3",
    inputs={"images": "image b c h w", "mask": "label[k] b h w"},
    args={"degrees": 30.0},
    traits=["stochastic_in_eval"],
    options={"labels": "moved", "target": "mask", "unit": "sample", "geometry": "rotation"},
)
def random_rotation(
    images: Tensor, mask: Tensor, *, degrees: float = 30.0
) -> tuple[Tensor, Tensor]:
    """Each image turns about its centre by an angle in ± degrees, and its mask with it.

    images [b, c, h, w] floating, mask [b, h, w] of integers; what enters is 0. The mask takes its
    nearest pixel: a mean of two classes is none.
    """
    angles = _angles(images, degrees)
    return _bilinear(images, angles), _nearest(mask, images, angles)


@reference(
    kind="augmentation",
    formula="y(p) = x(c + R⁻¹(p − c)); a point q becomes c + R(q − c)",
    source="Newell, Yang & Deng, Stacked Hourglass Networks, ECCV 2016, §3.3",
    inputs={"images": "image b c h w", "keypoints": "float b n 2"},
    args={"degrees": 30.0},
    traits=["stochastic_in_eval"],
    options={
        "labels": "moved",
        "target": "keypoints",
        "coordinates": "centres",
        "unit": "sample",
        "geometry": "rotation",
    },
)
def random_rotation_with_keypoints(
    images: Tensor, keypoints: Tensor, *, degrees: float = 30.0
) -> tuple[Tensor, Tensor]:
    """Each image turns about its centre by an angle in ± degrees, and its points with it.

    images [b, c, h, w] floating, keypoints [b, n, 2] as x, y, where pixel i lies at i.
    """
    angles = _angles(images, degrees)
    height, width = images.shape[-2:]
    centre = keypoints.new_tensor([(width - 1) / 2, (height - 1) / 2])
    x, y = (keypoints - centre).unbind(-1)
    turned = torch.stack(_turned(x, y, angles.to(keypoints.dtype)[:, None]), -1)
    return _bilinear(images, angles), centre + turned


@reference(
    kind="augmentation",
    formula="y(p) = x(c + R⁻¹(p − c)/z + t), bilinear, 0 outside",
    source="Simard, Steinkraus & Platt, Best Practices for Convolutional Neural Networks, ICDAR "
    "2003, §2; Ciresan et al., Deep, Big, Simple Neural Nets, Neural Computation 22(12), 2010, §2",
    inputs={"images": "image b c h w", "labels": "label[k] b"},
    args={"degrees": 20.0, "shift": 0.6, "zoom": 0.1},
    traits=["stochastic_in_eval"],
    options={
        "labels": "kept",
        "unit": "sample",
        "geometry": "affine",
        "neutral": {"degrees": 0.0, "shift": 0.0, "zoom": 0.0},
        "enlarges": "digits",
    },
)
def random_affine(
    images: Tensor,
    labels: Tensor,
    *,
    degrees: float = 20.0,
    shift: float = 0.6,
    zoom: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """Each image turns by ± degrees, moves by ± shift pixels and grows by a share of ± zoom.

    images [b, c, h, w] floating, labels [b]; what enters is 0.
    """
    drawn = torch.rand((3, len(images), 1, 1), device=images.device, dtype=images.dtype)
    right, down, grown = (2 * drawn - 1).unbind(0)
    x, y = _sources(images, _angles(images, degrees))
    height, width = images.shape[-2:]
    x, y = x / (1 + zoom * grown) + shift * right, y / (1 + zoom * grown) + shift * down
    grid = torch.stack([2 * x / width, 2 * y / height], -1)
    return _sampled(images, grid), labels
