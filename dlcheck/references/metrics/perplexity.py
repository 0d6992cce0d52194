"""How many tokens a language model hesitates between."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.references.metrics.admission import class_scores, labels
from dlcheck.references.metrics.streams import Stream
from dlcheck.registry import reference


@reference(
    kind="prediction_metric",
    formula="exp( −1/N Σ log p(token) )",
    source="Jelinek et al., Perplexity: a measure of the difficulty of speech recognition tasks, "
    "J. Acoustical Society of America 62(S1), 1977",
    inputs={"prediction": "logit n t k", "target": "label[k] n t"},
    args={"ignore_index": -100},
    traits=["shift_invariant", "size_invariant", "improves_with_each_row", "validates"],
    options={"task": "sequence", "range": [1, "inf"], "better": "lower", "perfect": 1.0,
             "renaming": True, "uninformed": "k", "ignore_index": "ignore_index", "merge": "merge",
             "forward": "batch", "saves_state": True},
)  # fmt: skip
class Perplexity(Stream):
    """Of logits [n, t, k] and tokens [n, t]: the exp of the mean over all counted tokens.

    Not a mean of exps over batches. Tokens that are `ignore_index` do not count; NaN where none
    does. In float64; streams; returns [].
    """

    def __init__(self, ignore_index: int | None = -100) -> None:
        self.ignore_index = ignore_index

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        """[Σ −log p, tokens] in float64."""
        logits = class_scores(prediction, target)
        tokens = labels(target, logits.shape[-1], "target", self.ignore_index)
        counts = torch.ones_like(tokens, dtype=torch.bool)
        if self.ignore_index is not None:
            counts = tokens != self.ignore_index
        log_p = logits[counts].log_softmax(-1).gather(-1, tokens[counts][:, None])
        return torch.stack([-log_p.sum(), counts.sum().double()])

    def score(self, state: Tensor) -> Tensor:
        return (state[0] / state[1]).exp()


def perplexity(prediction: Tensor, target: Tensor, ignore_index: int | None = -100) -> Tensor:
    """The same of logits [..., k] and tokens [...] at once; returns []."""
    return Perplexity(ignore_index).of(prediction, target)
