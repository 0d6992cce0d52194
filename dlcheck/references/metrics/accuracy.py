"""The share of right predictions."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.references.metrics.admission import class_scores, labels
from dlcheck.references.metrics.streams import Stream
from dlcheck.registry import reference


@reference(
    kind="prediction_metric",
    formula="1/n Σ [ the target is among the k best-scored classes ]",
    source="scikit-learn User Guide, §3.4.4.4, top_k_accuracy_score",
    inputs={"prediction": "logit n k", "target": "label[k] n"},
    traits=["shift_invariant", "scale_invariant", "monotone_invariant", "size_invariant",
            "improves_with_each_row", "validates"],
    options={"range": [0, 1], "better": "higher", "perfect": 1.0, "average": "micro",
             "merge": "merge", "forward": "batch", "saves_state": True},
)  # fmt: skip
class TopKAccuracy(Stream):
    """Scores [..., k] against labels [...]: is the target among the `top` best-scored classes?

    Of equal scores the class of the lower number counts as better, as argmax has it. Positions
    whose target is `ignore_index` do not count. In float64; streams; returns [].
    """

    def __init__(self, top: int = 1, ignore_index: int | None = None) -> None:
        if top < 1:
            raise ValueError(f"top = {top}: at least the best class must be looked at")
        self.top, self.ignore_index = top, ignore_index

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        """[right, counted] in float64."""
        scores = class_scores(prediction, target)
        wanted = labels(target, scores.shape[-1], "target", self.ignore_index)
        counts = torch.ones_like(wanted, dtype=torch.bool)
        if self.ignore_index is not None:
            counts = wanted != self.ignore_index
        scores, wanted = scores[counts], wanted[counts]
        own = scores.gather(-1, wanted[:, None])
        place = torch.arange(scores.shape[-1], device=scores.device)
        ahead = (scores > own) | ((scores == own) & (place < wanted[:, None]))
        right = (ahead.sum(-1) < self.top).sum()
        return torch.stack([right, counts.sum()]).double()

    def score(self, state: Tensor) -> Tensor:
        return state[0] / state[1]


def top_k_accuracy(prediction: Tensor, target: Tensor, top: int = 1) -> Tensor:
    """The same of scores [n, k] and labels [n] at once; returns []."""
    return TopKAccuracy(top).of(prediction, target)
