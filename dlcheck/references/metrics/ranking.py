"""Scores of an order: the area under the ROC curve, and average precision."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.references.metrics.admission import (
    class_scores,
    labels,
    numbers,
    paired,
    probabilities,
)
from dlcheck.references.metrics.streams import RowStream
from dlcheck.registry import reference


def average_ranks(values: Tensor) -> Tensor:
    """Ranks from 1 of values [n] in float64, equal values sharing the mean of theirs.

    A group of c equal values that ends at rank e has the mean e − (c − 1)/2. O(n log n).
    """
    _, group, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    ranks: Tensor = (ends - (counts.double() - 1) / 2)[group]
    return ranks


def area_under_roc(scores: Tensor, positive: Tensor) -> Tensor:
    """P(s₊ > s₋) + ½ P(s₊ = s₋) of scores [n] and booleans [n], by the sum of ranks.

    Raises ValueError where one class alone is there: nothing is ranked against anything.
    """
    many = positive.sum().double()
    few = positive.numel() - many
    if not bool(many) or not bool(few):
        kind = "positive" if bool(many) else "negative"
        raise ValueError(f"every target is {kind}: an area under the ROC curve needs both classes")
    ranks = average_ranks(scores)[positive].sum()
    area: Tensor = (ranks - many * (many + 1) / 2) / (many * few)
    return area


def precision_over_recall(scores: Tensor, positive: Tensor) -> Tensor:
    """Σ (Rᵢ − Rᵢ₋₁) Pᵢ over the distinct scores, highest first; booleans [n] say what is positive.

    Raises ValueError without a positive.
    """
    if not bool(positive.any()):
        raise ValueError("no target is positive: average precision needs at least one")
    _, group, counts = torch.unique(-scores, return_inverse=True, return_counts=True)
    hits = torch.zeros(len(counts), dtype=torch.float64, device=scores.device)
    hits.index_add_(0, group, positive.double())
    found, seen = hits.cumsum(0), counts.double().cumsum(0)
    area: Tensor = (hits / positive.sum() * found / seen).sum()
    return area


@reference(
    kind="prediction_metric",
    formula="P(s₊ > s₋) + ½ P(s₊ = s₋)",
    source="Hanley & McNeil, The meaning and use of the area under a receiver operating "
    "characteristic (ROC) curve, Radiology 143(1), 1982",
    inputs={"prediction": "float n", "target": "label[2] n"},
    traits=["shift_invariant", "scale_invariant", "monotone_invariant", "size_invariant",
            "reverses", "improves_with_each_row", "validates"],
    options={"task": "binary", "range": [0, 1], "better": "higher", "perfect": 1.0,
             "perfect_where": "nonconstant", "uninformed": 0.5, "merge": "merge",
             "forward": "batch", "saves_state": True},
)  # fmt: skip
class AreaUnderROC(RowStream):
    """Of scores [n] and labels [n] of 0 and 1; exact, ties count one half. O(n log n).

    In float64; keeps its rows; raises ValueError where one class alone is there.
    """

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        return _binary_rows(prediction, target)

    def score(self, state: Tensor) -> Tensor:
        return area_under_roc(state[0], state[1] > 0)


@reference(
    kind="prediction_metric",
    formula="Σ (Rᵢ − Rᵢ₋₁) Pᵢ",
    source="scikit-learn User Guide, §3.4.4.9, average_precision_score",
    inputs={"prediction": "float n", "target": "label[2] n"},
    traits=["shift_invariant", "scale_invariant", "monotone_invariant", "size_invariant",
            "improves_with_each_row", "validates"],
    options={"task": "binary", "range": [0, 1], "better": "higher", "perfect": 1.0,
             "perfect_where": "has_positives", "merge": "merge", "forward": "batch",
             "saves_state": True},
)  # fmt: skip
class AveragePrecision(RowStream):
    """Of scores [n] and labels [n] of 0 and 1, without interpolation; equal scores are one step.

    In float64; keeps its rows; raises ValueError without a positive.
    """

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        return _binary_rows(prediction, target)

    def score(self, state: Tensor) -> Tensor:
        return precision_over_recall(state[0], state[1] > 0)


@reference(
    kind="prediction_metric",
    formula="1/K Σ over classes of the area under the ROC curve of one against the rest",
    source="Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 27(8), 2006, §10",
    inputs={"prediction": "probability n k", "target": "label[k] n"},
    traits=["size_invariant", "validates"],
    options={"range": [0, 1], "better": "higher", "perfect": 1.0, "average": "macro",
             "perfect_where": "all_classes", "uninformed": 0.5, "sizes": {"k": [2, 17]},
             "merge": "merge", "forward": "batch", "saves_state": True},
)  # fmt: skip
class MulticlassAreaUnderROC(RowStream):
    """Of probabilities [n, k] and labels [n]: the mean over one class against the rest, for each.

    In float64; keeps its rows; raises ValueError where a class has no target or every one.
    """

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        scores = probabilities(class_scores(prediction, target), prediction.dtype)
        wanted = labels(target, scores.shape[-1], "target")
        return torch.cat([scores.mT, wanted[None].double()])

    def score(self, state: Tensor) -> Tensor:
        scores, wanted = state[:-1], state[-1]
        missing = [c for c in range(len(scores)) if not bool((wanted == c).any())]
        if missing:
            raise ValueError(f"no target names class {missing[0]}: it has no ROC curve")
        areas = [area_under_roc(row, wanted == c) for c, row in enumerate(scores)]
        return torch.stack(areas).mean()


def _binary_rows(prediction: Tensor, target: Tensor) -> Tensor:
    """[2, n]: scores, and targets of 0 and 1, in float64."""
    paired(prediction, target)
    scores, wanted = numbers(prediction, "prediction"), labels(target, 2, "target")
    return torch.stack([scores.flatten(), wanted.flatten().double()])
