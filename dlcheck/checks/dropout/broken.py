"""A dropout that follows any declaration, and its mutants: each overrides the step it gets wrong.

`Declared` is a correct implementation of what a subject declares. It is built and called in the
subject's place, so that one mutant fits element, channel, Gaussian and alpha dropout alike.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.dropout.law import LEAST_OF_SELU, Law
from dlcheck.model import Mutant, Subject
from dlcheck.subjects import default_of


class Declared(nn.Module):
    """Right in every respect; subclasses override one step."""

    def __init__(self, law: Law) -> None:
        super().__init__()
        self.law = law

    def forward(self, x: Tensor) -> Tensor:
        return self.train_forward(x) if self.training else self.eval_forward(x)

    def train_forward(self, x: Tensor) -> Tensor:
        return self.apply_noise(x, self.noise(x))

    def eval_forward(self, x: Tensor) -> Tensor:
        return self.law.keep * x if self.law.rescale == "eval" else x

    def unit_shape(self, x: Tensor) -> list[int]:
        shared = self.law.shared(x)
        return [1 if axis in shared else size for axis, size in enumerate(x.shape)]

    def rate(self) -> float:
        return self.law.p

    def noise(self, x: Tensor) -> Tensor:
        """[like x, shared axes of length 1]: 1 or 0, or z standard normal."""
        shape = self.unit_shape(x)
        if self.law.noise == "gaussian":
            return torch.randn(shape, dtype=x.dtype, device=x.device)
        return (torch.rand(shape, device=x.device) >= self.rate()).to(x.dtype)

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        law = self.law
        if law.noise == "gaussian":
            return x * (1 + math.sqrt(law.p / law.keep) * noise)
        if law.rescale == "alpha":
            return law.factor * (x * noise + LEAST_OF_SELU * (1 - noise)) + law.offset
        if law.rescale == "realized":
            everywhere = noise.expand_as(x)
            return x * noise * (everywhere.numel() / everywhere.sum().clamp(min=1))
        return x * noise * law.factor


def broken(implementation: Callable[[Law], nn.Module]) -> Mutant:
    """A mutant that puts `implementation(law)` in the subject's place, and has its name.

    The law is the declared one, with p from the argument that holds it.
    """

    def mutate(subject: Subject) -> Subject:
        args = dict(subject.args)
        for option in ("p", "block", "eps"):  # where they name arguments
            name = subject.options.get(option)
            if isinstance(name, str) and name not in args:
                args[name] = default_of(subject, name)

        def build(**args: Any) -> nn.Module:
            return implementation(_law(subject.options, args))

        return dataclasses.replace(
            subject, name=f"{subject.name}:{implementation.__name__}", target=build, args=args
        )

    mutate.__name__ = implementation.__name__
    return mutate


def _law(options: Mapping[str, Any], args: Mapping[str, Any]) -> Law:
    option = options.get("p", 0.5)
    return Law(
        p=float(args[option] if isinstance(option, str) else option),
        rescale=str(options.get("rescale", "")),
        noise=str(options.get("noise", "bernoulli")),
        axes=tuple(options.get("axes", ())),
    )


class follows_another_convention(Declared):
    """Rescales where it should not, or not where it should: the mean is another."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        law = self.law
        if law.noise == "gaussian":  # N(1 − p, …): as if it were to be rescaled later
            return x * (law.keep + math.sqrt(law.p / law.keep) * noise)
        if law.rescale == "alpha":  # the affine map is forgotten
            return x * noise + LEAST_OF_SELU * (1 - noise)
        return x * noise / (1.0 if law.rescale == "train" else law.keep)


class scales_by_the_inverse_of_the_rate(Declared):
    """Takes p for the probability of keeping in the scale alone."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        return super().apply_noise(x, noise) * (self.law.keep / self.law.p)
