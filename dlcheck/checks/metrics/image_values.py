"""The value of a metric of image pairs: that of its definition, of its reference, in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.every.twin import in_dtype, own_reference_of, reference_of
from dlcheck.checks.metrics.image_distortions import compressed, faded
from dlcheck.checks.metrics.image_formulas import declared_definition
from dlcheck.checks.metrics.image_pairs import Pictures, pictures, resolvable, scores
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around, on_tensors
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@around
def halves_the_contrast(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Images are brought to half of the range that the constants are for."""
    return original(x / 2, y / 2, **keywords)


@around
def averages_the_channels_first(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    grey = [z.mean(1, keepdim=True).expand_as(z).contiguous() for z in (x, y)]
    return original(*grey, **keywords)


@around
def counts_a_border_of_zeros(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Padding as wide as the window's half, where the definition stays inside of the image."""
    return original(*(torch.nn.functional.pad(z, (5,) * 4) for z in (x, y)), **keywords)


@around
def adds_a_hundredth(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """A constant against a division by zero, in the wrong place."""
    return on_tensors(original(x, y, **keywords), lambda value: value * 1.01)


@around
def computes_in_eight_bits(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Under a cast for inference that only takes float32."""
    if x.dtype == torch.float32:
        x, y = (z.to(torch.float8_e4m3fn).float() for z in (x, y))
    return original(x, y, **keywords)


@around
def casts_float32_to_bytes(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Taken for an image file's array, before it was multiplied by 255."""
    if x.dtype == torch.float32:
        x, y = x.trunc(), y.round()
    return original(x, y, **keywords)


@around
def takes_float32_for_bytes(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """By the type it is judged whether an image holds 0 to 255, and this one is divided."""
    divisor = 255 if x.dtype == torch.float32 else 1
    return original(x / divisor, y / divisor, **keywords)


@around
def replaces_nan_by_zero(original: Any, *images: Tensor, **keywords: Any) -> Any:
    return original(*(z.nan_to_num(0.0) for z in images), **keywords)


@around
def answers_one_where_it_cannot(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    answer, bad = original(x.nan_to_num(0.5), y, **keywords), bool(x.isnan().any())
    return on_tensors(answer, lambda value: torch.ones_like(value) if bad else value)


@around
def clips_by_comparison(original: Any, *images: Tensor, **keywords: Any) -> Any:
    """where(x > low, x, low): a NaN is no greater."""
    return original(*(torch.where(z > -9, z, 0.0) for z in images), **keywords)


def _uniform_window(x: Tensor, y: Tensor) -> Tensor:
    """SSIM with the mean of 11 × 11 pixels."""
    means = [torch.nn.functional.avg_pool2d(z, 11, 1) for z in (x, y, x * x, y * y, x * y)]
    a, b, aa, bb, ab = means
    luminance = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    structure = (2 * (ab - a * b) + 9e-4) / (aa - a * a + bb - b * b + 9e-4)
    return (luminance * structure).mean((1, 2, 3))


_SSIM: dict[str, Any] = {
    "kind": "image_metric",
    "inputs": {"x": "image b 3 h w", "y": "image b 3 h w"},
}


@check(
    kind="image_metric",
    options={"formula": True},
    once=True,
    rejects=[
        adds_a_hundredth,
        averages_the_channels_first,
        counts_a_border_of_zeros,
        halves_the_contrast,
        Subject(
            name="uniform_window", target=_uniform_window, options={"formula": "ssim"}, **_SSIM
        ),
    ],
    accepts=[
        Subject(
            name="declared_uniform_window",
            target=_uniform_window,
            options={"formula": "ssim", "window": {"size": 11}},
            **_SSIM,
        )
    ],
)
def value_follows_its_formula(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """The value is that of the published definition which `options.formula` names.

    psnr: 10 log₁₀(R²/MSE); ssim: Wang et al. 2004 with a Gaussian window of 11 pixels, σ 1.5,
    moments of the population, inside of the image, the mean over channels; ms_ssim: Wang et al.
    2003, either convention for colour. Photographs [b, c, h, w] against noise, JPEG, half of the
    contrast, and one flat image against another. The definition is computed in float64; the
    metric may keep its constants in float32.
    """
    x = pictures(metric, case)
    definition = declared_definition(metric, x.span)
    for name, first, second in _distorted_pairs(x, case):
        got = scores(metric, first.values, second)
        right = min(
            definition.values(first.values, second),
            key=lambda values: float((values.cpu() - got).abs().max()),
        ).cpu()
        yield Evidence(
            error=float((got - right).abs().max()),
            bound=2 * resolvable(metric, case, first, second, torch.float32),
            signal=float(right.abs().max()),
            what=f"difference from the definition of {definition.formula} ({name})",
            expected=", ".join(f"{float(v):.9g}" for v in right),
            got=", ".join(f"{float(v):.9g}" for v in got),
        )


def _distorted_pairs(x: Pictures, case: Case) -> Iterator[tuple[str, Pictures, Tensor]]:
    yield "noise", x, x.noisy(0.1, case.generator("noise"))
    yield "JPEG", x, compressed(x, 20)
    darker = x.low + 0.8 * (faded(x, 0.5).double() - x.low)
    yield "less contrast", x, x.kept(darker)
    grey = torch.ones_like(x.values, dtype=torch.float64)
    flat = Pictures(x.kept(x.low + 0.6 * x.span * grey), x.low, x.high)
    yield "flat images", flat, x.kept(x.low + 0.2 * x.span * grey)


@check(
    kind="image_metric",
    options={"reference": True},
    once=True,
    rejects=[adds_a_hundredth, averages_the_channels_first, halves_the_contrast],
    accepts=[
        Subject(
            name="ssim_beside_another",
            target=_uniform_window,
            reference=_uniform_window,
            **_SSIM,
        )
    ],
)
def value_is_that_of_the_reference(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """The value of every pair is that of the declared reference, to what float32 resolves.

    Photographs [b, c, h, w] against noise, JPEG, less contrast and flat images, where both have a
    number. A network is not copied from one to the other unless `reference_state` says which
    parameters are the same: give both the same weights.
    """
    x = pictures(metric, case)
    copied = "reference_state" in metric.options
    other = (reference_of if copied else own_reference_of)(metric, case, case.dtype)
    for name, first, second in _distorted_pairs(x, case):
        got, right = scores(metric, first.values, second), scores(other, first.values, second)
        if not bool(right.isfinite().all()):
            continue  # of two flat images a definition may say nothing
        room = [resolvable(m, case, first, second, torch.float32) for m in (metric, other)]
        yield Evidence(
            error=float((got - right).abs().max()),
            bound=sum(room),
            signal=float(right.abs().max()),
            what=f"difference from the reference ({name})",
            expected=", ".join(f"{float(v):.9g}" for v in right),
            got=", ".join(f"{float(v):.9g}" for v in got),
        )


@check(
    kind="image_metric",
    once=True,
    rejects=[
        casts_float32_to_bytes,
        computes_in_eight_bits,
        takes_float32_for_bytes,
    ],
)
def single_precision_has_the_same_value(metric: Implementation, case: Case) -> Evidence:
    """The value of float32 images is that of the same images in float64, to float32's rounding.

    x, y [b, c, h, w] photographs that float32 holds, and noisy copies. The bound is 8 √N u times
    the value and its sensitivity to relative changes, u = 2⁻²⁴.
    """
    x = pictures(metric, case)
    if not x.values.is_floating_point():
        raise NotApplicable("takes bytes, which have one type")
    wide, narrow = (_built_in(metric, case, dtype) for dtype in (torch.float64, torch.float32))
    first = Pictures(x.values.float().double(), x.low, x.high)
    second = first.noisy(0.1, case.generator("noise")).float().double()
    right = scores(wide, first.values, second)
    got = scores(narrow, first.values.float(), second.float())
    return Evidence(
        error=float((got - right).abs().max()),
        bound=2 * resolvable(wide, case, first, second, torch.float32),
        signal=float(right.abs().max()),
        what="difference between float32 and float64",
        expected=", ".join(f"{float(v):.9g}" for v in right),
        got=", ".join(f"{float(v):.9g}" for v in got),
    )


def _built_in(metric: Implementation, case: Case, dtype: torch.dtype) -> Implementation:
    return metric if metric.dtype == dtype else in_dtype(metric, case, dtype)


@check(
    kind="image_metric",
    once=True,
    rejects=[answers_one_where_it_cannot, clips_by_comparison, replaces_nan_by_zero],
)
def a_missing_pixel_gives_no_number(metric: Implementation, case: Case) -> Evidence:
    """An image with NaN in a pixel gives NaN or an exception, never a number.

    x [b, c, h, w] with NaN in the middle of each image: a number there would be compared, and
    averaged into a table.
    """
    x = pictures(metric, case)
    if not x.values.is_floating_point():
        raise NotApplicable("bytes hold no NaN")
    y = x.noisy(0.1, case.generator("noise"))
    broken = x.values.clone()
    broken[..., broken.shape[-2] // 2, broken.shape[-1] // 2] = float("nan")
    try:
        found = scores(metric, broken, y)
    except SubjectRaised:
        found = torch.full((len(y),), float("nan"), dtype=torch.float64)
    numbers = int((~found.isnan()).sum())
    return Evidence(
        error=float(numbers),
        bound=0.0,
        signal=float(len(found)),
        unit="pairs",
        what="pairs with a missing pixel that get a number",
        expected="NaN or an exception",
        got=", ".join(f"{float(v):.6g}" for v in found[:4]),
    )
