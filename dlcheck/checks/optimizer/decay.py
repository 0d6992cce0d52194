"""Weight decay: how much, of what, and in which place."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.optimizer import broken_steps
from dlcheck.checks.optimizer.broken import Plain, Scaled, wrong
from dlcheck.checks.optimizer.parts import room
from dlcheck.checks.optimizer.trials import (
    STEPS,
    Run,
    accepts,
    farthest,
    gradients_at,
    learning_rate,
    parameters_of,
    started,
    warm_up,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_DECAY = 0.1
_RATE = 0.05


@check(
    kind="optimizer",
    options={"decay": ["none", "coupled", "decoupled", "independent"]},
    rejects=[
        wrong(broken_steps.DecaysThroughTheGradient, decay="decoupled"),
        wrong(broken_steps.DecaysByTheRateSquared, decay="decoupled"),
        wrong(broken_steps.DecaysWithoutTheRate, decay="decoupled"),
        wrong(broken_steps.GrowsWeights, decay="decoupled"),
        wrong(broken_steps.AlwaysDecays, decay="decoupled"),
        wrong(Scaled, decay="coupled"),
        wrong(broken_steps.DecaysTheBuffer, decay="coupled"),
        wrong(Plain, decay="decoupled"),
        wrong(broken_steps.AlwaysDecays, decay="none"),
        wrong(Scaled, decay="independent"),
    ],
    accepts=[
        wrong(Plain, decay="coupled"),
        wrong(Scaled, decay="decoupled"),
        wrong(broken_steps.DecaysWithoutTheRate, decay="independent"),
        Subject(name="torch_adam", target="torch.optim:Adam", kind="optimizer",
                options={"decay": "coupled"}),
        Subject(name="torch_adamw", target="torch.optim:AdamW", kind="optimizer",
                options={"decay": "decoupled"}),
        Subject(name="torch_rprop", target="torch.optim:Rprop", kind="optimizer",
                options={"decay": "none"}),
    ],
    dtypes=["float64", "float32"],
    once=True,
)  # fmt: skip
def decay_shrinks_weights(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Decoupled decay multiplies by 1 − ηλ beside the step; coupled decay adds λw to the gradient.

    Decoupled: without a gradient k steps leave (1 − ηλ)^k w, and with one the first step is that
    without decay, less ηλw (ηλ of the new w where the decay comes after; `decay_order` says which,
    either is right where it does not); or the proximal step, (1 + ηλ)^−k w, to which AdamW is a
    first approximation (Zhuang et al., TMLR 2022). Independent: the same with λ for ηλ, as η is
    the rate that the optimizer was built with. Coupled: the run is that without decay on
    gradients g + λw. Declared none, and at λ = 0, gradients of 0 move nothing. Vectors stay where
    only matrices are decayed (decay_matrices_only). η = 0.05, λ = 0.1; the bound is rounding.
    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019, algorithm 2.
    """
    how = subject.options["decay"]
    has_argument = accepts(subject, "weight_decay")
    off: dict[str, Any] = {"weight_decay": 0.0} if has_argument else {}
    still = started(subject, case, **off)
    start = still.values()
    for _ in range(3):
        still.step([torch.zeros_like(p) for p in still.parameters])
    yield Evidence(
        error=farthest(still.values(), start),
        bound=room(case, start, start, 3),  # θ may be made anew of two averages
        signal=max(float(x.abs().amax()) for x in start),
        what="move on gradients of 0 without weight decay",
    )
    if how == "none":
        return
    if not has_argument:
        raise NotApplicable("takes no argument weight_decay")
    if how == "coupled":
        yield _as_a_gradient(subject, case)
        return
    yield _without_a_gradient(subject, case)
    if warm_up(subject, case):  # what the first move adds to a decay before is not one step
        return
    yield _beside_a_step(subject, case)


def _kept(subject: Implementation, x: Tensor) -> bool:
    """Is this one of the parameters that are not decayed?"""
    return "decay_matrices_only" in subject.traits and x.dim() < 2


def _as_a_gradient(subject: Implementation, case: Case) -> Evidence:
    given: dict[str, Any] = {}
    with contextlib.suppress(NotApplicable):
        name, rate = learning_rate(subject)
        given[name] = max(rate, _RATE)
    decayed = started(subject, case, weight_decay=_DECAY, **given)
    plain = started(subject, case, weight_decay=0.0, **given)
    sign = -1.0 if "maximizes" in subject.traits else 1.0
    for turn in range(STEPS):
        gradients = gradients_at(case, plain.parameters, turn)
        decayed.step(gradients)
        plain.step([
            g if _kept(subject, p) else g + sign * _DECAY * p.detach()
            for g, p in zip(gradients, plain.parameters, strict=True)
        ])  # fmt: skip
    start = parameters_of(case)
    without = started(subject, case, weight_decay=0.0, **given).steps(STEPS)
    error = farthest(decayed.values(), plain.values())
    bound = room(case, start, plain.values(), STEPS) * 4
    return Evidence(
        error=error,
        bound=bound,
        signal=farthest(without.values(), plain.values()),
        what="run with decay against one on gradients g + λw",
        cause="the decay does not go through the gradient, as coupled decay does"
        if not error <= bound
        else "",
    )


def _without_a_gradient(subject: Implementation, case: Case) -> Evidence:
    name, _ = learning_rate(subject)
    given: dict[str, Any] = {name: _RATE, "weight_decay": _DECAY}
    run = started(subject, case, **given)
    for _ in range(warm_up(subject, case)):  # some start to decay when they start to move
        run.step([torch.zeros_like(p) for p in run.parameters])
    start = run.values()
    for _ in range(STEPS):
        run.step([torch.zeros_like(p) for p in run.parameters])
    share = _share(subject)
    explicit, implicit = (1 - share) ** STEPS, (1 + share) ** -STEPS
    routes = {
        factor: [x if _kept(subject, x) else factor * x for x in start]
        for factor in (explicit, implicit)
    }
    errors = {factor: farthest(run.values(), route) for factor, route in routes.items()}
    factor = implicit if errors[implicit] < errors[explicit] else explicit
    expected, error = routes[factor], errors[factor]
    bound = 8 * STEPS * unit_roundoff(case.dtype) * max(float(x.abs().amax()) for x in start)
    return Evidence(
        error=error,
        bound=bound,
        signal=farthest(start, expected),
        what=f"weights after {STEPS} steps without a gradient against (1 − {_said(subject)})^"
        f"{STEPS} w",
        cause=_told_by(subject, run, start) if not error <= bound else "",
    )


def _share(subject: Implementation) -> float:
    """What a step takes off a weight."""
    return _DECAY if subject.options["decay"] == "independent" else _RATE * _DECAY


def _said(subject: Implementation) -> str:
    return "λ" if subject.options["decay"] == "independent" else "ηλ"


def _told_by(subject: Implementation, run: Run, start: list[Tensor]) -> str:
    """What the ratio of the weights says of the mistake."""
    old = torch.cat([x.flatten() for x in start]).double()
    new = torch.cat([x.flatten() for x in run.values()]).double()
    ratio = float((new / old).median())
    if not ratio > 0:
        return ""
    per_step = 1 - ratio ** (1 / STEPS)
    declared = _said(subject)
    for said, rate in {
        "ηλ": _RATE * _DECAY,
        "λ without the step size": _DECAY,
        "η²λ": _RATE**2 * _DECAY,
        "−ηλ, the sign turned": -_RATE * _DECAY,
        "2ηλ": 2 * _RATE * _DECAY,
        "ηλ/2": _RATE * _DECAY / 2,
        "nothing": 0.0,
    }.items():
        if said != declared and math.isclose(per_step, rate, rel_tol=1e-6, abs_tol=1e-9):
            hint = "; if that is meant, declare decay = independent" if rate == _DECAY else ""
            return f"a step takes off {said} of a weight, where {declared} is declared{hint}"
    return (
        f"a step takes off {per_step:.4g} of a weight, where {declared} = {_share(subject):g}: a "
        "decay that goes through the moments depends on them"
    )


def _beside_a_step(subject: Implementation, case: Case) -> Evidence:
    """The first step with a gradient: with decay it is that without, and ηλw further."""
    name, _ = learning_rate(subject)
    given: dict[str, Any] = {name: _RATE}
    with_decay = started(subject, case, weight_decay=_DECAY, **given).steps(1)
    without = started(subject, case, weight_decay=0.0, **given).steps(1)
    start = parameters_of(case)
    share = _share(subject)
    stepped = without.values()
    implicit = [x / (1 + share) for x in stepped]
    orders = {"before": [start], "after": [stepped, implicit]}  # of what ηλ is taken off
    stated = subject.options.get("decay_order")
    found: list[float] = []
    others: list[float] = []
    for order, bases in orders.items():
        for base in bases:
            expected = [
                x if _kept(subject, x) else x - share * w
                for x, w in zip(stepped, base, strict=True)
            ]
            counts = found if stated in (None, order) else others
            counts.append(farthest(with_decay.values(), expected))
    bound = room(case, start, without.values(), 1)
    return Evidence(
        error=min(found),
        bound=bound,
        signal=share * max(float(x.abs().amax()) for x in start),
        what=f"first step with decay against the step without, less {_said(subject)}w",
        cause="" if min(found) <= bound else _of_the_place(stated, others, bound),
    )


def _of_the_place(stated: str | None, others: list[float], bound: float) -> str:
    """Where the decay comes in, if not at the stated place."""
    if others and min(others) <= bound:
        was = "before" if stated == "after" else "after"
        return (
            f"the decay comes {was} the step, where decay_order = {stated} is declared: it takes "
            f"its share of the {'old' if was == 'before' else 'new'} weight"
        )
    return "the decay goes through the gradient or its moments"
