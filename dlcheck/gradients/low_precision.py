"""Gradients in float32, bfloat16 and float16, held against a certified gradient in float64.

The inputs are numbers that float64 holds too, so the same code on float64 copies is taken at the
same point, and certified by differences first. Then each element gᵢ of the narrow gradient is held
against the float64 one Gᵢ for the same cotangent v, which the narrow type holds:

    |gᵢ − Gᵢ| ≤ κ·max(sᵢ, ½ med(s)) + u|Gᵢ|      sᵢ: spread of Gᵢ when all is rounded otherwise
    ‖g − G‖   ≤ ½κ‖s‖ + u‖G‖
    |α|       ≤ 4·sd(α) + u (4u in float32)      α = ⟨g − G, G⟩ / ⟨G, G⟩, a common factor − 1

The spread is that of a few gradients of the float64 code with ±½ ulp of noise in inputs and
cotangent and every operation rounded (numerics/stochastic_rounding.py); so it knows how many
roundings there are and how they grow. κ is what a kernel may hide in one operation: in float32,
functions approximated to some ulp of their largest value. Kernels of half types compute in
float32 inside, or sum up short rows. An alarm must outlast more and coarser draws, which meet
the kinks within κ roundings, and a float64 run of which each operation is rounded to nearest,
which underflows where the type does (what is 0 or subnormal then is left out); and it must recur
with a second cotangent.

Source: the tolerance as Wilkinson's backward error, seen as a spread: see the module above.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlcheck.errors import SubjectError, SubjectRaised, Unchecked
from dlcheck.gradients.directions import cotangent
from dlcheck.gradients.evidence import GradientEvidence
from dlcheck.gradients.examination import Examination
from dlcheck.gradients.function import Function
from dlcheck.gradients.looks import Place
from dlcheck.gradients.narrow_evidence import Comparison, compared_evidence
from dlcheck.gradients.spread import Narrow, Spread, moved
from dlcheck.gradients.widening import Widened, is_narrow
from dlcheck.model import Verdict
from dlcheck.numerics.differences import Point
from dlcheck.numerics.stochastic_rounding import StochasticRounding

_DRAWS = 6
_FURTHER_DRAWS = 6  # of each coarseness, before an alarm counts
_AGREE = 0.1  # outputs of the two types, beyond their rounding


def is_low_precision(function: Function) -> bool:
    """Is anything that is differentiated held in less than float64?"""
    return any(is_narrow(variable.value.dtype) for variable in function.variables)


def held_against_float64(low: Examination, twin: Callable[[], Examination]) -> GradientEvidence:
    """The evidence on a gradient in low precision.

    twin: sets up the examination of the same function, or of its reference, in float64; it is
    called once or twice. Without a twin that runs and can be certified, float32 is judged by its
    own differences, which certify less; half types are not decided. Raises SubjectRaised where
    the function itself raises.
    """
    try:
        low.function.meet()
    except (Unchecked, SubjectError):
        return low.run()
    narrow = Narrow.of(low.function)
    wrong, why = None, ""
    for within in (contextlib.nullcontext, lambda: Widened(narrow.dtype)):
        try:
            with within():
                high, found = _certified(low.function, twin())
            duel = _Duel(low, high, narrow, within)
            why = duel.objection() or (f"float64: {found.reason}" if found.reason else "")
            if found.verdict is Verdict.PASSED and not why:
                return duel.evidence(found)
        except (SubjectError, Unchecked) as error:
            why = str(error)
            continue
        # Float32 inside, which a second try widens, may look like a wrong gradient.
        wrong = found if found.verdict is Verdict.FAILED else None
    return _without_twin(low, narrow, why) if wrong is None else _in_float64(wrong)


def _certified(low: Function, examination: Examination) -> tuple[Function, GradientEvidence]:
    """The float64 twin at the point of the narrow function, and what is known of its gradient."""
    high = examination.function
    shapes = [[variable.value.shape for variable in f.variables] for f in (low, high)]
    if shapes[0] != shapes[1]:
        names = [", ".join(variable.name for variable in f.variables) for f in (low, high)]
        raise Unchecked(f"in float64 it differentiates {names[1]}, not {names[0]}")
    high.variables = tuple(
        replace(theirs, value=ours.value.to(theirs.value.dtype))
        for ours, theirs in zip(low.variables, high.variables, strict=True)
    )
    return high, examination.run()


def _in_float64(found: GradientEvidence) -> GradientEvidence:
    note = "it is wrong in float64 already, where nothing is left to rounding"
    return replace(found, notes=(*found.notes, note))


def _without_twin(low: Examination, narrow: Narrow, why: str) -> GradientEvidence:
    if narrow.is_half:
        return low.unchecked(
            f"{narrow.name} is too coarse for differences, and in float64 it cannot be certified "
            f"({why}); pass reference=, the same function for float64"
        )
    found = low.run()
    note = f"judged by differences in {narrow.name}, as in float64 it cannot be: {why}"[:240]
    return replace(found, notes=(*found.notes, note))


@dataclass(slots=True)
class _Duel:
    """The narrow function and its twin at the same points, with the same cotangents."""

    examination: Examination
    high: Function
    narrow: Narrow
    within: Callable[[], AbstractContextManager[object]]
    _seed: int = 0

    @property
    def low(self) -> Function:
        return self.examination.function

    def objection(self) -> str:
        """Why the twin is none: it returns something else, beyond any rounding."""
        if self.low.shapes != self.high.shapes:
            return "in float64 it returns other shapes"
        right = self.low.mask(self.high.value)
        change = _distance(self.low.value, right)
        if change <= _AGREE * float(torch.linalg.vector_norm(right)):
            return ""
        spread = [_distance(self.low.mask(value), right) for value in self._values()]
        if change <= self.narrow.safety * max(spread, default=0.0):
            return ""
        return "in float64 it returns other numbers"

    def _values(self) -> Iterator[Tensor]:
        for _ in range(_DRAWS):
            point = [moved(x, self.narrow, self._seed) for x in self.high.x]
            with self._rounding():
                value = self.high.values(point)
            if value is not None:
                yield value

    @contextlib.contextmanager
    def _rounding(self, coarser: int = 1, *, nearest: bool = False) -> Iterator[StochasticRounding]:
        self._seed += 1
        narrow, seed = self.narrow, None if nearest else self._seed << 20
        rounding = StochasticRounding(narrow.dtype, seed, coarser=coarser, longest=narrow.longest)
        with self.within(), rounding:
            yield rounding
        if rounding.overflowed:
            note = f"{narrow.name} overflows on the way: what depends on it is not certified"
            self.low.notes.append(note)

    # --- looks ---------------------------------------------------------------------------------

    def evidence(self, certified: GradientEvidence) -> GradientEvidence:
        looks: list[list[Comparison]] = []
        for index, place in enumerate(self._places()):
            if index >= 2 and not _is_open(looks):
                break
            looks.append(self._look(place))
        return compared_evidence(self.examination, self.high, self.narrow, looks, certified)

    def _places(self) -> Iterator[Place]:
        judge = self.examination.judge
        here = judge.here()
        there = judge.second_point() or here
        yield from (here, there, here, there)

    def _look(self, place: Place) -> list[Comparison]:
        """Every tensor's gradient for a fresh cotangent; an alarm is looked into at once."""
        dtype, low = self.narrow.dtype, self.low
        v = cotangent(low, self.examination.judge.generator).to(dtype).double()
        x = [p if is_narrow(p.dtype) else p.to(dtype).to(p.dtype) for p in place.x]
        claimed = low.gradient(low.shaped(v), at=x).parts
        point = [p.double() for p in x]
        with self.within():
            truth = self.high.gradient(self.high.shaped(v), at=point).parts
        spreads = [Spread.around(part) for part in truth]
        self._draw(spreads, point, v, [1] * _DRAWS)
        pairs = list(zip(claimed, spreads, strict=True))
        if bool((low.mask(torch.ones_like(low.value)) == 0).any()):  # it overflows itself
            for part, spread in pairs:
                spread.leave_out(~torch.isfinite(part))
        found = [Comparison.of(part, spread, self.narrow) for part, spread in pairs]
        if any(comparison.is_alarm for comparison in found):
            self._draw(spreads, point, v, self.narrow.coarsenesses * _FURTHER_DRAWS)
            self._compute(pairs, point, v)
            found = [Comparison.of(part, spread, self.narrow) for part, spread in pairs]
        return found

    def _compute(self, pairs: Sequence[tuple[Tensor, Spread]], point: Point, v: Tensor) -> None:
        """Allow for what rounding to nearest does, and for zeros where something underflows."""
        with self._rounding(nearest=True) as rounding:
            computed = self.high.gradient(self.high.shaped(v), at=point).parts
        for (claimed, spread), part in zip(pairs, computed, strict=True):
            spread.allow(part)
            if rounding.underflowed:
                below = spread.gradient.abs() < 4 * torch.finfo(self.narrow.dtype).tiny
                spread.leave_out(((claimed == 0) | below) & (spread.gradient != 0))

    def _draw(
        self, spreads: Sequence[Spread], point: Point, v: Tensor, coarsenesses: Sequence[int]
    ) -> None:
        for coarser in coarsenesses:
            drawn = self._drawn(spreads, point, v, coarser)
            for spread, part in zip(spreads, drawn, strict=True):
                spread.add(part, coarser, is_widest=coarser == max(self.narrow.coarsenesses))

    def _drawn(
        self, spreads: Sequence[Spread], point: Point, v: Tensor, coarser: int
    ) -> Sequence[Tensor]:
        """A gradient rounded otherwise; without noise in x where that leaves its domain."""
        seed = self._seed
        noisy = [moved(x, self.narrow, seed, coarser=coarser) for x in point]
        w = moved(v, self.narrow, seed, coarser=coarser)
        with contextlib.suppress(SubjectRaised):
            with self._rounding(coarser):
                drawn = self.high.gradient(self.high.shaped(w), at=noisy).parts
            if all(spread.is_finite(part) for spread, part in zip(spreads, drawn, strict=True)):
                return drawn
        with self._rounding(coarser):
            return self.high.gradient(self.high.shaped(v), at=point).parts


def _is_open(looks: Sequence[Sequence[Comparison]]) -> bool:
    """Has some tensor one alarm, and none two?"""
    counts = [[look.is_alarm for look in tensor].count(True) for tensor in zip(*looks, strict=True)]
    return max(counts) == 1


def _distance(a: Tensor, b: Tensor) -> float:
    found = float(torch.linalg.vector_norm(torch.nan_to_num(a - b)))
    return found if math.isfinite(found) else 0.0
