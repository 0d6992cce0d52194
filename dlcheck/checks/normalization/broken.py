"""Normalizations that are wrong in one respect, made of any right one.

A subject is y = a ⊙ z + b. Its affine map is read off two calls, b from a constant input and a from
a random one, and the standardization z is replaced: parameters, buffers and modes stay the
subject's own, so that one mutant fits every normalization.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.normalization.law import Law, law_of_subject
from dlcheck.model import Mutant, Subject
from dlcheck.subjects import Remade

Standardization = Callable[[Law, Tensor], Tensor]


class Restandardized(nn.Module):
    """The subject's affine map on another standardization, in train; in eval the subject."""

    def __init__(self, original: nn.Module, subject: Subject, change: Standardization) -> None:
        super().__init__()
        self.original, self.subject, self.change = original, subject, change

    def forward(self, x: Tensor, *further: Any) -> Tensor:
        y: Tensor = self.original(x, *further)
        if not self.training:
            return y
        law = law_of_subject(self.subject, x.dtype)
        bias, slope = self._affine(law, x, *further)
        return (slope * self.change(law, x) + bias).to(y.dtype)

    def _affine(self, law: Law, x: Tensor, *further: Any) -> tuple[Tensor, Tensor]:
        kept = [buffer.clone() for buffer in self.original.buffers()]
        probe = torch.randn(
            x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        ).to(x)
        bias = self.original(torch.zeros_like(probe), *further)
        z = law.standardized(probe)
        slope = (self.original(probe, *further) - bias) / torch.where(z == 0, 1.0, z)
        with torch.no_grad():
            for buffer, value in zip(self.original.buffers(), kept, strict=True):
                buffer.copy_(value)
        return bias, slope


def restandardized(change: Standardization) -> Mutant:
    """A mutant whose z is `change(law, x)`; its name says what is broken."""

    def mutate(subject: Subject) -> Subject:
        def make(original: nn.Module) -> nn.Module:
            return Restandardized(original, subject, change)

        return subject.with_target(f"{subject.name}:{change.__name__}", Remade(subject, make))

    mutate.__name__ = change.__name__
    return mutate


@restandardized
def divides_by_the_sample_deviation(law: Law, x: Tensor) -> Tensor:
    """The variance divided by n − 1."""
    return dataclasses.replace(law, ddof=1 - law.ddof).standardized(x)


@restandardized
def forgets_the_root(law: Law, x: Tensor) -> Tensor:
    return law.centre(x) / (law.variance(x) + (law.eps or 1e-12))


@restandardized
def subtracts_no_mean_from_the_input(law: Law, x: Tensor) -> Tensor:
    """Divides the input itself; where nothing is centred, centres."""
    if not law.centred:
        return dataclasses.replace(law, centred=True).standardized(x)
    return x.double() / law.denominator(law.variance(x))


@restandardized
def takes_the_mean_square_for_the_variance(law: Law, x: Tensor) -> Tensor:
    """Centres, and divides by the root mean square of what was not centred (or the opposite)."""
    other = dataclasses.replace(law, centred=not law.centred)
    return law.centre(x) / law.denominator(other.variance(x))


@restandardized
def normalizes_over_the_first_axis_only(law: Law, x: Tensor) -> Tensor:
    """One of the axes where several were declared, another where one was."""
    axes = [axis % x.dim() for axis in law.axes]
    others = [axis for axis in range(x.dim()) if axis not in axes]
    if len(axes) > 1 and others:
        return dataclasses.replace(law, axes=(axes[0],), groups=1).standardized(x)
    wrong = others[-1] if others else axes[0]
    return dataclasses.replace(law, axes=(wrong,), groups=1).standardized(x)


@restandardized
def divides_by_the_sum_of_squares(law: Law, x: Tensor) -> Tensor:
    """The L2 norm where the root mean square belongs."""
    c = law.centre(x)
    total = law.mean(c * c) * law.count(x)
    return c / law.denominator(total)


@restandardized
def takes_the_mean_absolute_deviation(law: Law, x: Tensor) -> Tensor:
    c = law.centre(x)
    return c / (law.mean(c.abs()) + (law.eps or 0.0) + 1e-300)


@restandardized
def leaves_out_the_eps(law: Law, x: Tensor) -> Tensor:
    return dataclasses.replace(law, eps=None).standardized(x)


@restandardized
def adds_the_eps_to_the_deviation(law: Law, x: Tensor) -> Tensor:
    form = "variance" if law.eps_form == "deviation" else "deviation"
    return dataclasses.replace(law, eps_form=form).standardized(x)


@restandardized
def takes_the_eps_ten_times(law: Law, x: Tensor) -> Tensor:
    return dataclasses.replace(law, eps=10 * (law.eps or 0.0)).standardized(x)


@restandardized
def clamps_the_variance_at_eps(law: Law, x: Tensor) -> Tensor:
    eps = law.eps or 0.0
    return law.centre(x) / law.variance(x).clamp_min(eps).sqrt()


@restandardized
def sums_squares_in_one_pass(law: Law, x: Tensor) -> Tensor:
    """E x² − (E x)², which cancels where the mean is far from 0."""
    wide = x.double()
    variance = law.mean(wide * wide) - law.mean(wide) ** 2
    return law.centre(x) / law.denominator(variance)


@restandardized
def holds_the_statistics_for_constants(law: Law, x: Tensor) -> Tensor:
    """No gradient flows through mean and variance."""
    wide = x.double()
    centre = law.mean(wide.detach()) if law.centred else 0.0
    return (wide - centre) / law.denominator(law.variance(x.detach()))


@restandardized
def holds_the_variance_for_a_constant(law: Law, x: Tensor) -> Tensor:
    return law.centre(x) / law.denominator(law.variance(x.detach()))
