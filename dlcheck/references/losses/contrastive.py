"""Losses that tell each row's partner from all others of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.references.losses.cross_entropy import cross_entropy
from dlcheck.references.losses.distances import distance
from dlcheck.references.losses.reduction import alike, reduced
from dlcheck.registry import reference

_LEAST = 1e-12  # lengths count as at least this, as in torch.nn.functional.normalize


def _directions(x: Tensor) -> Tensor:
    lengths = distance(x, torch.zeros_like(x)).clamp(min=_LEAST)
    return x / lengths.unsqueeze(-1)


@reference(
    kind="loss",
    formula="−log e^{cos(xᵢ, yᵢ)/τ} / Σⱼ e^{cos(xᵢ, yⱼ)/τ}",
    source="van den Oord, Li & Vinyals, Representation Learning with Contrastive Predictive "
    "Coding, 2018, eq. 4, of cosines over τ",
    inputs={"first": "float b d", "second": "float b d"},
    args={"temperature": 0.5},
    traits=["nonnegative", "smooth", "twice_differentiable", "batch_coupled", "scale_invariant"],
    options={
        "task": "contrastive", "reduction": "reduction", "wrt": ["first", "second"],
        "sizes": {"b": [2, 9], "d": [2, 9]},
    },
)  # fmt: skip
def info_nce_loss(
    first: Tensor, second: Tensor, *, reduction: str = "mean", temperature: float = 0.1
) -> Tensor:
    """The cross-entropy of picking yᵢ for xᵢ among all rows of y: two views [b, d], τ > 0.

    One way only: the rows of x ask. Raises ValueError for two shapes.
    """
    x, y = alike(first=first, second=second)
    logits = _directions(x) @ _directions(y).mT / temperature
    rows = torch.arange(len(x), device=x.device)
    return reduced(cross_entropy(logits, rows, reduction="none"), reduction, first.dtype)


@reference(
    kind="loss",
    formula="−log e^{cos(zᵢ, zⱼ)/τ} / Σ_{l≠i} e^{cos(zᵢ, z_l)/τ} over all 2b rows of both views",
    source="Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, "
    "ICML 2020, eq. 1",
    inputs={"first": "float b d", "second": "float b d"},
    args={"temperature": 0.5},
    traits=[
        "nonnegative", "smooth", "twice_differentiable", "batch_coupled", "symmetric",
        "scale_invariant",
    ],
    options={
        "task": "contrastive", "reduction": "reduction", "wrt": ["first", "second"],
        "sizes": {"b": [2, 9], "d": [2, 9]},
    },
)  # fmt: skip
def nt_xent_loss(
    first: Tensor, second: Tensor, *, reduction: str = "mean", temperature: float = 0.5
) -> Tensor:
    """SimCLR's loss: each of the 2b rows picks its other view among the 2b − 1 others.

    Two views [b, d], τ > 0; "none" gives [2b], the rows of the first view first. Raises ValueError
    for two shapes.
    """
    x, y = alike(first=first, second=second)
    z = _directions(torch.cat([x, y]))
    self_pairs = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.mT / temperature).masked_fill(self_pairs, -torch.inf)
    partners = torch.arange(len(z), device=z.device).roll(len(x))
    return reduced(cross_entropy(logits, partners, reduction="none"), reduction, first.dtype)
