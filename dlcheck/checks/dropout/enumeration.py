"""The expectation over masks, exactly: every mask there is, weighted by its probability.

Rows that hold the same numbers are dropped by the thousand in one call, until every mask of a row
has been drawn. Each counts with its probability (1 − p)^kept · p^dropped, so that what is averaged
is what the subject makes of x under each mask, and nothing is left to chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.checks.dropout.broken import (
    broken,
    follows_another_convention,
    scales_by_the_inverse_of_the_rate,
)
from dlcheck.checks.dropout.draws import answer, is_free
from dlcheck.checks.dropout.law import Law, in_mode, law_of, rate_of
from dlcheck.checks.dropout.masks import shares_along_one_axis_too_many
from dlcheck.checks.dropout.moments import averages_two_masks
from dlcheck.checks.dropout.values import leaks_a_hundredth_of_what_is_dropped
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

ROWS = 2**15
EXPECTED = 30  # draws of the rarest mask: one of 2¹⁰ is missed with probability 2¹⁰ e⁻³⁰ < 1e-10
MOST_UNITS = 10
_RATES = (0.5, 0.25)  # besides the declared one, where p names an argument


@dataclass(frozen=True, slots=True)
class Enumerated:
    """Every mask of one row: what it makes of x, and how likely it is."""

    x: Tensor  # [d], float64
    factor: Tensor  # [2^k, d]: y/x under each mask
    chance: Tensor  # [2^k]
    unit: Tensor  # [d]: to which of the k units an element belongs
    missed: int  # masks that were never drawn
    law: Law

    def mean(self, values: Tensor) -> Tensor:
        """Σ over masks of P(mask) times values [2^k, …]."""
        average: Tensor = torch.tensordot(self.chance, values, 1)
        return average


def enumerated(subject: Implementation, case: Case, law: Law) -> Enumerated:
    """All masks of a row of at most ten units. Raises NotApplicable where rows are not free."""
    axes, shape = _room(subject, case, law)
    generator = case.generator(f"row at p = {law.p:g}")
    one = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5
    one = torch.where(torch.rand(shape, generator=generator) < 0.5, -one, one)
    many = list(shape)
    many[axes[0]] = ROWS
    x = one.to(case.device, case.dtype).expand(many).contiguous()
    y = answer(subject, case, x, "train")
    rows, first = y.movedim(axes[0], 0), x.movedim(axes[0], 0)
    cut = tuple(
        slice(0, 1) if axis in law.shared(x) and axis != axes[0] else slice(None)
        for axis in (axes[0], *(a for a in range(x.dim()) if a != axes[0]))
    )
    kept = law.kept(first[cut], rows[cut]).reshape(ROWS, -1)
    units = kept.shape[1]
    code = (kept.long() * 2 ** torch.arange(units, device=kept.device)).sum(1)
    place = torch.full((2**units,), -1, device=code.device)
    place[code] = torch.arange(ROWS, device=code.device)
    drawn = place >= 0
    count = kept[place.clamp(min=0)].sum(1).double()
    row = first[:1].double()
    factor = (rows[place.clamp(min=0)].double() / row).reshape(len(place), -1)
    index = torch.arange(units, device=x.device).reshape(first[:1][cut].shape)
    return Enumerated(
        x=row.flatten(),
        factor=factor[drawn],
        chance=(law.keep**count * law.p ** (units - count))[drawn],
        unit=index.expand(row.shape).flatten(),
        missed=int((~drawn).sum()),
        law=law,
    )


def _room(subject: Implementation, case: Case, law: Law) -> tuple[list[int], list[int]]:
    """The axis of the rows and that of the features, if there is one, and the shape of one row."""
    x = case.inputs[case.floating[0]]
    own = [axis for axis in range(x.dim()) if axis not in law.shared(x)]
    if not own or not all(is_free(subject, case, axis) for axis in own):
        raise NotApplicable("its sizes leave no room for many rows with a mask each")
    rarest = min(law.p, law.keep)
    units = int(math.log(ROWS / EXPECTED) / -math.log(rarest) + 1e-9)
    if units < 1:
        raise NotApplicable(f"at p = {law.p:g} a mask is too rare for {ROWS} rows")
    axes = own[:1] + own[1:][-1:]
    shape = [1 if axis in own else size for axis, size in enumerate(x.shape)]
    if len(axes) > 1:
        shape[axes[1]] = min(units, MOST_UNITS)
    return axes, shape


def _at_rates(subject: Implementation) -> list[Implementation]:
    name = subject.options["p"]
    law_of(subject)  # not where nothing is random
    if not isinstance(name, str):
        return [subject]
    own = rate_of(subject)
    return [subject, *(subject.rebuilt(**{name: p}) for p in _RATES if p != own)]


@check(
    kind="dropout",
    options={
        "p": True,
        "rescale": ["train", "eval", "none"],
        "noise": [None, "bernoulli"],
        "block": False,
    },
    rejects=[
        broken(follows_another_convention),
        broken(scales_by_the_inverse_of_the_rate),
        broken(leaks_a_hundredth_of_what_is_dropped),
        broken(averages_two_masks),
        broken(shares_along_one_axis_too_many),
    ],
    once=True,
    textbook={
        "id": "R5",
        "says": "Dropout prevents overfitting by dropping nodes at random",
        "verdict": "true if",
        "condition": "what follows is linear: there it keeps the mean and is a ridge penalty",
    },
)
def its_masks_average_to_a_ridge_penalty(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Averaged over all 2^k masks, a linear regression on dropped inputs is a ridge regression.

    With elements of their own, E Σᵢ (tᵢ − Σⱼ wⱼ mᵢⱼ xᵢⱼ)² = ‖t − Xw‖² + p/(1 − p) Σⱼ wⱼ² Σᵢ xᵢⱼ²;
    a shared mask groups its elements, another convention has its own mean and variance. Ten units
    at p = ½ (1,024 masks), as many as 32,768 rows show at the declared p and ¼: each mask must
    turn up. No sampling error: the bound is the rounding of the factors, of the products and of
    the sum over masks.

    Through what is not linear the mean is another: E f(z) > f(E z) for a convex f, by Jensen's
    inequality. The counter-examples are a ReLU of z − E z and the log-sum-exp of a softmax over
    (z, 0), averaged over the same masks.
    Source: Wager, Wang & Liang, Dropout Training as Adaptive Regularization, NeurIPS 2013, §2;
    Srivastava et al., Dropout, JMLR 15, 2014, §9.1 (linear), §4.1 (an approximation otherwise).
    """
    for built in _at_rates(subject):
        in_mode(built, "train")
        law = law_of(built)
        masks = enumerated(built, case, law)
        total = len(masks.chance) + masks.missed
        where = f"p = {law.p:g}, {total} masks"
        yield Evidence(
            error=float(masks.missed),
            bound=0.0,
            signal=float(total),
            unit="masks",
            what="masks that were never drawn",
            where=where,
        )
        yield _regression(masks, case, where)
        if built is subject:
            yield from _beyond_linear(masks, case, where)


def _regression(masks: Enumerated, case: Case, where: str) -> Evidence:
    """The enumerated mean loss of seven rows against the ridge objective."""
    law, generator = masks.law, case.generator("regression")
    weight, x, target = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(masks.x.device)
        for shape in ((len(masks.x),), (7, len(masks.x)), (7,))
    )
    products = x * weight
    found = float(masks.mean((target - masks.factor @ products.mT).square()).sum())
    groups = torch.zeros(7, int(masks.unit.max()) + 1, dtype=torch.float64, device=x.device)
    groups.index_add_(1, masks.unit, products)
    penalty = law.variance * float(groups.square().sum())
    expected = float((target - law.mean * products.sum(1)).square().sum()) + penalty
    reach = target.abs() + law.factor * products.abs().sum(1)
    terms = gamma(len(masks.x) + 24, case.dtype) / law.keep
    bound = (4 * terms + gamma(len(masks.chance) + 24, torch.float64)) * float(reach.square().sum())
    return Evidence(
        error=abs(found - expected),
        bound=bound,
        signal=penalty,
        what="mean loss over all masks against the ridge objective",
        expected=f"{expected:.12g}, of which the penalty {penalty:.6g}",
        got=f"{found:.12g}",
        where=where,
    )


def _beyond_linear(masks: Enumerated, case: Case, where: str) -> Iterator[Evidence]:
    """E f(z) − f(E z) for z = Σ wⱼ mⱼ xⱼ: never below 0, and not 0."""
    generator = case.generator("layer")
    weight = torch.randn(masks.x.shape, generator=generator, dtype=torch.float64)
    z = masks.factor @ (weight.to(masks.x) * masks.x)
    centre = masks.mean(z)
    convex: dict[str, Callable[[Tensor], Tensor]] = {
        "a ReLU of z − E z": lambda z: (z - centre).clamp(min=0),
        "the log-sum-exp of a softmax over (z, 0)": torch.nn.functional.softplus,
    }
    for name, f in convex.items():
        gap = float(masks.mean(f(z)) - f(centre))
        size = float((masks.chance * f(z).abs()).sum())
        yield Evidence(
            error=max(-gap, 0.0) if gap == gap else gap,
            bound=gamma(len(z) + 32, torch.float64) * (size + float(centre.abs())),
            signal=abs(gap),
            what=f"E f(z) − f(E z) through {name}",
            expected="0 if dropout kept means here too; above 0 by Jensen's inequality",
            got=f"{gap:.6g}, beside E f(z) = {float(masks.mean(f(z))):.6g}",
            where=where,
            counterexample=True,
        )
