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

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]

FIRST_STEP = 2.0**-7
_LEVELS = 26  # the smallest step is 2⁻³², where rounding alone costs 2⁻²⁰
_ORDERS = 4  # columns of the table: past h⁸ rounding outgrows truncation
_SAFETY = 8.0  # the last differences of a table against its true error
_PRECISE = 1e-9  # a bound of this share of the slope is worth no further step
_PATIENCE = 5  # halvings without a better bound
RESOLVED = 1e-2  # above this share of the slope a bound says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """What the differences say of a claimed slope ⟨g, u⟩."""

    claimed: float
    residual: float  # true − claimed, as measured
    bound: float  # of the residual, were the claim right
    size: float  # of the slope: ‖g∘u‖ or |measured|, the larger
    level: float  # ‖v∘f(x)‖, the size of what is differentiated
    step: float

    @property
    def measured(self) -> float:
        return self.claimed + self.residual

    @property
    def is_zero(self) -> bool:
        """Does f not change along the line, as far as its own rounding lets one see?"""
        return self.size <= 1e-10 * self.level and self.bound <= 1e-8 * self.level

    @property
    def is_resolved(self) -> bool:
        return self.is_zero or self.bound <= RESOLVED * self.size

    @property
    def is_suspicious(self) -> bool:
        """Is the claim off by more than the bound, and the bound small enough to say so?"""
        excess = abs(self.residual)
        visible = excess > 1e-9 * self.level or self.size > 1e-9 * self.level
        decisive = self.bound <= RESOLVED * self.size or (self.bound <= 0.1 * excess and visible)
        return not self.is_zero and decisive and not excess <= self.bound


def slope(
    function: Function,
    x: Tensor,
    u: Tensor,
    v: Tensor,
    g: Tensor,
    *,
    first_step: float = FIRST_STEP,
    noise: float = 0.0,
) -> Slope:
    """Judge the claim ⟨g, u⟩ for the slope of ⟨v, f⟩ at x along u.

    x, u, g [n] and v [m] are float64 vectors, function maps [n] to [m]. noise: what ⟨g, u⟩ is
    known to be uncertain by. The bound is 8 × the largest of the differences within the table,
    the even limit and the rounding η/h, plus the rounding of ⟨g, u⟩ itself.
    """
    line = _Line(function, x, u, v, g, function(x))
    table = _Table()
    h = first_step * line.scale_of_steps()
    for _ in range(_LEVELS):
        parts = line.parts(h)
        if parts is None:  # not finite: out of the domain
            table.restart()
            h /= 4
            continue
        odd, even, moved = parts
        if not moved and (line.size == 0.0 or table.moved):
            break  # constant here, or below the resolution of f
        table.moved |= moved
        table.add(odd, even, h, line.rounding / h)
        if table.is_good_enough(line):
            break
        h /= 2
    return line.verdict(table, noise)


def _norm(vector: Tensor) -> float:
    """‖x‖₂, also where the squares of the elements overflow or vanish."""
    largest = float(vector.abs().max()) if vector.numel() else 0.0
    if not 0 < largest < math.inf:
        return largest
    return largest * float(torch.linalg.vector_norm(vector / largest))


@dataclass(frozen=True, slots=True)
class _Line:
    function: Function
    x: Tensor
    u: Tensor
    v: Tensor
    g: Tensor
    value: Tensor

    @property
    def claimed(self) -> float:
        return float(self.g @ self.u)

    @property
    def size(self) -> float:
        return _norm(self.g * self.u)

    @property
    def level(self) -> float:
        return _norm(self.v * self.value)

    @property
    def rounding(self) -> float:
        """η: one rounding of each output element, weighted by v, independent of each other."""
        return torch.finfo(torch.float64).eps * self.level

    def scale_of_steps(self) -> float:
        """At most 1: the predicted change of f must not exceed f itself."""
        if not math.inf > self.size > self.level > 0:
            return 1.0
        return 2.0 ** math.floor(math.log2(self.level / self.size))

    def parts(self, h: float) -> tuple[float, Tensor, bool] | None:
        """(odd part, even part [m], did f change?), or None where f is not finite."""
        ahead, behind = self.x + h * self.u, self.x - h * self.u
        up, down = self.function(ahead) - self.value, self.function(behind) - self.value
        # The points that were evaluated, not those that were meant: x + hu is rounded too.
        predicted = float(self.g @ (ahead - behind)) / (2 * h)
        odd = float(self.v @ (up - down)) / (2 * h) - predicted
        even = self.v * (up + down) / (2 * h)
        if not math.isfinite(odd) or not bool(torch.isfinite(even).all()):
            return None
        return odd, even, bool(up.any()) or bool(down.any())

    def verdict(self, table: _Table, noise: float) -> Slope:
        claimed, residual, error = self.claimed, table.limit, table.error
        if not table.moved and self.size == 0.0:
            residual, error = 0.0, 0.0
        size = max(self.size, abs(claimed + residual)) if math.isfinite(residual) else self.size
        return Slope(
            claimed=claimed,
            residual=residual,
            bound=_bound(error, size) + noise,
            size=size,
            level=self.level,
            step=table.step,
        )


def _bound(error: float, size: float) -> float:
    # ⟨g, u⟩ is a sum of products that are each rounded a few times: 32ε‖g∘u‖.
    return _SAFETY * error + 32 * torch.finfo(torch.float64).eps * size


@dataclass(slots=True)
class _Table:
    """Two Romberg tables side by side, and the entry of least error."""

    odd: list[float] = field(default_factory=list)  # the last row
    even: list[Tensor] = field(default_factory=list)
    limit: float = 0.0
    error: float = math.inf
    step: float = 0.0
    moved: bool = False
    waited: int = 0

    def restart(self) -> None:
        self.odd, self.even = [], []

    def add(self, odd: float, even: Tensor, h: float, rounding: float) -> None:
        """Extend the table by the row of step h, half of the last one."""
        last_odd, last_even = self.odd, self.even
        self.odd, self.even = [odd], [even]
        self.waited += 1
        for k in range(1, min(len(last_odd), _ORDERS) + 1):
            # h² is divided by 4 from row to row, h by 2.
            finer = self.odd[k - 1]
            self.odd.append(finer + (finer - last_odd[k - 1]) / (4.0**k - 1))
            gauge = self.even[k - 1]
            gauge = gauge + (gauge - last_even[k - 1]) / (2.0 ** (2 * k - 1) - 1)
            self.even.append(gauge)
            if len(last_odd) > 1:  # two rows agree by chance, three hardly
                self._offer(k, last_odd, gauge, h, rounding)

    def _offer(
        self, k: int, last_odd: list[float], gauge: Tensor, h: float, rounding: float
    ) -> None:
        limit = self.odd[k]
        neighbours = [self.odd[k - 1], last_odd[k - 1], *last_odd[k : k + 1]]
        error = max(
            rounding,
            abs(float(gauge.sum())),
            float(torch.linalg.vector_norm(gauge)),
            *(abs(limit - other) for other in neighbours),
        )
        if error < self.error:
            self.limit, self.error, self.step, self.waited = limit, error, h, 0

    def is_good_enough(self, line: _Line) -> bool:
        if math.isinf(self.error):
            return False
        size = max(line.size, abs(line.claimed + self.limit))
        bound, level = _bound(self.error, size), line.level
        if size <= 1e-10 * level and bound <= 1e-8 * level:
            return True
        # A bound that is small beside the residual decides, however large the slope.
        clear = abs(self.limit) <= bound or bound <= RESOLVED * abs(self.limit)
        if bound <= _PRECISE * size and clear:
            return True
        return self.waited >= _PATIENCE and bound <= RESOLVED * size
