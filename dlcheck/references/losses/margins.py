"""Hinges: losses that are zero once a margin is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.references.losses.reduction import alike, reduced
from dlcheck.references.precision import wide, wide_or_none
from dlcheck.registry import reference


@reference(
    kind="loss",
    formula="max(0, 1 − t x)",
    source="Cortes & Vapnik, Support-Vector Networks, Machine Learning 20, 1995, §3",
    inputs={"prediction": "logit b d", "target": "sign b d"},
    traits=["nonnegative", "convex", "nonsmooth", "continuous", "margin"],
    options={
        "task": "binary", "prediction": "logits", "reduction": "reduction", "margin": "margin",
    },
)  # fmt: skip
def hinge_loss(
    prediction: Tensor, target: Tensor, *, reduction: str = "mean", margin: float = 1.0
) -> Tensor:
    """max(0, m − t x): scores and targets −1 or 1 of one shape; the subgradient at m = t x is 0.

    Raises ValueError for two shapes.
    """
    x, t = alike(prediction=prediction, target=target)
    return reduced((margin - t * x).relu(), reduction, prediction.dtype)


def _lead(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """x_j − x_y of each row, [b, k], and where j = y."""
    if x.ndim != 2 or target.shape != x.shape[:1]:
        raise ValueError(
            f"scores [b, k] and labels [b] are expected, not {list(x.shape)}, {list(target.shape)}"
        )
    index = target.unsqueeze(1)
    own = torch.zeros_like(x, dtype=torch.bool).scatter(1, index, value=True)
    return x - x.gather(1, index), own


@reference(
    kind="loss",
    formula="w_y/k Σ_{j≠y} max(0, m − x_y + x_j)^p",
    source="Weston & Watkins, Support Vector Machines for Multi-Class Pattern Recognition, ESANN "
    "1999, §3; over k as in torch.nn.MultiMarginLoss",
    traits=["nonnegative", "convex", "nonsmooth", "continuous", "shift_invariant", "weighted",
            "margin"],
    options={
        "task": "classification", "prediction": "logits", "reduction": "reduction",
        "class_weight": "weight", "denominator": "rows", "margin": "margin",
        "sizes": {"k": [2, 17]},
    },
)  # fmt: skip
def multi_margin_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    reduction: str = "mean",
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """Every other class may come within m of the label's for nothing: scores [b, k], labels [b].

    p is 1 or 2, weight [k]. Raises ValueError for other shapes.
    """
    x, weight = wide(prediction), wide_or_none(weight)
    lead, own = _lead(x, target)
    costs = (margin + lead).relu().masked_fill(own, 0.0)
    terms = (costs if p == 1 else costs**p).sum(1) / x.shape[1]
    return reduced(terms if weight is None else terms * weight[target], reduction, prediction.dtype)


@reference(
    kind="loss",
    formula="max(0, m + max_{j≠y} x_j − x_y)",
    source="Crammer & Singer, On the Algorithmic Implementation of Multiclass Kernel-Based Vector "
    "Machines, JMLR 2, 2001, eq. 3",
    traits=["nonnegative", "convex", "nonsmooth", "continuous", "shift_invariant", "margin"],
    options={
        "task": "classification", "prediction": "logits", "reduction": "reduction",
        "margin": "margin", "sizes": {"k": [2, 17]},
    },
)  # fmt: skip
def crammer_singer_loss(
    prediction: Tensor, target: Tensor, *, reduction: str = "mean", margin: float = 1.0
) -> Tensor:
    """The hinge of the strongest other class: scores [b, k], labels [b].

    Tied rivals share the subgradient. Raises ValueError for other shapes.
    """
    lead, own = _lead(wide(prediction), target)
    rival = lead.masked_fill(own, -torch.inf).amax(1)
    return reduced((margin + rival).relu(), reduction, prediction.dtype)
