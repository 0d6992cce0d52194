"""Losses of distances and angles between vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.references.losses.reduction import alike, reduced
from dlcheck.registry import reference

_TINY = 1e-12  # added to squared lengths, as in torch: a vector of zeros is at a right angle to all


class _Length(torch.autograd.Function):
    """d = (Σᵢ |rᵢ|^p)^{1/p} along the last axis: ∂d/∂rᵢ = rᵢ |rᵢ|^{p−2} / d^{p−1}, 0 at r = 0.

    r is divided by its largest element first, so that no power overflows or vanishes.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(r: Tensor, p: float) -> Tensor:
        largest = r.abs().amax(-1, keepdim=True)
        unit = r / torch.where(largest == 0, 1.0, largest)
        return largest.squeeze(-1) * (unit.abs() ** p).sum(-1) ** (1 / p)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        r, ctx.p = inputs
        ctx.save_for_backward(r, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        r, d = ctx.saved_tensors
        v, d = gradients[0].unsqueeze(-1), d.unsqueeze(-1)
        unit = r / torch.where(d == 0, 1.0, d)
        if ctx.p == 2:
            return v * unit, None
        return v * unit.sign() * unit.abs() ** (ctx.p - 1), None


def distance(first: Tensor, second: Tensor, p: float = 2.0) -> Tensor:
    """‖x − y‖_p of rows [b, d], with the subgradient 0 at x = y; p ≥ 1."""
    d: Tensor = _Length.apply(first - second, p)
    return d


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """x·y/√((x·x + ε)(y·y + ε)) of rows [b, d], ε = 10⁻¹²."""
    squares = ((first * first).sum(-1) + _TINY) * ((second * second).sum(-1) + _TINY)
    return (first * second).sum(-1) / squares.sqrt()


@reference(
    kind="loss",
    formula="1 − cos(x, y) where s = 1, max(0, cos(x, y) − m) where s = −1",
    source="Hadsell, Chopra & LeCun, Dimensionality Reduction by Learning an Invariant Mapping, "
    "CVPR 2006, with cosines, as in torch.nn.CosineEmbeddingLoss",
    inputs={"first": "float b d", "second": "float b d", "similar": "sign b"},
    args={"margin": 0.3},
    traits=["nonnegative", "nonsmooth", "margin", "symmetric"],
    options={
        "task": "contrastive", "similar": 1, "margin": "margin", "reduction": "reduction",
    },
)  # fmt: skip
def cosine_embedding_loss(
    first: Tensor, second: Tensor, similar: Tensor, *, reduction: str = "mean", margin: float = 0.0
) -> Tensor:
    """Angles of pairs that are alike (similar = 1) or not (−1): vectors [b, d], similar [b].

    Raises ValueError for vectors of two shapes.
    """
    cos = cosine(*alike(first=first, second=second))
    terms = torch.where(similar == 1, 1 - cos, (cos - margin).relu())
    return reduced(terms, reduction, first.dtype)


@reference(
    kind="loss",
    formula="½ s d² + ½ (1 − s) max(0, m − d)²;  d = ‖x − y‖₂",
    source="Hadsell, Chopra & LeCun, Dimensionality Reduction by Learning an Invariant Mapping, "
    "CVPR 2006, eq. 4, where Y = 1 − s",
    inputs={"first": "float b d", "second": "float b d", "similar": "int[0:2] b"},
    args={"margin": 5.0},
    traits=["nonnegative", "nonsmooth", "continuous", "margin", "symmetric"],
    options={
        "task": "contrastive", "similar": 1, "margin": "margin", "reduction": "reduction",
    },
)  # fmt: skip
def contrastive_loss(
    first: Tensor, second: Tensor, similar: Tensor, *, reduction: str = "mean", margin: float = 1.0
) -> Tensor:
    """Pairs that are alike attract, others repel up to the margin: vectors [b, d], similar [b].

    similar is 1 for alike and 0 for not; the paper's Y is the other way round. Coinciding vectors
    that are not alike get the gradient 0. Raises ValueError for vectors of two shapes.
    """
    x, y = alike(first=first, second=second)
    attract = 0.5 * (x - y).square().sum(-1)
    repel = 0.5 * (margin - distance(x, y)).relu().square()
    return reduced(torch.where(similar == 1, attract, repel), reduction, first.dtype)


@reference(
    kind="loss",
    formula="max(0, m + ‖a − p‖ − ‖a − n‖)",
    source="Balntas et al., Learning Local Feature Descriptors with Triplets and Shallow "
    "Convolutional Neural Networks, BMVC 2016, eq. 2",
    args={"margin": 0.8},
    traits=["nonnegative", "nonsmooth", "continuous", "margin"],
    options={"task": "triplet", "margin": "margin", "reduction": "reduction"},
)
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    reduction: str = "mean",
    margin: float = 1.0,
    p: float = 2.0,
) -> Tensor:
    """The negative is to be further than the positive, by m: three tensors [b, d].

    Lengths are p-norms without torch's ε of 10⁻⁶, so that the gradient is finite, 0, at equal
    points. Raises ValueError for other shapes.
    """
    a, near, far = alike(anchor=anchor, positive=positive, negative=negative)
    terms = (margin + distance(a, near, p) - distance(a, far, p)).relu()
    return reduced(terms, reduction, anchor.dtype)


@reference(
    kind="loss",
    formula="1 − cos(x, y)",
    source="Salton, Wong & Yang, A Vector Space Model for Automatic Indexing, CACM 18(11), 1975, "
    "§1",
    inputs={"prediction": "float b d", "target": "float b d"},
    traits=["nonnegative", "nonconvex", "symmetric"],
    options={"task": "contrastive", "reduction": "reduction"},
)
def cosine_distance(prediction: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """1 − cos(x, y), from 0 to 2: vectors [b, d], one term per row; lengths do not matter.

    A vector of zeros costs 1. Raises ValueError for two shapes.
    """
    cos = cosine(*alike(prediction=prediction, target=target))
    return reduced(1 - cos, reduction, prediction.dtype)
