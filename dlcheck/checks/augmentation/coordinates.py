"""Boxes and keypoints that move with their images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.augmentation.boxes import corners
from dlcheck.checks.augmentation.broken import on_the_rest
from dlcheck.checks.augmentation.motion import AffineMap, Motion, affine_or_none
from dlcheck.checks.augmentation.scenes import (
    Scene,
    batched,
    leaves_labels_behind,
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


@around
def mirrors_coordinates_always(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """x → w − x whatever is drawn."""
    width = images.shape[-1]
    answer = original(images, *rest)

    def mirror(y: Tensor) -> Tensor:
        y = y.clone()
        y[..., 0::2] = width - y[..., 0::2]
        return y

    return on_the_rest(answer, mirror)


@around
def exchanges_x_and_y(original: Any, images: Tensor, *rest: Tensor) -> Any:
    def swap(y: Tensor) -> Tensor:
        pairs: Tensor = y.unflatten(-1, (-1, 2))
        return pairs.flip(-1).flatten(-2)

    return on_the_rest(original(images, *rest), swap)


@around
def counts_boxes_in_shares(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_the_rest(original(images, *rest), lambda y: y / max(images.shape[-2:]))


@around
def is_off_by_one_pixel(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """w − 1 − x where w − x was meant."""
    answer = original(images, *rest)
    moved = (answer[1] != rest[0]).any(-1, keepdim=True)
    one = answer[1].new_tensor([1.0, 0.0, 1.0, 0.0])
    return answer[0], torch.where(moved, answer[1] - one, answer[1])


@around
def forgets_to_exchange_left_and_right(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """A mirrored box whose x₁ is to the right of its x₂."""
    answer = original(images, *rest)
    moved = (answer[1] != rest[0]).any(-1, keepdim=True)
    return answer[0], torch.where(moved, answer[1][..., [2, 1, 0, 3]], answer[1])


@check(
    kind="augmentation",
    options={"labels": ["moved"], "target": ["boxes"]},
    rejects=[
        leaves_labels_behind,
        moves_labels_by_another_draw,
        moves_labels_of_the_row_before,
        mirrors_coordinates_always,
        exchanges_x_and_y,
        counts_boxes_in_shares,
        is_off_by_one_pixel,
        forgets_to_exchange_left_and_right,
    ],
    once=True,
)
def boxes_move_with_images(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A box encloses in the answer what it enclosed in the image.

    The map of the pixels is fitted to images that show their coordinates, under the same draw; a
    box becomes the smallest upright box about its four moved corners, both cut to the image.
    Pixel i reaches from i to i + 1, or lies at i, as `coordinates` says (edges, centres; unit:
    edges, in shares of the side); where it says nothing either will do, the same for all. Where
    pixels are permuted the bound is 10⁻³ pixel, else ½ and what the fit leaves over, as a nearest
    pixel is up to ½ away. Boxes that are dropped, or end up outside, say nothing.
    Source: the definition; Liu et al., SSD, ECCV 2016, §2.2.
    """
    studio = open_studio(subject, case)
    given, drawn = studio.objects("boxes")
    yield from _compared(studio, "boxes", given, drawn)


@check(
    kind="augmentation",
    options={"labels": ["moved"], "target": ["keypoints"]},
    rejects=[
        leaves_labels_behind,
        moves_labels_by_another_draw,
        moves_labels_of_the_row_before,
        mirrors_coordinates_always,
        exchanges_x_and_y,
    ],
    once=True,
)
def keypoints_move_with_images(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A point lies in the answer on what it lay on in the image.

    The map of the pixels is fitted to images that show their coordinates, under the same draw.
    Where `coordinates` is not declared a pixel i may lie at i or reach from i to i + 1, the same
    for all points. Where pixels are permuted the bound is 10⁻³ pixel, else ½ and what the fit
    leaves over, as a nearest pixel is up to ½ away.
    Source: the definition; Newell et al., Stacked Hourglass Networks, ECCV 2016, §3.3.
    """
    studio = open_studio(subject, case)
    given, drawn = studio.objects("keypoints")
    yield from _compared(studio, "keypoints", given, drawn)


def _compared(studio: Studio, target: str, given: Tensor, drawn: Tensor) -> Iterator[Evidence]:
    """Evidence of the coordinates that are farthest off, under the convention that fits best."""
    stated = studio.subject.options.get("coordinates")
    free = stated is None
    centres = (True, False) if free else (stated == "centres",)
    found: dict[bool, list[Any]] = {at: [-1.0, 1.0, "", "", 0] for at in centres}
    shape = (-1, 1) if drawn.dim() == 1 + studio.signature.is_batched else ()
    for scene in scenes(studio, target, given):
        got = _pixels(studio, target, scene)
        if got.shape != drawn.shape:
            if got.shape[-1] != drawn.shape[-1]:
                yield of_another_size(got, (0, *drawn.shape[-2:]))
                return
            continue  # some were dropped
        before, after = batched(studio, drawn), batched(studio, got)
        if shape:
            before, after = before[:, None], after[:, None]
        for row in range(len(before)):
            _judge(scene.motion, row, before[row], after[row], found)
    at = min(found, key=lambda one: found[one][0] / found[one][1])
    error, bound, expected, seen, count = found[at]
    if not count:
        raise NotApplicable("no box or point could be compared: dropped, outside, or not affine")
    yield Evidence(
        error=float(error),
        bound=float(bound),
        signal=float(max(studio.side)),
        resolution=0.1,
        unit="pixels",
        what=f"{target}, against where their pixels went",
        expected=str(expected),
        got=str(seen),
        values={"compared": float(count)},
    )


def _pixels(studio: Studio, target: str, scene: Scene) -> Tensor:
    """Boxes as corners, and points, in pixels of the answer."""
    got = scene.answer.targets[target].double().cpu()
    side = (scene.motion.x.shape[-2], scene.motion.x.shape[-1])
    if target == "boxes":
        return corners(studio.subject, got, side)
    if studio.subject.options.get("coordinates") == "unit":
        return got * torch.tensor([side[1], side[0]], dtype=torch.float64)
    return got


def _judge(
    motion: Motion, row: int, before: Tensor, after: Tensor, found: dict[bool, list[Any]]
) -> None:
    """Note, for each convention, the coordinates of one image that are farthest off."""
    fitted = affine_or_none(motion, row)
    if fitted is None or fitted.residual > 1.0:
        return
    exact = bool(motion.is_permutation[row]) and fitted.residual <= 5 * motion.tolerance
    bound = 1e-3 if exact and motion.tolerance < 0.05 else 0.5 + fitted.residual
    limits = torch.tensor([motion.x.shape[-1], motion.x.shape[-2]], dtype=torch.float64)
    for centres, worst in found.items():
        moved = _moved(fitted, before, 0.0 if centres else 0.5)
        got = after
        if before.shape[-1] == 4:
            high = limits - float(centres)
            moved, got = _cut(moved, high), _cut(after, high)
            sides = moved[:, 2:] - moved[:, :2]
            inside = (sides >= 1).all(-1)
        else:
            inside = ((moved >= 0) & (moved < limits)).all(-1)
        for expected, seen in zip(moved[inside], got[inside], strict=True):
            off = float((expected - seen).abs().max())
            worst[4] += 1
            if off / bound > worst[0] / worst[1] or off != off:
                worst[:4] = [off, bound, _shown(expected), _shown(seen)]


def _moved(fitted: AffineMap, points: Tensor, half: float) -> Tensor:
    """Points [n, 2], or the upright boxes about the corners of boxes [n, 4].

    half: of a pixel, where coordinates are those of edges: the map is one of centres.
    """
    if points.shape[-1] == 2:
        return fitted.forward(points - half) + half
    x1, y1, x2, y2 = points.unbind(-1)
    turned = [torch.stack(pair, -1) for pair in ((x1, y1), (x2, y1), (x1, y2), (x2, y2))]
    moved = torch.stack([fitted.forward(corner - half) + half for corner in turned])
    return torch.cat([moved.amin(0), moved.amax(0)], -1)


def _cut(boxes: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), high.repeat(2))


def _shown(numbers: Tensor) -> str:
    return "(" + ", ".join(f"{float(n):.4g}" for n in numbers) + ")"
