"""Boxes and points, drawn within an image, in the forms in which they are written."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.subjects import Implementation


def from_corners(subject: Implementation, boxes: Tensor, side: tuple[int, int]) -> Tensor:
    """x₁, y₁, x₂, y₂ in pixels → the declared form. boxes [..., 4]; side: height and width."""
    first, second = boxes[..., :2], boxes[..., 2:]
    form = subject.options.get("boxes", "xyxy")
    if form == "xywh":
        boxes = torch.cat([first, second - first], -1)
    elif form == "cxcywh":
        boxes = torch.cat([(first + second) / 2, second - first], -1)
    return boxes / _scale(subject, side)


def corners(subject: Implementation, boxes: Tensor, side: tuple[int, int]) -> Tensor:
    """The declared form → x₁, y₁, x₂, y₂ in pixels."""
    boxes = boxes * _scale(subject, side)
    first, second = boxes[..., :2], boxes[..., 2:]
    form = subject.options.get("boxes", "xyxy")
    if form == "xywh":
        return torch.cat([first, first + second], -1)
    if form == "cxcywh":
        return torch.cat([first - second / 2, first + second / 2], -1)
    return boxes


def _scale(subject: Implementation, side: tuple[int, int]) -> Tensor:
    height, width = side if subject.options.get("coordinates") == "unit" else (1, 1)
    return torch.tensor([width, height, width, height], dtype=torch.float64)


def drawn_boxes(u: Tensor, side: tuple[int, int]) -> Tensor:
    """Uniform numbers [..., 4] → corners in pixels: whole, within the image, at least 3 wide."""
    height, width = side
    x1 = (1 + u[..., 0] * (width - 6)).floor()
    y1 = (1 + u[..., 1] * (height - 6)).floor()
    x2 = (x1 + 3 + u[..., 2] * (width - 5 - x1)).floor().clamp(max=width - 1)
    y2 = (y1 + 3 + u[..., 3] * (height - 5 - y1)).floor().clamp(max=height - 1)
    return torch.stack([x1, y1, x2, y2], -1)


def drawn_points(u: Tensor, side: tuple[int, int]) -> Tensor:
    """Uniform numbers [..., 2] → points in pixels: whole, within the image."""
    height, width = side
    return 1 + (u * torch.tensor([width - 3.0, height - 3.0], dtype=torch.float64)).floor()


def in_shares(subject: Implementation, points: Tensor, side: tuple[int, int]) -> Tensor:
    """Points in pixels → as declared, in shares of the sides where `coordinates` is unit."""
    return points / _scale(subject, side)[:2]
