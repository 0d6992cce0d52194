"""A loss stays finite where predictions are certain."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.loss.broken import (
    CLASSES,
    EACH,
    YES_NO,
    wrong,
)
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.checks.still import Still
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

_MODEST = (6.0, 12.0)  # sizes at which e^x and 1 − e^−x still have digits in float32


def _log_of_a_sigmoid(prediction: Tensor, target: Tensor) -> Tensor:
    p = torch.sigmoid(prediction)
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def _log_of_a_softmax(prediction: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(prediction.softmax(-1).log(), target)


def _log_cosh(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).cosh().log().mean()


def _entropy_of_zero(prediction: Tensor, target: Tensor) -> Tensor:
    """t log p + (1 − t) log(1 − p): 0 · log 0 where the prediction is certain."""
    return -(target * prediction.log() + (1 - target) * (1 - prediction).log()).mean()


def _root_of_the_mean(prediction: Tensor, target: Tensor) -> Tensor:
    """√0 has no slope: once nothing is wrong its gradient is NaN."""
    return (prediction - target).square().mean().sqrt()


def _softplus_by_hand(prediction: Tensor, target: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(-(2 * target - 1) * prediction)).mean()


@check(
    kind="loss",
    forbids={"nondifferentiable"},
    rejects=[
        wrong(_log_of_a_sigmoid, YES_NO),
        wrong(_log_of_a_softmax, CLASSES),
        wrong(_log_cosh, EACH),
        wrong(_root_of_the_mean, EACH),
        wrong(_softplus_by_hand, YES_NO),
        wrong(_entropy_of_zero, {"task": "binary", "prediction": "probabilities"}),
    ],
    accepts=[
        Subject(
            name="torch_soft_margin",
            target="torch.nn:MultiLabelSoftMarginLoss",
            kind="loss",
            options={"task": "binary"},
        ),
        Subject(
            name="torch_bce",
            target=F.binary_cross_entropy,
            kind="loss",
            options={"task": "binary", "prediction": "probabilities"},
        ),
        Subject(name="torch_l1", target=F.l1_loss, kind="loss", options=EACH),
    ],
    dtypes=["float64", "float32"],
    once=True,
)
def is_finite_at_saturation(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Predictions that are certain, right or wrong, have a finite loss and finite gradients.

    Of classes: logits just past where e^x overflows or vanishes (±97 in float32, ±781 in
    float64); exact 0s and 1s of probabilities where they are right; where values are predicted,
    errors of that size, and none at all, as of what is learnt by heart. A loss that grows like an
    exponential by itself, more than eightfold from 6 to 12, may overflow.
    """
    meaning = Meaning(subject, case)
    path = meaning.path()
    large = 1.1 * math.log(torch.finfo(case.dtype).max)
    judged = False
    for name, at in _certain(meaning, large):
        values = [abs(meaning.on(at(size / large), path.target)) for size in _MODEST]
        if values[1] > 8 * max(values[0], 1.0):
            continue
        judged = True
        yield from _finite(meaning, at(1.0), path.target, name)
    if not judged:
        raise NotApplicable("the loss overflows by itself")


def _certain(meaning: Meaning, large: float) -> Iterator[tuple[str, Callable[[float], Tensor]]]:
    path = meaning.path()
    start, end = path.at(0.0), path.at(1.0)
    if meaning.form == "probabilities":
        middle = path.at(0.5)
        yield "a certain, right prediction", lambda s: start if s == 1 else middle
        return
    if meaning.form == "log_rate":
        yield "a rate far off", lambda s: start + s * 0.5 * large
        return
    if meaning.form in ("logits", "log_probabilities") and not path.is_exact:
        target = path.target
        other = meaning.other_target(target)
        yield "a certain, right prediction", lambda s: meaning.toward(target, s * large)
        yield "a certain, wrong prediction", lambda s: meaning.toward(other, s * large)
        return
    if path.far > 1:
        if path.is_exact and meaning.optimum == 0:
            yield "a perfect prediction", lambda s: start if s == 1 else end
        step = (end - start) / (end - start).abs().amax().clamp_min(1e-30)
        yield "a prediction far off", lambda s: start + s * large * step


def _finite(meaning: Meaning, prediction: Tensor, target: Tensor, name: str) -> Iterator[Evidence]:
    leaf = prediction.to(meaning.inputs[meaning.prediction]).detach().requires_grad_()
    inputs = {**meaning.inputs, meaning.prediction: leaf}
    inputs[meaning.target] = target.to(meaning.inputs[meaning.target])
    call = Still(meaning.subject, meaning.case, differentiable=True)
    answer = call(*inputs.values())[0]
    lost = int((~torch.isfinite(answer)).sum())
    yield _lost(f"elements of the loss that are not finite at {name}", lost, answer)
    if answer.requires_grad and not lost:
        (slope,) = gradients([answer], [leaf], [torch.ones_like(answer)])
        if slope is not None:
            lost = int((~torch.isfinite(slope)).sum())
            yield _lost(f"elements of the gradient that are not finite at {name}", lost, slope)


def _lost(what: str, count: int, values: Tensor) -> Evidence:
    return Evidence(
        error=float(count),
        bound=0.0,
        signal=float(max(values.numel(), 1)),
        unit="elements",
        what=what,
        cause="a logarithm or root of 0, or an exponential that overflows: compute with "
        "log_softmax, logsigmoid or softplus, or add an ε below the logarithm or root"
        if count
        else "",
    )
