"""What leaves a metric of image pairs as it is: mirrors, offsets, the unit of brightness."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.image_pairs import Pictures, pictures, resolvable, scores
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around, rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

Change = Callable[[Tensor], Tensor]


@around
def weighs_the_left_half_twice(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Differences right of the middle count half: a window that is not centred."""
    middle = x.shape[-1] // 2
    right = x[..., middle:] + (y[..., middle:] - x[..., middle:]) / 2
    return original(x, torch.cat([y[..., :middle], right], -1), **keywords)


@around
def mirrors_one_image(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """A loader that mirrors at random mirrored one image of the pair."""
    left, right = x.double().tensor_split(2, -1)
    brighter = bool(left.mean() > right.mean())
    return original(x.flip(-1) if brighter else x, y, **keywords)


@around
def reads_rows_as_columns(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """view instead of permute, on one image of the pair, where it is wider than high."""
    wide = x.shape[-1] > x.shape[-2]
    return original(x.mT.contiguous().view(x.shape) if wide else x, y, **keywords)


@around
def counts_the_upper_rows_only(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """A loop over the height that runs to the other side's middle."""
    rows = x.shape[-2] // 2
    lower = x[..., rows:, :] + (y[..., rows:, :] - x[..., rows:, :]) / 2
    return original(x, torch.cat([y[..., :rows, :], lower], -2), **keywords)


@around
def weighs_by_brightness(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Differences in bright pixels count more: a gamma that was not undone."""
    return original(x.sign() * x.abs() ** 1.2, y.sign() * y.abs() ** 1.2, **keywords)


@around
def divides_by_the_mean(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    mean = x.mean((1, 2, 3), keepdim=True)
    return original(x / mean / 2, y / mean / 2, **keywords)


@around
def cuts_off_above_the_middle(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    middle = 0.65
    return original(x.clamp_max(middle), y.clamp_max(middle), **keywords)


def _with_range_one(made: Any) -> Any:
    """The built function, called with data_range = 1 whatever was asked for."""
    if isinstance(made, functools.partial):
        return functools.partial(made.func, **{**made.keywords, "data_range": 1.0})
    return made


ignores_the_data_range = rebuilt("ignores_the_data_range", _with_range_one)


@around
def clamps_to_the_unit_interval(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    return original(x.clamp(0, 1), y.clamp(0, 1), **keywords)


@around
def adds_a_fixed_epsilon(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Soft in units of the image, so that the value depends on its unit."""
    return original(x, y + 1e-2, **keywords)


@around
def sums_over_the_channels(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Each channel further away than it is: the error is not averaged over the channels."""
    return original(x, x + (y - x) * x.shape[1] ** 0.5, **keywords)


@around
def takes_the_first_channel_twice(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Half of the second image in every further channel."""
    further = (x[:, 1:] + y[:, 1:]) / 2
    return original(x, torch.cat([y[:, :1], further], 1), **keywords)


@around
def mixes_channels_with_unequal_weights(
    original: Any, x: Tensor, y: Tensor, **keywords: Any
) -> Any:
    """Weights of luminance that do not sum to one, on three channels."""
    if x.shape[1] == 3:
        weights = torch.tensor([0.299, 0.587, 0.3], device=x.device, dtype=x.dtype)
        grey = [(z * weights[:, None, None]).sum(1, keepdim=True) for z in (x, y)]
        x, y = (z.expand_as(x) for z in grey)
    return original(x, y, **keywords)


@check(
    kind="image_metric",
    needs={"mirror_invariant"},
    once=True,
    rejects=[counts_the_upper_rows_only, mirrors_one_image, weighs_the_left_half_twice],
)
def mirroring_both_images_changes_nothing(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """f(Mx, My) = f(x, y) for the mirror M that exchanges left and right, and up and down.

    x, y [b, c, h, w] photographs against copies that are noisy on one side.
    """
    yield _unmoved(metric, case, "left and right exchanged", lambda z: z.flip(-1))
    yield _unmoved(metric, case, "up and down exchanged", lambda z: z.flip(-2))


@check(
    kind="image_metric",
    needs={"transpose_invariant"},
    once=True,
    rejects=[counts_the_upper_rows_only, reads_rows_as_columns, weighs_the_left_half_twice],
)
def transposing_both_images_changes_nothing(metric: Implementation, case: Case) -> Evidence:
    """f(xᵀ, yᵀ) = f(x, y): rows and columns of both images exchanged.

    x, y [b, c, h, w] with h ≠ w where the declaration leaves the sides free, so that a height
    taken for a width is seen.
    """
    return _unmoved(metric, case, "rows and columns exchanged", lambda z: z.mT.contiguous())


@check(
    kind="image_metric",
    needs={"shift_invariant"},
    once=True,
    rejects=[cuts_off_above_the_middle, divides_by_the_mean, weighs_by_brightness],
)
def brightening_both_images_changes_nothing(metric: Implementation, case: Case) -> Evidence:
    """f(x + c, y + c) = f(x, y) for photographs in the lower half of the range, c a third of it."""
    whole = pictures(metric, case)
    _needs_numbers(whole)
    x = _lower_half(whole)
    return _unmoved(metric, case, "both brighter", lambda z: z + whole.span / 3, x)


def _lower_half(x: Pictures) -> Pictures:
    return Pictures((x.values + x.low) / 2, x.low, (x.low + x.high) / 2)


def _needs_numbers(x: Pictures) -> None:
    if not x.values.is_floating_point():
        raise NotApplicable("bytes have one range, and no halves")


def _unmoved(
    metric: Implementation, case: Case, what: str, change: Change, x: Pictures | None = None
) -> Evidence:
    """The values of pairs before and after a change of both images."""
    x = x or pictures(metric, case)
    y = _noisy_in_a_corner(x, case)
    before, after = scores(metric, x.values, y), scores(metric, change(x.values), change(y))
    return Evidence(
        error=float((after - before).abs().max()),
        bound=2 * resolvable(metric, case, x, y),
        signal=float(before.abs().max()),
        what=f"change of the value, {what}",
        expected=", ".join(f"{float(v):.9g}" for v in before),
        got=", ".join(f"{float(v):.9g}" for v in after),
    )


def _noisy_in_a_corner(x: Pictures, case: Case) -> Tensor:
    """Noise that grows from the lower right to the upper left: no side is like another."""
    height, width = x.values.shape[-2:]
    down = torch.linspace(1, 0.2, height, dtype=torch.float64)[:, None]
    fade = (down * torch.linspace(1, 0.2, width, dtype=torch.float64)).to(x.values.device)
    noisy = x.noisy(0.2, case.generator("noise")).double()
    return x.kept(x.values.double() + fade * (noisy - x.values.double()))


@check(
    kind="image_metric",
    options={"data_range": True},
    once=True,
    rejects=[adds_a_fixed_epsilon, clamps_to_the_unit_interval, ignores_the_data_range],
)
def the_unit_of_brightness_does_not_matter(
    metric: Implementation, case: Case
) -> Iterator[Evidence]:
    """f(ax, ay; aR) = f(x, y; R), and the argument R matters: f(x, y; 4R) ≠ f(x, y; R).

    x, y [b, c, h, w] in the declared interval and in a = 1/255 and 7/4 times its unit, R the
    argument that `options.data_range` names. All constants of such a metric are multiples of R.
    """
    name, x = metric.options["data_range"], pictures(metric, case)
    _needs_numbers(x)
    if not isinstance(name, str):
        raise NotApplicable("data_range is a number, and no argument that could be varied")
    given = metric.value_of(name, "option data_range")
    if not isinstance(given, (int, float)) or isinstance(given, bool):
        raise NotApplicable(f"{name} is {given!r}, which cannot be multiplied")
    y = x.noisy(0.1, case.generator("noise"))
    before, room = scores(metric, x.values, y), 2 * resolvable(metric, case, x, y)
    for unit in (1 / 255, 1.75):
        scaled = scores(metric.rebuilt(**{name: given * unit}), x.values * unit, y * unit)
        yield Evidence(
            error=float((scaled - before).abs().max()),
            bound=room,
            signal=float(before.abs().max()),
            what=f"change of the value when images and {name} are multiplied by {unit:.3g}",
            expected=", ".join(f"{float(v):.9g}" for v in before),
            got=", ".join(f"{float(v):.9g}" for v in scaled),
        )
    other = scores(metric.rebuilt(**{name: given * 4.0}), x.values, y)
    ignored = int((other == before).sum())
    yield Evidence(
        error=float(ignored),
        bound=0.0,
        signal=float(len(before)),
        unit="pairs",
        what=f"pairs whose value is the same when {name} alone is multiplied by 4",
        expected="0",
        got=f"{ignored}",
    )


@check(
    kind="image_metric",
    needs={"grey_is_colour"},
    once=True,
    rejects=[
        mixes_channels_with_unequal_weights,
        sums_over_the_channels,
        takes_the_first_channel_twice,
    ],
)
def grey_images_may_come_in_colour(metric: Implementation, case: Case) -> Evidence:
    """A grey photograph has the value of the same one with three equal channels.

    [b, 1, h, w] against [b, 3, h, w]: channels are averaged, or make a luminance whose weights
    sum to one.
    """
    x = pictures(metric, case)
    grey = Pictures(x.kept(x.values.double().mean(1, keepdim=True)), x.low, x.high)
    y = grey.noisy(0.1, case.generator("noise"))
    colour = [z.expand(-1, 3, -1, -1).contiguous() for z in (grey.values, y)]
    alone, repeated = scores(metric, grey.values, y), scores(metric, *colour)
    return Evidence(
        error=float((alone - repeated).abs().max()),
        bound=2 * resolvable(metric, case, grey, y),
        signal=float(alone.abs().max()),
        what="difference between one channel and three equal ones",
        expected=", ".join(f"{float(v):.9g}" for v in alone),
        got=", ".join(f"{float(v):.9g}" for v in repeated),
    )
