"""Values and gradients equal those of the declared reference."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcheck.checks.every.twin import paired_names, reference_of
from dlcheck.errors import SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.model import NOTHING, Evidence, Subject
from dlcheck.mutants import around, on_tensors, scaled_gradient, scaled_value
from dlcheck.numerics.perturbations import direction
from dlcheck.numerics.rounding import gamma, unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import (
    Implementation,
    gradients,
    scatter_parameters,
    tensors_in,
)

_NUDGE = 256  # roundings at once: large against one, small against the inputs
_DRAWS = 2  # one in proportion to each element, one to the tensor; both signs of each
_BESIDE = 4.0  # × the reference's own error in the working dtype


@around
def adds_a_small_constant(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y + 1e-3)


@around
def answers_in_bfloat16(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y.bfloat16().to(y.dtype))


@around
def sees_its_first_input_shifted(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """As if an eps had been added to the input."""
    first, *rest = inputs
    return original(on_tensors(first, lambda x: x * (1 - 1e-3)), *rest, **keywords)


def _softmax_by_hand(x: Tensor) -> Tensor:
    powers = (x - x.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


def _cross_entropy_by_hand(prediction: Tensor, target: Tensor) -> Tensor:
    chosen = prediction.gather(-1, target[:, None])[:, 0]
    return (prediction.logsumexp(-1) - chosen).mean()


def _row_softmax(x: Tensor) -> Tensor:
    return F.softmax(x, -1)


@check(
    kind=["op", "layer", "activation", "loss", "penalty", "proximal", "normalization", "attention",
          "positional"],
    forbids={"stochastic", "stochastic_in_eval", "in_place"},
    options={"reference": True},
    dtypes=["float64", "float32"],
    rejects=[
        scaled_value(1.001),
        scaled_gradient(0.5),
        adds_a_small_constant,
        answers_in_bfloat16,
        sees_its_first_input_shifted,
    ],
    accepts=[
        Subject(
            name="softmax_by_hand",
            target=_softmax_by_hand,
            kind="activation",
            inputs={"x": "float b k"},
            options={"sizes": {"k": [2, 17]}},
            reference=_row_softmax,
        ),
        Subject(
            name="cross_entropy_by_hand",
            target=_cross_entropy_by_hand,
            kind="loss",
            inputs={"prediction": "logit b k", "target": "label[k] b"},
            options={"sizes": {"k": [2, 17]}},
            reference=F.cross_entropy,
        ),
        Subject(
            name="linear",
            target=nn.Linear,
            kind="layer",
            args={"in_features": {"dim": "d"}, "out_features": 3},
            inputs={"x": "float b d"},
            reference=nn.Linear,
        ),
    ],
)  # fmt: skip
def matches_reference(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Values and gradients are those of the declared reference, up to rounding.

    The reference answers in float64 from the same inputs, parameters and incoming gradients.
    Every rounding on the way acts like a relative change by u of a number: the bound is γₙ,
    n the count of inputs and parameters, times the reference's response to such changes of all
    inputs (±256u, measured, rescaled) and the largest number in play or its square, as in a
    variance; at least 4 × the error of the reference itself in this dtype. Where the reference
    jumps within 256u, as a gradient does at a kink, the bound is the jump and says nothing.
    Source: Higham, Accuracy and Stability of Numerical Algorithms, §1.6 (mixed forward error).
    """
    scatter_parameters(subject, case.recipe.seed)
    exact = reference_of(subject, case, torch.float64)
    generator = case.generator("reference")
    cotangents = [
        torch.randn(y.shape, generator=generator, dtype=torch.float64).to(case.device)
        for y in _floating(tensors_in(_call(exact, _inputs(case, torch.float64))))
    ]
    run = _Comparison(subject, exact, case, cotangents)
    right, got = run.reference(), run.answers(subject, case.dtype)
    beside = right
    if case.dtype != torch.float64:
        beside = run.answers(reference_of(subject, case, case.dtype), case.dtype)
    responses = run.responses(right, generator)
    for name, truth in right.items():
        if name in got:
            room = run.room * responses[name] + _largest(truth) + run.largest
            bound = gamma(run.roundings, case.dtype) * room + responses[name]
            yield _compared(name, got[name], truth, beside[name], bound)


Answers = dict[str, Tensor]


@dataclasses.dataclass(frozen=True, slots=True)
class _Comparison:
    """What the subject and its reference answer: "output 0", "gradient of x", …"""

    subject: Implementation
    exact: Implementation
    case: Case
    cotangents: list[Tensor]

    @property
    def roundings(self) -> int:
        """Numbers that enter, each of which is rounded, and a few for the functions applied."""
        return 16 + sum(x.numel() for x in self._numbers())

    @property
    def nudge(self) -> float:
        return float(_NUDGE * unit_roundoff(self.case.dtype))

    @property
    def room(self) -> float:
        """√n per nudge: random signs of n changes add up to √n, the worst signs to n."""
        return math.sqrt(self.roundings) / self.nudge

    @property
    def largest(self) -> float:
        """The largest number that enters, or its square: what may have to cancel."""
        top = max((_largest(x) for x in self._numbers()), default=0.0)
        return max(top, top * top)

    def _numbers(self) -> list[Tensor]:
        floating = [self.case.inputs[name] for name in self.case.floating]
        return [x.detach() for x in (*floating, *self.exact.parameters.values())]

    def reference(self) -> Answers:
        return self.answers(self.exact, torch.float64)

    def answers(
        self, made: Implementation, dtype: torch.dtype, moved: Mapping[str, Tensor] = NOTHING
    ) -> Answers:
        """Outputs and gradients, all in float64; a gradient that does not arrive is left out."""
        inputs = _inputs(self.case, dtype)
        inputs = {name: moved.get(name, x) for name, x in inputs.items()}
        leaves = {name: inputs[name].requires_grad_() for name in self.case.floating}
        leaves |= self._paired(made)
        seed_everything(self.case.recipe.seed)
        outputs = _floating(tensors_in(_call(made, inputs)))
        if [y.shape for y in outputs] != [v.shape for v in self.cotangents]:
            raise SubjectError(
                f"{self.subject.declared.name} returned {[tuple(y.shape) for y in outputs]}; its "
                f"reference returns {[tuple(v.shape) for v in self.cotangents]}"
            )
        found = {f"output {i}": y.detach().double() for i, y in enumerate(outputs)}
        if "nondifferentiable" not in self.subject.traits:
            incoming = [v.to(y.dtype) for v, y in zip(self.cotangents, outputs, strict=True)]
            slopes = gradients(outputs, list(leaves.values()), incoming)
            found |= {
                f"gradient of {name}": slope.detach().double()
                for name, slope in zip(leaves, slopes, strict=True)
                if slope is not None
            }
        return found

    def _paired(self, made: Implementation) -> dict[str, Tensor]:
        """Parameters under the reference's names."""
        own = made.parameters
        if made.declared is not self.subject.declared:
            return dict(own)
        pairs = paired_names(self.subject, self.exact)
        return {name: own[pairs[name]] for name in self.exact.parameters if pairs[name] in own}

    def responses(self, right: Answers, generator: torch.Generator) -> dict[str, float]:
        """How far the reference's answers move when the inputs do, by ±256u of their size."""
        found = dict.fromkeys(right, 0.0)
        inputs, parameters = _inputs(self.case, torch.float64), self.exact.parameters
        kept = {name: p.detach().clone() for name, p in parameters.items()}
        for draw in range(_DRAWS):
            relative = draw % 2 == 0
            changes = {
                name: self.nudge
                * direction(inputs[name], self.case.specs[name], generator, relative=relative)
                for name in self.case.floating
            }
            steps = {
                name: self.nudge * direction(value, None, generator, relative=relative)
                for name, value in kept.items()
            }
            for sign in (1, -1):
                _put(parameters, {name: kept[name] + sign * steps[name] for name in kept})
                moved = {name: inputs[name] + sign * changes[name] for name in changes}
                answers = self.answers(self.exact, torch.float64, moved)
                for name in answers.keys() & found.keys():
                    found[name] = max(found[name], _largest(answers[name] - right[name]))
        _put(parameters, kept)
        return found


def _inputs(case: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        name: x.to(dtype) if x.is_floating_point() else x
        for name, x in zip(case.inputs, case.fresh(), strict=True)
    }


def _call(made: Implementation, inputs: Mapping[str, Tensor]) -> Any:
    return made(*inputs.values())


def _floating(tensors: Iterator[Tensor]) -> list[Tensor]:
    return [y for y in tensors if y.is_floating_point()]


def _put(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


def _largest(values: Tensor) -> float:
    finite = values[torch.isfinite(values)]
    return float(finite.abs().amax()) if finite.numel() else 0.0


def _compared(name: str, got: Tensor, right: Tensor, beside: Tensor, bound: float) -> Evidence:
    """The largest difference where the reference is finite; NaN there never passes."""
    finite = torch.isfinite(right) & torch.isfinite(beside)
    difference = (got - right)[finite].abs()
    own = _largest((beside - right)[finite])
    error = float(difference.amax()) if difference.numel() else 0.0
    return Evidence(
        error=error,
        bound=max(bound, _BESIDE * own),
        signal=_largest(right[finite]),
        what=name,
        where=f"largest of {difference.numel()} elements",
    )
