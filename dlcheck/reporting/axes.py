"""Axes of a plot: a scale from data to pixels, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dlcheck.reporting.numbers import power_of_ten, typeset

LARGEST = 1e150  # beyond it differences overflow; nothing that a person plots is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Data in [low, high] onto pixels in [start, end]."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    ticks: tuple[float, ...] = ()

    def __call__(self, value: float) -> float:
        low, high, value = (self._scaled(each) for each in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    @property
    def labels(self) -> list[str]:
        return tick_labels(self.ticks, log=self.log)


def drawable(value: float, *, log: bool) -> bool:
    """Has the value a place on such an axis? NaN, infinities, and logarithms of ≤ 0 have none."""
    return -LARGEST < value < LARGEST and (not log or value > 1 / LARGEST)


def axis(values: Iterable[float], *, start: float, end: float, log: bool, zero: bool) -> Axis:
    """An axis around the drawable values. zero: begin a linear axis at 0 if that is not far."""
    seen = [value for value in values if drawable(value, log=log)]
    low, high = (min(seen), max(seen)) if seen else (1.0, 10.0) if log else (0.0, 1.0)
    if log:
        low, high, ticks = _log_range(low, high)
    else:
        low, high, ticks = _linear_range(low, high, zero=zero)
    return Axis(low=low, high=high, start=start, end=end, log=log, ticks=tuple(ticks))


def _linear_range(low: float, high: float, *, zero: bool) -> tuple[float, float, list[float]]:
    if low == high:
        room = abs(low) / 2 or 0.5
        low, high = low - room, high + room
    if zero and 0 < low < 0.4 * high:
        low = 0.0
    margin = 0.04 * (high - low)
    low, high = low - (margin if low else 0), high + margin
    return low, high, linear_ticks(low, high)


def linear_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within [low, high]."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 5) if m * power >= rough), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _log_range(low: float, high: float) -> tuple[float, float, list[float]]:
    room = (high / low) ** 0.04 if high > low else 2.0
    low, high = low / room, high * room
    return low, high, log_ticks(low, high)


def log_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Powers of ten, or 1, 2 and 5 times them where the range has few."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 2:
        step = math.ceil((last - first + 1) / wanted)
        return [10.0**k for k in range(first, last + 1) if k % step == 0]
    fine = [m * 10.0**k for k in range(first - 1, last + 1) for m in (1, 2, 5)]
    ticks = [tick for tick in fine if low <= tick <= high]
    return ticks if len(ticks) >= 2 else linear_ticks(low, high, 3)


def tick_labels(ticks: Sequence[float], *, log: bool) -> list[str]:
    """All labels of an axis with as many decimals as its step needs."""
    if not ticks:
        return []
    sizes = [abs(tick) for tick in ticks if tick]
    if log and len(ticks) > 1 and all(_is_power(tick) for tick in ticks):
        if min(sizes) >= 0.01 and max(sizes) < 1e5:
            return [typeset(tick) for tick in ticks]
        return [power_of_ten(round(math.log10(tick))) for tick in ticks]
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    if max(sizes, default=1) >= 1e6 or step < 1e-4 or log:
        return [typeset(tick) for tick in ticks]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick + 0.0:,.{decimals}f}".replace("-", "−") for tick in ticks]


def _is_power(value: float) -> bool:
    return math.isclose(math.log10(value), round(math.log10(value)), abs_tol=1e-9)
