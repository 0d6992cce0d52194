"""How large right answers usually are: what rounding errors of a tiny one may be relative to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from dlcheck.checks.every.answers import Answers, Question
from dlcheck.checks.every.conditioning import Conditioning
from dlcheck.checks.every.judged import magnitude
from dlcheck.checks.every.twin import reference_of
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation

_DRAWS = 4  # of other values
_SHRUNK = (2.0**-10, 2.0**-20)  # what one input is multiplied by


def redrawn(case: Case, strike: int, **changed: Any) -> Case:
    """The case with other values of the same sizes, and of the same regimes unless changed."""
    seed = (case.recipe.seed + 7919 * strike) % 2**31
    recipe = replace(case.recipe, seed=seed, **changed)
    inputs = materialize(recipe, case.specs, case.device, case.dtype)
    return replace(case, recipe=recipe, inputs=inputs)


def usual_sizes(subject: Implementation, case: Case) -> Iterator[Mapping[str, float]]:
    """The largest root mean square of each right answer nearby; then of its response as well.

    To other draws of the values, to normal ones, and with one input shrunk: the slope of a
    saturated function is tiny, but was not on the way to there.
    """
    exact = reference_of(subject, case, torch.float64)

    def question(one: Case) -> Question:
        return Question.of(exact, one, dtype=case.dtype)

    def response(one: Case) -> Answers:
        asked = question(one)
        conditioning = Conditioning(exact, asked, case.generator("usual response"))
        return conditioning.response(asked.put_to(exact))

    shrunk = [
        replace(case, inputs={**case.inputs, name: factor * case.inputs[name]})
        for name in case.floating
        for factor in _SHRUNK
    ]
    normal = redrawn(case, 0, regimes=dict.fromkeys(case.recipe.regimes, "normal"))
    drawn = [redrawn(case, n) for n in range(1, _DRAWS + 1)]
    sizes = _largest({}, [normal, *drawn, *shrunk], lambda one: question(one).put_to(exact))
    yield sizes
    yield _largest(sizes, shrunk, response)


def _largest(
    sizes: Mapping[str, float], cases: list[Case], answers: Callable[[Case], Answers]
) -> dict[str, float]:
    found = dict(sizes)
    for one in cases:
        for name, answer in answers(one).items():
            found[name] = max(found.get(name, 0.0), magnitude(answer))
    return found
