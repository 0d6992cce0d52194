"""The affine map comes last, is the identity at first, and is moved by its parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.agreement import agreement
from dlcheck.checks.normalization.broken import (
    adds_the_eps_to_the_deviation,
    forgets_the_root,
    normalizes_over_the_first_axis_only,
    subtracts_no_mean_from_the_input,
)
from dlcheck.checks.normalization.law import followed
from dlcheck.checks.normalization.normalizer import Normalizer, learned_eps, scatter
from dlcheck.checks.normalization.torch_norms import RUNNING, TORCH
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Mutant
from dlcheck.mutants import around, rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_EFFECT = 2.0**-10  # × the largest answer: what a parameter moved by ½ moves at least


def _parameters(name: str, change: Callable[[nn.Parameter], Any]) -> Mutant:
    """A mutant whose parameters begin otherwise."""

    def make(module: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in module.parameters():
                change(parameter)
        return module

    return rebuilt(name, make)


starts_at_three_quarters = _parameters("starts_at_three_quarters", lambda p: p.fill_(0.75))
starts_with_weights_of_a_half = _parameters("starts_with_weights_of_a_half", lambda p: p.mul_(0.5))
swaps_ones_and_zeros = _parameters("swaps_ones_and_zeros", lambda p: p.neg_().add_(1))


@check(
    kind="normalization",
    forbids={"zero_init"},
    rejects=[starts_at_three_quarters, starts_with_weights_of_a_half, swaps_ones_and_zeros],
    accepts=TORCH,
    dtypes=["float64", "float32"],
    once=True,
)
def starts_without_an_affine_map(subject: Implementation, case: Case) -> Evidence:
    """As it is built, a normalization gives the standardized input itself: y = z.

    Its weight is 1 and its bias 0 (or w = 0 where the weight is 1 + w). The error is relative to
    what rounding moves. A module that was trained before, whose parameters have many values, is
    not judged; nor is one that a further input modulates.
    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, §3; Ba, Kiros & Hinton, Layer
    Normalization, 2016, §3.
    """
    made = Normalizer.of(subject, case)
    made.must_use_the_batch()
    if not made.is_alone:
        raise NotApplicable("takes further inputs, which may bring an affine map of their own")
    if not subject.parameters:
        raise NotApplicable("has no parameters")
    if isinstance(subject.declared.target, nn.Module) and not all(
        bool((p == p.flatten()[0]).all()) for p in subject.parameters.values()
    ):
        raise NotApplicable("the module that was given is trained already")
    x = made.drawn("start")
    z = made.law.standardized(x)
    made.must_vary(z)
    with torch.no_grad():
        y = made(x)
    cause = followed(made.law, x, y.double()) or _of_the_start(y, z)
    return agreement("answer as built", y, z, made.room(x), cause=cause)


def _of_the_start(y: Tensor, z: Tensor) -> str:
    """A factor or a shift common to all elements, if that is all that is wrong."""
    far = (z.abs() > 2.0**-10).flatten()
    ratio = (y.double() / torch.where(z == 0, 1.0, z)).flatten()[far]
    if not ratio.numel():
        return ""
    if float((ratio - ratio[0]).abs().amax()) < 1e-6 * float(ratio[0].abs() + 1e-6):
        return f"the weights begin as {float(ratio[0]):.4g}"
    return ""


@around
def weight_enters_before_the_normalization(original: Any, x: Tensor, *further: Any) -> Any:
    """norm(w ⊙ x) with weights that differ within a group."""
    w = 1 + 0.3 * torch.cos(torch.arange(x.numel(), device=x.device)).to(x.dtype)
    return original(x * w.reshape(x.shape), *further)


@around
def gates_the_answer_by_the_input(original: Any, x: Tensor, *further: Any) -> Any:
    return original(x, *further) * (1 + 0.1 * torch.sigmoid(x))


@around
def adds_the_input(original: Any, x: Tensor, *further: Any) -> Any:
    return original(x, *further) + 0.01 * x


@around
def shifts_every_row_otherwise(original: Any, x: Tensor, *further: Any) -> Any:
    """The bias lies along the batch."""
    shift = 0.1 * torch.arange(len(x), device=x.device).to(x.dtype)
    return original(x, *further) + shift.reshape(-1, *(1 for _ in x.shape[1:]))


@check(
    kind="normalization",
    rejects=[
        weight_enters_before_the_normalization,
        gates_the_answer_by_the_input,
        adds_the_input,
        shifts_every_row_otherwise,
        adds_the_eps_to_the_deviation,
        normalizes_over_the_first_axis_only,
        subtracts_no_mean_from_the_input,
        forgets_the_root,
    ],
    accepts=[*TORCH, *RUNNING],
    dtypes=["float64", "float32"],
)
def affine_map_comes_after_the_normalization(subject: Implementation, case: Case) -> Evidence:
    """y = a ⊙ z + b with coefficients that depend neither on the input nor on the row.

    The parameters are scattered. Inputs of different mean and scale, one of them near ε,
    give z from the declaration; a and b are fitted to each position behind the first axis, over
    all rows of all three inputs, and the error is what remains. An error of size e in each answer
    leaves at most √(Σe²) in a residual of the fit. Weights that enter before the normalization, a
    statistic over the wrong axes, an ε in the wrong place leave more.
    """
    made = Normalizer.of(subject, case)
    made.must_use_the_batch()
    scatter(made)
    inputs = [made.drawn("affine"), made.drawn("other affine"), made.drawn("wide affine", 3.0)]
    if made.law.eps:
        near = made.law.eps ** (2 if made.law.eps_form == "deviation" else 1)
        inputs.append(made.of_variance("affine near eps", near))
    else:
        inputs.append(made.drawn("wider affine", 7.0))
    z = _observed(made, [made.law.standardized(x) for x in inputs])
    made.must_vary(z)
    with torch.no_grad():
        y = _observed(made, [made(x).double() for x in inputs])
    room = _observed(made, [made.room(x) for x in inputs])
    fitted, judged = fit(z, y)
    apart = room.square().sum(0).sqrt().where(judged, torch.tensor(torch.inf).to(room))
    return agreement("answer against a ⊙ z + b", y, fitted, apart.expand_as(y))


def _observed(made: Normalizer, values: list[Tensor]) -> Tensor:
    """By position; where a further input may modulate each row, every element stands alone."""
    return by_position(values) if made.is_alone else by_position([v.flatten() for v in values])


def by_position(values: list[Tensor]) -> Tensor:
    """[observations, positions]: rows of all calls, and what lies behind the first axis."""
    rows = [v.reshape(1, -1) if v.dim() < 2 else v.reshape(len(v), -1) for v in values]
    return torch.cat(rows)


def fit(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares of y on z and 1 at each position, and where z has a spread to fit on."""
    centred = z - z.mean(0)
    spread = centred.square().sum(0)
    judged = spread > 2.0**-20
    slope = (centred * y).sum(0) / torch.where(judged, spread, 1.0)
    return y.mean(0) + slope * centred, judged


class parameters_do_nothing(nn.Module):
    """They are registered, and the forward uses a copy."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original
        self.used: list[nn.Module] = []  # in a list, so that it is not registered

    def forward(self, x: Tensor, *further: Any) -> Any:
        self.used = self.used or [copy.deepcopy(self.original)]
        return self.used[0].train(self.training)(x, *further)


class first_parameter_does_nothing(parameters_do_nothing):
    """The weight is registered and forgotten."""

    def forward(self, x: Tensor, *further: Any) -> Any:
        self.used = self.used or [copy.deepcopy(self.original)]
        live = dict(self.original.named_parameters())
        with torch.no_grad():
            for name, parameter in list(self.used[0].named_parameters())[1:]:
                parameter.copy_(live[name])
        return super().forward(x, *further)


@check(
    kind="normalization",
    forbids={"optional_parameters"},
    rejects=[
        rebuilt("parameters_do_nothing", parameters_do_nothing),
        rebuilt("first_parameter_does_nothing", first_parameter_does_nothing),
    ],
    accepts=TORCH,
    once=True,
)
def every_parameter_moves_the_affine_map(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Adding ½ to a parameter moves the answer, by at least 2⁻¹⁰ of its largest element.

    A weight moves y by ½z and a bias by ½. A weight that is applied before the normalization is
    divided out again and moves it by what the ε leaves. A parameter that begins below 10⁻³ and is
    not 0 is taken for an ε that is learned, and not judged.
    """
    made = Normalizer.of(subject, case)
    made.must_use_the_batch()
    if not made.is_alone:
        raise NotApplicable("takes further inputs, which may bring an affine map of their own")
    small = learned_eps(subject)
    learned = {name: p for name, p in subject.parameters.items() if name not in small}
    if not learned:
        raise NotApplicable("has no parameters")
    scatter(made)
    x = made.drawn("effect")
    made.must_vary(made.law.standardized(x))
    with torch.no_grad():
        before = made(x).double()
        needed = _EFFECT * float(before.abs().amax())
        for name, parameter in learned.items():
            kept = parameter.clone()
            parameter.add_(0.5)
            effect = float((made(x).double() - before).abs().amax())
            parameter.copy_(kept)
            yield Evidence(
                error=max(0.0, needed - effect),
                bound=0.0,
                signal=max(effect, needed),
                what=f"effect of {name}",
                expected=f"at least {needed:.3g} where it grows by ½",
                got=f"{effect:.3g}",
            )
