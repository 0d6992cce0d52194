"""Labels that move with their images: masks, boxes and keypoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.augmentation.answers import Answer
from dlcheck.checks.augmentation.boxes import corners, from_corners
from dlcheck.checks.augmentation.broken import on_the_rest
from dlcheck.checks.augmentation.inputs import hold_to_repeat
from dlcheck.checks.augmentation.motion import AffineMap, Motion, affine_of, motion_of
from dlcheck.checks.augmentation.studio import Studio, open_studio
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_DRAWS = 6
_TRIES = 24  # draws among which something moves


@dataclass(frozen=True, slots=True)
class Scene:
    """One draw: the motion, and what the call answered."""

    motion: Motion
    answer: Answer
    given: Tensor


def scenes(studio: Studio, target: str, given: Tensor) -> Iterator[Scene]:
    """Draws in which an image moves; NotApplicable where none does."""
    hold_to_repeat(studio)
    name = studio.signature.targets.get(target)
    if name is None:
        raise NotApplicable(f"declares target = {target}, but no input has the form of one")
    others = {**studio.others(), name: given}
    moved = 0
    for draw in range(_TRIES):
        motion = motion_of(studio, draw, others)
        if len(motion.x) != studio.rows:
            raise NotApplicable(f"returns {len(motion.x)} images for {studio.rows}")
        if bool(motion.is_identity.all()) and motion.x.shape[-2:] == motion.side:
            continue
        moved += 1
        answer = studio.shoot(studio.noise(), draw, others)
        yield Scene(motion, answer, given)
        if moved == _DRAWS:
            return
    if not moved:
        raise NotApplicable(f"in {_TRIES} draws no pixel moved")


def batched(studio: Studio, tensor: Tensor) -> Tensor:
    """With a batch axis, which one image alone has not."""
    return tensor if studio.signature.is_batched else tensor[None]


@around
def leaves_labels_behind(original: Any, images: Tensor, *rest: Tensor) -> Any:
    answer = original(images, *rest)
    return (answer[0], *rest)


@around
def moves_labels_by_another_draw(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """Image and label drawn apart, as by two calls of one transform."""
    return (original(images, *rest)[0], *original(images, *rest)[1:])


@around
def moves_labels_of_the_row_before(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_the_rest(original(images, *rest), lambda y: y.roll(1, 0))


@around
def moves_images_of_the_first_half_alone(original: Any, images: Tensor, *rest: Tensor) -> Any:
    answer = original(images, *rest)
    half = (len(images) + 1) // 2
    kept = [torch.cat([old[:half], new[half:]]) for old, new in zip(rest, answer[1:], strict=True)]
    return (answer[0], *kept)


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
    each side (the nearest one; more by |1 − r|/2 where a side is scaled by r, as some resizes round
    down), so that no class appears between two. Where pixels are permuted the class is that of the
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
            yield _of_another_size(got, places)
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


def _of_another_size(got: Tensor, places: tuple[int, ...]) -> Evidence:
    return Evidence(
        error=float("inf"),
        bound=0.0,
        signal=1.0,
        what="size of the mask, against that of the image",
        expected=str(tuple(places[1:])),
        got=str(tuple(got.shape[-2:])),
    )


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
    scales = fitted.matrix.norm(dim=1)
    slack = [0.5 + room + 0.5 * abs(1 - float(scale)) for scale in scales]
    height, width = motion.side
    x, y = motion.x[row], motion.y[row]
    inner = (x >= 1) & (x <= width - 2) & (y >= 1) & (y <= height - 2)
    return (slack[0], slack[1]), motion.known[row] & inner


def _is_one_to_one(motion: Motion, row: int) -> bool:
    """Whole sources of which none is used twice: a permutation, and no nearest-pixel rounding."""
    known = motion.known[row]
    flat = (motion.y[row][known].round() * motion.side[1] + motion.x[row][known].round()).long()
    if len(flat.unique()) != len(flat):
        return False
    fitted = affine_or_none(motion, row)
    return fitted is None or fitted.residual <= 5 * motion.tolerance


def affine_or_none(motion: Motion, row: int) -> AffineMap | None:
    try:
        return affine_of(motion, row)
    except NotApplicable:
        return None


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
    return answer[0], torch.where(moved, answer[1] - 1, answer[1])


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
    Pixel i reaches from i to i + 1 (`coordinates` = centres: it lies at i; unit: shares of the
    side). Where pixels are permuted the bound is 10⁻³ pixel, else ½ and what the fit leaves over,
    as a nearest pixel is up to ½ away. Boxes that are dropped, or end up outside, say nothing.
    Source: the definition; Liu et al., SSD, ECCV 2016, §2.2.
    """
    studio = open_studio(subject, case)
    given, drawn = _boxes(studio)
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
    given, drawn = _points(studio)
    yield from _compared(studio, "keypoints", given, drawn)


def _objects(studio: Studio, target: str) -> tuple[int, Tensor]:
    """(how many an image has, uniform numbers for them)."""
    name = studio.signature.targets.get(target)
    if name is None:
        raise NotApplicable(f"declares target = {target}, but no input has the form of one")
    shape = studio.signature.specs[name].shape(studio.sizes)
    u = torch.rand(shape, generator=studio.case.generator(target), dtype=torch.float64)
    return (shape[-2] if len(shape) > 1 else 1), u


def _boxes(studio: Studio) -> tuple[Tensor, Tensor]:
    """(boxes as the subject takes them, their corners in pixels), whole and at least 3 wide."""
    _, u = _objects(studio, "boxes")
    height, width = studio.side
    x1 = (1 + u[..., 0] * (width - 6)).floor()
    y1 = (1 + u[..., 1] * (height - 6)).floor()
    x2 = (x1 + 3 + u[..., 2] * (width - 5 - x1)).floor().clamp(max=width - 1)
    y2 = (y1 + 3 + u[..., 3] * (height - 5 - y1)).floor().clamp(max=height - 1)
    drawn = torch.stack([x1, y1, x2, y2], -1)
    name = studio.signature.targets["boxes"]
    return from_corners(studio.subject, drawn, studio.side).to(studio.others()[name]), drawn


def _points(studio: Studio) -> tuple[Tensor, Tensor]:
    _, u = _objects(studio, "keypoints")
    height, width = studio.side
    drawn = 1 + (u * torch.tensor([width - 3.0, height - 3.0], dtype=torch.float64)).floor()
    given = drawn
    if studio.subject.options.get("coordinates") == "unit":
        given = drawn / torch.tensor([width, height], dtype=torch.float64)
    name = studio.signature.targets["keypoints"]
    return given.to(studio.others()[name]), drawn


def _compared(studio: Studio, target: str, given: Tensor, drawn: Tensor) -> Iterator[Evidence]:
    """Evidence of the coordinates that are farthest off, under the convention that fits best."""
    stated = studio.subject.options.get("coordinates")
    free = target == "keypoints" and stated is None
    centres = (True, False) if free else (stated == "centres",)
    found: dict[bool, list[Any]] = {at: [-1.0, 1.0, "", "", 0] for at in centres}
    shape = (-1, 1) if drawn.dim() == 1 + studio.signature.is_batched else ()
    for scene in scenes(studio, target, given):
        got = _pixels(studio, target, scene)
        if got.shape != drawn.shape:
            if got.shape[-1] != drawn.shape[-1]:
                yield _of_another_size(got, (0, *drawn.shape[-2:]))
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
