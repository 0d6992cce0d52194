"""Flips: pixel (u, v) of the answer is pixel (w − 1 − u, v) of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.registry import reference


def _chosen(images: Tensor, p: float) -> Tensor:
    """[b]: True with probability p, each for itself."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"the probability of a flip is {p}, but it lies between 0 and 1")
    return torch.rand(len(images), device=images.device) < p


def _flipped(images: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)


@reference(
    kind="augmentation",
    formula="y(u, v) = x(w − 1 − u, v) with probability p, else x(u, v)",
    source="Krizhevsky, Sutskever & Hinton, ImageNet Classification with Deep Convolutional "
    "Neural Networks, NeurIPS 2012, §4.1",
    inputs={"images": "image b c h w", "labels": "label[k] b"},
    args={"p": 0.5},
    traits=["stochastic_in_eval"],
    options={
        "labels": "kept",
        "unit": "sample",
        "probability": "p",
        "geometry": "horizontal_flip",
        "integers": True,
    },
)
def random_horizontal_flip(
    images: Tensor, labels: Tensor, *, p: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Each image is mirrored with probability p; what it shows, and its label, stays.

    images [b, c, h, w] of any type, labels [b]. Raises ValueError for a p outside [0, 1].
    """
    return _flipped(images, _chosen(images, p)), labels


@reference(
    kind="augmentation",
    formula="y(u, v) = x(w − 1 − u, v); a box [x₁, x₂] becomes [w − x₂, w − x₁]",
    source="Liu et al., SSD, ECCV 2016, §2.2",
    inputs={"images": "image b c h w", "boxes": "float b n 4"},
    args={"p": 0.5},
    traits=["stochastic_in_eval"],
    options={
        "labels": "moved",
        "target": "boxes",
        "coordinates": "edges",
        "unit": "sample",
        "probability": "p",
        "geometry": "horizontal_flip",
    },
)
def random_flip_with_boxes(
    images: Tensor, boxes: Tensor, *, p: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Each image is mirrored with probability p, its boxes with it; left and right change places.

    images [b, c, h, w], boxes [b, n, 4] as x₁, y₁, x₂, y₂ in pixels: pixel i reaches from i to
    i + 1. Raises ValueError for a p outside [0, 1].
    """
    chosen = _chosen(images, p)
    x1, y1, x2, y2 = boxes.unbind(-1)
    width = images.shape[-1]
    mirrored = torch.stack([width - x2, y1, width - x1, y2], -1)
    return _flipped(images, chosen), torch.where(chosen.view(-1, 1, 1), mirrored, boxes)


@reference(
    kind="augmentation",
    formula="y(u, v) = x(u, h − 1 − v) with probability p, for all images of a call or for none",
    source="Simonyan & Zisserman, Two-Stream Convolutional Networks, NeurIPS 2014, §5: one flip "
    "for all frames",
    inputs={"images": "image b c h w", "mask": "label[k] b h w"},
    args={"p": 0.5},
    traits=["stochastic_in_eval"],
    options={
        "labels": "moved",
        "target": "mask",
        "unit": "batch",
        "probability": "p",
        "geometry": "vertical_flip",
        "integers": True,
    },
)
def random_vertical_flip(images: Tensor, mask: Tensor, *, p: float = 0.5) -> tuple[Tensor, Tensor]:
    """All images and masks are turned upside down together, with probability p.

    images [b, c, h, w], mask [b, h, w], of any type. Raises ValueError for a p outside [0, 1].
    """
    if bool(_chosen(images[:1], p)):
        return images.flip(-2), mask.flip(-2)
    return images, mask
