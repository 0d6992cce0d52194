"""The structural similarity of two images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from dlcheck.references.metrics.image_inputs import Takes, checked_pair
from dlcheck.registry import reference

_BLOCK = 64  # rows of the window's matrix at a time: more multiply zeros, fewer repeat borders
_CACHED = 2**17  # pixels whose four maps a processor's cache holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A Gaussian of `size` pixels, and the constants (K₁, K₂) that keep quotients finite."""

    size: int = 11
    deviation: float = 1.5
    constants: tuple[float, float] = (0.01, 0.03)

    def weights(self, like: Tensor) -> Tensor:
        """[size], of sum 1; the window is their product over both axes."""
        offsets = torch.arange(self.size, dtype=torch.float64) - (self.size - 1) / 2
        weights = torch.softmax(-(offsets**2) / (2 * self.deviation**2), 0)
        return weights.to(like)

    def __post_init__(self) -> None:
        if self.size < 1 or not self.deviation > 0 or min(self.constants) < 0:
            raise ValueError(
                "a window has a size of at least 1 pixel, a positive deviation and constants "
                f"K₁, K₂ ≥ 0, not {self}"
            )


@reference(
    kind="image_metric",
    formula="mean (2 μₓμᵧ + C₁)(2 σₓᵧ + C₂) / (μₓ² + μᵧ² + C₁)(σₓ² + σᵧ² + C₂),  Cᵢ = (Kᵢ R)²",
    source="Wang, Bovik, Sheikh & Simoncelli, Image Quality Assessment: From Error Visibility to "
    "Structural Similarity, IEEE TIP 13(4), 2004, eq. 13",
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
        "range": [-1, 1],
        "reduction": "none",
        "formula": "ssim",
        "data_range": "data_range",
    },
)
def ssim(
    x: Tensor,
    y: Tensor,
    *,
    data_range: float,
    window: int = 11,
    deviation: float = 1.5,
    constants: tuple[float, float] = (0.01, 0.03),
) -> Tensor:
    """The similarity of images x and y [b, c, h, w] whose values span `data_range`; returns [b].

    Moments are those of the population under a Gaussian window, wherever it lies inside of the
    image (sides of at least `window` pixels); the mean is over those places and over channels.
    Half types are computed in float32. Raises what `checked_pair` does.
    """
    kind = Window(size=window, deviation=deviation, constants=constants)
    takes = Takes(metric="ssim", smallest=window, why="the window")
    x, y = checked_pair(x, y, takes, data_range)
    whole, _ = mean_similarities(x, y, kind, data_range)
    return whole.mean(1)


def mean_similarities(
    x: Tensor, y: Tensor, window: Window, data_range: float
) -> tuple[Tensor, Tensor]:
    """The means over all places of luminance × structure, and of structure: two of shape [b, c]."""
    shape, planes = x.shape[:2], len(x) * x.shape[1]
    if x.device.type == "cpu":
        planes = max(1, _CACHED // x[0, 0].numel())
    pairs = zip(*(z.reshape(-1, *z.shape[2:]).split(planes) for z in (x, y)), strict=True)
    means = []
    for p, q in pairs:
        luminance, structure = similarities(p, q, window, data_range)
        means.append(torch.stack([(luminance * structure).mean((1, 2)), structure.mean((1, 2))]))
    whole, structure = torch.cat(means, 1).view(2, *shape)
    return whole, structure


def similarities(x: Tensor, y: Tensor, window: Window, data_range: float) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure of every place: two maps [n, h', w'] of images [n, h, w].

    Variances and covariances do not change when an image is moved by a number s, and with s near
    its mean E(x − s)² − (μ − s)² loses no digits. Only σₓ² + σᵧ² is needed, so that four maps
    are averaged: x, y, x² + y² and xy.
    """
    shift_x, shift_y = (image.detach().mean((1, 2), keepdim=True) for image in (x, y))
    p, q = x - shift_x, y - shift_y
    maps = torch.stack([p, q, torch.addcmul(p * p, q, q), p * q])
    mean_p, mean_q, squares, product = averaged(maps, window.weights(x))
    c1, c2 = ((k * data_range) ** 2 for k in window.constants)
    structure = (2 * (product - mean_p * mean_q) + c2) / (
        squares - mean_p.square() - mean_q.square() + c2
    )
    mean_x, mean_y = mean_p + shift_x, mean_q + shift_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return luminance, structure


def averaged(maps: Tensor, weights: Tensor) -> Tensor:
    """The weighted means of every window inside of maps [..., h, w]: [..., h − k + 1, w − k + 1].

    A convolution along an axis is a product with a banded matrix, taken block by block: a
    product of matrices runs near the peak of the processor, a convolution of one channel does not.
    """
    *rest, height, width = maps.shape
    planes = maps.reshape(-1, height, width)
    k = len(weights)
    rows = [planes[..., a:b] @ band.mT for a, b, band in _bands(width, weights)]
    across = rows[0] if len(rows) == 1 else torch.cat(rows, -1)
    columns = [torch.matmul(band, across[:, a:b]) for a, b, band in _bands(height, weights)]
    both = columns[0] if len(columns) == 1 else torch.cat(columns, 1)
    return both.view(*rest, height - k + 1, width - k + 1)


def _bands(size: int, weights: Tensor) -> Sequence[tuple[int, int, Tensor]]:
    """(first, last + 1, matrix): out[first:] = matrix @ in[first:last + 1], block by block."""
    k = len(weights)
    values = tuple(weights.double().tolist())
    blocks = []
    for start in range(0, size - k + 1, _BLOCK):
        count = min(_BLOCK, size - k + 1 - start)
        band = _band(values, count, weights.dtype, weights.device)
        blocks.append((start, start + count + k - 1, band))
    return blocks


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # noqa: FBT003  # what is kept must serve a gradient later
def _band(
    weights: tuple[float, ...], count: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """[count, count + k − 1]: row i holds the weights from column i on."""
    band = torch.zeros(count, count + len(weights) - 1, dtype=torch.float64)
    for offset, weight in enumerate(weights):
        band.diagonal(offset).fill_(weight)
    return band.to(device=device, dtype=dtype)
