"""The feature similarity of two images: phase congruency and gradient magnitude."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from dlcheck.references.metrics.image_inputs import Takes, checked_pair
from dlcheck.references.metrics.phase_congruency import phase_congruency
from dlcheck.registry import reference

_TAKES = Takes(metric="fsim", smallest=2, why="phases need two pixels")
_T1, _T2, _T3, _T4 = 0.85, 160.0, 200.0, 200.0  # for values from 0 to 255
_LAMBDA = 0.03
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
_SCHARR = ((3.0, 0.0, -3.0), (10.0, 0.0, -10.0), (3.0, 0.0, -3.0))  # over 16
_SIDE = 256  # pixels of the shorter side, to which larger images are averaged down


@reference(
    kind="image_metric",
    formula="Σ PC S_PC S_G (S_I S_Q)^λ / Σ PC,  S(a, b) = (2ab + T)/(a² + b² + T), PC = the larger",
    source="Zhang, Zhang, Mou & Zhang, FSIM: A Feature Similarity Index for Image Quality "
    "Assessment, IEEE TIP 20(8), 2011, eqs. 4–8 and 11; constants of the authors' code",
    inputs={"x": "image b c h w", "y": "image b c h w"},
    args={"data_range": 1.0},
    traits=["symmetric", "nonnegative", "grey_is_colour"],
    options={
        "better": "higher",
        "distortions": ["noise", "blur", "jpeg", "contrast"],
        "perfect": 1.0,
        "range": [0, 1],
        "reduction": "none",
        "data_range": "data_range",
    },
)
def fsim(x: Tensor, y: Tensor, *, data_range: float) -> Tensor:
    """The similarity of images x and y [b, c, h, w] whose values span `data_range`; returns [b].

    Three channels are red, green and blue and give FSIMc, with the chrominance I and Q; one gives
    FSIM. Images whose shorter side is more than 256 are averaged over F × F pixels first, F being
    that side over 256, rounded. Two images without any feature are compared with equal weights.
    Differentiable but for kinks (the larger of two, the median). Half types are computed in
    float32. Raises what `checked_pair` does.
    """
    x, y = checked_pair(x, y, _TAKES, data_range)
    if x.shape[1] not in (1, 3):
        raise ValueError(f"fsim: images have 1 or 3 channels, not {x.shape[1]}; choose some")
    both = torch.cat([x, y]) * (255 / data_range)
    factor = max(1, int(min(both.shape[2:]) / _SIDE + 0.5))  # half up, as MATLAB rounds
    both = functional.avg_pool2d(both, factor) if factor > 1 else both
    chrominance: tuple[Tensor, ...] = ()
    grey = both[:, 0]
    if both.shape[1] == 3:
        grey, *chrominance = _yiq(both)  # type: ignore[assignment]
    features, edges = phase_congruency(grey), _gradient_magnitude(grey)
    similarity = _similar(features, _T1) * _similar(edges, _T2)
    if chrominance:
        hue = _similar(chrominance[0], _T3) * _similar(chrominance[1], _T4)
        similarity = similarity * _real_power(hue)
    # The smallest number counts only where nothing else does.
    weight = torch.maximum(*features.chunk(2)) + torch.finfo(both.dtype).tiny
    return (similarity * weight).sum((1, 2)) / weight.sum((1, 2))


def _yiq(images: Tensor) -> tuple[Tensor, ...]:
    """Luminance and the two axes of chrominance, each [b, h, w]."""
    matrix = torch.tensor(_YIQ, dtype=torch.float64).to(images)
    return torch.einsum("ic,bchw->ibhw", matrix, images).unbind()


def _gradient_magnitude(grey: Tensor) -> Tensor:
    """√(Gₓ² + G_y²) of images [b, h, w] by Scharr's operator, zeros around them."""
    kernel = torch.tensor(_SCHARR, dtype=torch.float64).to(grey) / 16
    kernels = torch.stack([kernel, kernel.mT])[:, None]
    across, down = functional.conv2d(grey[:, None], kernels, padding=1).unbind(1)
    return torch.complex(across, down).abs()  # whose gradient at 0 is 0


def _similar(maps: Tensor, constant: float) -> Tensor:
    """(2ab + T)/(a² + b² + T) of the first half of maps [2b, h, w] and the second."""
    a, b = maps.chunk(2)
    return (2 * a * b + constant) / (a.square() + b.square() + constant)


def _real_power(hue: Tensor) -> Tensor:
    """The real part of hue^λ: of a negative number it is |hue|^λ cos πλ."""
    size = hue.abs().clamp_min(torch.finfo(hue.dtype).tiny).pow(_LAMBDA)
    return torch.where(hue < 0, math.cos(math.pi * _LAMBDA) * size, size)
