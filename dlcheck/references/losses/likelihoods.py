"""Negative log-likelihoods of regression, and the divergence from a standard normal."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlcheck.references.losses.reduction import alike, reduced
from dlcheck.registry import reference


class _GaussianNLL(torch.autograd.Function):
    """ℓ = ½ (log s + r²/s), s = max(σ², ε).

    dℓ = r/s dr + ½ (1/s − r²/s²) ds = (r/s) dr + (1 − r²/s)/(2s) ds. ds/dσ² is taken as 1 below ε
    too, as torch has it: a variance that fell there must be able to grow again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(r: Tensor, variance: Tensor, eps: float) -> Tensor:
        s = variance.clamp(min=eps)
        return 0.5 * (s.log() + r * r / s)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        r, variance, ctx.eps = inputs
        ctx.save_for_backward(r, variance)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        r, variance = ctx.saved_tensors
        s = variance.clamp(min=ctx.eps)
        standard = r / s
        return (
            gradients[0] * standard,
            gradients[0] * (1 - r * standard) / (2 * s),
            None,
        )


@reference(
    kind="loss",
    formula="½ (log σ² + (x − y)²/σ²), + ½ log 2π if full",
    source="Nix & Weigend, Estimating the Mean and Variance of the Target Probability "
    "Distribution, ICNN 1994, eq. 3",
    inputs={"prediction": "float b d", "target": "float b d", "variance": "positive b d"},
    traits=["continuous"],
    options={
        "task": "regression",
        "reduction": "reduction",
        "range": ["-inf", "inf"],
        "roles": {"prediction": "prediction", "target": "target", "data": ["variance"]},
    },
)
def gaussian_nll_loss(
    prediction: Tensor,
    target: Tensor,
    variance: Tensor,
    *,
    reduction: str = "mean",
    eps: float = 1e-6,
    full: bool = False,
) -> Tensor:
    """−log N(y; x, σ²) but for ½ log 2π: three tensors of one shape; σ² is raised to ε.

    Convex in the prediction, not in the variance. Raises ValueError for other shapes.
    """
    x, y, s = alike(prediction=prediction, target=target, variance=variance)
    terms: Tensor = _GaussianNLL.apply(x - y, s, eps)
    return reduced(terms + 0.5 * math.log(2 * math.pi) * full, reduction, prediction.dtype)


class _PoissonNLL(torch.autograd.Function):
    """ℓ = e^η − y η: dℓ = (e^η − y) dη − η dy."""

    generate_vmap_rule = True

    @staticmethod
    def forward(eta: Tensor, y: Tensor) -> Tensor:
        return eta.exp() - y * eta

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        eta, y = ctx.saved_tensors
        (v,) = gradients
        return v * (eta.exp() - y), -v * eta


@reference(
    kind="loss",
    formula="e^η − y η, + y log y − y + ½ log 2πy where y > 1 if full",
    source="McCullagh & Nelder, Generalized Linear Models, 1989, §6.2; Stirling's term as in "
    "torch.nn.PoissonNLLLoss",
    traits=["convex", "smooth", "twice_differentiable"],
    options={
        "task": "regression", "reduction": "reduction", "prediction": "log_rate",
        "range": ["-inf", "inf"],
    },
)  # fmt: skip
def poisson_nll_loss(
    prediction: Tensor, target: Tensor, *, reduction: str = "mean", full: bool = False
) -> Tensor:
    """−log Poisson(y; e^η) but for log y!: η the logarithm of the rate, both of one shape.

    full adds Stirling's approximation of log y!. Raises ValueError for two shapes.
    """
    eta, y = alike(prediction=prediction, target=target)
    terms: Tensor = _PoissonNLL.apply(eta, y)
    if full:
        count = y.clamp(min=1)
        stirling = count * count.log() - count + 0.5 * (2 * math.pi * count).log()
        terms = terms + torch.where(y > 1, stirling, 0.0)
    return reduced(terms, reduction, prediction.dtype)


class _GaussianKL(torch.autograd.Function):
    """ℓ = ½ (μ² + σ² − 1 − log σ²), λ = log σ²: dℓ = μ dμ + ½ (e^λ − 1) dλ."""

    generate_vmap_rule = True

    @staticmethod
    def forward(mean: Tensor, log_variance: Tensor) -> Tensor:
        return 0.5 * (mean * mean + (log_variance.expm1() - log_variance))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = ctx.saved_tensors
        (v,) = gradients
        return v * mean, 0.5 * v * log_variance.expm1()


@reference(
    kind="loss",
    formula="−½ Σⱼ (1 + log σⱼ² − μⱼ² − σⱼ²)",
    source="Kingma & Welling, Auto-Encoding Variational Bayes, ICLR 2014, appendix B",
    inputs={"mean": "float b d", "log_variance": "float[-4:4] b d"},
    traits=["nonnegative", "convex", "smooth", "twice_differentiable"],
    options={
        "reduction": {"b": "mean", "d": "sum"},
        "roles": {"prediction": "mean", "data": ["log_variance"]},
        "wrt": ["mean", "log_variance"],
    },
)
def gaussian_kl(mean: Tensor, log_variance: Tensor, *, reduction: str = "mean") -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)): mean and log_variance [b, d], summed over d and reduced over b.

    0 at μ = 0, log σ² = 0. Raises ValueError for two shapes.
    """
    mu, lam = alike(mean=mean, log_variance=log_variance)
    terms: Tensor = _GaussianKL.apply(mu, lam)
    return reduced(terms.sum(-1), reduction, mean.dtype)
