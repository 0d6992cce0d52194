"""Scores of predicted labels: all functions of the confusion matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dlcheck.references.metrics.admission import labels, paired
from dlcheck.references.metrics.streams import Stream
from dlcheck.registry import reference

AVERAGES = ("macro", "micro", "weighted", "binary", "none")


def confusion_matrix(
    prediction: Tensor, target: Tensor, classes: int, ignore_index: int | None = None
) -> Tensor:
    """[k, k] counts in int64: row the target, column the prediction.

    prediction, target: labels of the same shape. Positions whose target is `ignore_index` do not
    count. Raises ValueError and TypeError as `admission` words them.
    """
    paired(prediction, target)
    wanted = labels(target, classes, "target", ignore_index).flatten()
    counts = torch.ones_like(wanted, dtype=torch.bool)
    if ignore_index is not None:
        counts = wanted != ignore_index
    wanted = wanted[counts]
    said = prediction.flatten()[counts]
    said = labels(said, classes, "prediction") if len(said) else said.long()
    return torch.bincount(wanted * classes + said, minlength=classes**2).view(classes, classes)


def averaged(each: Tensor, pooled: Tensor, matrix: Tensor, average: str) -> Tensor:
    """Values of classes [k] as one number.

    macro: the mean over classes that were seen, in the target or among the predictions; weighted:
    by how often the target names them; micro: the value of the pooled counts; binary: that of
    class 1; none: each, NaN for a class that was not seen.
    """
    support = matrix.sum(1)
    seen = (support + matrix.sum(0)) > 0
    match average:
        case "micro":
            return pooled
        case "binary":
            return each[1]
        case "macro":
            return each[seen].mean()
        case "weighted":
            return (each * support).sum() / support.sum()
    return torch.where(seen, each, torch.nan)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 where the whole is 0."""
    return torch.where(whole > 0, part / whole.clamp_min(1), 0.0)


def _f_score(tp: Tensor, fp: Tensor, fn: Tensor, beta: float) -> Tensor:
    b = beta * beta
    return _share((1 + b) * tp, (1 + b) * tp + b * fn + fp)


_OF_CLASS: Mapping[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "precision": lambda tp, fp, fn, beta: _share(tp, tp + fp),
    "recall": lambda tp, fp, fn, beta: _share(tp, tp + fn),
    "f_beta": _f_score,
    "iou": lambda tp, fp, fn, beta: _share(tp, tp + fp + fn),
}


@reference(
    kind="prediction_metric",
    formula="(1 + β²) TP / ((1 + β²) TP + β² FN + FP), and its averages over classes",
    source="van Rijsbergen, Information Retrieval, 2nd ed., 1979, ch. 7; Sokolova & Lapalme, "
    "A systematic analysis of performance measures for classification tasks, Information "
    "Processing & Management 45(4), 2009, table 3",
    inputs={"prediction": "label[k] n", "target": "label[k] n"},
    args={"classes": {"dim": "k"}},
    traits=["size_invariant", "improves_with_each_row", "validates"],
    options={"range": [0, 1], "better": "higher", "perfect": 1.0, "average": "average",
             "absent_classes": "ignored", "sizes": {"k": [2, 17]}, "merge": "merge",
             "forward": "batch", "saves_state": True},
)  # fmt: skip
class ClassScore(Stream):
    """Precision, recall, Fβ, IoU or Dice of labels, from the counts of each class.

    `score`: precision, recall, f_beta, iou; Dice is f_beta with beta 1. `average`: macro, micro,
    weighted, binary (class 1), none ([k]). 0 / 0 is 0, but a class that neither the target nor
    the predictions name is left out of macro, and is NaN in none. In float64; streams.
    """

    def __init__(
        self,
        classes: int,
        score: str = "f_beta",
        average: str = "macro",
        beta: float = 1.0,
        ignore_index: int | None = None,
    ) -> None:
        if average not in AVERAGES:
            raise ValueError(f"average = {average!r}; it is one of {', '.join(AVERAGES)}")
        if average == "binary" and classes != 2:
            raise ValueError(
                f"average = 'binary' is the score of class 1 of 2, and classes = {classes}; take "
                "'none' and the class that is meant"
            )
        if score not in _OF_CLASS:
            raise ValueError(f"score = {score!r}; it is one of {', '.join(_OF_CLASS)}")
        self.classes, self.average, self.beta = classes, average, beta
        self.of_class, self.ignore_index = score, ignore_index

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        return confusion_matrix(prediction, target, self.classes, self.ignore_index)

    def score(self, state: Tensor) -> Tensor:
        matrix = state.double()
        tp = matrix.diagonal()
        fp, fn = matrix.sum(0) - tp, matrix.sum(1) - tp
        one = _OF_CLASS[self.of_class]
        pooled = one(tp.sum(), fp.sum(), fn.sum(), self.beta)
        return averaged(one(tp, fp, fn, self.beta), pooled, matrix, self.average)


def precision(prediction: Tensor, target: Tensor, classes: int, average: str = "macro") -> Tensor:
    """TP / (TP + FP) of labels, averaged over classes as `ClassScore` says."""
    return ClassScore(classes, "precision", average).of(prediction, target)


def recall(prediction: Tensor, target: Tensor, classes: int, average: str = "macro") -> Tensor:
    """TP / (TP + FN) of labels, averaged over classes as `ClassScore` says."""
    return ClassScore(classes, "recall", average).of(prediction, target)


def f_beta(
    prediction: Tensor, target: Tensor, classes: int, average: str = "macro", beta: float = 1.0
) -> Tensor:
    """(1 + β²) TP / ((1 + β²) TP + β² FN + FP) of labels, averaged over classes."""
    return ClassScore(classes, "f_beta", average, beta).of(prediction, target)


class ConfusionMatrix(Stream):
    """The counts themselves, [k, k] in int64: row the target, column the prediction. Streams."""

    def __init__(self, classes: int, ignore_index: int | None = None) -> None:
        self.classes, self.ignore_index = classes, ignore_index

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        return confusion_matrix(prediction, target, self.classes, self.ignore_index)

    def score(self, state: Tensor) -> Tensor:
        return state
