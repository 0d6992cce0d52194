"""The ways in which people get a loss wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.model import Subject
from dlcheck.mutants import around, on_tensors, through_backward


@around
def turns_its_sign(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """A likelihood where its negative is meant: training climbs."""
    return on_tensors(original(*inputs, **keywords), lambda y: -y)


@around
def has_no_gradient(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """`.detach()` or `.item()` on the way: the value is right, and nothing learns."""
    answer = original(*inputs, **keywords)
    return on_tensors(answer, lambda y: through_backward(y, torch.zeros_like))


@around
def climbs(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """The right value, with a gradient of the wrong sign."""
    answer = original(*inputs, **keywords)
    return on_tensors(answer, lambda y: through_backward(y, torch.neg))


def _vanishes_far_off(prediction: Tensor, target: Tensor) -> Tensor:
    """e² exp(−e²): large errors cost less and less."""
    squares = (prediction - target).square()
    return (squares * torch.exp(-squares)).mean()


def _vanishes_for_wrong_classes(prediction: Tensor, target: Tensor) -> Tensor:
    """−p log p: what is certainly wrong costs nothing."""
    cost = F.cross_entropy(prediction, target, reduction="none")
    return (cost * torch.exp(-cost)).mean()


def _about_the_classes(prediction: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(prediction.softmax(-1), target)


def _log_of_logits(prediction: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(prediction, target)


def _of_the_next_class(prediction: Tensor, target: Tensor) -> Tensor:
    """Labels from 1 taken for labels from 0."""
    return F.cross_entropy(prediction, (target + 1) % prediction.shape[-1])


def _focal_with_the_other_probability(prediction: Tensor, target: Tensor) -> Tensor:
    """(p)^γ for (1 − p)^γ: what is learnt already counts most."""
    log_p = -F.cross_entropy(prediction, target, reduction="none")
    return -(log_p.exp() ** 2 * log_p).mean()


def _of_a_sigmoid_too_many(prediction: Tensor, target: Tensor) -> Tensor:
    """BCE with logits of what went through a sigmoid already."""
    return F.binary_cross_entropy_with_logits(torch.sigmoid(prediction), target)


def _with_a_large_epsilon(prediction: Tensor, target: Tensor) -> Tensor:
    """√(e² + ε) with an ε of a tenth: a perfect prediction costs something."""
    return ((prediction - target).square() + 0.1).sqrt().mean()


def _halves_of_a_divergence(prediction: Tensor, target: Tensor) -> Tensor:
    """Σ p log q without Σ p log p: a cross-entropy that is called a divergence."""
    return -(target * prediction.log_softmax(-1)).sum(-1).mean()


def _divergence_of_logits(prediction: Tensor, target: Tensor) -> Tensor:
    """F.kl_div of what is no log-probability."""
    return F.kl_div(prediction, target, reduction="batchmean")


def _signed_error(prediction: Tensor, target: Tensor) -> Tensor:
    """The absolute value is forgotten."""
    return (prediction - target).mean()


def _capped(prediction: Tensor, target: Tensor) -> Tensor:
    """The gradient of large errors is clipped by bending the loss down."""
    e = (prediction - target).abs()
    return torch.where(e < 1, e.square(), 2 - e).mean()


CLASSES: dict[str, Any] = {"task": "classification", "sizes": {"k": [2, 9]}}
EACH: dict[str, Any] = {"task": "regression"}
YES_NO: dict[str, Any] = {"task": "binary"}
DISTRIBUTIONS: dict[str, Any] = {"task": "distribution", "sizes": {"k": [2, 9]}}


def wrong(target: Any, options: dict[str, Any], *traits: str, **further: Any) -> Subject:
    """A broken loss, declared as a right one would be."""
    return Subject(
        name=target.__name__.lstrip("_"),
        target=target,
        kind="loss",
        options=options,
        traits=frozenset(traits),
        **further,
    )


SOFTMAX_TWICE = wrong(_about_the_classes, CLASSES)
LOG_OF_LOGITS = wrong(_log_of_logits, CLASSES)
NEXT_CLASS = wrong(_of_the_next_class, CLASSES)
OTHER_FOCUS = wrong(_focal_with_the_other_probability, CLASSES)
SIGMOID_TWICE = wrong(_of_a_sigmoid_too_many, YES_NO)
LARGE_EPSILON = wrong(_with_a_large_epsilon, EACH)
NO_ENTROPY = wrong(_halves_of_a_divergence, DISTRIBUTIONS)
OF_LOGITS = wrong(_divergence_of_logits, DISTRIBUTIONS)
SIGNED = wrong(_signed_error, EACH)
CAPPED = wrong(_capped, EACH)
VANISHING = wrong(_vanishes_far_off, EACH)
VANISHING_CLASSES = wrong(_vanishes_for_wrong_classes, CLASSES)
