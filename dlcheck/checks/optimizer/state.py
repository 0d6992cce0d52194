"""What an optimizer keeps: it can be put away and taken up again, and asks for no gradient."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.optimizer import broken
from dlcheck.checks.optimizer.broken import Plain, Scaled, wrong
from dlcheck.checks.optimizer.trials import (
    STEPS,
    accepts,
    closest,
    farthest,
    gradients_at,
    moved,
    parameters_of,
    refuses,
    started,
    warm_up,
)
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded

TORCH = [
    Subject(name="torch_sgd", target="torch.optim:SGD", kind="optimizer",
            args={"lr": 0.1, "momentum": 0.9}),
    Subject(name="torch_adam", target="torch.optim:Adam", kind="optimizer"),
]  # fmt: skip
ACCEPTED = [*TORCH, wrong(Plain), wrong(Scaled)]


@check(
    kind="optimizer",
    rejects=[
        wrong(broken.CountsOutsideItsState),
        wrong(broken.KeepsBuffersToItself),
        wrong(broken.LosesItsSecondMoment),
        wrong(broken.LoadsOldOptions),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def optimizer_resumes_where_it_stopped(subject: Implementation, case: Case) -> Evidence:
    """Saved in the middle and loaded into a new optimizer, it goes on as if nothing had happened.

    Eight steps, a state_dict through torch.save, a new instance over copies of the parameters
    with another step size, load_state_dict, eight steps more: bit by bit what sixteen steps give
    (with counters in float64, where those of float32 are rounded otherwise on loading).
    Source: the documentation of torch.optim.Optimizer.load_state_dict.
    """
    return closest(lambda: _resumed(subject, case))


def _resumed(subject: Implementation, case: Case) -> Evidence:
    whole = started(subject, case).steps(2 * STEPS)
    first = started(subject, case).steps(STEPS)
    state = _stored(guarded(first.optimizer.state_dict))
    again = started(subject, case, first.values(), **_another_rate(subject))
    guarded(again.optimizer.load_state_dict, state)
    again.shown = STEPS
    again.steps(STEPS)
    reach = farthest(whole.values(), first.values())
    return Evidence(
        error=farthest(again.values(), whole.values()),
        bound=0.0,
        signal=reach or 1.0,
        what="parameters after a resumed run against one that was not interrupted",
        cause="something that counts is not in the state_dict, or is not loaded from it",
    )


def _stored(state: Any) -> Any:
    """What comes back from a file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def _another_rate(subject: Implementation) -> dict[str, Any]:
    """Another step size than the one that is to be loaded, where it is an argument."""
    name = str(subject.options.get("lr", "lr"))
    if not accepts(subject, name):
        return {}
    value = subject.value_of(name)
    return {name: value / 2} if isinstance(value, float) and value > 0 else {}


@check(
    kind="optimizer",
    forbids={"needs_closure"},
    rejects=[
        wrong(broken.DecaysWithoutAGradient),
        wrong(broken.StepsOnMomentumAlone),
        wrong(broken.StopsAtAMissingGradient),
        wrong(broken.AlwaysDecaysEverything),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def a_missing_gradient_is_skipped(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A parameter without a gradient, or that needs none, stays as it is, and the others move.

    With `grad` None from the start and after some steps, with `requires_grad` off, and with a
    weight decay where there is one: exact. A step in which no parameter has a gradient changes
    nothing, or is refused. Source: torch.optim.Optimizer.zero_grad: with set_to_none, a step
    without a gradient is skipped altogether.
    """
    decay: dict[str, Any] = {"weight_decay": 0.1} if accepts(subject, "weight_decay") else {}
    if len(parameters_of(case)) < 2:
        raise NotApplicable("has one parameter only; declare inputs with two")
    waits = warm_up(subject, case)
    for name, before, frozen in (
        ("from the start", 0, False), ("after three steps", 3, False), ("frozen", 0, True),
    ):  # fmt: skip
        run = started(subject, case, **decay).steps(before)
        run.parameters[0].requires_grad_(not frozen)
        start = run.values()
        for _ in range(3 + waits):
            gradients: list[Tensor | None] = [*gradients_at(case, run.parameters, run.shown)]
            gradients[0] = None
            run.step(gradients)
        yield Evidence(
            error=farthest(run.values()[:1], start[:1]),
            bound=0.0,
            signal=float(start[0].abs().amax()) or 1.0,
            what=f"move of a parameter without a gradient, {name}",
        )
        others = farthest(run.values()[1:], start[1:])
        yield Evidence(
            error=0.0 if others > 0 and math.isfinite(others) else 1.0,
            bound=0.0,
            signal=1.0,
            unit="parameters",
            what=f"parameters that no longer move beside one without a gradient, {name}",
        )
    idle = started(subject, case, **decay).steps(2)
    start = idle.values()
    try:
        idle.step([None] * len(idle.parameters))
    except SubjectRaised as error:
        if not refuses(error):
            raise
        return  # a clear refusal leaves everything as it is
    yield Evidence(
        error=moved(idle, start),
        bound=0.0,
        signal=1.0,
        what="move in a step without any gradient",
    )


@check(
    kind="optimizer",
    rejects=[
        wrong(broken.DividesByTheRoot),
        wrong(broken.DividesByTheNorm),
        wrong(broken.TrustsWithoutAGuard),
        wrong(broken.LogsItsStep),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def a_zero_gradient_is_finite(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Gradients of 0, from the start or later, and parameters at 0 leave everything finite.

    Four steps of zeros before and after gradients of size 1, of 10⁻²⁰ and of 10¹⁵ (10⁻⁸ and 10⁶
    in narrower types), from the drawn parameters and from zeros. Source: 0/0 is no step.
    """
    count = 0
    start = parameters_of(case)
    for values in (start, [torch.zeros_like(x) for x in start]):
        for scale in (1.0, 1e-20, 1e15) if case.dtype == torch.float64 else (1.0, 1e-8, 1e6):
            run = started(subject, case, values)
            for turn in range(4):
                run.step([torch.zeros_like(p) for p in run.parameters])
                run.steps(1, scale=scale) if turn == 1 else None
            lost = sum(int((~torch.isfinite(x)).sum()) for x in run.values())
            count += sum(x.numel() for x in run.values())
            if lost:
                at = "zero parameters" if values is not start else "the drawn parameters"
                yield _lost(lost, count, f"beside gradients of {scale:g}, from {at}")
                return
    yield _lost(0, count, "")


def _lost(lost: int, count: int, where: str) -> Evidence:
    return Evidence(
        error=float(lost),
        bound=0.0,
        signal=float(max(count, 1)),
        unit="elements",
        what="parameters that are not finite after gradients of 0",
        where=where,
        cause="a division by a norm or a root that may be 0" if lost else "",
    )
