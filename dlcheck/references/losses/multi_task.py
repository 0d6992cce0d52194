"""Several tasks as one loss: a fixed weighted sum, and weights that are learnt as uncertainties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.registry import reference


class _WeightedSum(torch.autograd.Function):
    """L = Σ_t w_t ℓ_t, so dL/dℓ_t = w_t."""

    generate_vmap_rule = True

    @staticmethod
    def forward(losses: Tensor, weights: Tensor) -> Tensor:
        return (weights * losses).sum()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        return gradients[0] * weights, None


@reference(
    kind="op",
    formula="L = Σ_t w_t ℓ_t",
    source="Caruana, Multitask Learning, Machine Learning 28, 1997, §2; Goodfellow, Bengio & "
    "Courville, Deep Learning, 2016, §7.7",
    inputs={"losses": "positive 3"},
    args={"weights": [1.0, 0.5, 0.25]},
    traits=["smooth", "twice_differentiable"],
    options={"task_weights": "weights"},
)
def weighted_sum_of_tasks(losses: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
    """Σ_t w_t ℓ_t: losses [t], as many weights; returns [].

    Raises ValueError where there are not as many of one as of the other.
    """
    if len(weights) != len(losses):
        raise ValueError(f"{len(losses)} losses, but {len(weights)} weights")
    factors = torch.tensor(weights, dtype=losses.dtype, device=losses.device)
    return _WeightedSum.apply(losses, factors)  # type: ignore[no-any-return]


@reference(
    kind="layer",
    formula="L = Σ_t ½ exp(−s_t) ℓ_t + ½ s_t,  s_t = log σ_t² learnt",
    source="Kendall, Gal & Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR "
    "2018, eq. 7, and §3.2 for s = log σ²",
    inputs={"losses": "positive 3"},
    args={"tasks": 3},
    traits=["smooth", "twice_differentiable"],
)
class UncertaintyWeighting(nn.Module):
    """Σ_t ½ e^{−s_t} ℓ_t + ½ s_t: losses [tasks]; returns [].

    Least in s at s_t = log ℓ_t: a task that is lost more counts less.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(tasks))

    def forward(self, losses: Tensor) -> Tensor:
        precision = torch.exp(-self.log_variances)
        return 0.5 * (precision * losses + self.log_variances).sum()
