"""What is ignored, padded or masked out has no influence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.agreement import agreement
from dlcheck.checks.loss.batches import valid_of
from dlcheck.checks.loss.broken import wrong
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.checks.still import Still
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

IGNORING: dict[str, Any] = {
    "task": "classification",
    "ignore_index": "ignore_index",
    "reduction": "mean",
    "denominator": "valid",
    "sizes": {"k": [2, 9]},
}
STEPS: dict[str, Any] = {**IGNORING, "task": "segmentation"}
MASKED: dict[str, Any] = {
    "task": "regression",
    "roles": {"prediction": "prediction", "target": "target"},
}
_WITH_MASK = {"prediction": "float b t", "target": "float b t", "keep": "mask b t"}


def _smooths_ignored_rows(
    prediction: Tensor, target: Tensor, ignore_index: int = -100, smoothing: float = 0.1
) -> Tensor:
    """The uniform part of the smoothed target counts where there is no target."""
    kept = F.cross_entropy(prediction, target, ignore_index=ignore_index)
    return (1 - smoothing) * kept - smoothing * prediction.log_softmax(-1).mean()


def _counts_ignored_as_class_0(
    prediction: Tensor, target: Tensor, ignore_index: int = -100
) -> Tensor:
    return F.cross_entropy(prediction, torch.where(target == ignore_index, 0, target))


def _zeroes_instead_of_leaving_out(
    prediction: Tensor, target: Tensor, ignore_index: int = -100
) -> Tensor:
    """The ignored rows' losses are 0, and are divided by."""
    rows = F.cross_entropy(prediction, target, ignore_index=ignore_index, reduction="none")
    return rows.mean()


def _has_its_own_index(prediction: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
    """−1 is ignored, whatever the argument says; other indices are clamped into the classes."""
    labels = target.clamp(-1, prediction.shape[1] - 1)
    return F.cross_entropy(prediction, labels, ignore_index=-1)


def _masks_the_prediction(prediction: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """Predictions that are masked out become 0, and are compared with their targets."""
    return (torch.where(keep, prediction, 0.0) - target).square().mean()


def _masks_after_the_mean(prediction: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    rows = (prediction - target).square()
    return (rows.mean(-1, keepdim=True) * keep).sum() / keep.sum().clamp_min(1)


def _keeps(prediction: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    e = torch.where(keep, prediction - target, 0.0)
    return e.square().sum() / keep.sum().clamp_min(1)


@check(
    kind="loss",
    needs={"masked"},
    rejects=[
        wrong(_smooths_ignored_rows, IGNORING, "masked", "smoothed"),
        wrong(_counts_ignored_as_class_0, IGNORING, "masked"),
        wrong(_has_its_own_index, IGNORING, "masked"),
        wrong(_masks_the_prediction, MASKED, "masked", inputs=_WITH_MASK),
        wrong(_masks_after_the_mean, MASKED, "masked", inputs=_WITH_MASK),
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
        wrong(_keeps, MASKED, "masked", inputs=_WITH_MASK),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "ties", "ignored"],
)
def ignored_targets_change_nothing(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """What is predicted where the target is ignored changes neither the loss nor other gradients.

    Some targets become `ignore_index`, or are masked out by the input that is a mask; there the
    predictions, and under a mask the targets, are replaced by others: the loss stays to the last
    rounding, and the gradient at ignored positions is 0. Source: the definition of a mean over
    the targets that are there.
    """
    meaning = Meaning(subject, case)
    inputs, dropped = _with_some_ignored(meaning)
    generator = case.generator("instead")
    name = meaning.prediction
    z = torch.randn(inputs[name].shape, generator=generator, dtype=torch.float64)
    at = _over_classes(meaning, dropped)
    other = torch.where(at, _in_form(meaning, z).to(inputs[name]), inputs[name])
    moved = {**inputs, name: other}
    if _mask_of(meaning) and meaning.fits_the_prediction:
        target = inputs[meaning.target]
        if target.is_floating_point():
            moved[meaning.target] = torch.where(dropped, target + z.to(target), target)
    before, after = meaning.answer(inputs), meaning.answer(moved)
    kept = before
    if before.numel() > 1 and before.shape == dropped.shape:
        kept, after = before.masked_fill(dropped, 0.0), after.masked_fill(dropped, 0.0)
    room = meaning.call.room(list(inputs.values()))()[0]
    yield agreement(
        "loss with other predictions where targets are ignored",
        after, kept, room, signal=float(kept.abs().sum()) or 1.0,
        cause="what is ignored counts",
    )  # fmt: skip
    yield _without_gradient(meaning, inputs, at)


def _mask_of(meaning: Meaning) -> str:
    """The input that masks targets out; empty without one."""
    names = [n for n, spec in meaning.case.specs.items() if spec.element == "mask"]
    return next((name for name in names if name != meaning.target), "")


def _with_some_ignored(meaning: Meaning) -> tuple[dict[str, Tensor], Tensor]:
    """The inputs with at least one target ignored and one not, and which those are."""
    inputs, target = dict(meaning.inputs), meaning.inputs[meaning.target]
    if target.numel() < 2:
        raise NotApplicable("one target cannot be ignored in part")
    u = torch.rand(target.shape, generator=meaning.case.generator("ignored")).to(target.device)
    flat = u.flatten()
    dropped = (u < 0.4) | (u == flat.min())
    dropped &= u != flat.max()
    ignored = meaning.spec(meaning.target).ignored
    if name := _mask_of(meaning):
        if inputs[name].shape != target.shape:
            raise NotApplicable(f"the mask {name} has another shape than the target")
        inputs[name] = ~dropped
    elif ignored is not None:
        inputs[meaning.target] = torch.where(dropped, ignored, target)
        dropped = inputs[meaning.target] == ignored  # an index may be a class that was drawn
        if bool(dropped.all()):
            raise NotApplicable("every target is ignored")
    else:
        raise NotApplicable("declares neither ignore_index nor an input that is a mask")
    return inputs, dropped


def _over_classes(meaning: Meaning, dropped: Tensor) -> Tensor:
    """Positions of the prediction that belong to these targets."""
    wide = dropped.unsqueeze(meaning.class_axis) if meaning.has_labels else dropped
    return wide.expand(meaning.inputs[meaning.prediction].shape)


def _in_form(meaning: Meaning, z: Tensor) -> Tensor:
    """Random numbers as predictions of the declared form."""
    if meaning.form == "probabilities":
        return z.softmax(meaning.class_axis) if meaning.has_labels else z.sigmoid()
    if meaning.form == "log_probabilities":
        return z.log_softmax(meaning.class_axis)
    return z


def _without_gradient(meaning: Meaning, inputs: dict[str, Tensor], at: Tensor) -> Evidence:
    call = Still(meaning.subject, meaning.case, differentiable=True)
    leaf = inputs[meaning.prediction].detach().clone().requires_grad_()
    answer = call(*{**inputs, meaning.prediction: leaf}.values())[0].sum()
    (slope,) = gradients([answer], [leaf], [torch.ones_like(answer)])
    if slope is None:
        raise NotApplicable("sends no gradient to its prediction")
    pulled = slope.detach().abs().double().masked_fill(~at, 0.0)
    error = float(pulled.amax())
    return Evidence(
        error=error,
        bound=0.0,
        signal=float(slope.abs().amax()) or 1.0,
        what="gradient where targets are ignored",
    )


@check(
    kind="loss",
    needs={"masked"},
    options={"reduction": True},
    forbids={"batch_coupled"},
    rejects=[
        wrong(_zeroes_instead_of_leaving_out, IGNORING, "masked"),
        wrong(_counts_ignored_as_class_0, IGNORING, "masked"),
        wrong(_smooths_ignored_rows, IGNORING, "masked", "smoothed"),
        wrong(_has_its_own_index, IGNORING, "masked"),
        wrong(_masks_the_prediction, {**MASKED, "reduction": "mean", "denominator": "valid"},
              "masked", inputs=_WITH_MASK),
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
        wrong(_keeps, {**MASKED, "reduction": "mean", "denominator": "valid"}, "masked",
              inputs=_WITH_MASK),
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
    return (_in_form(meaning, z) if key == meaning.prediction else z).to(x)


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
        wrong(_mean_under_a_mask, MASKED, "masked", inputs=_WITH_MASK),
        wrong(_root_under_a_mask, MASKED, "masked", inputs=_WITH_MASK),
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
        wrong(_keeps, MASKED, "masked", inputs=_WITH_MASK),
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
    inputs, dropped = _with_some_ignored(meaning)
    ignored = meaning.spec(meaning.target).ignored
    if name := _mask_of(meaning):
        inputs[name] = torch.zeros_like(inputs[name])
    else:
        inputs[meaning.target] = torch.full_like(inputs[meaning.target], ignored or 0)
    everywhere = _over_classes(meaning, torch.ones_like(dropped))
    yield _without_gradient(meaning, inputs, everywhere)
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
