"""How far answers move when inputs do: their conditioning, measured in float64."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlcheck.checks.agreement import plain_slope
from dlcheck.checks.every.answers import Answers, Question, answers_nearby, inputs_in
from dlcheck.checks.every.judged import GRADIENT, is_gradient
from dlcheck.numerics.accuracy import NUDGE
from dlcheck.numerics.perturbations import normal
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_DRAWS = 4  # directions along which conditioning is measured
_JUMP = 2.0**-10  # what a change of 2⁻²⁶ does to nothing smooth
_AWAY = 2.0**-10  # how far from a kink gradients are compared instead


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Of the answers of `exact`, in float64, to one question."""

    exact: Implementation
    question: Question
    generator: torch.Generator

    def response(self, right: Answers, step: float = NUDGE) -> Answers:
        """Root mean square change of each element per relative change of all inputs."""
        total = {name: torch.zeros_like(r) for name, r in right.items()}
        count = 0
        for answers in self._nearby(relative=True, step=step):
            count += 1
            for name in total.keys() & answers.keys():
                total[name] += ((answers[name] - right[name]) / step).square()
        return {
            name: (square / count)
            .sqrt()
            .clamp_min(least_slope(name, self.question, self.exact, right))
            for name, square in total.items()
        }

    def kinks(self, right: Answers) -> set[str]:
        """The answers that jump when the inputs move by 2⁻²⁶ of their size."""
        found = set()
        for answers in self._nearby(relative=False):
            for name in right.keys() & answers.keys():
                r = torch.where(torch.isfinite(right[name]), right[name], 0.0)
                scale = r.abs() + float(r.square().mean().sqrt() if r.numel() else 0.0)
                if bool(((answers[name] - right[name]).abs() > _JUMP * scale).any()):
                    found.add(name)
        return found

    def case_beside(self) -> Case:
        """The case with inputs moved by 2⁻¹⁰ of their size, in its type."""
        case = self.question.case
        inputs = inputs_in(case, torch.float64)
        moves = answers_nearby(
            lambda moved: {name: x.detach() for name, x in moved.items()},
            case,
            self.exact,
            _AWAY,
            relative=False,
            generator=self.generator,
            signs=(1,),
        )
        for moved in moves:
            inputs |= moved
        beside = {
            name: x.to(case.dtype) if x.is_floating_point() else x for name, x in inputs.items()
        }
        return replace(case, inputs=beside)

    def _nearby(self, *, relative: bool, step: float = NUDGE) -> Iterator[Answers]:
        """Answers to inputs that are moved by `step`.

        Relative: and to cotangents, along several directions, whose law is symmetric; else along
        one, both ways, so that a kink is crossed.
        """
        for _ in range(_DRAWS if relative else 1):
            incoming = self.question.cotangents
            if relative:
                incoming = tuple(v * (1 + step * normal(v, self.generator)) for v in incoming)
            yield from answers_nearby(
                functools.partial(
                    _answers, replace(self.question, cotangents=incoming), self.exact
                ),
                self.question.case,
                self.exact,
                step,
                relative=relative,
                generator=self.generator,
                signs=(1,) if relative else (1, -1),
            )


def _answers(question: Question, made: Implementation, moved: Mapping[str, Tensor]) -> Answers:
    return question.put_to(made, moved=moved)


def least_slope(name: str, question: Question, made: Implementation, right: Answers) -> float:
    """What the rounding of a gradient is at least relative to; of an output: 0."""
    if not is_gradient(name):
        return 0.0
    leaves = {**question.case.inputs, **made.parameters}
    outputs = (y for other, y in right.items() if not is_gradient(other))
    return plain_slope(question.cotangents, outputs, leaves[name.removeprefix(GRADIENT)])
