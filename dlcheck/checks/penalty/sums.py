"""A penalty over parameters: additive, convex, and never negative."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.penalty.broken import (
    clips_large_weights,
    counts_the_first_row_only,
    forgets_the_absolute_value,
    is_shifted_below_zero,
    logs_it,
    saturates,
    squares_twice,
    takes_the_mean,
    takes_the_root,
)
from dlcheck.checks.penalty.law import law_of, moved_by_rounding, rounding, size, weights_of
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def l1_of_a_list(parameters: list[Tensor], strength: float = 0.1) -> Tensor:
    return strength * torch.stack([w.abs().sum() for w in parameters]).sum()


def keeps_the_last_of_a_list(parameters: list[Tensor], strength: float = 0.1) -> Tensor:
    """`total =` for `total +=`: right as long as there is one parameter."""
    total = torch.zeros(())
    for w in parameters:
        total = strength * w.abs().sum()
    return total


def returns_in_the_loop(parameters: list[Tensor], strength: float = 0.1) -> Tensor:
    """`return` one indentation too deep."""
    for w in parameters:
        return strength * w.abs().sum()
    return torch.zeros(())


LISTED: dict[str, Any] = {"kind": "penalty", "options": {"norm": 1, "takes": "list"}}


@check(
    kind="penalty",
    options={"norm": True},
    rejects=[
        takes_the_root,
        takes_the_mean,
        counts_the_first_row_only,
        squares_twice,
        saturates,
        Subject(name="keeps_the_last_of_a_list", target=keeps_the_last_of_a_list, **LISTED),
        Subject(name="returns_in_the_loop", target=returns_in_the_loop, **LISTED),
    ],
    accepts=[Subject(name="l1_of_a_list", target=l1_of_a_list, **LISTED)],
)
def adds_over_parameters(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The penalty of several parameters is the sum of their penalties.

    P([v, w]) = P([v]) + P([w]) over the declared inputs, each as a list of one; and since a norm
    of weights knows no tensors, a weight's first rows and its other rows are parameters too (not
    for groups, whose axis is not declared). The bound is the rounding of the sums. A mean over
    weights or layers, or a root around the sum, does not add up.
    Source: Goodfellow, Bengio & Courville, Deep Learning, 2016, §7.1.
    """
    if subject.options["norm"] in (1, 2):
        law_of(subject)  # not applicable to a norm that is not squared
    parts = _parts(subject, case)
    found = [subject.number(part) for part in parts]
    wholes = {"of the whole": subject.number(*case.fresh())}
    if subject.options.get("takes", "tensor") != "tensor" and len(case.inputs) == 1:
        wholes["of its parts in one list"] = subject.number([*parts])
    for how, whole in wholes.items():
        yield _added(case, found, whole, f"penalty {how} against the sum over its parts")


def _added(case: Case, found: list[float], whole: float, what: str) -> Evidence:
    total = sum(found)
    return Evidence(
        error=abs(whole - total),
        bound=2 * rounding(size(case.tensors), case.dtype) * max(abs(whole), abs(total)),
        signal=max(abs(whole), abs(total)),
        what=what,
        expected=f"{' + '.join(f'{part:.6g}' for part in found)} = {total:.9g}",
        got=f"{whole:.9g}",
    )


def _parts(subject: Implementation, case: Case) -> list[Tensor | list[Tensor]]:
    """The counted weights in at least two parts, as the penalty takes them."""
    blocks: list[Tensor] = []
    for w in weights_of(subject, case).values():
        can_split = subject.options["norm"] != "group" and w.dim() and len(w) > 1
        blocks += [*w.tensor_split(2)] if can_split else [w]
    if len(blocks) < 2:
        raise NotApplicable("a single row cannot be split; declare several inputs")
    return [*blocks] if len(case.inputs) == 1 else [[block] for block in blocks]


@check(
    kind="penalty",
    needs={"convex"},
    rejects=[saturates, clips_large_weights, logs_it],
)
def the_middle_costs_no_more_than_the_ends(
    subject: Implementation, case: Case
) -> Iterator[Evidence]:
    """A convex penalty of a mixture is at most the mixture of the penalties.

    P(θv + (1−θ)w) ≤ θP(v) + (1−θ)P(w) for θ = 1/4, 1/2 and 7/8, between the weights w and 0, −w,
    3w and other weights v. The bound is the rounding of the sums and of the mixture itself.
    Source: Boyd & Vandenberghe, Convex Optimization, 2004, eq. 3.1.
    """
    weights = case.fresh()
    generator = case.generator("ends")
    others = {
        "0": [0 * w for w in weights],
        "−w": [-w for w in weights],
        "3w": [3 * w for w in weights],
        "other weights": [_like(w, generator) for w in weights],
    }
    base = subject.number(*case.fresh())
    own = moved_by_rounding(subject, weights, case.dtype)
    for name, ends in others.items():
        end = subject.number(*ends)
        slack = moved_by_rounding(subject, ends, case.dtype) + own
        for theta in (0.25, 0.5, 0.875):
            mixed = [theta * v + (1 - theta) * w for v, w in zip(ends, weights, strict=True)]
            middle, chord = subject.number(*mixed), theta * end + (1 - theta) * base
            moved = moved_by_rounding(subject, mixed, case.dtype)
            reach = abs(theta * end) + abs((1 - theta) * base)
            yield Evidence(
                error=max(middle - chord, 0.0) if middle == middle else middle,
                bound=4 * rounding(size(weights), case.dtype) * reach + 2 * moved + slack,
                signal=reach,
                what=f"penalty {theta:g} of the way from w to {name}, above the chord",
                expected=f"at most {chord:.9g}",
                got=f"{middle:.9g}",
            )


def _like(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Other weights of the same size: a permutation of z times the root mean square."""
    z = torch.randn(weights.shape, generator=generator, dtype=torch.float64).to(weights)
    return z * weights.square().mean().sqrt()


@check(
    kind="penalty",
    needs={"nonnegative"},
    rejects=[forgets_the_absolute_value, logs_it, is_shifted_below_zero],
)
def no_weights_earn_a_reward(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A penalty is never negative.

    Exact, at the weights, at small ones (w/1000), at −w and at |w| and −|w|: the bound is 0.
    Source: a norm is not negative.
    """
    weights = case.fresh()
    places: dict[str, Sequence[Tensor]] = {
        "w": weights,
        "w/1000": [w / 1000 for w in weights],
        "−w": [-w for w in weights],
        "|w|": [w.abs() for w in weights],
        "−|w|": [-w.abs() for w in weights],
    }
    found = {place: subject.number(*at) for place, at in places.items()}
    scale = max(abs(value) for value in found.values())
    for place, value in found.items():
        yield Evidence(
            error=max(-value, 0.0) if value == value else value,
            bound=0.0,
            signal=scale,
            what=f"penalty below zero at {place}",
            got=f"{value:.9g}",
        )
