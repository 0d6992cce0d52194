"""Fresh masks by the thousand, from a subject that takes inputs of its declared shape.

Where the batch axis is free and shares no mask, one call gives a mask per row; otherwise calls are
repeated. Shared axes are cut to their first element: what is left are the units that fall or stay
independently of each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.checks.dropout.law import Law, in_mode
from dlcheck.domains import Input, bound_dims, size_bounds
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.regimes import make_values
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

MOST_ELEMENTS = 2**19  # in one call
MOST_CALLS = 1000  # of the first strike


@dataclass(frozen=True, slots=True)
class Draw:
    """One call in train mode: input, output, and the law that says which axes are shared."""

    x: Tensor
    y: Tensor
    law: Law

    def units(self) -> tuple[Tensor, Tensor]:
        """x and y with every shared axis cut to length 1."""
        shared = self.law.shared(self.x)
        cut = tuple(slice(0, 1) if axis in shared else slice(None) for axis in range(self.x.dim()))
        return self.x[cut], self.y[cut]

    def kept(self) -> Tensor:
        """Which units were kept, as [like x, shared axes cut]."""
        return self.law.kept(*self.units())


def answer(subject: Implementation, case: Case, x: Tensor, mode: str) -> Tensor:
    """y of one call on x in "train" or "eval"; other inputs, if any, are the case's own."""
    name, _ = _drawn_input(case)
    given = [x if other == name else tensor for other, tensor in case.inputs.items()]
    with torch.no_grad():
        y = in_mode(subject, mode).tensor(*given)
    if y.shape != x.shape:
        raise SubjectError(
            f"{subject.declared.name} made {tuple(y.shape)} of {tuple(x.shape)}; dropout keeps "
            "the shape of its input"
        )
    return y


def draw(subject: Implementation, case: Case, law: Law, x: Tensor) -> Draw:
    """One call in train mode on x."""
    return Draw(x, answer(subject, case, x, "train"), law)


def inputs(
    subject: Implementation,
    case: Case,
    law: Law,
    generator: torch.Generator,
    n: int,
    *,
    calls: int = 1,
    thin: bool = False,
) -> Iterator[Tensor]:
    """Inputs that hold at least n units together, for at least so many calls.

    The batch is made long where that is allowed. `thin` cuts the shared axes, where they are free,
    to length 2: as many units of fewer elements.
    """
    _, spec = _drawn_input(case)
    sizes = dict(case.sizes)
    shared = {axis % len(spec.dims) for axis in law.axes}
    for axis in shared if thin else ():
        if is_free(subject, case, axis):
            sizes[spec.dims[axis].name] = min(2, sizes[spec.dims[axis].name])
    if 0 not in shared and is_free(subject, case, 0):
        sizes[spec.dims[0].name] = 1
        rows = math.ceil(n / calls / _units(spec.shape(sizes), shared))
        most = MOST_ELEMENTS // math.prod(spec.shape(sizes))
        sizes[spec.dims[0].name] = max(2, min(rows, most))
    for _ in range(max(calls, math.ceil(n / _units(spec.shape(sizes), shared)))):
        yield make_values(spec, sizes, "normal", generator).to(case.device, case.dtype)


def affordable(subject: Implementation, case: Case, law: Law, n: int) -> int:
    """n units, or fewer where that would take more than 1,000 calls: each check says what it sees.

    One call with a mask for the whole batch is one unit.
    """
    _, spec = _drawn_input(case)
    shared = {axis % len(spec.dims) for axis in law.axes}
    if 0 not in shared and is_free(subject, case, 0):
        return n
    return min(n, MOST_CALLS * _units(spec.shape(case.sizes), shared))


def own_sized(case: Case, generator: torch.Generator) -> Tensor:
    """New values of the case's own shape."""
    _, spec = _drawn_input(case)
    return make_values(spec, case.sizes, "normal", generator).to(case.device, case.dtype)


def sample(
    subject: Implementation, case: Case, law: Law, generator: torch.Generator, n: int
) -> tuple[Tensor, Tensor]:
    """x and y of exactly n independent units, each [n]."""
    xs, ys = [], []
    for values in inputs(subject, case, law, generator, n, thin=True):
        x, y = draw(subject, case, law, values).units()
        xs.append(x.flatten())
        ys.append(y.flatten())
    return torch.cat(xs)[:n], torch.cat(ys)[:n]


def elements(
    subject: Implementation, case: Case, law: Law, generator: torch.Generator, n: int
) -> tuple[Tensor, Tensor]:
    """x and y of every element of at least n units, each flat."""
    pairs = [
        draw(subject, case, law, values) for values in inputs(subject, case, law, generator, n)
    ]
    return torch.cat([one.x.flatten() for one in pairs]), torch.cat(
        [one.y.flatten() for one in pairs]
    )


def is_free(subject: Implementation, case: Case, axis: int) -> bool:
    """May this axis have any length? Not if an argument, a bound or another input ties it."""
    if len(case.specs) != 1:
        return False
    _, spec = _drawn_input(case)
    name = spec.dims[axis].name
    tied = {dim.name for dim in bound_dims(subject.declared.args).values()}
    again = sum(dim.name == name for dim in spec.dims) > 1
    return bool(name) and name not in tied and not again and not _is_bounded(subject, name)


def _is_bounded(subject: Implementation, name: str) -> bool:
    return size_bounds(subject.options, name) is not None


def _units(shape: tuple[int, ...], shared: set[int]) -> int:
    return math.prod(size for axis, size in enumerate(shape) if axis not in shared)


def _drawn_input(case: Case) -> tuple[str, Input]:
    if not case.floating or not case.specs[case.floating[0]].dims:
        raise NotApplicable("takes no floating tensor with an axis")
    name = case.floating[0]
    return name, case.specs[name]
