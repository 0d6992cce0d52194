"""Metrics of image pairs, on photographs: identity, exchange, batches, range."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.image_distortions import distortions
from dlcheck.checks.metrics.image_pairs import flat_answer, pictures, resolvable, scores
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around, on_tensors
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_RESOLUTION = 0.008  # of one value for a batch, which may be below those of its pairs
_GUARD = 1e-6  # of the signal: what eps in denominators is seen to move a value


@around
def leaves_dropout_on(original: Any, x: Tensor, *rest: Any, **keywords: Any) -> Any:
    """A tenth of the pixels of the first image are dropped, as a network in train would."""
    kept = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) > 0.1
    return original(x * kept.to(x.device), *rest, **keywords)


@around
def blurs_the_first_image(original: Any, x: Tensor, *rest: Any, **keywords: Any) -> Any:
    """It is resized and the other is not."""
    small = torch.nn.functional.avg_pool2d(x.double(), 2)
    large = torch.nn.functional.interpolate(small, size=x.shape[-2:])
    return original(large.to(x.dtype), *rest, **keywords)


@around
def quantizes_the_first_image(original: Any, x: Tensor, *rest: Any, **keywords: Any) -> Any:
    """It went through a file of bytes with 16 levels, and the other did not."""
    return original((x * 16).round() / 16, *rest, **keywords)


@around
def shifts_the_second_image(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    return original(x, y.roll(1, -1), **keywords)


@around
def is_nan_where_images_are_equal(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """0/0 of a correlation."""
    answer, equal = original(x, y, **keywords), bool((x == y).all())
    return on_tensors(answer, lambda value: value * float("nan") if equal else value)


@around
def returns_a_negative_percentage(original: Any, *images: Tensor, **keywords: Any) -> Any:
    return on_tensors(original(*images, **keywords), lambda value: -100 * value)


@around
def compares_with_the_next_pair(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """The batch axis of one side is off by one."""
    return original(x, y.roll(1, 0), **keywords)


@around
def centres_by_the_batch(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Normalised with the mean of the whole batch: pairs see each other."""
    mean = x.double().mean((0, 2, 3), keepdim=True)
    return original(((x - mean) / 2 + mean.mean()).to(x.dtype), y, **keywords)


@around
def adds_the_position(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Later pairs are worse: a state is carried along the batch."""
    steps = torch.linspace(1, 0.5, len(x), device=x.device).view(-1, 1, 1, 1)
    return original((x * steps).to(x.dtype), y, **keywords)


@check(
    kind="image_metric",
    options={"perfect": True},
    once=True,
    rejects=[
        blurs_the_first_image,
        leaves_dropout_on,
        quantizes_the_first_image,
        shifts_the_second_image,
    ],
)
def an_image_scores_perfectly_with_itself(metric: Implementation, case: Case) -> Evidence:
    """f(x, x) is the declared `perfect` value, for every photograph.

    x [b, c, h, w]; the signal is how far the value of a noisy copy is from it. An infinite value
    (PSNR) must be infinite. A millionth of the signal is left for what guards a quotient or a
    logarithm from 0.
    """
    x = pictures(metric, case)
    perfect = float(metric.options["perfect"])
    noisy = x.noisy(0.1, case.generator("noise"))
    values, apart = scores(metric, x.values, x.values), scores(metric, x.values, noisy)
    worst = values[(values - perfect).abs().argmax()] if math.isfinite(perfect) else values.min()
    error = 0.0 if bool((values == perfect).all()) else float((values - perfect).abs().max())
    away = float((apart - perfect).abs().min())
    signal = away if math.isfinite(away) else float(apart.abs().max())
    return Evidence(
        error=error,
        bound=resolvable(metric, case, x, noisy) + _GUARD * signal,
        signal=signal,
        what="distance from the perfect value, of an image with itself",
        expected=f"{perfect:g}",
        got=f"{float(worst):.9g}",
    )


@check(
    kind="image_metric",
    needs={"symmetric"},
    once=True,
    rejects=[
        blurs_the_first_image,
        leaves_dropout_on,
        quantizes_the_first_image,
    ],
)
def exchanging_the_images_changes_nothing(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """f(y, x) = f(x, y) for photographs against noisy and blurred copies.

    x, y [b, c, h, w]; the signal is the value, or its distance from the perfect one.
    """
    x = pictures(metric, case)
    for name, y in (("noise", x.noisy(0.1, case.generator("noise"))), ("blur", x.blurred(2.0))):
        there, back = scores(metric, x.values, y), scores(metric, y, x.values)
        yield Evidence(
            error=float((there - back).abs().max()),
            bound=2 * resolvable(metric, case, x, y),
            signal=float(there.abs().max()),
            what=f"change of the value when the images are exchanged ({name})",
            expected=_listed(there),
            got=_listed(back),
        )


@check(
    kind="image_metric",
    once=True,
    rejects=[adds_the_position, centres_by_the_batch, compares_with_the_next_pair],
)
def pairs_of_a_batch_do_not_meet(metric: Implementation, case: Case) -> Evidence:
    """The value of a pair does not depend on the other pairs of the batch.

    x, y [b, c, h, w]: one value for each pair equals that of the pair alone; one value for the
    batch, with `options.reduction = "mean"`, equals the mean of theirs. A metric that pools the
    batch before a nonlinear step is declared without `reduction`.
    """
    x = pictures(metric, case, at_least=2)
    y = _mixed(x.noisy(0.2, case.generator("noise")), x.blurred(1.0))
    answer = metric(x.values.clone(), y.clone())
    together = scores(metric, x.values, y) if _is_per_pair(answer, len(y)) else None
    if together is None and metric.options.get("reduction") != "mean":
        raise NotApplicable("the batch has one value, and reduction = 'mean' is not declared")
    alone = torch.cat([scores(metric, x.values[i : i + 1], y[i : i + 1]) for i in range(len(y))])
    if together is None:
        together = torch.tensor([metric.number(x.values, y)], dtype=torch.float64)
        alone = alone.mean()[None]
    signal = float(alone.abs().max())
    return Evidence(
        error=float((together - alone).abs().max()),
        bound=min(2 * resolvable(metric, case, x, y), _RESOLUTION * signal),
        signal=signal,
        what="change of a pair's value in a batch",
        expected=_listed(alone),
        got=_listed(together),
    )


@around
def sorts_the_second_images(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """One folder is listed by name, the other by brightness."""
    order = y.double().mean((1, 2, 3)).argsort()
    return original(x, y[order], **keywords)


@around
def carries_the_last_value_over(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """A running mean over the batch, where each pair was to have its own value."""

    def smooth(values: Tensor) -> Tensor:
        return values.flatten() + 0.1 * values.flatten().roll(1) * (torch.arange(len(x)) > 0)

    return on_tensors(original(x, y, **keywords), smooth)


@check(
    kind="image_metric",
    once=True,
    rejects=[adds_the_position, carries_the_last_value_over, sorts_the_second_images],
)
def pairs_may_come_in_any_order(metric: Implementation, case: Case) -> Evidence:
    """Exchanging the pairs of a batch exchanges their values, and leaves one value for all.

    x, y [b, c, h, w], reversed together, with copies of unlike quality.
    """
    x = pictures(metric, case, at_least=2)
    y = _mixed(x.noisy(0.2, case.generator("noise")), x.blurred(1.0))
    there, back = flat_answer(metric, x.values, y), flat_answer(metric, x.values.flip(0), y.flip(0))
    back = back.flip(0) if back.numel() == len(y) else back
    if there.shape != back.shape:
        raise NotApplicable("the same pairs have another number of values each time")
    signal = float(there.abs().max())
    return Evidence(
        error=float((there - back).abs().max()),
        bound=min(2 * resolvable(metric, case, x, y), _RESOLUTION * signal),
        signal=signal,
        what="change when the order of the pairs is reversed",
        expected=_listed(there),
        got=_listed(back),
    )


def _is_per_pair(answer: Any, pairs: int) -> bool:
    return isinstance(answer, Tensor) and answer.numel() == pairs


def _mixed(first: Tensor, second: Tensor) -> Tensor:
    """Every second picture from each: neighbours in the batch are distorted differently."""
    even = torch.arange(len(first), device=first.device).view(-1, 1, 1, 1) % 2 == 0
    return torch.where(even, first, second)


@check(
    kind="image_metric",
    options={"range": True},
    once=True,
    rejects=[is_nan_where_images_are_equal, returns_a_negative_percentage],
)
def values_keep_to_their_range(metric: Implementation, case: Case) -> Evidence:
    """f(x, y) lies in the declared range, for photographs, weakly and strongly distorted."""
    x = pictures(metric, case)
    low, high = (float(end) for end in metric.options["range"])
    levels = [list(found.values()) for found in distortions(x, case).values()]
    y = [images for found in levels for images in (found[0], found[-1])]
    values = torch.cat([scores(metric, x.values, image) for image in [x.values, *y]])
    return Evidence(
        error=float(_outside(values, low, high).max()),
        bound=resolvable(metric, case, x, y[-1]),
        signal=float(values[values.isfinite()].abs().max()),
        what="value outside of its range",
        expected=f"{low:g} to {high:g}",
        got=f"{float(values.min()):.6g} to {float(values.max()):.6g}",
    )


def _outside(values: Tensor, low: float, high: float) -> Tensor:
    """How far values lie outside [low, high]; NaN stays NaN, and an infinite end is inside."""
    inside = (values >= low) & (values <= high)
    return torch.where(inside, 0.0, torch.maximum(low - values, values - high))


def _listed(values: Tensor) -> str:
    return ", ".join(f"{float(value):.9g}" for value in values[:4])
