"""Class weights: each sample counts by the weight of its class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.agreement import agreement
from dlcheck.checks.loss.broken import CLASSES, wrong
from dlcheck.checks.loss.ignored import IGNORING
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _weights_squared(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    return F.cross_entropy(prediction, target, weight=None if weight is None else weight.square())


def _weights_the_logits(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    return F.cross_entropy(prediction if weight is None else prediction * weight, target)


def _weights_by_prediction(
    prediction: Tensor, target: Tensor, weight: Tensor | None = None
) -> Tensor:
    rows = F.cross_entropy(prediction, target, reduction="none")
    return rows.mean() if weight is None else (rows * weight[prediction.argmax(-1)]).mean()


def _weights_of_other_classes(
    prediction: Tensor, target: Tensor, weight: Tensor | None = None
) -> Tensor:
    return F.cross_entropy(prediction, target, weight=None if weight is None else weight.roll(1))


def _divides_by_rows(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    return F.cross_entropy(prediction, target, weight=weight, reduction="sum") / len(target)


_WEIGHTED = {**CLASSES, "class_weight": "weight", "reduction": "mean"}


@check(
    kind="loss",
    needs={"weighted"},
    options={"class_weight": True, "task": ["classification", "segmentation", "sequence"]},
    rejects=[
        wrong(_weights_squared, _WEIGHTED, "weighted"),
        wrong(_weights_the_logits, _WEIGHTED, "weighted"),
        wrong(_weights_by_prediction, _WEIGHTED, "weighted"),
        wrong(_weights_of_other_classes, _WEIGHTED, "weighted"),
        wrong(_divides_by_rows, {**_WEIGHTED, "denominator": "weights"}, "weighted"),
    ],
    accepts=[
        Subject(
            name="torch_weighted",
            target="torch.nn:CrossEntropyLoss",
            kind="loss",
            args={"label_smoothing": 0.1},
            traits=frozenset({"weighted", "smoothed", "masked"}),
            options={**IGNORING, "class_weight": "weight", "denominator": "weights"},
        ),
        wrong(_divides_by_rows, {**_WEIGHTED, "denominator": "rows"}, "weighted"),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "ties", "ignored"],
)
def class_weights_count_as_declared(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Weights of 1 are no weights, and the loss is the weighted mean of what each sample loses.

    Three times the weights leave a mean over the weights, and triple a sum or a mean over rows,
    as `denominator` says (either, where it does not). With weight 0 for a class its samples have
    no influence, unless targets are smoothed. The bound is rounding.
    Source: torch.nn.CrossEntropyLoss, the formula of its documentation.
    """
    meaning = Meaning(subject, case)
    if not meaning.has_labels:
        raise NotApplicable("its target is no label")
    name = str(subject.options["class_weight"])
    classes = meaning.inputs[meaning.prediction].shape[meaning.class_axis]
    ones = torch.ones(classes, dtype=case.dtype, device=case.device)

    def weighted(weight: Tensor | None) -> Meaning:
        return Meaning(_with_argument(subject, name, weight), case)

    plain = weighted(None)
    whole, room = plain.answer({}), plain.call.room()()[0]
    size = float(whole.abs().sum()) or 1.0
    yield agreement("loss with weights of 1", weighted(ones).answer({}), whole, room, signal=size)
    u = torch.rand(classes, generator=case.generator("weights"), dtype=torch.float64)
    weight = (0.5 + 2 * u).to(ones)
    one = weighted(weight)
    base, room = one.answer({}), one.call.room()()[0]
    three = weighted(3 * weight).answer({})
    stated = subject.options.get("denominator")
    how = subject.options.get("reduction")
    factors = {"weights": [1.0], "rows": [3.0], "valid": [3.0]}.get(str(stated), [1.0, 3.0])
    factors = [3.0] if how in ("sum", "none") else factors
    found = [
        agreement(
            "loss with three times the weights", three, f * base, f * room,
            signal=float(base.abs().sum()) or 1.0,
            cause="weights do not count in proportion; see denominator",
        )
        for f in factors
    ]  # fmt: skip
    yield min(found, key=lambda piece: piece.tightness)
    if "smoothed" not in subject.traits:
        if (
            meaning.task == "classification"
            and how in ("mean", "sum")
            and "batch_coupled" not in (subject.traits)
        ):
            yield from _weighted_mean(plain, one, weight, str(stated or ""), str(how))
        yield from _without_a_class(meaning, weighted, weight)


_FEW = 6  # samples whose losses are asked for one by one


def _weighted_mean(
    plain: Meaning, weighted: Meaning, weight: Tensor, stated: str, how: str
) -> Iterator[Evidence]:
    """Σ wᵢ lᵢ over Σ wᵢ or n, lᵢ being what the i-th sample loses alone and without weights."""
    axes = plain.batch
    target = plain.inputs[plain.target]
    rows = torch.nonzero(~plain.ignored_of(target)).flatten()[:_FEW]
    if target.dim() != 1 or not len(rows):
        return

    def of(meaning: Meaning, chosen: Tensor) -> Tensor:
        return meaning.answer(
            {n: meaning.inputs[n].index_select(axis, chosen) for n, axis in axes.items()}
        )

    weights = weight.double()[target[rows]]
    each = torch.stack([of(plain, row[None]).double().reshape(()) for row in rows])
    total = (weights * each).sum()
    divisors = {"weights": weights.sum(), "rows": torch.tensor(float(len(rows)))}
    divisors["valid"] = divisors["rows"]
    wanted = [divisors[stated]] if stated in divisors else list(divisors.values())
    got = of(weighted, rows)
    room = float(weighted.call.room()()[0].sum()) + float(
        plain.call.room()()[0].sum() * weight.double().max() * len(rows)
    )
    found = [
        agreement(
            "weighted loss against the weighted mean of the samples' own",
            got, (total if how == "sum" else total / divisor.to(total)).to(got).reshape(got.shape),
            room, signal=float(got.abs().sum()) or 1.0,
            cause="a sample does not count by the weight of its target's class",
        )
        for divisor in wanted
    ]  # fmt: skip
    yield min(found, key=lambda piece: piece.tightness)


def _without_a_class(meaning: Meaning, weighted: Any, weight: Tensor) -> Iterator[Evidence]:
    """A class of weight 0: what is predicted for its samples changes nothing."""
    target = meaning.inputs[meaning.target]
    counted = ~meaning.ignored_of(target)
    if not bool(counted.any()):
        raise NotApplicable("no target counts")
    chosen = int(target[counted].flatten()[0])
    of_class = target == chosen
    if bool((of_class | ~counted).all()):
        return  # nothing else is left to count
    zeroed = weight.clone()
    zeroed[chosen] = 0
    subject = weighted(zeroed)
    z = meaning.inputs[meaning.prediction]
    noise = torch.randn(z.shape, generator=meaning.case.generator("class"), dtype=torch.float64)
    at = meaning.without_class_axis(of_class).unsqueeze(meaning.class_axis).expand(z.shape)
    moved = torch.where(at, noise.to(z), z)
    if meaning.form != "logits":
        return
    before = subject.answer({})
    yield agreement(
        "loss with other predictions for samples of a class of weight 0",
        subject.answer({meaning.prediction: moved}), before, subject.call.room()()[0],
        signal=float(before.abs().sum()) or 1.0,
        cause="the weights are not those of the targets' classes",
    )  # fmt: skip


def _with_argument(subject: Implementation, name: str, value: Any) -> Implementation:
    """The same subject with one more argument, or with what it is by default."""
    args = {key: given for key, given in subject.args.items() if key != name}
    if value is not None:
        args[name] = value
    return replace(subject, args=args).rebuilt()
