"""How many steps a batch size needs, S(B) = S_min (1 + B_c/B), and the batch that is fastest.

With t(B) = a + bB seconds a step, the time to the target (a + bB) S_min (1 + B_c/B) is least at
B* = √(B½ B_c), B½ = a/b: d/dB [(a + bB)(1 + B_c/B)] = b − a B_c/B² = 0.
Source: McCandlish et al., An Empirical Model of Large-Batch Training, 2018, equation 2.11;
Shallue et al., Measuring the Effects of Data Parallelism, JMLR 20, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from dlcheck.measure.throughput import AffineTime

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLaw:
    """S_min and B_c with 95 % bootstrap intervals over the seeds.

    `edge` is "below" or "above" where the sizes that were tried do not enclose B_c: then it is
    only known to lie beyond them.
    """

    least: float
    critical: float
    least_interval: Interval
    critical_interval: Interval
    misfit: float  # root mean square of the log residuals
    edge: str = ""

    def __call__(self, size: float) -> float:
        return self.least * (1 + self.critical / size)


def fit_steps(
    steps: Mapping[int, Sequence[float]], *, resamples: int = 200, seed: int = 0
) -> StepLaw:
    """Least squares of log S(B) over the medians of the seeds.

    steps: batch size → the steps to the target, one for each seed; a size that never reached it is
    left out by the caller, who says so. Raises ValueError for fewer than three sizes.
    """
    if len(steps) < 3:
        raise ValueError(f"S(B) has two unknowns: {len(steps)} batch sizes reached the target")
    sizes = np.array(sorted(steps), float)
    runs = [np.asarray(steps[int(b)], float) for b in sizes]
    least, critical, misfit = _fit(sizes, np.array([np.median(r) for r in runs]))
    random = np.random.default_rng(seed)
    fits = [
        _fit(sizes, np.array([np.median(random.choice(r, len(r))) for r in runs]))
        for _ in range(resamples)
    ]
    low, high = float(sizes[0]), float(sizes[-1])
    return StepLaw(
        least=least,
        critical=critical,
        least_interval=_middle([f[0] for f in fits]),
        critical_interval=_middle([f[1] for f in fits]),
        misfit=misfit,
        edge="below" if critical < low else "above" if critical > high else "",
    )


def fastest_batch(time: AffineTime, law: StepLaw) -> float:
    """B* = √(B½ B_c), in rows."""
    return math.sqrt(time.knee * law.critical)


def seconds_to_target(time: AffineTime, law: StepLaw, size: float) -> float:
    """(a + bB) S_min (1 + B_c/B)."""
    return time(size) * law(size)


def _fit(sizes: np.ndarray, steps: np.ndarray) -> tuple[float, float, float]:
    """S_min, B_c and the misfit. For a given B_c the best log S_min is a mean: one unknown."""
    logs = np.log(steps)

    def left(log_critical: float) -> float:
        residual = logs - np.log1p(math.exp(log_critical) / sizes)
        return float(np.var(residual))

    bounds = (math.log(sizes[0] / 64), math.log(sizes[-1] * 64))
    grid = np.linspace(*bounds, 60)
    start = grid[int(np.argmin([left(x) for x in grid]))]
    width = float(grid[1] - grid[0])
    found = minimize_scalar(left, bounds=(start - width, start + width), method="bounded")
    critical = math.exp(float(found.x))
    least = math.exp(float(np.mean(logs - np.log1p(critical / sizes))))
    return least, critical, math.sqrt(left(float(found.x)))


def _middle(values: Sequence[float]) -> Interval:
    low, high = np.quantile(np.asarray(values), (0.025, 0.975))
    return float(low), float(high)
