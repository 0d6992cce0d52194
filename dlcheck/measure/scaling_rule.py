"""Linear scaling of the learning rate: k steps (η, B) against one step (kη, kB).

One large step is the sum of the small ones but for the change of the gradient on the way, so that
the two ends differ by O(η²): halving η quarters the distance. Plain gradient descent.
Source: Goyal et al., Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour, 2017, §2.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlcheck.measure.workload import Workload, gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRule:
    """‖θ of k steps − θ of one‖ for falling η; the distance itself is of order 1 in η."""

    steps: int  # k
    size: int  # B of a small step
    rates: tuple[float, ...]
    differences: tuple[float, ...]
    distances: tuple[float, ...]  # that the large step goes

    @property
    def orders(self) -> tuple[float, ...]:
        """log₂ of what halving η divides the difference by: 2 where the rule holds."""
        pairs = zip(self.differences, self.differences[1:], strict=False)
        return tuple(math.log2(a / b) if a > 0 and b > 0 else math.nan for a, b in pairs)


def measure_scaling_rule(
    workload: Workload, *, size: int, steps: int, rates: Sequence[float], seed: int = 0
) -> ScalingRule:
    """Take both ways from the same weights on the same rows, for every η of `rates`."""
    model = workload.model(seed)
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randperm(len(workload.rows), generator=generator)[: steps * size]
    start = [p.detach().clone() for p in model.parameters()]
    differences, distances = [], []
    for rate in rates:
        small = _walked(workload, model, start, numbers.split(size), rate)
        large = _walked(workload, model, start, [numbers], rate * steps)
        differences.append(_distance(small, large))
        distances.append(_distance(large, start))
    return ScalingRule(
        steps=steps,
        size=size,
        rates=tuple(rates),
        differences=tuple(differences),
        distances=tuple(distances),
    )


def _walked(
    workload: Workload,
    model: nn.Module,
    start: Sequence[Tensor],
    batches: Sequence[Tensor],
    rate: float,
) -> list[Tensor]:
    """The weights after one plain gradient step on each batch in turn."""
    parameters = list(model.parameters())
    with torch.no_grad():
        for p, kept in zip(parameters, start, strict=True):
            p.copy_(kept)
    trained = [p for p in parameters if p.requires_grad]
    for numbers in batches:
        step = gradient(workload, model, workload.batch(numbers))
        with torch.no_grad():
            for p, part in zip(trained, step.split([p.numel() for p in trained]), strict=True):
                p.sub_((rate * part).reshape(p.shape).to(p))
    return [p.detach().clone() for p in parameters]


def _distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    squares = (
        float((a.double() - b.double()).square().sum()) for a, b in zip(one, other, strict=True)
    )
    return math.sqrt(sum(squares))
