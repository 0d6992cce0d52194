"""One answer beside the reference's: how accurate it is, and what is asked of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.checks.difference import Difference, difference
from dlcheck.model import Evidence
from dlcheck.numerics.accuracy import Accuracy, Criterion, Grade
from dlcheck.numerics.rounding import unit_roundoff

_COARSEST = 64  # roundings of the type: a bound below that still says something
GRADIENT = "gradient of "  # what the name of an answer that is one begins with


def is_gradient(name: str) -> bool:
    """Is an answer of this name a gradient, not an output?"""
    return name.startswith(GRADIENT)


def magnitude(answer: Tensor) -> float:
    """The root mean square of what is finite."""
    finite = answer[torch.isfinite(answer)].double()
    return float(torch.linalg.vector_norm(finite)) / math.sqrt(max(finite.numel(), 1))


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer and the right one, with the grade that it has and the grade that is wanted."""

    name: str
    got: Tensor
    right: Tensor
    accuracy: Accuracy
    wanted: Grade

    @property
    def is_good(self) -> bool:
        return not self.accuracy.pattern and self.criterion.holds

    @property
    def is_doubtful(self) -> bool:
        """Is it stable, but less accurate than asked for? Chance may do that once."""
        return self.wanted is Grade.A and self.accuracy.grade is Grade.B

    @property
    def is_wrong_by_numbers(self) -> bool:
        """Is it of grade C for the size of its error, not for NaN or infinities?"""
        return self.accuracy.grade is Grade.C and not self.accuracy.pattern

    @property
    def magnitude(self) -> float:
        return magnitude(self.right)

    def __lt__(self, other: Judged) -> bool:
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[str, float]:
        return self.accuracy.grade.value, self.criterion.ratio

    @property
    def criterion(self) -> Criterion:
        is_wrong = self.accuracy.grade is Grade.C
        return self.accuracy.deciding(Grade.B if is_wrong else self.wanted)

    def evidence(self) -> Evidence:
        """The criterion that decides, in units of rounding; the place of the worst element."""
        u, wrong = unit_roundoff(self.got.dtype), not self.is_good
        found = self.criterion if wrong else self.accuracy.overall(self.wanted)
        is_factor = found.name == "common factor"
        place = self.accuracy.worst_element
        told = self._difference(place) if wrong else Difference()
        return Evidence(
            error=math.inf if self.accuracy.pattern else found.value,
            bound=found.limit,
            signal=1.0 if is_factor else self.accuracy.size,
            unit="of the value" if is_factor else "roundings",
            what=f"{self.name}, {found.name}",
            expected=told.expected,
            got=told.got,
            where=told.where,
            cause=(self._cause() or told.cause) if wrong else "",
            resolution=max(0.01, _COARSEST * u),
            values={"grade": self.accuracy.grade.value},
        )

    def _difference(self, place: int) -> Difference:
        """Which elements are further off than the worst may be; `place` at least."""
        y, right = self.got.double(), self.right.double()
        if not y.numel():
            return Difference()
        u = unit_roundoff(self.got.dtype)
        limit = u * max(self.criterion.limit, 1.0) * right.abs().clamp(min=self.magnitude)
        off = (y - right).abs().nan_to_num(math.inf, math.inf)
        wrong = (off > limit) & torch.isfinite(right)
        if not bool(wrong.any()):
            wrong = torch.zeros_like(wrong)
            wrong.view(-1)[place] = True
        return difference(y, right, wrong, limit)

    def _cause(self) -> str:
        if self.accuracy.pattern:
            return self.accuracy.pattern
        if self.accuracy.grade is Grade.C:
            return ""
        return (
            "it is stable in this type but less accurate than the reference (grade B), as where "
            "sums or intermediate values are kept in the type; if that is intended, declare "
            "options.compute_dtype"
        )
