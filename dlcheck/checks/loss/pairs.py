"""Pairs and triplets: what belongs together is pulled, what does not is pushed, up to a margin."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.loss.broken import wrong
from dlcheck.checks.still import Still
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

_STEPS = (0.02, 0.1, 0.5, 1.0, 2.0, 5.0)  # distances, in units of the size of a vector
_FAR = 50.0  # × the margin

PAIRS: dict[str, Any] = {"task": "contrastive", "similar": 1, "margin": "margin"}
_PAIR_INPUTS = {
    "first": "float b d",
    "second": "float b d",
    "similar": "int[0:2] b",
}
_SIGNED_INPUTS = {**_PAIR_INPUTS, "similar": "signed b"}
TRIPLETS: dict[str, Any] = {"task": "triplet", "margin": "margin"}


class Pairs:
    """A loss of pairs or triplets, called with vectors at chosen distances from each other."""

    def __init__(self, subject: Implementation, case: Case) -> None:
        self.subject, self.case = subject, case
        self.call = Still(subject, case)
        self.inputs = dict(zip(case.inputs, case.fresh(), strict=True))
        self.names = [name for name in case.floating if case.specs[name].dims]
        needed = 3 if self.is_triplet else 2
        vectors = [n for n in self.names if case.specs[n].dims == case.specs[self.names[0]].dims]
        if len(vectors) < needed:
            raise NotApplicable(f"does not take {needed} inputs of one shape")
        self.vectors = vectors[:needed]
        anchor = self.inputs[self.vectors[0]].double()
        if anchor.dim() < 2 or anchor.shape[-1] < 2 or not anchor.numel():
            raise NotApplicable("vectors of one element have no angle between them")
        # A row of zeros has no direction for those that compare cosines.
        z = torch.randn(anchor.shape, generator=case.generator("anchor"), dtype=torch.float64)
        self.anchor = z.to(anchor.device)
        self.size = math.sqrt(anchor.shape[-1])

    @property
    def is_triplet(self) -> bool:
        return self.subject.options.get("task") == "triplet"

    @property
    def label(self) -> str | None:
        """The input that says which pairs are alike."""
        rest = [n for n in self.case.inputs if n not in self.vectors]
        return rest[0] if rest and not self.is_triplet else None

    @property
    def margin(self) -> float | None:
        found = self.subject.argument("margin")
        return None if found is None else float(found)

    def labels(self, *, alike: bool) -> dict[str, Tensor]:
        """Every pair labelled alike, or not."""
        name = self.label
        if name is None:
            if not alike:
                raise NotApplicable("is shown no pairs that are not alike")
            return {}
        similar = self.subject.options.get("similar")
        if similar is None:
            raise NotApplicable('which label means "alike" is not known; declare similar')
        spec = self.case.specs[name]
        low = (
            spec.low
            if spec.low is not None
            else (-1.0 if spec.element in ("signed", "sign") else 0.0)
        )
        others = [v for v in (low, 1.0, 0.0) if v != float(similar)]
        value = float(similar) if alike else others[0]
        return {name: torch.full_like(self.inputs[name], value)}

    def apart(self, distance: float, salt: str = "apart") -> Tensor:
        """Vectors at that distance from the anchors, in units of a vector's size.

        The way leads along a direction that is orthogonal to the anchor, so that the angle
        grows with the distance.
        """
        generator = self.case.generator(salt)
        z = torch.randn(self.anchor.shape, generator=generator, dtype=torch.float64)
        z = z.to(self.anchor.device)
        unit = self.anchor / self.anchor.norm(dim=-1, keepdim=True)
        z = z - (z * unit).sum(-1, keepdim=True) * unit
        z = z / z.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        found: Tensor = self.anchor + distance * self.size * z
        return found

    def opposite(self) -> Tensor:
        """Far beyond any margin by length and by angle: −(50 margins) × the anchor."""
        return -_FAR * (1 + abs(self.margin or 1.0)) * self.anchor

    def value(self, *vectors: Tensor, labels: dict[str, Tensor] | None = None) -> float:
        return float(self._answer(self.call, vectors, labels or {}).double().sum())

    def _answer(self, call: Still, vectors: Sequence[Tensor], labels: dict[str, Tensor]) -> Tensor:
        given = dict(zip(self.vectors, vectors, strict=True))
        inputs = {n: given.get(n, labels.get(n, x)).to(x) for n, x in self.inputs.items()}
        return call(*inputs.values())[0]

    def slopes(self, *vectors: Tensor, labels: dict[str, Tensor]) -> list[Tensor]:
        """The gradients of the loss by each vector."""
        call = Still(self.subject, self.case, differentiable=True)
        leaves = [
            v.to(self.inputs[n]).detach().clone().requires_grad_()
            for n, v in zip(self.vectors, vectors, strict=True)
        ]
        given = dict(zip(self.vectors, leaves, strict=True))
        inputs = {n: given[n] if n in given else labels.get(n, x).to(x)
                  for n, x in self.inputs.items()}  # fmt: skip
        answer = call(*inputs.values())[0].sum()
        if not answer.requires_grad:
            return [torch.zeros_like(leaf) for leaf in leaves]
        found = gradients([answer], leaves, [torch.ones_like(answer)])
        return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]


def _rises(what: str, values: Sequence[float], cause: str) -> Evidence:
    """The values never fall, and rise in all; ties within rounding."""
    reach = max(map(abs, values)) or 1.0
    falls = [a - b for a, b in itertools.pairwise(values)]
    worst = max((f if f == f else math.inf for f in falls), default=0.0)
    bound = 64 * 2.0**-52 * reach * len(values)
    flat = not values[-1] - values[min(1, len(values) - 2)] > 1e-6 * reach
    return Evidence(
        error=math.inf if flat else max(worst, 0.0),
        bound=bound,
        signal=reach,
        what=what,
        expected="values that rise",
        got=", ".join(f"{value:.5g}" for value in values),
        cause=cause if flat or worst > bound else "",
    )


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
        wrong(_labels_the_wrong_way, PAIRS, "margin", inputs=_PAIR_INPUTS),
        wrong(_margin_of_the_square, PAIRS, "margin", inputs=_PAIR_INPUTS),
        wrong(_only_pushes, PAIRS, "margin", inputs=_PAIR_INPUTS),
        wrong(_by_the_first_axis, PAIRS, "margin", inputs=_PAIR_INPUTS),
        wrong(_info_nce_with_a_roll, {"task": "contrastive", "sizes": {"b": [3, 9]}}),
        wrong(_info_nce_of_distances, {"task": "contrastive", "sizes": {"b": [3, 9]}}),
    ],
    accepts=[
        wrong(_contrastive, PAIRS, "margin", inputs=_PAIR_INPUTS),
        wrong(_info_nce, {"task": "contrastive", "sizes": {"b": [3, 9], "d": [2, 9]}},
              "batch_coupled"),
        Subject(
            name="torch_cosine_embedding",
            target="torch.nn:CosineEmbeddingLoss",
            kind="loss",
            inputs=_SIGNED_INPUTS,
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
        values = [pairs.value(pairs.anchor, pairs.apart(d), labels=labels) for d in (0.0, *_STEPS)]
        yield _rises(
            "loss of pairs that are alike, by their distance", values,
            "what is alike is not pulled together: is the label the right way round? see similar",
        )  # fmt: skip
    else:
        near = pairs.apart(0.1)
        matched = pairs.value(pairs.anchor, near, labels=labels)
        exchanged = pairs.value(pairs.anchor, near.roll(1, 0), labels=labels)
        yield _rises("loss of matched pairs, then of exchanged ones", [matched, exchanged], "")


@check(
    kind="loss",
    options={"task": ["contrastive"], "similar": True},
    rejects=[
        wrong(_labels_the_wrong_way, PAIRS, "margin", inputs=_PAIR_INPUTS),
        wrong(_margin_without_a_hinge, PAIRS, "margin", inputs=_PAIR_INPUTS),
        wrong(_margin_of_the_square, PAIRS, "margin", inputs=_PAIR_INPUTS),
        wrong(_only_pulls, PAIRS, "margin", inputs=_PAIR_INPUTS),
        wrong(_by_the_first_axis, PAIRS, "margin", inputs=_PAIR_INPUTS),
    ],
    accepts=[
        wrong(_contrastive, PAIRS, "margin", inputs=_PAIR_INPUTS),
        Subject(
            name="torch_cosine_embedding",
            target="torch.nn:CosineEmbeddingLoss",
            kind="loss",
            inputs=_SIGNED_INPUTS,
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
    distances = sorted({d * factor for d in _STEPS for factor in (1.0, unit)})
    steps = [-pairs.value(pairs.anchor, pairs.apart(d), labels=labels) for d in distances]
    yield _rises(
        "minus the loss of pairs that are not alike, by their distance", steps,
        "what is not alike is not pushed apart: is the label the right way round? see similar",
    )  # fmt: skip
    if "margin" in subject.traits:
        yield from _nothing_beyond(pairs, [pairs.anchor, pairs.opposite()], labels)
    slopes = pairs.slopes(pairs.anchor, pairs.anchor.clone(), labels=labels)
    yield _lost(slopes, "gradient of coinciding vectors")


def _nothing_beyond(
    pairs: Pairs, vectors: Sequence[Tensor], labels: dict[str, Tensor]
) -> Iterator[Evidence]:
    value = pairs.value(*vectors, labels=labels)
    slopes = pairs.slopes(*vectors, labels=labels)
    largest = max(float(g.abs().amax()) for g in slopes)
    yield Evidence(
        error=abs(value) + largest if value == value else math.nan,
        bound=0.0,
        signal=1.0,
        what="loss and gradient beyond the margin",
        expected="0",
        got=f"{value:.6g}, and {largest:.3g}",
    )


def _lost(slopes: Sequence[Tensor], what: str) -> Evidence:
    count = sum(int((~torch.isfinite(g)).sum()) for g in slopes)
    return Evidence(
        error=float(count),
        bound=0.0,
        signal=float(max(sum(g.numel() for g in slopes), 1)),
        unit="elements",
        what=f"{what}: elements that are not finite",
        cause="a root or norm at 0: add an ε under the root" if count else "",
    )


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
    positives = [pairs.value(anchor, near(d), middle) for d in (0.0, *_STEPS)]
    yield _rises("loss by the distance of the positive", positives, "the positive is not pulled")
    far: Callable[[float], Tensor] = lambda d: 2 * anchor - pairs.apart(d * unit)  # noqa: E731
    negatives = [-pairs.value(anchor, near(2.0), far(d)) for d in _STEPS]
    yield _rises(
        "minus the loss by the distance of the negative", negatives, "the negative is not pushed"
    )
    if "margin" in subject.traits:
        yield from _nothing_beyond(pairs, [anchor, near(0.02), pairs.opposite()], {})
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
    yield _lost(pairs.slopes(anchor, anchor.clone(), anchor.clone(), labels={}),
                "gradient of coinciding vectors")  # fmt: skip
