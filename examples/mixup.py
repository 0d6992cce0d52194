"""A mixup of one's own, and a twin with one mistake: what `mixup.toml` checks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mixup(nn.Module):
    """x̃ᵢ = λxᵢ + (1 − λ)xⱼ and ỹᵢ = λyᵢ + (1 − λ)yⱼ with λ ~ Beta(α, α), in training.

    Zhang et al., mixup, ICLR 2018, eq. 1, with λ ≥ ½ as in Berthelot et al., MixMatch, NeurIPS
    2019, eq. 9: an image stays mostly itself. images [b, c, h, w], labels [b] → images, targets
    [b, classes].
    """

    def __init__(self, classes: int, alpha: float = 0.75, p: float = 0.8) -> None:
        super().__init__()
        self.classes, self.alpha, self.p = classes, alpha, p

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        targets = F.one_hot(labels, self.classes).to(images.dtype)
        if not self.training or float(torch.rand(())) >= self.p:
            return images, targets
        share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        partner = torch.randperm(len(images), device=images.device)
        own = max(share, 1 - share)
        return mixed(images, partner, own), mixed(targets, partner, self.weight(share))

    def weight(self, share: float) -> float:
        """What a label weighs, given the λ that was drawn."""
        return max(share, 1 - share)


class BrokenMixup(Mixup):
    """The images are mixed with max(λ, 1 − λ), the labels still with λ: wrong in every second
    batch. Training goes on, only worse."""

    def weight(self, share: float) -> float:
        return share


def mixed(rows: Tensor, partner: Tensor, own: float) -> Tensor:
    return own * rows + (1 - own) * rows[partner]
