"""How the time of a step grows with the batch: t(B) = a + bB, and its knee B½ = a/b.

Rows a second are B / (a + bB): half of the limit 1/b at B = a/b. Below the knee a bigger batch is
nearly free, above it time is proportional to rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from dlcheck.measure.clocks import Clock, Work, calls_a_sample


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTimes:
    """Seconds of a step, `seconds[round][i]` for a batch of `sizes[i]` rows."""

    sizes: tuple[int, ...]
    seconds: tuple[tuple[float, ...], ...]

    @property
    def medians(self) -> tuple[float, ...]:
        """The middle round of every size: a disturbance hits rounds, not sizes."""
        return tuple(float(value) for value in np.median(np.asarray(self.seconds), axis=0))

    @property
    def throughput(self) -> tuple[float, ...]:
        """Rows a second, for every size."""
        return tuple(size / t for size, t in zip(self.sizes, self.medians, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineTime:
    """t(B) = fixed + per_row · B, in seconds, with 95 % intervals over the rounds."""

    fixed: float
    per_row: float
    fixed_interval: tuple[float, float]
    per_row_interval: tuple[float, float]
    knee_interval: tuple[float, float]
    misfit: float  # the largest relative residual

    @property
    def knee(self) -> float:
        """B½ = a/b: the batch at which half of the limiting throughput is reached."""
        return _knee(self.fixed, self.per_row)

    def __call__(self, size: float) -> float:
        return self.fixed + self.per_row * size


def time_batches(
    works: Mapping[int, Work], clock: Clock, *, rounds: int = 15, sample: float = 4e-4
) -> BatchTimes:
    """Time the step of every batch size once a round, so that a drift meets all sizes alike.

    works: batch size → a call of one step on a batch of that size.
    """
    calls = {size: calls_a_sample(clock, work, sample=sample) for size, work in works.items()}
    seconds = tuple(
        tuple(clock.seconds(work, calls=calls[size]) for size, work in works.items())
        for _ in range(rounds)
    )
    return BatchTimes(sizes=tuple(works), seconds=seconds)


def fit_affine(times: BatchTimes, *, resamples: int = 200, seed: int = 0) -> AffineTime:
    """a, b ≥ 0 of least Σ ((a + bB) / t(B) − 1)², with percentile intervals.

    The residuals are relative, for the noise of a clock is; the intervals resample whole rounds,
    for the sizes of one round share their disturbance.
    """
    sizes, rounds = np.asarray(times.sizes, float), np.asarray(times.seconds, float)
    fixed, per_row = _least_squares(sizes, np.median(rounds, axis=0))
    random = np.random.default_rng(seed)
    draws = random.integers(0, len(rounds), (resamples, len(rounds)))
    fits = [_least_squares(sizes, np.median(rounds[draw], axis=0)) for draw in draws]
    knees = [_knee(a, b) for a, b in fits]
    fitted = fixed + per_row * sizes
    return AffineTime(
        fixed=fixed,
        per_row=per_row,
        fixed_interval=_middle([a for a, _ in fits]),
        per_row_interval=_middle([b for _, b in fits]),
        knee_interval=_middle(knees),
        misfit=float(np.max(np.abs(fitted / np.median(rounds, axis=0) - 1))),
    )


def arithmetic_intensity(batch: int, rows: int, columns: int, itemsize: int = 4) -> float:
    """Floating-point operations per byte of a linear layer [rows, columns] on a batch.

    2 B M K / (s (B M + M K + B K)), s bytes an element: it rises from below ½ to
    2 M K / (s (M + K)) with the batch. Source: Williams et al., Roofline, CACM 52(4), 2009.
    """
    moved = batch * rows + rows * columns + batch * columns
    return 2 * batch * rows * columns / (itemsize * moved)


def _least_squares(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    # Divided by its own t, every equation a + bB = t becomes one of relative errors.
    design = np.stack([np.ones_like(sizes), sizes], axis=1) / seconds[:, None]
    (fixed, per_row), _ = nnls(design, np.ones_like(sizes))
    return float(fixed), float(per_row)


def _knee(fixed: float, per_row: float) -> float:
    return fixed / per_row if per_row > 0 else math.inf


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of a bootstrap sample; infinite knees sort last."""
    ordered = sorted(values)
    low, high = int(0.025 * len(ordered)), math.ceil(0.975 * len(ordered)) - 1
    return ordered[low], ordered[high]
