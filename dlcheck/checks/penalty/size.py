"""How hard a penalty pulls on a weight, as it grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from dlcheck.checks.penalty.broken import (
    clips_large_weights,
    saturates,
    squares_twice,
    takes_the_root,
)
from dlcheck.checks.penalty.law import law_of, pull, rounding, size, weights_of
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Figure
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_SIZES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_RATE, _EPS = 0.01, 1e-8  # of the two optimizers; ε is that of torch.optim.Adam


def _alone(subject: Implementation, case: Case, size_of_weight: float) -> float:
    """The pull on one weight of this size while all others are 0."""
    (name, first), *_ = weights_of(subject, case).items()
    weights = {n: torch.zeros_like(w) for n, w in case.inputs.items()}
    weights[name] = torch.zeros_like(first)
    weights[name].view(-1)[0] = size_of_weight
    slopes = dict(zip(weights, pull(subject, [*weights.values()]), strict=True))
    return float(slopes[name].reshape(-1)[0])


def _first_steps(
    pulls: list[float], optimizer: Callable[..., torch.optim.Optimizer]
) -> list[float]:
    """How far an optimizer moves weights that feel only these pulls, in one step of rate 0.01."""
    moved = torch.ones(len(pulls), dtype=torch.float64, requires_grad=True)
    moved.grad = torch.tensor(pulls, dtype=torch.float64)
    optimizer([moved], lr=_RATE).step()
    return [1 - float(w) for w in moved.detach()]


def _under_adam(pulls: list[float], penalty: str) -> Evidence:
    """The counter-example: steps that know no size."""
    steps, plain = _first_steps(pulls, torch.optim.Adam), _first_steps(pulls, torch.optim.SGD)
    least = min(abs(g) for g in pulls)
    return Evidence(
        error=max(abs(abs(step) / _RATE - 1) for step in steps),
        bound=_EPS / least + 8 * unit_roundoff(torch.float64) / _RATE,
        signal=1.0,
        unit="of the rate",
        what=f"Adam's step on weights of sizes 0.01 to 10 under {penalty} against its rate",
        expected="equal",
        got=f"step at 10 over that at 0.01: {steps[-1] / steps[0]:.6g} by Adam, "
        f"{plain[-1] / plain[0]:.6g} by SGD",
        counterexample=True,
    )


@check(
    kind="penalty",
    options={"norm": [1, 2]},
    once=True,
    textbook={
        "id": "R4",
        "says": "L2 feels large weights more than L1",
        "verdict": "true if",
        "condition": "the steps follow the gradient, as SGD's do; Adam moves each weight alike",
    },
    rejects=[takes_the_root, squares_twice, saturates, clips_large_weights],
)
def large_weights_feel_L2_more(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Under L2 a weight ten times as large is pulled ten times as hard; under L1 as hard as any.

    One weight at a time, of sizes 0.01 to 10, the others 0. The pull between the smallest size s
    and size w goes as (w/s)^k with k = 1 for L2 and k = 0 for L1; the error is that of k, with
    the roundings of two pulls over log(w/s) as the bound. SGD's step is its rate times the pull.
    Not so Adam's: its first step is η g/(|g| + ε), the rate η for every weight under either
    penalty, up to ε/|g| and the roundings of a step from 1.
    Source: Goodfellow, Bengio & Courville, Deep Learning, 2016, §7.1.2; Kingma & Ba, Adam, ICLR
    2015, §2.1 (the size of a step).
    """
    law = law_of(subject)  # not applicable where the norm is not squared
    if (law.l1 if subject.options["norm"] == 1 else law.l2) == 0:
        raise NotApplicable("its strength is 0: nothing is pulled")
    expected = float(subject.options["norm"]) - 1
    pulls = [_alone(subject, case, w) for w in _SIZES]
    smallest = pulls[0]
    powers = [
        math.log(abs(g / smallest)) / math.log(w / _SIZES[0]) if g and smallest else math.nan
        for w, g in zip(_SIZES[1:], pulls[1:], strict=True)
    ]
    error = max((abs(k - expected) for k in powers), key=lambda e: (math.isnan(e), e))
    share = 2 * rounding(size(case.tensors), case.dtype)
    yield Evidence(
        error=error,
        bound=share / math.log(_SIZES[1] / _SIZES[0]),
        signal=1.0,
        unit="power of the weight",
        what=f"growth of the pull with the weight under L{subject.options['norm']}",
        expected=f"pull ∝ |w|^{expected:g}",
        got=f"powers {', '.join(f'{k:.4g}' for k in powers)}",
        values={"pull at 10 over pull at 0.01": pulls[-1] / smallest if smallest else math.nan},
        figures=(
            Figure(
                title="Pull of the penalty on one weight",
                x="weight",
                y="gradient",
                series={"pull": [(w, abs(g)) for w, g in zip(_SIZES, pulls, strict=True)]},
                log_x=True,
                log_y=True,
                note="L1 pulls every weight alike; L2 in proportion to its size.",
            ),
        ),
    )
    if min(pulls) > 1e3 * _EPS:
        yield _under_adam(pulls, f"L{subject.options['norm']}")
