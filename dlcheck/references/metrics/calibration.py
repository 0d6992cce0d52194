"""How far confidence and accuracy are apart."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.references.metrics.admission import class_scores, labels, probabilities
from dlcheck.references.metrics.streams import Stream
from dlcheck.registry import reference


@reference(
    kind="prediction_metric",
    formula="Σ n_b/n | accuracy_b − confidence_b | over bins of the highest probability",
    source="Guo et al., On Calibration of Modern Neural Networks, ICML 2017, §2, eq. 3",
    inputs={"prediction": "probability n k", "target": "label[k] n"},
    traits=["size_invariant", "validates"],
    options={"range": [0, 1], "better": "lower", "perfect": 0.0, "renaming": True,
             "sizes": {"k": [2, 17]}, "merge": "merge", "forward": "batch", "saves_state": True},
)  # fmt: skip
class ExpectedCalibrationError(Stream):
    """Of probabilities [n, k] and labels [n], in `bins` of equal width.

    A bin is (low, high]; the first one has 0 besides. So a confidence of exactly 1 is in the last
    one, and none is in two or in none. In float64; streams; returns [].
    """

    def __init__(self, bins: int = 15) -> None:
        if bins < 1:
            raise ValueError(f"bins = {bins}: at least one is needed")
        self.bins = bins

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        """[3, bins]: rows, sum of confidence, right ones."""
        p = probabilities(class_scores(prediction, target), prediction.dtype)
        wanted = labels(target, p.shape[-1], "target").flatten()
        confidence, said = p.flatten(0, -2).max(-1)
        edges = torch.linspace(0, 1, self.bins + 1, dtype=p.dtype, device=p.device)
        place = torch.bucketize(confidence, edges[1:-1])  # (low, high]
        rows = torch.stack([torch.ones_like(confidence), confidence, (said == wanted).double()])
        sums = torch.zeros(3, self.bins, dtype=p.dtype, device=p.device)
        sums.index_add_(1, place, rows)
        return sums

    def score(self, state: Tensor) -> Tensor:
        rows, confidence, right = state
        apart: Tensor = (confidence - right).abs().sum() / rows.sum()
        return apart


def expected_calibration_error(prediction: Tensor, target: Tensor, bins: int = 15) -> Tensor:
    """The same of probabilities [n, k] and labels [n] at once; returns []."""
    return ExpectedCalibrationError(bins).of(prediction, target)
