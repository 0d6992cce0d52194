"""Where every pixel of an answer comes from, read off images that show their own coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.checks.augmentation.answers import Answer
from dlcheck.checks.augmentation.studio import Studio
from dlcheck.errors import NotApplicable

_PERMUTED = 1 / 32  # pixels: the step of OpenCV's interpolation (a byte: 1/17 of a pixel)
_COVERED = 1e-4  # what of a pixel may come from outside the image
_FEW = 12  # pixels from which a map is fitted, at least


@dataclass(frozen=True, slots=True)
class Motion:
    """One draw: `x`, `y` [b, h, w] is the source of each pixel, in pixels, pixel i lying at i.

    Only where `known`: elsewhere the answer is filled, erased or lies over the border.
    """

    x: Tensor
    y: Tensor
    known: Tensor
    side: tuple[int, int]  # of the image that went in
    tolerance: float  # pixels: what the images' type rounds by

    @property
    def is_permutation(self) -> Tensor:
        """[b]: every known pixel is one pixel of the image, none is between two."""
        off = torch.maximum((self.x - self.x.round()).abs(), (self.y - self.y.round()).abs())
        return torch.where(self.known, off, 0).flatten(1).amax(1) <= self.tolerance

    @property
    def is_identity(self) -> Tensor:
        """[b]: nothing moved."""
        height, width = self.x.shape[-2:]
        rows = torch.arange(height, dtype=torch.float64)[:, None]
        off = torch.maximum((self.x - torch.arange(width)).abs(), (self.y - rows).abs())
        return torch.where(self.known, off, 0).flatten(1).amax(1) <= self.tolerance


@dataclass(frozen=True, slots=True)
class AffineMap:
    """source = matrix · place + offset, for one image, and how far the pixels are from it."""

    matrix: Tensor  # [2, 2], of (x, y)
    offset: Tensor  # [2]
    residual: float  # the largest, in pixels

    def forward(self, points: Tensor) -> Tensor:
        """Where points [n, 2] of the image are in the answer."""
        moved: Tensor = torch.linalg.solve(self.matrix, (points - self.offset).mT)
        return moved.mT


def motion_of(studio: Studio, draw: int | str, others: dict[str, Tensor] | None = None) -> Motion:
    """The motion of a draw: five motifs under the same random numbers.

    Black and white tell what a pixel is filled with and what of it comes from the image; ramps
    along both sides tell its source, since interpolation with weights that sum to 1 reproduces a
    linear function. NotApplicable where colours change too: a picture of two greys shows that.
    """
    height, width = studio.side
    down = torch.linspace(0, 1, height, dtype=torch.float64)[:, None].expand(height, width)
    right = torch.linspace(0, 1, width, dtype=torch.float64).expand(height, width)
    halves = torch.where(right < 0.5, 0.25, 0.75)
    ones = torch.ones(height, width, dtype=torch.float64)
    black, white, grey, x, y = (
        _seen(studio, motif, draw, others) for motif in (0 * ones, ones, halves, right, down)
    )
    cover = white - black
    scale = cover.flatten(1).amax(1).view(-1, 1, 1)
    if not bool((scale > 0.05).all()):
        raise NotApplicable("shows nothing of the image that goes in: its motion is not seen")
    whole = studio.signature.specs[studio.signature.images].is_floating
    slack = _COVERED if whole else 2.5 / 255
    known = cover >= scale * (1 - slack)
    _hold_to_colours(torch.where(known, (grey - black) / scale, 0.25), slack)
    longest = max(height, width)
    tolerance = _PERMUTED if whole else 1.5 * longest / 255
    return Motion(
        (x - black) / scale * (width - 1),
        (y - black) / scale * (height - 1),
        known & (scale > 0),
        (height, width),
        tolerance,
    )


def _seen(
    studio: Studio, motif: Tensor, draw: int | str, others: dict[str, Tensor] | None
) -> Tensor:
    """[b, h, w]: the mean of the channels."""
    shot: Answer = studio.shoot(motif.expand(studio.rows, -1, -1), draw, others)
    return studio.views(shot.images).mean(1)


def _hold_to_colours(grey: Tensor, slack: float) -> None:
    """Of a picture of two greys the darkest and the lightest pixel is one of them."""
    room = max(2e-3, 2 * slack)
    for ends in (grey.flatten(1).amin(1), grey.flatten(1).amax(1)):
        off = torch.minimum((ends - 0.25).abs(), (ends - 0.75).abs())
        if not bool((off <= room).all()):
            raise NotApplicable("changes colours too: where a pixel comes from cannot be read")


def affine_of(motion: Motion, row: int) -> AffineMap:
    """The affine map nearest to the motion of one image, by least squares over inner pixels.

    NotApplicable where too few pixels are seen.
    """
    known = motion.known[row] & inner(motion, row)
    places = known.nonzero().double()
    if len(places) < _FEW or not _spans(places):
        raise NotApplicable("too few pixels of the image are left to read its motion")
    design = torch.cat([places.flip(1), torch.ones(len(places), 1, dtype=torch.float64)], 1)
    sources = torch.stack([motion.x[row][known], motion.y[row][known]], 1)
    solution = torch.linalg.lstsq(design, sources).solution
    residual = float((design @ solution - sources).abs().max())
    return AffineMap(solution[:2].mT.contiguous(), solution[2], residual)


def inner(motion: Motion, row: int) -> Tensor:
    """[h, w]: where an interpolation has neighbours on all sides.

    All pixels of a permutation; else not those whose source is at the border, nor the outer two of
    the answer, which a crop that is then resized cuts off: there a resize is one-sided.
    """
    height, width = motion.side
    if bool(motion.is_permutation[row]):
        return torch.ones_like(motion.known[row])
    x, y = motion.x[row], motion.y[row]
    found = (x >= 1) & (x <= width - 2) & (y >= 1) & (y <= height - 2)
    for axis in (0, 1):
        for edge in (found.narrow(axis, 0, 2), found.narrow(axis, found.shape[axis] - 2, 2)):
            edge.fill_(False)  # noqa: FBT003
    return found


def _spans(places: Tensor) -> bool:
    return bool((places.amax(0) - places.amin(0) >= 1).all())


def affine_or_none(motion: Motion, row: int) -> AffineMap | None:
    try:
        return affine_of(motion, row)
    except NotApplicable:
        return None
