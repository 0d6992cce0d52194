"""The contract of torch.optim.Optimizer: closures, later groups, rates that schedulers set."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dlcheck.checks.optimizer import broken_parts
from dlcheck.checks.optimizer.broken import wrong
from dlcheck.checks.optimizer.state import ACCEPTED
from dlcheck.checks.optimizer.trials import (
    farthest,
    gradients_at,
    learning_rate,
    moved,
    parameters_of,
    started,
    warm_up,
)
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded

_LOSS = 0.8125  # what the closure returns: a number that no rounding changes


@check(
    kind="optimizer",
    forbids={"needs_closure", "perturbed_gradient"},
    rejects=[
        wrong(broken_parts.DropsTheLoss),
        wrong(broken_parts.AsksWithoutGradient),
        wrong(broken_parts.AsksAfterTheStep),
        wrong(broken_parts.NeverAsks),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def a_closure_is_asked_once(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """step(closure) asks it once, with gradients on and before the step, and returns its loss.

    The step is that of gradients that are there already, bit by bit. Source:
    torch.optim.Optimizer.step; the closure "reevaluates the model and returns the loss".
    """
    plain = started(subject, case)
    run = started(subject, case)
    try:
        takes = inspect.signature(run.optimizer.step).parameters
    except (TypeError, ValueError):
        takes = {"closure": inspect.Parameter("closure", inspect.Parameter.POSITIONAL_ONLY)}  # type: ignore[assignment]
    if not takes:
        raise NotApplicable("step() takes no closure")
    gradients = gradients_at(case, plain.parameters, 0)
    plain.step(gradients)
    asked: list[bool] = []

    def closure() -> Tensor:
        asked.append(torch.is_grad_enabled())
        for parameter, gradient in zip(run.parameters, gradients, strict=True):
            parameter.grad = run._in_form(gradient.to(parameter))
        return torch.tensor(_LOSS, dtype=torch.float64)

    seed_everything(0)
    returned = guarded(run.optimizer.step, closure)
    yield _count("times that the closure was asked, beyond 1", abs(len(asked) - 1))
    yield _count("calls of the closure with gradients off", sum(not on for on in asked))
    yield Evidence(
        error=farthest(run.values(), plain.values()),
        bound=0.0,
        signal=1.0,
        what="step with a closure against one with the gradients given before",
    )
    try:
        value = float(returned)
    except (TypeError, ValueError):
        value = math.inf
    yield Evidence(
        error=abs(value - _LOSS),
        bound=0.0,
        signal=1.0,
        what="what step(closure) returns against the closure's loss",
        expected=f"{_LOSS}",
        got=repr(returned)[:60],
    )


def _count(what: str, number: float) -> Evidence:
    return Evidence(error=float(number), bound=0.0, signal=1.0, unit="calls", what=what)


@check(
    kind="optimizer",
    forbids={"needs_closure"},
    rejects=[
        wrong(broken_parts.KeepsItsFirstParameters),
        wrong(broken_parts.TakesTheFirstGroupOnly),
        wrong(broken_parts.ForgetsAtALaterGroup),
        wrong(broken_parts.GivesLaterGroupsNoRate),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def a_later_group_is_trained(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Parameters that add_param_group brings move, and those that were there go on as before.

    Three steps, a second group with the defaults, three steps more (and as many as it takes until
    the first parameter moves). Source:
    torch.optim.Optimizer.add_param_group, "useful when fine tuning".
    """
    start = parameters_of(case)
    until = 6 + 2 * warm_up(subject, case)
    alone = started(subject, case).steps(until)
    run = started(subject, case).steps(3)
    late = [nn.Parameter(0.5 * x.clone()) for x in start]
    try:
        guarded(run.optimizer.add_param_group, {"params": late})
    except SubjectRaised as error:
        raise NotApplicable(f"takes no further group: {error}") from error
    before = [p.detach().clone() for p in late]
    for turn in range(3, until):
        gradients = gradients_at(case, run.parameters, turn)
        for parameter, gradient in zip(late, gradients_at(case, late, turn, "late"), strict=True):
            parameter.grad = run._in_form(gradient)
        run.step(gradients)
    still = [k for k, p in enumerate(late) if farthest([p.detach()], [before[k]]) == 0]
    apart = farthest(run.values(), alone.values())
    yield Evidence(
        error=float(len(still)),
        bound=0.0,
        signal=float(len(late)),
        unit="parameters",
        what="parameters of a later group that do not move",
    )
    if "couples_parameters" in subject.traits:
        return
    yield Evidence(
        error=apart,
        bound=0.0,
        signal=moved(alone, start),
        what="parameters that were there, beside a later group, against without",
        cause="the later group changes the steps of the others; if they are meant to depend on "
        "each other (one norm or one step size for all), declare couples_parameters"
        if apart
        else "",
    )


@check(
    kind="optimizer",
    forbids={"needs_closure"},
    rejects=[
        wrong(broken_parts.FixesItsRate),
        wrong(broken_parts.CachesTheRate),
        wrong(broken_parts.ReadsTheDefaults),
        wrong(broken_parts.FreezesItsRateAtTheFirstStep),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def the_rate_of_the_group_counts(subject: Implementation, case: Case) -> Evidence:
    """A step size that is written into param_groups between steps changes the next step.

    Three steps, then one with the given step size and one with a quarter of it, from the same
    state. A learning-rate schedule is nothing else. Source: torch.optim.lr_scheduler.
    """
    name, rate = learning_rate(subject)
    ready = 3 + warm_up(subject, case)
    ends = []
    for factor in (1.0, 0.25):
        run = started(subject, case).steps(ready)
        for group in run.optimizer.param_groups:
            if name not in group:
                raise NotApplicable(f"its groups hold no {name}")
            group[name] = factor * rate
        ends.append(run.steps(2).values())
    apart = farthest(*ends)
    return Evidence(
        error=0.0 if apart > 0 else 1.0,
        bound=0.0,
        signal=1.0,
        unit="groups",
        what=f"groups whose {name}, set between steps, changes nothing",
        cause=f"{name} is read once, when the optimizer is built; read it from the group in step()",
    )
