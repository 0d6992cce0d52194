"""What is declared of the values: their range, their sign, how they grow and bend."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.every.broken_symmetry import (
    turns_its_sign,
)
from dlcheck.checks.still import Still, larger_of, part_of, without_noise
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around, on_tensors
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation


@around
def overshoots_by_a_hundredth(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """Beyond both ends of any interval."""
    return on_tensors(
        original(*inputs, **keywords), lambda y: torch.where(y > y.mean(), y + 1.01, y - 1.01)
    )


@around
def is_negative_now_and_then(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y * torch.cos(9 * y))


@around
def waves_on_its_way(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """A ripple on the graph: neither monotone nor convex."""
    return on_tensors(original(*inputs, **keywords), lambda y: y + 0.9 * y.abs() * torch.sin(9 * y))


def _soft_count(x: Tensor) -> Tensor:
    return torch.sigmoid(x).sum(-1)


def _rectified(x: Tensor, y: Tensor) -> Tensor:
    return torch.relu(x) + y.square()


@check(
    kind=["op", "layer", "loss", "penalty", "normalization", "attention", "positional"],
    needs={"nonnegative"},
    rejects=[turns_its_sign, is_negative_now_and_then],
    accepts=[
        Subject(
            name="rectified_sum",
            target=_rectified,
            kind="op",
            inputs={"x": "float b n", "y": "float b n"},
            traits=frozenset({"nonnegative", "convex", "nonsmooth"}),
        ),
    ],
    dtypes=["float64", "float32"],
)
def nonnegative(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """No answer is below 0 by more than rounding."""
    function = _as_declared(subject, case)
    room = function.room()
    for place, y in enumerate(function(*case.fresh())):
        yield within(f"answer {place} below 0", -y, y, part_of(room, place))


@check(
    kind=["op", "layer", "loss", "penalty", "normalization", "attention", "positional"],
    options={"bounds": True},
    rejects=[overshoots_by_a_hundredth],
    accepts=[
        Subject(
            name="sigmoid_of_all",
            target=torch.sigmoid,
            kind="op",
            inputs={"x": "float b n"},
            options={"bounds": [0.0, 1.0]},
        ),
    ],
    dtypes=["float64", "float32"],
)
def answers_stay_within_their_bounds(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Every answer lies in the declared `bounds`, but for rounding."""
    low, high = (float(end) for end in subject.options["bounds"])
    function = _as_declared(subject, case)
    room = function.room()
    for place, y in enumerate(function(*case.fresh())):
        if not y.is_floating_point():
            continue
        for side, excess in (("below", low - y), ("above", y - high)):
            if math.isfinite(low if side == "below" else high):
                what = f"answer {place} {side} its bounds"
                yield within(what, excess, y, part_of(room, place))


@check(
    kind=["op", "layer"],
    needs={"monotone"},
    rejects=[turns_its_sign, waves_on_its_way],
    accepts=[
        Subject(
            name="soft_count",
            target=_soft_count,
            kind="op",
            inputs={"x": "float b n"},
            traits=frozenset({"monotone", "nonnegative"}),
        ),
    ],
    dtypes=["float64", "float32"],
)
def monotone(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Where the floating inputs grow, no answer falls by more than rounding.

    A step to |z| more in every element, and to twice that: two comparisons.
    """
    function = without_noise(subject, case)
    generator = case.generator("growth")
    inputs = list(case.fresh())
    steps = [
        torch.randn(x.shape, generator=generator, dtype=torch.float64).abs().to(x)
        if x.is_floating_point()
        else None
        for x in inputs
    ]
    before, room = function(*inputs), function.room()
    for factor in (0.3, 2.0):
        grown = [x if s is None else x + factor * s for x, s in zip(inputs, steps, strict=True)]
        after, room_after = function(*grown), function.room(grown)
        for place, y in enumerate(after):
            if y.is_floating_point():
                yield within(
                    f"fall of answer {place} where the input grew",
                    before[place] - y,
                    y,
                    larger_of([room, room_after], place),
                )


@check(
    kind=["op", "layer", "loss", "penalty", "activation"],
    needs={"convex"},
    rejects=[turns_its_sign, waves_on_its_way],
    dtypes=["float64", "float32"],
)
def convex(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The middle is no higher than the chord: f((x + y)/2) ≤ (f(x) + f(y))/2.

    Every element of an answer that is one number per sample or element. Of a loss only the first
    floating input moves, of the others all do. y is drawn afresh from the same domain.
    """
    function = without_noise(subject, case)
    if not case.floating:
        raise NotApplicable("has no floating input")
    moving = case.floating[:1] if subject.kind.name == "loss" else case.floating
    recipe = replace(case.recipe, seed=case.recipe.seed + 5)
    others = materialize(recipe, case.specs, case.device, case.dtype)
    x = dict(zip(case.inputs, case.fresh(), strict=True))
    y = {name: others[name] if name in moving else value for name, value in x.items()}
    half = {n: (x[n] + y[n]) / 2 if n in moving else x[n] for n in x}
    points = [list(point.values()) for point in (x, y, half)]
    of_x, of_y, of_half = (function(*point) for point in points)
    rooms = [function.room(point) for point in points]

    def room(place: int) -> Tensor:
        at_x, at_y, at_half = (found()[place] for found in rooms)
        return at_half + (at_x + at_y) / 2

    for place, middle in enumerate(of_half):
        chord = (of_x[place] + of_y[place]) / 2
        yield within(
            f"height of answer {place} above the chord",
            torch.where(torch.isposinf(chord), 0.0, middle - chord),
            chord.abs() + middle.abs(),
            functools.partial(room, place),
        )


def within(what: str, excess: Tensor, answer: Tensor, room: Callable[[], Tensor]) -> Evidence:
    """Nowhere does `excess` pass 0 by more than the answer's rounding; NaN is a failure.

    The signal is the largest answer, or 1 where all of them are 0.
    """
    error = float(excess.detach().double().amax()) if excess.numel() else 0.0
    finite = answer[torch.isfinite(answer)].detach().abs().double()
    signal = float(finite.amax()) if finite.numel() else 0.0
    if error <= 0:
        return Evidence(error=0.0, bound=0.0, signal=signal or 1.0, what=what)
    limit = room()
    judged = torch.isfinite(limit)
    error = float(excess.double()[judged].clamp_min(0).amax()) if bool(judged.any()) else 0.0
    bound = 2 * float(limit[judged].amax()) if bool(judged.any()) else math.inf
    return Evidence(error=error, bound=bound, signal=signal, what=what)


def _as_declared(subject: Implementation, case: Case) -> Still:
    """The subject in the mode it is built in: a range holds for random answers too."""
    return Still(subject, case)
