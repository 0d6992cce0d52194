"""Proximal operators at large: what they minimise, and how they contract."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from dlcheck.checks.penalty.law import Law, law_of
from dlcheck.checks.proximal.broken import (
    divides_by_the_step,
    forgets_the_step,
    goes_twice_as_far,
    keeps_one_side,
    loses_the_sign,
    moves_away,
    rounds_to_a_grid,
    shrinks_in_proportion,
    steps_twice,
    takes_a_gradient_step,
    takes_half_the_step,
    thresholds_hard,
)
from dlcheck.checks.proximal.formula import proximal_point, steps_for
from dlcheck.model import Evidence, Subject
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build

_POINTS = 16  # on the segment along which the operator is followed


def _scale_of(subject: Implementation) -> Law:
    """Strengths that set the steps; 1 where the declaration gives no number."""
    strength = subject.argument("strength")
    if subject.options.get("norm") in (1, 2) or isinstance(subject.options.get("norm"), Mapping):
        law = law_of(subject)
        return Law(1.0 if law.l1 is None else law.l1, 1.0 if law.l2 is None else law.l2)
    return Law(1.0 if strength is None else float(strength), 0.0)


@check(
    kind="proximal",
    forbids={"nonconvex"},
    rejects=[goes_twice_as_far, moves_away, rounds_to_a_grid],
)
def is_firmly_nonexpansive(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """‖p − q‖² ≤ ⟨p − q, x − y⟩ for the proximal points p, q of any x, y.

    True of every convex penalty, at neighbouring points of the segment from −x/2 to 3x/2, where
    a jump shows, at x against −x and 0, and at x against a random y. The bound is the rounding
    of the two inner products over p, q, x and y.
    Source: Moreau 1965; Parikh & Boyd, Proximal Algorithms, 2014, §2.3; Bauschke & Combettes,
    Convex Analysis and Monotone Operator Theory, 2nd ed., 2017, prop. 12.28.
    """
    x = case.tensors[0]
    z = torch.randn(x.shape, generator=case.generator("other"), dtype=torch.float64)
    other = z.to(x) * x.square().mean().sqrt()
    shares = torch.linspace(-0.5, 1.5, _POINTS, dtype=torch.float64).tolist()
    segment = [share * x for share in shares]
    pairs = [*itertools.pairwise(segment), (x, -x), (x, 0 * x), (x, other)]
    for step in steps_for(x, _scale_of(subject)):
        found = [_expansion(subject, a, b, step) for a, b in pairs]
        yield max(found, key=lambda piece: piece.tightness)


def _expansion(subject: Implementation, x: Tensor, y: Tensor, step: float) -> Evidence:
    p = proximal_point(subject, x, step).double()
    q = proximal_point(subject, y, step).double()
    apart, moved = p - q, x.double() - y.double()
    left, right = float(apart.square().sum()), float((apart * moved).sum())
    # p and q carry a few roundings of their own arguments, which enter both products.
    reach = (x.abs() + y.abs()).double()
    terms = (reach * (apart.abs() + moved.abs())).sum()
    excess = left - right
    return Evidence(
        error=max(excess, 0.0) if excess == excess else excess,
        bound=4 * gamma(x.numel() + 16, x.dtype) * float(terms),  # norms are sums over x
        signal=float(moved.square().sum()),
        what="‖p − q‖² above ⟨p − q, x − y⟩",
        expected=f"at most {right:.9g}",
        got=f"{left:.9g}",
        where=f"step {step:.4g}",
    )


@check(
    kind="proximal",
    options={"penalty": True},
    rejects=[
        forgets_the_step,
        takes_half_the_step,
        divides_by_the_step,
        thresholds_hard,
        keeps_one_side,
        loses_the_sign,
        shrinks_in_proportion,
        goes_twice_as_far,
        moves_away,
        steps_twice,
        takes_a_gradient_step,
        rounds_to_a_grid,
    ],
)
def minimises_its_objective(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """No u does better than p = prox(x, t) in J(u) = ½‖u − x‖² + t·P(u), P being its penalty.

    For a convex P, J grows at least like J(p) + ½‖u − p‖² away from its minimum; for a nonconvex
    one it is at least J(p). Competitors: 0, x, points on and beyond the line from x to p, p with
    one coordinate zeroed, moved by ±t or replaced by x's, p scaled, and p plus random moves of
    many sizes. The penalty is built with the subject's own arguments and called in float64; the
    bound is the rounding of the sums, and that of p itself times the distance.
    Source: Parikh & Boyd, Proximal Algorithms, 2014, eq. 1.1 and §2.1.
    """
    penalty = _penalty_of(subject)
    x = case.tensors[0]
    convex = "nonconvex" not in subject.traits
    for step in steps_for(x, _scale_of(subject)):
        point = proximal_point(subject, x, step)
        found = [
            _beaten(penalty, u, point.double(), x.double(), step, case.dtype, convex, name)
            for name, u in _competitors(x.double(), point.double(), step, case)
        ]
        yield max(found, key=lambda piece: piece.tightness)


def _penalty_of(subject: Implementation) -> Implementation:
    declared = Subject(
        name=f"penalty of {subject.declared.name}",
        target=subject.options["penalty"],
        kind="penalty",
        args=subject.args,
        file=subject.declared.file,
    )
    return build(declared, {}, subject.device, torch.float64, seed=0)


def _competitors(x: Tensor, point: Tensor, step: float, case: Case) -> Iterator[tuple[str, Tensor]]:
    yield "0", torch.zeros_like(x)
    yield "x", x
    for share in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        yield f"{share:g} of the way from x", x + share * (point - x)
    for factor in (0.0, 0.5, 0.99, 1.01, -1.0):
        yield f"{factor:g} p", factor * point
    generator = case.generator("competitors")
    flat = point.flatten()
    for index in torch.randperm(flat.numel(), generator=generator)[:3].tolist():
        for name, value in {
            "0": 0.0,
            "x's": float(x.flatten()[index]),
            "more": float(flat[index]) + 0.1 * float(x.abs().max()),
            "less": float(flat[index]) - 0.1 * float(x.abs().max()),
        }.items():
            moved = flat.clone()
            moved[index] = value
            yield f"p with coordinate {index} {name}", moved.reshape(point.shape)
    size = float(x.abs().max())
    for exponent in (0, -1, -2, -4):
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        yield f"p moved by 1e{exponent}", point + size * 10.0**exponent * z


def _beaten(
    penalty: Implementation,
    u: Tensor,
    point: Tensor,
    x: Tensor,
    step: float,
    dtype: torch.dtype,
    convex: bool,  # noqa: FBT001
    name: str,
) -> Evidence:
    """By how much the competitor falls below what strong convexity allows."""

    def objective(v: Tensor) -> float:
        return 0.5 * float((v - x).square().sum()) + step * penalty.number(v.clone())

    mine, theirs = objective(point), objective(u)
    room = 0.5 * float((u - point).square().sum()) if convex else 0.0
    excess = mine + room - theirs
    sums = gamma(x.numel() + 16, torch.float64) * (abs(mine) + abs(theirs) + room)
    # p is off by e, |eᵢ| ≤ 2γ|xᵢ|: it shifts ½‖u − p‖² by ⟨e, u − p⟩ and J(p) by ⟨e, p − x⟩ and
    # t·P's change along e, of the size of ⟨|e|, |x|⟩ again.
    relative = 2 * gamma(x.numel() + 16, dtype)
    own = relative * float((x.abs() * ((u - point).abs() + 4 * x.abs())).sum())
    return Evidence(
        error=max(excess, 0.0) if excess == excess else excess,
        bound=2 * sums + own,
        signal=max(abs(mine), abs(theirs)),
        what="J(p) + ½‖u − p‖² above J(u)",
        expected=f"at least {mine + room:.9g} at u = {name}",
        got=f"{theirs:.9g}",
        where=f"step {step:.4g}",
    )
