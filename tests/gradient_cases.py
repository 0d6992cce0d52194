"""A function whose gradient is known to be right or wrong: what the gradient engine is tried on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Call = tuple[Callable[..., Any], Any]
"""A function and the inputs that `check_gradient` takes with it."""

Claim = Callable[[list[Tensor], list[Tensor], tuple[Tensor, ...]], Sequence[Tensor | None]]
"""(true gradients, inputs, cotangents) → the gradients that a wrong backward returns."""


class Draw:
    """Float64 numbers of one seed, in the order in which they are asked for."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=self._generator, dtype=torch.float64)

    def leaf(self, *shape: int, scale: float = 1.0) -> Tensor:
        return self(*shape, scale=scale).requires_grad_()

    def positive(self, *shape: int) -> Tensor:
        return (self(*shape).abs() + 0.1).requires_grad_()

    def integers(self, below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=self._generator)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A wrong gradient: the function of a seed, and what a right verdict says about it."""

    build: Callable[[int], Call]
    cause: str = ""
    """A pattern in the lower-case words of a right diagnosis; empty where none is asked for."""
    order: int = 1
    regimes: tuple[str, ...] = ()
    big: bool = False
    below: float = math.inf
    """Relative size of an error so small that it may lie below the printed certificate."""
    elements: tuple[tuple[int, ...], ...] = ()
    """The wrong indices, where they are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """A correct gradient, however hard to certify."""

    build: Callable[[int], Call]
    expect: Any = None
    order: int = 1
    big: bool = False


def claiming(forward: Callable[..., Any], claim: Claim) -> Callable[..., Any]:
    """`forward` with a backward that returns `claim` of its true gradients."""

    class Claiming(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Any:
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor) -> Any:
            inputs = [saved.detach().requires_grad_() for saved in ctx.saved_tensors]
            with torch.enable_grad():
                outputs = forward(*inputs)
                outputs = outputs if isinstance(outputs, tuple) else (outputs,)
                gradients = torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True)
            with torch.no_grad():
                return tuple(claim(list(gradients), inputs, cotangents))

    return Claiming.apply


def only(index: int, change: Callable[[Tensor, list[Tensor], Tensor], Tensor | None]) -> Claim:
    """The claim that is wrong in input `index`: `change(its gradient, inputs, cotangent)`."""

    def claim(
        gradients: list[Tensor], inputs: list[Tensor], cotangents: tuple[Tensor, ...]
    ) -> list[Tensor | None]:
        changed: list[Tensor | None] = list(gradients)
        changed[index] = change(gradients[index], inputs, cotangents[0])
        return changed

    return claim


def registered(
    registry: dict[str, Any], kind: Callable[..., Any]
) -> Callable[..., Callable[[Callable[[Draw], Call]], None]]:
    """A decorator `@kind(...)` that files a build under its function's name."""

    def described(**fields: Any) -> Callable[[Callable[[Draw], Call]], None]:
        def file(build: Callable[[Draw], Call]) -> None:
            name = fields.pop("name", build.__name__)
            assert name not in registry, f"two cases are named {name!r}"
            registry[name] = kind(build=lambda seed: build(Draw(seed)), **fields)

        return file

    return described
