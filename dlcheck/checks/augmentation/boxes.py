"""Boxes in the forms in which they are written."""

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
