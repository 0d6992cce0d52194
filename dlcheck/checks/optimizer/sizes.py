"""The size of a step: as declared, whatever the scale of the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from dlcheck import formulas
from dlcheck.checks.optimizer import broken_steps
from dlcheck.checks.optimizer.broken import Plain, Scaled, wrong
from dlcheck.checks.optimizer.parts import room
from dlcheck.checks.optimizer.trials import (
    STEPS,
    accepts,
    closest,
    farthest,
    gradients_at,
    learning_rate,
    parameters_of,
    started,
    warm_up,
)
from dlcheck.model import Evidence, Subject
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@check(
    kind="optimizer",
    needs={"scale_free"},
    rejects=[
        wrong(Plain, "scale_free"),
        wrong(broken_steps.SquaresTheSize, "scale_free"),
        wrong(broken_steps.PositiveMomentum, "scale_free"),
        wrong(broken_steps.RoundsUp, "scale_free"),
    ],
    accepts=[
        wrong(Scaled, "scale_free"),
        Subject(
            name="torch_adam",
            target="torch.optim:Adam",
            kind="optimizer",
            traits=frozenset({"scale_free"}),
        ),
        Subject(
            name="torch_rprop",
            target="torch.optim:Rprop",
            kind="optimizer",
            traits=frozenset({"scale_free"}),
        ),
    ],
    dtypes=["float64", "float32"],
    once=True,
)
def scale_of_the_gradient_does_not_matter(subject: Implementation, case: Case) -> Evidence:
    """Gradients times 2¹⁰ take the parameters the same way.

    From gradients of size 2¹⁰ on, beside which an ε is small: two runs differ by what the ε does,
    ε/2¹⁰ of the way relative to each gradient, and 64 roundings a step. Powers of two do not
    round. Without decay. Source: Kingma & Ba, Adam, ICLR 2015, §2.1: invariant to rescaling.
    """
    off: dict[str, Any] = {"weight_decay": 0.0} if accepts(subject, "weight_decay") else {}
    start = parameters_of(case)
    steps = STEPS + warm_up(subject, case)
    runs = []
    for scale in (2.0**10, 2.0**20):
        run = started(subject, case, **off)
        for turn in range(steps):
            gradients = gradients_at(case, run.parameters, turn)
            run.step([g.sign() * (0.5 + g.abs()) * scale for g in gradients])
        runs.append(run)
    eps = float(subject.value_of("eps")) if _is_number(subject, "eps") else 0.0
    path = farthest(runs[0].values(), start)
    return Evidence(
        error=farthest(runs[0].values(), runs[1].values()),
        bound=room(case, start, runs[0].values(), steps) + 2 * steps * eps / 2.0**9 * path,
        signal=path,
        what="parameters after gradients of size 2²⁰ against 2¹⁰",
        cause="the step grows with the gradient; scale_free says that it does not",
    )


def _is_number(subject: Implementation, argument: str) -> bool:
    if not accepts(subject, argument):
        return False
    return isinstance(subject.value_of(argument), (int, float))


@check(
    kind="optimizer",
    options={"first_step": True},
    rejects=[
        wrong(broken_steps.ForgetsTheCorrection, first_step="lr"),
        wrong(broken_steps.CorrectsOneStepLate, first_step="lr"),
        wrong(broken_steps.SquaresTheSize, first_step="lr"),
        wrong(broken_steps.SumsItsMomentum, first_step="lr * g"),
        wrong(broken_steps.SwapsItsBetas, first_step="lr / 2"),
    ],
    accepts=[
        wrong(Scaled, first_step="lr"),
        wrong(Plain, first_step="lr * g"),
        Subject(name="torch_adam", target="torch.optim:Adam", kind="optimizer",
                options={"first_step": "lr"}),
        Subject(name="torch_adamax", target="torch.optim:Adamax", kind="optimizer",
                options={"first_step": "lr"}),
    ],
    dtypes=["float64", "float32"],
    once=True,
)  # fmt: skip
def first_step_has_the_declared_size(subject: Implementation, case: Case) -> Evidence:
    """In the first step each element moves by `first_step`, against its gradient.

    A number, or a formula of the arguments and of g, the size of the element's gradient, which is
    between 500 and 1500 here, so that an ε is little beside it: the bound is 2ε, as √v may be a
    thousandth of g before its correction, and 64 roundings. Without decay.
    Source: Kingma & Ba, Adam, ICLR 2015, §3: bias correction makes the first step η.
    """
    return closest(lambda: _first_step(subject, case))


def _first_step(subject: Implementation, case: Case) -> Evidence:
    off: dict[str, Any] = {"weight_decay": 0.0} if accepts(subject, "weight_decay") else {}
    start = parameters_of(case)
    run = started(subject, case, **off)
    gradients = [
        g.sign() * (500 + 1000 * torch.rand(g.shape, generator=case.generator(f"size {k}"))).to(g)
        + 500 * (g == 0).to(g)
        for k, g in enumerate(gradients_at(case, run.parameters, 0))
    ]
    run.step(gradients)
    sign = 1.0 if "maximizes" in subject.traits else -1.0
    g = torch.cat([x.flatten() for x in gradients]).double()
    went = torch.cat([
        (a - b).flatten() for a, b in zip(run.values(), start, strict=True)
    ]).double()  # fmt: skip
    names = _numbers(subject)
    stated = subject.options["first_step"]
    wanted = torch.tensor(
        [formulas.evaluate(stated, {**names, "g": float(x)}) for x in g.abs()], dtype=torch.float64
    ).to(g.device)
    eps = names.get("eps", 0.0)
    largest = max(float(x.abs().amax()) for x in start)
    bound = (2 * eps + 64 * unit_roundoff(case.dtype)) * float(wanted.abs().amax())
    bound += 4 * unit_roundoff(case.dtype) * largest
    error = (went - sign * g.sign() * wanted).abs()
    worst = int(error.argmax())
    return Evidence(
        error=float(error[worst]),
        bound=bound,
        signal=float(wanted.abs().amax()),
        what="first step of an element",
        expected=f"{float((sign * g.sign() * wanted)[worst]):.6g}, by first_step = {stated}",
        got=f"{float(went[worst]):.6g}",
        cause=f"the first step is {float((went / wanted).abs().median()):.4g} of the declared one"
        if not float(error[worst]) <= bound
        else "",
    )


def _numbers(subject: Implementation) -> dict[str, float]:
    """The constructor's arguments that are numbers; pairs as name1 and name2."""
    found: dict[str, float] = {}
    for name in ("lr", "eps", "weight_decay", "momentum", "betas", "alpha", "rho", "dampening"):
        if accepts(subject, name):
            found |= _as_numbers(name, subject.value_of(name))
    for name, value in subject.args.items():
        found |= _as_numbers(name, value)
    return found


def _as_numbers(name: str, value: object) -> dict[str, float]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {name: float(value)}
    if isinstance(value, (tuple, list)) and all(isinstance(v, (int, float)) for v in value):
        return {f"{name}{k + 1}": float(v) for k, v in enumerate(value)}
    return {}


@check(
    kind="optimizer",
    needs={"sign_step"},
    rejects=[
        wrong(Plain, "sign_step"),
        wrong(Scaled, "sign_step"),
        wrong(broken_steps.ClampsPositive, "sign_step"),
        wrong(broken_steps.ForgetsTheCorrection, "sign_step"),
    ],
    accepts=[wrong(broken_steps.SignDescent, "sign_step")],
    dtypes=["float64", "float32"],
    once=True,
)
def each_element_moves_by_the_step_size(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """In every step each element moves by the step size, up or down, and by 0 at gradients of 0.

    Four steps without decay; the bound is that of rounding θ. Source: Bernstein et al., signSGD,
    ICML 2018, algorithm 1; Chen et al., Lion, NeurIPS 2023, algorithm 2.
    """
    _, rate = learning_rate(subject)
    off: dict[str, Any] = {"weight_decay": 0.0} if accepts(subject, "weight_decay") else {}
    run = started(subject, case, **off)
    before = run.values()
    for turn in range(4):
        gradients = gradients_at(case, run.parameters, turn)
        run.step([torch.where(g == 0, 1.0, g) for g in gradients])
        after = run.values()
        sizes = [(a - b).abs() for a, b in zip(after, before, strict=True)]
        largest = max(float(x.abs().amax()) for x in after)
        yield Evidence(
            error=max(float((s.double() - rate).abs().amax()) for s in sizes),
            bound=8 * unit_roundoff(case.dtype) * (largest + rate),
            signal=rate,
            what=f"move of an element in step {turn + 1} against the step size",
            expected=f"{rate:g}",
            got=f"{min(float(s.amin()) for s in sizes):.6g} to "
            f"{max(float(s.amax()) for s in sizes):.6g}",
        )
        before = after
