"""Arguments that say how much: of smoothing, and of what a positive counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.agreement import agreement
from dlcheck.checks.loss.broken import CLASSES, YES_NO, wrong
from dlcheck.checks.loss.classes import refuse_weights
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _smoothed(prediction: Tensor, target: Tensor, smoothing: float, other: float) -> Tensor:
    """Cross-entropy against 1 − ε for the target, and `other` more for every class."""
    logs = prediction.log_softmax(-1)
    return (1 - smoothing) * F.nll_loss(logs, target) - other * logs.sum(-1).mean()


def _of_ten_classes(prediction: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    return _smoothed(prediction, target, smoothing, smoothing / 10)


def _a_sum_for_a_mean(prediction: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    return _smoothed(prediction, target, smoothing, smoothing)


def _shares_among_the_others(prediction: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    """ε/(k − 1) for each class, the target too: more than 1 in all."""
    return _smoothed(prediction, target, smoothing, smoothing / max(prediction.shape[-1] - 1, 1))


def _adds_and_takes_nothing(prediction: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    uniform = -smoothing * prediction.log_softmax(-1).mean()
    return F.cross_entropy(prediction, target) + uniform


def _smoothed_twice(prediction: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    """Smooths a target that is smoothed already: (1 − ε)² is left."""
    k = prediction.shape[-1]
    q = F.one_hot(target, k).to(prediction)
    for _ in range(2):
        q = (1 - smoothing) * q + smoothing / k
    return -(q * prediction.log_softmax(-1)).sum(-1).mean()


SMOOTHING: dict[str, Any] = {**CLASSES, "smoothing": "smoothing"}


@check(
    kind="loss",
    needs={"smoothed"},
    options={"smoothing": True, "task": ["classification", "segmentation", "sequence"]},
    forbids={"stochastic"},
    rejects=[
        wrong(_of_ten_classes, SMOOTHING, "smoothed"),
        wrong(_a_sum_for_a_mean, SMOOTHING, "smoothed"),
        wrong(_shares_among_the_others, SMOOTHING, "smoothed"),
        wrong(_adds_and_takes_nothing, SMOOTHING, "smoothed"),
        wrong(_smoothed_twice, SMOOTHING, "smoothed"),
    ],
    accepts=[
        Subject(
            name="torch_smoothed",
            target="torch.nn:CrossEntropyLoss",
            kind="loss",
            args={"label_smoothing": 0.15},
            traits=frozenset({"smoothed", "masked"}),
            options={**CLASSES, "smoothing": "label_smoothing", "ignore_index": "ignore_index"},
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "ties", "ignored"],
)
def smoothing_only_moves_the_target(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Smoothing takes from the target what it gives to the classes, in proportion to its amount.

    Where all classes are predicted alike each costs the same, whatever the target: there
    smoothing changes nothing. Anywhere, as the loss is linear in the target, half the amount
    changes the loss by half. The bound is rounding. Source: Szegedy et al., Rethinking the
    Inception Architecture, CVPR 2016, §7: q' = (1 − ε) q + ε u.
    """
    meaning = Meaning(subject, case)
    refuse_weights(meaning)
    if meaning.form not in ("logits", "log_probabilities"):
        raise NotApplicable("takes no logits")
    name = str(subject.options["smoothing"])
    amount = float(subject.value_of(name, "option smoothing")) or 0.1
    of = {e: Meaning(subject.rebuilt(**{name: e}), case) for e in (0.0, amount / 2, amount)}
    z = meaning.inputs[meaning.prediction]
    alike = {meaning.prediction: torch.full_like(z, 0.25).log_softmax(meaning.class_axis)}
    plain, room = of[0.0].answer(alike), of[0.0].call.room()()[0]
    yield agreement(
        "smoothed loss where all classes are predicted alike, against the plain one",
        of[amount].answer(alike), plain, room, signal=float(plain.abs().sum()) or 1.0,
        cause="the smoothed target does not sum to 1: look at what each class gets",
    )  # fmt: skip
    none, half, whole = (of[e].answer({}) for e in sorted(of))
    room = room + of[amount].call.room()()[0]
    yield agreement(
        "loss with half the smoothing, against the middle of none and all",
        half, (none + whole) / 2, room, signal=float(whole.abs().sum()) or 1.0,
        cause="the target does not move in proportion to the amount",
    )  # fmt: skip


def _of_negatives(prediction: Tensor, target: Tensor, pos_weight: float = 2.0) -> Tensor:
    negatives = pos_weight * (1 - target) * F.softplus(prediction)
    return (negatives + target * F.softplus(-prediction)).mean()


def _of_everything(prediction: Tensor, target: Tensor, pos_weight: float = 2.0) -> Tensor:
    return pos_weight * F.binary_cross_entropy_with_logits(prediction, target)


def _alpha_of_the_others(prediction: Tensor, target: Tensor, pos_weight: float = 0.25) -> Tensor:
    """1 − α for positives, as where label 0 is the rare one."""
    alpha = pos_weight * (1 - target) + (1 - pos_weight) * target
    each = F.binary_cross_entropy_with_logits(prediction, target, reduction="none")
    return (alpha * (1 - torch.exp(-each)).square() * each).mean()


def _in_the_logit(prediction: Tensor, target: Tensor, pos_weight: float = 2.0) -> Tensor:
    moved = prediction * torch.where(target > 0.5, pos_weight, 1.0)
    return F.binary_cross_entropy_with_logits(moved, target)


def _focal(prediction: Tensor, target: Tensor, alpha: float = 0.25) -> Tensor:
    weight = alpha * target + (1 - alpha) * (1 - target)
    each = F.binary_cross_entropy_with_logits(prediction, target, reduction="none")
    p = torch.where(target > 0.5, -prediction, prediction).sigmoid()
    return (weight * p.square() * each).mean()


POSITIVES: dict[str, Any] = {**YES_NO, "positive_weight": "pos_weight"}


@check(
    kind="loss",
    options={"positive_weight": True},
    forbids={"stochastic", "class_balanced", "batch_coupled"},
    rejects=[
        wrong(_of_negatives, POSITIVES),
        wrong(_of_everything, POSITIVES),
        wrong(_alpha_of_the_others, POSITIVES),
        wrong(_in_the_logit, POSITIVES),
    ],
    accepts=[
        wrong(_focal, {**YES_NO, "positive_weight": "alpha"}, "nonconvex"),
        Subject(
            name="torch_bce_of_logits",
            target="torch.nn:BCEWithLogitsLoss",
            kind="loss",
            options=POSITIVES,
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "ties"],
)
def positives_count_by_their_weight(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Half the weight of positives halves what positives cost, and not what negatives do.

    At targets that are all 1, then all 0 (−1 where labels are signs): what these cost may stay, as
    with a pos_weight, or count 1 − α, as with the α of a focal loss. The bound is rounding.
    Source: Lin et al., Focal Loss, ICCV 2017, eq. 3; torch.nn.BCEWithLogitsLoss, pos_weight.
    """
    meaning = Meaning(subject, case)
    if not meaning.is_binary:
        raise NotApplicable("its target is no yes or no")
    name = str(subject.options["positive_weight"])
    given = subject.value_of(name, "option positive_weight")
    weight = float(given) if isinstance(given, int | float) else 0.5
    low, high = meaning.ends
    target = meaning.inputs[meaning.target]
    costs = {}
    for factor in (1.0, 0.5):
        one = Meaning(subject.rebuilt(**{name: _like(given, factor * weight)}), case)
        costs[factor] = [
            (one.answer({one.target: torch.full_like(target, end)}), one.call.room()()[0])
            for end in (high, low)
        ]
    (whole, room), (negatives, _) = costs[1.0]
    (half, _), (others, others_room) = costs[0.5]
    yield agreement(
        "what positives cost with half their weight",
        half, whole / 2, room, signal=float(whole.abs().sum()) or 1.0,
        cause="positives do not count by their weight: is it that of the negatives?",
    )  # fmt: skip
    stays = float((others - negatives / 2).abs().sum())
    yield Evidence(
        error=0.0 if stays > 4 * float(others_room.sum()) else 1.0,
        bound=0.0,
        signal=1.0,
        what="negatives that cost half with half the weight of positives",
        expected=f"another cost than {float(negatives.sum()) / 2:.6g}",
        got=f"{float(others.sum()):.6g}",
        cause="it weighs everything, positives and negatives alike",
    )


def _like(given: Any, value: float) -> Any:
    """The value as the argument takes it: a tensor where it is one, or None by default."""
    if given is None:
        return torch.tensor(value)
    return torch.full_like(given, value) if isinstance(given, Tensor) else value
