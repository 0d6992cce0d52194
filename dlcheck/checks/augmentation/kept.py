"""Labels that stay as they are, and rows that stay in their places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.augmentation.answers import weights_of
from dlcheck.checks.augmentation.broken import on_images, on_the_rest
from dlcheck.checks.augmentation.inputs import hold_to_repeat
from dlcheck.checks.augmentation.studio import Studio, open_studio
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_DRAWS = 6


@around
def shuffles_labels(original: Any, images: Tensor, *rest: Tensor) -> Any:
    answer = original(images, *rest)
    return on_the_rest(answer, lambda y: y[torch.randperm(len(y))])


@around
def shifts_labels_by_one_row(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_the_rest(original(images, *rest), lambda y: y.roll(1, 0))


@around
def sorts_labels(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_the_rest(original(images, *rest), lambda y: y.sort(0, descending=True).values)


@around
def counts_classes_from_one(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_the_rest(original(images, *rest), lambda y: y + 1)


@around
def repeats_the_first_label(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_the_rest(original(images, *rest), lambda y: y[:1].expand_as(y))


@check(
    kind="augmentation",
    options={"labels": ["kept"]},
    rejects=[
        shuffles_labels,
        shifts_labels_by_one_row,
        sorts_labels,
        counts_classes_from_one,
        repeats_the_first_label,
    ],
    once=True,
)
def keeps_labels(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Labels come out as they went in: the same values in the same order.

    Labels of as many classes as the batch has rows, over six draws; ids that come back one-hot are
    read as ids. The bound is 0.
    Source: the declaration, labels = "kept".
    """
    studio = open_studio(subject, case)
    if studio.signature.labels is None:
        raise NotApplicable("takes no labels")
    given = studio.others()
    y = given[studio.signature.labels]
    wrong, got = 0, y
    for draw in range(_DRAWS):
        labels = studio.shoot(studio.noise(), draw, given).labels
        count = _differing(studio, y, labels)
        wrong, got = (count, labels[0]) if count > wrong else (wrong, got)
    yield Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(max(y.numel(), 1)),
        unit="labels",
        what="labels that changed",
        expected=_shown(y),
        got=_shown(got),
    )


def _differing(studio: Studio, y: Tensor, labels: tuple[Tensor, ...]) -> int:
    if len(labels) == 1 and labels[0].shape == y.shape:
        return int((labels[0].to(y) != y).sum())
    expected, got = weights_of((y,), studio.classes), weights_of(labels, studio.classes)
    if expected.shape != got.shape:
        return y.numel()
    return int((expected != got).any(-1).sum())


def _shown(labels: Tensor) -> str:
    ids = labels.argmax(-1) if labels.dim() == 2 else labels
    return str(ids.flatten()[:8].tolist())


@around
def shuffles_images(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: x[torch.randperm(len(x))])


@around
def reverses_the_batch(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: x.flip(0))


@around
def mixes_in_a_neighbour(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """A mixup whose labels were forgotten."""
    return on_images(original(images, *rest), lambda x: 0.9 * x + 0.1 * x.roll(1, 0))


@around
def takes_the_mean_of_the_batch(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """A contrast about the mean of all images, where each image has its own."""
    return original(0.8 * images + 0.2 * images.mean(), *rest)


@around
def exchanges_two_rows_now_and_then(original: Any, images: Tensor, *rest: Tensor) -> Any:
    answer = original(images, *rest)
    if float(torch.rand(())) < 0.5:
        return answer
    return on_images(answer, lambda x: torch.cat([x[1:2], x[:1], x[2:]]))


@check(
    kind="augmentation",
    forbids={"batch_coupled"},
    options={"labels": ["kept", "moved"]},
    rejects=[
        shuffles_images,
        reverses_the_batch,
        mixes_in_a_neighbour,
        takes_the_mean_of_the_batch,
        exchanges_two_rows_now_and_then,
    ],
    once=True,
)
def rows_stay_in_their_places(subject: Implementation, case: Case) -> Evidence:
    """Row i of the answer shows image i, and nothing of the others.

    Under one draw half of the images are replaced, in each of the patterns of a binary number of
    the row: the other rows must come out as before, bit by bit in floating point to 2⁻²⁰ of the
    interval. Whatever two rows are exchanged, they differ in one of the patterns. Needs a batch.
    Source: the definition: labels are rows too.
    """
    studio = open_studio(subject, case)
    if studio.rows < 2:
        raise NotApplicable("takes one image at a time")
    hold_to_repeat(studio)
    others = studio.others()
    first, second = studio.noise(), studio.noise("other")
    disturbed, looked = 0, 0
    for draw in range(_DRAWS):
        before = studio.views(studio.shoot(first, draw, others).images)
        if len(before) != studio.rows:
            raise NotApplicable(f"returns {len(before)} images for {studio.rows}")
        for pattern in _patterns(studio.rows):
            motif = torch.where(pattern.view(-1, 1, 1, 1), second, first)
            after = studio.views(studio.shoot(motif, draw, others).images)
            moved = (after - before).abs().flatten(1).amax(1) > 2.0**-20
            disturbed += int((moved & ~pattern).sum())
            looked += int((~pattern).sum())
    return Evidence(
        error=float(disturbed),
        bound=0.0,
        signal=float(looked),
        unit="rows",
        what="rows that changed with the image of another row",
        cause="a coupling that is meant is declared by the trait batch_coupled",
    )


def _patterns(rows: int) -> Iterator[Tensor]:
    """For each bit of the row number: the rows in which it is set, and those in which it is not."""
    number = torch.arange(rows)
    for bit in range((rows - 1).bit_length()):
        chosen = (number >> bit) % 2 == 1
        yield chosen
        yield ~chosen
