"""A triplet ranks its pairs: the positive is pulled, the negative pushed, up to a margin."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from dlcheck.checks.loss.broken import wrong
from dlcheck.checks.loss.vectors import STEPS, TRIPLETS, Pairs, lost, nothing_beyond, rises
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    near = (anchor - positive).square().sum(-1).add(1e-12).sqrt()
    far = (anchor - negative).square().sum(-1).add(1e-12).sqrt()
    return (near - far + margin).clamp_min(0).mean()


def _exchanged(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    return _triplet(anchor, negative, positive, margin)


def _no_hinge(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    near = (anchor - positive).square().sum(-1)
    return (near - (anchor - negative).square().sum(-1) + margin).mean()


def _subtracts_the_margin(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0
) -> Tensor:
    return _triplet(anchor, positive, negative, -margin)


def _negative_to_the_positive(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0
) -> Tensor:
    """The anchor is never asked."""
    return _triplet(positive.detach(), positive, negative, margin)


def _root_of_nothing(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0
) -> Tensor:
    near = (anchor - positive).square().sum(-1).sqrt()
    far = (anchor - negative).square().sum(-1).sqrt()
    return (near - far + margin).clamp_min(0).mean()


@check(
    kind="loss",
    options={"task": ["triplet"]},
    rejects=[
        wrong(_exchanged, TRIPLETS, "margin"),
        wrong(_no_hinge, TRIPLETS, "margin"),
        wrong(_subtracts_the_margin, TRIPLETS, "margin"),
        wrong(_negative_to_the_positive, TRIPLETS, "margin"),
        wrong(_root_of_nothing, TRIPLETS, "margin"),
    ],
    accepts=[
        wrong(_triplet, TRIPLETS, "margin"),
        Subject(
            name="torch_triplet_with_swap",
            target="torch.nn:TripletMarginLoss",
            kind="loss",
            args={"swap": True, "margin": 0.7},
            traits=frozenset({"margin"}),
            options=TRIPLETS,
        ),
    ],
    dtypes=["float64"],
    regimes=["normal"],
)
def a_triplet_ranks_its_pairs(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The loss grows as the positive leaves the anchor, and falls as the negative does.

    Where both are equally far the loss is the margin, and beyond it nothing, with the trait margin
    (of a mean over distances); at coinciding vectors the gradient is finite. Source: Schroff,
    Kalenichenko & Philbin, FaceNet, CVPR 2015, eq. 3.
    """
    pairs = Pairs(subject, case)
    margin = pairs.margin or 1.0
    unit = margin / pairs.size
    anchor = pairs.anchor
    middle = pairs.apart(0.5 * unit, "negative")
    near: Callable[[float], Tensor] = lambda d: pairs.apart(d * unit)  # noqa: E731
    positives = [pairs.value(anchor, near(d), middle) for d in (0.0, *STEPS)]
    yield rises("loss by the distance of the positive", positives, "the positive is not pulled")
    far: Callable[[float], Tensor] = lambda d: 2 * anchor - pairs.apart(d * unit)  # noqa: E731
    negatives = [-pairs.value(anchor, near(2.0), far(d)) for d in STEPS]
    yield rises(
        "minus the loss by the distance of the negative", negatives, "the negative is not pushed"
    )
    if "margin" in subject.traits:
        yield from nothing_beyond(pairs, [anchor, near(0.02), pairs.opposite()], {})
        if "similar" not in subject.options and subject.options.get("reduction", "mean") == "mean":
            value, wanted = pairs.value(anchor, near(1.0), 2 * anchor - near(1.0)), margin
            yield Evidence(
                error=abs(value - wanted),
                bound=1e-3 * wanted,  # a guard ε in the root
                signal=wanted,
                what="loss where the negative is as far as the positive",
                expected=f"the margin, {wanted:g}",
                got=f"{value:.6g}",
            )
    yield lost(pairs.slopes(anchor, anchor.clone(), anchor.clone(), labels={}),
                "gradient of coinciding vectors")  # fmt: skip
