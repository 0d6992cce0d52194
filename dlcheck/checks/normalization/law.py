"""What a normalization declares, as a formula: the standardized input z, in float64.

    z = (x − μ)/√(σ² + ε),  μ and σ² over the declared axes, σ² divided by n;  y = a ⊙ z + b

a and b are the affine map, which a module may or may not have. They are found by their effect and
never by their names: at construction a = 1 and b = 0, whether the weight starts at 1 and
multiplies z or starts at 0 and multiplies it as 1 + w.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlcheck.model import Subject
from dlcheck.subjects import default_of


@dataclass(frozen=True, slots=True)
class Law:
    """The declared standardization. `eps` is None where it is not declared."""

    axes: tuple[int, ...]
    groups: int = 1  # into which the first of the axes is split
    eps: float | None = None
    centred: bool = True
    eps_form: str = "variance"  # or "deviation": z = c/(√σ² + ε)
    ddof: int = 0

    def split(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """x with the first axis split into groups, and the axes of one group in it."""
        axes = [axis % x.dim() for axis in self.axes]
        if self.groups == 1:
            return x, tuple(axes)
        first = axes[0]
        shape = [*x.shape]
        shape[first : first + 1] = [self.groups, shape[first] // self.groups]
        return x.reshape(shape), tuple(axis + (axis >= first) for axis in axes)

    def over_groups(self, x: Tensor, statistic: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Any:
        """A statistic of each group, of the split shape with the axes kept as 1."""
        grouped, axes = self.split(x)
        return statistic(grouped, axes)

    def mean(self, x: Tensor) -> Tensor:
        """The mean of each group, spread over its elements: [like x]."""
        grouped, axes = self.split(x)
        return grouped.mean(axes, keepdim=True).expand_as(grouped).reshape(x.shape)

    def count(self, x: Tensor) -> int:
        """How many elements a group has."""
        grouped, axes = self.split(x)
        return math.prod(grouped.shape[axis] for axis in axes)

    def centre(self, x: Tensor) -> Tensor:
        wide = x.double()
        return wide - self.mean(wide) if self.centred else wide

    def variance(self, x: Tensor) -> Tensor:
        """Mean square of the centred elements of each group, spread over them: [like x]."""
        n = self.count(x)
        c = self.centre(x)
        return self.mean(c * c) * (n / max(n - self.ddof, 1))

    def denominator(self, variance: Tensor) -> Tensor:
        eps = self.eps or 0.0
        return variance.sqrt() + eps if self.eps_form == "deviation" else (variance + eps).sqrt()

    def standardized(self, x: Tensor) -> Tensor:
        """z in float64; 0 where a constant group would be 0/0."""
        below = self.denominator(self.variance(x))
        z: Tensor = torch.where(below > 0, self.centre(x) / torch.where(below > 0, below, 1.0), 0.0)
        return z


def followed(law: Law, x: Tensor, y: Tensor) -> str:
    """Which other law the answer follows, up to two changes off the declared one; "" for none."""
    changes: dict[str, dict[str, Any]] = {
        "the variance is divided by n − 1" if law.ddof == 0 else "the variance is divided by n": {
            "ddof": 1 - min(law.ddof, 1)
        },
        "the mean is kept" if law.centred else "the mean is taken off": {
            "centred": not law.centred
        },
    }
    if law.eps_form != "deviation":
        changes["ε is added to the deviation"] = {"eps_form": "deviation"}
    elif law.eps:
        changes["ε is added to the variance, under the root"] = {"eps_form": "variance"}
    if law.eps:
        changes["ε is left out"] = {"eps": 0.0}
    close = 1e-3 * float(y.abs().amax()) if y.numel() else 0.0
    near = min(close, 1e-2 * float((y - law.standardized(x)).abs().amax()))
    for count in (1, 2):
        for said in itertools.combinations(changes, count):
            fields = {name: value for key in said for name, value in changes[key].items()}
            if sum(len(changes[key]) for key in said) > len(fields):
                continue  # both speak of the same constant
            other = dataclasses.replace(law, **fields)
            if float((y - other.standardized(x)).abs().amax()) < near:
                return ", and ".join(said)
    inside = law.variance(x) + (law.eps or 0.0)
    for divisor, below in (("σ² + ε", inside), ("(σ² + ε)²", inside.square())):
        if float((y - law.centre(x) / below.clamp_min(1e-300)).abs().amax()) < near:
            return f"it is divided by {divisor}, where √(σ² + ε) is declared"
    return ""


def law_of_options(
    options: Mapping[str, Any], value_of: Callable[[str], Any], dtype: torch.dtype
) -> Law:
    """The declared law; `value_of` gives a constructor argument that an option names.

    An ε that is named and None is the machine epsilon, as torch.nn.RMSNorm has it.
    """

    def value(option: str, default: Any) -> Any:
        given = options.get(option, default)
        return value_of(given) if isinstance(given, str) else given

    axes = options["axes"]
    eps = value("eps", None)
    if eps is None and "eps" in options:
        eps = torch.finfo(dtype).eps
    return Law(
        axes=(axes,) if isinstance(axes, int) else tuple(axes),
        groups=int(value("groups", 1)),
        eps=None if eps is None else float(eps),
        centred=bool(options.get("centred", True)),
        eps_form=str(options.get("eps_form", "variance")),
        ddof=int(options.get("ddof", 0)),
    )


def law_of_subject(subject: Subject, dtype: torch.dtype) -> Law:
    """The law of a declaration that is not built: an argument is as given, else its default."""

    def value_of(name: str) -> Any:
        return subject.args[name] if name in subject.args else default_of(subject, name)

    return law_of_options(subject.options, value_of, dtype)
