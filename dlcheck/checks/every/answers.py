"""What a subject answers to a case: its outputs, and the gradients of its inputs and parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.gradients.variables import coordinates
from dlcheck.isolation import seed_everything
from dlcheck.model import NOTHING
from dlcheck.numerics.perturbations import direction
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.numerics.stochastic_rounding import StochasticRounding
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients, tensors_in

_DRAWS = 4
_COARSER = 64  # ulps to which operations round when their rounding is measured

Answers = dict[str, Tensor]  # "output 0", "gradient of x", …, each detached, in its own dtype


@dataclass(frozen=True, slots=True)
class Question:
    """The inputs of a case and the gradients that come in: what several implementations are asked.

    names: of the parameters whose gradients are compared → a function that finds them in an
    implementation; so two implementations may call them otherwise.
    """

    case: Case
    cotangents: tuple[Tensor, ...]  # float64, one per floating output
    with_gradients: bool = True

    @classmethod
    def of(cls, made: Implementation, case: Case, *, dtype: torch.dtype) -> Question:
        """The question, with cotangents of the shape of what `made` answers, drawn in dtype."""
        generator = case.generator("incoming gradients")
        outputs = floating(tensors_in(called(made, inputs_in(case, made.dtype), case)))
        if not outputs:
            raise NotApplicable("answers no real or complex numbers")
        cotangents = tuple(
            torch.randn(y.shape, generator=generator, dtype=torch.float64)
            .to(dtype)
            .to(y.device, torch.float64)
            for y in outputs
        )
        return cls(case, cotangents, "nondifferentiable" not in made.traits)

    def put_to(
        self,
        made: Implementation,
        *,
        moved: Mapping[str, Tensor] = NOTHING,
        parameters: Mapping[str, Tensor] | None = None,
    ) -> Answers:
        """Outputs and gradients of an implementation, asked in its own dtype.

        moved: inputs in place of the case's. parameters: name → tensor whose gradients are asked
        for, the implementation's own unless told. A gradient that does not arrive is left
        out. Raises SubjectError where the outputs have other shapes.
        """
        inputs = {n: moved.get(n, x) for n, x in inputs_in(self.case, made.dtype).items()}
        inputs = {n: x.detach().to(made.device) for n, x in inputs.items()}
        leaves = {}
        if self.with_gradients:
            leaves = {name: inputs[name].requires_grad_() for name in self.case.floating}
            leaves |= made.parameters if parameters is None else parameters
        outputs = floating(tensors_in(called(made, inputs, self.case)))
        shapes = [tuple(y.shape) for y in outputs], [tuple(v.shape) for v in self.cotangents]
        if shapes[0] != shapes[1]:
            raise SubjectError(
                f"{made.declared.name} returned shapes {shapes[0]}, where {shapes[1]} was expected"
            )
        found = {f"output {i}": y.detach() for i, y in enumerate(outputs)}
        if self.with_gradients:
            pairs = zip(self.cotangents, outputs, strict=True)
            slopes = gradients(outputs, list(leaves.values()), [v.to(y) for v, y in pairs])
            for name, slope in zip(leaves, slopes, strict=True):
                if slope is not None:
                    found[f"gradient of {name}"] = slope.detach()
        return found


def called(made: Implementation, inputs: Mapping[str, Tensor], case: Case) -> Any:
    """The answer to these inputs, with the case's random numbers."""
    seed_everything(case.recipe.seed)
    return made(*inputs.values())


def inputs_in(case: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    """Private copies of the inputs with their layout, floating ones in dtype."""
    return {
        name: x.to(dtype) if x.is_floating_point() else x
        for name, x in zip(case.inputs, case.fresh(), strict=True)
    }


def floating(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Those that hold real numbers; a complex one as pairs of them."""
    return [coordinates(y) for y in tensors if y.is_floating_point() or y.is_complex()]


def terms_of(name: str, case: Case, parameters: Mapping[str, Tensor]) -> int:
    """How many numbers an element of an answer may be summed from.

    An output is summed over a row of the largest tensor, be it of indices, a gradient over the
    rows too.
    """
    tensors = [*case.inputs.values(), *parameters.values()]
    whole = max((x.numel() for x in tensors), default=1)
    if name.startswith("gradient"):
        return max(whole, 1)
    rows = [x.numel() // x.shape[0] if x.dim() > 1 and x.shape[0] else x.numel() for x in tensors]
    return max([*rows, 1])


def directions(
    case: Case,
    inputs: Mapping[str, Tensor],
    kept: Mapping[str, Tensor],
    generator: torch.Generator,
    *,
    relative: bool,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random directions for the floating inputs and for parameters, within their domains."""
    of_inputs = {
        name: direction(inputs[name], case.specs[name], generator, relative=relative)
        for name in case.floating
    }
    of_parameters = {
        name: direction(value, None, generator, relative=relative) for name, value in kept.items()
    }
    return of_inputs, of_parameters


def answers_nearby(
    ask: Callable[[Mapping[str, Tensor]], Answers],
    case: Case,
    made: Implementation,
    step: float,
    *,
    relative: bool,
    generator: torch.Generator,
    signs: Sequence[int] = (1, -1),
) -> Iterator[Answers]:
    """What is answered when all inputs and parameters are moved a step along one direction.

    ask: puts the question with moved inputs. Parameters are put back afterwards.
    """
    inputs = inputs_in(case, made.dtype)
    kept = {name: p.detach().clone() for name, p in made.parameters.items()}
    along, along_parameters = directions(case, inputs, kept, generator, relative=relative)
    try:
        for sign in signs:
            put(
                made.parameters,
                {name: kept[name] + sign * step * along_parameters[name] for name in kept},
            )
            yield ask({name: inputs[name] + sign * step * along[name] for name in along})
    finally:
        put(made.parameters, kept)


def put(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


def rounded_otherwise(
    question: Question,
    made: Implementation,
    right: Answers,
    names: Sequence[str],
    parameters: Mapping[str, Tensor] | None = None,
    inside: torch.dtype | None = None,
) -> Answers:
    """Root mean square change per unit roundoff when each operation rounds otherwise.

    inside: to which type; float64, a little coarser, unless told.
    """
    coarser = _COARSER if inside is None else 1
    dtype = torch.float64 if inside is None else inside
    total = {name: torch.zeros_like(right[name]) for name in names}
    for seed in range(1, _DRAWS + 1):
        with StochasticRounding(dtype, seed << 20, coarser=coarser):
            answers = question.put_to(made, parameters=parameters)
        for name in names:
            change = (answers[name] - right[name]) / (coarser * unit_roundoff(dtype))
            total[name] += change.square()
    return {name: (square / _DRAWS).sqrt() for name, square in total.items()}
