"""The samples of PyTorch's op database as functions of tensors, and bugs to put into them."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

Function = Callable[..., tuple[Tensor, ...]]
LISTED = 24  # samples of an op from which a few are taken


@dataclass(frozen=True, slots=True)
class Case:
    """One sample of an op: its differentiable outputs as a function of what requires gradients."""

    f: Function
    inputs: list[Tensor]

    @property
    def size(self) -> int:
        return sum(x.numel() for x in self.inputs)

    def with_bug(self, bug: Callable[[Tensor], Tensor]) -> Function:
        """f whose first gradient is changed."""

        class Bug(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                return x.view_as(x)

            @staticmethod
            def backward(ctx: Any, g: Tensor) -> Tensor:
                return bug(g)

        return lambda first, *others: self.f(Bug.apply(first), *others)

    def gradient(self, f: Function, seed: int) -> Tensor | None:
        """The first gradient for a random cotangent of each output."""
        leaves = [x.detach().requires_grad_() for x in self.inputs]
        outputs = [y for y in f(*leaves) if y.requires_grad]
        generator = torch.Generator().manual_seed(seed)
        vs = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for y in outputs]
        return torch.autograd.grad(outputs, leaves[0], vs, allow_unused=True)[0]


def spread_samples(op: Any, count: int, seed: int) -> list[tuple[int, Any]]:
    """(index, sample) of some samples of an op in float64, from the first to the last."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = op.sample_inputs("cpu", torch.float64, requires_grad=True)
        samples = list(itertools.islice(drawn, LISTED))
    step = max(1, len(samples) // count)
    return list(enumerate(samples))[::step][:count]


def case(op: Any, sample: Any) -> Case:
    """The function that PyTorch's own gradient tests differentiate."""
    leaves, structure = tree_flatten((sample.input, sample.args, sample.kwargs))
    moved = [isinstance(x, Tensor) and x.requires_grad for x in leaves]

    def f(*given: Tensor) -> tuple[Tensor, ...]:
        tensors = iter(given)
        placed = [next(tensors) if m else x for x, m in zip(leaves, moved, strict=True)]
        first, args, kwargs = tree_unflatten(placed, structure)
        answer = op.gradcheck_wrapper(op.get_op(), first, *args, **kwargs)
        if sample.output_process_fn_grad is not None:
            answer = sample.output_process_fn_grad(answer)
        tensors_out = [y for y in tree_leaves(answer) if isinstance(y, Tensor)]
        return tuple(y for y in tensors_out if y.is_floating_point() or y.is_complex())

    return Case(f, [_leaf(x) for x, m in zip(leaves, moved, strict=True) if m])


def _leaf(x: Tensor) -> Tensor:
    own = x.detach().clone() if x.is_contiguous() else x.detach()
    return own.requires_grad_()


# --- bugs ---------------------------------------------------------------------------------------


def bugs(case: Case, seed: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """By name; each is linear in the gradient but for the rounding to float32."""
    largest = _largest(case, seed)

    def element(factor: float) -> Callable[[Tensor], Tensor]:
        def change(g: Tensor) -> Tensor:
            flat = g.reshape(-1).clone()
            flat[largest] *= factor
            return flat.view(g.shape)

        return change

    return {
        "sign": torch.neg,
        "scale 1 + 1e-2": lambda g: g * (1 + 1e-2),
        "scale 1 + 1e-4": lambda g: g * (1 + 1e-4),
        "one element +10 %": element(1.1),
        "one element dropped": element(0.0),
        "float32 rounding": lambda g: g.float().double(),
        "reversed": lambda g: g.flip(tuple(range(g.dim()))) if g.dim() else 2 * g,
    }


def _largest(case: Case, seed: int) -> int:
    """The element whose gradient is largest for one cotangent."""
    g = case.gradient(case.f, seed)
    return int(torch.nan_to_num(g).abs().argmax()) if g is not None and g.numel() else 0


def change(case: Case, wrong: Function, seeds: Sequence[int]) -> float:
    """‖wrong − right‖ / ‖right‖ of the first gradient, at most; 0 where it cannot be told."""
    found = [0.0]
    for seed in seeds:
        g, h = case.gradient(case.f, seed), case.gradient(wrong, seed)
        if g is None or h is None or not bool(torch.isfinite(g).all()) or not bool(g.any()):
            return 0.0
        found.append(float((h - g).norm() / g.norm()))
    return max(found) if math.isfinite(max(found)) else 0.0
