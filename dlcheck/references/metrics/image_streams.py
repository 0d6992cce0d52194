"""Metrics of image pairs over a data set that arrives in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dlcheck.references.metrics.fsim import fsim
from dlcheck.references.metrics.image_inputs import Takes, checked_pair
from dlcheck.references.metrics.lpips import LPIPS
from dlcheck.references.metrics.ms_ssim import ms_ssim
from dlcheck.references.metrics.psnr import decibels, psnr
from dlcheck.references.metrics.ssim import ssim
from dlcheck.references.metrics.streams import settings_of

Metric = Callable[[Tensor, Tensor], Tensor]
_NAMED: Mapping[str, Any] = {
    "psnr": psnr,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "fsim": fsim,
    "lpips": LPIPS,
}
_EMPTY = "no pair of images was given; call update(x, y) before compute()"


class MeanOverPairs:
    """The mean over all pairs so far of a metric that returns [b].

    metric: a callable, or "psnr", "ssim", "ms_ssim", "fsim" or "lpips" with its arguments, as
    `MeanOverPairs("ssim", data_range=1.0)` or `MeanOverPairs("lpips", net="vgg")`. Update with
    images [b, c, h, w] in any split, on any device; sums are kept in float64.
    """

    def __init__(self, metric: Metric | str, **arguments: Any) -> None:
        if isinstance(metric, str):
            if metric not in _NAMED:
                raise ValueError(f"metric is one of {', '.join(_NAMED)}, not {metric!r}")
            named = _NAMED[metric]
            metric = named(**arguments) if named is LPIPS else partial(named, **arguments)
        self.metric: Metric = metric
        self.reset()

    def reset(self) -> None:
        self._total, self._pairs = torch.zeros((), dtype=torch.float64), 0

    @torch.no_grad()
    def update(self, x: Tensor, y: Tensor) -> None:
        values = self.metric(x, y)
        self._total = self._total + values.double().sum().cpu()
        self._pairs += len(values)

    def merge(self, other: MeanOverPairs) -> None:
        """Add what another has seen. Raises ValueError where it is a mean of another metric."""
        mine, theirs = settings_of(self), settings_of(other)
        if mine != theirs:
            raise ValueError(f"{mine} cannot take in {theirs}: merge means of one metric")
        self._total = self._total + other._total
        self._pairs += other._pairs

    def compute(self) -> Tensor:
        """A float64 number []. Raises ValueError before the first update."""
        if not self._pairs:
            raise ValueError(_EMPTY)
        return self._total / self._pairs

    def state_dict(self) -> dict[str, Any]:
        return {"total": self._total, "pairs": self._pairs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._total, self._pairs = state["total"], state["pairs"]


class StreamingPSNR:
    """The PSNR of a data set: by default the mean over pairs of 10 log₁₀(R²/MSE).

    over = "pixels" takes 10 log₁₀ R² over the mean of the squares of all pixels of all pairs
    instead, which is never larger (Jensen), and finite as long as one pair differs. Published
    numbers use either; they differ by decibels where pairs differ in quality.
    """

    def __init__(self, data_range: float, over: str = "pairs") -> None:
        if over not in ("pairs", "pixels"):
            raise ValueError(f'over is "pairs" or "pixels", not {over!r}')
        self.data_range, self.over = data_range, over
        self.reset()

    def reset(self) -> None:
        self._total, self._count = torch.zeros((), dtype=torch.float64), 0

    @torch.no_grad()
    def update(self, x: Tensor, y: Tensor) -> None:
        if self.over == "pairs":
            self._add(psnr(x, y, data_range=self.data_range).double().sum(), len(x))
            return
        x, y = checked_pair(x, y, Takes(metric="psnr"), self.data_range)
        squares = (x.double() - y.double()).square()
        self._add(squares.sum(), squares.numel())

    def _add(self, total: Tensor, count: int) -> None:
        self._total, self._count = self._total + total.cpu(), self._count + count

    def merge(self, other: StreamingPSNR) -> None:
        """Add what another has seen. Raises ValueError where range or convention differ."""
        if (self.data_range, self.over) != (other.data_range, other.over):
            raise ValueError(
                f"a PSNR of range {self.data_range:g} over {self.over} cannot take in one of range "
                f"{other.data_range:g} over {other.over}"
            )
        self._add(other._total, other._count)

    def compute(self) -> Tensor:
        """A float64 number []. Raises ValueError before the first update."""
        if not self._count:
            raise ValueError(_EMPTY)
        mean = self._total / self._count
        return decibels(mean, self.data_range) if self.over == "pixels" else mean

    def state_dict(self) -> dict[str, Any]:
        return {"total": self._total, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._total, self._count = state["total"], state["count"]
