"""The peak signal-to-noise ratio of two images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcheck.references.metrics.image_inputs import Takes, checked_pair
from dlcheck.registry import reference

_TAKES = Takes(metric="psnr")


@reference(
    kind="image_metric",
    formula="10 log₁₀( R² / mean_chw (x − y)² )",
    source="ITU-T J.340, 2010; Huynh-Thu & Ghanbari, Electronics Letters 44(13), 2008",
    inputs={"x": "image b c h w", "y": "image b c h w"},
    args={"data_range": 1.0},
    traits=[
        "symmetric",
        "shift_invariant",
        "mirror_invariant",
        "transpose_invariant",
        "grey_is_colour",
    ],
    options={
        "better": "higher",
        "distortions": ["noise", "blur", "jpeg", "contrast"],
        "perfect": "inf",
        "reduction": "none",
        "formula": "psnr",
        "data_range": "data_range",
    },
)
def psnr(x: Tensor, y: Tensor, *, data_range: float) -> Tensor:
    """Decibels of images x and y [b, c, h, w] whose values span `data_range`; returns [b].

    The mean is over channels and pixels of a pair. Infinite for equal images, where it has no
    gradient. Half types are computed in float32. Raises TypeError and ValueError for what
    `checked_pair` names.
    """
    x, y = checked_pair(x, y, _TAKES, data_range)
    return decibels(mean_square_error(x, y), data_range)


def mean_square_error(x: Tensor, y: Tensor) -> Tensor:
    """Of every pair [b]; on a processor one pair at a time, which stays in its cache."""
    rows = 1 if x.device.type == "cpu" else len(x)
    pairs = zip(x.split(rows), y.split(rows), strict=True)
    return torch.cat([(a - b).square().mean((1, 2, 3)) for a, b in pairs])


def decibels(mean_square: Tensor, data_range: float) -> Tensor:
    """10 log₁₀(R² / MSE), as a difference of logarithms, which neither over- nor underflows."""
    return 20 * math.log10(data_range) - 10 * mean_square.log10()
