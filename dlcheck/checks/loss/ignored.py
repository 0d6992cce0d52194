"""What is ignored, padded or masked out has no influence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.agreement import agreement
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
WITH_MASK = {"prediction": "float b t", "target": "float b t", "keep": "mask b t"}


def smooths_ignored_rows(
    prediction: Tensor, target: Tensor, ignore_index: int = -100, smoothing: float = 0.1
) -> Tensor:
    """The uniform part of the smoothed target counts where there is no target."""
    kept = F.cross_entropy(prediction, target, ignore_index=ignore_index)
    return (1 - smoothing) * kept - smoothing * prediction.log_softmax(-1).mean()


def counts_ignored_as_class_0(
    prediction: Tensor, target: Tensor, ignore_index: int = -100
) -> Tensor:
    return F.cross_entropy(prediction, torch.where(target == ignore_index, 0, target))


def has_its_own_index(prediction: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
    """−1 is ignored, whatever the argument says; other indices are clamped into the classes."""
    labels = target.clamp(-1, prediction.shape[1] - 1)
    return F.cross_entropy(prediction, labels, ignore_index=-1)


def masks_the_prediction(prediction: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """Predictions that are masked out become 0, and are compared with their targets."""
    return (torch.where(keep, prediction, 0.0) - target).square().mean()


def _masks_after_the_mean(prediction: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    rows = (prediction - target).square()
    return (rows.mean(-1, keepdim=True) * keep).sum() / keep.sum().clamp_min(1)


def keeps(prediction: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    e = torch.where(keep, prediction - target, 0.0)
    return e.square().sum() / keep.sum().clamp_min(1)


@check(
    kind="loss",
    needs={"masked"},
    rejects=[
        wrong(smooths_ignored_rows, IGNORING, "masked", "smoothed"),
        wrong(counts_ignored_as_class_0, IGNORING, "masked"),
        wrong(has_its_own_index, IGNORING, "masked"),
        wrong(masks_the_prediction, MASKED, "masked", inputs=WITH_MASK),
        wrong(_masks_after_the_mean, MASKED, "masked", inputs=WITH_MASK),
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
        wrong(keeps, MASKED, "masked", inputs=WITH_MASK),
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
    inputs, dropped = with_some_ignored(meaning)
    generator = case.generator("instead")
    name = meaning.prediction
    z = torch.randn(inputs[name].shape, generator=generator, dtype=torch.float64)
    at = over_classes(meaning, dropped)
    other = torch.where(at, in_form(meaning, z).to(inputs[name]), inputs[name])
    moved = {**inputs, name: other}
    if mask_of(meaning) and meaning.fits_the_prediction:
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
    yield without_gradient(meaning, inputs, at)


def mask_of(meaning: Meaning) -> str:
    """The input that masks targets out; empty without one."""
    names = [n for n, spec in meaning.case.specs.items() if spec.element == "mask"]
    return next((name for name in names if name != meaning.target), "")


def with_some_ignored(meaning: Meaning) -> tuple[dict[str, Tensor], Tensor]:
    """The inputs with at least one target ignored and one not, and which those are."""
    inputs, target = dict(meaning.inputs), meaning.inputs[meaning.target]
    if target.numel() < 2:
        raise NotApplicable("one target cannot be ignored in part")
    u = torch.rand(target.shape, generator=meaning.case.generator("ignored")).to(target.device)
    flat = u.flatten()
    dropped = (u < 0.4) | (u == flat.min())
    dropped &= u != flat.max()
    ignored = meaning.spec(meaning.target).ignored
    if name := mask_of(meaning):
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


def over_classes(meaning: Meaning, dropped: Tensor) -> Tensor:
    """Positions of the prediction that belong to these targets."""
    wide = dropped
    if meaning.has_labels:
        wide = meaning.without_class_axis(dropped).unsqueeze(meaning.class_axis)
    return wide.expand(meaning.inputs[meaning.prediction].shape)


def in_form(meaning: Meaning, z: Tensor) -> Tensor:
    """Random numbers as predictions of the declared form."""
    if meaning.form == "probabilities":
        return z.softmax(meaning.class_axis) if meaning.has_labels else z.sigmoid()
    if meaning.form == "log_probabilities":
        return z.log_softmax(meaning.class_axis)
    return z


def without_gradient(meaning: Meaning, inputs: dict[str, Tensor], at: Tensor) -> Evidence:
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
