"""A backward changes nothing, and so can be repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.mutants import around, on_tensors, through_backward
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded, tensors_in


class _Scratch(torch.autograd.Function):
    """The identity, whose backward uses what it saved as scratch memory."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        ctx.factor = torch.ones_like(y)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        answer: Tensor = ctx.factor * gradients[0]
        ctx.factor.mul_(0.5)
        return answer


class _Accumulating(torch.autograd.Function):
    """The identity, whose backward adds to the buffer of the backward before."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        ctx.total = torch.zeros_like(y)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        ctx.total += gradients[0]
        total: Tensor = ctx.total.clone()
        return total


def _if_differentiable(y: Tensor, function: Any) -> Tensor:
    return function.apply(y) if y.requires_grad else y


@around
def overwrites_what_it_saved(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: _if_differentiable(y, _Scratch))


@around
def adds_to_the_last_backward(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: _if_differentiable(y, _Accumulating))


@around
def overwrites_the_incoming_gradient(original: Any, *inputs: Any, **keywords: Any) -> Any:
    answer = original(*inputs, **keywords)
    return on_tensors(answer, lambda y: through_backward(y, lambda g: g.mul_(2)))


@around
def overwrites_its_input_in_the_backward(original: Any, *inputs: Any, **keywords: Any) -> Any:
    first = inputs[0][0] if isinstance(inputs[0], (list, tuple)) else inputs[0]

    def change(gradient: Tensor) -> Tensor:
        first.data.zero_()  # past autograd's version counter, as a kernel writes
        return gradient

    return on_tensors(original(*inputs, **keywords), lambda y: through_backward(y, change))


@check(
    kind="tensors",
    forbids={"nondifferentiable", "in_place"},
    rejects=[
        overwrites_what_it_saved,
        adds_to_the_last_backward,
        overwrites_the_incoming_gradient,
        overwrites_its_input_in_the_backward,
    ],
)
def backward_can_repeat(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Two backwards through one forward agree, and change no input, parameter or cotangent.

    The second follows `retain_graph=True`. The bound of their difference is 4 × the spread over
    three independent forwards and backwards: 0 where the device repeats exactly.
    """
    inputs = case.fresh(requires_grad=case.floating)
    leaves = [x for x in inputs if x.requires_grad] + list(subject.parameters.values())
    outputs = _differentiable(subject, case, inputs)
    if not outputs or not leaves:
        raise NotApplicable("no output has a gradient")
    generator = case.generator("cotangents")
    cotangents = [_normal(y, generator) for y in outputs]
    held = [*inputs, *subject.parameters.values(), *cotangents]
    before = [tensor.detach().clone() for tensor in held]
    first = _backward(outputs, leaves, cotangents)
    changed = _changed(held, before)
    second = _backward(outputs, leaves, cotangents)
    names = [*case.inputs, *subject.parameters, *(f"cotangent {i}" for i in range(len(outputs)))]
    yield Evidence(
        error=float(sum(changed)),
        bound=0.0,
        signal=float(sum(tensor.numel() for tensor in held)),
        unit="elements",
        what="elements that a backward changed",
        where=", ".join(name for name, count in zip(names, changed, strict=True) if count),
    )
    if first.numel() and not sum(changed):
        spread = 0.0 if torch.equal(first, second) else _spread(subject, case, cotangents)
        yield Evidence(
            error=_distance(first, second),
            bound=4 * spread,
            signal=float(first.nan_to_num(0, 0, 0).abs().amax()),
            what="difference of two backwards through one forward",
        )


def _differentiable(subject: Implementation, case: Case, inputs: Sequence[Tensor]) -> list[Tensor]:
    seed_everything(case.recipe.seed)
    outputs = [y for y in tensors_in(subject(*inputs)) if y.requires_grad and y.numel()]
    # An output that is an input itself has no backward of its own.
    return [y for y in outputs if y.grad_fn is not None]


def _normal(y: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.detach())


def _backward(
    outputs: Sequence[Tensor], leaves: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> Tensor:
    """The gradients of all leaves, one after the other; 0 where none arrives."""
    found = guarded(
        torch.autograd.grad,
        list(outputs),
        list(leaves),
        list(cotangents),
        retain_graph=True,
        allow_unused=True,
    )
    pairs = zip(leaves, found, strict=True)
    parts = [torch.zeros_like(x) if g is None else g.detach() for x, g in pairs]
    return torch.cat([part.reshape(-1).clone() for part in parts])


def _changed(held: Sequence[Tensor], before: Sequence[Tensor]) -> list[int]:
    return [
        int(((new != old) & ((new == new) | (old == old))).sum())
        for new, old in zip(held, before, strict=True)
    ]


def _spread(subject: Implementation, case: Case, cotangents: Sequence[Tensor]) -> float:
    """How far apart the gradients of independent forwards are, from run to run."""
    runs = []
    for _ in range(3):
        inputs = case.fresh(requires_grad=case.floating)
        leaves = [x for x in inputs if x.requires_grad] + list(subject.parameters.values())
        fresh = [v.clone() for v in cotangents]
        runs.append(_backward(_differentiable(subject, case, inputs), leaves, fresh))
    return max(_distance(runs[0], run) for run in runs[1:])


def _distance(one: Tensor, two: Tensor) -> float:
    """The largest difference; NaN against NaN counts as 0."""
    both = (one != one) & (two != two) | (one == two)
    return float(torch.where(both, 0.0, one - two).abs().amax()) if one.numel() else 0.0
