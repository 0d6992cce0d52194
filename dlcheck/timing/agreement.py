"""Are the subject's outputs on the timed inputs the reference's? Without that, no verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlcheck.checks.every.answers import Question, inputs_in
from dlcheck.checks.every.duel import Duel
from dlcheck.checks.every.judged import Judged
from dlcheck.checks.every.twin import reference_of
from dlcheck.checks.every.whole_numbers import whole_numbers_agree
from dlcheck.errors import NotApplicable
from dlcheck.model import Verdict, worst
from dlcheck.numerics.accuracy import Grade
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, tensors_in


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the subject's outputs stand beside the reference's."""

    grade: str  # "A", "B", "C"; empty where nothing can be compared
    words: str


def agreement(subject: Implementation, against: Implementation, case: Case) -> Agreement:
    """Grade every output on the inputs that are timed, the gradients aside.

    As accurate as the reference in the dtype (A), stable in it (B), wrong (C): the policy of
    `numerics/accuracy.py`, with the reference in float64 as the exact answer. Whole numbers are
    compared one by one, where rounding does not decide.
    """
    if unlike := _other_shapes(subject, against, case):
        return Agreement("C", unlike)
    whole = whole_numbers_agree(subject, case)
    if whole and worst(whole).verdict is Verdict.FAILED:
        return Agreement("C", f"{worst(whole).what} differs: {worst(whole)}")
    try:
        exact = reference_of(subject, case, torch.float64)
        question = replace(Question.of(exact, case, dtype=case.dtype), with_gradients=False)
        right = question.put_to(exact)
        found = Duel(subject, exact, case, question, {}).judged(right, list(right))
    except NotApplicable:
        return Agreement("A", "every whole number is the reference's") if whole else _NOTHING
    if not found:
        return _NOTHING
    judged = max(found.values())
    grade = judged.accuracy.grade
    return Agreement(grade.value, _WORDS[grade] if grade is not Grade.C else _how_wrong(judged))


_NOTHING = Agreement("", "answers no tensors that could be held against the reference's")
_WORDS = {
    Grade.A: "as accurate as the reference",
    Grade.B: "stable in its type, less accurate than the reference",
}


def _how_wrong(judged: Judged) -> str:
    piece = judged.evidence()
    told = f"{piece.what}: {piece.cause or piece}"
    if piece.got and piece.expected:
        told += f"; {piece.where}: got {piece.got}, expected {piece.expected}"
    return told


def _other_shapes(subject: Implementation, against: Implementation, case: Case) -> str:
    got, right = (_shapes(made, case) for made in (subject, against))
    if got == right:
        return ""
    return f"returns {_say(got)}, where the reference returns {_say(right)}"


def _shapes(made: Implementation, case: Case) -> list[tuple[int, ...]]:
    with torch.no_grad():
        return [tuple(y.shape) for y in tensors_in(made(*inputs_in(case, case.dtype).values()))]


def _say(shapes: list[tuple[int, ...]]) -> str:
    if not shapes:
        return "no tensor"
    return ("shape " if len(shapes) == 1 else "shapes ") + ", ".join(map(str, shapes))


def same_bits(a: list[Tensor], b: list[Tensor]) -> bool:
    """Are they equal, NaN to NaN, in shape, type and value?"""
    return len(a) == len(b) and all(
        x.shape == y.shape and x.dtype == y.dtype and bool(((x == y) | ((x != x) & (y != y))).all())
        for x, y in zip(a, b, strict=True)
    )
