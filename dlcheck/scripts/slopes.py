"""A gradient against a difference of two calls, for checks that ask for gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.scripts.claims import Claim
from dlcheck.scripts.program import Program, refs_in, resolved
from dlcheck.scripts.tape import Ref

AGAIN = "again: "  # before the name of an answer: the call that gave it
_LATEST = 6  # gradients that are tried
_STEP = 1e-5
_NEAR = 1e-6  # of Σ|g u|: the truncation of a central difference, with a wide margin


def slopes(program: Program) -> Iterator[Claim]:
    """That Jᵀv is the slope of ⟨v, f⟩, for the last gradients that were asked for.

    In float64, of one call with one output, along one random direction of one leaf.
    """
    nodes = program.tape.nodes
    asked = [i for i, node in enumerate(nodes) if node.function is torch.autograd.grad]
    for index in asked[-1 : -1 - _LATEST : -1]:
        node = nodes[index]
        outputs, leaves = list(refs_in(node.args[0])), list(refs_in(node.args[1]))
        given = node.args[2] if len(node.args) > 2 else node.keywords.get("grad_outputs")
        cotangents = list(refs_in(given))
        if len(outputs) != 1 or len(cotangents) > 1 or nodes[outputs[0].node].kind != "call":
            continue
        for place, leaf in enumerate(leaves):
            gradient = Ref(index, (("item", place),))
            yield _slope(program, gradient, leaf, outputs[0], cotangents)


def _slope(program: Program, gradient: Ref, leaf: Ref, output: Ref, cotangents: list[Ref]) -> Claim:
    call = program.tape.nodes[output.node]

    def holds(values: Mapping[int, Any]) -> bool:
        x, g = resolved(leaf, values), resolved(gradient, values)
        if g is None or x.dtype != torch.float64:
            return True
        v = resolved(cotangents[0], values) if cotangents else torch.ones(())
        u, found = _direction(x), []
        asked = Program(program.tape, program.kind, program.target, {output.node: call})
        with torch.no_grad():
            for step in (_STEP, -2 * _STEP):
                x.add_(step * u)
                answer = asked.again(output.node, dict(values))
                found.append(resolved(Ref(0, output.steps), {0: answer}).detach().clone())
            x.add_(_STEP * u)
        slope = ((found[0] - found[1]) * v).sum() / (2 * _STEP)
        return bool(((g * u).sum() - slope).abs() <= _NEAR * (g * u).abs().sum())

    def lines(text: Callable[[Ref], str], message: str) -> list[str]:
        x, y = text(leaf), text(output)
        v = f" * {text(cotangents[0])}" if cotangents else ""
        return [
            f"g = {text(gradient)}",
            f"u = torch.randn({x}.shape, generator=torch.Generator().manual_seed(0)).to({x})",
            "with torch.no_grad():",
            f"    {x}.add_({_STEP} * u)",
            f"    up = {AGAIN}{y}",
            f"    {x}.sub_({2 * _STEP} * u)",
            f"    down = {AGAIN}{y}",
            f"slope = ((up - down){v}).sum() / {2 * _STEP}",
            f"assert abs((g * u).sum() - slope) <= {_NEAR} * (g * u).abs().sum(), {message}",
        ]

    return Claim((gradient, leaf, output, *cotangents), holds, lines)


def _direction(x: Tensor) -> Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
