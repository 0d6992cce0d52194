"""A divergence of distributions is zero, and level, where they are equal and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.loss.broken import DISTRIBUTIONS, NO_ENTROPY, OF_LOGITS, wrong
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.checks.still import Still
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

_TURNS = (0.05, 0.3, 1.0)


def _total_mass(prediction: Tensor, target: Tensor) -> Tensor:
    """The signed differences cancel: every distribution sums to 1."""
    return (prediction.softmax(-1) - target).sum(-1).square().mean()


def _of_one_class_only(prediction: Tensor, target: Tensor) -> Tensor:
    logs = target.clamp_min(1e-12).log() - prediction.log_softmax(-1)
    return (target * logs)[:, 0].mean()


def _cools_one_side(prediction: Tensor, target: Tensor) -> Tensor:
    """A distillation whose temperature the student alone gets."""
    logs = (prediction / 2).log_softmax(-1)
    return 4 * F.kl_div(logs, target.log_softmax(-1), reduction="batchmean", log_target=True)


def _distillation(prediction: Tensor, target: Tensor) -> Tensor:
    logs, wanted = ((x / 2).log_softmax(-1) for x in (prediction, target))
    return 4 * F.kl_div(logs, wanted, reduction="batchmean", log_target=True)


_TWO_LOGITS: dict[str, Any] = {
    "options": {**DISTRIBUTIONS, "target": "logits"},
    "inputs": {"prediction": "logit b k", "target": "logit b k"},
}


def _reversed_halves(prediction: Tensor, target: Tensor) -> Tensor:
    """Σ q log(p/q): the sign of a reversed divergence."""
    q = prediction.log_softmax(-1)
    return (q.exp() * (target.clamp_min(1e-12).log() - q)).sum(-1).mean()


@check(
    kind="loss",
    options={"task": ["distribution"]},
    rejects=[
        NO_ENTROPY,
        OF_LOGITS,
        wrong(_total_mass, DISTRIBUTIONS),
        wrong(_of_one_class_only, DISTRIBUTIONS),
        wrong(_reversed_halves, DISTRIBUTIONS),
        wrong(_cools_one_side, **_TWO_LOGITS),
    ],
    accepts=[
        wrong(_distillation, **_TWO_LOGITS),
        Subject(
            name="torch_kl",
            target="torch.nn:KLDivLoss",
            kind="loss",
            args={"reduction": "batchmean"},
            options={"task": "distribution", "prediction": "log_probabilities"},
        ),
        Subject(
            name="torch_kl_of_logs",
            target="torch.nn:KLDivLoss",
            kind="loss",
            args={"log_target": True, "reduction": "sum"},
            options={
                "task": "distribution",
                "prediction": "log_probabilities",
                "target": "log_probabilities",
            },
        ),
    ],
    dtypes=["float64"],
    regimes=["normal", "uniform"],
)
def is_zero_only_at_equality(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """At equal distributions the divergence is 0 and its gradient level; elsewhere it is positive.

    The gradient is taken along moves that stay distributions. A mean over the rows rounds by about
    u · Σ|p log p|: the bound is 64 k u. Elsewhere is 0.05, 0.3 and 1 of a random turn away.
    Source: Gibbs' inequality (Cover & Thomas, Elements of Information Theory, 2006, theorem 2.6.3).
    """
    meaning = Meaning(subject, case)
    axis, path = meaning.class_axis, meaning.path()
    classes = meaning.inputs[meaning.prediction].shape[axis]
    if classes < 2:
        raise NotApplicable("one class has one distribution")
    optimum = meaning.optimum
    if optimum is None:
        raise NotApplicable("its least value is not declared")
    here = meaning.on(path.at(0.0), path.target)
    away = [meaning.on(path.at(s), path.target) for s in _TURNS]
    scale = max(away[-1] - here, 1e-3) if away[-1] == away[-1] else 1.0
    size = meaning.inputs[meaning.prediction].numel()
    bound = 64 * size * unit_roundoff(case.dtype)
    yield Evidence(
        error=abs(here - optimum),
        bound=bound,
        signal=scale,
        what="divergence of a distribution from itself",
        expected=f"{optimum:g}",
        got=f"{here:.6g}",
        cause="the entropy of the target is left out, or the prediction is not in the declared form"
        if abs(here - optimum) > bound
        else "",
    )
    least = min(away)
    yield Evidence(
        error=0.0 if least > optimum + bound else math.inf,
        bound=0.0,
        signal=1.0,
        what="divergence of other distributions",
        expected=f"more than {optimum:g}",
        got=", ".join(f"{value:.4g}" for value in away),
    )
    yield _level(meaning, path.at(0.0), path.target, path.at(1.0))


def _level(meaning: Meaning, here: Tensor, target: Tensor, there: Tensor) -> Evidence:
    """The slope along the simplex at equality, beside the largest slope further away."""
    axis = meaning.class_axis

    def slope(at: Tensor) -> float:
        leaf = at.to(meaning.inputs[meaning.prediction]).detach().requires_grad_()
        inputs = {**meaning.inputs, meaning.prediction: leaf}
        inputs[meaning.target] = target.to(inputs[meaning.target])
        call = Still(meaning.subject, meaning.case, differentiable=True)
        answer = call(*inputs.values())[0].sum()
        (found,) = gradients([answer], [leaf], [torch.ones_like(answer)])
        if found is None:
            return math.nan
        g, x = found.double(), leaf.detach().double()
        if meaning.form == "log_probabilities":  # along moves of the logits
            g = g - F.softmax(x, axis) * g.sum(axis, keepdim=True)
        elif meaning.form == "probabilities":
            g = g - g.mean(axis, keepdim=True)
        return float(g.abs().amax())

    at_equality, away = slope(here), slope(there)
    bound = 256 * meaning.inputs[meaning.prediction].shape[axis] * unit_roundoff(meaning.case.dtype)
    if meaning.form == "probabilities":
        bound *= 64  # of p/q, each rounded
    return Evidence(
        error=at_equality,
        bound=bound,
        signal=max(away, 1.0),
        what="slope of the divergence at equality",
        expected="0",
        got=f"{at_equality:.3g}",
    )
