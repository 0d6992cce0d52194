"""Noise that is added to the inputs of a regression is a penalty on its weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlcheck.checks.dropout.draws import MOST_ELEMENTS, is_free
from dlcheck.checks.every.laws import declared_law
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Figure, Subject
from dlcheck.mutants import around
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, bonferroni, detectable, mean, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

N = 3_000  # losses
_NODES = 40  # of Gauss–Hermite: exact up to degree 79
_DEVIATIONS = (0.2, 0.1, 0.05)

Call = Callable[[Tensor], Tensor]


def _noisy(x: Tensor) -> Tensor:
    return x + 0.5 * torch.randn_like(x)


_NORMAL: dict[str, Any] = {
    "kind": "op",
    "inputs": {"x": "float b n"},
    "traits": frozenset({"stochastic"}),
    "options": {"mean": "x", "variance": "0.25"},
}


@around
def halves_its_noise(original: Call, x: Tensor) -> Tensor:
    return (original(x) + x) / 2


@around
def multiplies_by_the_variance(original: Call, x: Tensor) -> Tensor:
    """σ² z for σ z."""
    y = original(x)
    return x + float((y - x).std()) * (y - x)


@around
def shares_its_noise_over_features(original: Call, x: Tensor) -> Tensor:
    """One number for a whole row: randn(b, 1)."""
    return x + (original(x) - x)[..., :1]


@around
def adds_noise_above_zero_only(original: Call, x: Tensor) -> Tensor:
    """rand for randn, or |z|: the mean moves."""
    return x + (original(x) - x).abs()


@around
def widens_its_noise_by_the_detectable_effect(original: Call, x: Tensor) -> Tensor:
    """The penalty is larger by 6.38 standard deviations of its estimate."""
    losses = 2 * math.sqrt(3) / math.sqrt(2)  # σ of the loss over the penalty, bounded from above
    wider = math.sqrt(1 + detectable(losses, N, coordinates=2))
    return x + wider * (original(x) - x)


@check(
    kind=["op", "layer"],
    needs={"stochastic"},
    forbids={"nondifferentiable", "batch_coupled"},
    options={"mean": True, "variance": True},
    rejects=[
        halves_its_noise,
        multiplies_by_the_variance,
        shares_its_noise_over_features,
        adds_noise_above_zero_only,
        widens_its_noise_by_the_detectable_effect,
    ],
    accepts=[Subject(name="noisy", target=_noisy, **_NORMAL)],
    tags=["statistical"],
    once=True,
    textbook={
        "id": "R6",
        "says": "Noise on the inputs regularizes",
        "verdict": "true if",
        "condition": "the model is linear, where it is the penalty nσ²‖w‖²; else up to O(σ⁴)",
    },
)
def noise_on_inputs_is_a_penalty(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The mean squared loss of a linear model on noisy inputs is the loss plus nσ²‖w‖².

    Of noise that is added, so that the declared mean is the input itself:
    E Σᵢ (tᵢ − w·yᵢ)² = Σᵢ (tᵢ − w·xᵢ)² + Σᵢⱼ σᵢⱼ² wⱼ². A t test of 3,000 losses for each of two
    targets, whose residuals are ± the noise, by three strikes; deviations are in units of the
    penalty. With Gauss and Hermite's nodes in place of samples the same is exact, for the loss is
    a polynomial of degree 2: the bound is the rounding of the sum.

    Where the model is not linear, Bishop's penalty σ²(f'² + (f − t)f'')‖w‖² leaves out what is of
    fourth order. The counter-example is f = tanh: the power of σ in what is left, from three σ by
    Richardson's extrapolation, whose last correction is the bound.
    Source: Bishop, Training with Noise is Equivalent to Tikhonov Regularization, Neural
    Computation 7(1), 1995, eqs. 8 to 12; Goodfellow, Bengio & Courville, Deep Learning, 2016, §7.5.
    """
    x = case.inputs[case.floating[0]]
    centre, variance = (declared_law(subject, case, name) for name in ("mean", "variance"))
    if centre.shape != x.shape or not torch.equal(centre.to(x), x) or x.dim() < 2:
        raise NotApplicable("the declared mean is not the input: no noise is added to it")
    if not bool((variance > 0).any()):
        raise NotApplicable("the declared variance is 0")
    yield _sampled(subject, case, x, variance)
    yield _linear_exactly(x, variance, case)
    yield _order_of_what_is_left()


def _sampled(subject: Implementation, case: Case, x: Tensor, variance: Tensor) -> Evidence:
    """Three strikes on the mean loss, of as many copies of x as a call holds."""
    weight = torch.randn(x.shape[1:], generator=case.generator("w"), dtype=torch.float64)
    weight = weight.to(x.device)
    fitted = (weight * x.double()).flatten(1).sum(1)
    penalties = (variance.to(x.device) * weight.square()).flatten(1).sum(1)
    penalty = float(penalties.sum())
    # Residuals of the size of the noise, of both signs: a wrong mean shows to first order.
    residual = torch.copysign(penalties.sqrt(), fitted)
    targets = torch.stack([fitted + residual, fitted - residual])
    copies = 1
    if is_free(subject, case, 0):
        copies = max(1, min(N, MOST_ELEMENTS // x.numel()))
    many = x.repeat(copies, *[1] * (x.dim() - 1))

    def sample(stream: Stream, n: int) -> Finding:
        pieces = []
        for _ in range(0, n, copies):
            with torch.no_grad():
                y = subject.tensor(many.clone()).double()
            predicted = (weight * y).flatten(1).sum(1).reshape(copies, -1)
            pieces.append(torch.stack([(t - predicted).square().sum(1) for t in targets], 1))
        losses = torch.cat(pieces)[:n] / penalty
        return bonferroni([mean(losses[:, i], 2.0, signal=1.0) for i in (0, 1)])

    what = "mean loss on noisy inputs, in units of the penalty nσ²‖w‖²"
    return three_strikes(case.root, case.claim, N * case.profile.effort, sample, what=what)


def _hermite() -> tuple[Tensor, Tensor]:
    """Nodes z and weights of E f(z) for a standard normal z."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def _linear_exactly(x: Tensor, variance: Tensor, case: Case) -> Evidence:
    """w·(x + σz) is w·x + √(Σ σⱼ²wⱼ²) z: one integral a row."""
    weight = torch.randn(x.shape[1:], generator=case.generator("w"), dtype=torch.float64)
    fitted = (weight * x.double().cpu()).flatten(1).sum(1)
    penalties = (variance.cpu() * weight.square()).flatten(1).sum(1)
    nodes, weights = _hermite()
    residual = 1 - penalties.sqrt()[:, None] * nodes - fitted[:, None]
    found = float((residual.square() * weights).sum())
    expected = float((1 - fitted).square().sum() + penalties.sum())
    reach = (1 + fitted.abs() + penalties.sqrt() * float(nodes.max())).square()
    # Nodes and weights come to a few roundings of an eigenvalue problem of their number.
    bound = gamma(_NODES * _NODES + x.numel(), torch.float64) * float(reach.sum())
    return Evidence(
        error=abs(found - expected),
        bound=bound,
        signal=float(penalties.sum()),
        what="expected loss of a linear model, by Gauss–Hermite, against loss + nσ²‖w‖²",
        expected=f"{expected:.12g}",
        got=f"{found:.12g}",
    )


def _left_out(deviation: float) -> tuple[float, float]:
    """E (tanh(u + σz) − t)² less the loss and Bishop's penalty; and less σ²f'² alone."""
    nodes, weights = _hermite()
    u, t = 0.7, 0.1
    f = math.tanh(u)
    slope, bend = 1 - f * f, -2 * f * (1 - f * f)
    expected = float((weights * (torch.tanh(u + deviation * nodes) - t).square()).sum())
    flat = (f - t) ** 2 + deviation**2 * slope**2
    return abs(expected - flat - deviation**2 * (f - t) * bend), abs(expected - flat)


def _order_of_what_is_left() -> Evidence:
    rows = [_left_out(deviation) for deviation in _DEVIATIONS]
    orders = [math.log2(a[0] / b[0]) for a, b in itertools.pairwise(rows)]
    alone = math.log2(rows[-2][1] / rows[-1][1])
    best = (4 * orders[1] - orders[0]) / 3
    return Evidence(
        error=abs(best - 4),
        bound=abs(best - orders[1]),
        signal=4.0,
        unit="power of σ",
        resolution=0.05,
        what="order of what the penalty leaves out for tanh",
        expected="4",
        got=f"{best:.5g} ({', '.join(f'{order:.4g}' for order in orders)} before extrapolation)",
        values={"order without the term of f''": alone},
        counterexample=True,
        figures=(
            Figure(
                title="What Bishop's penalty leaves out",
                x="σ",
                y="difference from the expected loss",
                series={
                    "σ²(f'² + (f − t)f'')": [
                        (s, row[0]) for s, row in zip(_DEVIATIONS, rows, strict=True)
                    ],
                    "σ²f'² alone": [(s, row[1]) for s, row in zip(_DEVIATIONS, rows, strict=True)],
                },
                log_x=True,
                log_y=True,
                note="f = tanh at 0.7 with the target 0.1; a linear f leaves nothing.",
            ),
        ),
    )
