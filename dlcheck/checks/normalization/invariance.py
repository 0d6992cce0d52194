"""What normalization takes away: the scale of the input, its mean, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.agreement import agreement
from dlcheck.checks.normalization.broken import (
    forgets_the_root,
    holds_the_statistics_for_constants,
    holds_the_variance_for_a_constant,
    subtracts_no_mean_from_the_input,
    sums_squares_in_one_pass,
)
from dlcheck.checks.normalization.normalizer import Normalizer, neutralise, scatter
from dlcheck.checks.normalization.torch_norms import RUNNING, TORCH
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.mutants import around, through_backward
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients


@around
def divides_by_a_constant(original: Any, x: Tensor, *further: Any) -> Any:
    """A fixed scale in place of the input's."""
    return original(x, *further) * x.detach().abs().amax() ** 0.01


@around
def clips_the_input(original: Any, x: Tensor, *further: Any) -> Any:
    """Large activations are cut off first."""
    return original(x.clamp(-100, 100), *further)


@check(
    kind="normalization",
    rejects=[forgets_the_root, divides_by_a_constant, clips_the_input],
    accepts=[*TORCH, *RUNNING],
    dtypes=["float64", "float32"],
    once=True,
)
def normalizing_forgets_the_scale(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """m(2ᵏx) = m(x) for k = 4 and 10, where ε is negligible.

    The inputs have a deviation of 2¹² √ε at least, so that ε moves z by |z|·2⁻²⁴ at most, which is
    added to the bound; powers of two scale without rounding.
    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, §3.3.
    """
    made = Normalizer.of(subject, case)
    made.must_use_the_batch()
    scatter(made)
    x = _far_above_eps(made)
    z = made.law.standardized(x)
    made.must_vary(z)
    room = made.room(x) + made.modulation(x) * _left_by_eps(made, x)
    with torch.no_grad():
        plain = made(x)
        for k in (4, 10):
            scaled = made(x * 2.0**k)
            yield agreement(f"answer on the input times 2^{k}", scaled, plain, room)


def _far_above_eps(made: Normalizer) -> Tensor:
    """Drawn values whose groups deviate by about 2¹² √ε, or 2²⁴ where none is declared."""
    eps = made.law.eps
    if eps is None:
        return made.drawn("far above eps")
    deviation = eps if made.law.eps_form == "deviation" else eps**0.5
    return made.drawn("far above eps", max(1.0, 2.0**14 * deviation))


def _left_by_eps(made: Normalizer, x: Tensor) -> Tensor:
    """How far the declared ε moves z here: at most |z|·ε/σ², or ε/σ, times |a| ≤ 4."""
    if made.law.eps is None:
        return torch.zeros_like(x, dtype=torch.float64)  # `room` has it
    variance = made.law.variance(x)
    by = variance.sqrt() if made.law.eps_form == "deviation" else variance
    apart = torch.where(by > 0, made.law.eps / torch.where(by > 0, by, 1.0), 0.0)
    left: Tensor = 4 * made.law.standardized(x).abs() * apart
    return left


@check(
    kind="normalization",
    options={"centred": [None, True]},
    rejects=[
        subtracts_no_mean_from_the_input,
        sums_squares_in_one_pass,
    ],
    accepts=[*TORCH, *RUNNING],
    dtypes=["float64"],
)
def normalizing_forgets_the_mean(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """m(x + c) = m(x) for one number c, up to 10⁶ deviations large.

    The shifted input is rounded, which is part of the bound; a variance as E x² − (E x)² cancels
    its digits there and shows: off by u·c²/σ² where u·c/σ is due.
    Source: Chan, Golub & LeVeque, Algorithms for Computing the Sample Variance, The American
    Statistician 37(3), 1983, §3.
    """
    made = Normalizer.of(subject, case)
    made.must_use_the_batch()
    scatter(made)
    x = made.drawn("shift")
    made.must_vary(made.law.standardized(x))
    deviation = float(made.law.variance(x).amax().sqrt())
    with torch.no_grad():
        plain = made(x)
        for times in (8.0, 1e4, 1e6):
            if times * torch.finfo(made.case.dtype).eps > 2.0**-16:
                continue  # float32 inside: the mean alone takes half of the digits
            moved = x + times * deviation
            room = made.room(moved) + made.room(x)
            yield agreement(f"answer on the input + {times:g} σ", made(moved), plain, room)


@around
def scales_the_gradient(original: Any, x: Tensor, *further: Any) -> Any:
    """A factor as a hand-written backward may have it in one of its terms."""
    return original(through_backward(x, lambda g: g + 0.01 * g.mean() + 0.01 * x), *further)


@check(
    kind="normalization",
    rejects=[
        holds_the_statistics_for_constants,
        holds_the_variance_for_a_constant,
        scales_the_gradient,
    ],
    accepts=TORCH,
    dtypes=["float64", "float32"],
    once=True,
)
def gradient_forgets_what_is_normalized(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Within a group ⟨∂L/∂x, x⟩ is what ε leaves of it, and the gradient sums to 0 if centred.

    z(tx) changes with t through ε alone, and z(x + t) not at all: so the gradient g of ⟨v, z⟩ has
    Σ g·x = Σ v·dz/dt, nearly 0, and Σ g = 0. Statistics that are taken for constants (a detach, a
    no_grad) break both. The affine map is made neutral first.
    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, §3.
    """
    made = Normalizer.of(subject, case)
    made.must_use_the_batch()
    if made.subject.traits & {"nondifferentiable", "surrogate_gradient"}:
        raise NotApplicable("its gradient is not that of what it computes")
    neutralise(made)
    x = made.drawn("gradient", 1.0)
    made.must_vary(made.law.standardized(x))
    v = torch.randn(x.shape, generator=case.generator("cotangent"), dtype=torch.float64).to(x)
    law = made.law

    def gradient(*given: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = given[0].detach().clone().requires_grad_()
            seed_everything(case.recipe.seed)
            y = subject.tensors(leaf, *given[1:])[0]
            return gradients([y], [leaf], [v])[0]  # type: ignore[return-value]

    if gradient(*made.inputs(x)) is None:
        raise NotApplicable("its answer has no gradient")
    g = gradient(*made.inputs(x)).double()
    room = _room_of_gradient(made, x, v)
    below = law.denominator(law.variance(x))  # the terms that cancel are as large as v/σ
    size = float(law.mean((v * x).double().abs() / below).amax())
    blur = law.mean(made.blur(x) * v.abs()) if law.eps is None else 0.0
    wide = x.double()
    yield agreement(
        "⟨gradient, x⟩ per element of a group",
        law.mean(g * wide),
        law.mean(_due(made, x, v)),
        law.mean(room * wide.abs()) + blur,
        signal=size,
    )
    if law.centred:
        yield agreement(
            "mean of the gradient over a group",
            law.mean(g),
            torch.zeros_like(wide),
            law.mean(room),
            signal=float(law.mean(v.double().abs() / below).amax()),
        )


def _room_of_gradient(made: Normalizer, x: Tensor, v: Tensor) -> Tensor:
    """r(v − mean v − z·mean(vz)), r = 1/√(σ² + ε): each term is off by what z is off, times |v|."""
    law = made.law
    z = 1 + law.standardized(x).abs()
    size = v.double().abs() + law.mean(v.double().abs() * z)
    room: Tensor = 4 * made.unit(x) * z * z * size / law.denominator(law.variance(x))
    return room.nan_to_num(math.inf)


def _due(made: Normalizer, x: Tensor, v: Tensor) -> Tensor:
    """v · d z(tx)/dt at t = 1: z·ε/(σ² + ε), or z·ε/(σ + ε) where ε stands beside σ."""
    eps, variance = made.law.eps or 0.0, made.law.variance(x)
    by = variance.sqrt() if made.law.eps_form == "deviation" else variance
    share = torch.where(by + eps > 0, eps / (by + eps).clamp_min(1e-300), 0.0)
    return v.double() * made.law.standardized(x) * share


@around
def divides_by_zero_variance(original: Any, x: Tensor, *further: Any) -> Any:
    """0/0 where all is constant."""
    y = original(x, *further)
    spread = x.detach() - x.detach().flatten()[0]
    return y + 0 * (0 / spread.abs().amax())


@around
def takes_the_root_of_zero(original: Any, x: Tensor, *further: Any) -> Any:
    """The value is right, the gradient of √0 is not finite."""
    spread = (x - x.mean()).square().mean().sqrt()
    return original(x, *further) + 0 * spread


@check(
    kind="normalization",
    rejects=[divides_by_zero_variance, takes_the_root_of_zero],
    accepts=[*TORCH, *RUNNING],
    once=True,
)
def constant_groups_stay_finite(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Value and gradient are finite where every group is constant: 0, 1 or 10⁴.

    σ² is 0, so that only ε stands in the denominator; a variance in one pass may even be below 0.
    The error is the number of elements that are not finite.
    """
    made = Normalizer.of(subject, case)
    if made.law.eps == 0:
        raise NotApplicable("the declared ε is 0: a constant group is 0/0")
    like = case.inputs[case.floating[0]]
    for constant in (0.0, 1.0, 1e4):
        leaf = torch.full_like(like, constant).requires_grad_()
        y = made(leaf)
        yield _finite(f"answer on groups of {constant:g}", y)
        slope = gradients([y], [leaf], [torch.ones_like(y)])[0]
        if slope is not None:
            yield _finite(f"gradient on groups of {constant:g}", slope)


def _finite(what: str, values: Tensor) -> Evidence:
    wrong = values.numel() - int(torch.isfinite(values).sum())
    return Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(values.numel()),
        unit="elements",
        what=f"{what} that is not finite",
    )
