"""Losses of yes or no, and focal losses, which turn down what is already right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.references.activations.rectifiers import softplus
from dlcheck.references.activations.sigmoids import sigmoid
from dlcheck.references.activations.softmax import log_softmax
from dlcheck.references.losses.cross_entropy import targets_of
from dlcheck.references.losses.reduction import alike, reduced
from dlcheck.references.precision import wide, wide_or_none
from dlcheck.registry import reference

INFINITE = float("inf")


def _log_one_plus_exp(x: Tensor) -> Tensor:
    return softplus(x, threshold=INFINITE)


class _LogisticLoss(torch.autograd.Function):
    """ℓ = w t log(1 + e^{−x}) + (1 − t) log(1 + e^{x}): a sum of what is positive, no cancellation.

    d log(1 + e^{x})/dx = σ(x), so dℓ/dx = (1 − t) σ(x) − w t σ(−x).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, t: Tensor, w: Tensor) -> Tensor:
        return w * t * _log_one_plus_exp(-x) + (1 - t) * _log_one_plus_exp(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, t, w = ctx.saved_tensors
        (v,), (_, to_t, to_w) = gradients, ctx.needs_input_grad
        positive = _log_one_plus_exp(-x)
        return (
            v * ((1 - t) * sigmoid(x) - w * t * sigmoid(-x)),
            v * (w * positive - _log_one_plus_exp(x)) if to_t else None,
            v * t * positive if to_w else None,
        )


@reference(
    kind="loss",
    formula="−w t log σ(x) − (1 − t) log σ(−x)",
    source="Cox, The Regression Analysis of Binary Sequences, JRSS B 20(2), 1958, §2",
    traits=["nonnegative", "convex", "smooth", "twice_differentiable"],
    options={"task": "binary", "prediction": "logits", "reduction": "reduction"},
)
def binary_cross_entropy_with_logits(
    prediction: Tensor, target: Tensor, *, reduction: str = "mean", pos_weight: Tensor | None = None
) -> Tensor:
    """−log Bernoulli(t; σ(x)): logits and targets in [0, 1] of one shape.

    pos_weight w broadcasts against them, as [d] against [b, d]. Raises ValueError for two shapes.
    """
    x, t = alike(prediction=prediction, target=target)
    weight = wide_or_none(pos_weight)
    w = torch.ones_like(x) if weight is None else weight.to(x.dtype).expand_as(x)
    return reduced(_LogisticLoss.apply(x, t, w), reduction, prediction.dtype)


_LEAST_LOG = -100.0
_LEAST = 1e-12  # what a probability counts as in the denominator of the gradient, as in torch


class _LogLoss(torch.autograd.Function):
    """ℓ = −t log p − (1 − t) log(1 − p).

    dℓ = ((1 − t)/(1 − p) − t/p) dp + (log(1 − p) − log p) dt.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(p: Tensor, t: Tensor) -> Tensor:
        return -t * p.log().clamp(min=_LEAST_LOG) - (1 - t) * _log_other(p)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        p, t = ctx.saved_tensors
        (v,) = gradients
        slope = (1 - t) / (1 - p).clamp(min=_LEAST) - t / p.clamp(min=_LEAST)
        if not ctx.needs_input_grad[1]:
            return v * slope, None
        return v * slope, v * (_log_other(p) - p.log().clamp(min=_LEAST_LOG))


def _log_other(p: Tensor) -> Tensor:
    """log(1 − p), at least −100."""
    return (-p).log1p().clamp(min=_LEAST_LOG)


@reference(
    kind="loss",
    formula="−t log p − (1 − t) log(1 − p)",
    source="Good, Rational Decisions, JRSS B 14(1), 1952, §7; the floor of the logarithm as in "
    "torch.nn.BCELoss",
    traits=["nonnegative", "convex"],
    options={"task": "binary", "prediction": "probabilities", "reduction": "reduction"},
)
def binary_cross_entropy(prediction: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """−log Bernoulli(t; p): probabilities and targets in [0, 1] of one shape; 0 log 0 = 0.

    A logarithm is at least −100, so p = 0 where t = 1 costs 100, not ∞; its gradient divides by at
    least 10⁻¹². At p = t = 0 the gradient is 1, the derivative; torch gives 0 there. Raises
    ValueError for two shapes.
    """
    p, t = alike(prediction=prediction, target=target)
    return reduced(_LogLoss.apply(p, t), reduction, prediction.dtype)


class _Focused(torch.autograd.Function):
    """ψ(z) = −(1 − e^z)^γ z, z = log p ≤ 0, u = 1 − p.

    ψ′ = γ u^{γ−1} p z − u^γ = −u^γ (1 − γ p z/u), where z/u → −1 as u → 0: no power of u below γ
    is left, so that the slope is finite at p = 1 for every γ ≥ 0.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, gamma: float) -> Tensor:
        return -((-z.expm1()) ** gamma) * z

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, ctx.gamma = inputs
        ctx.save_for_backward(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        u = -z.expm1()
        # p z is 0, not 0·∞, where p = 0
        ratio = torch.where(u == 0, -1.0, z.clamp(min=-1e4) / torch.where(u == 0, 1.0, u))
        return -gradients[0] * u**ctx.gamma * (1 - ctx.gamma * z.exp() * ratio), None


@reference(
    kind="loss",
    formula="−α t (1 − p)^γ log p − (1 − α)(1 − t) p^γ log(1 − p);  p = σ(x)",
    source="Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 5",
    inputs={"prediction": "logit b d", "target": "onehot b d"},
    traits=["nonnegative", "continuous"],
    options={"task": "binary", "prediction": "logits", "reduction": "reduction"},
)
def binary_focal_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    reduction: str = "mean",
    gamma: float = 2.0,
    alpha: float | None = 0.25,
) -> Tensor:
    """−α_t (1 − p_t)^γ log p_t: logits and targets 0 or 1 of one shape, γ ≥ 0, α None for 1.

    Linear in t: for t between 0 and 1 the expectation over labels, where some libraries raise an
    expected p_t to the power. Raises ValueError for two shapes.
    """
    x, t = alike(prediction=prediction, target=target)
    yes: Tensor = _Focused.apply(-_log_one_plus_exp(-x), gamma)
    no: Tensor = _Focused.apply(-_log_one_plus_exp(x), gamma)
    of_yes, of_no = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return reduced(of_yes * t * yes + of_no * (1 - t) * no, reduction, prediction.dtype)


@reference(
    kind="loss",
    formula="−α_y (1 − p_y)^γ log p_y;  p = softmax(x)",
    source="Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 4 and 5",
    traits=["nonnegative", "shift_invariant", "continuous", "masked", "weighted"],
    options={
        "task": "classification", "prediction": "logits", "reduction": "reduction",
        "ignore_index": "ignore_index", "class_weight": "alpha", "denominator": "valid",
    },
)  # fmt: skip
def focal_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    reduction: str = "mean",
    gamma: float = 2.0,
    alpha: Tensor | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """The cross-entropy of the target times (1 − p_y)^γ: logits [b, k, …], labels [b, …], α [k].

    The mean is over the targets that are not ignored, whatever their α, and 0 if there is none.
    Raises RuntimeError for a label outside 0 … k − 1.
    """
    x, valid = wide(prediction), target != ignore_index
    hot, _ = targets_of(target, x, 1, None, ignore_index)
    z = torch.where(hot > 0, log_softmax(x, 1), 0.0).sum(1)
    terms: Tensor = _Focused.apply(z, gamma)
    if alpha is not None:
        terms = terms * wide(alpha)[torch.where(valid, target, 0)]
    terms = torch.where(valid, terms, 0.0)
    if reduction == "mean":
        return (terms.sum() / valid.sum().clamp(min=1)).to(prediction.dtype)
    return reduced(terms, reduction, prediction.dtype)
