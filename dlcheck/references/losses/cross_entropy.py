"""Cross-entropy of classes, given as labels or as probabilities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.references.activations.softmax import log_softmax, softmax
from dlcheck.references.losses.reduction import reduced, weighted_mean
from dlcheck.references.precision import wide, wide_or_none
from dlcheck.registry import reference


class _CrossEntropy(torch.autograd.Function):
    """ℓ = −Σ_c q_c log p_c, p = softmax(x), q ≥ 0 of any sum.

    d log p_c = dx_c − Σⱼ pⱼ dxⱼ, so dℓ = (p Σ_c q_c − q)·dx − log p·dq. A class of logit −∞ with
    q = 0 costs 0, the limit.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, q: Tensor, axis: int) -> Tensor:
        return -torch.where(q == 0, 0.0, q * log_softmax(x, axis)).sum(axis)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, q, ctx.axis = inputs
        ctx.save_for_backward(x, q)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, q = ctx.saved_tensors
        v = gradients[0].unsqueeze(ctx.axis)
        to_x = v * (softmax(x, ctx.axis) * q.sum(ctx.axis, keepdim=True) - q)
        return to_x, -v * log_softmax(x, ctx.axis) if ctx.needs_input_grad[1] else None, None


def targets_of(
    labels: Tensor, logits: Tensor, axis: int, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """One-hot targets q times the weight of their class, and those weights w, 0 where ignored.

    labels [b, …], logits [b, k, …] of which axis is that of classes; q like logits, w like labels.
    """
    valid = labels != ignore_index
    labels = torch.where(valid, labels, 0)
    weights = torch.ones_like(labels, dtype=logits.dtype) if weight is None else weight[labels]
    weights = torch.where(valid, weights, 0.0)
    q = torch.zeros_like(logits).scatter(axis, labels.unsqueeze(axis), weights.unsqueeze(axis))
    return q, weights


@reference(
    kind="loss",
    formula="−w_y ((1 − ε) log p_y) − ε/k Σ_c w_c log p_c;  p = softmax(x), mean over Σ w_y",
    source="Good, Rational Decisions, JRSS B 14(1), 1952, §7; smoothing ε: Szegedy et al., "
    "Rethinking the Inception Architecture, CVPR 2016, §7; weights as in torch.nn.CrossEntropyLoss",
    traits=[
        "nonnegative", "convex", "smooth", "twice_differentiable", "shift_invariant", "masked",
        "weighted",
    ],
    options={
        "task": "classification", "prediction": "logits", "reduction": "reduction",
        "ignore_index": "ignore_index", "class_weight": "weight", "denominator": "weights",
    },
)  # fmt: skip
def cross_entropy(
    prediction: Tensor,
    target: Tensor,
    *,
    reduction: str = "mean",
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """−log softmax(x)_y: logits [b, k, …] (or [k]), labels [b, …] (or []), class weights [k].

    The mean divides by the weights of the targets that are not ignored. Where there is none it is
    0 with the gradient 0; torch gives NaN. Raises RuntimeError for a label outside 0 … k − 1.
    """
    x, axis = wide(prediction), min(1, prediction.ndim - 1)
    weight = wide_or_none(weight)
    q, weights = targets_of(target, x, axis, weight, ignore_index)
    if label_smoothing > 0:
        even = torch.ones_like(x) if weight is None else _along(weight, x, axis).expand_as(x)
        even = even * (target != ignore_index).unsqueeze(axis)
        q = (1 - label_smoothing) * q + label_smoothing / x.shape[axis] * even
    terms: Tensor = _CrossEntropy.apply(x, q, axis)
    if reduction == "mean":
        return weighted_mean(terms, weights).to(prediction.dtype)
    return reduced(terms, reduction, prediction.dtype)


def _along(weight: Tensor, x: Tensor, axis: int) -> Tensor:
    """weight [k] as [1, k, 1, …], to be multiplied with x."""
    return weight.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


@reference(
    kind="loss",
    formula="−Σ_c q_c log p_c;  p = softmax(x)",
    source="Goodfellow, Bengio & Courville, Deep Learning, 2016, §6.2.2.3",
    inputs={"prediction": "logit b k", "target": "probability b k"},
    traits=["nonnegative", "convex", "smooth", "twice_differentiable", "shift_invariant"],
    options={"task": "classification", "prediction": "logits", "reduction": "reduction"},
)
def soft_cross_entropy(prediction: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """−Σ_c q_c log softmax(x)_c: logits and probabilities [b, k, …]; the mean is over [b, …].

    Least at p = q, where it is the entropy of q. Raises ValueError for two shapes.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {list(prediction.shape)}, target {list(target.shape)}")
    axis = min(1, prediction.ndim - 1)
    terms: Tensor = _CrossEntropy.apply(wide(prediction), wide(target), axis)
    return reduced(terms, reduction, prediction.dtype)
