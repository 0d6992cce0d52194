"""Both sides of a benchmark as they are timed: the same inputs, the same parameters, bare calls."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.arrangement import arranged, through_methods
from dlcheck.checks.every.twin import paired_names, reference_of
from dlcheck.domains import Dim, Input
from dlcheck.errors import SubjectError, UsageError, unknown
from dlcheck.measure.footprint import ran_out_of_memory
from dlcheck.model import PROFILES, BenchmarkTrial, Recipe, Subject
from dlcheck.strategies import Case, dim_names, materialize
from dlcheck.subjects import Implementation, build, one_shot, tensors_in
from dlcheck.taken import inputs_of
from dlcheck.validation import inferred_kind

_COPIES = 12  # of the inputs in float64 that a measurement may hold at one time

Work = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Contest:
    """The subject and, where there is one, what it is timed against, at one point."""

    case: Case
    subject: Implementation
    against: Implementation | None
    arguments: tuple[Any, ...]  # of a call: shared by both
    backward: bool
    given: bool = False  # the inputs are the caller's own tensors

    @property
    def leaves(self) -> list[Tensor]:
        """The inputs in memory: what `refill` overwrites."""
        return list(tensors_in(self.arguments))

    def work(self, made: Implementation) -> Work:
        """What is timed of one side: the call, and with `backward` its gradients.

        No guard and no look at the answer stands between the clock and the code.
        """
        call = bare(made)
        if not self.backward:
            return call
        leaves = [x for x in self.leaves if x.requires_grad]
        leaves += made.parameters.values()
        outputs = [y for y in tensors_in(call(*self.arguments)) if y.requires_grad]
        incoming = [torch.ones_like(y) for y in outputs]

        def with_gradients(*inputs: Any) -> Any:
            found = [y for y in tensors_in(call(*inputs)) if y.requires_grad]
            return torch.autograd.grad(found, leaves, incoming, allow_unused=True)

        return with_gradients

    def refill(self, round_: int) -> None:
        """Other values in the same memory; round 0 puts back those of the case."""
        if self.given:
            others = {name: _rolled(x, round_) for name, x in self.case.inputs.items()}
        else:
            recipe = replace(self.case.recipe, seed=self.case.recipe.seed + round_)
            others = materialize(recipe, self.case.specs, self.case.device, self.case.dtype)
        with torch.no_grad():
            for old, new in zip(self.leaves, others.values(), strict=True):
                old.copy_(new)


def prepare(trial: BenchmarkTrial, tensors: Mapping[str, Tensor] | None = None) -> Contest:
    """Build both sides on the inputs of a trial, or on the caller's own tensors.

    Raises UsageError for sizes that do not fit, SubjectRaised where building raises.
    """
    device, dtype = torch.device(trial.device), getattr(torch, trial.dtype)
    trial = replace(trial, subject=_with_kind(trial.subject))
    specs = (
        {name: described(x) for name, x in tensors.items()} if tensors else inputs_of(trial.subject)
    )
    _refuse_wrong_sizes(trial, specs)
    recipe = Recipe(
        sizes=dict(trial.sizes),
        regimes=dict.fromkeys(specs, "normal"),
        layouts=dict.fromkeys(specs, "contiguous"),
        seed=trial.seed,
    )
    inputs = tensors or _made(trial, recipe, specs)
    case = Case(
        recipe=recipe,
        specs=specs,
        inputs={name: x.detach() for name, x in inputs.items()},
        device=device,
        dtype=dtype,
        profile=PROFILES[trial.profile],
    )
    declared = trial.subject
    subject = build(declared, trial.sizes, device, dtype, trial.seed)
    against = None
    if declared.reference is not None:
        against = _built_reference(subject, case, trial)
        _share_parameters(subject, against)
    for made in (subject, against):
        if made is not None and made.module is not None and not trial.plan.backward:
            made.module.eval()
    wanted = case.floating if trial.plan.backward else ()
    own = tuple(x.clone().requires_grad_(name in wanted) for name, x in case.inputs.items())
    arguments = arranged(subject.kind, subject.declared, own, {})
    return Contest(case, subject, against, arguments, trial.plan.backward, tensors is not None)


def _made(
    trial: BenchmarkTrial, recipe: Recipe, specs: Mapping[str, Input]
) -> Mapping[str, Tensor]:
    try:
        return materialize(recipe, specs, torch.device(trial.device), getattr(torch, trial.dtype))
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        raise UsageError(
            f"benchmark {trial.plan.name!r}: its inputs do not fit into the memory of "
            f"{trial.device}; give smaller sizes"
        ) from error


def _built_reference(subject: Implementation, case: Case, trial: BenchmarkTrial) -> Implementation:
    try:
        return reference_of(subject, case, case.dtype)
    except SubjectError as error:
        raise UsageError(
            f"benchmark {trial.plan.name!r}: what it is timed against cannot be built: {error}"
        ) from error


def _with_kind(subject: Subject) -> Subject:
    """What stands for no role in training is an operation."""
    if subject.kind:
        return subject
    return replace(subject, kind=inferred_kind(subject.target, near=subject.file) or "op")


def bare(made: Implementation) -> Work:
    """The subject's own call, without our guard around it."""
    if made.follows_its_methods:
        return functools.partial(through_methods(made.kind), made.target)
    work: Work = one_shot(made.target) if made.is_streaming else made.target
    return work


def _share_parameters(subject: Implementation, against: Implementation) -> None:
    """One memory for both: the same code on parameters of its own differs by ten percent."""
    if subject.module is None or against.module is None:
        return
    ours = {**dict(subject.module.named_parameters()), **dict(subject.module.named_buffers())}
    theirs = {**dict(against.module.named_parameters()), **dict(against.module.named_buffers())}
    for name, own in paired_names(subject, against).items():
        if name in theirs and own in ours and _alike(theirs[name], ours[own]):
            theirs[name].data = ours[own].data


def _alike(a: Tensor, b: Tensor) -> bool:
    return (a.shape, a.dtype, a.device, a.stride()) == (b.shape, b.dtype, b.device, b.stride())


def _refuse_wrong_sizes(trial: BenchmarkTrial, specs: Mapping[str, Input]) -> None:
    names = dim_names(trial.subject, specs)
    for name, size in trial.sizes.items():
        if name not in names:
            known = unknown("dim of the inputs", name, names)
            raise UsageError(f"sizes of {trial.plan.name!r}: {known}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UsageError(f"the size of {name} is a whole number from 1 on, not {size!r}")
    if missing := [name for name in names if name not in trial.sizes]:
        raise UsageError(
            f"benchmark {trial.plan.name!r}: dim {missing[0]!r} of its inputs has no size; give "
            f"sizes = {{ {', '.join(f'{name} = 64' for name in missing)} }}, or sweep over it"
        )
    elements = sum(math.prod(spec.shape(trial.sizes)) for spec in specs.values())
    if (needed := 8 * _COPIES * elements) > (there := _free_memory()):
        sizes = ", ".join(f"{name} = {size}" for name, size in trial.sizes.items())
        raise UsageError(
            f"benchmark {trial.plan.name!r} at {sizes} needs about {needed / 2**30:.3g} GiB to be "
            f"measured and checked; {there / 2**30:.3g} GiB are there: give smaller sizes"
        )


def _free_memory() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return math.inf


def described(tensor: Tensor) -> Input:
    """The input that a tensor is one of."""
    dims = tuple(Dim("", size) for size in tensor.shape)
    if tensor.dtype == torch.bool:
        return Input("bool", dims)
    if tensor.is_floating_point():
        return Input("float", dims)
    ends = (float(tensor.min()), float(tensor.max()) + 1) if tensor.numel() else (0.0, 1.0)
    return Input("int", dims, low=ends[0], high=ends[1])


def _rolled(tensor: Tensor, by: int) -> Tensor:
    return tensor.roll(by, 0) if tensor.dim() else tensor
