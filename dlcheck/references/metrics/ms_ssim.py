"""The structural similarity of two images over several scales."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dlcheck.references.metrics.image_inputs import Takes, checked_pair
from dlcheck.references.metrics.ssim import Window, mean_similarities
from dlcheck.registry import reference

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@reference(
    kind="image_metric",
    formula="l_M^w_M Π_j cs_j^w_j: contrast-structure at every scale, luminance at the last",
    source="Wang, Simoncelli & Bovik, Multiscale Structural Similarity for Image Quality "
    "Assessment, Asilomar 2003, eq. 7 and section 3.2",
    inputs={"x": "image b c h w", "y": "image b c h w"},
    args={"data_range": 1.0},
    traits=[
        "symmetric",
        "flat_at_identity",
        "mirror_invariant",
        "transpose_invariant",
        "grey_is_colour",
    ],
    options={
        "better": "higher",
        "distortions": ["noise", "blur", "jpeg", "contrast"],
        "perfect": 1.0,
        "range": [0, 1],
        "reduction": "none",
        "formula": "ms_ssim",
        "data_range": "data_range",
    },
)
def ms_ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float,
    weights: tuple[float, ...] = WEIGHTS,
    window: int = 11,
    deviation: float = 1.5,
    constants: tuple[float, float] = (0.01, 0.03),
) -> Tensor:
    """The similarity of images x and y [b, c, h, w] whose values span `data_range`; returns [b].

    Per channel: at each of the scales the mean contrast-structure to the power of its weight, at
    the last the mean of luminance × contrast-structure; then the mean over channels. From one
    scale to the next the means of 2 × 2 pixels are taken, the last row and column of an odd side
    with themselves. A negative mean, which has no real power, counts as 0. Sides have at least
    (window − 1)·2^(scales − 1) + 1 pixels (161). Half types are computed in float32. Raises what
    `checked_pair` does.
    """
    kind = Window(size=window, deviation=deviation, constants=constants)
    smallest = (window - 1) * 2 ** (len(weights) - 1) + 1
    takes = Takes(metric="ms_ssim", smallest=smallest, why=f"{len(weights)} scales")
    x, y = checked_pair(x, y, takes, data_range)
    value = x.new_ones(x.shape[:2])
    for scale, weight in enumerate(weights, 1):
        whole, structure = mean_similarities(x, y, kind, data_range)
        last = scale == len(weights)
        value = value * _power(whole if last else structure, weight)
        if not last:
            x, y = halved(x), halved(y)
    return value.mean(1)


def _power(mean: Tensor, weight: float) -> Tensor:
    """max(mean, 0)^weight, with the gradient 0 where the mean is not positive."""
    positive = mean > 0
    return torch.where(positive, mean, 1).pow(weight) * positive


def halved(images: Tensor) -> Tensor:
    """Means of 2 × 2 pixels; an odd side is continued by its last row or column."""
    odd = [side % 2 for side in images.shape[2:]]
    if any(odd):
        images = functional.pad(images, (0, odd[1], 0, odd[0]), mode="replicate")
    return functional.avg_pool2d(images, 2)
