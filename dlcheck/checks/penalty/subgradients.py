"""What training on subgradients of an L1 penalty comes to: small weights, and none at zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dlcheck.checks.penalty.regression import slope_of
from dlcheck.model import Evidence
from dlcheck.numerics.least_squares import LeastSquares

_STEPS, _BATCH = 200, 64


def by_subgradients(
    penalty: Callable[[Tensor], Tensor],
    problem: LeastSquares,
    solution: Tensor,
    scale: float,
    where: str,
) -> Iterator[Evidence]:
    """SGD on batches and Adam, with falling rates: how many weights are exactly zero.

    A step w − η(g + λ sign w) meets 0 only where η(g + λ sign w) = w to the last bit; no rounding
    makes that likely, so that none is expected.
    """
    for name, weights in {
        "SGD": _trained(penalty, problem, scale, torch.optim.SGD, 1 / problem.curvature[1]),
        "Adam": _trained(penalty, problem, scale, torch.optim.Adam, 0.02),
    }.items():
        zeros, due = int((weights == 0).sum()), int((solution == 0).sum())
        largest = float(weights[solution == 0].abs().max()) if due else 0.0
        yield Evidence(
            error=float(zeros),
            bound=0.0,
            signal=float(len(weights)),
            unit="weights",
            what=f"weights that {name} on subgradients holds at exactly zero",
            expected=f"none, where the minimum has {due}",
            got=f"{zeros} of {len(weights)}, largest that should be zero {largest:.2g}",
            where=where,
            values={"distance from the minimum": float((weights - solution).norm())},
            counterexample=True,
        )


def _trained(
    penalty: Callable[[Tensor], Tensor],
    problem: LeastSquares,
    scale: float,
    optimizer: Callable[..., torch.optim.Optimizer],
    rate: float,
) -> Tensor:
    """Batches of 64 rows, the rate falling as 1/(1 + step/20)."""
    generator = torch.Generator().manual_seed(0)
    start = 0.01 * torch.randn(len(problem.correlation), generator=generator, dtype=torch.float64)
    weights = start.to(problem.x.device).requires_grad_()
    made = optimizer([weights], lr=rate)
    for step in range(_STEPS):
        rows = torch.randint(len(problem.x), (_BATCH,), generator=generator)
        x, y = problem.x[rows], problem.y[rows]
        for group in made.param_groups:
            group["lr"] = rate / (1 + step / 20)
        w = weights.detach()
        weights.grad = x.mT @ (x @ w - y) / _BATCH + scale * slope_of(penalty, w)
        made.step()
    return weights.detach()
