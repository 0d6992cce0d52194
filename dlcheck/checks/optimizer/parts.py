"""Tensors, groups and memory are bookkeeping: the same numbers, kept otherwise, go the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.optimizer import broken, broken_parts
from dlcheck.checks.optimizer.broken import wrong
from dlcheck.checks.optimizer.state import ACCEPTED
from dlcheck.checks.optimizer.trials import (
    STEPS,
    closest,
    farthest,
    gradients_at,
    learning_rate,
    parameters_of,
    refuses,
    started,
    warm_up,
)
from dlcheck.errors import NotApplicable, SubjectError, SubjectRaised
from dlcheck.model import Evidence, Subject, Verdict
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROUNDINGS = 64  # in what a step adds to an element
_STORED = 4  # of the element itself
_INSIDE = 4  # in the narrower type that a step is made in
_COARSE = 0.25  # of the path, that a narrow type inside may leave open


def room(
    case: Case,
    start: Sequence[Tensor],
    end: Sequence[Tensor],
    steps: int,
    inside: object = None,
) -> float:
    """How far rounding may take two runs apart; inside: the type of what a step adds, if narrower.

    A step stores its parameter, after a decay and a difference: four roundings of what stands
    there. What it adds was made in at most 64, each relative to how far a parameter went.
    """
    size = max((float(x.abs().amax()) for x in start if x.numel()), default=0.0)
    path = farthest(start, end)
    stored = unit_roundoff(case.dtype) * _STORED * (size + path)
    made = unit_roundoff(case.dtype) * _ROUNDINGS * path
    if inside:
        made += unit_roundoff(getattr(torch, str(inside))) * _INSIDE * path
    return steps * (stored + made)


def clear(case: Case, found: Evidence) -> Evidence:
    """The evidence; NotApplicable where a type narrower than float64 cannot tell such steps."""
    if found.verdict is Verdict.INCONCLUSIVE and case.dtype != torch.float64:
        raise NotApplicable(
            f"its steps are too small for {str(case.dtype).removeprefix('torch.')} to tell: "
            "judged in float64, or with a larger step size in args"
        )
    return found


def resolution(subject: Implementation) -> float:
    """What share of the path a bound may be: more where a narrow type inside rounds coarsely."""
    return _COARSE if subject.options.get("compute_dtype") else 0.01


@check(
    kind="optimizer",
    forbids={"per_tensor", "decay_matrices_only", "stochastic"},
    rejects=[
        wrong(broken_parts.NormalisesWholeTensors),
        wrong(broken_parts.SharesItsBuffer),
        wrong(broken.DividesByTheNorm),
        wrong(broken_parts.MeasuresTheFirstElement),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def splitting_parameters_changes_nothing(subject: Implementation, case: Case) -> Evidence:
    """Each parameter cut into rows, as parameters of their own, goes where the whole goes.

    The same gradients, eight steps. The bound is rounding. An optimizer whose step depends on the
    norm or the shape of a tensor (LARS, LAMB, Muon, Adafactor) declares per_tensor.
    Source: the update is a function of each element.
    """
    return clear(case, closest(lambda: _split(subject, case)))


def _split(subject: Implementation, case: Case) -> Evidence:
    start = parameters_of(case)
    whole = started(subject, case)
    parts = started(subject, case, [row for x in start for row in rows(x)])
    steps = STEPS + warm_up(subject, case)
    for turn in range(steps):
        gradients = gradients_at(case, whole.parameters, turn)
        whole.step(gradients)
        parts.step([row for g in gradients for row in rows(g)])
    expected = [row for x in whole.values() for row in rows(x)]
    return Evidence(
        error=farthest(parts.values(), expected),
        bound=room(case, start, whole.values(), steps, subject.options.get("compute_dtype")),
        resolution=resolution(subject),
        signal=farthest(whole.values(), start),
        what="parameters cut into rows against the whole ones",
        cause="the step depends on the tensor as a whole; if that is meant, declare per_tensor",
    )


def rows(x: Tensor) -> list[Tensor]:
    """The rows of a tensor, each of as many axes, the first of length 1."""
    return [*x.split(1)] if x.dim() else [x]


@check(
    kind="optimizer",
    rejects=[
        wrong(broken_parts.TakesTheFirstGroup),
        wrong(broken_parts.TakesTheLastGroup),
        wrong(broken_parts.FixesItsRate),
        wrong(broken_parts.ReadsTheDefaults),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def parameter_groups_keep_their_options(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A group with a step size of its own goes as if all groups had it, and so do the others.

    One group per parameter, the last with a third of the step size, against runs in which all
    have the one or the other; eight steps, within rounding. A step size that is written into
    `param_groups` before the first step is the one that counts, as schedulers rely on.
    Source: torch.optim, per-parameter options.
    """
    name, rate = learning_rate(subject)
    start = parameters_of(case)
    start = [*start, -0.5 * start[0]]  # two of a shape, which a buffer may take for one
    rates = [rate] * (len(start) - 1) + [rate / 3]

    def grouped(parameters: list[Any]) -> list[dict[str, Any]]:
        pairs = zip(parameters, rates, strict=True)
        return [{"params": [p], name: own} for p, own in pairs]

    try:
        together = started(subject, case, start, groups=grouped)
    except SubjectRaised as error:
        raise NotApplicable(f"takes one group only: {error}") from error
    grouped_alike = {
        own: started(subject, case, start, groups=_alike(name, own)) for own in set(rates)
    }
    reset = started(subject, case, start, groups=_alike(name, rate))
    reset.optimizer.param_groups[-1][name] = rates[-1]
    steps = STEPS + warm_up(subject, case)
    for turn in range(steps):
        gradients = gradients_at(case, together.parameters, turn)
        for run in (together, reset, *grouped_alike.values()):
            try:
                run.step(gradients)
            except SubjectRaised as error:
                if not refuses(error):
                    raise
                raise NotApplicable(f"takes one {name} for all groups: {error}") from error
    bound = room(case, start, together.values(), steps)
    signal = farthest(together.values(), start)
    full = grouped_alike[rate].values()
    yield Evidence(
        error=0.0 if farthest(full[-1:], together.values()[-1:]) > 0 else 1.0,
        bound=0.0,
        signal=1.0,
        unit="groups",
        what=f"groups for which a third of {name} makes no difference",
        cause=f"{name} is not read from the group: schedulers have no effect",
    )
    expected = [grouped_alike[own].values()[k] for k, own in enumerate(rates)]
    for what, found, cause in (
        ("a group among others against one among groups of its own options", together.values(),
         "groups share what each should have of its own"),
        ("a step size written into param_groups against one given at the start", reset.values(),
         "the step size is not read from the group: schedulers have no effect"),
    ):  # fmt: skip
        apart = farthest(found, expected)
        yield clear(case, Evidence(
            error=apart, bound=bound, signal=signal, what=what,
            cause=cause if not apart <= bound else "",
        ))  # fmt: skip


def _alike(name: str, rate: float) -> Callable[[list[Any]], list[dict[str, Any]]]:
    """One group for each parameter, all with the same step size."""
    return lambda parameters: [{"params": [p], name: rate} for p in parameters]


@check(
    kind="optimizer",
    forbids={"stochastic"},
    rejects=[
        wrong(broken_parts.ReadsMemoryInOrder),
        wrong(broken_parts.KeepsItsBufferContiguous),
        wrong(broken_parts.FillsByStorage),
        wrong(broken_parts.ReadsTheGradientFlat),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def memory_of_parameters_does_not_matter(subject: Implementation, case: Case) -> Evidence:
    """Parameters that lie transposed in memory go where contiguous ones go.

    The gradients lie once like the parameter and once contiguous. Eight steps; the bound is
    rounding. Source: a tensor is its elements, not its strides.
    """
    start = parameters_of(case)
    if all(x.dim() < 2 or min(x.shape) < 2 for x in start):
        raise NotApplicable("has no parameter of two axes")
    plain = started(subject, case)
    turned = [x.mT.contiguous().mT if x.dim() > 1 else x for x in start]
    run = started(subject, case, start)
    for parameter, value in zip(run.parameters, turned, strict=True):
        parameter.data = value.clone(memory_format=torch.preserve_format)
    steps = STEPS + warm_up(subject, case)
    for turn in range(steps):
        gradients = gradients_at(case, plain.parameters, turn)
        plain.step(gradients)
        lying = [g.mT.contiguous().mT if g.dim() > 1 else g for g in gradients]
        run.step(lying if turn % 2 else gradients)
    return clear(
        case,
        Evidence(
            error=farthest(run.values(), plain.values()),
            bound=room(case, start, plain.values(), steps, subject.options.get("compute_dtype")),
            resolution=resolution(subject),
            signal=farthest(plain.values(), start),
            what="parameters that lie transposed against contiguous ones",
            cause="elements are read in the order of memory",
        ),
    )


_PATHS = {"paths": ["foreach", "fused"]}


@check(
    kind="optimizer",
    options={"paths": True},
    rejects=[
        wrong(broken_parts.ForeachForgetsTheDecay, paths=["foreach"], args={"weight_decay": 0.1}),
        wrong(broken_parts.ForeachAddsItsMomentum, paths=["foreach"]),
        wrong(broken_parts.ForeachMixesParameters, paths=["foreach"]),
        wrong(broken_parts.ForeachSkipsTheLast, paths=["foreach"]),
    ],
    accepts=[
        Subject(name="torch_adam", target="torch.optim:Adam", kind="optimizer",
                args={"weight_decay": 0.1}, options=_PATHS),
        Subject(name="torch_sgd", target="torch.optim:SGD", kind="optimizer",
                args={"lr": 0.1, "momentum": 0.9}, options=_PATHS),
    ],
    dtypes=["float64", "float32"],
    once=True,
)  # fmt: skip
def paths_of_an_optimizer_agree(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The arguments of `options.paths`, switched, change the speed and not where parameters go.

    Eight steps each way (foreach, fused, capturable); the bound is rounding. What the
    device does not offer is left out. Source: torch.optim, the three implementations.
    """
    stated = subject.options["paths"]
    start = parameters_of(case)
    steps = STEPS + warm_up(subject, case)
    judged = 0
    for name in [stated] if isinstance(stated, str) else stated:
        runs = []
        for value in (False, True):
            given: dict[str, Any] = {name: value}
            try:
                runs.append(started(subject, case, **given).steps(steps))
            except SubjectError:
                break
        if len(runs) < 2:
            continue
        judged += 1
        yield clear(
            case,
            Evidence(
                error=farthest(runs[0].values(), runs[1].values()),
                bound=room(case, start, runs[0].values(), steps),
                signal=farthest(runs[0].values(), start),
                what=f"parameters with {name} = True against {name} = False",
            ),
        )
    if not judged:
        raise NotApplicable(f"none of {stated} can be switched here")
