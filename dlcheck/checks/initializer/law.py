"""What an initializer declares: the variance and mean of an element, as numbers for one shape."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlcheck import formulas
from dlcheck.domains import size_bounds
from dlcheck.errors import DeclarationError, NotApplicable
from dlcheck.stats import Stream
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, default_of

FEW, MANY = 16, 256  # the lengths of the first two axes: in ≫ out, and out ≫ in


@dataclass(frozen=True, slots=True)
class Fans:
    """How many numbers enter and leave a unit: the axes times the receptive field."""

    fan_in: int
    fan_out: int

    @classmethod
    def of(cls, shape: tuple[int, ...], layout: str = "out_in") -> Fans | None:
        """Of a tensor [out, in, *receptive field], or [in, out, *…]; None below two axes."""
        if len(shape) < 2:
            return None
        field = math.prod(shape[2:])
        first, second = shape[0] * field, shape[1] * field
        return cls(second, first) if layout == "out_in" else cls(first, second)

    def names(self) -> dict[str, float]:
        return {"fan_in": self.fan_in, "fan_out": self.fan_out}


@dataclass(frozen=True, slots=True)
class Law:
    """The law of one element of a tensor of one shape."""

    mean: float
    variance: float


def law_of(
    subject: Implementation, formula: Any, fans: Fans | None, sizes: Mapping[str, int]
) -> Law:
    """The declared formulas in numbers: fan_in and fan_out, gain, the dims and the arguments."""
    mean = subject.options.get("mean", 0.0)
    names: dict[str, float] = {**sizes, **(fans.names() if fans else {})}
    for name in formulas.names_in(formula) | formulas.names_in(mean):
        if name not in names:
            names |= argument_of(subject, name)
    return Law(formulas.evaluate(mean, names), formulas.evaluate(formula, names))


def argument_of(subject: Implementation, name: str) -> dict[str, float]:
    """A name as the constructor argument that it is; the gain is 1 where there is none."""
    if name == "gain" and "gain" in subject.options:
        return {name: float(subject.argument("gain"))}
    given = subject.args.get(name, default_of(subject.declared, name))
    if isinstance(given, (int, float)):
        return {name: float(given)}
    return {name: 1.0} if name == "gain" and given is inspect.Parameter.empty else {}


@dataclass(frozen=True, slots=True)
class Filled:
    """An initializer for tensors of one shape, with their law."""

    subject: Implementation
    shape: tuple[int, ...]
    law: Law
    device: torch.device
    dtype: torch.dtype

    def __call__(self) -> Tensor:
        """A tensor filled by one call; it held NaN before."""
        tensor = torch.full(self.shape, math.nan, device=self.device, dtype=self.dtype)
        self.subject(tensor)
        return tensor

    def sample(self, stream: Stream, n: int) -> Tensor:
        """At least n elements, of as many calls as that takes."""
        calls = -(-n // max(math.prod(self.shape), 1))
        return torch.cat([self().flatten() for _ in range(calls)]).double()

    def __str__(self) -> str:
        return "×".join(map(str, self.shape))


def fillings(subject: Implementation, case: Case) -> Iterator[Filled]:
    """One for in ≫ out and one for out ≫ in, where the declared input leaves that free.

    Raises NotApplicable where no variance is declared.
    """
    if "variance" not in subject.options:
        raise NotApplicable("declares no variance: a formula in fan_in, fan_out and gain")
    spec = case.specs[case.floating[0]]
    seen = set()
    for lengths in ((FEW, MANY), (MANY, FEW)):
        sizes = dict(case.sizes)
        for dim, length in zip(spec.dims, lengths, strict=False):
            if dim.name:
                sizes[dim.name] = within(subject, dim.name, -(-length // dim.times))
        shape = spec.shape(sizes)
        if shape in seen:
            continue
        seen.add(shape)
        fans = Fans.of(shape, str(subject.options.get("fan_layout", "out_in")))
        try:
            law = law_of(subject, subject.options["variance"], fans, sizes)
        except DeclarationError as error:
            raise DeclarationError(f"subject {subject.declared.name!r}: {error}") from None
        yield Filled(subject, shape, law, case.device, case.dtype)


def within(subject: Implementation, name: str, size: int) -> int:
    low, high = size_bounds(subject.options, name) or (1, size)
    return min(max(low, size), high)
