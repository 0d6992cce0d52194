"""What the declaration says of a penalty or proximal operator: λ₁‖w‖₁ + (λ₂/2)‖w‖².

`norm`, `strength` and `convention` give λ₁ and λ₂. What they leave open stays None and is
measured by the check that needs it, never assumed: a penalty that declares `norm = 2` and no
convention may be λ‖w‖² (λ₂ = 2λ) or (λ/2)‖w‖² (λ₂ = λ).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.domains import Input
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.numerics.rounding import gamma, unit_roundoff
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

_CURVATURE = {"full": 2.0, "half": 1.0}  # λ₂ = factor · λ
_FORMULA = 16  # roundings per element that a straightforward formula may make besides its sum


@dataclass(frozen=True, slots=True)
class Law:
    """λ₁ and λ₂; None where the declaration leaves it open."""

    l1: float | None
    l2: float | None

    def slope(self, weights: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """λ₁ sign w + λ₂ w; 0 where w = 0, in the middle of the subgradients."""
        assert self.l1 is not None
        assert self.l2 is not None
        w = weights.detach().to(dtype)
        return self.l1 * w.sign() + self.l2 * w

    @property
    def is_known(self) -> bool:
        return self.l1 is not None and self.l2 is not None


def strengths_of(subject: Implementation) -> dict[str, float]:
    """The constructor arguments that hold strengths, with their values."""
    norm, strength = subject.options.get("norm"), subject.options.get("strength")
    names = list(norm) if isinstance(norm, Mapping) else []
    names += [strength] if isinstance(strength, str) and strength not in names else []
    return {name: float(subject.value_of(name)) for name in names}


def law_of(subject: Implementation) -> Law:
    """What norm, strength and convention declare of a penalty whose norm is 1, 2 or both."""
    norm = subject.options["norm"]
    factor = _CURVATURE.get(subject.options.get("convention", ""))
    if isinstance(norm, Mapping):
        by_norm = {which: float(subject.value_of(name)) for name, which in norm.items()}
        return Law(by_norm.get(1, 0.0), factor * by_norm[2] if factor else None)
    if norm == 2 and subject.options.get("homogeneity", 2) == 1:
        raise NotApplicable("the norm is not squared (homogeneity 1): it is no weight decay")
    strength = subject.argument("strength")
    known = None if strength is None else float(strength)
    if norm == 1:
        return Law(known, 0.0)
    return Law(0.0, None if known is None or factor is None else factor * known)


def as_stored(declared: float, measured: float) -> float:
    """The declared number, or what is measured of it where that is its rounding to float32.

    A strength that is kept as a tensor has torch's default type: 0.2 is then 0.2 + 3·10⁻⁹.
    """
    near = abs(measured - declared) <= 1.01 * unit_roundoff(torch.float32) * abs(declared)
    return measured if near else declared


def completed(law: Law, at_one: float) -> Law:
    """The law with what it leaves open taken from the penalty of a single weight of 1."""
    if law.is_known:
        return law
    if law.l1 is None:  # P(1) = λ₁
        return Law(at_one, law.l2)
    return Law(law.l1, 2 * (at_one - law.l1))  # P(1) = λ₁ + λ₂/2


def counted(subject: Implementation, specs: Mapping[str, Input]) -> tuple[str, ...]:
    """The inputs that the penalty counts: those that `exclude` does not leave out."""
    floating = [name for name, spec in specs.items() if spec.is_floating]
    if subject.options.get("exclude") == "bias":
        return tuple(name for name in floating if len(specs[name].dims) > 1)
    return tuple(floating)


def value(subject: Implementation, *weights: Tensor) -> Tensor:
    """The penalty, a tensor of one element. Raises SubjectError where it is not one number."""
    found = subject.tensor(*weights)
    if found.numel() != 1:
        raise SubjectError(
            f"{subject.declared.name} returned shape {list(found.shape)}; a penalty is one number"
        )
    return found.reshape(())


def demand_numbers(case: Case) -> None:
    """Raises NotApplicable where the weights are integers: no penalty has a gradient there."""
    if not case.floating:
        raise NotApplicable('its weights are integers: declare floating ones, as "float n m"')


def pull(subject: Implementation, weights: Sequence[Tensor]) -> list[Tensor]:
    """The penalty's gradient for each tensor, zeros where it does not depend on it."""
    leaves = [w.detach().clone().requires_grad_(w.is_floating_point()) for w in weights]
    answer = value(subject, *leaves)
    found = iter(gradients([answer], [w for w in leaves if w.requires_grad],
                           [torch.ones_like(answer)]))  # fmt: skip
    pairs = [(next(found) if w.requires_grad else None, w) for w in leaves]
    return [torch.zeros_like(w) if g is None else g.detach() for g, w in pairs]


def rounding(count: int, dtype: torch.dtype) -> float:
    """Relative error of a penalty's value over `count` weights: one sum of non-negative terms.

    γ of count − 1 additions in any order, and of at most 16 roundings within a term, with
    which every term, all of one sign, is off by at most that share of itself.
    """
    return gamma(count + _FORMULA, dtype)


def moved_by_rounding(
    subject: Implementation, weights: Sequence[Tensor], dtype: torch.dtype
) -> float:
    """By how much P(w) may move where each weight is off by 8 roundings of its own.

    8u Σ|wᵢ ∂ᵢP|, to first order: of a norm no more than a rounding of its value; of a difference of
    weights (total variation), which cancels, far more. Computed penalties round inside by as much
    as their inputs may: each of 8 operations on the way to a sum of such terms.
    """
    if "nondifferentiable" in subject.traits or not any(w.is_floating_point() for w in weights):
        return 0.0
    slopes = pull(subject, weights)
    reach = sum(
        float((w.double() * g.double()).abs().sum()) for w, g in zip(weights, slopes, strict=True)
    )
    return 8 * unit_roundoff(dtype) * reach if math.isfinite(reach) else 0.0


def size(weights: Sequence[Tensor]) -> int:
    return sum(w.numel() for w in weights)


def weights_of(subject: Implementation, case: Case) -> dict[str, Tensor]:
    """The case's weights that the penalty counts, by name."""
    names = counted(subject, case.specs)
    if not names:
        raise NotApplicable("every declared input is excluded: declare a weight of two axes")
    return {name: case.inputs[name] for name in names}
