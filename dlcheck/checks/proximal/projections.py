"""Projections: proximal operators of "inside, or at infinite cost"."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.proximal.broken import Operator
from dlcheck.checks.proximal.formula import proximal_point
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_STEPS = (0.01, 0.3, 1.0, 30.0)
_SHARES = (0.5, 0.9, 0.99, 1.01, 2.0)


@around
def widens_its_set_with_the_step(original: Operator, x: Tensor, step: float) -> Tensor:
    """The limit is multiplied by t like a strength."""
    return original(x / step, step) * step


@around
def goes_part_of_the_way(original: Operator, x: Tensor, step: float) -> Tensor:
    """x + t(p − x): a relaxed step, of which a projection has none."""
    share = min(step, 1.0)
    return share * original(x, step) + (1 - share) * x


@around
def lands_short_of_the_boundary(original: Operator, x: Tensor, step: float) -> Tensor:
    """Divides by the norm plus the step, against a division by zero."""
    return original(x, step) / (1 + 1e-3 * step)


@around
def reflects(original: Operator, x: Tensor, step: float) -> Tensor:
    return 2 * original(x, step) - x


@around
def divides_what_is_inside_too(original: Operator, x: Tensor, step: float) -> Tensor:
    """x/‖x‖ without the minimum: small values are blown up to the boundary."""
    return original(x * (1e3 if float(x.abs().max()) < 1e3 else 1.0), step)


@check(
    kind="proximal",
    needs={"idempotent"},
    forbids={"nonconvex"},
    rejects=[
        widens_its_set_with_the_step,
        goes_part_of_the_way,
        lands_short_of_the_boundary,
        reflects,
        divides_what_is_inside_too,
    ],
)
def it_is_the_nearest_point(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A projection does not depend on the step, and nothing else of its set is as near.

    p = P(x) is the same for steps of 0.01 to 30; and p is the projection of x onto a convex set
    iff ⟨x − p, q − p⟩ ≤ 0 for every q of the set: here the projections of 0, −x, of what lies on
    and beyond the line from x to p, and of random points of x's size. The bounds are the roundings
    of p and of the inner product. Source: Parikh & Boyd, Proximal Algorithms, 2014, §1.2; Hilbert's
    projection theorem (Bauschke & Combettes, 2nd ed., 2017, theorem 3.16).
    """
    x = case.tensors[0]
    wide, largest = x.double(), float(x.abs().max())
    roundings = gamma(x.numel() + 16, case.dtype)
    point = proximal_point(subject, x, 1.0).double()
    for step in _STEPS:
        other = proximal_point(subject, x, step).double()
        error = (other - point).abs()
        yield Evidence(
            error=float(error.max()) if bool((error == error).all()) else float("nan"),
            bound=roundings * largest,
            signal=largest,
            what="point at this step against that at step 1",
            where=f"step {step:g}",
        )
    away, reach = wide - point, wide.abs() + point.abs()
    found = []
    for name, place, q in _others(subject, case, point):
        inner = float((away * (q - point)).sum())
        # p and q are off by roundings of x and of where q comes from.
        terms = float((reach * (reach + q.abs() + place.abs())).sum())
        found.append(
            Evidence(
                error=max(inner, 0.0) if inner == inner else inner,
                bound=4 * roundings * terms,
                signal=terms,
                what="⟨x − p, q − p⟩ above 0: the set has a point nearer to x",
                where=f"q = {name}",
            )
        )
    yield max(found, key=lambda piece: piece.tightness)


def _others(
    subject: Implementation, case: Case, point: Tensor
) -> Iterator[tuple[str, Tensor, Tensor]]:
    x = case.tensors[0]
    generator = case.generator("others")
    size = x.square().mean().sqrt()
    places = {"P(0)": 0 * x, "P(−x)": -x}
    for share in _SHARES:
        places[f"P(x + {share:g}(p − x))"] = x + share * (point.to(x) - x)
    for turn in range(4):
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        places[f"P(random {turn})"] = size * z
        places[f"P(near {turn})"] = point.to(x) + 0.1 * size * z
    for name, place in places.items():
        yield name, place.double(), proximal_point(subject, place, 1.0).double()
