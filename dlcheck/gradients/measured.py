"""The slopes of one variable along a few directions, and what fits them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.gradients.localise import Part
from dlcheck.numerics.differences import Slope

SLACK = 4.0  # bounds by which a fit may be off
_NEARLY = 1e-3  # share of the error that may stay: an ε that a formula also holds
_DIRECTIONS = 5
_SHARP = 64.0  # bounds: two slopes that far off fit a wrong candidate once in 10⁴


@dataclass(frozen=True, slots=True)
class Measured:
    """Slopes of one variable along some directions, and what is known around it."""

    part: Part
    directions: tuple[Tensor, ...]
    slopes: tuple[Slope, ...]

    @classmethod
    def of(cls, part: Part) -> Measured | None:
        """None where too few slopes can be measured for a fit to mean anything."""
        pairs = []
        for index in range(2 * _DIRECTIONS):
            u = part.direction(relative=index % 2 == 1)
            found = part.slope(u)
            if found.is_resolved and bool(u.any()):
                pairs.append((u, found))
            if len(pairs) == min(_DIRECTIONS, 2 + part.x.numel()):
                break
        if len(pairs) < 3:
            return None
        directions, slopes = zip(*pairs, strict=True)
        return cls(part, directions, slopes)

    @property
    def gradient(self) -> Tensor:
        return self.part.gradient

    def along(self, tensor: Tensor) -> list[float]:
        wide = tensor.double().expand(self.gradient.shape)
        return [float((wide * u).sum()) for u in self.directions]

    @property
    def is_sharp(self) -> bool:
        """Is the error far enough above the bounds in three slopes for a fit to mean anything?"""
        far = [abs(found.residual) > _SHARP * found.bound for found in self.slopes]
        return sum(far) >= 3

    def fits(self, values: Sequence[float]) -> bool:
        """Do these slopes agree with the measured ones?"""
        return all(
            abs(found.measured - value) <= SLACK * found.bound + _NEARLY * abs(found.residual)
            for found, value in zip(self.slopes, values, strict=True)
        )

    def factor(self, base: Sequence[float], values: Sequence[float]) -> float | None:
        """a such that base + a·values are the measured slopes, by least squares; None: no such."""
        weights = [1 / max(found.bound, 1e-300) for found in self.slopes]
        wanted = [found.measured - b for found, b in zip(self.slopes, base, strict=True)]
        below = sum((w * v) * (w * v) for w, v in zip(weights, values, strict=True))
        if not 0 < below < math.inf:
            return None
        a = sum(w * w * v * d for w, v, d in zip(weights, values, wanted, strict=True)) / below
        fitted = [b + a * v for b, v in zip(base, values, strict=True)]
        return a if self.fits(fitted) else None

    def factors(
        self, base: Sequence[float], first: Sequence[float], second: Sequence[float]
    ) -> tuple[float, float] | None:
        """(a, b) such that base + a·first + b·second are the measured slopes; None: no such."""
        if len(self.slopes) < 4:
            return None
        # A slope that is known exactly, as one of 0, has a bound of 0: no weight is infinite.
        least = max(1e-6 * max(s.bound for s in self.slopes), 1e-300)
        weights = 1 / _wide([max(s.bound, least) for s in self.slopes])
        columns = torch.stack([_wide(first), _wide(second)], 1)
        wanted = _wide([s.measured for s in self.slopes]) - _wide(base)
        scale = columns.abs().amax(0).clamp_min(1e-300)
        solution = torch.linalg.lstsq(
            weights[:, None] * columns / scale, (weights * wanted)[:, None], driver="gelsd"
        ).solution[:, 0]
        a, b = (float(value) for value in solution / scale)
        fitted = [base[i] + a * first[i] + b * second[i] for i in range(len(base))]
        return (a, b) if math.isfinite(a + b) and self.fits(fitted) else None


def _wide(values: Sequence[float]) -> Tensor:
    return torch.tensor([*values], dtype=torch.float64)
