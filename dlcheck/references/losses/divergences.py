"""Divergences between distributions over k outcomes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.references.losses.reduction import alike, reduced
from dlcheck.registry import reference


class _KL(torch.autograd.Function):
    """ℓ = q log q − q y, y = log p, 0 where q = 0: dℓ = −q dy + (log q + 1 − y) dq."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, q: Tensor) -> Tensor:
        return torch.where(q == 0, 0.0, q * (q.log() - y))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        y, q = ctx.saved_tensors
        (v,) = gradients
        if not ctx.needs_input_grad[1]:
            return -v * q, None
        some = torch.where(q > 0, q, 1.0)
        return -v * q, v * torch.where(q > 0, some.log() + 1 - y, 0.0)


@reference(
    kind="loss",
    formula="Σ_c q_c (log q_c − log p_c)",
    source="Kullback & Leibler, On Information and Sufficiency, Ann. Math. Statist. 22(1), 1951, "
    "eq. 2.4",
    inputs={"prediction": "log_probability b k", "target": "probability b k"},
    traits=["nonnegative", "smooth", "twice_differentiable"],
    options={
        "task": "distribution", "prediction": "log_probabilities", "target": "probabilities",
        "reduction": "reduction",
    },
)  # fmt: skip
def kl_divergence(prediction: Tensor, target: Tensor, *, reduction: str = "batchmean") -> Tensor:
    """KL(q ‖ p), q the target: log p and q [b, k, …] of one shape.

    "none" gives the terms of the sum; "mean" divides by all elements, as torch has it, which is no
    divergence. Where q = 0 a term is 0 and sends no gradient. Raises ValueError for two shapes.
    """
    y, q = alike(prediction=prediction, target=target)
    return reduced(_KL.apply(y, q), reduction, prediction.dtype)


class _JensenShannon(torch.autograd.Function):
    """ℓ = ½ p log(p/m) + ½ q log(q/m), m = ½ (p + q), and with δ = (p − q)/(p + q)

    p = m (1 + δ), q = m (1 − δ), so ℓ = ½ m ((1 + δ) log(1 + δ) + (1 − δ) log(1 − δ))
                                     = ½ m (2 δ artanh δ + log(1 − δ²)) = ½ m (δ² + O(δ⁴)),
    the last form without cancellation near δ = 0. The terms in dm cancel: dℓ = ½ log(p/m) dp +
    ½ log(q/m) dq = ½ log(1 + δ) dp + ½ log(1 − δ) dq.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(p: Tensor, q: Tensor) -> Tensor:
        delta = _contrast(p, q)
        inner = delta.clamp(-0.5, 0.5)
        near = 2 * inner * inner.atanh() + (-inner * inner).log1p()
        far = torch.special.xlog1py(1 + delta, delta) + torch.special.xlog1py(1 - delta, -delta)
        return 0.25 * (p + q) * torch.where(delta.abs() < 0.5, near, far)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        p, q = ctx.saved_tensors
        (v,) = gradients
        delta = _contrast(p, q)
        to_p = torch.where(p > 0, torch.where(p > 0, delta, 0.0).log1p(), 0.0)
        to_q = torch.where(q > 0, torch.where(q > 0, -delta, 0.0).log1p(), 0.0)
        return 0.5 * v * to_p, 0.5 * v * to_q


def _contrast(p: Tensor, q: Tensor) -> Tensor:
    """(p − q)/(p + q), 0 where both are 0."""
    total = p + q
    return (p - q) / torch.where(total == 0, 1.0, total)


@reference(
    kind="loss",
    formula="½ KL(p ‖ m) + ½ KL(q ‖ m);  m = ½ (p + q)",
    source="Lin, Divergence Measures Based on the Shannon Entropy, IEEE Trans. Inf. Theory 37(1), "
    "1991, eq. 3.6 and 4.1",
    inputs={"prediction": "probability b k", "target": "probability b k"},
    traits=["nonnegative", "convex", "symmetric"],
    options={
        "task": "distribution", "prediction": "probabilities", "target": "probabilities",
        "reduction": "reduction", "range": [0.0, 0.6931471805599454],
    },
)  # fmt: skip
def jensen_shannon_divergence(
    prediction: Tensor, target: Tensor, *, reduction: str = "mean"
) -> Tensor:
    """The mean divergence of p and q from their middle, at most log 2: probabilities [b, k].

    One term per row. Where p = 0 the gradient is taken as 0 instead of −∞. Raises ValueError for
    two shapes.
    """
    p, q = alike(prediction=prediction, target=target)
    terms: Tensor = _JensenShannon.apply(p, q)
    return reduced(terms.sum(-1), reduction, prediction.dtype)
