"""Gradient descent on a noisy quadratic, in closed form: what a batch size does to convergence.

The loss of a row is ½ Σ λⱼ (wⱼ − xⱼ)², with x of mean 0 and variance vⱼ. A step on B fresh rows
is w ← (1 − ηλ) w + ηλ x̄, so that E wⱼ² = mⱼ w₀² (1 − ηλⱼ)^{2t} + sⱼ (1 − (1 − ηλⱼ)^{2t}) with
the stationary variance s = ηλ v / (B (2 − ηλ)): with noise of the gradient c = λ²v this is
ηc/(Bλ(2 − ηλ)).
Source: Schaul, Zhang & LeCun, No More Pesky Learning Rates, ICML 2013, §4; Zhang et al., Which
Algorithmic Choices Matter at Which Batch Sizes?, NeurIPS 2019, equation 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyQuadratic:
    """Curvatures λ and the variances v of the rows, each [d]; every weight starts at 1."""

    curvatures: tuple[float, ...]
    variances: tuple[float, ...]

    def stationary(self, rate: float, size: int) -> np.ndarray:
        """s [d]: the variance about which the weights hover. Needs ηλ < 2."""
        curvature, variance = np.array(self.curvatures), np.array(self.variances)
        return np.asarray(rate * curvature * variance / (size * (2 - rate * curvature)))

    def mean_square(self, rate: float, size: int, steps: float) -> np.ndarray:
        """E w² [d] after so many steps."""
        shrink = (1 - rate * np.array(self.curvatures)) ** (2 * steps)
        return shrink + self.stationary(rate, size) * (1 - shrink)

    def loss(self, rate: float, size: int, steps: float) -> float:
        """½ Σ λ E w²: what lies above the least loss."""
        return float(0.5 * np.array(self.curvatures) @ self.mean_square(rate, size, steps))

    def steps_to(self, target: float, rate: float, size: int, most: int = 10**7) -> float:
        """The first step with an expected loss of at most `target`; infinite if there is none."""
        if rate * max(self.curvatures) >= 2:
            return float("inf")
        if float(0.5 * np.array(self.curvatures) @ self.stationary(rate, size)) >= target:
            return float("inf")
        high = 1
        while self.loss(rate, size, high) > target:
            high *= 2
            if high > most:
                return float("inf")
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.loss(rate, size, middle) > target else (low, middle)
        return float(high)

    def best(self, target: float, size: int, rates: Sequence[float]) -> tuple[float, float]:
        """(steps, rate): the fewest steps to the target over the given learning rates."""
        return min((self.steps_to(target, rate, size), rate) for rate in rates)
