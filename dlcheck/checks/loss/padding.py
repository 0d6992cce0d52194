"""What is appended as padding, or where nothing is left to count."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.agreement import agreement
from dlcheck.checks.loss.batches import valid_of
from dlcheck.checks.loss.broken import wrong
from dlcheck.checks.loss.ignored import (
    IGNORING,
    MASKED,
    STEPS,
    WITH_MASK,
    counts_ignored_as_class_0,
    has_its_own_index,
    in_form,
    keeps,
    mask_of,
    masks_the_prediction,
    over_classes,
    smooths_ignored_rows,
    with_some_ignored,
    without_gradient,
)
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _zeroes_instead_of_leaving_out(
    prediction: Tensor, target: Tensor, ignore_index: int = -100
) -> Tensor:
    """The ignored rows' losses are 0, and are divided by."""
    rows = F.cross_entropy(prediction, target, ignore_index=ignore_index, reduction="none")
    return rows.mean()


@check(
    kind="loss",
    needs={"masked"},
    options={"reduction": True},
    forbids={"batch_coupled"},
    rejects=[
        wrong(_zeroes_instead_of_leaving_out, IGNORING, "masked"),
        wrong(counts_ignored_as_class_0, IGNORING, "masked"),
        wrong(smooths_ignored_rows, IGNORING, "masked", "smoothed"),
        wrong(has_its_own_index, IGNORING, "masked"),
        wrong(masks_the_prediction, {**MASKED, "reduction": "mean", "denominator": "valid"},
              "masked", inputs=WITH_MASK),
    ],
    accepts=[
        Subject(
            name="torch_smoothed",
            target="torch.nn:CrossEntropyLoss",
            kind="loss",
            args={"label_smoothing": 0.1},
            traits=frozenset({"masked", "smoothed"}),
            options=STEPS,
        ),
        wrong(keeps, {**MASKED, "reduction": "mean", "denominator": "valid"}, "masked",
              inputs=WITH_MASK),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "ties"],
)  # fmt: skip
def padding_changes_nothing(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Appending positions whose target is ignored leaves the loss and every other gradient.

    Rows are appended along the batch, and along the last axis of the targets where they have one
    more. A mean over rows, `denominator = "rows"`, falls by the share of what was appended; where
    no denominator is declared, either is right. Without a reduction the losses of what was there
    stay. Source: padding is no data.
    """
    meaning = Meaning(subject, case)
    if meaning.spec(meaning.target).ignored is None and not mask_of(meaning):
        raise NotApplicable("declares neither ignore_index of labels nor an input that is a mask")
    dims = [dim.name for dim in meaning.spec(meaning.target).dims if dim.name]
    chosen = list(dict.fromkeys([meaning.batch_name, dims[-1]]))
    for dim in chosen:
        yield from _padded(meaning, dim)


def _padded(meaning: Meaning, dim: str) -> Iterator[Evidence]:
    case = meaning.case
    target = meaning.target
    generator = case.generator(f"padding {dim}")
    added = 1 + case.recipe.seed % 3
    longer = dict(meaning.inputs)
    for key, spec in case.specs.items():
        axes = [a for a, d in enumerate(spec.dims) if d.name == dim]
        if not axes:
            continue
        x, axis = meaning.inputs[key], axes[0]
        shape = [*x.shape]
        shape[axis] = added
        longer[key] = torch.cat([x, _filler(meaning, key, x, shape, generator)], axis)
    before, after = meaning.answer({}), meaning.answer(longer)
    room = meaning.call.room()()[0]
    if before.numel() > 1 or after.numel() > 1:
        longer_axes = [a for a in range(before.dim()) if before.shape[a] != after.shape[a]]
        if not longer_axes:
            raise NotApplicable("the shape of the losses does not tell what was appended")
        after = after.narrow(longer_axes[0], 0, before.shape[longer_axes[0]])
        yield _stays(dim, after, before, room)
        return
    valid = valid_of(meaning, meaning.inputs).sum()
    if not int(valid):
        raise NotApplicable("no target is valid")
    share = meaning.inputs[target].numel() / longer[target].numel()
    options = meaning.subject.options
    reduction = options["reduction"]
    how = meaning.subject.argument("reduction") if isinstance(reduction, str) and reduction not in (
        "mean", "sum", "none", "batchmean") else reduction  # fmt: skip
    averages = how in ("mean", "batchmean")
    stated = options.get("denominator")
    expected = {"valid": before}
    if averages and stated in (None, "rows"):
        expected["rows"] = share * before
    if stated == "rows" and averages:
        expected.pop("valid")
    found = [_stays(dim, after, wanted, room) for wanted in expected.values()]
    yield min(found, key=lambda piece: piece.tightness)


def _stays(dim: str, after: Tensor, expected: Tensor, room: Tensor) -> Evidence:
    return agreement(
        f"loss with ignored targets appended along {dim}",
        after, expected.to(after), room, signal=float(expected.abs().sum()) or 1.0,
        cause="what is ignored counts, in the sum or in its divisor; see denominator",
    )  # fmt: skip


def _filler(
    meaning: Meaning, key: str, x: Tensor, shape: list[int], generator: torch.Generator
) -> Tensor:
    """What stands at the appended positions: any prediction, an ignored target, a mask of False."""
    spec = meaning.spec(key)
    if key == meaning.target and spec.ignored is not None:
        return torch.full(shape, spec.ignored, dtype=x.dtype, device=x.device)
    if spec.element == "mask":
        return torch.zeros(shape, dtype=x.dtype, device=x.device)
    if not x.is_floating_point():
        return torch.zeros(shape, dtype=x.dtype, device=x.device)
    z = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (in_form(meaning, z) if key == meaning.prediction else z).to(x)


def _mean_over_what_is_left(prediction: Tensor, target: Tensor, ignore_index: int = -100) -> Tensor:
    """Σ / count: 0/0 where nothing is left, and its gradient ∞ · 0."""
    kept = (target != ignore_index).to(prediction)
    rows = F.cross_entropy(prediction, target.clamp_min(0), reduction="none")
    return (rows * kept).sum() / kept.sum()


def _mean_under_a_mask(prediction: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    return ((prediction - target).square() * keep).sum() / keep.sum()


def _root_under_a_mask(prediction: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    return ((prediction - target) * keep).square().sum().sqrt()


def _counts_per_class(prediction: Tensor, target: Tensor, ignore_index: int = -100) -> Tensor:
    """Each class by its share of the targets."""
    kept = target != ignore_index
    hot = F.one_hot(target.clamp_min(0), prediction.shape[-1]).to(prediction) * kept[:, None]
    share = hot.sum(0) / hot.sum()
    return -(hot * prediction.log_softmax(-1) / (1 + share)).sum() / (1 + hot.sum())


@check(
    kind="loss",
    needs={"masked"},
    rejects=[
        wrong(_mean_over_what_is_left, IGNORING, "masked"),
        wrong(_mean_under_a_mask, MASKED, "masked", inputs=WITH_MASK),
        wrong(_root_under_a_mask, MASKED, "masked", inputs=WITH_MASK),
        wrong(_counts_per_class, IGNORING, "masked"),
    ],
    accepts=[
        Subject(
            name="torch_cross_entropy",
            target="torch.nn:CrossEntropyLoss",
            kind="loss",
            traits=frozenset({"masked"}),
            options=IGNORING,
        ),
        wrong(keeps, MASKED, "masked", inputs=WITH_MASK),
    ],
    dtypes=["float64", "float32"],
    once=True,
)
def ignoring_everything_sends_no_gradient(
    subject: Implementation, case: Case
) -> Iterator[Evidence]:
    """With every target ignored the gradient is 0, not NaN, and a sum is 0.

    One NaN gradient in a thousand steps ends a training. The value of a mean over nothing may be
    NaN, as torch's is, or finite. Source: the sum over an empty set is 0.
    """
    meaning = Meaning(subject, case)
    inputs, dropped = with_some_ignored(meaning)
    ignored = meaning.spec(meaning.target).ignored
    if name := mask_of(meaning):
        inputs[name] = torch.zeros_like(inputs[name])
    else:
        inputs[meaning.target] = torch.full_like(inputs[meaning.target], ignored or 0)
    everywhere = over_classes(meaning, torch.ones_like(dropped))
    yield without_gradient(meaning, inputs, everywhere)
    value = float(meaning.answer(inputs).double().sum())
    averages = subject.options.get("reduction") != "sum"
    yield Evidence(
        error=0.0 if value == 0 or (averages and not math.isinf(value)) else math.inf,
        bound=0.0,
        signal=1.0,
        what="loss where every target is ignored",
        expected="0",
        got=f"{value:.6g}",
    )
