"""What became of one picture in many draws, as two marks each: did it change, and how."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcheck.checks.augmentation.studio import Studio
from dlcheck.errors import NotApplicable
from dlcheck.stats import Finding, bonferroni, independence

PAIRS = 200  # of draws: a correlation of .48 is noticed


def signatures(studio: Studio, calls: int) -> list[Tensor]:
    """For each call, what became of the same picture in each row: [rows, 2] of 0 and 1.

    Did it change; and is a fixed projection of it above its mean over all calls and rows?
    """
    motif = studio.noise(rows=1).expand(studio.rows, -1, -1, -1)
    inputs = studio.loaded(motif)
    given = studio.views(inputs[list(studio.signature.specs).index(studio.signature.images)])
    changed, heights = [], []
    for _ in range(calls):
        shown = studio.views(studio.again(inputs).images)
        same = shown.shape == given.shape
        changed.append(
            (shown != given).flatten(1).any(1) if same else torch.ones(len(shown)).bool()
        )
        heights.append(_projection(studio, shown))
    middle = torch.cat(heights).mean()
    return [
        torch.stack([moved, height > middle], 1)
        for moved, height in zip(changed, heights, strict=True)
    ]


def _projection(studio: Studio, shown: Tensor) -> Tensor:
    weights = torch.randn(
        shown.shape[1:], generator=studio.case.generator("projection"), dtype=torch.float64
    )
    return (shown * weights).flatten(1).sum(1)


def together(pairs: list[tuple[Tensor, Tensor]]) -> Finding:
    """Are the marks of each pair, [n, 2] twice, independent? A mark that never varies is none."""
    found = [independence(a[:, mark], b[:, mark]) for a, b in pairs for mark in (0, 1)]
    telling = [one for one in found if math.isfinite(one.detectable)]
    if not telling:
        raise NotApplicable("nothing is drawn: one picture comes out alike in nearly all calls")
    return bonferroni(telling)
