"""How two variables move together: Pearson, Spearman and Kendall."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.numerics.moments import Moments
from dlcheck.references.metrics.admission import numbers, paired
from dlcheck.references.metrics.moments_state import joined, moments_of, packed, varies
from dlcheck.references.metrics.ranking import average_ranks
from dlcheck.references.metrics.streams import RowStream, Stream
from dlcheck.registry import reference

_BLOCK = 1024  # rows whose pairs are looked at together


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Σ (x − x̄)(y − ȳ) / √(Σ (x − x̄)² Σ (y − ȳ)²) of values [n] in float64."""
    return _of_moments(Moments.of(torch.stack([x, y], 1)))


def _of_moments(moments: Moments) -> Tensor:
    scatter = moments.scatter
    spread = scatter[0, 0].sqrt() * scatter[1, 1].sqrt()
    if not (varies(moments, 0) and varies(moments, 1)):
        raise ValueError("one side is constant: a correlation with it is not defined")
    return (scatter[0, 1] / spread).clamp(-1, 1)  # rounding may leave 1 + 10⁻¹⁶


@reference(
    kind="prediction_metric",
    formula="Σ (p − p̄)(t − t̄) / √(Σ (p − p̄)² Σ (t − t̄)²)",
    source="Pearson, Notes on regression and inheritance in the case of two parents, Proceedings "
    "of the Royal Society of London 58, 1895",
    inputs={"prediction": "float n", "target": "float n"},
    traits=["symmetric", "shift_invariant", "scale_invariant", "size_invariant", "reverses",
            "validates"],
    options={"range": [-1, 1], "better": "higher", "perfect": 1.0, "perfect_where": "nonconstant",
             "merge": "merge", "forward": "batch", "saves_state": True},
)  # fmt: skip
class PearsonCorrelation(Stream):
    """Of values [n], from moments about the mean, so that an offset costs no digits.

    Raises ValueError where one side is constant. In float64; streams; returns [].
    """

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        return packed(Moments.of(_rows(prediction, target).mT))

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        return joined(first, second)

    def score(self, state: Tensor) -> Tensor:
        return _of_moments(moments_of(state))


@reference(
    kind="prediction_metric",
    formula="Pearson's correlation of the average ranks",
    source="Spearman, The proof and measurement of association between two things, American "
    "Journal of Psychology 15(1), 1904; Kendall & Gibbons, Rank Correlation Methods, 5th ed., §3.8",
    inputs={"prediction": "float n", "target": "float n"},
    traits=["symmetric", "shift_invariant", "scale_invariant", "monotone_invariant",
            "size_invariant", "reverses", "validates"],
    options={"range": [-1, 1], "better": "higher", "perfect": 1.0, "perfect_where": "nonconstant",
             "merge": "merge", "forward": "batch", "saves_state": True},
)  # fmt: skip
class SpearmanCorrelation(RowStream):
    """Of values [n]; equal values share the mean of their ranks. O(n log n).

    Raises ValueError where one side is constant. In float64; keeps its rows; returns [].
    """

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        return _rows(prediction, target)

    def score(self, state: Tensor) -> Tensor:
        return correlation(average_ranks(state[0]), average_ranks(state[1]))


@reference(
    kind="prediction_metric",
    formula="(C − D) / √((P − T_p)(P − T_t)): concordant, discordant, all and tied pairs",
    source="Kendall, The treatment of ties in ranking problems, Biometrika 33(3), 1945",
    inputs={"prediction": "float n", "target": "float n"},
    traits=["symmetric", "shift_invariant", "scale_invariant", "monotone_invariant", "reverses",
            "size_invariant", "validates"],
    options={"range": [-1, 1], "better": "higher", "perfect": 1.0, "perfect_where": "nonconstant",
             "merge": "merge", "forward": "batch", "saves_state": True},
)  # fmt: skip
class KendallCorrelation(RowStream):
    """τ_b of values [n], over all pairs, in blocks of rows: O(n²) time, O(n) memory.

    Raises ValueError where one side is constant. In float64; keeps its rows; returns [].
    """

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        return _rows(prediction, target)

    def score(self, state: Tensor) -> Tensor:
        agreed = untied_x = untied_y = state.new_zeros(())
        x, y = state
        for a, b in zip(x.split(_BLOCK), y.split(_BLOCK), strict=True):
            p, q = (a[:, None] - x).sign(), (b[:, None] - y).sign()
            agreed = agreed + (p * q).sum()
            untied_x, untied_y = untied_x + p.abs().sum(), untied_y + q.abs().sum()
        if not bool(untied_x * untied_y > 0):
            raise ValueError("one side is constant: a correlation with it is not defined")
        return (agreed / (untied_x.sqrt() * untied_y.sqrt())).clamp(-1, 1)


def _rows(prediction: Tensor, target: Tensor) -> Tensor:
    """[2, n] in float64."""
    paired(prediction, target)
    pair = numbers(prediction, "prediction"), numbers(target, "target")
    return torch.stack([values.flatten() for values in pair])
