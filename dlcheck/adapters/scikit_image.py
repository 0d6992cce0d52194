"""scikit-image's comparisons of two images, pair by pair, on tensors [b, c, h, w].

    [[subject]]
    name = "structural_similarity"
    target = "dlcheck.adapters.scikit_image:structural_similarity"
    kind = "image_metric"
    args = { data_range = 1.0, gaussian_weights = true, sigma = 1.5, use_sample_covariance = false }

`scikit_image` itself takes any function of `skimage.metrics` by name.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from skimage import metrics
from torch import Tensor


def scikit_image(x: Tensor, y: Tensor, *, name: str, **arguments: Any) -> Tensor:
    """One value for each pair [b], float64; channels come last where the function asks for them.

    name: of a function of `skimage.metrics` that takes two arrays. Raises AttributeError where
    there is none of that name.
    """
    function = getattr(metrics, name)
    if "channel_axis" in inspect.signature(function).parameters:
        arguments = {"channel_axis": -1, **arguments}
    pairs = zip(_arrays(x), _arrays(y), strict=True)
    values = [float(function(first, second, **arguments)) for first, second in pairs]
    return torch.tensor(values, dtype=torch.float64)


def structural_similarity(x: Tensor, y: Tensor, **arguments: Any) -> Tensor:
    """SSIM of each pair [b]; a uniform window of 7, unless `gaussian_weights` is set."""
    return scikit_image(x, y, name="structural_similarity", **arguments)


def peak_signal_noise_ratio(x: Tensor, y: Tensor, **arguments: Any) -> Tensor:
    """PSNR of each pair [b], in decibels."""
    return scikit_image(x, y, name="peak_signal_noise_ratio", **arguments)


def _arrays(images: Tensor) -> Any:
    return images.detach().movedim(1, -1).cpu().numpy()
