"""A subject as a curve: its value and slope at chosen points."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.domains import Input, bound_dims, size_bounds
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients


@dataclass(frozen=True, slots=True)
class Curve:
    """An activation, in eval if it is random in train, called on points in its declared shape."""

    subject: Implementation
    case: Case

    @classmethod
    def of(cls, subject: Implementation, case: Case) -> Curve:
        """Raises NotApplicable where elements are not real numbers, or depend on each other."""
        if len(case.inputs) != 1 or not case.floating:
            raise NotApplicable("takes further inputs, so that it is no curve over x")
        if subject.options.get("axes"):
            raise NotApplicable("its elements depend on each other, as declared by axes")
        if subject.module is not None and "stochastic" in subject.traits:
            subject.module.eval()
        return cls(subject, case)

    @property
    def spec(self) -> Input:
        return self.case.specs[self.case.floating[0]]

    @property
    def interval(self) -> tuple[float, float]:
        """Where x may lie."""
        spec = self.spec
        if spec.low is not None and spec.high is not None:
            return spec.low, spec.high
        known = {"positive": (0.0, math.inf), "unit": (0.0, 1.0), "signed": (-1.0, 1.0)}
        return known.get(spec.element, (-math.inf, math.inf))

    def inside(self, points: Tensor) -> Tensor:
        """Those points at which the subject takes its x."""
        low, high = self.interval
        return points[(points > low) & (points < high)]

    def __call__(self, x: Tensor) -> Tensor:
        seed_everything(self.case.recipe.seed)
        y = self.subject.tensor(x.clone())  # which it may overwrite
        if y.shape != x.shape:
            raise SubjectError(
                f"{self.subject.declared.name} made {tuple(y.shape)} of {tuple(x.shape)}; an "
                "activation keeps the shape of its input"
            )
        return y

    def at(self, points: Tensor) -> Tensor:
        """The values at points [n], whatever the shape that x must have: [n].

        Every position of a row gets the same point; the answer is that of the first.
        """
        with torch.no_grad():
            return torch.cat([_first(self(x)) for x in self._rows(points)])

    def slope_at(self, points: Tensor) -> Tensor | None:
        """The derivative at points [n], by the subject's own backward; None without a gradient."""
        found = []
        for x in self._rows(points):
            y = self(x.requires_grad_())
            (slope,) = gradients([y], [x], [torch.ones_like(y)])
            if slope is None:
                return None
            found.append(_first(slope))
        return torch.cat(found)

    def _rows(self, points: Tensor) -> Iterator[Tensor]:
        """Inputs of the declared shape whose rows hold one point each."""
        like, dims = self.case.inputs[self.case.floating[0]], self.spec.dims
        tied = {dim.name for dim in bound_dims(self.subject.declared.args).values()}
        if not dims or not dims[0].name or dims[0].name in tied:
            raise NotApplicable("the length of its first axis is not free")
        bounds = size_bounds(self.subject.options, dims[0].name)
        longest = len(points) if bounds is None else max(bounds[1], 1) * dims[0].times
        for part in points.to(device=like.device, dtype=like.dtype).split(longest):
            column = part.reshape(-1, *(1 for _ in like.shape[1:]))
            yield column.expand(-1, *like.shape[1:]).clone()


def _first(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1)[:, 0]
