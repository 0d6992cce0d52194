"""What a loss averages over: the rows of a batch, each counted once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.agreement import agreement
from dlcheck.checks.axes import axes_of
from dlcheck.checks.loss.broken import EACH, wrong
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_KNOWN = ("mean", "sum", "none", "batchmean")


def _sum_over_the_batch(prediction: Tensor, target: Tensor) -> Tensor:
    """Averaged over the features, summed over the rows."""
    return (prediction - target).square().mean(-1).sum()


def _divides_by_a_constant(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().sum() / 32


def _root_of_the_sum(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().sum().sqrt()


def _divides_by_one_less(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean(-1).sum() / max(len(prediction) - 1, 1)


def _leaves_the_last_row(prediction: Tensor, target: Tensor) -> Tensor:
    rows = (prediction - target).square().mean(-1)
    return rows[:-1].sum() / len(rows) if len(rows) > 1 else rows.mean()


def _ignored_rows_count(prediction: Tensor, target: Tensor, ignore_index: int = -100) -> Tensor:
    total = F.cross_entropy(prediction, target, ignore_index=ignore_index, reduction="sum")
    return total / len(target)


def reduces(prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    rows = (prediction - target).square()
    return rows if reduction == "none" else rows.sum() if reduction == "sum" else rows.mean()


def _reduces_to_another_mean(prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """The mean is of rows, the elements of which are summed; `none` gives elements."""
    if reduction == "mean":
        return (prediction - target).square().sum(0).mean()
    return reduces(prediction, target, reduction)


def _none_that_reduces(prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    return reduces(prediction, target, "mean" if reduction == "none" else reduction)


def _sum_that_stays_open(prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Knows `mean` alone: asked for a sum it gives the rows."""
    rows = (prediction - target).square().mean(-1)
    return rows.mean() if reduction == "mean" else rows


MEAN: dict[str, Any] = {**EACH, "reduction": "mean"}
ARGUMENT: dict[str, Any] = {**EACH, "reduction": "reduction"}
_IGNORING: dict[str, Any] = {"task": "classification", "reduction": "mean", "denominator": "valid",
             "ignore_index": "ignore_index", "sizes": {"k": [2, 9]}}  # fmt: skip


@check(
    kind="loss",
    options={"reduction": True},
    forbids={"batch_coupled", "stochastic"},
    rejects=[
        wrong(_sum_over_the_batch, MEAN),
        wrong(_divides_by_a_constant, MEAN),
        wrong(_root_of_the_sum, {**EACH, "reduction": "sum"}),
        wrong(_divides_by_one_less, MEAN),
        wrong(_leaves_the_last_row, MEAN),
        wrong(_ignored_rows_count, _IGNORING, "masked"),
        wrong(_reduces_to_another_mean, ARGUMENT),
        wrong(_none_that_reduces, ARGUMENT),
        wrong(_sum_that_stays_open, ARGUMENT),
    ],
    accepts=[
        Subject(name="reduces", target=reduces, kind="loss", options=ARGUMENT),
        Subject(
            name="torch_cross_entropy",
            target="torch.nn:CrossEntropyLoss",
            kind="loss",
            args={"ignore_index": 1},
            traits=frozenset({"masked", "convex"}),
            options={
                "task": "classification",
                "reduction": "reduction",
                "denominator": "valid",
                "ignore_index": "ignore_index",
                "sizes": {"k": [2, 9]},
            },
        ),
        Subject(
            name="torch_kl",
            target="torch.nn:KLDivLoss",
            kind="loss",
            args={"reduction": "batchmean"},
            options={
                "task": "distribution",
                "prediction": "log_probabilities",
                "reduction": "batchmean",
            },
        ),
        Subject(
            name="sum_of_means",
            target=_sum_over_the_batch,
            kind="loss",
            options={**EACH, "reduction": {"b": "sum", "d": "mean"}},
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "ties", "constant", "ignored", "uniform"],
)
def reductions_agree(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A mean is the sum over the count, `none` gives each sample's own, and batches recombine.

    Split in two along the batch, n L = n₁ L₁ + n₂ L₂ for a mean, L = L₁ + L₂ for a sum, and the
    losses of `none` are those of the parts; the batch twice over has the same mean and twice the
    sum. n counts rows, valid targets or the weights of their classes, as `denominator` says. Where
    `reduction` names an argument, its values mean, sum and none are tried and held against each
    other: Σ none = sum = n · mean. Per dim, `{ b = "mean", d = "sum" }` is split along each. A
    loss whose rows are not separate terms declares batch_coupled, and is not judged.
    The bound is rounding. Source: the definition of a mean.
    """
    stated = subject.options["reduction"]
    if isinstance(stated, Mapping):
        for dim, how in stated.items():
            yield from _splits(Meaning(subject, case), str(dim), str(how))
        return
    if stated in _KNOWN:
        yield from _of_one(Meaning(subject, case), str(stated))
        return
    subject.value_of(str(stated), "option reduction")
    built: dict[str, Meaning] = {}
    for how in ("none", "sum", "mean"):
        try:
            built[how] = Meaning(subject.rebuilt(**{str(stated): how}), case)
            built[how].answer({})
        except SubjectRaised:
            built.pop(how, None)
    if not built:
        raise NotApplicable(f"takes none of mean, sum and none for {stated}")
    for how, meaning in built.items():
        yield from _of_one(meaning, how)
    yield from _between(built)


def _of_one(meaning: Meaning, how: str) -> Iterator[Evidence]:
    answer = meaning.answer({})
    if how != "none" and answer.numel() != 1:
        yield _shape(f"a loss of reduction {how}", "one number", answer)
        return
    yield from _splits(meaning, meaning.batch_name, "mean" if how == "batchmean" else how)


def _shape(what: str, wanted: str, answer: Tensor) -> Evidence:
    return Evidence(
        error=math.inf, bound=0.0, signal=1.0, what=what, expected=wanted,
        got=f"shape {tuple(answer.shape)}",
    )  # fmt: skip


def _splits(meaning: Meaning, dim: str, how: str) -> Iterator[Evidence]:
    """Along a dim the whole is what its two parts say."""
    axes = axes_of(meaning.case, dim)
    size = meaning.case.sizes.get(dim, 0)
    if not axes or size < 1:
        raise NotApplicable(f"no input has a dim {dim!r}")
    whole = meaning.answer({})
    room = meaning.call.room()()[0]
    if size > 1:
        cut = 1 + meaning.case.recipe.seed % (size - 1)
        parts = [_part(meaning, axes, slice(None, cut)), _part(meaning, axes, slice(cut, None))]
        answers = [meaning.answer(part) for part in parts]
        if how == "none":
            yield _in_order(meaning, axes, whole, answers, room)
        elif "class_balanced" not in meaning.subject.traits:
            yield from _recombined(meaning, dim, how, whole, parts, answers, room)
    if how != "none":
        twice = {name: torch.cat([meaning.inputs[name]] * 2, axis) for name, axis in axes.items()}
        factor = 1.0 if how == "mean" else 2.0
        yield agreement(
            f"loss of the batch twice over, along {dim}",
            meaning.answer(twice), factor * whole, factor * room,
            signal=float(whole.abs().sum()) or 1.0,
            cause=f"the reduction along {dim} is not {how}, as declared",
        )  # fmt: skip


def _part(meaning: Meaning, axes: Mapping[str, int], rows: slice) -> dict[str, Tensor]:
    return {
        name: meaning.inputs[name][(slice(None),) * axis + (rows,)].contiguous()
        for name, axis in axes.items()
    }


def _in_order(
    meaning: Meaning, axes: Mapping[str, int], whole: Tensor, parts: list[Tensor], room: Tensor
) -> Evidence:
    axis = axes.get(meaning.prediction, 0)
    size = meaning.inputs[meaning.prediction].shape[axis]
    found = next((a for a in range(whole.dim()) if whole.shape[a] == size), None)
    if found is None or any(p.dim() != whole.dim() for p in parts):
        return _shape("a loss without reduction", f"one value for each of {size} samples", whole)
    return agreement(
        "losses of the samples against those of two parts of the batch",
        torch.cat(parts, found), whole, room, signal=float(whole.abs().amax()) or 1.0,
    )  # fmt: skip


def _recombined(
    meaning: Meaning,
    dim: str,
    how: str,
    whole: Tensor,
    parts: list[dict[str, Tensor]],
    answers: list[Tensor],
    room: Tensor,
) -> Iterator[Evidence]:
    best: Evidence | None = None
    for name, counts in _counts(meaning, dim, how, parts).items():
        total = sum(counts)
        if any(count == 0 for count in counts):
            raise NotApplicable("a part of the batch has no valid target")
        shares = [count / total for count in counts] if how == "mean" else [1.0, 1.0]
        expected = sum(s * a.double() for s, a in zip(shares, answers, strict=True))
        found = agreement(
            f"loss of the whole against its two parts by {name}, along {dim}",
            whole, torch.as_tensor(expected).to(whole), room,
            signal=float(whole.abs().sum()) or 1.0,
            cause=f"averages over something else than {name}; see reduction and denominator",
        )  # fmt: skip
        if best is None or found.tightness < best.tightness:
            best = found
    if best is not None:
        yield best


def _counts(
    meaning: Meaning, dim: str, how: str, parts: list[dict[str, Tensor]]
) -> dict[str, list[float]]:
    """How much each part counts, for each denominator that the declaration leaves open."""
    axis = axes_of(meaning.case, dim).get(meaning.prediction, 0)
    rows = [float(part[meaning.prediction].shape[axis]) for part in parts]
    stated = meaning.subject.options.get("denominator")
    found = {"rows": rows}
    if how == "mean" and "masked" in meaning.subject.traits:
        found["valid"] = [float(valid_of(meaning, part).sum()) for part in parts]
    if how == "mean" and (weights := weights_of(meaning)) is not None:
        found["weights"] = [_weight(meaning, part, weights) for part in parts]
    return {stated: found[stated]} if stated in found else found


def valid_of(meaning: Meaning, inputs: Mapping[str, Tensor]) -> Tensor:
    """Which targets count: those that are not the ignored label, and that a mask keeps."""
    target = inputs.get(meaning.target, meaning.inputs[meaning.target])
    valid = ~meaning.ignored_of(target)
    for name, spec in meaning.case.specs.items():
        if spec.element == "mask" and name != meaning.target:
            mask = inputs.get(name, meaning.inputs[name])
            valid = valid & mask if mask.shape == valid.shape else mask
    return valid


def weights_of(meaning: Meaning) -> Tensor | None:
    """The class weights that the subject was built with."""
    name = meaning.subject.options.get("class_weight")
    given = meaning.subject.args.get(name) if isinstance(name, str) else None
    return given if isinstance(given, Tensor) else None


def _weight(meaning: Meaning, inputs: Mapping[str, Tensor], weights: Tensor) -> float:
    target = inputs.get(meaning.target, meaning.inputs[meaning.target])
    valid = valid_of(meaning, inputs)
    return float(weights.double()[target.clamp(0, len(weights) - 1)][valid].sum())


def _between(built: Mapping[str, Meaning]) -> Iterator[Evidence]:
    """Σ none = sum, and sum = n · mean. What is not one number has failed already."""
    if "none" not in built or "sum" not in built:
        return
    each, total = built["none"].answer({}), built["sum"].answer({})
    if total.numel() != 1:
        return
    room = built["sum"].call.room()()[0]
    yield agreement(
        "sum of the losses without reduction against reduction sum",
        each.double().sum().to(total).reshape(total.shape), total, room,
        signal=float(total.abs().sum()) or 1.0,
    )  # fmt: skip
    if "mean" not in built or "class_balanced" in built["mean"].subject.traits:
        return
    mean, meaning = built["mean"].answer({}), built["mean"]
    if mean.numel() != 1:
        return
    share = _elements_per_row(each, meaning)
    best: Evidence | None = None
    whole = [dict(meaning.inputs)]
    for name, (count,) in _counts(meaning, meaning.batch_name, "mean", whole).items():
        per = share if name == "rows" else 1.0
        if not count:
            return
        found = agreement(
            f"the mean against the sum over the count of {name}",
            mean, (total.double() / (count * per)).to(mean), meaning.call.room()()[0],
            signal=float(mean.abs().sum()) or 1.0,
            cause="mean and sum do not differ by the count of what is averaged",
        )  # fmt: skip
        if best is None or found.tightness < best.tightness:
            best = found
    if best is not None:
        yield best


def _elements_per_row(each: Tensor, meaning: Meaning) -> float:
    axis = meaning.batch.get(meaning.prediction, 0)
    return each.numel() / max(meaning.inputs[meaning.prediction].shape[axis], 1)
