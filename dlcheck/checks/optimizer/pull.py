"""What holds of every weight decay, whichever way it goes; and of every corrected average."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.optimizer import broken_decay, broken_steps
from dlcheck.checks.optimizer.broken import Scaled, wrong
from dlcheck.checks.optimizer.parts import resolution, room
from dlcheck.checks.optimizer.state import ACCEPTED
from dlcheck.checks.optimizer.trials import (
    STEPS,
    Run,
    accepts,
    closest,
    farthest,
    gradients_at,
    parameters_of,
    started,
    warm_up,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_DECAY = 0.1


@check(
    kind="optimizer",
    forbids={"stochastic", "needs_closure"},
    rejects=[
        wrong(broken_decay.PushesAway),
        wrong(broken_decay.TakesOffAConstant),
        wrong(broken_decay.IgnoresItsDecay),
        wrong(broken_decay.DecaysByTheSize),
        wrong(broken_decay.GrowsByItsDecay),
    ],
    accepts=ACCEPTED,
    dtypes=["float64"],
    once=True,
)
def weight_decay_pulls_to_zero(subject: Implementation, case: Case) -> Evidence:
    """With weight_decay = 0.1 no weight ends farther from 0 than without, and some end nearer.

    The first step that moves, on gradients of 0, from weights of size 1/2 to 3/2, which no step
    size crosses: each weight by itself, whether the decay is coupled, decoupled or goes through
    moments; Σ w·Δw where a step is made of the whole tensor (per_tensor), as Shampoo's is. Where
    nothing decays beside gradients of 0 (a trust ratio is guarded there) on given gradients, and
    then Σ w·Δw too, as a trust ratio turns with the weight. The bound is rounding.
    Source: a decay is the gradient step of ½λ‖w‖² (Hanson & Pratt, NeurIPS 1988).
    """
    if not accepts(subject, "weight_decay"):
        raise NotApplicable("takes no argument weight_decay")
    start = [x.sign() * (0.5 + x.abs() % 1.0) + 0.5 * (x == 0).to(x) for x in parameters_of(case)]
    steps = 1 + warm_up(subject, case)
    runs = [_decayed(subject, case, start, steps, decay, 0.0) for decay in (_DECAY, 0.0)]
    if farthest(runs[0].values(), runs[1].values()) > 0:
        return _pull(case, start, runs, steps, each="per_tensor" not in subject.traits)
    runs = [_decayed(subject, case, start, steps, decay, 1.0) for decay in (_DECAY, 0.0)]
    return _pull(case, start, runs, steps, each=False)


def _decayed(
    subject: Implementation, case: Case, start: list[Tensor], steps: int, decay: float, scale: float
) -> Run:
    run = started(subject, case, start, weight_decay=decay)
    for turn in range(steps):
        run.step([scale * g for g in gradients_at(case, run.parameters, turn)])
    return run


def _pull(case: Case, start: list[Tensor], runs: list[Run], steps: int, *, each: bool) -> Evidence:
    """How far the decay took weights away from 0, against how far it took any."""
    away, any_way = 0.0, 0.0
    for w, decayed, plain in zip(start, runs[0].values(), runs[1].values(), strict=True):
        outward = (w.sign() * (decayed - plain)).double()
        any_way = max(any_way, float(outward.abs().amax()))
        outward = outward if each else (w.double() * (decayed - plain).double()).mean()
        away = max(away, float(outward.amax()))
    bound = 2 * room(case, start, runs[0].values(), steps)
    has_effect = any_way > bound
    return Evidence(
        error=away if has_effect else 1.0,
        bound=bound,
        signal=any_way if has_effect else 1.0,
        what="how far weight_decay takes a weight away from 0"
        if has_effect
        else "optimizers that weight_decay = 0.1 changes nothing of",
        cause=""
        if has_effect and away <= bound
        else "the sign of the decay is turned, or the weight is left out of it"
        if has_effect
        else "weight_decay is taken and not used",
    )


@check(
    kind="optimizer",
    needs={"bias_corrected"},
    rejects=[
        wrong(broken_steps.ForgetsTheCorrection, "bias_corrected"),
        wrong(broken_steps.CorrectsOneStepLate, "bias_corrected"),
        wrong(broken_decay.ForgetsTheSecondCorrection, "bias_corrected"),
        wrong(broken_decay.NeverCounts, "bias_corrected"),
    ],
    accepts=[
        wrong(Scaled, "bias_corrected"),
        Subject(
            name="torch_adam",
            target="torch.optim:Adam",
            kind="optimizer",
            traits=frozenset({"bias_corrected"}),
        ),
        Subject(
            name="torch_adamax",
            target="torch.optim:Adamax",
            kind="optimizer",
            traits=frozenset({"bias_corrected"}),
        ),
    ],
    dtypes=["float64", "float32"],
    once=True,
)
def one_gradient_gives_equal_steps(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """With the same gradient in every step, every step is as long as the first.

    Corrected averages of a constant are that constant from the first step on: m̂ = g, v̂ = g².
    Eight steps without decay; the elements of g lie between 500 and 1500, beside which an ε is
    small: the bound is 2ε, and the rounding of θ. Source: Kingma & Ba, Adam, ICLR 2015, §3.
    """
    yield closest(lambda: _steady(subject, case))


def _steady(subject: Implementation, case: Case) -> Evidence:
    off: dict[str, Any] = {"weight_decay": 0.0} if accepts(subject, "weight_decay") else {}
    run = started(subject, case, **off)
    gradients = [
        torch.where(g < 0, -1.0, 1.0).to(g) * (500 + 1000 * (g.abs() % 1.0))
        for g in gradients_at(case, run.parameters, 0)
    ]
    places = [run.values()]
    for _ in range(STEPS):
        run.step(gradients)
        places.append(run.values())
    moves = [
        [b - a for a, b in zip(before, after, strict=True)]
        for before, after in itertools.pairwise(places)
    ]
    eps = subject.value_of("eps") if accepts(subject, "eps") else 0.0
    first = max(float(x.abs().amax()) for x in moves[0])
    apart = [farthest(move, moves[0]) for move in moves]
    turn = max(range(len(apart)), key=apart.__getitem__)
    bound = room(case, places[0], run.values(), 2)
    bound += 2 * (float(eps) if isinstance(eps, (int, float)) else 0.0) * first
    return Evidence(
        error=apart[turn],
        bound=bound,
        signal=first,
        resolution=resolution(subject),
        what=f"step {turn + 1} against the first, with one gradient in all",
        cause="an average is not corrected for its start, or counts its steps wrongly"
        if not apart[turn] <= bound
        else "",
    )
