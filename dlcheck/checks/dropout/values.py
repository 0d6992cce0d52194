"""What becomes of each element, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.dropout.broken import (
    Declared,
    broken,
    follows_another_convention,
    scales_by_the_inverse_of_the_rate,
)
from dlcheck.checks.dropout.draws import elements
from dlcheck.checks.dropout.identity import worst_element
from dlcheck.checks.dropout.law import at_several_rates, in_mode, law_of
from dlcheck.model import Evidence
from dlcheck.mutants import through_backward
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients


class leaks_a_hundredth_of_what_is_dropped(Declared):
    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        return super().apply_noise(x, noise) + 0.01 * x * (1 - noise)


class leaves_one_element_as_it_was(Declared):
    """The last element of the tensor escapes both mask and scale."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        y = super().apply_noise(x, noise).clone()
        y[(-1,) * x.dim()] = 0.97 * x[(-1,) * x.dim()]
        return y


@check(
    kind="dropout",
    options={
        "p": True,
        "rescale": ["train", "eval", "none", "alpha"],
        "noise": [None, "bernoulli"],
    },
    rejects=[
        broken(follows_another_convention),
        broken(scales_by_the_inverse_of_the_rate),
        broken(leaks_a_hundredth_of_what_is_dropped),
        broken(leaves_one_element_as_it_was),
    ],
    once=True,
)
def values_are_dropped_or_rescaled(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Each output is the dropped value or the declared multiple of its input, nothing else.

    Over 1,000 units, at the declared p and at ¼ and ¾: |y − a·x − c| or |y − dropped|, whichever
    is less, within the rounding of the scale and of the products (see `Law.rounding`).
    Source: Srivastava et al., Dropout, JMLR 15, 2014, §4 and §10; Klambauer et al.,
    Self-Normalizing Neural Networks, NeurIPS 2017, §"New Dropout Technique".
    """
    for built in at_several_rates(subject):
        law = law_of(built)
        x, y = elements(built, case, law, case.generator(f"{law.p}"), 1000)
        kept = law.factor * x + law.offset
        error = torch.minimum((y - kept).abs(), (y - law.dropped).abs())
        yield worst_element(error, law.rounding(x), kept.abs(), f"output at p = {law.p:g}")


class _Backward(Declared):
    """The right value, whose gradient is what `gradient` makes of v, the noise and the law."""

    def gradient(self, v: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        raise NotImplementedError

    def train_forward(self, x: Tensor) -> Tensor:
        noise = self.noise(x)
        y = super().apply_noise(x, noise).detach()
        change: Callable[[Tensor], Tensor] = lambda v: self.gradient(v, x.detach(), noise)  # noqa: E731
        through = through_backward(x, change)
        return y + (through - through.detach()) if x.requires_grad else y

    def slope(self, x: Tensor, noise: Tensor) -> Tensor:
        """dy/dx under this noise."""
        ones = torch.ones_like(x)
        return self.apply_noise(ones, noise) - self.apply_noise(0 * ones, noise)


class draws_a_new_mask_for_the_backward(_Backward):
    def gradient(self, v: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        return v * self.slope(x, self.noise(x))


class passes_the_gradient_straight_through(_Backward):
    def gradient(self, v: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        return v


class rescales_the_gradient_once_too_often(_Backward):
    def gradient(self, v: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        return v * self.slope(x, noise) / self.law.keep


class masks_the_gradient_where_the_input_is_positive(_Backward):
    """Finds the mask again from the output's sign."""

    def gradient(self, v: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        return v * self.slope(x, noise) * (x > 0)


@check(
    kind="dropout",
    forbids={"surrogate_gradient", "nondifferentiable"},
    rejects=[
        broken(draws_a_new_mask_for_the_backward),
        broken(passes_the_gradient_straight_through),
        broken(rescales_the_gradient_once_too_often),
        broken(masks_the_gradient_where_the_input_is_positive),
    ],
)
def gradient_uses_the_forward_mask(subject: Implementation, case: Case) -> Evidence:
    """The gradient of an element is the cotangent times the factor of its forward pass.

    Given the mask y = m ⊙ x is linear, so that x ⊙ g = v ⊙ y for the gradient g of ⟨v, y⟩: each
    side is a product of at most 8 roundings, of size |v·y|. Where nothing came through the bound is
    0. For alpha dropout, affine in x, g = a·v where the element was kept and 0 elsewhere.
    Source: Srivastava et al., Dropout, JMLR 15, 2014, §5.1: the backward goes through the same
    thinned network.
    """
    law = law_of(subject)
    given: list[Any] = list(case.fresh(requires_grad=case.floating[:1]))
    x = given[list(case.inputs).index(case.floating[0])]
    y = in_mode(subject, "train").tensor(*given)
    v = _cotangent(case, y)
    (g,) = gradients([y], [x], [v])
    g = torch.zeros_like(x) if g is None else g
    size = (v * y).detach()
    if law.rescale == "alpha":
        expected = torch.where(law.kept(x.detach(), y.detach()), law.factor * v, 0.0)
        bound = gamma(12, x.dtype) / law.keep * expected.abs()
        return worst_element((g - expected).abs(), bound, expected.abs(), "gradient")
    bound = gamma(16, x.dtype) * size.abs()
    return worst_element((x * g - size).abs(), bound, size.abs(), "input times gradient")


def _cotangent(case: Case, y: Tensor) -> Tensor:
    """No element near 0, signs mixed: no part of the gradient hides."""
    z = torch.rand(y.shape, generator=case.generator("cotangent"), dtype=torch.float64) + 0.5
    sign = torch.rand(y.shape, generator=case.generator("sign"), dtype=torch.float64) < 0.5
    return torch.where(sign, -z, z).to(y)
