"""A loss can be learnt from: its gradient shows down, it has no jumps, and it stays finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.loss.broken import (
    CLASSES,
    EACH,
    climbs,
    has_no_gradient,
    wrong,
)
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.checks.still import Still
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence, Subject
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

_HALVINGS = 60
_ARMIJO = 0.25  # of the fall that the gradient predicts


def _counts_mistakes(prediction: Tensor, target: Tensor) -> Tensor:
    """The error rate: flat everywhere."""
    wrong_rows = (prediction.argmax(-1) != target).to(prediction)
    return wrong_rows.mean() + 0 * prediction.sum()


def _of_rounded_predictions(prediction: Tensor, target: Tensor) -> Tensor:
    """Rounded to a grid on the way: no gradient comes back."""
    return ((64 * prediction).round() / 64 - target).square().mean()


@check(
    kind="loss",
    forbids={"nondifferentiable", "surrogate_gradient", "redescending", "stochastic"},
    rejects=[
        has_no_gradient,
        climbs,
        wrong(_counts_mistakes, CLASSES),
        wrong(_of_rounded_predictions, EACH),
    ],
    accepts=[
        Subject(
            name="torch_cross_entropy",
            target=F.cross_entropy,
            kind="loss",
            options={"task": "classification", "sizes": {"k": [2, 9]}},
        ),
        Subject(name="torch_mse", target=F.mse_loss, kind="loss", options={"task": "regression"}),
        Subject(
            name="torch_triplet",
            target="torch.nn:TripletMarginLoss",
            kind="loss",
            traits=frozenset({"margin", "nonsmooth"}),
            options={"task": "triplet", "margin": "margin"},
        ),
    ],
    dtypes=["float64"],
    regimes=["normal", "ignored"],
)
def points_downhill(subject: Implementation, case: Case) -> Evidence:
    """Where something is wrong the gradient is not 0, and a small step against it lowers the loss.

    Of steps h = 2⁰, 2⁻¹, … times L/‖g‖² some one lowers the loss by a quarter of h‖g‖², as the
    gradient predicts to first order. All inputs that may get a gradient move together, those of
    `wrt` where it is declared; at a loss of 0 there is nothing to descend to.
    Source: Armijo, Pacific J. Math. 16(1), 1966.
    """
    names = _learning(subject, case)
    call = Still(subject, case, differentiable=True)
    inputs = dict(zip(case.inputs, case.fresh(names), strict=True))
    answer = call(*inputs.values())[0].sum()
    start = float(answer.detach())
    moving = [inputs[name] for name in names]
    slopes = [g for g in gradients([answer], moving, [torch.ones_like(answer)]) if g is not None]
    steepness = float(sum(g.double().square().sum() for g in slopes))
    stated = [subject.options[n] for n in ("optimum", "perfect") if n in subject.options]
    least = float(stated[0]) if stated else 0.0
    if start == least:
        raise NotApplicable("the loss is least already: nothing to descend to")
    if _is_of_signs(call, case, inputs, names, start):
        raise NotApplicable("it compares directions, of which one number has two")
    if not steepness > 0:
        return _went(start, start, 0.0, "the gradient is 0 though the loss is not least")
    found = gradients([call(*inputs.values())[0].sum()], moving, [torch.ones_like(answer)])
    step = abs(start) / steepness
    best = start
    for _ in range(_HALVINGS):
        moved = dict(inputs)
        for name, g in zip(names, found, strict=True):
            if g is not None:
                moved[name] = (inputs[name] - step * g).detach()
        value = _value_of(call, moved)
        if start - value >= _ARMIJO * step * steepness:
            return _went(start, value, step, "")
        best = min(best, value) if value == value else best
        step /= 2
    return _went(start, best, step, "against its gradient the loss does not fall as it predicts")


def _is_of_signs(
    call: Still, case: Case, inputs: dict[str, Tensor], names: list[str], start: float
) -> bool:
    """Are vectors of one number compared by a cosine, which is ±1, so that nothing has a slope?"""
    if any(inputs[name].shape[-1:] != (1,) for name in names):
        return False
    tripled = {name: 3 * x.detach() if name in names else x for name, x in inputs.items()}
    room = 64 * math.sqrt(len(names) * inputs[names[0]].numel()) * unit_roundoff(case.dtype)
    return abs(_value_of(call, tripled) - start) <= room * abs(start)


def _value_of(call: Still, inputs: dict[str, Tensor]) -> float:
    """The loss there; NaN where the step left its domain."""
    try:
        return float(call(*inputs.values())[0].detach().sum())
    except SubjectError:
        return math.nan


def _learning(subject: Implementation, case: Case) -> list[str]:
    """The inputs that are to learn: `wrt`, else the prediction, or all of a pair or triplet."""
    stated = subject.options.get("wrt")
    if stated is not None:
        return [stated] if isinstance(stated, str) else list(stated)
    if subject.options.get("task") in ("contrastive", "triplet"):
        stopped = subject.options.get("stop_gradient", ())
        return [name for name in case.floating if name not in stopped]
    name = Meaning(subject, case).prediction
    if name not in case.floating:
        raise NotApplicable("the prediction is no real number")
    return [name]


def _went(start: float, end: float, step: float, cause: str) -> Evidence:
    return Evidence(
        error=1.0 if cause else 0.0,
        bound=0.0,
        signal=1.0,
        unit="gradients",
        what="gradients that do not lead down",
        expected=f"less than {start:.6g}",
        got=f"{end:.6g} after a step of {step:.3g}",
        cause=cause,
    )
