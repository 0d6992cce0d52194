"""How pixels move: as the declared flip, translation, rotation or affine map says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.augmentation.broken import on_images
from dlcheck.checks.augmentation.inputs import hold_to_repeat
from dlcheck.checks.augmentation.motion import Motion, affine_or_none, inner, motion_of
from dlcheck.checks.augmentation.studio import open_studio
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_DRAWS = 8
_NEAREST = 0.55  # pixels: a nearest pixel is up to ½ away along each side


@around
def wraps_around_by_one_pixel(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: x.roll(1, -1))


@around
def mirrors_the_left_half(original: Any, images: Tensor, *rest: Tensor) -> Any:
    def mirror(x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return torch.cat([x[..., :half].flip(-1), x[..., half:]], -1)

    return on_images(original(images, *rest), mirror)


@around
def takes_every_other_pixel_twice(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(
        original(images, *rest),
        lambda x: x[..., ::2].repeat_interleave(2, -1)[..., : x.shape[-1]],
    )


@around
def turns_upside_down(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: x.flip(-2))


@around
def magnifies_by_a_tenth(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """A grid that ends at the centres of the last pixels where it should end at their edges."""

    def magnify(x: Tensor) -> Tensor:
        theta = torch.eye(2, 3, dtype=x.dtype).expand(len(x), -1, -1) / 1.1
        grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
        return torch.nn.functional.grid_sample(x, grid, align_corners=False)

    return on_images(original(images, *rest), magnify)


@check(
    kind="augmentation",
    options={"geometry": True},
    rejects=[
        wraps_around_by_one_pixel,
        mirrors_the_left_half,
        takes_every_other_pixel_twice,
        turns_upside_down,
        magnifies_by_a_tenth,
    ],
    once=True,
)
def pixels_move_as_declared(subject: Implementation, case: Case) -> Evidence:
    """Every pixel comes from where the declared motion takes it from.

    Read off images that show their coordinates. A flip: from (w − 1 − u, v), or all stay; a
    translation: from (u + a, v + b) with one a and b for all; a rotation: from c + R(p − c), c the
    centre of the image, with the angle that fits best; affine: from Ap + t. The bound is 1/32 of a
    pixel, the step of OpenCV's interpolation (1½ levels for bytes); ½ and a twentieth where each
    pixel is copied from its nearest one, or is a mean of several: the weights of an antialiased
    resize are not centred. Eight draws of each row. Filled pixels say nothing.
    Source: the definition; Jaderberg et al., Spatial Transformer Networks, NeurIPS 2015, §3.2.
    """
    studio = open_studio(subject, case)
    hold_to_repeat(studio)
    geometry = str(subject.options["geometry"])
    found: list[tuple[float, float, str]] = []
    for draw in range(_DRAWS):
        motion = motion_of(studio, draw)
        for row in range(len(motion.x)):
            if int((motion.known[row] & inner(motion, row)).sum()) >= 4:
                found.append(_deviation(geometry, motion, row))
    if not found:
        raise NotApplicable("no pixel of the image is left to read its motion")
    error, bound, where = max(found, key=lambda one: one[0] / one[1])
    return Evidence(
        error=error,
        bound=bound,
        signal=float(max(studio.side)),
        resolution=0.1,
        unit="pixels",
        what=f"source of a pixel, against a {geometry.replace('_', ' ')}",
        where=where,
    )


def _deviation(geometry: str, motion: Motion, row: int) -> tuple[float, float, str]:
    """(how far the worst pixel is from the nearest motion of that form, bound, where)."""
    known = motion.known[row] & inner(motion, row)
    places = known.nonzero().double().flip(1)  # (u, v)
    sources = torch.stack([motion.x[row][known], motion.y[row][known]], 1)
    expected = _FORMS[geometry](motion, places, sources)
    off, at = min((_worst(sources, one) for one in expected), key=lambda one: one[0])
    u, v = (int(n) for n in places[at])
    copied = geometry in ("rotation", "affine") and bool(motion.is_permutation[row])
    resized = geometry == "affine" and _shrinks(motion, row)
    bound = _NEAREST if copied or resized else motion.tolerance
    seen, wanted = sources[at], min(expected, key=lambda one: _worst(sources, one)[0])[at]
    where = (
        f"pixel ({u}, {v}) of image {row} comes from ({float(seen[0]):.3g}, {float(seen[1]):.3g}), "
        f"not from ({float(wanted[0]):.3g}, {float(wanted[1]):.3g})"
    )
    return off, bound, where if off > bound else ""


def _shrinks(motion: Motion, row: int) -> bool:
    """Is one pixel of the answer more than one of the image?"""
    fitted = affine_or_none(motion, row)
    return fitted is not None and float(fitted.matrix.norm(dim=1).max()) > 1.01


def _worst(sources: Tensor, expected: Tensor) -> tuple[float, int]:
    off = (sources - expected).abs().amax(1)
    at = int(off.argmax())
    return float(off[at]), at


def _horizontal_flip(motion: Motion, places: Tensor, _: Tensor) -> list[Tensor]:
    width = motion.side[1]
    return [places, torch.stack([width - 1 - places[:, 0], places[:, 1]], 1)]


def _vertical_flip(motion: Motion, places: Tensor, _: Tensor) -> list[Tensor]:
    height = motion.side[0]
    return [places, torch.stack([places[:, 0], height - 1 - places[:, 1]], 1)]


def _translation(_: Motion, places: Tensor, sources: Tensor) -> list[Tensor]:
    return [places + (sources - places).median(0).values]


def _rotation(motion: Motion, places: Tensor, sources: Tensor) -> list[Tensor]:
    """The angle between the directions from the two centres that fits best.

    By least squares; of pixels that are copied from the nearest one by the least deviation, among
    angles nearby.
    """
    height, width = motion.x.shape[-2:]
    p = places - torch.tensor([width - 1, height - 1], dtype=torch.float64) / 2
    centre = torch.tensor([motion.side[1] - 1, motion.side[0] - 1], dtype=torch.float64) / 2
    q = sources - centre
    angle = math.atan2(float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()), float((p * q).sum()))
    best = min(
        (_turned(p, angle + 1e-3 * step) for step in range(-40, 41)),
        key=lambda turned: float((turned - q).abs().max()),
    )
    return [centre + (best if bool(motion.is_permutation.any()) else _turned(p, angle))]


def _turned(p: Tensor, angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.stack([cos * p[:, 0] - sin * p[:, 1], sin * p[:, 0] + cos * p[:, 1]], 1)


def _affine(_: Motion, places: Tensor, sources: Tensor) -> list[Tensor]:
    design = torch.cat([places, torch.ones(len(places), 1, dtype=torch.float64)], 1)
    return [design @ torch.linalg.lstsq(design, sources).solution]


_FORMS: Mapping[str, Callable[[Motion, Tensor, Tensor], list[Tensor]]] = {
    "horizontal_flip": _horizontal_flip,
    "vertical_flip": _vertical_flip,
    "translation": _translation,
    "rotation": _rotation,
    "affine": _affine,
}
