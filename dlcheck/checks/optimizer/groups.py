"""Each option of a group is its own: decay, momentum and betas, not the step size alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dlcheck.checks.optimizer import broken_groups
from dlcheck.checks.optimizer.broken import wrong
from dlcheck.checks.optimizer.parts import room
from dlcheck.checks.optimizer.state import ACCEPTED
from dlcheck.checks.optimizer.trials import (
    STEPS,
    accepts,
    farthest,
    gradients_at,
    parameters_of,
    started,
    warm_up,
)
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@check(
    kind="optimizer",
    forbids={"couples_parameters", "needs_closure", "stochastic"},
    rejects=[
        wrong(broken_groups.DecaysByTheDefaults),
        wrong(broken_groups.DecaysByTheFirstGroup),
        wrong(broken_groups.KeepsItsMomentum),
        wrong(broken_groups.TakesTheBetasOfTheFirst),
        wrong(broken_groups.DecaysAllByTheLast),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def decay_and_momentum_of_a_group_count(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A group with a decay, a momentum or betas of its own goes as if it had been built with them.

    Those of weight_decay, momentum and betas that are constructor arguments and stand in the
    groups, one after the other: two groups, the second with another value, against an optimizer
    of each alone. Eight steps; the bound is rounding. So biases and norms are left undecayed.
    Source: torch.optim, per-parameter options.
    """
    start = parameters_of(case)
    start = [*start, -0.5 * start[0]]
    judged = 0
    for name, value in _others(subject, case).items():
        try:
            found = _apart(subject, case, start, {name: value})
        except SubjectError:
            continue  # a value that it does not take
        if found is not None:
            judged += 1
            yield found
    if not judged:
        raise NotApplicable("its groups hold neither weight_decay, momentum nor betas that matter")


def _others(subject: Implementation, case: Case) -> Mapping[str, Any]:
    """Another value for each of the options that the groups hold."""
    held = started(subject, case).optimizer.param_groups[0]
    found: dict[str, Any] = {}
    for name in ("weight_decay", "momentum", "betas"):
        if name not in held or not accepts(subject, name):
            continue
        value = subject.value_of(name)
        if isinstance(value, (tuple, list)) and all(isinstance(b, float) for b in value):
            found[name] = tuple(0.6 * b for b in value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = value + 0.5 if name == "weight_decay" else 0.6 * value or 0.25
    return found


def _apart(
    subject: Implementation, case: Case, start: list[Any], changes: Mapping[str, Any]
) -> Evidence | None:
    """Two groups, the second with these options, against the two optimizers that they stand for."""
    (name,) = changes
    both = started(
        subject, case, start,
        groups=lambda ps: [{"params": ps[:-1]}, {"params": ps[-1:], **changes}],
    )  # fmt: skip
    first, second = (
        started(subject, case, start[:-1]),
        started(subject, case, start[-1:], **changes),
    )
    same = started(subject, case, start[-1:])
    steps = STEPS + warm_up(subject, case)
    for turn in range(steps):
        gradients = gradients_at(case, both.parameters, turn)
        both.step(gradients)
        first.step(gradients[:-1])
        second.step(gradients[-1:])
        same.step(gradients[-1:])
    wrong_first = farthest(both.values()[:-1], first.values())
    wrong_second = farthest(both.values()[-1:], second.values())
    bound = room(case, start, both.values(), steps)
    makes_a_difference = farthest(second.values(), same.values())
    if makes_a_difference <= 100 * bound:  # as the other arguments are, it has nothing to show
        return None
    return Evidence(
        error=max(wrong_first, wrong_second),
        bound=bound,
        signal=makes_a_difference,
        what=f"two groups, the second with {name} = {changes[name]!r}, against one by one",
        cause=f"{name} is not read from the group that a parameter is in; if the steps of all "
        "parameters are meant to depend on each other, declare couples_parameters"
        if max(wrong_first, wrong_second) > bound
        else "",
    )
