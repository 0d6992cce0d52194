"""Where dropout must do nothing: in evaluation, and at p = 0."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from dlcheck.checks.dropout.broken import Declared, broken
from dlcheck.checks.dropout.draws import answer, elements
from dlcheck.checks.dropout.law import Law, in_mode, law_of
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


class drops_in_evaluation_too(Declared):
    """The functional form, whose `training` is True unless it is passed on."""

    def eval_forward(self, x: Tensor) -> Tensor:
        return self.train_forward(x)


class drops_in_the_first_evaluation(Declared):
    """The mode is read one call late."""

    before = True

    def forward(self, x: Tensor) -> Tensor:
        now, self.before = self.before, self.training
        return self.train_forward(x) if now else self.eval_forward(x)


class rescales_evaluation_once_too_often(Declared):
    """Multiplies by 1 − p though the scale is declared to be elsewhere already."""

    def eval_forward(self, x: Tensor) -> Tensor:
        return self.law.keep * super().eval_forward(x)


class repeats_the_training_mask_in_evaluation(Declared):
    last: Tensor | None = None

    def noise(self, x: Tensor) -> Tensor:
        self.last = super().noise(x)
        return self.last

    def eval_forward(self, x: Tensor) -> Tensor:
        if self.last is None or list(self.last.shape) != self.unit_shape(x):
            return super().eval_forward(x)
        return self.apply_noise(x, self.last)


@check(
    kind="dropout",
    forbids={"stochastic_in_eval"},
    rejects=[
        broken(drops_in_evaluation_too),
        broken(drops_in_the_first_evaluation),
        broken(rescales_evaluation_once_too_often),
        broken(repeats_the_training_mask_in_evaluation),
    ],
)
def is_the_identity_in_evaluation(subject: Implementation, case: Case) -> Evidence:
    """In evaluation, after a call in train mode, the output is the input.

    Equal element by element, in whatever layout; where the scale is declared to be in evaluation
    it is (1 − p)·x, to the rounding of one product and of 1 − p (γ₁₂/(1 − p), see `Law`).
    Source: Srivastava et al., Dropout, JMLR 15, 2014, §4 and figure 2.
    """
    law = law_of(subject)
    if law.rescale == "eval" and math.isnan(law.p):
        raise NotApplicable("scales in evaluation by 1 − p, and p is not declared")
    x = case.inputs[case.floating[0]]
    answer(subject, case, x, "train")
    y = answer(subject, case, x, "eval")
    expected, bound = x, torch.zeros_like(x)
    if law.rescale == "eval":
        expected, bound = law.keep * x, law.rounding(x)
    return worst_element((y - expected).abs(), bound, expected.abs(), "output in evaluation")


def worst_element(error: Tensor, bound: Tensor, size: Tensor, what: str) -> Evidence:
    """Evidence of the element nearest to its bound, or furthest beyond it.

    Where every bound is 0 the largest error decides, against the largest size.
    """
    error, bound, size = (t.detach().double().flatten().cpu() for t in (error, bound, size))
    if not bool((bound > 0).any()):
        worst = float(error.max())  # NaN if any is
        return Evidence(error=worst, bound=0.0, signal=float(size.max()) or 1.0, what=what)
    excess = torch.where(error == 0, 0.0, error / bound)
    clean = bool((excess == 0).all())
    at = int(bound.argmax() if clean else excess.argmax())  # NaN and infinity are the largest
    return Evidence(
        error=float(error[at]),
        bound=float(bound[at]),
        signal=float(size[at]),
        what=what,
        where=f"element {at} of {error.numel()}",
    )


class takes_zero_for_unset(Declared):
    """`p or 0.5`."""

    def __init__(self, law: Law) -> None:
        super().__init__(dataclasses.replace(law, p=law.p or 0.5))


class adds_an_epsilon_to_the_rate(Declared):
    """Against the division by 1 − p = 0."""

    def __init__(self, law: Law) -> None:
        super().__init__(dataclasses.replace(law, p=law.p + 1e-4))

    def eval_forward(self, x: Tensor) -> Tensor:
        return x

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        return super().apply_noise(x, noise) / (1 - 1e-4)


class drops_one_in_a_hundred_at_least(Declared):
    def rate(self) -> float:
        return max(self.law.p, 0.01)

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        if self.law.noise == "gaussian":
            return x * (1 + math.sqrt(max(self.law.variance, 1e-4)) * noise)
        return super().apply_noise(x, noise)


@check(
    kind="dropout",
    options={"p": True},
    rejects=[
        broken(takes_zero_for_unset),
        broken(adds_an_epsilon_to_the_rate),
        broken(drops_one_in_a_hundred_at_least),
    ],
    once=True,
)
def is_the_identity_at_rate_zero(subject: Implementation, case: Case) -> Evidence:
    """Built with p = 0 the output in train mode is the input, exactly.

    Over 2,000 units, so that one drop in a hundred is missed with probability 2·10⁻⁹. The bound is
    0, for x·1/(1 − 0) is x; with a realized scale N/(N + ε) it is γ₄ + ε of x, as torch divides a
    number by a tensor in two roundings. Needs p to name the constructor argument.
    Source: the definition.
    """
    name = subject.options["p"]
    if not isinstance(name, str):
        raise NotApplicable("p is a number, not the name of an argument that could be 0")
    subject.value_of(name, "option p")  # raises where it is no argument
    built = in_mode(subject.rebuilt(**{name: 0.0}), "train")
    law = Law(p=0.0, rescale="", noise="", axes=tuple(subject.options.get("axes", ())))
    x, y = elements(built, case, law, case.generator("values"), 2000)
    slack = 0.0
    if subject.options.get("rescale") == "realized":
        slack = gamma(4, x.dtype) + float(subject.argument("eps", 0.0))
    return worst_element((y - x).abs(), slack * x.abs(), x.abs(), "output at p = 0")
