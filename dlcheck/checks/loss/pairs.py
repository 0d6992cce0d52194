"""Pairs and triplets: what belongs together is pulled, what does not is pushed, up to a margin."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.loss.broken import wrong
from dlcheck.checks.loss.vectors import (
    PAIR_INPUTS,
    PAIRS,
    SIGNED_INPUTS,
    STEPS,
    Pairs,
    lost,
    nothing_beyond,
    rises,
)
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _contrastive(first: Tensor, second: Tensor, similar: Tensor, margin: float = 1.0) -> Tensor:
    d = (first - second).square().sum(-1).clamp_min(1e-24).sqrt()
    push = (margin - d).clamp_min(0).square()
    return torch.where(similar > 0, d.square(), push).mean()


def _labels_the_wrong_way(
    first: Tensor, second: Tensor, similar: Tensor, margin: float = 1.0
) -> Tensor:
    """Hadsell's Y = 0 means alike."""
    return _contrastive(first, second, 1 - similar, margin)


def _margin_without_a_hinge(
    first: Tensor, second: Tensor, similar: Tensor, margin: float = 1.0
) -> Tensor:
    """(m − d)² beyond the margin too: pairs far apart are pulled back."""
    d = (first - second).square().sum(-1).clamp_min(1e-24).sqrt()
    return torch.where(similar > 0, d.square(), (margin - d).square()).mean()


def _margin_of_the_square(
    first: Tensor, second: Tensor, similar: Tensor, margin: float = 1.0
) -> Tensor:
    """max(0, m − d²)…, with the roles of the signs mixed up: pushes what is alike."""
    d = (first - second).square().sum(-1)
    return torch.where(similar > 0, (margin - d).clamp_min(0), d).mean()


def _only_pulls(first: Tensor, second: Tensor, similar: Tensor, margin: float = 1.0) -> Tensor:
    """Collapses: everything at one point costs nothing."""
    return (first - second).square().sum(-1).mean()


def _only_pushes(first: Tensor, second: Tensor, similar: Tensor, margin: float = 1.0) -> Tensor:
    d = (first - second).square().sum(-1).clamp_min(1e-24).sqrt()
    return torch.where(similar > 0, 0.0, (margin - d).clamp_min(0).square()).mean()


def _by_the_first_axis(
    first: Tensor, second: Tensor, similar: Tensor, margin: float = 1.0
) -> Tensor:
    """The distance is normed away: nothing depends on how far apart a pair is."""
    d = F.normalize(first - second, dim=-1).square().sum(-1)
    return torch.where(similar > 0, d, (margin - d).clamp_min(0)).mean()


def _info_nce(first: Tensor, second: Tensor) -> Tensor:
    logits = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T / 0.2
    return F.cross_entropy(logits, torch.arange(len(first), device=first.device))


def _info_nce_with_a_roll(first: Tensor, second: Tensor) -> Tensor:
    """The positives are one off."""
    logits = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T / 0.2
    return F.cross_entropy(logits, torch.arange(len(first), device=first.device).roll(1))


def _info_nce_of_distances(first: Tensor, second: Tensor) -> Tensor:
    """Distances where similarities are meant."""
    return F.cross_entropy(torch.cdist(first, second), torch.arange(len(first)))


@check(
    kind="loss",
    options={"task": ["contrastive"]},
    rejects=[
        wrong(_labels_the_wrong_way, PAIRS, "margin", inputs=PAIR_INPUTS),
        wrong(_margin_of_the_square, PAIRS, "margin", inputs=PAIR_INPUTS),
        wrong(_only_pushes, PAIRS, "margin", inputs=PAIR_INPUTS),
        wrong(_by_the_first_axis, PAIRS, "margin", inputs=PAIR_INPUTS),
        wrong(_info_nce_with_a_roll, {"task": "contrastive", "sizes": {"b": [3, 9]}}),
        wrong(_info_nce_of_distances, {"task": "contrastive", "sizes": {"b": [3, 9]}}),
    ],
    accepts=[
        wrong(_contrastive, PAIRS, "margin", inputs=PAIR_INPUTS),
        wrong(_info_nce, {"task": "contrastive", "sizes": {"b": [3, 9], "d": [2, 9]}},
              "batch_coupled"),
        Subject(
            name="torch_cosine_embedding",
            target="torch.nn:CosineEmbeddingLoss",
            kind="loss",
            inputs=SIGNED_INPUTS,
            options={"task": "contrastive", "similar": 1, "sizes": {"d": [2, 9]}},
        ),
    ],
    dtypes=["float64"],
    regimes=["normal"],
)  # fmt: skip
def alike_are_pulled_together(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Pairs that are alike lose least where they coincide, and more the further they are apart.

    At distances from a fiftieth to five times the size of a vector, along directions orthogonal to
    the first, so that lengths and angles both grow; `similar` is the label that means alike.
    Without labels the rows of a batch are alike pair by pair, and the others not: pairs that
    nearly coincide lose less than the same vectors exchanged among rows.
    Source: Hadsell, Chopra & LeCun, CVPR 2006, §2.1.
    """
    pairs = Pairs(subject, case)
    labels = pairs.labels(alike=True)
    if pairs.label is not None or len(pairs.anchor) < 2:
        values = [pairs.value(pairs.anchor, pairs.apart(d), labels=labels) for d in (0.0, *STEPS)]
        yield rises(
            "loss of pairs that are alike, by their distance", values,
            "what is alike is not pulled together: is the label the right way round? see similar",
        )  # fmt: skip
    else:
        near = pairs.apart(0.1)
        matched = pairs.value(pairs.anchor, near, labels=labels)
        exchanged = pairs.value(pairs.anchor, near.roll(1, 0), labels=labels)
        yield rises("loss of matched pairs, then of exchanged ones", [matched, exchanged], "")


@check(
    kind="loss",
    options={"task": ["contrastive"], "similar": True},
    rejects=[
        wrong(_labels_the_wrong_way, PAIRS, "margin", inputs=PAIR_INPUTS),
        wrong(_margin_without_a_hinge, PAIRS, "margin", inputs=PAIR_INPUTS),
        wrong(_margin_of_the_square, PAIRS, "margin", inputs=PAIR_INPUTS),
        wrong(_only_pulls, PAIRS, "margin", inputs=PAIR_INPUTS),
        wrong(_by_the_first_axis, PAIRS, "margin", inputs=PAIR_INPUTS),
    ],
    accepts=[
        wrong(_contrastive, PAIRS, "margin", inputs=PAIR_INPUTS),
        Subject(
            name="torch_cosine_embedding",
            target="torch.nn:CosineEmbeddingLoss",
            kind="loss",
            inputs=SIGNED_INPUTS,
            traits=frozenset({"margin"}),
            options={"task": "contrastive", "similar": 1, "margin": 0.0, "sizes": {"d": [2, 9]}},
        ),
    ],
    dtypes=["float64"],
    regimes=["normal"],
)  # fmt: skip
def others_are_pushed_apart(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Pairs that are not alike lose less the further they are apart; beyond a margin nothing.

    With the trait margin the loss of opposite vectors, fifty margins away, is exactly 0, and so is
    its gradient; at coinciding vectors the gradient is finite. Source: Hadsell, Chopra & LeCun,
    CVPR 2006, eq. 4.
    """
    pairs = Pairs(subject, case)
    labels = pairs.labels(alike=False)
    margin = pairs.margin
    unit = 1.0 if not margin else margin / pairs.size  # a margin of lengths, or of angles
    distances = sorted({d * factor for d in STEPS for factor in (1.0, unit)})
    steps = [-pairs.value(pairs.anchor, pairs.apart(d), labels=labels) for d in distances]
    yield rises(
        "minus the loss of pairs that are not alike, by their distance", steps,
        "what is not alike is not pushed apart: is the label the right way round? see similar",
    )  # fmt: skip
    if "margin" in subject.traits:
        yield from nothing_beyond(pairs, [pairs.anchor, pairs.opposite()], labels)
    slopes = pairs.slopes(pairs.anchor, pairs.anchor.clone(), labels=labels)
    yield lost(slopes, "gradient of coinciding vectors")
