"""A subject beside its reference: every answer with the grade of its accuracy."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dlcheck.checks.agreement import largest_of
from dlcheck.checks.every.answers import (
    Answers,
    Question,
    inputs_in,
    rounded_otherwise,
    terms_of,
)
from dlcheck.checks.every.conditioning import Conditioning
from dlcheck.checks.every.judged import Judged, is_gradient, magnitude
from dlcheck.checks.every.twin import in_dtype, paired_names, reference_of
from dlcheck.errors import SubjectError
from dlcheck.model import NOTHING
from dlcheck.numerics.accuracy import INSIDE, Errors, Grade, accuracy
from dlcheck.numerics.perturbations import normal
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROUNDINGS = 4  # of the inputs, that a few steps amount to
_ALTOGETHER = 0.25  # of what an output is: such a change is one to another answer
_POINTS = 16  # beside the point, at which the reference's errors are measured too


def judged_answers(
    subject: Implementation, case: Case, usual: Mapping[str, float] = NOTHING
) -> dict[str, Judged]:
    """Every answer of the subject, judged; at a point beside, where the reference has a kink.

    usual: the root mean square of right answers to other values.
    """
    exact = reference_of(subject, case, torch.float64)
    question = Question.of(exact, case, dtype=case.dtype)
    duel = Duel(subject, exact, case, question, usual)
    right = question.put_to(exact)
    kinked = duel.conditioning.kinks(right)
    found = duel.judged(right, [name for name in right if name not in kinked])
    if kinked:
        beside = duel.conditioning.case_beside()
        moved = Duel(subject, exact, beside, replace(question, case=beside), usual)
        found |= moved.judged(moved.question.put_to(exact), sorted(kinked))
    return found


@dataclass(slots=True)
class Duel:
    """The subject and its reference in float64, and the question that both are asked."""

    subject: Implementation
    exact: Implementation
    case: Case
    question: Question
    usual: Mapping[str, float]
    conditioning: Conditioning = field(init=False)

    def __post_init__(self) -> None:
        generator = self.case.generator("conditioning")
        self.conditioning = Conditioning(self.exact, self.question, generator)

    def judged(self, right: Answers, names: Sequence[str]) -> dict[str, Judged]:
        """The subject's answers of these names, each held against the right one."""
        if not names:
            return {}
        dtype = self.case.dtype
        narrow = torch.float32 if dtype == torch.float64 else dtype
        got = self.question.put_to(self.subject, parameters=self._paired(self.subject))
        response = self.conditioning.response(right)
        twin = reference_of(self.subject, self.case, narrow)
        trusted, errors = self._trusted(twin, right, response)
        beside = right if dtype == torch.float64 else trusted

        def judge(name: str) -> Judged:
            terms = terms_of(name, self.case, self.exact.parameters)
            answers = got[name], beside[name], right[name], response[name]
            usual = self.usual.get(name, 0.0)
            measured = accuracy(*answers, terms, errors[name], self._inside, usual)
            wanted = Grade.B if is_gradient(name) or self._inside else Grade.A
            return Judged(name, got[name], right[name], measured, wanted)

        found = {name: judge(name) for name in names if name in got and name in beside}
        for more in self._trusted_nearby(twin, response):  # by luck the reference may be exact
            if all(one.is_good for one in found.values()):
                break
            errors = {name: errors[name] | more.get(name, Errors()) for name in errors}
            found = {name: judge(name) for name in found}
        excuses = (
            (self._response_of_rows, lambda one: one.is_wrong_by_numbers),
            (self._reference_rounding, self._may_be_rounding),
            (self._subject_rounding, self._may_be_rounding),
            (self._overflow, self._may_be_rounding),
            (self._undetermined, lambda one: is_gradient(one.name) and not one.is_good),
        )
        for spreads, may_be in excuses:
            wrong = [name for name, one in found.items() if may_be(one)]
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
                name: (x * (1 + 2 * u * normal(x, self.conditioning.generator))).to(twin.dtype)
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

    def _response_of_rows(self, right: Answers, names: Sequence[str]) -> Answers:
        """Root mean square over the last axis, to moves of a few roundings of the inside.

        Elements of a row share what is computed from it, as its mean, though one of them may lie
        where it does not respond; and beside a huge offset the squares of moves count. Moves of
        float64 show the rounding of the right answers too.
        """
        found = self.conditioning.response(right, self._few_roundings)
        return {name: _norm_of_rows(found[name]) for name in names}

    def _undetermined(self, right: Answers, names: Sequence[str]) -> Answers:
        """Infinite for gradients of an output that a few roundings change altogether.

        Attention to keys whose scores are as large as 1/u has a winner by chance, and slopes only
        where rounding makes two scores equal.
        """
        step = self._few_roundings
        found = self.conditioning.response(right, step)
        if not any(
            step * largest_of(found[name]) > _ALTOGETHER * magnitude(answer)
            for name, answer in right.items()
            if not is_gradient(name)
        ):
            return {}
        return {name: torch.full_like(right[name], math.inf) for name in names}

    @property
    def _few_roundings(self) -> float:
        u = unit_roundoff(self.case.dtype)
        inside = unit_roundoff(self._inside) if self._inside else min(u, INSIDE)
        return _ROUNDINGS * inside

    def _reference_rounding(self, right: Answers, names: Sequence[str]) -> Answers:
        return rounded_otherwise(self.question, self.exact, right, names, None, self._inside)

    def _subject_rounding(self, right: Answers, names: Sequence[str]) -> Answers:
        """That of the subject, where it can be computed in float64.

        Of its gradients, or of all where its arithmetic is declared; an overflow excuses nothing.
        """
        chosen = [name for name in names if is_gradient(name) or self._inside]
        try:
            twin = in_dtype(self.subject, self.case, torch.float64)
            own = self.question.put_to(twin, parameters=self._paired(twin))
            found = rounded_otherwise(
                self.question, twin, own, chosen, self._paired(twin), self._inside
            )
        except SubjectError:
            return {}
        if self._inside is None:
            return found
        return {name: spread.nan_to_num(0.0, 0.0) for name, spread in found.items()}

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


def _norm_of_rows(response: Tensor) -> Tensor:
    """The root mean square over the last axis, at every element of it."""
    if not response.dim() or not response.numel():
        return response
    return response.square().mean(-1, keepdim=True).sqrt().expand_as(response)
