"""The value of a penalty: its degree, its strength, its symmetry, and how it adds up."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.penalty.broken import (
    adds_a_constant,
    clips_large_weights,
    decays_toward_a_constant,
    forgets_the_absolute_value,
    ignores_its_strength,
    ignores_negative_weights,
    saturates,
    smooths_the_kink,
    squares_its_strength,
    squares_twice,
    takes_the_root,
    takes_the_root_and_squares_it,
)
from dlcheck.checks.penalty.law import (
    demand_numbers,
    moved_by_rounding,
    pull,
    rounding,
    size,
    strengths_of,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_FACTORS = (0.25, 3.0, 16.0)


@check(
    kind="penalty",
    options={"homogeneity": True},
    rejects=[
        takes_the_root,
        squares_twice,
        adds_a_constant,
        saturates,
        smooths_the_kink,
        clips_large_weights,
        decays_toward_a_constant,
    ],
)
def grows_by_its_degree(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Weights t times as large cost t^k times as much, k being the declared homogeneity.

    t = 1/4, 3, 16; the error is relative to t^k P(w), and the bound is the rounding of two sums
    of non-negative terms. Source: norms have degree 1, squared norms degree 2.
    """
    demand_numbers(case)
    degree = float(subject.argument("homogeneity"))
    base = subject.number(*case.fresh())
    moved = moved_by_rounding(subject, case.tensors, case.dtype)
    for factor in _FACTORS:
        scaled = subject.number(*(_scaled(case, factor)))
        expected = factor**degree * base
        bound = 2 * rounding(size(case.tensors), case.dtype) * abs(expected)
        yield Evidence(
            error=abs(scaled - expected),
            bound=bound + 2 * factor**degree * moved,
            signal=abs(expected),
            what=f"penalty of {factor:g}·w",
            expected=f"{factor:g}^{degree:g} · {base:.9g} = {expected:.9g}",
            got=f"{scaled:.9g}",
        )


def _scaled(case: Case, factor: float) -> list[Tensor]:
    return [
        factor * w if name in case.floating else w
        for name, w in zip(case.inputs, case.fresh(), strict=True)
    ]


@check(
    kind="penalty",
    options={"strength": True},
    rejects=[ignores_its_strength, squares_its_strength, adds_a_constant, squares_twice, saturates],
)
def grows_in_proportion_to_its_strength(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A penalty with t times the strength costs t times as much.

    The arguments that hold strengths are multiplied by t = 1/4, 3, 16 together and the subject is
    built anew; the bound is the rounding of two sums. Needs strengths that are arguments, for a
    literal number cannot be varied. Source: the definition of a Lagrange multiplier.
    """
    yield from _proportional(subject, case)


@check(
    kind="penalty",
    options={"norm": [[1, 2], [2, 1]]},
    rejects=[ignores_its_strength, squares_its_strength, adds_a_constant, squares_twice, saturates],
)
def its_parts_add_up(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """An elastic net is linear in both strengths, and is its L1 part plus its L2 part.

    P(λ₁, λ₂) = P(λ₁, 0) + P(0, λ₂), besides P(tλ₁, tλ₂) = t P(λ₁, λ₂); the bound is the rounding
    of the sums. Source: Zou & Hastie, JRSS B 67(2), 2005, §2.1.
    """
    yield from _proportional(subject, case)
    strengths = strengths_of(subject)
    parts = {
        name: subject.rebuilt(**{n: v if n == name else 0.0 for n, v in strengths.items()}).number(
            *case.fresh()
        )
        for name in strengths
    }
    whole = subject.number(*case.fresh())
    total = sum(parts.values())
    least = min(parts.values())
    yield Evidence(
        error=abs(whole - total),
        bound=2 * rounding(size(case.tensors), case.dtype) * abs(total),
        signal=abs(least) if len(parts) > 1 else 0.0,
        what="penalty against the sum of its parts",
        expected=" + ".join(f"{part:.9g} ({name})" for name, part in parts.items()),
        got=f"{whole:.9g}",
    )


def _proportional(subject: Implementation, case: Case) -> Iterator[Evidence]:
    demand_numbers(case)
    strengths = {name: value for name, value in strengths_of(subject).items() if value}
    if not strengths:
        raise NotApplicable('no strength is an argument: declare strength = "name" to vary it')
    base = subject.number(*case.fresh())
    for factor in _FACTORS:
        changed = subject.rebuilt(**{name: factor * value for name, value in strengths.items()})
        got, expected = changed.number(*case.fresh()), factor * base
        # A strength that is kept in a tensor is rounded to float32, and t times it is again.
        relative = 2 * rounding(size(case.tensors), case.dtype)
        relative += 2 * unit_roundoff(torch.float32)
        yield Evidence(
            error=abs(got - expected),
            bound=relative * abs(expected),
            signal=abs(expected),
            what=f"penalty with {', '.join(strengths)} times {factor:g}",
            expected=f"{factor:g} · {base:.9g} = {expected:.9g}",
            got=f"{got:.9g}",
        )


@check(
    kind="penalty",
    needs={"even"},
    rejects=[forgets_the_absolute_value, ignores_negative_weights, decays_toward_a_constant],
)
def signs_do_not_matter(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """P(−w) = P(w).

    All signs are flipped; where a norm is declared, a random half of them too, for then only
    |w| counts. The bound is the rounding of two sums. Source: the definition of an even function.
    """
    base = subject.number(*case.fresh())
    ways = ["all"] + ["half"] * (subject.options.get("norm") is not None)
    generator = case.generator("signs")
    for way in ways:
        flipped = []
        for name, w in zip(case.inputs, case.fresh(), strict=True):
            signs = torch.randint(0, 2, w.shape, generator=generator) * 2 - 1
            signs = -torch.ones_like(signs) if way == "all" else signs
            flipped.append(w * signs.to(w) if name in case.floating else w)
        got = subject.number(*flipped)
        yield Evidence(
            error=abs(got - base),
            bound=2 * rounding(size(case.tensors), case.dtype) * abs(base),
            signal=abs(base),
            what=f"penalty with {way} of the signs flipped",
            expected=f"{base:.9g}",
            got=f"{got:.9g}",
        )


@check(
    kind="penalty",
    rejects=[
        adds_a_constant,
        smooths_the_kink,
        decays_toward_a_constant,
        takes_the_root_and_squares_it,
    ],
)
def zero_weights_cost_nothing(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A penalty is 0 where every weight is 0, and its gradient there is finite.

    Exact: the bound is 0. Told by a norm, a homogeneity or a prior; a penalty that declares none
    of them may have its minimum elsewhere. Source: the definition of a norm; a subgradient of
    |w| at 0 lies in [−1, 1], and √ or a division there makes NaN.
    """
    if not {"norm", "homogeneity", "prior"} & set(subject.options):
        raise NotApplicable("declares no norm, homogeneity or prior: its minimum may be elsewhere")
    demand_numbers(case)
    somewhere = subject.number(*case.fresh())
    zeros = [torch.zeros_like(w) for w in case.tensors]
    at_zero = subject.number(*zeros)
    minimum = float(subject.options.get("minimum", 0.0))
    yield Evidence(
        error=abs(at_zero - minimum),
        bound=0.0,
        signal=abs(somewhere - minimum),
        what="penalty of zero weights",
        expected=f"{minimum:g}",
        got=f"{at_zero:.9g}",
    )
    slopes = pull(subject, zeros)
    broken = sum(int((~torch.isfinite(slope)).sum()) for slope in slopes)
    yield Evidence(
        error=float(broken),
        bound=0.0,
        signal=float(size(slopes)),
        unit="elements",
        what="gradient elements that are not finite at zero weights",
    )
