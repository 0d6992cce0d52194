"""`check_gradient`: the engine on any function, without a suite."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.errors import (
    GradientMismatch,
    GradientWarning,
    SubjectRaised,
    Unchecked,
    UsageError,
    unknown,
)
from dlcheck.gradients.evidence import GradientEvidence
from dlcheck.gradients.examination import MODES, Examination
from dlcheck.gradients.expectations import Expectation, expectation
from dlcheck.gradients.function import Function
from dlcheck.gradients.judge import Judge
from dlcheck.gradients.low_precision import held_against_float64, is_low_precision
from dlcheck.gradients.regimes import REGIMES
from dlcheck.gradients.second_order import gradient_of
from dlcheck.gradients.trees import argument_names, named_tensors, with_tensors
from dlcheck.gradients.variables import Variable
from dlcheck.gradients.widening import widened
from dlcheck.isolation import restored_state
from dlcheck.model import NOTHING, Verdict


def check_gradient(
    f: Callable[..., Any],
    inputs: Any,
    *,
    kwargs: Mapping[str, Any] = NOTHING,
    wrt: Collection[str] | None = None,
    order: int = 1,
    expect: Any = None,
    mode: str = "full",
    regimes: Sequence[str] = (),
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
    raises: bool = True,
) -> GradientEvidence:
    """Is the gradient that backward gives the derivative of what f computes?

    f: a function, nn.Module, autograd.Function, loss or custom operator, called as f(*inputs). Of
    a module every trainable parameter is checked too; it is copied, never changed. inputs: a
    tensor, a sequence of positional arguments, or a mapping of keyword arguments; tensors may be
    nested in tuples, lists and dicts, of any shape; real or complex, dense, COO or CSR. kwargs:
    further keyword arguments. wrt: names of the tensors to differentiate, as `x`, `state[0]` or
    `linear.weight`; every floating tensor that requires a gradient unless told. order: 2 for the
    gradient of the gradient, of (x, v) → Jᵀv. expect: how the gradient is meant to differ from
    the derivative: "zero", "straight_through", "reversed", a factor, the function whose gradient
    it is, {"clip": c} or {"clip_norm": c}. mode: "full", or "lite" at half the cost, without
    other memory layouts. regimes: further points, "large", "tiny", "negative", "zeros", "ties",
    "duplicated", "odd". reference: in float32, bfloat16 or float16 the function or module that is
    certified in float64 and compared with, instead of f itself; its tensors are those of f, in the
    same order. seed: of every random choice.

    Returns evidence with verdict, certificate, miss probability and, for a failure, the wrong
    elements and the likely cause. Raises GradientMismatch with that evidence for a wrong
    gradient, unless raises is False; SubjectRaised where f itself raises; UsageError for wrong
    arguments. Warns with GradientWarning where nothing could be decided.
    Source: numerics/differences.py; gradients/judge.py.
    """
    if mode not in MODES:
        raise UsageError(unknown("mode", mode, MODES))
    if order not in (1, 2):
        raise UsageError(f"order is 1 or 2, not {order!r}")
    for regime in regimes:
        if regime not in REGIMES:
            raise UsageError(unknown("regime", regime, REGIMES))
    asked = _Asked(f, kwargs, wrt, order, expectation(expect), mode, seed, reference)
    with restored_state():
        evidence = asked.at(inputs)
        for regime in regimes:
            if evidence.verdict is not Verdict.PASSED:
                break
            evidence = asked.also(inputs, regime, evidence)
    if evidence.verdict is Verdict.FAILED and raises:
        raise GradientMismatch(str(evidence), evidence)
    if evidence.verdict is Verdict.INCONCLUSIVE:
        warnings.warn(str(evidence), GradientWarning, stacklevel=2)
    return evidence


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a caller wants to know, of whatever inputs."""

    f: Callable[..., Any]
    kwargs: Mapping[str, Any]
    wrt: Collection[str] | None
    order: int
    expected: Expectation
    mode: str
    seed: int
    reference: Callable[..., Any] | None = None

    def at(self, inputs: Any, mode: str = "") -> GradientEvidence:
        examination = self._examination(inputs, mode)
        try:
            self._differentiate_again(examination.judge)
        except Unchecked as reason:
            return examination.unchecked(str(reason))
        if is_low_precision(examination.function):
            f, kwargs = widened(self.reference or self.f), widened(dict(self.kwargs))
            wide, copies = replace(self, f=f, kwargs=kwargs), widened(inputs)
            return held_against_float64(examination, lambda: wide._set_up(copies, mode))
        try:
            return examination.run()
        finally:
            examination.function.restore()

    def _set_up(self, inputs: Any, mode: str) -> Examination:
        examination = self._examination(inputs, mode)
        self._differentiate_again(examination.judge)
        return examination

    def _differentiate_again(self, judge: Judge) -> None:
        """Put the gradient in place of the function, for the second order."""
        if self.order == 2:
            judge.function = gradient_of(judge.function, judge.generator)

    def _examination(self, inputs: Any, mode: str) -> Examination:
        function = self._bound(self.f, inputs)
        device = function.variables[0].value.device if function.variables else torch.device("cpu")
        generator = torch.Generator(device if device.type == "cuda" else "cpu")
        generator.manual_seed(self.seed)
        thoroughness = MODES[mode or self.mode]
        truth = None
        if self.expected.surrogate is not None:
            truth = self._bound(self.expected.surrogate, inputs)
        judge = Judge(
            function,
            generator,
            precise=thoroughness.precise,
            claim=self.expected.claim,
            truth=truth,
        )
        return Examination(judge, thoroughness, self.seed, self.expected)

    def also(self, inputs: Any, regime: str, before: GradientEvidence) -> GradientEvidence:
        """The evidence at another point, if it says more than the one before."""

        def moved(tensor: Tensor) -> Tensor:
            if not (tensor.is_floating_point() or tensor.is_complex()):
                return tensor
            if tensor.layout != torch.strided:
                return tensor
            return REGIMES[regime](tensor.detach()).requires_grad_(tensor.requires_grad)

        try:
            found = self.at(with_tensors(inputs, moved), mode="lite")
        except SubjectRaised as error:
            note = f"not tried where inputs are {regime}: {error}"[:160]
            return replace(before, notes=(*before.notes, note))
        note = f"also where inputs are {regime}: {found.verdict.value}"
        chosen = found if found.verdict is Verdict.FAILED else before
        return replace(
            chosen,
            forwards=before.forwards + found.forwards,
            backwards=before.backwards + found.backwards,
            notes=(*chosen.notes, note),
        )

    def _bound(self, f: Callable[..., Any], inputs: Any) -> Function:
        return bound(f, inputs, kwargs=self.kwargs, wrt=self.wrt, seed=self.seed)


def bound(
    f: Callable[..., Any],
    inputs: Any,
    *,
    kwargs: Mapping[str, Any] = NOTHING,
    wrt: Collection[str] | None = None,
    seed: int = 0,
) -> Function:
    """f with its inputs as a Function of the tensors to be differentiated."""
    call, args, keywords = _called(f, inputs, kwargs)
    names = argument_names(f.forward if isinstance(f, nn.Module) else f, args)
    named = [pair for name, value in zip(names, args, strict=True)
             for pair in named_tensors(value, name)]  # fmt: skip
    named += [pair for name, value in keywords.items() for pair in named_tensors(value, name)]
    module = _private(call) if isinstance(call, nn.Module) else None
    chosen = [_is_chosen(name, tensor, wrt) for name, tensor in named]
    variables = [
        Variable(name, tensor.detach())
        for (name, tensor), wanted in zip(named, chosen, strict=True) if wanted
    ]  # fmt: skip
    parameters = [] if module is None else _parameters(call, module, wrt)
    known = [name for name, _ in named]
    known += [name for name, _ in module.named_parameters()] if module is not None else []
    _refuse_unknown(wrt, known)

    def answer(leaves: Sequence[Tensor]) -> Any:
        given = iter(leaves)
        places = iter(chosen)

        def put(tensor: Tensor) -> Tensor:
            return next(given) if next(places) else tensor

        placed = [with_tensors(value, put) for value in args]
        further = {name: with_tensors(value, put) for name, value in keywords.items()}
        return (module or call)(*placed, **further)

    return Function(
        answer,
        tuple([*variables, *parameters]),
        buffers=() if module is None else tuple((b, b.clone()) for b in module.buffers()),
        constants=tuple(pair for pair, wanted in zip(named, chosen, strict=True) if not wanted),
        seed=seed,
        borrows=module is not None and module is call,
    )


def _called(
    f: Any, inputs: Any, kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    if inspect.isclass(f) and issubclass(f, torch.autograd.Function):
        f = f.apply
    if not callable(f):
        raise UsageError(f"f is {type(f).__qualname__}, which cannot be called")
    if isinstance(inputs, Mapping):
        return f, [], {**inputs, **kwargs}
    args = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    return f, args, dict(kwargs)


def _private(module: nn.Module) -> nn.Module:
    """A copy, so that the module that was passed in is never changed.

    One that cannot be copied, as with torch.nn.utils.weight_norm, is restored afterwards.
    """
    try:
        return copy.deepcopy(module)
    except Exception:
        return module


def _parameters(original: Any, module: nn.Module, wrt: Collection[str] | None) -> list[Variable]:
    own = dict(original.named_parameters())
    return [
        Variable(name, _value(own[name], parameter), parameter=parameter)
        for name, parameter in module.named_parameters()
        if (parameter.requires_grad if wrt is None else name in wrt)
    ]


def _value(original: Tensor, moved: Tensor) -> Tensor:
    """The value of a parameter; a copy where the parameter itself is what will be moved."""
    return original.detach().clone() if original is moved else original.detach()


def _is_chosen(name: str, tensor: Tensor, wrt: Collection[str] | None) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    return tensor.requires_grad if wrt is None else name in wrt


def _refuse_unknown(wrt: Collection[str] | None, known: Collection[str]) -> None:
    for name in [wrt] if isinstance(wrt, str) else wrt or ():
        if name not in known:
            raise UsageError(unknown("input", name, known))
