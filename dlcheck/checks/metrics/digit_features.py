"""The digits' feature sets as one distance sees them: in its dtype, as wide as it takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.checks.metrics.feature_sets import as_many, given, least_rows, widths
from dlcheck.errors import NotApplicable
from dlcheck.features import CLASSES, FEATURES, DigitsStudy, digits_study
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@dataclass(frozen=True, slots=True)
class DigitFeatures:
    """Features [n, d] float64 of the digits that trained the classifier and of those held out."""

    metric: Implementation
    case: Case
    study: DigitsStudy
    width: int
    known: Tensor
    unseen: Tensor

    @property
    def labels(self) -> Tensor:
        return self.study.labels

    @property
    def of_one_class(self) -> list[Tensor]:
        """The held-out digits of each kind, as many of each."""
        sets = [self.unseen[self.labels == c] for c in range(CLASSES)]
        rows = min(map(len, sets))
        return [rows_of_kind[:rows] for rows_of_kind in sets]

    def distance(self, rows: Tensor) -> float:
        """That of rows from the training digits."""
        known = self.known[: len(rows)] if as_many(self.case) else self.known
        return given(self.metric, self.case, known, rows[: len(known)])

    def draws(self, rows: int, count: int) -> list[Tensor]:
        """Random draws of held-out digits of all kinds, without replacement."""
        g = self.case.generator(f"draws of {rows}")
        orders = [torch.randperm(len(self.unseen), generator=g)[:rows] for _ in range(count)]
        return [self.unseen[order] for order in orders]

    def with_noise(self, deviation: float) -> Tensor:
        """Features of the held-out digits with noise on every pixel; the same field each time."""
        noise = torch.randn(self.study.unseen.shape, generator=self.case.generator("noise"))
        return self.study.features(self.study.unseen + deviation * noise)[:, : self.width]


def digit_features(metric: Implementation, case: Case) -> DigitFeatures:
    """64 features, or as many as the declaration allows, the first ones.

    Raises NotApplicable where the distance wants more features or rows than there are.
    """
    low, high = widths(metric, case)
    if low > FEATURES:
        raise NotApplicable(f"there are {FEATURES} features, and this distance takes {low}")
    study, width = digits_study(case.root), int(min(high, FEATURES))
    known, unseen = (study.features(x)[:, :width] for x in (study.known, study.unseen))
    least = int(torch.bincount(study.labels, minlength=CLASSES).min())
    if least_rows(metric, case) > min(least, 50):
        raise NotApplicable(f"there are {least} digits of a kind, and this distance takes more")
    return DigitFeatures(metric, case, study, width, known, unseen)
