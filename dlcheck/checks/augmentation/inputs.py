"""What goes in: left alone, and the same picture in any memory layout and in bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.augmentation.broken import on_images
from dlcheck.checks.augmentation.studio import Studio, copied, open_studio
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.numerics.layouts import clone_as_laid_out, lay_out
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_DRAWS = 8


@around
def erases_in_place(original: Any, images: Tensor, *rest: Tensor) -> Any:
    answer = original(images, *rest)
    images[..., :2, :2] = 0
    return answer


@around
def writes_its_answer_into_the_input(original: Any, images: Tensor, *rest: Tensor) -> Any:
    answer = original(images.clone(), *rest)
    return on_images(answer, lambda x: images.copy_(x) if x.shape == images.shape else x)


@around
def scales_its_input_in_place(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return original(images.mul_(0.5), *rest)


@around
def overwrites_one_row_in_eight_calls(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """Under a condition that is seldom true."""
    answer = original(images.clone(), *rest)
    if float(torch.rand(())) < 0.5:
        images[-1].zero_()
    return answer


@check(
    kind="augmentation",
    forbids={"in_place"},
    rejects=[
        erases_in_place,
        writes_its_answer_into_the_input,
        scales_its_input_in_place,
        overwrites_one_row_in_eight_calls,
    ],
    once=True,
)
def leaves_the_originals(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A call changes neither the images nor the labels that it is given.

    Sixteen draws; each input is compared with a private copy, element by element. The next epoch
    reads the same images again. Trait `in_place` says otherwise.
    Source: the definition.
    """
    studio = open_studio(subject, case)
    changed = dict.fromkeys(studio.signature.specs, 0)
    size = {}
    for draw in range(2 * _DRAWS):
        given = {studio.signature.images: studio.develop(studio.noise()), **studio.others()}
        ordered = [given[name] for name in studio.signature.specs]
        before = [x.clone() for x in ordered]
        studio.seed(draw)
        studio.call(ordered)
        for name, old, new in zip(studio.signature.specs, before, ordered, strict=True):
            alike = old.shape == new.shape
            changed[name] += int((old != new).sum()) if alike else old.numel()
            size[name] = max(1, old.numel())
    for name, count in changed.items():
        yield Evidence(
            error=float(count),
            bound=0.0,
            signal=float(size[name]),
            unit="elements",
            what=f"elements of {name} that calls changed",
        )


@around
def reads_memory_in_order(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """A kernel that takes every image for contiguous."""
    flat = torch.as_strided(images, (images.numel(),), (1,))
    return original(flat.reshape(images.shape), *rest)


@around
def keeps_the_strides_and_not_the_axes(original: Any, images: Tensor, *rest: Tensor) -> Any:
    answer = original(images, *rest)
    if images.is_contiguous():
        return answer
    return on_images(answer, lambda x: x.flip(1) if x.shape[1] > 1 else x.flip(-2))


@around
def skips_what_is_not_contiguous(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return original(images if images.is_contiguous() else torch.zeros_like(images), *rest)


@around
def flips_channels_last(original: Any, images: Tensor, *rest: Tensor) -> Any:
    last = images.stride(1) == 1 and not images.is_contiguous()
    return original(images.flip(-1) if last else images, *rest)


@check(
    kind="augmentation",
    rejects=[
        reads_memory_in_order,
        keeps_the_strides_and_not_the_axes,
        skips_what_is_not_contiguous,
        flips_channels_last,
    ],
    once=True,
)
def reads_images_in_any_layout(subject: Implementation, case: Case) -> Evidence:
    """Images that lie in memory in another order (channels last, transposed) come out the same.

    The same numbers under the same draw: half of the pixels or more are equal, to γ₆₄ of float32,
    as an algorithm may follow the layout. Not all of them, as a patch may be filled with noise,
    which is drawn in the order of memory; where all pixels have noise nothing is claimed.
    Source: the definition: the layout is no part of the value.
    """
    studio = open_studio(subject, case)
    hold_to_repeat(studio)
    _hold_to_pixels(studio)
    images = studio.develop(studio.noise())
    layouts = [way for way in ("channels_last", "transposed") if _fits(way, images)]
    low, high = studio.range
    worst, where = -1.0, ""
    for draw in range(_DRAWS // 2):
        plain = _answer(studio, images, draw)
        for way in layouts:
            other = _answer(studio, lay_out(images, way), draw)
            error = _distance(plain, other)
            if not error <= worst:
                worst, where = error, way
    return Evidence(
        error=worst,
        bound=gamma(64, torch.float32) * (high - low) if images.is_floating_point() else 1.0,
        signal=high - low,
        what="median distance of images in another layout from the same in order",
        where=where,
    )


def _fits(way: str, images: Tensor) -> bool:
    return images.dim() == 4 if way == "channels_last" else images.dim() >= 2


def _answer(studio: Studio, images: Tensor, draw: int) -> Tensor:
    made, before = studio.subject, studio.subject.target
    made.target = copied(before)
    try:
        given = {studio.signature.images: clone_as_laid_out(images), **studio.others()}
        studio.seed(draw)
        return studio.call([given[name] for name in studio.signature.specs]).images
    finally:
        made.target = before


def _distance(first: Tensor, second: Tensor) -> float:
    if first.shape != second.shape:
        return math.inf
    return float((first.double() - second.double()).abs().median()) if first.numel() else 0.0


def _hold_to_pixels(studio: Studio) -> None:
    """NotApplicable where every pixel has noise of its own: it is drawn in the order of memory."""
    grey = torch.full((studio.rows, *studio.side), 0.5, dtype=torch.float64)
    for draw in range(_DRAWS // 2):
        shown = studio.shoot(grey, draw).images
        if len(shown.unique()) > 0.25 * shown.numel():
            raise NotApplicable("draws noise for each pixel, in the order in which they lie")


def hold_to_repeat(studio: Studio) -> None:
    """NotApplicable where equal seeds give unequal answers: nothing can be held side by side.

    One that draws from a generator of its own, which no copy may share, is tried more often.
    """
    draws = 24 if "own_generator" in studio.subject.traits else 4
    for draw in range(draws):
        first, second = (studio.shoot(studio.noise(), f"repeat {draw}").images for _ in range(2))
        if first.shape != second.shape or not torch.equal(first.nan_to_num(), second.nan_to_num()):
            raise NotApplicable("equal seeds give unequal answers; see repeats_with_the_seeds")


@around
def takes_levels_for_shares(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """A shift of 0.1, whatever the scale: of a byte, nothing."""
    if images.dtype == torch.uint8:
        return original(images, *rest)
    return on_images(original(images, *rest), lambda x: (x + 0.1).clamp(max=1))


@around
def brightens_bytes_past_their_end(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """uint8 wraps around where a float is clipped."""
    wide = images.dtype != torch.uint8
    return on_images(
        original(images, *rest), lambda x: (x * 1.5).clamp(max=1) if wide else x + x // 2
    )


@around
def rounds_bytes_to_black_and_white(original: Any, images: Tensor, *rest: Tensor) -> Any:
    whole = images.dtype == torch.uint8
    return on_images(original(images, *rest), lambda x: 255 * (x // 128) if whole else x)


@around
def inverts_bytes(original: Any, images: Tensor, *rest: Tensor) -> Any:
    whole = images.dtype == torch.uint8
    return on_images(original(images, *rest), lambda x: 255 - x if whole else x)


@check(
    kind="augmentation",
    options={"integers": [True]},
    rejects=[
        takes_levels_for_shares,
        brightens_bytes_past_their_end,
        rounds_bytes_to_black_and_white,
        inverts_bytes,
    ],
    once=True,
)
def treats_bytes_as_images(subject: Implementation, case: Case) -> Evidence:
    """A uint8 image and the float image that it stands for come out as the same picture.

    f(x) · 255 of float images k/255 against f(k) of the bytes k under the same draw. Each stage
    rounds or cuts to a level; a pipeline of four (brightness, contrast, saturation, hue) is off by
    4 levels where no factor exceeds 1. The mean over pixels is held to that: single pixels may
    fall on the other side of a threshold.
    Source: the definition; torchvision's and kornia's issues on hue and solarize of bytes.
    """
    studio = open_studio(subject, case)
    hold_to_repeat(studio)
    if not studio.signature.specs[studio.signature.images].is_floating:
        raise NotApplicable("declares images of bytes; declare floats, and bytes by integers")
    low, high = studio.range
    levels = (255 * studio.noise()).round()
    floats = studio.develop(levels / 255)
    bytes_ = (255 * (floats - low) / (high - low)).round().to(torch.uint8)
    worst = 0.0
    for draw in range(_DRAWS):
        whole = _answer(studio, bytes_, draw).double()
        exact = 255 * (_answer(studio, floats, draw).double() - low) / (high - low)
        off = (whole - exact).abs().mean() if whole.shape == exact.shape else math.inf
        worst = max(worst, float(off))
    return Evidence(
        error=worst,
        bound=4.0,
        signal=255.0,
        resolution=0.05,
        unit="levels",
        what="mean distance of bytes from floats",
    )
