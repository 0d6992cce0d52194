"""A subject as a function of one flat float64 vector: what the difference engine moves."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dlcheck.domains import Input
from dlcheck.isolation import seed_everything
from dlcheck.numerics.perturbations import direction
from dlcheck.strategies import Case, clone_as_laid_out
from dlcheck.subjects import Implementation, gradients, tensors_in


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor within the flat vector: an input with its domain, or a parameter."""

    name: str
    value: Tensor  # at the point
    spec: Input | None
    parameter: nn.Parameter | None
    start: int

    @property
    def span(self) -> slice:
        return slice(self.start, self.start + self.value.numel())


@dataclass(frozen=True, slots=True)
class Gradient:
    """Jᵀv, and the tensors that no gradient reaches."""

    flat: Tensor  # [n]
    unreached: frozenset[str]

    @property
    def finite(self) -> Tensor:
        """With 0 in place of what is not finite."""
        return torch.nan_to_num(self.flat, nan=0.0, posinf=0.0, neginf=0.0)


@dataclass(slots=True)
class Flattened:
    """f: ℝⁿ → ℝᵐ: every part → every differentiable output.

    Each call restores the buffers and the random streams, so that f is one function. Inputs keep
    their memory layout. Gradients are recorded in every call: some subjects take another path
    without them, or differentiate by themselves.
    """

    subject: Implementation
    case: Case
    parts: tuple[Part, ...]
    buffers: tuple[tuple[Tensor, Tensor], ...]  # with their values before the first call
    draws: bool = True  # does it draw random numbers?
    live: tuple[bool, ...] = ()  # which floating outputs are differentiated
    shapes: tuple[torch.Size, ...] = ()  # of those

    @classmethod
    def of(cls, subject: Implementation, case: Case, inputs: Sequence[str]) -> Flattened:
        """The subject as a function of these inputs and all its parameters."""
        named: list[tuple[str, Tensor, Input | None, nn.Parameter | None]] = [
            (name, case.inputs[name], case.specs[name], None) for name in inputs
        ]
        named += [(name, p.detach().clone(), None, p) for name, p in subject.parameters.items()]
        parts, start = [], 0
        for name, value, spec, parameter in named:
            parts.append(Part(name, value, spec, parameter, start))
            start += value.numel()
        module = subject.module
        buffers = () if module is None else tuple((b, b.clone()) for b in module.buffers())
        made = cls(subject, case, tuple(parts), buffers)
        made._meet()
        return made

    def _meet(self) -> None:
        """The first call: find what is differentiable and whether random numbers are drawn."""
        seed_everything(self.case.recipe.seed)
        before = _streams(self.case.device)
        outputs = self._outputs(self._inputs(None))
        self.draws = before != _streams(self.case.device)
        connected = tuple(y.requires_grad for y in outputs)
        # An output without gradient beside others with one is a statistic; alone, it is wrong.
        self.live = connected if any(connected) else (True,) * len(outputs)
        self.shapes = tuple(y.shape for y, live in zip(outputs, self.live, strict=True) if live)

    @property
    def point(self) -> Tensor:
        return torch.cat([part.value.reshape(-1) for part in self.parts])

    def __call__(self, flat: Tensor) -> Tensor:
        """The outputs [m] at a point [n]."""
        self._set_parameters(flat)
        return torch.cat(
            [y.detach().reshape(-1).double() for y in self._outputs(self._inputs(flat))]
        )

    def gradient(
        self,
        cotangents: Sequence[Tensor],
        *,
        at: Tensor | None = None,
        between: Tensor | None = None,
    ) -> Gradient:
        """Jᵀv, v laid out in memory as given; at the point itself unless told.

        between: another point, at which the subject is called between forward and backward.
        """
        self._set_parameters(at)
        inputs = self._inputs(at)
        leaves = [inputs[p.name] if p.parameter is None else p.parameter for p in self.parts]
        outputs = self._outputs(inputs)
        if between is not None:
            self._answer(_turned(self._inputs(between)))
        found = gradients(outputs, leaves, cotangents)
        pairs = list(zip(self.parts, found, strict=True))
        return Gradient(
            torch.cat(
                [
                    torch.zeros_like(p.value).reshape(-1) if g is None else g.detach().reshape(-1)
                    for p, g in pairs
                ]
            ),
            frozenset(part.name for part, g in pairs if g is None),
        )

    def direction(
        self, parts: Sequence[Part], generator: torch.Generator, *, relative: bool
    ) -> Tensor:
        """A random direction [n] that moves only these tensors, each within its domain."""
        flat = torch.zeros_like(self.point)
        for part in parts:
            moved = direction(part.value, part.spec, generator, relative=relative)
            flat[part.span] = moved.reshape(-1)
        return flat

    def _inputs(self, flat: Tensor | None) -> dict[str, Tensor]:
        moved = {part.name: part for part in self.parts if part.parameter is None}
        made = {}
        for name, tensor in self.case.inputs.items():
            made[name] = clone_as_laid_out(tensor)
            if name in moved and flat is not None:
                made[name].copy_(flat[moved[name].span].view(tensor.shape))
            made[name].requires_grad_(name in moved)
        return made

    def _set_parameters(self, flat: Tensor | None) -> None:
        """Put a point's values into the parameters; None is the point itself."""
        with torch.no_grad():
            for part in self.parts:
                if part.parameter is not None:
                    value = part.value if flat is None else flat[part.span].view_as(part.value)
                    part.parameter.copy_(value)

    def _outputs(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        with torch.no_grad():
            for buffer, value in self.buffers:
                buffer.copy_(value)
        if self.draws:
            seed_everything(self.case.recipe.seed)
        outputs = [y for y in self._answer(inputs) if y.is_floating_point()]
        if not self.live:
            return outputs
        return [y for y, live in zip(outputs, self.live, strict=True) if live]

    def _answer(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        given = list(inputs.values())
        if "in_place" in self.subject.traits:
            given = [x.clone() for x in given]  # a leaf must not be overwritten
        return tuple(tensors_in(self.subject(*given)))


def _turned(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The integer inputs in reverse: another call for a subject without floating inputs."""
    return {
        name: x if x.is_floating_point() or not x.dim() else x.flip(0) for name, x in inputs.items()
    }


def _streams(device: torch.device) -> tuple[bytes, ...]:
    """The state of every random stream that a subject might draw from."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    numpy_state = np.random.get_state(legacy=False)["state"]
    return (
        *(state.numpy().tobytes() for state in states),
        repr(random.getstate()).encode(),
        repr((numpy_state["key"].tobytes(), numpy_state["pos"])).encode(),
    )
