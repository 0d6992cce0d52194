"""What an augmentation leaves of an image: its shape, type, range and memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.augmentation.broken import on_images
from dlcheck.checks.augmentation.declared import interval_of
from dlcheck.checks.augmentation.studio import Studio, make_studio, open_studio
from dlcheck.domains import parse_input
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_DRAWS = 12
# Beside six images of 24 × 32, as far as the sizes are free.
_FORMATS: tuple[dict[str, int], ...] = ({}, {"b": 1}, {"h": 33, "w": 23}, {"w": 24})


@around
def fails_for_one_image(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """`squeeze()` where `squeeze(1)` was meant: a batch of one loses its axis."""
    return on_images(original(images, *rest), lambda x: x.squeeze() if len(x) == 1 else x)


@around
def takes_square_images_only(original: Any, images: Tensor, *rest: Tensor) -> Any:
    if images.shape[-1] > images.shape[-2]:
        raise ValueError(f"expected a square image, got {tuple(images.shape)}")
    return original(images, *rest)


@around
def exchanges_height_and_width(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: x.mT)


@around
def gives_not_a_number(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """Divides by a deviation that is 0."""
    return on_images(original(images, *rest), lambda x: x + (x - x) / (x - x).std())


@around
def returns_only_images_in_lists(original: Any, images: Tensor, *rest: Tensor) -> Any:
    answer = original(images, *rest)
    return [[x] for x in (answer if isinstance(answer, Tensor) else answer[0])] + [images]


@check(
    kind="augmentation",
    rejects=[
        fails_for_one_image,
        takes_square_images_only,
        exchanges_height_and_width,
        gives_not_a_number,
        returns_only_images_in_lists,
    ],
    once=True,
)
def takes_its_declared_images(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """It takes what it declares, of any size, and answers with images of the declared size.

    Batches of six and of one, wide, tall and square images, twelve draws each: it does not raise,
    no pixel is NaN or infinite, and the shape is that of the images that went in, or that of the
    option `output`.
    Source: the declaration.
    """
    seen: set[tuple[tuple[str, int], ...]] = set()
    for wanted in _FORMATS:
        studio = make_studio(subject, case, mode="train", **wanted)
        key = tuple(sorted(studio.sizes.items()))
        if key not in seen:
            seen.add(key)
            yield from _of_one_size(studio)


def _of_one_size(studio: Studio) -> Iterator[Evidence]:
    height, width = studio.side
    size = f"{studio.rows} images of {height} × {width}"
    expected = _expected_shape(studio)
    unlike, broken = expected, 0
    try:
        for draw in range(_DRAWS):
            images = studio.shoot(studio.noise(), f"format {draw}").images
            broken = max(broken, int((~torch.isfinite(images.double())).sum()))
            if tuple(images.shape) != expected:
                unlike = tuple(images.shape)
    except SubjectError as error:
        yield Evidence(
            error=math.inf,
            bound=0.0,
            signal=1.0,
            what=f"an answer for {size}",
            got=str(error),
            cause=_advice(str(error)),
        )
        return
    yield Evidence(
        error=float(unlike != expected),
        bound=0.0,
        signal=1.0,
        what=f"shape of the images, given {size}",
        expected=str(expected),
        got=str(unlike),
        cause='a new size is declared, as output = "image b 3 24 24"'
        if unlike != expected and "output" not in studio.subject.options
        else "",
    )
    yield Evidence(
        error=float(broken),
        bound=0.0,
        signal=float(max(math.prod(expected), 1)),
        unit="pixels",
        what=f"pixels that are not finite, given {size}",
    )


def _advice(message: str) -> str:
    if "PIL" in message or "pic should be" in message:
        return (
            "takes PIL images: declare a function of tensors that converts them (torchvision's "
            "to_pil_image and pil_to_tensor) and calls it"
        )
    if "ndarray" in message or "numpy" in message:
        return "takes arrays: declare a function of tensors that calls it with images.numpy()"
    return (
        "what it takes is declared: a batch as 'image b 3 h w', one image as 'image 3 h w', bytes "
        "as 'uint8 b 3 h w', other bounds as options.sizes = { h = [32, 64] }"
    )


def _expected_shape(studio: Studio) -> tuple[int, ...]:
    stated = studio.subject.options.get("output")
    spec = parse_input(stated) if stated else studio.signature.specs[studio.signature.images]
    unknown = spec.names - set(studio.sizes)
    if unknown:
        raise NotApplicable(f"output names {', '.join(sorted(unknown))}, which no input has")
    return spec.shape(studio.sizes)


@around
def returns_single_precision(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: x.to(torch.float16))


@around
def returns_bytes(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: (255 * x).to(torch.uint8))


@around
def returns_integers(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: x.long())


@around
def returns_other_floats(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """A NumPy draw is of float64: its product with a float32 image is, too."""
    other = {torch.float64: torch.float32}.get(images.dtype, torch.float64)
    return on_images(original(images, *rest), lambda x: x.to(other))


@check(
    kind="augmentation",
    rejects=[
        returns_single_precision,
        returns_bytes,
        returns_integers,
        returns_other_floats,
    ],
    once=True,
)
def keeps_type_and_device(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Images come back in the type in which they went in, and on the same device.

    Where `output` names another element, in a type of that; `compute_dtype` is one that an answer
    may have too. Over eight draws, as a branch that is not taken shows nothing.
    Source: the declaration.
    """
    studio = open_studio(subject, case)
    given = studio.develop(studio.noise())
    allowed = _allowed_types(studio, given.dtype)
    for draw in range(8):
        images = studio.shoot(studio.noise(), draw).images
        if images.dtype not in allowed or images.device.type != given.device.type:
            break
    yield Evidence(
        error=float(images.dtype not in allowed),
        bound=0.0,
        signal=1.0,
        what="type of the images",
        expected=" or ".join(sorted(map(str, allowed))),
        got=str(images.dtype),
        cause='another type is declared, as output = "float b 3 h w"',
    )
    yield Evidence(
        error=float(images.device.type != given.device.type),
        bound=0.0,
        signal=1.0,
        what="device of the images",
        expected=given.device.type,
        got=images.device.type,
    )


def _allowed_types(studio: Studio, given: torch.dtype) -> set[torch.dtype]:
    allowed = {given}
    stated = studio.subject.options.get("output")
    if stated:
        spec = parse_input(stated)
        if spec.is_floating and not given.is_floating_point:
            return {torch.float16, torch.bfloat16, torch.float32, torch.float64}
        if not spec.is_floating:
            return {torch.uint8} if spec.element == "uint8" else {torch.int64, torch.int32}
    inside = studio.subject.options.get("compute_dtype")
    if inside:
        allowed.add(getattr(torch, str(inside)))
    return allowed


def stretched(factor: float) -> Any:
    """Contrast without a clip: about the middle of the interval."""

    def call(original: Any, images: Tensor, *rest: Tensor) -> Any:
        return on_images(original(images, *rest), lambda x: 0.5 + factor * (x - 0.5))

    call.__name__ = f"contrast_of_{factor:g}_unclipped".replace(".", "_")
    return around(call)


@around
def adds_noise_unclipped(original: Any, images: Tensor, *rest: Tensor) -> Any:
    answer = original(images, *rest)
    return on_images(answer, lambda x: x + 0.05 * torch.randn_like(x))


@around
def scales_up_to_255(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: 255 * x)


@around
def normalizes(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: (x - 0.45) / 0.225)


@check(
    kind="augmentation",
    rejects=[stretched(1.01), stretched(1.5), adds_noise_unclipped, scales_up_to_255, normalizes],
    once=True,
)
def stays_within_the_interval(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Pixels stay in the interval that the images' element states: [0, 1] for `image`.

    Black-and-white noise and colours, twelve draws. The bound is γ₆₄ of float32, what an
    interpolation with weights that sum to 1 rounds by, times the length of the interval. Another
    interval is declared by `output` or `bounds`; `float` images have none.
    Source: the declaration.
    """
    studio = open_studio(subject, case)
    low, high = _interval(studio)
    slack = gamma(64, torch.float32) * (high - low)
    noise = studio.noise()
    worst = 0.0
    for draw in range(_DRAWS):
        motif = (noise > 0.5).double() if draw % 2 else noise
        x = studio.shoot(motif, draw).images.double()
        beyond = torch.maximum(low - x, x - high).max().clamp(min=0)
        worst = max(worst, float(beyond)) if not math.isnan(worst + float(beyond)) else math.nan
    yield Evidence(
        error=worst,
        bound=slack,
        signal=high - low,
        what="distance of pixels from the interval",
        expected=f"pixels in [{low:g}, {high:g}]",
        cause='an answer outside it is declared, as output = "float b 3 h w"',
    )


def _interval(studio: Studio) -> tuple[float, float]:
    options = studio.subject.options
    if "bounds" in options:
        low, high = options["bounds"]
        return float(low), float(high)
    spec = studio.signature.specs[studio.signature.images]
    stated = interval_of(parse_input(options["output"]) if "output" in options else spec)
    if stated is None:
        raise NotApplicable("declares no interval: 'float' pixels are any number")
    return stated


def same_everywhere(first: Tensor, second: Tensor, scale: float, what: str) -> Evidence:
    """Two answers that should be one, to γ₆₄ of their type, and of float32 inside at most."""
    dtype = first.dtype if first.dtype.is_floating_point else torch.float32
    error = (first.double() - second.double()).abs().max() if first.numel() else torch.zeros(())
    return Evidence(
        error=float(error),
        bound=max(gamma(64, dtype), gamma(64, torch.float32)) * scale
        if dtype.is_floating_point
        else 0.0,
        signal=scale,
        what=what,
    )
