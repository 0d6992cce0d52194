"""A declaration made real: the subject built on a device, and called as its kind says.

Every call into foreign code passes through here, so that an exception of the subject is told
from one of ours, and what it returns is held against its kind's contract.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dlcheck.arrangement import arranged, has_methods, through_methods
from dlcheck.constructors import Remade as Remade
from dlcheck.constructors import default_of as default_of
from dlcheck.domains import resolve_args
from dlcheck.errors import DeclarationError, SubjectError
from dlcheck.isolation import guarded as guarded
from dlcheck.isolation import seed_everything
from dlcheck.lanes import not_run, why_no_lane
from dlcheck.model import NOTHING, Kind, Subject
from dlcheck.regimes import make_values
from dlcheck.registry import catalogue
from dlcheck.taken import inputs_of
from dlcheck.targets import load_target


@dataclass(slots=True)
class Implementation:
    """The subject, built for one case: what checks call.

    `target` is the module, the function with its arguments fixed, or the factory. Calls raise
    SubjectRaised where the subject raises.
    """

    declared: Subject
    kind: Kind
    target: Any
    device: torch.device
    dtype: torch.dtype
    args: Mapping[str, Any] = field(default_factory=lambda: NOTHING)

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """The subject's own answer, whatever it is; a streaming metric is updated and read."""
        if self.follows_its_methods:
            return guarded(through_methods(self.kind), self.target, *inputs, **keywords)
        if not self.is_streaming:
            inputs = arranged(self.kind, self.declared, inputs, keywords)
            answer = guarded(self.target, *inputs, **keywords)
            if self.kind.returns_tensors and "in_place" not in self.traits:
                self._hold_to_tensors(answer)
            return answer
        guarded(self.target.reset)
        guarded(self.target.update, *inputs, **keywords)
        return guarded(self.target.compute)

    def tensors(self, *inputs: Any, **keywords: Any) -> tuple[Tensor, ...]:
        """The tensors of the answer, in order, through tuples, lists and dicts."""
        answer = self(*inputs, **keywords)
        self._hold_to_tensors(answer)
        return tuple(tensors_in(answer))

    def _hold_to_tensors(self, answer: Any) -> None:
        if next(tensors_in(answer), None) is None:
            raise SubjectError(self._broken_contract(answer, "tensor(s)"))

    def tensor(self, *inputs: Any, **keywords: Any) -> Tensor:
        """The answer, where the kind's contract is one tensor."""
        answer = self(*inputs, **keywords)
        if not isinstance(answer, Tensor):
            raise SubjectError(self._broken_contract(answer, "a tensor"))
        return answer

    def number(self, *inputs: Any, **keywords: Any) -> float:
        """The answer, where the kind's contract is one number."""
        return self.as_number(self(*inputs, **keywords))

    def as_number(self, answer: Any) -> float:
        """An answer as one number: of several, as a mean with its deviation, the first."""
        numbers = tuple(answer.values()) if isinstance(answer, Mapping) else answer
        several = isinstance(numbers, (tuple, list)) and len(numbers) > 0
        first: Any = numbers[0] if several else numbers
        try:
            return float(first)
        except (TypeError, ValueError, RuntimeError):
            raise SubjectError(self._broken_contract(answer, "one number")) from None

    def _broken_contract(self, answer: object, wanted: str) -> str:
        shape = ""
        with contextlib.suppress(Exception):  # a foreign object may raise whatever it is asked
            shape = f" of shape {tuple(answer.shape)}"  # type: ignore[attr-defined]
        return (
            f"{self.declared.name} returned {type(answer).__module__}."
            f"{type(answer).__qualname__}{shape}; a subject of kind {self.kind.name!r}, called "
            f"{self.kind.call}, must return {wanted}"
        )

    @property
    def is_streaming(self) -> bool:
        """Does it follow the protocol update, compute, reset?"""
        return self.kind.name.endswith("_metric") and streams(self.target)

    @property
    def follows_its_methods(self) -> bool:
        """Is it an object with the methods of its kind, instead of a function?"""
        return has_methods(self.target, self.kind)

    @property
    def module(self) -> nn.Module | None:
        return self.target if isinstance(self.target, nn.Module) else None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name; none for a function."""
        if self.module is None:
            return {}
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    @property
    def options(self) -> Mapping[str, Any]:
        return self.declared.options

    @property
    def traits(self) -> frozenset[str]:
        return self.declared.traits

    def argument(self, option: str, default: Any = None) -> Any:
        """An option that may be a value or the name of the argument that holds it.

        `strength = "lam"` gives the value of the constructor argument `lam`; `strength = 0.1`
        gives 0.1.
        """
        value = self.options.get(option, default)
        return self.value_of(value, f"option {option}") if isinstance(value, str) else value

    def value_of(self, argument: str, wanted_by: str = "an option") -> Any:
        """What a constructor argument is set to: as given, else its default."""
        if argument in self.args:
            return self.args[argument]
        given = default_of(self.declared, argument)
        if given is inspect.Parameter.empty:
            raise SubjectError(
                f"{wanted_by} names {argument!r}, an argument that {self.declared.name} does "
                "not take, or that has no default and is not given"
            )
        return given

    def rebuilt(self, **changes: Any) -> Implementation:
        """The same subject with some arguments changed."""
        subject = replace_args(self.declared, {**self.args, **changes})
        return build(subject, NOTHING, self.device, self.dtype, seed=0)


def streams(target: object) -> bool:
    """Has it update, compute and reset?"""
    return all(callable(getattr(target, name, None)) for name in ("update", "compute", "reset"))


def one_shot(metric: Any) -> Callable[..., Any]:
    """A streaming metric as a function: reset, updated once with everything, read."""

    def call(*inputs: Any, **keywords: Any) -> Any:
        metric.reset()
        metric.update(*inputs, **keywords)
        return metric.compute()

    return call


def gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> list[Tensor | None]:
    """Jᵀv by one backward; None for an input that the outputs do not depend on.

    outputs, cotangents: tensors of equal shapes; inputs: leaves that require a gradient. Raises
    SubjectRaised where the backward raises.
    """
    live = [(y, v) for y, v in zip(outputs, cotangents, strict=True) if y.requires_grad]
    if not live:
        return [None] * len(inputs)
    ys, vs = zip(*live, strict=True)
    found = guarded(torch.autograd.grad, ys, list(inputs), vs, allow_unused=True)
    return list(found)


_DEEP = 50  # levels of an answer


def tensors_in(value: Any, depth: int = 0) -> Iterator[Tensor]:
    """The tensors of nested tuples, lists and dicts, in order.

    Raises SubjectError where they are nested without end.
    """
    if issubclass(type(value), Tensor):  # isinstance would believe what the value says of itself
        yield value
        return
    if not isinstance(value, (Mapping, tuple, list)):
        return
    if depth > _DEEP:
        raise SubjectError(f"its answer is nested deeper than {_DEEP} levels, or holds itself")
    for part in value.values() if isinstance(value, Mapping) else value:
        yield from tensors_in(part, depth + 1)


def build(
    subject: Subject,
    sizes: Mapping[str, int],
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
) -> Implementation:
    """Make the subject: import it, construct it with its arguments, put it on the device.

    sizes fills the arguments given as `{ dim = "d" }`. The global generators are seeded with
    `seed` first, so that the parameters repeat. Raises TargetError where the import path does
    not resolve and SubjectRaised where the construction raises.
    """
    kind = catalogue().kind(subject.kind)
    no_lane = why_no_lane(subject, device.type, str(dtype).removeprefix("torch."))
    target = None if no_lane else load_target(subject.target, near=subject.file)
    args = resolve_args(subject.args, sizes)
    seed_everything(seed)
    if kind.form != "module" and inspect.isroutine(target):
        args = {name: _in_its_type(value, device, dtype) for name, value in args.items()}
    made = not_run(no_lane) if no_lane else _make(kind, target, args)
    if isinstance(made, nn.Module):
        guarded(made.to, device=device, dtype=dtype)
    if not callable(made) and not hasattr(made, "update") and not has_methods(made, kind):
        raise SubjectError(
            f"{subject.name} was built as {type(made).__qualname__}, which cannot be called; "
            f"a subject of kind {kind.name!r} is called {kind.call}"
        )
    built = Implementation(
        declared=subject, kind=kind, target=made, device=device, dtype=dtype, args=args
    )
    if isinstance(made, nn.Module) and any(map(is_lazy, (*made.parameters(), *made.buffers()))):
        _show_its_inputs(built, made, sizes, seed)
    return built


def _show_its_inputs(
    built: Implementation, module: nn.Module, sizes: Mapping[str, int], seed: int
) -> None:
    """Call a lazy module once, in evaluation: its parameters take their shapes from its inputs."""
    specs = inputs_of(built.declared)
    if not all(dim.name in sizes for spec in specs.values() for dim in spec.dims if dim.name):
        return  # the first call of its user shows them
    generator = torch.Generator().manual_seed(seed)
    values = [make_values(spec, sizes, "normal", generator) for spec in specs.values()]
    was_training = module.training
    guarded(module.eval)
    with torch.no_grad():
        built(*(_in_its_type(x, built.device, built.dtype) for x in values))
    guarded(module.train, was_training)


def _make(kind: Kind, target: Any, args: Mapping[str, Any]) -> Any:
    if isinstance(target, Remade):
        inner = load_target(target.original.target, near=target.original.file)
        return guarded(target.change, _make(kind, inner, args))
    is_object = not inspect.isclass(target) and has_methods(target, kind)
    if args and (isinstance(target, nn.Module) or is_object):
        raise DeclarationError(
            f"this {type(target).__name__} is built already, so its arguments "
            f"{', '.join(args)} cannot be given; pass the class instead of an instance"
        )
    if isinstance(target, nn.Module) or is_object:
        return guarded(copy.deepcopy, target)
    if inspect.isclass(target) and issubclass(target, torch.autograd.Function):
        return functools.partial(target.apply, **args) if args else target.apply
    if kind.form == "factory":
        return functools.partial(target, **args) if args else target
    if inspect.isclass(target) or kind.form == "module":
        return guarded(target, **args)
    if not inspect.isroutine(target) and not isinstance(target, functools.partial) and not args:
        return guarded(copy.deepcopy, target) if hasattr(target, "update") else target
    return functools.partial(target, **args) if args else target


def _in_its_type(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A tensor among the arguments of a function, as `Module.to` leaves the tensors of a module."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(device, dtype if value.is_floating_point() else value.dtype)


def replace_args(subject: Subject, args: Mapping[str, Any]) -> Subject:
    """The same subject with other constructor arguments."""
    return dataclasses.replace(subject, args=dict(args))


def scatter_parameters(made: Implementation, seed: int) -> None:
    """Move constant parameters off their constant, in place.

    A weight of 1 or a bias of 0 hides a missing factor or term: every parameter whose elements
    are all equal gets c + ¼ max(|c|, 1) z, z standard normal. Values that training could reach.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters.values():
            if parameter.numel() and bool((parameter == parameter.flatten()[0]).all()):
                z = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                scale = 0.25 * max(abs(float(parameter.flatten()[0])), 1.0)
                parameter.add_((scale * z).to(parameter))
