"""How accurate is a result, beside a trusted one in the same type and the exact one?

Fixed tolerances fail both ways: they reject a third of the correct variants of an operation and
pass an eighth of the wrong ones. Here the unit of error is measured for each element,

    w = u|r| + s,    s: response of the exact result r to relative changes of all inputs

s being the root mean square over a few draws of random signs, of changes by 2⁻²⁶ in float64,
rescaled to the precision in which the arithmetic runs: so conditioning needs no analysis. In
units of w the errors of the candidate c are held against those of the baseline b, the trusted
operation in the same type:

    grade A, as accurate as the baseline:
        RMS(c) ≤ 2·max(RMS(b), RMS(r rounded), 1 in float32) + ⅓√n·u₃₂/u
        max(c) ≤ 3·max(max(b), max(r rounded), 2 in float32, ½ in half types) + √n·u₃₂/u
        |slope of c − r or of c − b on r| ≤ t standard errors + rounding of the constants
    grade B, norm-wise stable in the type, with w = u(|r| + RMS(r)) + s:
        RMS(c) ≤ 2·max(1 + ⅓√n, RMS(b)),  max(c) ≤ 2·max(4 + √n, max(b))
    grade C: neither.

One error of a baseline may be small by luck: `Errors` pools those at points an ulp apart.

The slope finds what is smaller than the noise of each element: an eps, a ddof, a smoothing. t is
Student's quantile at 10⁻³, for the caller to reject on three independent draws; rows of equal
values round alike and count once. c − b is free of the rounding that c and b share, c − r of a
bias of b: both must show the factor. In half types the arithmetic inside is expected in float32
with 4 bits to spare. In float64 r is no more exact than c: there grade B is all that can be
asked, with both errors allowed.

A sum of n like terms a, one by one, rounds partial sums ka, each by up to u·ka, by u·ka/√3 in the
root mean square: of the mean, u·a·√(Σk²/3)/n = ⅓√n·u·a (independent roundings: Higham & Mary, A
new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41(5), 2019).

NaN and infinities stand where the baseline's do. But terms of a sum that together respond by s
may be as large as √n·s: where |r| + √n·s is beyond the type, intermediates may overflow.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy.special import stdtrit
from torch import Tensor

from dlcheck.numerics.rounding import unit_roundoff

NUDGE = 2.0**-26  # relative change in float64: large against its rounding, small against all else
_SINGLE = 2.0**-24  # u of float32
_DOUBLE = 2.0**-53  # u of float64
INSIDE = 16 * _SINGLE  # what the arithmetic inside a half type's operation is expected to keep
_SUM = 1 / 3  # × √n roundings: a sum of n terms
_FEW = 64  # elements below which a slope says nothing
_ROWS = 8  # rows whose errors are independent of one another
_ALPHA = 1e-3  # two-sided, of a slope


class Grade(enum.Enum):
    """A: as accurate as the baseline. B: stable in the type, with more error. C: wrong."""

    A = "A"
    B = "B"
    C = "C"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One statistic in units of w, and what it may be."""

    name: str
    value: float
    limit: float

    @property
    def ratio(self) -> float:
        if not self.value <= self.limit and not self.limit > 0:
            return math.inf
        return self.value / self.limit if self.limit > 0 else 0.0

    @property
    def holds(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A candidate's errors, by the criteria of grade A and of grade B."""

    tight: tuple[Criterion, ...]
    stable: tuple[Criterion, ...]
    size: float  # RMS(r / w): how many units of error the result itself is
    worst_element: int  # in the flattened tensor
    pattern: str = ""  # what is wrong with NaN and infinities

    @property
    def grade(self) -> Grade:
        if self.pattern or not all(criterion.holds for criterion in self.stable):
            return Grade.C
        return Grade.A if all(criterion.holds for criterion in self.tight) else Grade.B

    def overall(self, wanted: Grade) -> Criterion:
        """That of all elements together: their root mean square error."""
        return (self.tight if wanted is Grade.A else self.stable)[0]

    def deciding(self, wanted: Grade) -> Criterion:
        """The criterion of that grade with the least room."""
        chosen = self.tight if wanted is Grade.A else self.stable
        return max(chosen, key=lambda criterion: criterion.ratio)


@dataclass(frozen=True, slots=True)
class Errors:
    """How far a baseline is off, in units of w and of grade B's w: the largest over some points."""

    rms: float = 0.0
    largest: float = 0.0
    coarse_rms: float = 0.0
    coarse_largest: float = 0.0

    @classmethod
    def of(
        cls, baseline: Tensor, exact: Tensor, response: Tensor, inside: torch.dtype | None = None
    ) -> Errors:
        """The errors of `baseline` [*] in its type against `exact` [*] in float64."""
        b, r = baseline.double(), exact.double()
        finite = torch.isfinite(r) & torch.isfinite(b) & torch.isfinite(response)
        units = Units.of(baseline.dtype, r[finite], response[finite], inside)
        fine, coarse = ((b - r)[finite] / w for w in (units.fine, units.coarse))
        return cls(
            rms=_rms(fine),
            largest=_max(fine),
            coarse_rms=_rms(coarse),
            coarse_largest=_max(coarse),
        )

    def __or__(self, other: Errors) -> Errors:
        """The larger of each."""
        return Errors(
            *(max(getattr(self, f), getattr(other, f)) for f in self.__dataclass_fields__)
        )


@dataclass(frozen=True, slots=True)
class Units:
    """The finite elements of an exact result, and the units in which errors are measured."""

    u: float
    ideal: Tensor  # r rounded to the type, minus r
    r: Tensor
    fine: Tensor  # w of grade A
    coarse: Tensor  # w of grade B

    @classmethod
    def of(
        cls,
        dtype: torch.dtype,
        r: Tensor,
        response: Tensor,
        declared: torch.dtype | None = None,
        usual: float = 0.0,
    ) -> Units:
        """declared: the type of the arithmetic inside, where that is coarser."""
        u, tiny = unit_roundoff(dtype), torch.finfo(dtype).tiny
        u = max(u, unit_roundoff(declared)) if declared is not None else u
        inside = u if u <= _SINGLE else INSIDE
        floor = tiny * u if dtype == torch.float16 else tiny  # the others may flush subnormals
        return cls(
            u=u,
            ideal=r.to(dtype).double() - r,
            r=r,
            fine=u * r.abs() + inside * response + floor,
            coarse=u * (r.abs() + max(_rms(r), usual)) + u * response + floor,
        )


def accuracy(
    candidate: Tensor,
    baseline: Tensor,
    exact: Tensor,
    response: Tensor,
    terms: int,
    beside: Errors,
    inside: torch.dtype | None = None,
    usual: float = 0.0,
) -> Accuracy:
    """Measure `candidate` [*] of some floating type against `exact` [*] in float64.

    baseline [*]: the trusted operation in the candidate's type; `exact` itself in float64.
    response [*], float64: root mean square change of `exact` per relative change of the inputs.
    terms: how many numbers an element is summed from. beside: errors of the baseline, in the
    candidate's type or, for float64, in float32: rounding is alike in both. inside: the type that
    is declared for the arithmetic inside, the candidate's own or a coarser one. usual: what RMS(r)
    is for other values, if these happen to give a tiny result.
    """
    dtype = candidate.dtype
    c, b, r = candidate.double(), baseline.double(), exact.double()
    partial = math.sqrt(terms) * torch.where(response == response, response, 0.0)
    pattern = _wrong_pattern(c, b, r, r.abs() + partial > torch.finfo(dtype).max)
    finite = torch.isfinite(r) & torch.isfinite(c) & torch.isfinite(b) & torch.isfinite(response)
    index = finite.flatten().nonzero()[:, 0]
    if not index.numel():
        nothing = (Criterion("root mean square error", 0.0, 1.0),)
        return Accuracy(nothing, nothing, 0.0, 0, pattern)
    units = Units.of(dtype, r[finite], response[finite], inside, usual)
    own, root = (c - r)[finite], math.sqrt(terms)
    stable = tuple(_stable(units, own / units.coarse, root, beside))
    tight = [*_tight(units, own / units.fine, root, beside)]
    rows = _rows(units.r, index, r.numel() // max(r.shape[0] if r.dim() else 1, 1))
    if own.numel() >= _FEW and int(rows.max()) + 1 >= _ROWS:
        tight.append(_common_factor(units, own, (c - b)[finite], root, rows))
    return Accuracy(
        tight=stable if dtype == torch.float64 else tuple(tight),
        stable=stable,
        size=_rms(units.r / units.fine),
        worst_element=int(index[(own / units.fine).abs().argmax()]),
        pattern=pattern,
    )


def _tight(units: Units, own: Tensor, root: float, beside: Errors) -> Iterator[Criterion]:
    """Grade A of each element. root: √terms."""
    sums, ideal = _SUM * root * _SINGLE / units.u, units.ideal / units.fine
    is_half = units.u > _SINGLE
    least = max(beside.rms, _rms(ideal), 0.0 if is_half else 1.0)
    yield Criterion("root mean square error", _rms(own), 2 * least + sums)
    least = max(beside.largest, _max(ideal), 0.5 if is_half else 2.0)
    yield Criterion("largest error", _max(own), 3 * least + 3 * sums)


def _rows(r: Tensor, index: Tensor, length: int) -> Tensor:
    """The number of each element's row, of `length` elements; equal rows have one number.

    r [*]: the elements whose places in the whole tensor are `index`.
    """
    rows = index // max(length, 1)
    keys = torch.zeros(int(rows.max()) + 1, dtype=r.dtype, device=r.device)
    keys.index_add_(0, rows, r * (1 + index % max(length, 1)).sqrt())  # tells permutations apart
    kinds: Tensor = keys.unique(return_inverse=True)[1]
    found: Tensor = kinds[rows].unique(return_inverse=True)[1]
    return found


def _common_factor(
    units: Units, own: Tensor, paired: Tensor, root: float, rows: Tensor
) -> Criterion:
    """A factor common to all elements, as far as rounding, alike in a row, allows.

    own: c − r, paired: c − b; of the two criteria the one with more room.
    """
    found = []
    for difference in (own, paired):
        slope, deviation = _slope(difference / units.fine, units.r / units.fine, rows)
        t = float(stdtrit(int(rows.max()), 1 - _ALPHA / 2))
        constants = 4 * _SINGLE * max(1.0, root / 8)
        found.append(Criterion("common factor", abs(slope), t * deviation + constants))
    return min(found, key=lambda criterion: criterion.ratio)


def _slope(errors: Tensor, q: Tensor, rows: Tensor) -> tuple[float, float]:
    """The factor by which q fits the errors best, and its standard error, clustered by rows."""
    size = float((q * q).sum())
    if not 0 < size < math.inf:
        return 0.0, math.inf
    slope = float((errors * q).sum()) / size
    rest = torch.zeros(int(rows.max()) + 1, dtype=q.dtype, device=q.device)
    rest.index_add_(0, rows, (errors - slope * q) * q)
    return slope, float(torch.linalg.vector_norm(rest)) / size


def _stable(units: Units, own: Tensor, root: float, beside: Errors) -> Iterator[Criterion]:
    """Grade B; in float64 the exact result is as far off."""
    sides = 1 if units.u > _DOUBLE else 2
    least = max(1 + _SUM * root, beside.coarse_rms)
    yield Criterion("root mean square error", _rms(own), sides * 2 * least)
    least = max(4 + root, beside.coarse_largest)
    yield Criterion("largest error", _max(own), sides * 2 * least)


def _wrong_pattern(c: Tensor, b: Tensor, r: Tensor, may_overflow: Tensor) -> str:
    """How NaN and infinities of c stand otherwise than they may."""
    unlike = torch.isnan(c) & ~torch.isnan(b) & ~may_overflow
    if bool(unlike.any()):
        return "NaN where the reference has none"
    if bool((torch.isnan(r) & torch.isnan(b) & ~torch.isnan(c)).any()):
        return "a number where the reference is NaN"
    if bool((torch.isinf(c) & ~torch.isinf(b) & ~may_overflow).any()):
        return "infinite where the reference is finite"
    if bool((torch.isinf(c) & torch.isinf(r) & (c != r)).any()):
        return "infinite with the other sign"
    if bool((torch.isinf(r) & torch.isinf(b) & torch.isfinite(c)).any()):
        return "finite where the reference is infinite"
    return ""


def _rms(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values)) / math.sqrt(max(values.numel(), 1))


def _max(values: Tensor) -> float:
    return float(values.abs().amax()) if values.numel() else 0.0
