"""Vectors at chosen distances from each other, and what a loss of pairs makes of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.still import Still
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

STEPS = (0.02, 0.1, 0.5, 1.0, 2.0, 5.0)  # distances, in units of the size of a vector
_FAR = 50.0  # × the margin

PAIRS: dict[str, Any] = {"task": "contrastive", "similar": 1, "margin": "margin"}
PAIR_INPUTS = {
    "first": "float b d",
    "second": "float b d",
    "similar": "int[0:2] b",
}
SIGNED_INPUTS = {**PAIR_INPUTS, "similar": "signed b"}
TRIPLETS: dict[str, Any] = {"task": "triplet", "margin": "margin"}


class Pairs:
    """A loss of pairs or triplets, called with vectors at chosen distances from each other."""

    def __init__(self, subject: Implementation, case: Case) -> None:
        self.subject, self.case = subject, case
        self.call = Still(subject, case)
        self.inputs = dict(zip(case.inputs, case.fresh(), strict=True))
        self.names = [name for name in case.floating if case.specs[name].dims]
        needed = 3 if self.is_triplet else 2
        vectors = [n for n in self.names if case.specs[n].dims == case.specs[self.names[0]].dims]
        if len(vectors) < needed:
            raise NotApplicable(f"does not take {needed} inputs of one shape")
        self.vectors = vectors[:needed]
        anchor = self.inputs[self.vectors[0]].double()
        if anchor.dim() < 2 or anchor.shape[-1] < 2 or not anchor.numel():
            raise NotApplicable("vectors of one element have no angle between them")
        # A row of zeros has no direction for those that compare cosines.
        z = torch.randn(anchor.shape, generator=case.generator("anchor"), dtype=torch.float64)
        self.anchor = z.to(anchor.device)
        self.size = math.sqrt(anchor.shape[-1])

    @property
    def is_triplet(self) -> bool:
        return self.subject.options.get("task") == "triplet"

    @property
    def label(self) -> str | None:
        """The input that says which pairs are alike."""
        rest = [n for n in self.case.inputs if n not in self.vectors]
        return rest[0] if rest and not self.is_triplet else None

    @property
    def margin(self) -> float | None:
        found = self.subject.argument("margin")
        return None if found is None else float(found)

    def labels(self, *, alike: bool) -> dict[str, Tensor]:
        """Every pair labelled alike, or not."""
        name = self.label
        if name is None:
            if not alike:
                raise NotApplicable("is shown no pairs that are not alike")
            return {}
        similar = self.subject.options.get("similar")
        if similar is None:
            raise NotApplicable('which label means "alike" is not known; declare similar')
        spec = self.case.specs[name]
        low = (
            spec.low
            if spec.low is not None
            else (-1.0 if spec.element in ("signed", "sign") else 0.0)
        )
        others = [v for v in (low, 1.0, 0.0) if v != float(similar)]
        value = float(similar) if alike else others[0]
        return {name: torch.full_like(self.inputs[name], value)}

    def apart(self, distance: float, salt: str = "apart") -> Tensor:
        """Vectors at that distance from the anchors, in units of a vector's size.

        The way leads along a direction that is orthogonal to the anchor, so that the angle
        grows with the distance.
        """
        generator = self.case.generator(salt)
        z = torch.randn(self.anchor.shape, generator=generator, dtype=torch.float64)
        z = z.to(self.anchor.device)
        unit = self.anchor / self.anchor.norm(dim=-1, keepdim=True)
        z = z - (z * unit).sum(-1, keepdim=True) * unit
        z = z / z.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        found: Tensor = self.anchor + distance * self.size * z
        return found

    def opposite(self) -> Tensor:
        """Far beyond any margin by length and by angle: −(50 margins) × the anchor."""
        return -_FAR * (1 + abs(self.margin or 1.0)) * self.anchor

    def value(self, *vectors: Tensor, labels: dict[str, Tensor] | None = None) -> float:
        return float(self._answer(self.call, vectors, labels or {}).double().sum())

    def _answer(self, call: Still, vectors: Sequence[Tensor], labels: dict[str, Tensor]) -> Tensor:
        given = dict(zip(self.vectors, vectors, strict=True))
        inputs = {n: given.get(n, labels.get(n, x)).to(x) for n, x in self.inputs.items()}
        return call(*inputs.values())[0]

    def slopes(self, *vectors: Tensor, labels: dict[str, Tensor]) -> list[Tensor]:
        """The gradients of the loss by each vector."""
        call = Still(self.subject, self.case, differentiable=True)
        leaves = [
            v.to(self.inputs[n]).detach().clone().requires_grad_()
            for n, v in zip(self.vectors, vectors, strict=True)
        ]
        given = dict(zip(self.vectors, leaves, strict=True))
        inputs = {n: given[n] if n in given else labels.get(n, x).to(x)
                  for n, x in self.inputs.items()}  # fmt: skip
        answer = call(*inputs.values())[0].sum()
        if not answer.requires_grad:
            return [torch.zeros_like(leaf) for leaf in leaves]
        found = gradients([answer], leaves, [torch.ones_like(answer)])
        return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]


def rises(what: str, values: Sequence[float], cause: str) -> Evidence:
    """The values never fall, and rise in all; ties within rounding."""
    reach = max(map(abs, values)) or 1.0
    falls = [a - b for a, b in itertools.pairwise(values)]
    worst = max((f if f == f else math.inf for f in falls), default=0.0)
    bound = 64 * 2.0**-52 * reach * len(values)
    flat = not values[-1] - values[min(1, len(values) - 2)] > 1e-6 * reach
    return Evidence(
        error=math.inf if flat else max(worst, 0.0),
        bound=bound,
        signal=reach,
        what=what,
        expected="values that rise",
        got=", ".join(f"{value:.5g}" for value in values),
        cause=cause if flat or worst > bound else "",
    )


def nothing_beyond(
    pairs: Pairs, vectors: Sequence[Tensor], labels: dict[str, Tensor]
) -> Iterator[Evidence]:
    value = pairs.value(*vectors, labels=labels)
    slopes = pairs.slopes(*vectors, labels=labels)
    largest = max(float(g.abs().amax()) for g in slopes)
    yield Evidence(
        error=abs(value) + largest if value == value else math.nan,
        bound=0.0,
        signal=1.0,
        what="loss and gradient beyond the margin",
        expected="0",
        got=f"{value:.6g}, and {largest:.3g}",
    )


def lost(slopes: Sequence[Tensor], what: str) -> Evidence:
    count = sum(int((~torch.isfinite(g)).sum()) for g in slopes)
    return Evidence(
        error=float(count),
        bound=0.0,
        signal=float(max(sum(g.numel() for g in slopes), 1)),
        unit="elements",
        what=f"{what}: elements that are not finite",
        cause="a root or norm at 0: add an ε under the root" if count else "",
    )
