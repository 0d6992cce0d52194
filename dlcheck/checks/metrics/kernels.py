"""The polynomial kernel of a kernel distance, as it is declared, and the distance by definition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.subjects import Implementation


@dataclass(frozen=True, slots=True)
class Kernel:
    """k(x, y) = (γ xᵀy + c)^degree."""

    degree: int
    gamma: float
    coef0: float

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """k(xᵢ, yⱼ) [n, m] in float64."""
        return (self.gamma * (x.double() @ y.double().mT) + self.coef0) ** self.degree


def is_kernel_distance(metric: Implementation) -> bool:
    """Does it declare the option that makes it one?"""
    return "estimator" in metric.options


def is_unbiased(metric: Implementation) -> bool:
    said = str(metric.options["estimator"])
    if said not in ("biased", "unbiased"):
        said = str(metric.value_of(said, "option estimator"))
    return said == "unbiased"


def kernel_of(metric: Implementation, features: int) -> Kernel:
    """As declared; (xᵀy/d + 1)³ by default, as the KID has it."""
    gamma = metric.argument("gamma")
    return Kernel(
        degree=int(metric.argument("degree", 3)),
        gamma=1 / features if gamma is None else float(gamma),
        coef0=float(metric.argument("coef0", 1.0)),
    )


def discrepancy(metric: Implementation, first: Tensor, second: Tensor) -> float:
    """MMD² of rows [n, d] and [m, d] by definition, with the declared kernel and estimator."""
    kernel = kernel_of(metric, first.shape[1])
    within = mean_off_the_diagonal if is_unbiased(metric) else torch.mean
    own = within(kernel(first, first)) + within(kernel(second, second))
    return float(own - 2 * kernel(first, second).mean())


def mean_off_the_diagonal(matrix: Tensor) -> Tensor:
    n = len(matrix)
    off = matrix[~torch.eye(n, dtype=torch.bool, device=matrix.device)]
    return off.sum() / (n * (n - 1))


def mean_sizes(metric: Implementation, first: Tensor, second: Tensor) -> float:
    """The largest of the three means of (γ‖x‖‖y‖ + |c|)^degree, x = y left out or not."""
    kernel = kernel_of(metric, first.shape[1])
    norms = [torch.linalg.vector_norm(x.double(), dim=1) for x in (first, second)]
    means = []
    for products in (x[:, None] * y for x in norms for y in norms):
        sizes: Tensor = (abs(kernel.gamma) * products + abs(kernel.coef0)).pow(kernel.degree)
        means.append(float(sizes.sum()) / max(sizes.numel() - len(sizes), 1))
    return max(means)
