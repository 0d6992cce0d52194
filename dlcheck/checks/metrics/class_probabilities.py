"""Class probabilities for scores of them, and how well such a score can be computed."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.checks.metrics.precision import precision
from dlcheck.errors import NotApplicable
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def unsplit(score: Implementation) -> Implementation:
    """The subject with one split, for only then does the score belong to the whole set.

    `options.splits` names the argument, or states a number. Raises NotApplicable for a fixed
    number above 1.
    """
    splits = score.options.get("splits", 1)
    if isinstance(splits, str):
        return score.rebuilt(**{splits: 1})
    if splits != 1:
        raise NotApplicable(f"the score is fixed to {splits} splits")
    return score


def drawn(case: Case) -> Tensor:
    """The probabilities [n, k] that the case drew."""
    return case.fresh()[0]


def softmax_rows(case: Case, rows: int, salt: str) -> Tensor:
    """Probabilities [rows, k] of moderate confidence, with the case's k."""
    classes = case.tensors[0].shape[1]
    z = torch.randn(rows, classes, generator=case.generator(salt), dtype=torch.float64)
    return torch.softmax(2 * z, 1).to(device=case.device, dtype=case.dtype)


def resolvable(score: Implementation, case: Case, value: float) -> float:
    """The error that a right score of that value may have.

    Most implementations guard the logarithm, log(p + g). With g ≤ √ε, and
    p |log(p + g) − log p| ≤ g, a guard moves Σ p log p and Σ p log m by at most K g each, so the
    divergence by 2 K √ε and the score by 2 K √ε of its value; rounding is far below.
    """
    classes = case.tensors[0].shape[1]
    return float(
        2 * classes * torch.finfo(precision(score, case)).eps ** 0.5 * max(abs(value), 1.0)
    )
