"""PSNR, SSIM and MS-SSIM by their published definitions, in float64, one window at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dlcheck.errors import DeclarationError
from dlcheck.subjects import Implementation

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_PADDINGS = ("none", "reflect", "replicate", "constant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """The published definition that a metric declares, with its constants.

    deviation: of a Gaussian window, None for a uniform one. ddof: of the moments in a window.
    """

    formula: str
    data_range: float
    size: int = 11
    deviation: float | None = 1.5
    ddof: int = 0
    constants: tuple[float, float] = (0.01, 0.03)
    padding: str = ""  # how images are continued beyond their border; not at all by default

    def values(self, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        """The value of every pair [b] of images [b, c, h, w]: one for each accepted convention.

        The sources of MS-SSIM know grey images only. In colour some take the mean over channels
        of the products of scales, others the product of means over channels.
        """
        x, y = x.double(), y.double()
        if self.formula == "psnr":
            mean_square = (x - y).square().mean((1, 2, 3))
            yield 20 * math.log10(self.data_range) - 10 * mean_square.log10()
        elif self.formula == "ssim":
            luminance, structure = self._maps(x, y)
            yield (luminance * structure).mean((1, 2, 3))
        else:
            scales = self._scales(x, y)
            powers = torch.tensor(_WEIGHTS, dtype=torch.float64, device=x.device)[:, None, None]
            yield (scales.clamp_min(0) ** powers).prod(0).mean(1)
            yield (scales.mean(2, keepdim=True).clamp_min(0) ** powers).prod(0).mean(1)

    def _scales(self, x: Tensor, y: Tensor) -> Tensor:
        """[scale, b, c]: means of contrast-structure, at the last of luminance times it."""
        means = []
        for scale in range(len(_WEIGHTS)):
            luminance, structure = self._maps(x, y)
            last = scale == len(_WEIGHTS) - 1
            means.append((luminance * structure if last else structure).mean((2, 3)))
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
        return torch.stack(means)

    def _maps(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Wang et al. 2004, eqs. 6–16, at every place of the window inside of the image."""
        if self.padding:
            reach = (self.size // 2,) * 4
            x, y = (functional.pad(z, reach, mode=self.padding) for z in (x, y))
        b, c, h, w = x.shape
        maps = torch.stack([x, y, x * x, y * y, x * y]).reshape(-1, 1, h, w)
        window = self._window().to(x.device)
        found = functional.conv2d(
            functional.conv2d(maps, window[None, None]), window.mT[None, None]
        )
        mean_x, mean_y, *squares = found.reshape(5, b, c, *found.shape[2:])
        pixels = self.size**2
        sample = pixels / (pixels - self.ddof)
        var_x, var_y, covariance = (
            sample * (found - mean)
            for found, mean in zip(
                squares, (mean_x * mean_x, mean_y * mean_y, mean_x * mean_y), strict=True
            )
        )
        c1, c2 = ((k * self.data_range) ** 2 for k in self.constants)
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        return luminance, (2 * covariance + c2) / (var_x + var_y + c2)

    def _window(self) -> Tensor:
        """[1, size], of sum 1; the window is its product with its transpose."""
        offsets = torch.arange(self.size, dtype=torch.float64) - (self.size - 1) / 2
        if self.deviation is None:
            return torch.full((1, self.size), 1 / self.size, dtype=torch.float64)
        return torch.softmax(-(offsets**2) / (2 * self.deviation**2), 0)[None]


def declared_definition(metric: Implementation, span: float) -> Definition:
    """What the options `formula`, `data_range`, `window`, `ddof` and `constants` say.

    span: of the declared interval, where data_range is not declared or left to the metric.
    """
    options = metric.options
    given = options.get("data_range", span)
    given = metric.value_of(given, "option data_range") if isinstance(given, str) else given
    known = isinstance(given, (int, float)) and not isinstance(given, bool)
    window: Mapping[str, Any] = options.get("window", {"size": 11, "deviation": 1.5})
    k1, k2 = options.get("constants", (0.01, 0.03))
    deviation, padding = window.get("deviation"), window.get("padding", "none")
    if padding not in _PADDINGS:
        raise DeclarationError(
            f"window.padding = {padding!r}: how images are continued beyond their border is one "
            f"of {', '.join(_PADDINGS)}"
        )
    return Definition(
        formula=options["formula"],
        data_range=float(given) if known else span,
        size=int(window.get("size", 11)),
        deviation=None if deviation is None else float(deviation),
        ddof=int(options.get("ddof", 0)),
        constants=(float(k1), float(k2)),
        padding="" if padding == "none" else padding,
    )
