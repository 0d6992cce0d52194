"""What the scores of predictions take: one clear error for anything else, before work is lost."""

from __future__ import annotations

import torch
from torch import Tensor

_UNSURE = 1e-3  # by how much probabilities may miss a sum of 1


def labels(values: Tensor, classes: int, name: str, ignore_index: int | None = None) -> Tensor:
    """Labels in int64. Raises ValueError or TypeError unless they are 0 … classes − 1.

    values: integers or booleans of any shape, `ignore_index` among them where one is given.
    """
    if values.is_floating_point() or values.is_complex():
        raise TypeError(
            f"{name} holds {values.dtype}, where labels are integers; take argmax(-1) of scores, "
            "or threshold them"
        )
    if not values.numel():
        raise ValueError(f"{name} is empty: a score of no rows is not defined")
    found = values.long()
    judged = found if ignore_index is None else found[found != ignore_index]
    if judged.numel() and (int(judged.min()) < 0 or int(judged.max()) >= classes):
        raise ValueError(
            f"{name} holds labels from {int(judged.min())} to {int(judged.max())}, but there are "
            f"{classes} classes, 0 to {classes - 1}"
        )
    return found


def paired(prediction: Tensor, target: Tensor) -> None:
    """Raises ValueError unless both have the same shape and at least one element."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction has shape {tuple(prediction.shape)} and target {tuple(target.shape)}: "
            "they are compared element by element and must have the same shape"
        )
    if not prediction.numel():
        raise ValueError("prediction is empty: a score of no rows is not defined")


def numbers(values: Tensor, name: str) -> Tensor:
    """The values in float64. Raises ValueError for NaN and infinity, with their count."""
    found = values.double()
    bad = int((~torch.isfinite(found)).sum())
    if bad:
        raise ValueError(f"{name} holds {bad} NaN or infinite of {found.numel()} numbers")
    return found


def class_scores(scores: Tensor, target: Tensor, name: str = "prediction") -> Tensor:
    """Scores [n, k] in float64 for target [n]. Raises ValueError for any other shape."""
    if scores.dim() != target.dim() + 1 or scores.shape[:-1] != target.shape:
        raise ValueError(
            f"{name} has shape {tuple(scores.shape)} for a target of shape {tuple(target.shape)}: "
            "it needs one score for each class in its last axis, and all else alike"
        )
    return numbers(scores, name)


def probabilities(values: Tensor, given: torch.dtype, name: str = "prediction") -> Tensor:
    """The same where each row is a distribution. Raises ValueError for logits and other sums.

    given: the type in which they came. Each is rounded by half an eps of itself, and was computed
    in that type: an eps is left for the sum.
    """
    if bool((values < 0).any()) or bool((values > 1).any()):
        raise ValueError(
            f"{name} holds values from {float(values.min()):.4g} to {float(values.max()):.4g}, "
            "where probabilities are declared; take softmax(-1) of logits"
        )
    miss = float((values.sum(-1) - 1).abs().max())
    narrow = torch.finfo(given).eps if given.is_floating_point else 0.0
    if miss > max(_UNSURE, narrow):
        raise ValueError(f"rows of {name} miss a sum of 1 by {miss:.3g}: they are no distributions")
    return values
