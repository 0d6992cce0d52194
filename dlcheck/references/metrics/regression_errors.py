"""Scores of predicted values: squared, absolute and explained."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.numerics.moments import Moments
from dlcheck.references.metrics.admission import numbers, paired
from dlcheck.references.metrics.moments_state import joined, moments_of, packed, varies
from dlcheck.references.metrics.streams import Stream
from dlcheck.registry import reference


class _Mean(Stream):
    """The mean of a function of prediction − target over all elements; state [sum, count]."""

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        paired(prediction, target)
        error = numbers(prediction, "prediction") - numbers(target, "target")
        return torch.stack([self.term(error).sum(), error.new_tensor(error.numel())])

    def term(self, error: Tensor) -> Tensor:
        return error.square()

    def score(self, state: Tensor) -> Tensor:
        return state[0] / state[1]


@reference(
    kind="prediction_metric",
    formula="1/n Σ (p − t)²",
    source="Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., §2.4",
    inputs={"prediction": "float n", "target": "float n"},
    traits=["symmetric", "size_invariant", "improves_with_each_row", "validates"],
    options={"range": [0, "inf"], "better": "lower", "perfect": 0.0, "merge": "merge",
             "forward": "batch", "saves_state": True},
)  # fmt: skip
class MeanSquaredError(_Mean):
    """Of values of any one shape, over all elements. In float64; streams; returns []."""


@reference(
    kind="prediction_metric",
    formula="√(1/n Σ (p − t)²)",
    source="Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., §2.4",
    inputs={"prediction": "float n", "target": "float n"},
    traits=["symmetric", "size_invariant", "improves_with_each_row", "validates"],
    options={"range": [0, "inf"], "better": "lower", "perfect": 0.0, "merge": "merge",
             "forward": "batch", "saves_state": True},
)  # fmt: skip
class RootMeanSquaredError(_Mean):
    """The root of the mean over all rows, not a mean of roots. In float64; streams; returns []."""

    def score(self, state: Tensor) -> Tensor:
        return (state[0] / state[1]).sqrt()


@reference(
    kind="prediction_metric",
    formula="1/n Σ |p − t|",
    source="Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., §2.4",
    inputs={"prediction": "float n", "target": "float n"},
    traits=["symmetric", "size_invariant", "improves_with_each_row", "validates"],
    options={"range": [0, "inf"], "better": "lower", "perfect": 0.0, "merge": "merge",
             "forward": "batch", "saves_state": True},
)  # fmt: skip
class MeanAbsoluteError(_Mean):
    """Of values of any one shape, over all elements. In float64; streams; returns []."""

    def term(self, error: Tensor) -> Tensor:
        return error.abs()


@reference(
    kind="prediction_metric",
    formula="1 − Σ (p − t)² / Σ (t − t̄)²",
    source="Draper & Smith, Applied Regression Analysis, 3rd ed., §1.3",
    inputs={"prediction": "float n", "target": "float n"},
    traits=["size_invariant", "improves_with_each_row", "validates"],
    options={"range": ["-inf", 1], "better": "higher", "perfect": 1.0, "uninformed": 0.0,
             "perfect_where": "nonconstant", "merge": "merge", "forward": "batch",
             "saves_state": True},
)  # fmt: skip
class R2Score(Stream):
    """The share of the target's variance that is explained; values [n].

    From moments about the mean, so that an offset costs no digits. Raises ValueError where the
    target is constant: no variance can be explained. In float64; streams; returns [].
    """

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        paired(prediction, target)
        wanted = numbers(target, "target").flatten()
        error = numbers(prediction, "prediction").flatten() - wanted
        return packed(Moments.of(torch.stack([wanted, error], 1)))

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        return joined(first, second)

    def score(self, state: Tensor) -> Tensor:
        moments = moments_of(state)
        total = moments.scatter[0, 0]
        if not varies(moments, 0):
            raise ValueError("the target is constant: R² compares with its variance, which is 0")
        return 1 - (moments.scatter[1, 1] + moments.rows * moments.mean[1].square()) / total
