"""Draws in which images move, and what moved with them; what breaks that for any label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.augmentation.answers import Answer
from dlcheck.checks.augmentation.broken import on_the_rest
from dlcheck.checks.augmentation.inputs import hold_to_repeat
from dlcheck.checks.augmentation.motion import Motion, motion_of
from dlcheck.checks.augmentation.studio import Studio
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around

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


def of_another_size(got: Tensor, places: tuple[int, ...]) -> Evidence:
    return Evidence(
        error=float("inf"),
        bound=0.0,
        signal=1.0,
        what="size of the mask, against that of the image",
        expected=str(tuple(places[1:])),
        got=str(tuple(got.shape[-2:])),
    )


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
