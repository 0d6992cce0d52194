"""What a penalty says of weights as a prior: a density, of which training finds the mode alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.penalty.broken import (
    clips_large_weights,
    forgets_the_absolute_value,
    ignores_negative_weights,
    rounds_off_near_zero,
    saturates,
    squares_twice,
)
from dlcheck.checks.penalty.law import counted, law_of, value
from dlcheck.datasets import digits
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Figure, Subject
from dlcheck.mutants import scaled_value
from dlcheck.numerics.fista import fista
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_NODES = 64  # of the quadrature of one half of the density
_FARTHEST = 40.0  # where −log p is 40 above its least: the rest holds 10⁻¹⁷ of the mass
_DRAWS = 100_000
_ROWS, _STEPS, _BINS, _REACH = 500, 150, 41, 4.0  # the reach in units of the scale
_STRENGTH = {"laplace": 2e-3, "gaussian": 2e-2}  # λ₁ or λ₂ of the mean loss, for the figure


@check(
    kind="penalty",
    options={"prior": ["laplace", "gaussian"], "strength": True, "norm": [1, 2]},
    dtypes=["float64"],
    tags=["experiment"],
    once=True,
    textbook={
        "id": "R3",
        "says": "L2 is a Gaussian prior on the weights, L1 a Laplace prior",
        "verdict": "true if",
        "condition": "the mode of the posterior is meant, and the penalty is in the loss",
    },
    rejects=[
        scaled_value(2.0),
        squares_twice,
        saturates,
        forgets_the_absolute_value,
        ignores_negative_weights,
        rounds_off_near_zero,
        clips_large_weights,
    ],
    accepts=[
        Subject(
            name="l1",
            target="dlcheck.references.penalties.l1:l1_penalty",
            kind="penalty",
            args={"strength": 5.0},
            options={"norm": 1, "strength": "strength", "prior": "laplace"},
            checks=("only_the_mode_of_the_prior_is_zero",),
        ),
        Subject(
            name="l2",
            target="dlcheck.references.penalties.l2:l2_penalty",
            kind="penalty",
            args={"strength": 5.0},
            options={"norm": 2, "strength": "strength", "convention": "full", "prior": "gaussian"},
            checks=("only_the_mode_of_the_prior_is_zero",),
        ),
    ],
)
def only_the_mode_of_the_prior_is_zero(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """exp(−P) has the declared spread, scale 1/λ or variance 1/λ₂; draws from it are never zero.

    For one weight, the others 0: E|w| = 1/λ₁ under a Laplace prior, E w² = 1/λ₂ under a normal one
    (λ₂ = 2λ for λ‖w‖²), and the mean 0, by Gauss–Legendre quadrature of the subject's own values
    on either side of 0, up to where −log p has grown by 40. With 64 nodes the remainder of the
    rule is below 10⁻⁶⁰; what is left is the cut, 41 e⁻⁴⁰, and rounding, an exponent of 40 included.

    The counter-example: L1's zeros are those of the mode. Of 100,000 draws from the prior none is
    zero, and the weights of softmax regression on digits, trained under it, are spread unlike it.
    Source: Tibshirani, JRSS B 58(1), 1996, §5; Park & Casella, The Bayesian Lasso, JASA 103, 2008,
    §1 (the posterior itself has no zeros); Golub & Welsch 1969 (quadrature).
    """
    prior, rate = _declared(subject)
    reach = _FARTHEST / rate if prior == "laplace" else math.sqrt(2 * _FARTHEST / rate)
    nodes, masses = _density(subject, case, reach)
    total = float(masses.sum())
    size = nodes.abs() if prior == "laplace" else nodes.square()
    bound = 8 * gamma(2 * _NODES + 64, torch.float64)
    for what, moment, due, unit in (
        ("E|w|" if prior == "laplace" else "E w²", size, 1 / rate, 1 / rate),
        ("mean", nodes, 0.0, 1 / rate if prior == "laplace" else rate**-0.5),
    ):
        found = float((masses * moment).sum()) / total
        yield Evidence(
            error=abs(found - due) / unit,
            bound=bound,
            signal=1.0,
            unit="of the scale",
            what=f"{what} under exp(−P)",
            expected=f"{due:.12g}",
            got=f"{found:.12g}",
        )
    yield _draws(prior, rate)


def _declared(subject: Implementation) -> tuple[str, float]:
    """The prior, and λ₁ or λ₂."""
    prior, law = str(subject.options["prior"]), law_of(subject)
    rate = law.l1 if prior == "laplace" else law.l2
    if rate is None or not rate > 0:
        raise NotApplicable("strength and convention do not say how wide its prior is")
    return prior, rate


def _density(subject: Implementation, case: Case, reach: float) -> tuple[Tensor, Tensor]:
    """Nodes on either side of 0, and what each adds to the integral of exp(−P): [128], [128]."""
    x, mass = np.polynomial.legendre.leggauss(_NODES)
    half = torch.as_tensor((x + 1) * reach / 2)
    nodes = torch.cat([-half, half])
    weights = torch.as_tensor(mass).repeat(2) * reach / 2
    (name, *_) = counted(subject, case.specs)
    zeros = {n: torch.zeros_like(w) for n, w in case.inputs.items()}
    energies = []
    for w in nodes.tolist():
        moved = {**zeros, name: zeros[name].clone()}
        moved[name].view(-1)[0] = w
        energies.append(float(value(subject, *moved.values()).detach()))
    return nodes, weights * torch.exp(-torch.tensor(energies, dtype=torch.float64))


def _draws(prior: str, rate: float) -> Evidence:
    """How many draws from the prior are zero, beside how many trained weights are."""
    generator = torch.Generator().manual_seed(0)
    if prior == "laplace":
        sizes = torch.empty(_DRAWS, dtype=torch.float64).exponential_(rate, generator=generator)
        sides = torch.randint(0, 2, (_DRAWS,), generator=generator).double()
        drawn = sizes * (2 * sides - 1)
    else:
        drawn = torch.randn(_DRAWS, generator=generator, dtype=torch.float64) * rate**-0.5
    zeros, trained = int((drawn == 0).sum()), _trained_weights(prior)
    share = float((trained == 0).double().mean())
    return Evidence(
        error=float(zeros),
        bound=0.0,
        signal=float(_DRAWS),
        unit="draws",
        what=f"draws from the {prior} prior that are zero",
        expected="none",
        got=f"{zeros} of {_DRAWS:,}, where {share:.0%} of trained weights are",
        figures=(_histogram(prior, trained),),
        counterexample=prior == "laplace",
    )


@functools.cache
def _trained_weights(prior: str) -> Tensor:
    """Softmax regression on 500 digits under the prior, to its mode: [640]."""
    table = digits()
    x, y = table.x[:_ROWS] - 0.5, table.y[:_ROWS]
    once = F.one_hot(y, 10).double()

    def gradient(weights: Tensor) -> Tensor:
        return (x.mT @ (torch.softmax(x @ weights.reshape(64, 10), 1) - once) / len(x)).flatten()

    def prox(z: Tensor, step: float) -> Tensor:
        if prior == "laplace":
            return z.sign() * (z.abs() - step * _STRENGTH[prior]).clamp(min=0)
        return z / (1 + step * _STRENGTH[prior])

    # The Hessian of log-sum-exp is at most ½, so that L ≤ ½ λ_max(XᵀX/n).
    steepest = 0.5 * float(torch.linalg.eigvalsh(x.mT @ x / len(x))[-1])
    return fista(gradient, prox, torch.zeros(640, dtype=torch.float64), steepest, _STEPS)


def _histogram(prior: str, weights: Tensor) -> Figure:
    """The trained weights beside the density of the same scale."""
    scale = float(weights.abs().mean() if prior == "laplace" else weights.square().mean().sqrt())
    edges = torch.linspace(-_REACH * scale, _REACH * scale, _BINS + 1, dtype=torch.float64)
    counts = torch.histogram(weights, edges).hist
    heights = (counts / len(weights) / (edges[1] - edges[0])).tolist()
    bars = [*zip(edges.tolist(), [*heights, 0.0], strict=True)]
    places = torch.linspace(-_REACH, _REACH, 2 * _BINS + 1, dtype=torch.float64)
    if prior == "laplace":
        curve = (-places.abs()).exp() / (2 * scale)
    else:
        curve = (-places.square() / 2).exp() / (scale * math.sqrt(2 * math.pi))
    name = {"laplace": "Laplace", "gaussian": "normal"}[prior]
    penalty = {"laplace": "L1", "gaussian": "L2"}[prior]
    zeros = int((weights == 0).sum())
    return Figure(
        title=f"Weights trained under {penalty}",
        x="weight",
        y="density",
        series={
            "softmax regression on digits": bars,
            f"{name} density of the same scale": [
                *zip((scale * places).tolist(), curve.tolist(), strict=True)
            ],
        },
        steps=("softmax regression on digits",),
        note=f"{zeros} of {len(weights)} weights are exactly zero; no draw from the density is.",
    )
