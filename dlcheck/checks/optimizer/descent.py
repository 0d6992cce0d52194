"""Where an optimizer leads: down, by steps of the declared size, in the mirror image too."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.optimizer import broken_steps
from dlcheck.checks.optimizer.broken import wrong
from dlcheck.checks.optimizer.parts import room
from dlcheck.checks.optimizer.state import ACCEPTED
from dlcheck.checks.optimizer.trials import (
    STEPS,
    accepts,
    built,
    farthest,
    gradients_at,
    learning_rate,
    parameters_of,
    started,
)
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Figure, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded

_RATES = (1.0, 10.0, 0.1, 100.0, 3.0, 30.0, 0.3, 0.01, 1e3, 1e-3)  # × the given step size
_LONG = 300  # steps of a descent
_LEFT = 0.01  # of the excess loss, that may be left after it


@check(
    kind="optimizer",
    rejects=[
        wrong(broken_steps.Climbs),
        wrong(broken_steps.NeverMoves),
        wrong(broken_steps.DividesByTheSteps),
        wrong(broken_steps.UsesTheSizeAlone),
    ],
    accepts=[
        *ACCEPTED,
        Subject(
            name="torch_lbfgs",
            target="torch.optim:LBFGS",
            kind="optimizer",
            traits=frozenset({"needs_closure", "per_tensor"}),
        ),
        Subject(name="torch_rprop", target="torch.optim:Rprop", kind="optimizer"),
    ],
    dtypes=["float64", "float32"],
    once=True,
)
def converges_on_a_convex_problem(subject: Implementation, case: Case) -> Evidence:
    """On a quadratic with curvatures from 1/4 to 1 it comes within 1 % of the least loss.

    f(θ) = ½ Σ hᵢ(θᵢ − cᵢ)², the exact gradient, no decay, 300 steps, the given step size or 10^±1
    to 10^±3 of it: some one must do, and none may be needed outside. Gradient descent leaves
    (1 − ηh)^600 of the loss; steps of constant size hover within their length.
    Source: Nesterov, Lectures on Convex Optimization, 2018, theorem 2.1.15.
    """
    best, series = math.inf, {}
    try:
        name, rate = learning_rate(subject)
        rates = [{name: rate * factor} for factor in _RATES]
    except NotApplicable:
        rates = [{}]
    off: dict[str, Any] = {"weight_decay": 0.0} if accepts(subject, "weight_decay") else {}
    for changes in rates:
        losses = _descent(subject, case, **off, **changes)
        share = min(losses[-1], math.inf) / losses[0] if losses[-1] == losses[-1] else math.inf
        label = ", ".join(f"{n} = {v:g}" for n, v in changes.items()) or "as given"
        series[label] = [(float(k), loss) for k, loss in enumerate(losses) if math.isfinite(loss)]
        best = min(best, share)
        if best <= _LEFT:
            break
    return Evidence(
        error=best if math.isfinite(best) else math.inf,
        bound=_LEFT,
        signal=1.0,
        unit="of the loss at the start",
        what=f"loss left after {_LONG} steps on a quadratic",
        cause=_why_not(best) if not best <= _LEFT else "",
        figures=(
            Figure(title="Descent on a quadratic", x="step", y="loss", series=series, log_y=True),
        ),
    )


def _why_not(best: float) -> str:
    if not best < 1:
        return "the loss never falls: the sign of the step is turned, or a copy is updated"
    return "it stops on the way: the steps die out, or point elsewhere"


def _descent(subject: Implementation, case: Case, **changes: float) -> list[float]:
    """The losses of a run, gradients by hand; up, where the optimizer maximizes."""
    start = parameters_of(case)
    targets, curvatures = [], []
    for place, x in enumerate(start):
        z = torch.randn(x.shape, generator=case.generator(f"target {place}"), dtype=torch.float64)
        h = torch.rand(x.shape, generator=case.generator(f"curvature {place}")).double()
        targets.append(x + z.to(x))
        curvatures.append((0.25 + 0.75 * h).to(x))
    parameters = [nn.Parameter(x.clone()) for x in start]
    try:
        optimizer = built(subject, case, parameters, **changes)
    except SubjectError:
        return [1.0, math.inf]
    sign = -1.0 if "maximizes" in subject.traits else 1.0

    def closure() -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for p, c, h in zip(parameters, targets, curvatures, strict=True):
            d = p.detach() - c
            g = sign * h * d
            p.grad = g.to_sparse(1) if _is_sparse(subject, g) else g
            total += (0.5 * h * d.square()).sum().double().cpu()
        return sign * total

    losses = []
    for _ in range(_LONG):
        loss = abs(float(closure()))
        losses.append(loss)
        if not math.isfinite(loss) or loss > 1e12 * max(losses[0], 1e-30):
            return [*losses, math.inf]
        if loss <= 1e-6 * losses[0]:
            break
        seed_everything(0)
        if "needs_closure" in subject.traits:
            guarded(optimizer.step, closure)
        else:
            guarded(optimizer.step)
    losses.append(abs(float(closure())))
    return losses


def _is_sparse(subject: Implementation, gradient: Tensor) -> bool:
    return "sparse_gradient" in subject.traits and gradient.dim() > 1


@check(
    kind="optimizer",
    forbids={"stochastic"},
    rejects=[
        wrong(broken_steps.ClampsPositive),
        wrong(broken_steps.PositiveMomentum),
        wrong(broken_steps.RoundsUp),
        wrong(broken_steps.UsesTheSize),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def the_mirror_image_goes_the_mirrored_way(subject: Implementation, case: Case) -> Evidence:
    """From −θ with gradients −g every step is the negative of that from θ with g.

    Eight steps; rounding to nearest is symmetric, so the bound is that of a few roundings where
    sums are ordered otherwise. No direction of space is special. Source: each published update is
    an odd function of (θ, g).
    """
    start = parameters_of(case)
    run = started(subject, case)
    mirrored = started(subject, case, [-x for x in start])
    for turn in range(STEPS):
        gradients = gradients_at(case, run.parameters, turn)
        run.step(gradients)
        mirrored.step([-g for g in gradients])
    return Evidence(
        error=farthest([-x for x in mirrored.values()], run.values()),
        bound=room(case, start, run.values(), STEPS),
        signal=farthest(run.values(), start),
        what="mirror image of the run from −θ with −g against that from θ with g",
        cause="|g| stands where g is meant, or something positive is added to it",
    )


@check(
    kind="optimizer",
    rejects=[
        wrong(broken_steps.MaximizesTheDecayToo),
        wrong(broken_steps.IgnoresMaximize),
        wrong(broken_steps.MaximizesTheMomentumOnly),
        wrong(broken_steps.MaximizesTwice),
    ],
    accepts=[
        wrong(broken_steps.WithMaximize),
        Subject(
            name="torch_adam",
            target="torch.optim:Adam",
            kind="optimizer",
            args={"weight_decay": 0.1},
        ),
        Subject(
            name="torch_sgd",
            target="torch.optim:SGD",
            kind="optimizer",
            args={"weight_decay": 0.1, "lr": 0.1},
        ),
    ],
    dtypes=["float64", "float32"],
    once=True,
)
def maximize_climbs_what_would_be_descended(subject: Implementation, case: Case) -> Evidence:
    """With maximize = True and gradients g it goes where it goes with False and −g.

    The decay shrinks in both. Eight steps; the bound is rounding.
    Source: torch.optim, "maximize the objective with respect to the params".
    """
    if not accepts(subject, "maximize"):
        raise NotApplicable("has no argument maximize")
    start = parameters_of(case)
    climbing = started(subject, case, maximize=True)
    descending = started(subject, case, maximize=False)
    for turn in range(STEPS):
        gradients = gradients_at(case, climbing.parameters, turn)
        climbing.step(gradients)
        descending.step([-g for g in gradients])
    return Evidence(
        error=farthest(climbing.values(), descending.values()),
        bound=room(case, start, climbing.values(), STEPS),
        signal=farthest(climbing.values(), start),
        what="run with maximize on g against one without on −g",
    )
