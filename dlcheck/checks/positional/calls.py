"""How an encoding of positions is called, and which axes of its answer are the sequence.

f(x) with x [b, …, t, …, d] adds to x or turns it (one source, or queries and keys together), and a
table is given for x or for positions. Axes are counted from the end, so that they are those of the
answer too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.domains import Input, size_bounds
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, scatter_parameters, tensors_in


@dataclass(frozen=True, slots=True)
class Encoding:
    """A subject in eval mode, its sources, its positions, and the axes of the sequence."""

    subject: Implementation
    case: Case
    sources: tuple[str, ...]  # inputs that hold tokens
    positions: str  # the input that holds positions, "" where they are counted
    axes: tuple[int, ...]  # of the sequence, in the sources and the answers, from the end

    @classmethod
    def of(cls, subject: Implementation, case: Case) -> Encoding:
        scatter_parameters(subject, case.recipe.seed)
        if subject.module is not None:
            subject.module.eval()
        elif "stochastic" in subject.traits:
            raise NotApplicable("a function that is random has no eval mode")
        whole = [name for name, spec in case.specs.items() if spec.element in ("int", "index")]
        sources = list(case.floating)
        if not whole and subject.options.get("mode") == "table":
            whole = [name for name in sources if len(case.specs[name].dims) == 1]
        sources = [name for name in sources if name not in whole]
        positions = whole[0] if whole else ""
        of = case.specs[sources[0] if sources else positions] if sources or positions else None
        if of is None:
            raise NotApplicable("takes neither tokens nor positions")
        axes = _axes(subject, of, is_positions=not sources)
        wide = [name for name in sources if len(case.specs[name].dims) >= 1 + len(axes)]
        return cls(subject, case, tuple(wide), positions, axes)

    # --- calls --------------------------------------------------------------------------------

    def __call__(self, *xs: Tensor, positions: Tensor | None = None) -> tuple[Tensor, ...]:
        """The answers, one for each source, or the tables."""
        given = dict(zip(self.sources, xs, strict=True))
        if self.positions:
            given[self.positions] = self.counted(xs) if positions is None else positions
        inputs = [given.get(name, own) for name, own in self.case.inputs.items()]
        seed_everything(self.case.recipe.seed)
        with torch.no_grad():
            answers = tuple(tensors_in(self.subject(*inputs)))
        if self.is_table:
            return answers
        if len(answers) < len(xs) or any(
            y.shape != x.shape for y, x in zip(answers, xs, strict=False)
        ):
            raise NotApplicable("its answer has another shape than its tokens")
        return answers[: len(xs)]

    def counted(self, xs: Sequence[Tensor]) -> Tensor:
        """0, 1, 2, … for the tokens, or for as many positions as the case has."""
        like = self.case.inputs[self.positions]
        spec = self.case.specs[self.positions]
        count = xs[0].shape[self.axes[-1]] if xs else like.shape[-1]
        low, top = int(spec.low or 0), spec.high
        if top is None and spec.count is not None:
            top = spec.count.size(self.case.sizes)
        if top is not None and low + count > top:
            raise NotApplicable(f"positions go to {top} only")
        row = torch.arange(low, low + count, device=like.device).to(like.dtype)
        rows = xs[0].shape[0] if xs else like.shape[0]
        return row if like.dim() == 1 else row.expand(*([rows] * (like.dim() - 1)), count).clone()

    # --- what is known ------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        return str(self.subject.options.get("mode", ""))

    @property
    def is_table(self) -> bool:
        return self.mode == "table" or not self.sources

    @property
    def xs(self) -> tuple[Tensor, ...]:
        return tuple(self.case.inputs[name].detach() for name in self.sources)

    @property
    def features(self) -> int:
        """The axis of the features, from the end: the last that is none of the sequence."""
        return next(axis for axis in range(-1, -8, -1) if axis not in self.axes)

    @property
    def length(self) -> int:
        """Tokens along the first axis of the sequence."""
        if self.sources:
            return self.xs[0].shape[self.axes[0]]
        return self.case.inputs[self.positions].shape[-1]

    def fits(self, count: int, axis: int) -> bool:
        """May the axis have so many tokens, as far as is declared?"""
        if not self.sources:
            return False
        dim = self.case.specs[self.sources[0]].dims[axis]
        if not dim.name:
            return False
        bounds = size_bounds(self.subject.options, dim.name)
        return bounds is None or bounds[0] <= count <= bounds[1]

    # --- tokens -------------------------------------------------------------------------------

    def drawn(self, salt: str, source: int = 0, count: int | None = None) -> Tensor:
        """Normal tokens, of the case's sizes but for the length of the first axis."""
        x = self.xs[source]
        shape = [*x.shape]
        if count is not None:
            shape[self.axes[0]] = count
        z = torch.randn(shape, generator=self.case.generator(salt), dtype=torch.float64)
        return z.to(x)

    def same_everywhere(self, salt: str, source: int = 0, count: int | None = None) -> Tensor:
        """One random vector of features at every token: what comes back differs by position."""
        x = self.drawn(salt, source, count)
        one = x
        for axis in range(-x.dim(), 0):
            if axis != self.features:
                one = one.narrow(axis, 0, 1)
        return one.expand(x.shape).clone()

    def along(self, y: Tensor, axis: int) -> Tensor:
        """What y holds along an axis of the sequence, at the first index of all others but the
        features: [t, d]."""
        for other in range(-y.dim(), 0):
            if other not in (axis, self.features):
                y = y.narrow(other, 0, 1)
        return y.movedim((axis, self.features), (0, 1)).flatten(1)

    def patterns(self, axis: int, count: int | None = None) -> tuple[Tensor, ...]:
        """What each position does, [t, d] for each answer: the table, what is added, or one
        vector of features turned."""
        if self.is_table:
            return tuple(self._table(y, axis) for y in self(*self._zeros(count)))
        xs = self._zeros(count)
        if self.mode != "add":
            xs = tuple(self.same_everywhere(f"x{i}", i, count) for i in range(len(xs)))
        return tuple(self.along(y, axis) for y in self(*xs))

    def _table(self, y: Tensor, axis: int) -> Tensor:
        if y.dim() < -self.axes[0]:
            raise NotApplicable("its table has no axis of features")
        return self.along(y, axis)

    def _zeros(self, count: int | None) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(self.drawn("", i, count)) for i in range(len(self.sources)))


def _axes(subject: Implementation, spec: Input, *, is_positions: bool) -> tuple[int, ...]:
    """The declared axes, from the end, in tensors with features."""
    dims = len(spec.dims) + is_positions
    declared = subject.options.get("axes")
    if declared is None:
        if dims > 3:
            raise NotApplicable("declare options.axes: which axes are the sequence")
        return (-2,)
    axes = [declared] if isinstance(declared, int) else list(declared)
    if is_positions:
        axes = [axis if axis >= 0 else axis - 1 for axis in axes]
        axes = [-2 if axis == -3 else axis for axis in axes] if dims == 2 else axes
    return tuple(sorted(axis - dims if axis >= 0 else axis for axis in axes))


def angle_error(tokens: int, dtype: torch.dtype) -> float:
    """How far an angle t·θ, θ ≤ 1, of a position below `tokens` may be off.

    Angles are often computed in float32 whatever the dtype, and so they should be for halves:
    the product rounds by t·u, cos and sin by u each. A frequency that is off is off for all
    positions alike, and leaves every angle a multiple of it.
    """
    return (2 * tokens + 8) * rounding_unit(dtype)


def rounding_unit(dtype: torch.dtype) -> float:
    return max(unit_roundoff(dtype), unit_roundoff(torch.float32))
