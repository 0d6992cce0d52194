"""Distortions of photographs, each in degrees: noise, blur, JPEG, loss of contrast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from dlcheck.checks.metrics.image_pairs import Pictures, has_time
from dlcheck.strategies import Case

UNITS: Mapping[str, str] = {
    "noise": "standard deviation, of the range",
    "blur": "standard deviation, pixels",
    "jpeg": "100 - quality",
    "contrast": "share of the contrast that is lost",
}
USUAL = ("noise", "blur", "jpeg")
_LEVELS: Mapping[str, tuple[float, ...]] = {
    "noise": (0.01, 0.02, 0.05, 0.1, 0.2, 0.4),
    "blur": (0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
    "jpeg": (5.0, 20.0, 40.0, 60.0, 80.0, 95.0),
    "contrast": (0.1, 0.25, 0.4, 0.6, 0.8, 0.95),
}
# Luminance, in reading order: ITU-T T.81, 1992, table K.1.
_QUANTIZATION = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


def distortions(
    pictures: Pictures, case: Case, names: Sequence[str] = USUAL
) -> Mapping[str, dict[float, Tensor]]:
    """Name → strength → distorted pictures, each strength worse than the one before.

    names: all but loss of contrast unless told, which correlations do not see. Where time is
    short, every other strength.
    """
    step = 1 if has_time(case, pictures.values.shape[2]) else 2
    return {
        name: {s: _distorted(pictures, case, name, s) for s in strengths[step - 1 :: step]}
        for name, strengths in _LEVELS.items()
        if name in names
    }


def _distorted(pictures: Pictures, case: Case, name: str, strength: float) -> Tensor:
    if name == "noise":
        return pictures.noisy(strength, case.generator("noise"))  # the same field every time
    if name == "blur":
        return pictures.blurred(strength)
    if name == "jpeg":
        return compressed(pictures, 100 - strength)
    return faded(pictures, strength)


def faded(pictures: Pictures, lost: float) -> Tensor:
    """Each channel drawn towards its mean: m + (1 − lost)(x − m)."""
    x = pictures.values.double()
    mean = x.mean((2, 3), keepdim=True)
    return pictures.kept(mean + (1 - lost) * (x - mean))


def compressed(pictures: Pictures, quality: float) -> Tensor:
    """What JPEG leaves of each channel: the cosines of 8 × 8 blocks rounded to the table's steps.

    As the coder of the Independent JPEG Group scales the table; colours are not transformed.
    """
    x = (pictures.values.double() - pictures.low) / pictures.span * 255 - 128
    *_, height, width = x.shape
    x = functional.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = torch.tensor(_QUANTIZATION, dtype=torch.float64, device=x.device).view(8, 8)
    table = ((table * scale + 50) / 100).floor().clamp_min(1)
    cosines = _cosines().to(x.device)
    blocks = x.unfold(2, 8, 8).unfold(3, 8, 8)
    rounded = (cosines @ blocks @ cosines.mT / table).round() * table
    restored = (cosines.mT @ rounded @ cosines).transpose(3, 4).reshape(x.shape)
    restored = restored[..., :height, :width]
    return pictures.kept((restored + 128) / 255 * pictures.span + pictures.low)


def _cosines() -> Tensor:
    """The orthogonal cosine transform of eight values."""
    k = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi / 8 * k[:, None] * (k + 0.5)) / 2
    matrix[0] /= math.sqrt(2)
    return matrix
