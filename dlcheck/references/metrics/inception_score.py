"""The Inception Score of class probabilities, in one go or from a stream of batches."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlcheck.numerics.mutual_information import ClassSums
from dlcheck.registry import reference


class InceptionScore(NamedTuple):
    """Mean and standard deviation (of the population) over the splits, and the score of all [].

    With one split the deviation is 0 and the mean is the whole.
    """

    mean: Tensor
    deviation: Tensor
    whole: Tensor


@reference(
    kind="score_metric",
    formula="exp( E_x KL( p(y|x) ‖ p(y) ) )",
    source="Salimans et al., Improved Techniques for Training GANs, NeurIPS 2016, §4",
    inputs={"probabilities": "probability n k"},
    args={"splits": 1},
    options={"splits": "splits", "range": [1, "k"], "better": "higher"},
)
def inception_score(
    probabilities: Tensor, splits: int = 1, seed: int = 0, prediction: str = "probabilities"
) -> InceptionScore:
    """exp of the mean divergence of p(y|x) [n, k] from its mean p(y), natural logarithm.

    In float64, from float32 or float64 on any device. `prediction` says what the rows are:
    `"probabilities"`, `"log_probabilities"` or `"logits"`. A total collapse scores 1, not NaN,
    since 0 log 0 = 0. With more than one split the samples are shuffled with `seed` and cut at
    i·n // splits: the mean over splits depends on their size, so the whole is given beside it.

    Raises TypeError for whole numbers and 16-bit floats, ValueError for NaN, for no rows, for rows
    that are no distribution and for more splits than rows.
    """
    _hold_to_whole(splits)
    return _scored(probabilities, splits, seed, prediction)


@reference(
    kind="score_metric",
    formula="exp( E_x KL( softmax z(x) ‖ E_x softmax z(x) ) )",
    source="Salimans et al., Improved Techniques for Training GANs, NeurIPS 2016, §4",
    inputs={"logits": "logit n k"},
    args={"splits": 1},
    options={
        "splits": "splits",
        "range": [1, "k"],
        "better": "higher",
        "prediction": "logits",
    },
)
def inception_score_from_logits(logits: Tensor, splits: int = 1, seed: int = 0) -> InceptionScore:
    """The same from logits [n, k]: log p is never the logarithm of a p that underflowed to 0."""
    return inception_score(logits, splits, seed, prediction="logits")


class StreamingInceptionScore:
    """The same by update(probabilities), compute(), reset() and merge(other).

    With one split it keeps Σ p log p and Σ p [k] alone, whatever the number of samples. A shuffle
    needs the samples: with more splits it keeps a copy of all of them, as they were given.
    """

    def __init__(self, splits: int = 1, seed: int = 0, prediction: str = "probabilities") -> None:
        _hold_to_whole(splits)
        self.splits, self.seed, self.prediction = splits, seed, prediction
        self.reset()

    def reset(self) -> None:
        """Forget every sample."""
        self._sums: ClassSums | None = None
        self._kept: list[Tensor] = []

    def update(self, probabilities: Tensor) -> None:
        """Add the samples of a batch [b, k], b ≥ 1; k is that of the first batch."""
        probabilities = probabilities.detach()  # read much later: no graph is kept
        sums = ClassSums.of(probabilities, self.prediction)
        self._sums = sums if self._sums is None else self._sums.merged(sums)
        if self.splits > 1:
            self._kept.append(probabilities.clone())

    def merge(self, other: StreamingInceptionScore) -> None:
        """Add the samples that another has seen, behind one's own."""
        if (self.splits, self.prediction) != (other.splits, other.prediction):
            raise ValueError(
                f"only scores of the same form merge: {self.splits} splits of {self.prediction}, "
                f"and {other.splits} splits of {other.prediction}"
            )
        if other._sums is not None:
            self._sums = other._sums if self._sums is None else self._sums.merged(other._sums)
            self._kept += other._kept

    def state_dict(self) -> dict[str, Any]:
        """The sums, and the samples where they are kept; empty before the first update."""
        if self._sums is None:
            return {}
        sums = {"rows": self._sums.rows, "entropy": self._sums.entropy, "mass": self._sums.mass}
        return {**sums, "kept": list(self._kept)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.reset()
        if state:
            self._sums = ClassSums(state["rows"], state["entropy"], state["mass"])
            self._kept = list(state["kept"])

    def compute(self) -> InceptionScore:
        """The score of all samples so far. Raises ValueError before the first."""
        if self._sums is None:
            raise ValueError("there are no samples to score: call update(probabilities) first")
        if self.splits == 1:
            whole = self._sums.divergence.exp()
            return InceptionScore(whole, torch.zeros_like(whole), whole)
        device = self._kept[0].device
        samples = torch.cat([batch.to(device) for batch in self._kept])
        return _scored(samples, self.splits, self.seed, self.prediction)


def _scored(given: Tensor, splits: int, seed: int, prediction: str) -> InceptionScore:
    if splits == 1:
        whole = ClassSums.of(given, prediction).divergence.exp()
        return InceptionScore(whole, torch.zeros_like(whole), whole)
    n = len(given)
    if splits > n:
        raise ValueError(f"{n} samples cannot be cut into {splits} splits: give at most {n}")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(given.device)
    ends = [i * n // splits for i in range(splits + 1)]
    parts = [
        ClassSums.of(given, prediction, order[start:end]) for start, end in itertools.pairwise(ends)
    ]
    scores = torch.stack([part.divergence.exp() for part in parts])
    whole = functools.reduce(ClassSums.merged, parts).divergence.exp()
    return InceptionScore(scores.mean(), scores.std(correction=0), whole)


def _hold_to_whole(splits: int) -> None:
    if isinstance(splits, bool) or not isinstance(splits, int) or splits < 1:
        raise ValueError(f"splits is a whole number of at least 1, not {splits!r}")
