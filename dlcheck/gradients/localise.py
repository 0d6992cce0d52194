"""Which elements of a gradient are wrong: group tests on the support of one direction.

The error of the claim along u is linear in u, so halving the support of u halves the suspects: of
a support S = A ∪ B only A is measured, the rest is R(B) = R(S) − R(A). One central difference at
the step that served the whole direction best costs two evaluations, so one wrong element among n
is found in 2 log₂ n, measured again by itself with its own bound, and taken out: is the rest
right? Where it is not, a sample of elements tells how far the error reaches.

Source: group testing, Dorfman, The detection of defective members of large populations, Annals of
Mathematical Statistics 14(4), 1943.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dlcheck.gradients.directions import Direction
from dlcheck.gradients.evidence import WrongElement
from dlcheck.gradients.judge import Judge
from dlcheck.gradients.looks import Look
from dlcheck.numerics.differences import Slope, inner, product_norm, shifted
from dlcheck.numerics.perturbations import direction, root_mean_square

_COUPLED = ("probability", "log_probability", "onehot", "direction", "spd", "orthogonal")
_NAMED = 3  # elements that are hunted down one by one
_SAMPLE = 20  # elements that are measured to see how far the error reaches
_ALIGNED = 3  # further ones that share an index with a wrong one, per dim
_CLEAR = 8  # a residual against the error of one difference, for a single step to do
_FINEST = 30  # halvings of the first step
_ENOUGH = 1e-6  # precision of a sampled element


@dataclass(frozen=True, slots=True)
class Region:
    """What was measured of the wrong elements of one tensor."""

    elements: tuple[WrongElement, ...]  # the wrong ones, largest error first
    right: tuple[int, ...] = ()  # flat indices found right
    wrong: tuple[int, ...] = ()  # flat indices found wrong
    is_complete: bool = False  # are all other elements right?
    forwards: int = 0

    @property
    def extent(self) -> str:
        if self.is_complete:
            return "the only wrong element" if len(self.elements) == 1 else "all that is wrong"
        total = len(self.right) + len(self.wrong)
        if total < _SAMPLE // 2:
            return ""  # no sample was taken
        if not self.right:
            return f"all of {total} elements that were measured are wrong"
        return f"{len(self.wrong)} of {total} elements that were measured are wrong"


@dataclass(slots=True)
class Part:
    """One variable of a look that raised an alarm, moved by itself."""

    judge: Judge
    look: Look
    index: int
    zeros: tuple[Tensor, ...] = field(init=False)

    def __post_init__(self) -> None:
        # One number, seen as a tensor of every shape: what stays still costs no memory.
        self.zeros = tuple(
            torch.zeros((), dtype=torch.float64, device=x.device).expand(x.shape)
            for x in self.look.place.x
        )

    @property
    def name(self) -> str:
        return self.judge.function.variables[self.index].name

    @property
    def x(self) -> Tensor:
        return self.look.place.x[self.index]

    @property
    def gradient(self) -> Tensor:
        return self.look.gradient.parts[self.index]

    def direction(self, *, relative: bool) -> Tensor:
        """A random direction of this variable within its domain."""
        spec = self.judge.function.variables[self.index].spec
        x = torch.nan_to_num(self.x, nan=0.0, posinf=0.0, neginf=0.0)
        return direction(x, spec, self.judge.generator, relative=relative)

    @property
    def is_free(self) -> bool:
        """May each element be moved by itself, without leaving the domain?"""
        spec = self.judge.function.variables[self.index].spec
        return spec is None or spec.element not in _COUPLED

    def room(self, at: int, u: Tensor) -> float:
        """How far one element may be moved: its own size where its domain has no bounds."""
        spec = self.judge.function.variables[self.index].spec
        if spec is not None and spec.element not in ("float", "logit"):
            return float(u.reshape(-1)[at].abs())
        return float(self.x.reshape(-1)[at].abs()) or root_mean_square(self.x)

    def slope(self, u: Tensor, *, precise: float | None = None) -> Slope:
        """The measured slope along u, which moves this variable alone."""
        parts = tuple(u if k == self.index else zero for k, zero in enumerate(self.zeros))
        way = Direction(parts, (0.0,) * len(parts))
        look = self.look
        return self.judge.slope(look.place, way, look.v, look.gradient, exact=True, precise=precise)

    def wrong_slope(self) -> tuple[Tensor, Slope] | None:
        """A direction of this variable alone along which the claim is wrong, if there is one."""
        for relative in (False, True):
            u = self.direction(relative=relative)
            found = self.slope(u)
            if found.is_suspicious:
                return u, found
            if found.is_resolved:
                return None
        return None

    def one_difference(self, u: Tensor, h: float) -> float:
        """The residual by one central difference: two evaluations, no bound."""
        function = self.judge.truth or self.judge.function
        values = []
        for step in (h, -h):
            point = list(self.look.place.x)
            point[self.index] = shifted(self.x, u, step)
            values.append(function.values(point))
        up, down = values
        if up is None or down is None:
            return math.nan
        measured = float(self.look.v @ (up - down)) / (2 * h)
        return measured - inner([self.gradient], [u])


def hunted(part: Part, u: Tensor, found: Slope) -> Region:
    """Name the wrong elements of one variable one by one, given a direction where it is wrong.

    Ends where the rest is right, or where what was named is not most of the error.
    """
    function = part.judge.truth or part.judge.function
    before = function.forwards
    named: list[WrongElement] = []
    wrong: list[int] = []
    rest, left, complete = u.clone(), found, False
    while len(named) < _NAMED and not complete:
        at = _bisect(part, rest, left)
        element = _measured(part, at, u, precise=None) if at is not None else None
        if element is None or at is None:
            break
        named.append(element)
        wrong.append(at)
        rest.reshape(-1)[at] = 0.0
        if not bool(rest.any()):
            complete = True
            break
        before_this, left = abs(left.residual), part.slope(rest)
        complete = left.is_resolved and not left.is_suspicious
        if not complete and abs(left.residual) > 0.5 * before_this:
            break  # one of many
    ordered = sorted(named, key=lambda element: -abs(element.claimed - element.numeric))
    return Region(tuple(ordered), (), tuple(wrong), complete, function.forwards - before)


def sampled(part: Part, u: Tensor, region: Region) -> Region:
    """The region with a random sample of further elements measured, each by itself."""
    named, right, wrong = list(region.elements), list(region.right), list(region.wrong)
    for at in _sample(part, wrong):
        element = _measured(part, at, u, precise=_ENOUGH)
        if element is None:
            right.append(at)
        else:
            named.append(element)
            wrong.append(at)
    named.sort(key=lambda element: -abs(element.claimed - element.numeric))
    return replace(region, elements=tuple(named), right=tuple(right), wrong=tuple(wrong))


def _bisect(part: Part, u: Tensor, found: Slope) -> int | None:
    """The flat index of one wrong element within the support of u; None if none can be told."""
    h = _best_step(part, found)
    flat = u.reshape(-1)
    support = torch.nonzero(flat).reshape(-1)
    residual = found.residual
    while len(support) > 1:
        half = support[: len(support) // 2]
        masked = torch.zeros_like(flat)
        masked[half] = flat[half]
        if h is not None:
            share = part.one_difference(masked.view(u.shape), h)
        else:
            share = part.slope(masked.view(u.shape)).residual
        if not math.isfinite(share):
            return None
        if abs(share) >= abs(residual - share):
            support, residual = half, share
        else:
            support, residual = support[len(support) // 2 :], residual - share
    return int(support[0]) if len(support) else None


def _best_step(part: Part, found: Slope) -> float | None:
    """The step whose central difference is good enough to halve with; None: none is.

    Its truncation falls with h² from the largest step on, its rounding grows with 1/h.
    """
    if not found.single:
        return None
    largest, truncation = max(found.single)
    unit = part.judge.function.unit
    rounding = unit * (found.level + product_norm(part.x, part.gradient))
    steps = [largest * 2.0**-j for j in range(_FINEST)]
    errors = [truncation * (h / largest) ** 2 + rounding / h for h in steps]
    error, h = min(zip(errors, steps, strict=True))
    return h if _CLEAR * error <= abs(found.residual) else None


def _measured(part: Part, at: int, u: Tensor, *, precise: float | None) -> WrongElement | None:
    """One element by itself: the wrong element with its numeric value, or None if it is right."""
    step = torch.zeros_like(u)
    size = part.room(at, u)
    step.reshape(-1)[at] = size
    found = part.slope(step, precise=precise)
    if not found.is_suspicious:
        return None
    index = torch.unravel_index(torch.tensor(at), u.shape) if u.dim() else ()
    return WrongElement(
        tensor=part.name,
        index=tuple(int(i) for i in index),
        claimed=float(part.gradient.reshape(-1)[at]),
        numeric=found.measured / size,
        bound=found.bound / size,
    )


def _sample(part: Part, known: Sequence[int]) -> Iterator[int]:
    """Flat indices: at random, and then in line with a wrong one, dim by dim."""
    generator, n = part.judge.generator, part.x.numel()
    order = torch.randperm(n, generator=generator, device=generator.device)[: _SAMPLE + len(known)]
    taken = set(known)
    for at in order.tolist()[:_SAMPLE]:
        if at not in taken:
            taken.add(at)
            yield at
    for at in _aligned(part, known[0]) if known else ():
        if at not in taken:
            taken.add(at)
            yield at


def _aligned(part: Part, wrong: int) -> Iterator[int]:
    """Flat indices that share one index with a wrong element, and are random else."""
    generator, shape = part.judge.generator, tuple(part.x.shape)
    place = [int(index) for index in torch.unravel_index(torch.tensor(wrong), shape)]
    for axis in range(len(shape)):
        for _ in range(_ALIGNED):
            at = 0
            for k, size in enumerate(shape):
                drawn = torch.randint(size, (1,), generator=generator, device=generator.device)
                at = at * size + (place[k] if k == axis else int(drawn))
            yield at
