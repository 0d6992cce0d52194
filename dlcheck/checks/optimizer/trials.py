"""An optimizer at work: parameters, given gradients, steps, and where the parameters went.

Gradients are given, not computed, so that two runs that are to agree see the same ones. They are
drawn from streams of the case: of the size of 1, with elements that change their sign and some
that are 0, and a trend, so that averages over time matter.
"""

from __future__ import annotations

import contextlib
import linecache
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.errors import NotApplicable, SubjectError, SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Verdict
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded

STEPS = 8
_PATIENCE = 32  # steps that an optimizer may take before the first of its parameters moves
Groups = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Run:
    """An optimizer over copies of the case's parameters, and what it is fed."""

    subject: Implementation
    case: Case
    parameters: list[nn.Parameter]
    optimizer: Any
    shown: int = 0  # steps so far
    path: list[list[Tensor]] = field(default_factory=list)  # parameters after each step

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """One update with these gradients, one for each parameter; None is no gradient."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else self._in_form(gradient.to(parameter))
        take_step(self.subject, self.optimizer, self.parameters, self.shown)
        self.shown += 1
        self.path.append([p.detach().clone() for p in self.parameters])

    def _in_form(self, gradient: Tensor) -> Tensor:
        """A private copy, sparse where the optimizer is declared to take sparse ones."""
        if "sparse_gradient" in self.subject.traits and gradient.dim() > 1:
            return gradient.to_sparse(1)
        return gradient.clone()

    def steps(self, count: int, salt: str = "gradients", scale: float = 1.0) -> Run:
        """Several updates with the case's gradients; returns itself."""
        for turn in range(self.shown, self.shown + count):
            self.step([g * scale for g in gradients_at(self.case, self.parameters, turn, salt)])
        return self

    def values(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.parameters]


def take_step(
    subject: Implementation, optimizer: Any, parameters: Sequence[Tensor], turn: int = 0
) -> Any:
    """optimizer.step(), with a closure where that is needed; what it returns.

    turn: how many there were before; a stochastic one draws anew in each.
    """
    seed_everything(turn)
    if "needs_closure" not in subject.traits:
        try:
            return guarded(optimizer.step)
        except SubjectRaised as error:
            if isinstance(error.__cause__, TypeError) and "closure" in str(error.__cause__):
                raise SubjectError(
                    f"{subject.declared.name}.step() wants a closure ({error.__cause__}): declare "
                    "the trait needs_closure"
                ) from error
            raise
    kept = [None if p.grad is None else p.grad.detach().clone() for p in parameters]

    def closure() -> Tensor:
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        total = torch.zeros((), dtype=torch.float64)
        for parameter, gradient in zip(parameters, kept, strict=True):
            if gradient is not None:
                total = total + (parameter.detach() * gradient).sum().double()
        return total

    return guarded(optimizer.step, closure)


_SLIPS = (LookupError, AttributeError, TypeError, ArithmeticError, AssertionError)


def refuses(error: SubjectRaised) -> bool:
    """Did the subject refuse in so many words, by a raise of its own that is no slip?"""
    cause = error.__cause__
    trace = cause.__traceback__ if cause is not None else None
    if trace is None or isinstance(cause, _SLIPS):
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    return line.strip().startswith("raise ")


def warm_up(subject: Implementation, case: Case) -> int:
    """How many steps it takes without moving anything: 0 for most, by design more for some.

    RAdam waits until its variance is tractable, AdaShift until its queue is full. 0 as well where
    nothing moves in 32 steps.
    """
    run = started(subject, case)
    start = run.values()
    for waited in range(_PATIENCE):
        run.steps(1)
        if farthest(run.values(), start) != 0:
            return waited
    return 0


def parameters_of(case: Case) -> list[Tensor]:
    """The case's parameters; those of the domain that are real numbers."""
    found = [x.detach() for n, x in zip(case.inputs, case.fresh(), strict=True)
             if n in case.floating]  # fmt: skip
    if not found or not any(x.numel() for x in found):
        raise NotApplicable("has no parameter; declare inputs, the shapes of parameters")
    return found


def started(
    subject: Implementation,
    case: Case,
    values: Sequence[Tensor] | None = None,
    groups: Callable[[list[nn.Parameter]], Any] | None = None,
    **changes: Any,
) -> Run:
    """A new run: the optimizer built over private copies of the parameters.

    values: where they start, the case's unless told; groups: what the optimizer is given, the list
    unless told; changes: arguments to build it with.
    """
    start = parameters_of(case) if values is None else values
    parameters = [nn.Parameter(x.detach().clone()) for x in start]
    made = built(subject, case, parameters if groups is None else groups(parameters), **changes)
    return Run(subject, case, parameters, made)


def built(subject: Implementation, case: Case, given: Any, **changes: Any) -> Any:
    """The optimizer over what it is given, with some arguments changed."""
    seed_everything(case.recipe.seed)
    factory = subject.rebuilt(**changes).target if changes else subject.target
    optimizer = guarded(factory, _in_the_form_taken(subject, given))
    if not hasattr(optimizer, "step") or not hasattr(optimizer, "param_groups"):
        raise SubjectError(
            f"{subject.declared.name} was built as {type(optimizer).__qualname__}, which has no "
            f"step() or no param_groups; an optimizer is called {subject.kind.call} and is a "
            "torch.optim.Optimizer"
        )
    if "modes" in subject.traits:
        guarded(optimizer.train)
    return optimizer


def _in_the_form_taken(subject: Implementation, given: Any) -> Any:
    """The parameters as `options.takes` says: a list, named parameters, or a module."""
    takes = subject.options.get("takes", "list")
    is_grouped = bool(given) and isinstance(given[0], Mapping)
    if takes == "named_parameters":
        if is_grouped:
            return [{**g, "params": _named(g["params"], k)} for k, g in enumerate(given)]
        return _named(given, 0)
    if takes == "module":
        if is_grouped:
            raise NotApplicable("takes a module, which has no groups")
        return nn.ParameterList(given)
    return given


def _named(parameters: Sequence[Tensor], group: int) -> list[tuple[str, Tensor]]:
    return [(f"group{group}.parameter{k}", p) for k, p in enumerate(parameters)]


def gradients_at(
    case: Case, parameters: Sequence[Tensor], turn: int, salt: str = "gradients"
) -> list[Tensor]:
    """The gradients of a step: normal, on a trend of their own element, one in ten 0."""
    found = []
    for place, parameter in enumerate(parameters):
        trend = _normal(case, parameter, f"{salt} trend {place}")
        noise = _normal(case, parameter, f"{salt} {place} {turn}")
        u = torch.rand(parameter.shape, generator=case.generator(f"{salt} zero {place} {turn}"))
        gradient = (0.7 * trend + noise).masked_fill(u < 0.1, 0.0)
        found.append(gradient.to(device=parameter.device, dtype=parameter.dtype))
    return found


def _normal(case: Case, like: Tensor, salt: str) -> Tensor:
    return torch.randn(like.shape, generator=case.generator(salt), dtype=torch.float64)


def accepts(subject: Implementation, argument: str) -> bool:
    """Is there a constructor argument of that name?"""
    try:
        subject.value_of(argument)
    except SubjectError:
        return False
    return True


def learning_rate(subject: Implementation) -> tuple[str, float]:
    """Name and value of the step size: `options.lr`, or lr. Raises NotApplicable without one."""
    name = str(subject.options.get("lr", "lr"))
    try:
        value = subject.value_of(name)
    except SubjectError:
        raise NotApplicable("has no step size; options.lr names its argument") from None
    if not isinstance(value, (int, float, Tensor)):
        raise NotApplicable(f"{name} = {value!r} is no step size; give one in args")
    return name, float(value)


@contextlib.contextmanager
def counting_in_float64() -> Iterator[None]:
    """float64 as the default type: that of the counters and products that optimizers keep.

    torch keeps them in the default type, float32, also beside parameters of float64.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def closest(measure: Callable[[], Evidence]) -> Evidence:
    """What is measured; where it fails, once more with float64 as the default type."""
    found = measure()
    if found.verdict is not Verdict.FAILED:
        return found
    with contextlib.suppress(SubjectError), counting_in_float64():
        again = measure()
        return again if again.verdict is Verdict.PASSED else found
    return found


def farthest(one: Sequence[Tensor], two: Sequence[Tensor]) -> float:
    """The largest difference of two lists of tensors; NaN where one is not finite."""
    worst = 0.0
    for a, b in zip(one, two, strict=True):
        if a.numel():
            found = float((a.double() - b.double()).abs().amax())
            worst = max(worst, found) if found == found else math.nan
            if worst != worst:
                return worst
    return worst


def moved(run: Run, start: Sequence[Tensor]) -> float:
    """How far the parameters went at most."""
    return farthest(run.values(), start)
