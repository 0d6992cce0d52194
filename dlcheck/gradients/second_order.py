"""The gradient as a function of its own: (x, v) → Jᵀv, to be differentiated once more."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dlcheck.errors import Unchecked
from dlcheck.gradients.function import Function
from dlcheck.gradients.variables import Variable


def gradient_of(first: Function, generator: torch.Generator) -> Function:
    """x and a cotangent per output → the gradient of each variable, with its graph.

    Backward through it computes second derivatives: Hessian products for x, Jacobian products
    for the cotangents. Raises Unchecked where the first order has nothing to differentiate.
    """
    first.meet()
    if not first.is_connected:
        raise Unchecked("no output requires a gradient, so there is none to differentiate again")
    z = torch.randn(
        first.value.shape, generator=generator, dtype=torch.float64, device=generator.device
    ).to(first.value.device)
    cotangents = [
        Variable(f"incoming gradient {index}", part.clone())
        for index, part in enumerate(first.shaped(z))
    ]
    count = len(first.variables)

    def call(leaves: Sequence[Tensor]) -> list[Tensor]:
        differentiated = torch.is_grad_enabled()
        with torch.enable_grad():
            ready = [
                leaf if leaf.requires_grad else leaf.detach().requires_grad_() for leaf in leaves
            ]
            xs, vs = ready[:count], ready[count:]
            outputs = first.outputs(xs)
            live = [(y, v.to(y.dtype)) for y, v in zip(outputs, vs, strict=True) if y.requires_grad]
            ys, incoming = zip(*live, strict=True)
            found = torch.autograd.grad(ys, xs, incoming, create_graph=True, allow_unused=True)
        first.backwards += 1
        if differentiated and any(_refuses(part) for part in found):
            raise Unchecked("declared once_differentiable: it has no second gradient")
        return [
            torch.zeros_like(x) if part is None else part for x, part in zip(xs, found, strict=True)
        ]

    return Function(
        call,
        (*first.variables, *cotangents),
        buffers=first.buffers,
        constants=first.constants,
        seed=first.seed,
        borrows=first.borrows,
        cancelling=float(z.abs().amax()) if z.numel() else 0.0,  # as in v(p − 1) where p is 1
    )


def _refuses(gradient: Tensor | None) -> bool:
    """Does it come from a backward that is marked once_differentiable?

    Such a gradient's graph is an error node before all others. torch.autograd.grad does not visit
    it, and answers that nothing depends on anything.
    """
    todo = [] if gradient is None or gradient.grad_fn is None else [gradient.grad_fn]
    seen = set()
    while todo:
        node = todo.pop()
        if node.name() == "torch::autograd::Error":
            return True
        seen.add(node)
        todo += [
            below for below, _ in node.next_functions if below is not None and below not in seen
        ]
    return False
