"""Mixtures of two images of a batch, with their labels in the same proportion."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.registry import reference


def _share(alpha: float) -> float:
    """λ ~ Beta(α, α)."""
    if alpha <= 0:
        raise ValueError(f"the parameter of a beta distribution is {alpha}, but it is above 0")
    a = torch.tensor(alpha, dtype=torch.float64)
    return float(torch.distributions.Beta(a, a).sample())


def _partners(images: Tensor) -> Tensor:
    """A permutation of the batch: an image may be its own partner."""
    return torch.randperm(len(images), device=images.device)


@reference(
    kind="augmentation",
    formula="x̃ᵢ = λxᵢ + (1 − λ)xⱼ,  ỹᵢ = λyᵢ + (1 − λ)yⱼ,  λ ~ Beta(α, α)",
    source="Zhang et al., mixup, ICLR 2018, equation 1 and figure 1",
    inputs={"images": "image b c h w", "labels": "label[k] b"},
    args={"classes": {"dim": "k"}, "alpha": 1.0},
    traits=["stochastic_in_eval", "may_leave_unchanged"],
    options={"labels": "mixed", "label_format": "onehot", "unit": "batch"},
)
def mixup(
    images: Tensor, labels: Tensor, *, classes: int, alpha: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Each image is mixed with another one of the batch, and its label likewise.

    images [b, …] floating, labels [b] of integers below `classes` → [b, …], [b, classes].
    """
    share, partner = _share(alpha), _partners(images)
    targets = F.one_hot(labels, classes).to(images.dtype)
    mixed = share * images + (1 - share) * images[partner]
    return mixed, share * targets + (1 - share) * targets[partner]


@reference(
    kind="augmentation",
    formula="x̃ᵢ = λxᵢ + (1 − λ)xⱼ;  the loss is λ L(·, yᵢ) + (1 − λ) L(·, yⱼ)",
    source="Zhang et al., mixup, ICLR 2018, §2; the authors' code, mixup-cifar10",
    inputs={"images": "image b c h w", "labels": "label[k] b"},
    args={"alpha": 0.4},
    traits=["stochastic_in_eval", "may_leave_unchanged"],
    options={"labels": "mixed", "label_format": "pair", "unit": "batch"},
)
def mixup_pairs(
    images: Tensor, labels: Tensor, *, alpha: float = 0.4
) -> tuple[Tensor, tuple[Tensor, Tensor, float]]:
    """As `mixup`, with the labels as (yᵢ, yⱼ, λ), for a loss that takes classes only."""
    share, partner = _share(alpha), _partners(images)
    mixed = share * images + (1 - share) * images[partner]
    return mixed, (labels, labels[partner], share)


@reference(
    kind="augmentation",
    formula="x̃ᵢ = M ⊙ xᵢ + (1 − M) ⊙ xⱼ, M = 0 in a rectangle of sides h√(1 − λ), w√(1 − λ) "
    "centred anywhere and clipped;  ỹᵢ = λ̂yᵢ + (1 − λ̂)yⱼ, λ̂ the mean of M",
    source="Yun et al., CutMix, ICCV 2019, §3.1 and §A; λ̂ after clipping as in the authors' code",
    inputs={"images": "image b c h w", "labels": "label[k] b"},
    args={"classes": {"dim": "k"}, "alpha": 1.0, "p": 0.5},
    traits=["stochastic_in_eval", "may_leave_unchanged"],
    options={"labels": "mixed", "label_format": "onehot", "unit": "batch", "probability": "p"},
)
def cutmix(
    images: Tensor, labels: Tensor, *, classes: int, alpha: float = 1.0, p: float = 0.5
) -> tuple[Tensor, Tensor]:
    """With probability p a rectangle of each image is that of another one of the batch.

    images [b, c, h, w] of any type, labels [b] of integers below `classes` → the same images and
    [b, classes] in the default float type. A label weighs what its image covers.
    """
    targets = F.one_hot(labels, classes).to(torch.get_default_dtype())
    if float(torch.rand(())) >= p:
        return images, targets
    height, width = images.shape[-2:]
    side, partner = math.sqrt(1 - _share(alpha)), _partners(images)
    rows, columns = _window(height, side), _window(width, side)
    mixed = images.clone()
    mixed[..., rows, columns] = images[partner][..., rows, columns]
    covered = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return mixed, (1 - covered) * targets + covered * targets[partner]


def _window(length: int, share: float) -> slice:
    """A window of share·length pixels about any pixel, clipped at the ends."""
    size, centre = int(length * share), int(torch.randint(length, ()))
    return slice(max(centre - size // 2, 0), min(centre + size // 2, length))
