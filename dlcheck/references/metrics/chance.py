"""Scores of labels that count what chance would get right: κ, φ and balanced accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.references.metrics.confusion import confusion_matrix
from dlcheck.references.metrics.streams import Stream
from dlcheck.registry import reference


@reference(
    kind="prediction_metric",
    formula="(pₒ − pₑ) / (1 − pₑ)",
    source="Cohen, A coefficient of agreement for nominal scales, Educational and Psychological "
    "Measurement 20(1), 1960",
    inputs={"prediction": "label[k] n", "target": "label[k] n"},
    args={"classes": {"dim": "k"}},
    traits=["size_invariant", "symmetric", "validates"],
    options={"range": [-1, 1], "better": "higher", "perfect": 1.0, "perfect_where": "nonconstant",
             "renaming": True, "uninformed": 0.0, "sizes": {"k": [2, 17]}, "merge": "merge",
             "forward": "batch", "saves_state": True},
)  # fmt: skip
class CohenKappa(Stream):
    """Agreement of labels beyond that of independent ones with the same frequencies.

    NaN where both name one class alone. In float64; streams; returns [].
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        return confusion_matrix(prediction, target, self.classes)

    def score(self, state: Tensor) -> Tensor:
        matrix = state.double() / state.sum()
        by_chance = (matrix.sum(0) * matrix.sum(1)).sum()
        return (matrix.trace() - by_chance) / (1 - by_chance)


@reference(
    kind="prediction_metric",
    formula="(c s − Σ tₖ pₖ) / √((s² − Σ pₖ²)(s² − Σ tₖ²))",
    source="Gorodkin, Comparing two K-category assignments by a K-category correlation "
    "coefficient, Computational Biology and Chemistry 28, 2004, eq. 8",
    inputs={"prediction": "label[k] n", "target": "label[k] n"},
    args={"classes": {"dim": "k"}},
    traits=["size_invariant", "symmetric", "validates"],
    options={"range": [-1, 1], "better": "higher", "perfect": 1.0, "perfect_where": "nonconstant",
             "renaming": True, "uninformed": 0.0, "sizes": {"k": [2, 17]}, "merge": "merge",
             "forward": "batch", "saves_state": True},
)  # fmt: skip
class MatthewsCorrelation(Stream):
    """The correlation of labels; 0 where one side names one class alone.

    In float64; streams; returns [].
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        return confusion_matrix(prediction, target, self.classes)

    def score(self, state: Tensor) -> Tensor:
        matrix = state.double() / state.sum()
        said, wanted = matrix.sum(0), matrix.sum(1)
        both = matrix.trace() - (said * wanted).sum()
        spread = (1 - said.square().sum()) * (1 - wanted.square().sum())
        return torch.where(spread > 0, both / spread.clamp_min(1e-300).sqrt(), 0.0)


def balanced_accuracy(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """The mean recall of the classes that the target names; returns []."""
    matrix = confusion_matrix(prediction, target, classes).double()
    support = matrix.sum(1)
    present = support > 0
    return (matrix.diagonal()[present] / support[present]).mean()
