"""Directional derivatives from differences, with a bound that the differences themselves give.

For f: ℝⁿ → ℝᵐ, a cotangent v and a direction u, let ψ(t) = ⟨v, f(x + tu)⟩. A claimed gradient
g = Jᵀv is judged by its slope along u, ψ′(0) = ⟨g, u⟩, in two parts of the same evaluations:

    odd   [ψ(h) − ψ(−h)] / 2h − ⟨g, u⟩          = ⟨Jᵀv − g, u⟩ + c₁h² + c₂h⁴ + …
    even  v∘[f(x + hu) + f(x − hu) − 2f(x)] / 2h = d₁h + d₂h³ + …    per output element

Both are extrapolated to h = 0 over halved steps (Romberg). The odd limit is the error of the
claim. The even limit is 0 iff f is differentiable along the line, so what is left of it measures
kinks, noise, rounding and float32 arithmetic inside f, at the scale at which they spoil the odd
part; kept per element, since kinks of opposite sign would cancel in the sum.

Source: Romberg, Vereinfachte numerische Integration, 1955; Ridders, Accurate computation of
F′(x) and F′(x)F″(x), Advances in Engineering Software 4(2), 1982.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Point = Sequence[Tensor]
Function = Callable[[Point], Tensor | None]  # None: raised, or otherwise out of the domain

FIRST_STEP = 2.0**-7
ZERO = 1e-10  # share of the level of ψ below which a slope is its rounding
RESOLVED = 1e-2  # above this share of the slope a bound says nothing
_SMALLEST_STEP = 2.0**-40  # of the first one: there rounding alone costs 2⁻¹³
_LEVELS = 26
_ORDERS = 4  # columns of the table: past h⁸ rounding outgrows truncation
_SAFETY = 8.0  # the last differences of a table against its true error
_PATIENCE = 4  # halvings without a better bound
_HOPEFUL = 1e-3  # three rows whose error is a larger share of the slope: something is in the way
_LEAP = 2.0**-5  # so the step leaves it behind
_CHUNK = 2**16  # elements that stay in the cache
_LEVELS_PER_LOOK = 6  # on a device that computes ahead of its host


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """What the differences say of a claimed slope ⟨g, u⟩."""

    claimed: float
    residual: float  # true − claimed, as measured
    bound: float  # of the residual, were the claim right
    size: float  # of the slope: ‖g∘u‖ or |measured|, the larger
    level: float  # the size of what is differentiated: ‖v∘f(x)‖, or how far it was seen to move
    swing: float  # how far: the largest ‖v∘(f(x ± hu) − f(x))‖
    step: float  # of the best entry
    steps: bool = False  # does f change over large steps only?
    single: tuple[tuple[float, float], ...] = ()  # (h, error of one central difference)

    @property
    def measured(self) -> float:
        return self.claimed + self.residual

    @property
    def relative_bound(self) -> float:
        if self.size > 0:
            return self.bound / self.size
        return 0.0 if self.is_zero else math.inf

    @property
    def is_zero(self) -> bool:
        """Does f not change along the line, as far as its own rounding lets one see?"""
        return _is_zero(self.size, self.bound, self.level)

    @property
    def is_resolved(self) -> bool:
        return self.is_zero or self.bound <= RESOLVED * self.size or self._is_clear

    @property
    def is_suspicious(self) -> bool:
        """Is the claim off by more than the bound, and the bound small enough to say so?"""
        decisive = self.bound <= RESOLVED * self.size or self._is_clear
        return not self.is_zero and decisive and not abs(self.residual) <= self.bound

    @property
    def _is_clear(self) -> bool:
        """A residual that dwarfs the bound, and is no rounding of the level."""
        excess = abs(self.residual)
        return self.bound <= 0.1 * excess and max(excess, self.size) > 1e-9 * self.level


def _is_zero(size: float, bound: float, level: float) -> bool:
    return size <= ZERO * level and bound <= 1e-8 * level


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A point, a direction, a cotangent and the claimed gradient.

    function maps a point (tensors shaped like x) to its outputs [m] in float64. value [m] is
    function(x); v [m]. x, u and g hold a tensor per variable; u and g in float64. unit: the unit
    of rounding of the arithmetic, ε of float64 where the function computes in it throughout.
    noise: by how much ψ differs between two calls at the same point. size, reach: ‖g∘u‖ and
    ‖x∘g‖, where they are known already.
    """

    function: Function
    x: Point
    u: Point
    value: Tensor
    v: Tensor
    g: Point
    unit: float = torch.finfo(torch.float64).eps
    noise: float = 0.0
    size: float | None = None
    reach: float | None = None

    @property
    def claimed(self) -> float:
        return inner(self.g, self.u)

    @property
    def level(self) -> float:
        return norm_of_product([self.v], [self.value])

    def at(self, h: float) -> list[Tensor]:
        """x + hu, in the dtype of x and, where it has no gaps, with its strides."""
        if all(x.dtype == u.dtype for x, u in zip(self.x, self.u, strict=True)):
            return list(torch._foreach_add(tuple(self.x), tuple(self.u), alpha=h))
        return [shifted(x, u, h) for x, u in zip(self.x, self.u, strict=True)]


def shifted(x: Tensor, u: Tensor, h: float) -> Tensor:
    """x + hu: rounded once, to the dtype of x."""
    if x.dtype == u.dtype:
        return torch.add(x, u, alpha=h)
    return (x.to(u.dtype) + h * u).to(x.dtype)


def dot(first: Point, second: Point) -> Tensor:
    """Σ⟨aₖ, bₖ⟩ in float64, a tensor of no dimension."""
    parts = [
        torch.dot(a.reshape(-1).double(), b.reshape(-1).double())
        for a, b in zip(first, second, strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum()


def inner(first: Point, second: Point) -> float:
    """Σ⟨aₖ, bₖ⟩ on the host."""
    return float(dot(first, second))


def norm_of_product(first: Point, second: Point) -> float:
    """√Σ‖aₖ∘bₖ‖², also where squares overflow or vanish."""
    return math.hypot(*product_norms(first, second))


def product_norms(first: Point, second: Point) -> list[float]:
    """‖aₖ∘bₖ‖₂ of each pair, with one synchronisation of the device for all of them."""
    if not first:
        return []
    norms = [_norm_in_chunks(a, b) for a, b in zip(first, second, strict=True)]
    return [
        found if 1e-140 < found < 1e140 else product_norm(a, b)
        for found, a, b in zip(torch.stack(norms).tolist(), first, second, strict=True)
    ]


def _norm_in_chunks(a: Tensor, b: Tensor) -> Tensor:
    """‖a∘b‖₂. On the CPU the product of large tensors is never whole: fresh pages are dear."""
    if a.numel() <= _CHUNK or a.device.type != "cpu":
        whole: Tensor = torch.linalg.vector_norm(a.double() * b.double())
        return whole
    pieces = zip(a.reshape(-1).split(_CHUNK), b.reshape(-1).split(_CHUNK), strict=True)
    norms = [torch.linalg.vector_norm(p.double() * q.double()) for p, q in pieces]
    joined: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return joined


def product_norm(a: Tensor, b: Tensor) -> float:
    """‖a∘b‖₂, also where the squares of its elements overflow or vanish."""
    product = a.double() * b.double()
    largest = float(product.abs().max()) if product.numel() else 0.0
    if not 0 < largest < math.inf:
        return largest
    return largest * float(torch.linalg.vector_norm(product / largest))


def slope(
    line: Line,
    *,
    precise: float = 1e-9,
    first_step: float = FIRST_STEP,
    exact: bool = False,
    uncertainty: float = 0.0,
) -> Slope:
    """Judge the claim ⟨g, u⟩ for the slope of ⟨v, f⟩ at x along u.

    precise: a bound of this share of the slope is worth no further step. exact: compare with the
    points that were evaluated, x + hu rounded, instead of those that were meant; else their
    rounding is part of the bound. uncertainty: what ⟨g, u⟩ is known to be off by. The bound is
    8 × the largest of the differences within the table, the even limit and the rounding η/h,
    plus the rounding of ⟨g, u⟩ itself. Raises nothing: where no step can be used the bound is
    infinite.
    """
    ladder = _Ladder.on(line, precise=precise, exact=exact, uncertainty=uncertainty)
    ladder.climb(first_step)
    return ladder.verdict()


@functools.cache
def _gauge_weights(rows: int) -> Tensor:
    """[rows − 1, rows]: the even parts of the last steps → their extrapolations of each order.

    A row per order: L_k = L_{k−1} + (L_{k−1} − L′_{k−1}) / (2^{2k−1} − 1), since the even part
    has odd powers of h only and h is halved from step to step.
    """
    columns = [torch.eye(rows, dtype=torch.float64)[j] for j in range(rows)]
    weights = []
    for k in range(1, rows):
        factor = 1 / (2.0 ** (2 * k - 1) - 1)
        columns = [
            finer + factor * (finer - coarser) for coarser, finer in itertools.pairwise(columns)
        ]
        weights.append(columns[-1])
    return torch.stack(weights)


@dataclass(slots=True)
class _Row:
    """What one step h gave: numbers on the host."""

    h: float
    odd: float
    moved: bool
    swing: float
    sums: list[float]  # of the extrapolated even parts, one per order
    norms: list[float]


@dataclass(slots=True)
class _Change:
    """What f does on a step of the line, on the device."""

    weighted: Tensor  # [m], by the cotangent
    moved: Tensor  # bool: by anything at all?
    claimed: Tensor  # what the gradient says of ⟨v, f⟩, if that is asked for


@dataclass(slots=True)
class _Ladder:
    """Halved steps, and two Romberg tables over them."""

    line: Line
    precise: float
    exact: bool
    uncertainty: float
    claimed: float
    size: float
    level: float
    rounding: float  # η: the rounding of ψ
    evens: list[Tensor] = field(default_factory=list)  # of the last steps, on the device
    odds: list[float] = field(default_factory=list)  # the last row of the table
    singles: list[tuple[float, float]] = field(default_factory=list)  # (h, first column)
    limit: float = 0.0
    error: float = math.inf
    step: float = 0.0
    moved: bool = False
    swing: float = 0.0
    rests: bool = False  # f was evaluated, and did not change
    steps: bool = False  # it changed over large steps, and not over small ones
    rows: int = 0  # since the last restart
    waited: int = 0

    @classmethod
    def on(cls, line: Line, *, precise: float, exact: bool, uncertainty: float) -> _Ladder:
        level = line.level
        size = norm_of_product(line.g, line.u) if line.size is None else line.size
        # One rounding of each output element, weighted by v, independent of each other; and
        # unless the points are exact, one of each element of x + hu.
        rounding = line.unit * level + line.noise
        if not exact:
            reach = norm_of_product(line.x, line.g) if line.reach is None else line.reach
            rounding += line.unit * reach
        return cls(line, precise, exact, uncertainty, line.claimed, size, level, rounding)

    def climb(self, first_step: float) -> None:
        h = first_step * self._scale_of_steps()
        smallest = h * _SMALLEST_STEP
        levels = 0
        while levels < _LEVELS and h >= smallest:
            count = 1 if self.line.value.device.type == "cpu" else _LEVELS_PER_LOOK
            for row in self._measured([h / 2**j for j in range(count)]):
                levels, h = levels + 1, row.h / 2
                if not math.isfinite(row.odd):  # out of the domain
                    self._restart()
                    h = row.h / 4
                    break
                if not row.moved and (self.size == 0.0 or self.moved):
                    # A zero claim is right where f rests, unless larger steps agreed on a slope.
                    self.rests = not self.moved or not self.error <= 0.1 * abs(self.limit)
                    self.steps = self.moved
                    return  # constant here, or below the resolution of f
                self._add(row)
                if self._is_good_enough():
                    return
                if self._is_obstructed():
                    self._restart()
                    h = row.h * _LEAP
                    if self._is_hopeless(h):
                        return
                    break

    def _scale_of_steps(self) -> float:
        """At most 1: the predicted change of f must not exceed f itself."""
        if not math.inf > self.size > self.level > 0:
            return 1.0
        return 2.0 ** math.floor(math.log2(self.level / self.size))

    def _measured(self, steps: Sequence[float]) -> Iterator[_Row]:
        """The rows of some steps, with one synchronisation of the device for all of them."""
        pending = [self._evaluate(h) for h in steps]
        usable = [numbers for numbers in pending if numbers is not None]
        hosted = iter(torch.cat(usable).tolist() if usable else ())
        for h, numbers in zip(steps, pending, strict=True):
            if numbers is None:
                yield _Row(h, math.nan, moved=False, swing=0.0, sums=[], norms=[])
                continue
            ahead, behind, swing, other, moved, claimed, *rest = itertools.islice(
                hosted, len(numbers)
            )
            odd = (ahead - behind) / (2 * h) - claimed
            orders = len(rest) // 2
            yield _Row(h, odd, bool(moved), max(swing, other), rest[:orders], rest[orders:])

    def _evaluate(self, h: float) -> Tensor | None:
        """What a step gives, on the device; None where f is not defined.

        [⟨v, up⟩, ⟨v, down⟩, ‖v∘up‖, ‖v∘down‖, moved, claimed slope, sums…, norms…], up and down
        being the changes of f at ±h, and the last two the gauges of each order.
        """
        up = self._change(h)
        down = self._change(-h) if up is not None else None
        if up is None or down is None:
            return None
        swings = [torch.linalg.vector_norm(change.weighted) for change in (up, down)]
        claimed = torch.as_tensor(self.claimed, dtype=torch.float64)
        if self.exact:
            claimed = (up.claimed - down.claimed) / (2 * h)
        numbers = torch.stack(
            [
                up.weighted.sum(),
                down.weighted.sum(),
                *swings,
                (up.moved | down.moved).double(),
                claimed.to(up.weighted),
            ]
        )
        even = up.weighted.add_(down.weighted).div_(2 * h)
        self.evens = [*self.evens[-_ORDERS:], even]
        return torch.cat([numbers, *self._gauges()])

    def _change(self, step: float) -> _Change | None:
        """v∘(f(x + hu) − f(x)); None where f is not defined there."""
        point = self.line.at(step)
        value = self.line.function(point)
        if value is None:
            return None
        claimed = self._moved_by(point) if self.exact else value.new_zeros(())
        del point
        weighted = value - self.line.value
        moved = weighted.any()
        return _Change(weighted.mul_(self.line.v), moved, claimed)

    def _gauges(self) -> Iterator[Tensor]:
        """Sums and norms of the extrapolated even parts, of each order; part by part, to save
        memory."""
        if len(self.evens) < 2:
            return
        weights = _gauge_weights(len(self.evens)).to(self.evens[0].device)
        sums = norms = weights.new_zeros(len(weights))
        for parts in zip(*(even.split(_CHUNK) for even in self.evens), strict=True):
            gauges = weights @ torch.stack(parts)
            sums = sums + gauges.sum(1)
            norms = torch.hypot(norms, torch.linalg.vector_norm(gauges, dim=1))
        yield sums
        yield norms

    def _moved_by(self, point: Point) -> Tensor:
        """⟨g, point − x⟩, what the claim says of the way to the evaluated point."""
        # What is infinite stays: ∞ − ∞ is a way of length 0.
        ways = [
            torch.nan_to_num(p.double() - x.double(), nan=0.0)
            for p, x in zip(point, self.line.x, strict=True)
        ]
        return dot(self.line.g, ways)

    def _restart(self) -> None:
        self.evens, self.odds, self.rows = [], [], 0

    def _add(self, row: _Row) -> None:
        """Extend the odd table by the row of step h, half of the last one."""
        last, self.odds = self.odds, [row.odd]
        self.moved |= row.moved
        self.swing = max(self.swing, row.swing)
        self.rows, self.waited = self.rows + 1, self.waited + 1
        self.singles.append((row.h, row.odd))
        for k in range(1, min(len(last), _ORDERS) + 1):
            finer = self.odds[k - 1]  # h² is divided by 4 from row to row
            self.odds.append(finer + (finer - last[k - 1]) / (4.0**k - 1))
            if len(last) > 1:  # two rows agree by chance, three hardly
                self._offer(k, last, row)

    def _offer(self, k: int, last: list[float], row: _Row) -> None:
        limit = self.odds[k]
        neighbours = [self.odds[k - 1], last[k - 1], *last[k : k + 1]]
        error = max(
            self.rounding / row.h,
            abs(row.sums[k - 1]),
            row.norms[k - 1],
            *(abs(limit - other) for other in neighbours),
        )
        if error < self.error:
            self.limit, self.error, self.step, self.waited = limit, error, row.h, 0

    @property
    def _slope(self) -> float:
        """The size of the slope: claimed or measured, the larger."""
        return max(self.size, abs(self.claimed + self.limit))

    def _bound(self) -> float:
        # ⟨g, u⟩ is a sum of products that are each rounded a few times: 32ε‖g∘u‖.
        return _SAFETY * self.error + 32 * self.line.unit * self._slope

    def _is_good_enough(self) -> bool:
        if math.isinf(self.error):
            return False
        bound, scale = self._bound(), self._slope
        if _is_zero(scale, bound, max(self.level, self.swing)):
            return True
        # A bound that is small beside the residual decides, however large the slope.
        clear = abs(self.limit) <= bound or bound <= RESOLVED * abs(self.limit)
        if bound <= self.precise * scale and clear:
            return True
        return self.waited >= _PATIENCE and bound <= RESOLVED * scale

    def _is_obstructed(self) -> bool:
        """Three rows, and no limit in sight: a kink or an oscillation finer than the step."""
        return self.rows >= 3 and not self.error <= _HOPEFUL * self._slope

    def _is_hopeless(self, h: float) -> bool:
        """Would rounding alone hide the slope at this step?"""
        return _SAFETY * self.rounding / h > 0.1 * self._slope

    def verdict(self) -> Slope:
        if self.rests and self.size == 0.0:
            self.limit, self.error = 0.0, 0.0
        return Slope(
            claimed=self.claimed,
            residual=self.limit,
            bound=self._bound() + self.uncertainty,
            size=self._slope,
            level=max(self.level, self.swing),
            swing=self.swing,
            steps=self.steps,
            step=self.step,
            single=tuple((h, abs(odd - self.limit)) for h, odd in self.singles),
        )
