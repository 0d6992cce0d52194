"""Where weight decay leads on a regression: to ridge's weights, or elsewhere."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.optimizer import broken_steps
from dlcheck.checks.optimizer.broken import Plain, Scaled, wrong
from dlcheck.checks.optimizer.trials import built, learning_rate, take_step
from dlcheck.checks.penalty.regression import AGREEMENT, DATA, regression, verified_ridge
from dlcheck.model import Evidence, Figure, Subject
from dlcheck.numerics.least_squares import LeastSquares, ridge
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_STEPS = 2000
_DECAY, _STRONG = 0.1, 5.0


class DecaysNothing(Plain):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update({**group, "weight_decay": 0.0}, p, gradient)


class DecaysTwice(Plain):
    """2λw: the gradient of λ‖w‖², where that of (λ/2)‖w‖² is meant."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update({**group, "weight_decay": 2 * group["weight_decay"]}, p, gradient)


class DecaysBySign(Plain):
    """λ sign w: the pull of L1."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        pulled = gradient + group["weight_decay"] * p.sign()
        super().update({**group, "weight_decay": 0.0}, p, pulled)


_PLAIN = {"lr": 0.02, "momentum": 0.9}
_SCALED = {"lr": 0.03}


@check(
    kind="optimizer",
    options={"decay": ["coupled"]},
    forbids={"maximizes", "decay_matrices_only"},
    dtypes=["float64"],
    tags=["experiment"],
    once=True,
    textbook={
        "id": "R2",
        "says": "L2 shrinks the weights",
        "verdict": "true if",
        "condition": "their norm is meant: single weights may grow and change sign on the way",
    },
    rejects=[
        wrong(DecaysNothing, args=_PLAIN, decay="coupled"),
        wrong(DecaysTwice, args=_PLAIN, decay="coupled"),
        wrong(DecaysBySign, args=_PLAIN, decay="coupled"),
        wrong(broken_steps.DecaysTheBuffer, args=_PLAIN, decay="coupled"),
        wrong(Scaled, args=_SCALED, decay="coupled"),
    ],
    accepts=[
        Subject(
            name="torch_sgd",
            target="torch.optim:SGD",
            kind="optimizer",
            args={"lr": 0.3},
            options={"decay": "coupled"},
            checks=("weight_decay_leads_to_ridge",),
        ),
        Subject(
            name="torch_adam",
            target="torch.optim:Adam",
            kind="optimizer",
            args={"lr": 0.03},
            options={"decay": "coupled"},
            checks=("weight_decay_leads_to_ridge",),
        ),
    ],
)
def weight_decay_leads_to_ridge(subject: Implementation, case: Case) -> Evidence:
    """Least squares trained with coupled weight decay λ ends at ridge's weights, none of them zero.

    2,000 full-batch steps on diabetes with λ = 0.1, the rate falling to 0 along a cosine from the
    given one. The gradient g + λw is that of f(w) + (λ/2)‖w‖², whose minimum is
    V diag(s/(s² + nλ)) Uᵀy, scikit-learn's Ridge(alpha = nλ). The bound is how far that closed form
    and scikit-learn's may be apart, 1e-9; without decay the weights are 0.6 away.
    Source: Hoerl & Kennard, Technometrics 12(1), 1970, §2; Loshchilov & Hutter, ICLR 2019,
    proposition 1 (SGD's weight decay is L2).
    """
    problem = regression(DATA[0], case.device)
    solution = verified_ridge(DATA[0], _DECAY, case.device)
    weights, path = _trained(subject, case, problem, _DECAY, solution.weights)
    free = ridge(problem, 0.0)
    return Evidence(
        error=float((weights - solution.weights).norm()),
        bound=AGREEMENT,
        signal=float((free - solution.weights).norm()),
        what="distance of the trained weights from ridge's",
        expected=f"‖w‖ = {float(solution.weights.norm()):.9g}",
        got=f"{float((weights - solution.weights).norm()):.2g}, ‖w‖ = {float(weights.norm()):.9g}",
        where=f"{DATA[0]}, λ = {_DECAY:g}",
        values={
            **solution.said,
            "weights that are exactly zero": float((weights == 0).sum()),
            "distance without decay": float((free - solution.weights).norm()),
        },
        figures=(_figure(subject, path, "ridge"),),
    )


@check(
    kind="optimizer",
    options={"decay": ["decoupled"]},
    needs={"scale_free"},
    forbids={"maximizes", "decay_matrices_only"},
    dtypes=["float64"],
    tags=["experiment"],
    once=True,
    textbook={
        "id": "R3",
        "says": "L2 is a Gaussian prior on the weights, L1 a Laplace prior",
        "verdict": "true if",
        "condition": "the mode of the posterior is meant, and the penalty is in the loss",
    },
    rejects=[
        wrong(broken_steps.DecaysThroughTheGradient, "scale_free", args=_SCALED, decay="decoupled"),
        wrong(broken_steps.DecaysByTheRateSquared, "scale_free", args=_SCALED, decay="decoupled"),
        wrong(broken_steps.DecaysWithoutTheRate, "scale_free", args=_SCALED, decay="decoupled"),
        wrong(broken_steps.GrowsWeights, "scale_free", args=_SCALED, decay="decoupled"),
    ],
    accepts=[
        Subject(
            name="torch_adamw",
            target="torch.optim:AdamW",
            kind="optimizer",
            args=_SCALED,
            traits=frozenset({"scale_free"}),
            options={"decay": "decoupled"},
            checks=("decoupled_decay_leads_elsewhere",),
        ),
    ],
)
def decoupled_decay_leads_elsewhere(subject: Implementation, case: Case) -> Evidence:
    """Decay beside a scaled step leads not to ridge, but to least squares with |w| ≤ 1/λ.

    A step u of about the size of 1 balances λw only at |w| = 1/λ; elsewhere it has to vanish, and
    with it the gradient. On the principal components of diabetes (XᵀX/n = I, so that each weight
    is on its own) with correlation c that is c clipped at ±1/λ, where ridge, the mode under a
    Gaussian prior, is c/(1 + λ). λ = 5, 2,000 steps; the bound is half the distance of the two: it
    ends nearer to the one than to the other.
    Source: Xie & Li, Implicit Bias of AdamW: ℓ∞ Norm Constrained Optimization, ICML 2024, theorem
    1.1; Loshchilov & Hutter, ICLR 2019, proposition 2.
    """
    problem = _components(case.device)
    target = problem.correlation
    boxed, normal = target.clamp(-1 / _STRONG, 1 / _STRONG), target / (1 + _STRONG)
    weights, path = _trained(subject, case, problem, _STRONG, normal)
    apart = float((boxed - normal).norm())
    left = float((weights - normal).norm())
    return Evidence(
        error=float((weights - boxed).norm()),
        bound=apart / 2,
        signal=apart,
        resolution=0.5,
        what="distance of the trained weights from least squares with |w| ≤ 1/λ",
        expected=f"at most {apart / 2:.3g}, half of the way to ridge",
        got=f"{float((weights - boxed).norm()):.3g}, and {left:.3g} from ridge",
        where=f"principal components of {DATA[0]}, λ = {_STRONG:g}",
        values={"distance from ridge": left, "distance from least squares": float(
            (weights - target).norm())},
        figures=(_figure(subject, path, "ridge"),),
        counterexample=True,
    )  # fmt: skip


@functools.cache
def _components(device: torch.device) -> LeastSquares:
    """Diabetes on its principal components, each scaled to a variance of 1."""
    problem = regression(DATA[0], device)
    u, _, _ = problem.svd
    return LeastSquares(u * len(u) ** 0.5, problem.y)


def _trained(
    subject: Implementation, case: Case, problem: LeastSquares, decay: float, target: Tensor
) -> tuple[Tensor, list[tuple[float, float]]]:
    """The weights after full-batch steps from 0, and their distance from the target on the way."""
    weights = nn.Parameter(torch.zeros_like(problem.correlation))
    _, rate = learning_rate(subject)
    optimizer = built(subject, case, [weights], weight_decay=decay)
    path = []
    for step in range(_STEPS):
        if step % 50 == 0:
            path.append((float(step), float((weights.detach() - target).norm())))
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * step / _STEPS)) / 2
        weights.grad = problem.gradient(weights.detach())
        take_step(subject, optimizer, [weights])
    return weights.detach(), path


def _figure(subject: Implementation, path: list[tuple[float, float]], to: str) -> Figure:
    return Figure(
        title=f"Weight decay of {subject.declared.name}",
        x="step",
        y=f"distance from {to}",
        series={"distance": path},
        log_y=True,
    )
