"""Scales that are fitted on train and applied to train and test."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.registry import reference


@reference(
    kind="transform",
    formula="(x − μ)/σ with μ, σ of the columns of train; σ = 1 where it is 0",
    source="Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., 7.10.2",
    traits=["fits_on_train", "standardizes", "row_by_row"],
    options={"ddof": 0, "sizes": {"n": [2, 40]}},
)
def standardized(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both by the mean and the population deviation of train.

    A deviation that is rounding of the mean (at most n u |μ|) counts as 0.
    """
    mean = train.mean(0)
    deviation = (train - mean).square().mean(0).sqrt()
    rounding = len(train) * torch.finfo(train.dtype).eps * mean.abs()
    scale = torch.where(deviation > rounding, deviation, torch.ones_like(deviation))
    return (train - mean) / scale, (test - mean) / scale


@reference(
    kind="transform",
    formula="(x − min)/(max − min) of the columns of train",
    source="Han, Kamber & Pei, Data Mining: Concepts and Techniques, 3rd ed., 3.5.2",
    traits=["fits_on_train", "row_by_row"],
)
class RangeScaler:
    """Columns of train within [0, 1]; a constant column is 0. Test may go beyond."""

    def fit(self, rows: Any) -> RangeScaler:
        rows = torch.as_tensor(rows)
        self.low = rows.amin(0)
        room = rows.amax(0) - self.low
        self.room = torch.where(room > 0, room, torch.ones_like(room))
        return self

    def transform(self, rows: Any) -> Tensor:
        scaled: Tensor = (torch.as_tensor(rows) - self.low) / self.room
        return scaled


@reference(
    kind="transform",
    formula="(x − μ) V Λ^(−½), V Λ Vᵀ the covariance of train",
    source="Kessy, Lewin & Strimmer, Optimal Whitening and Decorrelation, 2018, section 2.2 (PCA)",
    traits=["fits_on_train", "row_by_row"],
    inputs={"train": "float n d", "test": "float m d"},
    options={"sizes": {"n": [8, 40], "d": [1, 4]}},
)
class PrincipalComponents:
    """Rows turned to the principal axes of train and scaled to variance 1.

    Axes along which train does not vary (λ ≤ n u λ_max) are only centred. Each axis points so
    that its largest entry is positive.
    """

    def fit(self, rows: Any) -> PrincipalComponents:
        rows = torch.as_tensor(rows)
        self.mean = rows.mean(0)
        centred = rows - self.mean
        values, axes = torch.linalg.eigh(centred.T @ centred / len(rows))
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        flat = values <= len(rows) * torch.finfo(rows.dtype).eps * values.amax()
        scale = torch.where(flat, torch.ones_like(values), values.clamp_min(0).sqrt())
        self.axes = axes * largest.sign() / scale
        return self

    def transform(self, rows: Any) -> Tensor:
        turned: Tensor = (torch.as_tensor(rows) - self.mean) @ self.axes
        return turned
