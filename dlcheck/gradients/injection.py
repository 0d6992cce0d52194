"""A bug put into the backward of any function.

The function is wrapped as a whole: its forward is kept, and its backward, which has the gradient
of every tensor, the incoming gradient and the calls before it at hand, is broken as a person
would break it. So a bug needs no knowledge of the function that it goes into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.gradients.function import Function, accumulated, wants_accumulation
from dlcheck.gradients.trees import named_tensors
from dlcheck.gradients.variables import dense

Gradients = list[Tensor | None]


@dataclass(slots=True)
class Call:
    """One forward with its graph: the leaves, the outputs that require a gradient, and which."""

    leaves: list[Tensor]
    outputs: list[Tensor]
    connected: list[bool]  # of all floating outputs
    former: Gradients | None = None  # what its last backward gave

    def pull(self, cotangents: Sequence[Tensor]) -> Gradients:
        """Jᵀv, as it should be. cotangents: one per floating output."""
        vs = [v for v, used in zip(cotangents, self.connected, strict=True) if used]
        how = {"allow_unused": True, "retain_graph": True}
        try:
            return list(torch.autograd.grad(self.outputs, self.leaves, vs, **how))
        except RuntimeError as error:
            if not wants_accumulation(error):
                raise
        return accumulated(self.outputs, vs, self.leaves, keep=True)


@dataclass(frozen=True, slots=True)
class Backward:
    """All that a backward has to go wrong with."""

    call: Call
    last: Call  # the latest call of the function, this one or another
    cotangents: Sequence[Tensor]
    target: int  # the variable whose gradient is broken
    places: dict[int, int]  # variable → an element of middling gradient


@dataclass(frozen=True, slots=True)
class Bug:
    """A class of bug: its name in words, how it breaks a backward, and when it shows."""

    name: str
    breaks: Callable[[Backward], Gradients]
    shows: str = ""  # the circumstance that it takes: a key of effects.CIRCUMSTANCES
    is_whole: bool = False  # does it hit every tensor at once?


@dataclass(slots=True)
class _Injection:
    """A bug on its way into a function."""

    bug: Bug
    target: int
    is_parameter: Sequence[bool]
    function: Callable[[Sequence[Tensor]], Any]
    last: Call | None = None
    places: dict[int, int] = field(default_factory=dict)

    def __call__(self, leaves: Sequence[Tensor]) -> Any:
        remembers = self.bug.shows == "another call"
        if not torch.is_grad_enabled() and not remembers:
            return self.function(leaves)
        with torch.enable_grad():
            own = [
                leaf if is_parameter else leaf.detach().requires_grad_()
                for leaf, is_parameter in zip(leaves, self.is_parameter, strict=True)
            ]
            tensors = [y for _, y in named_tensors(self.function(own), "output")]
        outputs = [dense(y) for y in tensors if y.is_floating_point() or y.is_complex()]
        connected = [y.requires_grad for y in outputs]
        if any(connected):
            self.last = Call(own, [y for y in outputs if y.requires_grad], connected)
            # A tuple of tensors, differentiable through the broken backward alone.
            outputs = list(_Broken.apply(self, self.last, outputs, *leaves))
        return outputs or tensors


class _Broken(torch.autograd.Function):
    """The outputs of a call, whose backward has the bug."""

    @staticmethod
    def forward(
        ctx: Any, injection: _Injection, call: Call, outputs: list[Tensor], *leaves: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.injection, ctx.call = injection, call
        copies = tuple(y.detach().clone() for y in outputs)
        pairs = zip(copies, call.connected, strict=True)
        ctx.mark_non_differentiable(*(y for y, used in pairs if not used))
        return copies

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        found: _Injection = ctx.injection
        last = ctx.call if found.last is None else found.last
        broken = found.bug.breaks(Backward(ctx.call, last, cotangents, found.target, found.places))
        return None, None, None, *broken


def injected(function: Function, bug: Bug, target: int) -> Function:
    """The same function with a bug in the gradient of one variable; not yet met.

    A bug that is whole goes into all variables, whatever the target.
    """
    parameters = [variable.parameter is not None for variable in function.variables]
    broken = _Injection(bug, target, parameters, function.call)
    return replace(function, call=broken, notes=[], deviations=[])
