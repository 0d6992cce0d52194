"""Masks that move with their images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.augmentation.broken import on_the_rest
from dlcheck.checks.augmentation.motion import Motion, affine_or_none, inner
from dlcheck.checks.augmentation.scenes import (
    Scene,
    batched,
    leaves_labels_behind,
    moves_images_of_the_first_half_alone,
    moves_labels_by_another_draw,
    moves_labels_of_the_row_before,
    of_another_size,
    scenes,
)
from dlcheck.checks.augmentation.studio import Studio, open_studio
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_SAME = 0.01  # a scale so near to 1 is one


@around
def averages_neighbouring_classes(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """A mask that is interpolated: classes in between appear."""
    answer = original(images, *rest)
    return on_the_rest(answer, lambda y: ((y + y.roll(1, -1)) // 2) if y.dim() > 2 else y)


@around
def shifts_masks_by_one_pixel(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_the_rest(original(images, *rest), lambda y: y.roll(1, -1))


@check(
    kind="augmentation",
    options={"labels": ["moved"], "target": ["mask"]},
    rejects=[
        leaves_labels_behind,
        moves_labels_by_another_draw,
        moves_labels_of_the_row_before,
        moves_images_of_the_first_half_alone,
        averages_neighbouring_classes,
        shifts_masks_by_one_pixel,
    ],
    once=True,
)
def masks_move_with_images(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Each pixel of the mask comes from where the pixel of the image comes from.

    The source of a pixel is read off images that show their coordinates, under the same draw as a
    mask of random classes. The mask must hold a class of a pixel within ½ of that source along
    each side, the nearest one. Where a side is scaled by r, within ½ + r/2: ⌊ur⌋, as torch's
    "nearest" resizes, is off from (u + ½)r − ½ by the fraction of ur and (r − 1)/2. So no class
    appears between two. Where pixels are permuted the class is that of the
    very pixel. Pixels that are filled or cut at the border say nothing.
    Source: the definition; Ronneberger et al., U-Net, MICCAI 2015, §3.1.
    """
    studio = open_studio(subject, case)
    given = _classes(studio)
    wrong = seen = 0
    for scene in scenes(studio, "mask", given):
        got = batched(studio, scene.answer.targets["mask"])
        places = scene.motion.known.shape
        if got.reshape(len(got), -1).shape[1] != places[1] * places[2]:
            yield of_another_size(got, places)
            return
        bad, count = _wrong_pixels(studio, scene, got.reshape(places))
        wrong, seen = wrong + bad, seen + count
    if not seen:
        raise NotApplicable("no pixel of the image is left to compare")
    yield Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(seen),
        unit="pixels",
        what="pixels of the mask that show another place than the image",
        cause="a mask that is interpolated, or moved by another draw" if wrong else "",
    )


def _classes(studio: Studio) -> Tensor:
    name = studio.signature.targets.get("mask")
    if name is None:
        raise NotApplicable("declares target = mask, but no input has the dims of the image")
    spec = studio.signature.specs[name]
    low, high = int(spec.low or 0), 2
    if spec.count is not None:
        high = spec.count.size(studio.sizes)
    elif spec.element == "uint8" or spec.is_floating:
        high = 20
    elif spec.high is not None:
        high = int(spec.high)
    shape = spec.shape(studio.sizes)
    values = torch.randint(low, high, shape, generator=studio.case.generator("classes"))
    return studio.others()[name].new_tensor(values.tolist())


def _wrong_pixels(studio: Studio, scene: Scene, got: Tensor) -> tuple[int, int]:
    """(pixels whose class is none of those near their source, pixels that were compared)."""
    motion = scene.motion
    height, width = motion.side
    given = batched(studio, scene.given).reshape(len(motion.x), height, width).double().cpu()
    got = got.double().cpu()
    wrong = count = 0
    for row in range(len(got)):
        slack, looked = _slack(motion, row)
        x, y = motion.x[row][looked], motion.y[row][looked]
        right = torch.zeros(len(x), dtype=torch.bool)
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                column, line = x.round() + across, y.round() + down
                near = ((column - x).abs() <= slack[0]) & ((line - y).abs() <= slack[1])
                inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
                place = line.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
                right |= near & inside & (given[row][place] == got[row][looked])
        wrong += int((~right).sum())
        count += len(x)
    return wrong, count


def _slack(motion: Motion, row: int) -> tuple[tuple[float, float], Tensor]:
    """How far the mask's source may be from the image's, along x and y, and where to look."""
    if bool(motion.is_permutation[row]) and _is_one_to_one(motion, row):
        return (motion.tolerance + 0.25,) * 2, motion.known[row]
    fitted = affine_or_none(motion, row)
    if fitted is None:
        return (1.05, 1.05), motion.known[row]
    room = 0.55 if fitted.residual > 5 * motion.tolerance else motion.tolerance
    scales = fitted.matrix.norm(dim=1).tolist()  # pixels of the image per pixel of the answer
    slack = [room + (0.5 if abs(r - 1) < _SAME else 0.5 + 0.5 * r) for r in scales]
    return (slack[0], slack[1]), motion.known[row] & inner(motion, row)


def _is_one_to_one(motion: Motion, row: int) -> bool:
    """Whole sources of which none is used twice: a permutation, and no nearest-pixel rounding."""
    known = motion.known[row]
    flat = (motion.y[row][known].round() * motion.side[1] + motion.x[row][known].round()).long()
    if len(flat.unique()) != len(flat):
        return False
    fitted = affine_or_none(motion, row)
    return fitted is None or fitted.residual <= 5 * motion.tolerance
