"""A focal loss of one's own, and a twin with one mistake: what `focal_loss.toml` checks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FocalLoss(nn.Module):
    """(1 − p)^γ · −log p of the target's class, averaged over the targets that count.

    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 4. prediction: logits
    [b, k, …]; target: labels [b, …], `ignore_index` where there is none.
    """

    def __init__(
        self, gamma: float = 2.0, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.gamma, self.ignore_index, self.reduction = gamma, ignore_index, reduction

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        cost = F.cross_entropy(prediction, target, ignore_index=self.ignore_index, reduction="none")
        focal = self.focus(torch.exp(-cost)) * cost
        if self.reduction == "none":
            return focal
        if self.reduction == "sum":
            return focal.sum()
        return focal.sum() / (target != self.ignore_index).sum().clamp_min(1)

    def focus(self, probability: Tensor) -> Tensor:
        """How much a sample counts whose class has this probability."""
        return (1 - probability).clamp_min(0) ** self.gamma


class BrokenFocalLoss(FocalLoss):
    """p^γ for (1 − p)^γ: what is learnt already counts most. Training goes on, only worse."""

    def focus(self, probability: Tensor) -> Tensor:
        return probability**self.gamma


class MeanFirstFocalLoss(FocalLoss):
    """The weight of the mean cost for the mean of the weighted costs: no sample is looked at."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        cost = F.cross_entropy(
            prediction, target, ignore_index=self.ignore_index, reduction=self.reduction
        )
        return self.focus(torch.exp(-cost)) * cost
