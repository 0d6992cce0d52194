"""A subject beside its reference: every answer with the grade of its accuracy."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dlcheck.checks.agreement import largest_of
from dlcheck.checks.every.answers import Answers, Question, answers_nearby, inputs_in, terms_of
from dlcheck.checks.every.judged import GRADIENT, Judged, is_gradient
from dlcheck.checks.every.twin import in_dtype, paired_names, reference_of
from dlcheck.errors import SubjectError
from dlcheck.numerics.accuracy import NUDGE, Errors, Grade, accuracy
from dlcheck.numerics.perturbations import normal
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.numerics.stochastic_rounding import StochasticRounding
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_DRAWS = 4  # directions along which conditioning is measured
_JUMP = 2.0**-10  # what a change of 2⁻²⁶ does to nothing smooth
_AWAY = 2.0**-10  # how far from a kink gradients are compared instead
_POINTS = 4  # beside the point, at which the reference's errors are measured too
_COARSER = 64  # ulps to which operations round when their rounding is measured


def judged_answers(subject: Implementation, case: Case) -> dict[str, Judged]:
    """Every answer of the subject, judged; at a point beside, where the reference has a kink."""
    exact = reference_of(subject, case, torch.float64)
    duel = Duel(subject, exact, case, Question.of(exact, case, dtype=case.dtype))
    right = duel.question.put_to(exact)
    kinked = duel.kinks(right)
    found = duel.judged(right, [name for name in right if name not in kinked])
    if kinked:
        beside = duel.moved_away()
        found |= beside.judged(beside.question.put_to(exact), sorted(kinked))
    return found


@dataclass(slots=True)
class Duel:
    """The subject and its reference in float64, and the question that both are asked."""

    subject: Implementation
    exact: Implementation
    case: Case
    question: Question
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = self.case.generator("conditioning")

    def judged(self, right: Answers, names: Sequence[str]) -> dict[str, Judged]:
        """The subject's answers of these names, each held against the right one."""
        if not names:
            return {}
        dtype = self.case.dtype
        narrow = torch.float32 if dtype == torch.float64 else dtype
        got = self.question.put_to(self.subject, parameters=self._paired(self.subject))
        response = self._response(right)
        twin = reference_of(self.subject, self.case, narrow)
        trusted, errors = self._trusted(twin, right, response)
        beside = right if dtype == torch.float64 else trusted

        def judge(name: str) -> Judged:
            terms = terms_of(name, self.case, self.exact.parameters)
            measured = accuracy(
                got[name],
                beside[name],
                right[name],
                response[name],
                terms,
                errors[name],
                self._inside,
            )
            wanted = Grade.B if is_gradient(name) or self._inside else Grade.A
            return Judged(name, got[name], right[name], measured, wanted)

        found = {name: judge(name) for name in names if name in got and name in beside}
        if any(not one.is_good for one in found.values()):  # by luck the reference may be exact
            for more in self._trusted_nearby(twin, response):
                errors = {name: errors[name] | more.get(name, Errors()) for name in errors}
            found = {name: judge(name) for name in found}
        for spreads in (self._reference_rounding, self._subject_rounding, self._overflow):
            wrong = [name for name, one in found.items() if self._may_be_rounding(one)]
            for name, spread in (spreads(right, wrong) if wrong else {}).items():
                response[name] = torch.maximum(response[name], spread)
                found[name] = judge(name)
        return found

    def _trusted(
        self, twin: Implementation, right: Answers, response: Answers
    ) -> tuple[Answers, dict[str, Errors]]:
        """What the reference answers in the narrow type, and how far it is off."""
        try:
            answers = self.question.put_to(twin)
        except SubjectError:
            if self.case.dtype != torch.float64:
                raise
            return {}, dict.fromkeys(right, Errors())  # a reference for float64 alone
        errors = {
            name: Errors.of(answers[name], right[name], response[name], self._inside)
            if name in answers and self._is_comparable(name, answers[name], right[name])
            else Errors()
            for name in right
        }
        return answers, errors

    def _is_comparable(self, name: str, answer: Tensor, right: Tensor) -> bool:
        """Is the narrow answer one to this question? Float64 inputs are rounded for float32."""
        return self.case.dtype != torch.float64 or bool(
            (torch.isfinite(answer) == torch.isfinite(right)).all()
        )

    def _trusted_nearby(
        self, twin: Implementation, response: Answers
    ) -> Iterator[dict[str, Errors]]:
        """Errors of the reference in the narrow type at points that are an ulp away."""
        u = unit_roundoff(twin.dtype)
        for _ in range(_POINTS):
            moved = {
                name: (x * (1 + 2 * u * normal(x, self.generator))).to(twin.dtype)
                for name, x in inputs_in(self.case, torch.float64).items()
                if name in self.case.floating
            }
            right = self.question.put_to(
                self.exact, moved={name: x.double() for name, x in moved.items()}
            )
            with contextlib.suppress(SubjectError):
                answers = self.question.put_to(twin, moved=moved)
                yield {
                    name: Errors.of(answers[name], right[name], response[name], self._inside)
                    for name in response.keys() & answers.keys() & right.keys()
                }

    def _may_be_rounding(self, judged: Judged) -> bool:
        """Is it wrong, where a closer look at the rounding of both may explain it?

        In float64 the reference's values may be as far off; a gradient is computed by other steps
        than the reference's, of which each rounds; so is what is declared to round each step.
        """
        closer = self.case.dtype == torch.float64 or self._inside is not None
        return judged.accuracy.grade is Grade.C and (closer or is_gradient(judged.name))

    def _reference_rounding(self, right: Answers, names: Sequence[str]) -> Answers:
        return _spread(self.question, self.exact, right, names, None, self._inside)

    def _subject_rounding(self, right: Answers, names: Sequence[str]) -> Answers:
        """That of the subject's gradients, where they can be computed in float64."""
        slopes = [name for name in names if is_gradient(name)]
        try:
            twin = in_dtype(self.subject, self.case, torch.float64)
            own = self.question.put_to(twin, parameters=self._paired(twin))
            return _spread(self.question, twin, own, slopes, self._paired(twin), self._inside)
        except SubjectError:
            return {}

    def _overflow(self, right: Answers, names: Sequence[str]) -> Answers:
        """Infinite where a sum of products of two inputs is beyond the declared type."""
        if self._inside is None:
            return {}
        numbers = [*self.case.inputs.values(), *self.exact.parameters.values()]
        sizes = [largest_of(x.detach()) for x in (*numbers, *self.question.cotangents)]
        largest, limit = max(sizes, default=0.0), torch.finfo(self._inside).max
        terms = {name: terms_of(name, self.case, self.exact.parameters) for name in names}
        return {
            name: torch.full_like(right[name], math.inf)
            for name in names
            if terms[name] * largest**2 > limit
        }

    @property
    def _inside(self) -> torch.dtype | None:
        """The type of the arithmetic inside, where it is declared coarser than is expected.

        That is the subject's own type, and float32 for half types.
        """
        stated = self.subject.options.get("compute_dtype")
        if stated is None:
            return None
        declared: torch.dtype = getattr(torch, str(stated).removeprefix("torch."))
        expected = min(unit_roundoff(self.case.dtype), unit_roundoff(torch.float32))
        return declared if unit_roundoff(declared) > expected else None

    def _paired(self, made: Implementation) -> Mapping[str, Tensor]:
        """The parameters of the subject, or of its twin, under the reference's names."""
        own = made.parameters
        pairs = paired_names(self.subject, self.exact)
        return {name: own[pairs[name]] for name in self.exact.parameters if pairs[name] in own}

    def _nearby(self, *, relative: bool) -> Iterator[Answers]:
        """Answers to inputs that are moved by 2⁻²⁶.

        Relative: and to cotangents, along several directions, whose law is symmetric; else along
        one, both ways, so that a kink is crossed.
        """
        for _ in range(_DRAWS if relative else 1):
            incoming = self.question.cotangents
            if relative:
                incoming = tuple(v * (1 + NUDGE * normal(v, self.generator)) for v in incoming)
            question = replace(self.question, cotangents=incoming)
            yield from answers_nearby(
                lambda moved, question=question: question.put_to(self.exact, moved=moved),
                self.case,
                self.exact,
                NUDGE,
                relative=relative,
                generator=self.generator,
                signs=(1,) if relative else (1, -1),
            )

    def _response(self, right: Answers) -> Answers:
        """Root mean square change of each element per relative change of all inputs.

        Of a gradient at least |v|·max|y|·max(1, 1/max|x|): a slope y(1 − y) is known to u where
        y is.
        """
        total = {name: torch.zeros_like(r) for name, r in right.items()}
        count = 0
        for answers in self._nearby(relative=True):
            count += 1
            for name in total.keys() & answers.keys():
                total[name] += ((answers[name] - right[name]) / NUDGE).square()
        found = {name: (square / count).sqrt() for name, square in total.items()}
        for name in filter(is_gradient, found):
            found[name] = found[name].clamp_min(self._least_slope(name, right))
        return found

    def _least_slope(self, name: str, right: Answers) -> float:
        leaves = {**self.case.inputs, **self.exact.parameters}
        x = largest_of(leaves[name.removeprefix(GRADIENT)].detach())
        outputs = (y for name, y in right.items() if not is_gradient(name))
        pairs = zip(self.question.cotangents, outputs, strict=False)
        rise = max((largest_of(v) * largest_of(y) for v, y in pairs), default=0.0)
        return rise * max(1.0, 1 / x) if x > 0 else rise

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

    def moved_away(self) -> Duel:
        """The same duel beside the point: inputs moved by 2⁻¹⁰ of their size, in the type."""
        inputs = inputs_in(self.case, torch.float64)
        moves = answers_nearby(
            lambda moved: {name: x.detach() for name, x in moved.items()},
            self.case,
            self.exact,
            _AWAY,
            relative=False,
            generator=self.generator,
            signs=(1,),
        )
        for moved in moves:
            inputs |= moved
        case = replace(
            self.case,
            inputs={
                name: x.to(self.case.dtype) if x.is_floating_point() else x
                for name, x in inputs.items()
            },
        )
        return Duel(self.subject, self.exact, case, replace(self.question, case=case))


def _spread(
    question: Question,
    made: Implementation,
    right: Answers,
    names: Sequence[str],
    parameters: Mapping[str, Tensor] | None = None,
    inside: torch.dtype | None = None,
) -> Answers:
    """Root mean square change per unit roundoff when each operation rounds otherwise.

    inside: to which type; float64, a little coarser, unless told. Infinite where it overflows.
    """
    coarser = _COARSER if inside is None else 1
    dtype = torch.float64 if inside is None else inside
    total = {name: torch.zeros_like(right[name]) for name in names}
    for seed in range(1, _DRAWS + 1):
        with StochasticRounding(dtype, seed << 20, coarser=coarser):
            answers = question.put_to(made, parameters=parameters)
        for name in names:
            change = (answers[name] - right[name]) / (coarser * unit_roundoff(dtype))
            lost = torch.isfinite(right[name]) & ~torch.isfinite(answers[name])
            total[name] += torch.where(lost, math.inf, change.square())
    return {name: (square / _DRAWS).sqrt() for name, square in total.items()}
