"""A penalty is a prior: minus its log-density, up to a constant."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.penalty.broken import (
    decays_toward_a_constant,
    forgets_the_absolute_value,
    ignores_negative_weights,
    saturates,
    squares_twice,
    takes_the_mean,
    takes_the_root,
)
from dlcheck.checks.penalty.law import Law, as_stored, law_of, weights_of
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import scaled_value
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_NORMS = {"laplace": 1, "gaussian": 2}


@check(
    kind="penalty",
    options={"prior": ["laplace", "gaussian"]},
    rejects=[
        scaled_value(2.0),
        scaled_value(0.5),
        takes_the_root,
        takes_the_mean,
        squares_twice,
        saturates,
        forgets_the_absolute_value,
        ignores_negative_weights,
        decays_toward_a_constant,
    ],
    textbook={
        "id": "R3",
        "says": "L2 is a Gaussian prior on the weights, L1 a Laplace prior",
        "verdict": "true if",
        "condition": "the mode of the posterior is meant, and the penalty is in the loss",
    },
)
def is_the_log_prior(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Differences of the penalty are differences of −log p: Laplace for L1, normal for L2.

    P(w) − P(v) = log p(v) − log p(w), between the weights w and 0, −2w, w/3: for λ‖w‖₁ the scale
    of the Laplace density is 1/λ; for λ‖w‖² the normal variance is 1/(2λ), for (λ/2)‖w‖² it is
    1/λ. Where strength or convention is not declared, the scale is taken from P(w) itself and
    must hold for the others. log p comes from torch.distributions in float64, in which λ was
    given; the bound is the rounding of both sums, constants included.

    It makes the penalised minimum the mode of the posterior, no more: draws from the Laplace
    prior are never exactly zero.
    Source: Goodfellow, Bengio & Courville, Deep Learning, 2016, §5.6.1 and §7.1.2; Tibshirani,
    JRSS B 58(1), 1996, §5.
    """
    weights = {name: w.detach().double() for name, w in weights_of(subject, case).items()}
    flat = torch.cat([w.flatten() for w in weights.values()])
    here = subject.number(*case.fresh())
    rate = _rate(subject, here, flat)
    if rate is None:
        yield Evidence(error=0.0, bound=0.0, signal=0.0, what="all weights are zero")
        return
    for name, factor in {"0": 0.0, "−2w": -2.0, "w/3": 1 / 3}.items():
        moved = [factor * w if n in weights else w for n, w in case.inputs.items()]
        there = subject.number(*moved)
        # w/3 is rounded in the subject's dtype: the density is that of the rounded weights.
        other = torch.cat([w.double().flatten() for w, n in zip(moved, case.inputs, strict=True)
                           if n in weights])  # fmt: skip
        density = _log_density(subject, rate, flat), _log_density(subject, rate, other)
        expected = float((density[1] - density[0]).sum())
        terms = float(sum(part.abs().sum() for part in density))
        bound = 2 * gamma(len(flat) + 16, case.dtype) * (abs(here) + abs(there))
        bound += 2 * gamma(len(flat) + 16, torch.float64) * (terms + _constant(rate) * len(flat))
        yield Evidence(
            error=abs(here - there - expected),
            bound=bound,
            signal=abs(expected),
            unit="nats",
            what=f"P(w) − P({name}) against log p({name}) − log p(w)",
            expected=f"{expected:.9g}",
            got=f"{here - there:.9g}",
        )


def _constant(rate: float) -> float:
    """The size of a log-density's constant, which cancels: |log 2b| or ½ log 2πσ²."""
    return abs(math.log(rate)) + 2


def _rate(subject: Implementation, value: float, weights: Tensor) -> float | None:
    """1/b of the Laplace density or 1/σ² of the normal one: λ₁ or λ₂."""
    prior = subject.options["prior"]
    if "norm" in subject.options and subject.options["norm"] != _NORMS[prior]:
        raise NotApplicable(f"a {prior} prior has norm {_NORMS[prior]}, and another is declared")
    law = law_of(subject) if "norm" in subject.options else Law(None, None)
    known = law.l1 if prior == "laplace" else law.l2
    total = float(weights.abs().sum() if prior == "laplace" else weights.square().sum() / 2)
    measured = value / total if total else None
    known = measured if known is None or measured is None else as_stored(known, measured)
    if known is not None and known <= 0 and "norm" in subject.options:
        raise NotApplicable(f"with a strength of {known:g} it is minus no log-density")
    return known if known and known > 0 else None


def _log_density(subject: Implementation, rate: float, weights: Tensor) -> Tensor:
    at = torch.zeros((), dtype=torch.float64, device=weights.device)
    if subject.options["prior"] == "laplace":
        density = torch.distributions.Laplace(at, at + 1 / rate).log_prob(weights)
    else:
        density = torch.distributions.Normal(at, at + rate**-0.5).log_prob(weights)
    return torch.as_tensor(density)
