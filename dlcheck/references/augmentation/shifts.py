"""Shifts by whole pixels: translations and the crops of padded images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.registry import reference


def _offsets(images: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Rows and columns to move by, [b] each, uniform in −limit … limit."""
    if limit < 0:
        raise ValueError(f"images are moved by up to {limit} pixels, but it is at least 0")
    drawn = torch.randint(-limit, limit + 1, (2, len(images)), device=images.device)
    return drawn[0], drawn[1]


def _shifted(x: Tensor, down: Tensor, right: Tensor, limit: int, fill: float = 0) -> Tensor:
    """y(v, u) = x(v − down, u − right), and `fill` outside: a window of the padded image.

    x [b, …, h, w].
    """
    b, height, width = len(x), x.shape[-2], x.shape[-1]
    padded = F.pad(x, [limit] * 4, value=fill)
    rows = torch.arange(height, device=x.device) + (limit - down)[:, None]
    columns = torch.arange(width, device=x.device) + (limit - right)[:, None]
    flat = padded.reshape(b, -1, *padded.shape[-2:])
    sample = torch.arange(b, device=x.device)[:, None, None]
    window = flat.movedim(1, -1)[sample, rows[:, :, None], columns[:, None, :]]
    return window.movedim(-1, 1).reshape(x.shape)


@reference(
    kind="augmentation",
    formula="y(u, v) = x(u − a, v − b), 0 outside;  a, b uniform in {−s, …, s}",
    source="Simard, Steinkraus & Platt, Best Practices for Convolutional Neural Networks, ICDAR "
    "2003, §2",
    inputs={"images": "image b c h w", "labels": "label[k] b"},
    args={"limit": 1},
    traits=["stochastic_in_eval", "may_leave_unchanged"],
    options={
        "labels": "kept",
        "unit": "sample",
        "geometry": "translation",
        "neutral": {"limit": 0},
        "integers": True,
    },
)
def random_translation(images: Tensor, labels: Tensor, *, limit: int = 1) -> tuple[Tensor, Tensor]:
    """Each image moves by up to `limit` pixels along each axis; what enters is 0.

    images [b, c, h, w] of any type, labels [b]. Raises ValueError for a negative limit.
    """
    return _shifted(images, *_offsets(images, limit), limit), labels


@reference(
    kind="augmentation",
    formula="y(u, v) = x(u − a, v − b); a point (x, y) becomes (x + a, y + b)",
    source="Simard, Steinkraus & Platt, Best Practices for Convolutional Neural Networks, ICDAR "
    "2003, §2",
    inputs={"images": "image b c h w", "keypoints": "float b n 2"},
    args={"limit": 3},
    traits=["stochastic_in_eval", "may_leave_unchanged"],
    options={
        "labels": "moved",
        "target": "keypoints",
        "unit": "sample",
        "geometry": "translation",
    },
)
def random_translation_with_keypoints(
    images: Tensor, keypoints: Tensor, *, limit: int = 3
) -> tuple[Tensor, Tensor]:
    """Each image moves by up to `limit` pixels along each axis, and its points with it.

    images [b, c, h, w], keypoints [b, n, 2] as x, y in pixels.
    """
    down, right = _offsets(images, limit)
    moved = keypoints + torch.stack([right, down], -1)[:, None].to(keypoints.dtype)
    return _shifted(images, down, right, limit), moved


@reference(
    kind="augmentation",
    formula="y(u, v) = x(u + a − s, v + b − s), 0 outside;  a, b uniform in {0, …, 2s}",
    source="He et al., Deep Residual Learning for Image Recognition, CVPR 2016, §4.2",
    inputs={"images": "image b c h w", "mask": "label[k] b h w"},
    args={"padding": 4},
    traits=["stochastic_in_eval", "may_leave_unchanged"],
    options={"labels": "moved", "target": "mask", "unit": "sample", "geometry": "translation"},
)
def random_crop(images: Tensor, mask: Tensor, *, padding: int = 4) -> tuple[Tensor, Tensor]:
    """A window of the size of the image, anywhere in the image padded with zeros; its mask too.

    images [b, c, h, w], mask [b, h, w] of integers, padded with 0. Raises ValueError for a
    negative padding.
    """
    down, right = _offsets(images, padding)
    return _shifted(images, down, right, padding), _shifted(mask, down, right, padding)
