"""What a bug changes: the gradient with it beside the right one, in the circumstance it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.errors import SubjectError, Unchecked
from dlcheck.gradients.directions import cotangent
from dlcheck.gradients.function import Function, Gradient
from dlcheck.gradients.injection import Bug
from dlcheck.numerics.layouts import REARRANGED, lay_out

_ROUNDING = 2  # units in the last place below which a changed gradient is the same


@dataclass(frozen=True, slots=True)
class Effects:
    """How much a bug changes the gradient, at the point and for one cotangent."""

    function: Function
    v: Tensor  # [m]
    least: float  # a relative change below is rounding, or the noise of the function

    @classmethod
    def of(cls, function: Function) -> Effects:
        function.meet()
        generator = torch.Generator("cuda" if function.value.is_cuda else "cpu").manual_seed(0)
        v = cotangent(function, generator)
        first, again = (function.gradient(function.shaped(v)) for _ in range(2))
        return cls(function, v, _ROUNDING * max(function.unit, _change(first, again)))

    def size(self, broken: Function, bug: Bug) -> float:
        """‖broken − right‖ / ‖right‖ of the tensor where it is largest; infinite where it fails."""
        try:
            broken.meet()
            pairs = zip(
                CIRCUMSTANCES[bug.shows](self.function, self.v),
                CIRCUMSTANCES[bug.shows](broken, self.v),
                strict=True,
            )
            return max((_change(right, wrong) for right, wrong in pairs), default=0.0)
        except (SubjectError, Unchecked):
            return math.inf


def _change(right: Gradient, wrong: Gradient) -> float:
    return max(map(_distance, right.parts, wrong.parts), default=0.0)


def _distance(right: Tensor, wrong: Tensor) -> float:
    change = float(torch.linalg.vector_norm(wrong - right))
    size = float(torch.linalg.vector_norm(right))
    if math.isnan(change):
        return math.inf
    return change / size if size else math.inf if change else 0.0


# --- when a bug shows ---------------------------------------------------------------------------


def _plainly(function: Function, v: Tensor) -> Iterator[Gradient]:
    yield function.gradient(function.shaped(v))


def _with_strides(function: Function, v: Tensor) -> Iterator[Gradient]:
    for layout in REARRANGED:
        yield function.gradient([lay_out(part, layout) for part in function.shaped(v)])


def _with_layouts(function: Function, v: Tensor) -> Iterator[Gradient]:
    for layout in function.layouts:
        yield function.gradient(function.shaped(v), layout=layout)


def _with_another_call(function: Function, v: Tensor) -> Iterator[Gradient]:
    other = [0.95 * x for x in function.x]
    yield function.gradient(function.shaped(v), between=other)


def _twice(function: Function, v: Tensor) -> Iterator[Gradient]:
    yield function.gradient(function.shaped(v), twice=True)


CIRCUMSTANCES: Mapping[str, Callable[[Function, Tensor], Iterator[Gradient]]] = {
    "": _plainly,
    "incoming strides": _with_strides,
    "input strides": _with_layouts,
    "another call": _with_another_call,
    "second backward": _twice,
}
