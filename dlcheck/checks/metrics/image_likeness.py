"""Is a distance of images closer to what people see than a difference of pixels?"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dlcheck.checks.metrics.image_distortions import UNITS, distortions
from dlcheck.checks.metrics.image_pairs import Pictures, blur, interval_of, scores, sign_of
from dlcheck.checks.metrics.image_quality import compares_an_image_with_itself, negates_the_value
from dlcheck.datasets import photographs
from dlcheck.errors import DeclarationError, NotApplicable
from dlcheck.human_judgements import choices, triplets
from dlcheck.model import Evidence, Figure, Subject
from dlcheck.mutants import around
from dlcheck.registry import catalogue, check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build
from dlcheck.taken import inputs_of

_SIDE, _SIDE_OF_SCALES = 96, 176  # pixels of a patch; where others beside it have five scales
_WHOLE = 256  # pixels of a photograph
_PATCHES_OF_EACH = 2
_WARP, _SMOOTH = 1.5, 8.0  # pixels: how far the warp moves, and how smooth it is
_BETTER = 1.0  # dB by which the blur is at least nearer in PSNR
_BLURS = (0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)

Distance = Callable[[Tensor, Tensor], Tensor]


@around
def sees_pixels_only(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """The mean squared error, a network with its layers left out."""
    return (x - y).square().mean((1, 2, 3))


_LPIPS: dict[str, Any] = {
    "target": "dlcheck.references.metrics.lpips:LPIPS",
    "kind": "image_metric",
    "checks": ("warps_are_nearer_than_blurs", "agrees_with_people"),
}


@check(
    kind="image_metric",
    options={"better": ["higher", "lower"]},
    tags={"experiment"},
    once=True,
    rejects=[compares_an_image_with_itself, negates_the_value, sees_pixels_only],
    accepts=[Subject(name="lpips_on_warps", **_LPIPS)],
    textbook={
        "id": "M7",
        "says": "LPIPS: lower is more similar, and closer to human judgement than L2, PSNR, SSIM "
        "and FSIM",
        "verdict": "true if",
        "condition": "distortions grow; people's judgement asks for the BAPPS set",
    },
)
def warps_are_nearer_than_blurs(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """More distortion is further away, and a slight warp is nearer than a blur of higher PSNR.

    Photographs under noise, blur, JPEG and loss of contrast; then patches [8, 3, 96, 96], each
    warped smoothly by 1.5 pixels, which people hardly see, against blurred by as much as leaves
    the blur at least 1 dB nearer in PSNR: a proxy for people's judgement, on which the mean
    squared error is always wrong (the counter-example). `options.beside` names registered metrics
    to show in the same figures. The proxy does not tell LPIPS from FSIM: both prefer the warp.
    """
    beside = {"it": _distance(metric)} | dict(_beside(metric, case))
    side = _SIDE_OF_SCALES if len(beside) > 2 else _SIDE
    x = Pictures(photographs(side)[:2], 0.0, 1.0)
    curves = {
        name: {s: {m: distance(x.values, y) for m, distance in beside.items()} for s, y in levels}
        for name, levels in (
            (n, found.items()) for n, found in distortions(x, case, tuple(UNITS)).items()
        )
    }
    yield _law(curves)
    figures = tuple(_figure(name, curve) for name, curve in curves.items())
    yield from _proxy(beside, case, _patches(case, side), figures)


def _levels(x: Pictures, case: Case) -> Iterator[tuple[str, ItemsView[float, Tensor]]]:
    for name, found in distortions(x, case, tuple(UNITS)).items():
        yield name, found.items()


def _law(curves: Mapping[str, Mapping[float, Mapping[str, Tensor]]]) -> Evidence:
    steps = torch.cat(
        [
            torch.stack([values["it"] for values in curve.values()]).diff(dim=0).flatten()
            for curve in curves.values()
        ]
    )
    return Evidence(
        error=float((~(steps > 0)).sum()),
        bound=0.0,
        signal=float(steps.numel()),
        unit="steps",
        what="steps of more distortion that are not further away",
        expected="0",
        got=f"{int((~(steps > 0)).sum())} of {steps.numel()}",
    )


def _proxy(
    beside: Mapping[str, Distance], case: Case, patches: Tensor, figures: tuple[Figure, ...]
) -> Iterator[Evidence]:
    warped = _warped(patches, case)
    blurred = _blurred_less(patches, _squares(patches, warped))
    share = {
        name: float((distance(patches, warped) < distance(patches, blurred)).double().mean())
        for name, distance in beside.items()
    }
    count, wrong = float(len(patches)), len(patches) * (1 - share["it"])
    yield Evidence(
        error=wrong,
        bound=count / 4,
        signal=count,
        resolution=0.5,  # a share of the patches, not a rounding: three of four must agree
        unit="patches",
        what="patches whose blur is nearer than their warp",
        expected=f"at most {count / 4:g}",
        got=f"{wrong:g} of {count:g}",
        values={f"share that prefers the warp: {name}": value for name, value in share.items()},
        figures=figures,
    )
    squares = [_squares(patches, other) for other in (warped, blurred)]
    preferred = float((squares[0] < squares[1]).sum())
    yield Evidence(
        error=preferred,
        bound=0.0,
        signal=count,
        unit="patches",
        what="patches whose warp is nearer in PSNR",
        expected="0",
        got=f"{preferred:g} of {count:g}",
        counterexample=True,
    )


def _figure(name: str, curve: Mapping[float, Mapping[str, Tensor]]) -> Figure:
    """Mean distances, each as a share of that at the strongest distortion shown."""
    means = {
        metric: [(s, float(values[metric].mean())) for s, values in curve.items()]
        for metric in next(iter(curve.values()))
    }
    series = {}
    for metric, points in means.items():
        first, last = points[0][1], points[-1][1]
        series[metric] = [(s, (value - first) / ((last - first) or 1.0)) for s, value in points]
    return Figure(
        title=f"Distances against {name}",
        x=UNITS[name],
        y="share of the way from the weakest to the strongest",
        series=series,
        log_x=True,
        note="Similarities are turned around, so that all rise.",
    )


def _distance(metric: Implementation) -> Distance:
    """Images [b, 3, h, w] in [0, 1] → distance [b], whatever the metric takes and means."""
    spec = next(iter(inputs_of(metric.declared).values()))
    low, high = interval_of(metric, spec)
    sign = -sign_of(metric)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        given = ((low + (high - low) * z).to(metric.device, metric.dtype) for z in (x, y))
        with torch.no_grad():
            return sign * scores(metric, *given)

    return distance


def _beside(metric: Implementation, case: Case) -> Iterator[tuple[str, Distance]]:
    """The registered metrics that `options.beside` names, and the mean squared error."""
    for path in metric.options.get("beside", ()):
        found = catalogue().reference_at(path)
        if found is None:
            raise DeclarationError(f"option beside: {path!r} is no registered reference")
        other = build(found.subject(), case.sizes, case.device, case.dtype, case.recipe.seed)
        yield found.name, _distance(other)
    yield "mean squared error", _squares


def _squares(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().mean((1, 2, 3)).cpu()


def _patches(case: Case, side: int) -> Tensor:
    """Two random squares of each photograph: [n, 3, side, side] in [0, 1], float64."""
    generator, found = case.generator("patches"), []
    for photo in photographs(_WHOLE):
        corners = torch.randint(0, _WHOLE - side, (_PATCHES_OF_EACH, 2), generator=generator)
        found += [photo[:, r : r + side, c : c + side] for r, c in corners.tolist()]
    return torch.stack(found)


def _warped(images: Tensor, case: Case) -> Tensor:
    """Moved by a smooth random field of 1.5 pixels in each direction, bilinearly."""
    b, _, h, w = images.shape
    field = torch.randn(b, 2, h, w, generator=case.generator("warp"), dtype=images.dtype)
    field = blur(field, _SMOOTH)
    field = _WARP * field / field.flatten(1).std(1).view(-1, 1, 1, 1)
    down, across = torch.meshgrid(
        torch.linspace(-1, 1, h, dtype=images.dtype),
        torch.linspace(-1, 1, w, dtype=images.dtype),
        indexing="ij",
    )
    grid = torch.stack([across + field[:, 0] * 2 / w, down + field[:, 1] * 2 / h], -1)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=True)


def _blurred_less(images: Tensor, squares: Tensor) -> Tensor:
    """Each image under the widest blur that leaves it 1 dB nearer than `squares` [b]."""
    limit = squares * 10 ** (-_BETTER / 10)
    chosen = blur(images, _BLURS[0])
    for deviation in _BLURS[1:]:
        wider = blur(images, deviation)
        fits = (_squares(images, wider) <= limit).view(-1, 1, 1, 1)
        chosen = torch.where(fits, wider, chosen)
    return chosen


@check(
    kind="image_metric",
    options={"bapps": True, "better": ["higher", "lower"]},
    once=True,
    rejects=[compares_an_image_with_itself, negates_the_value, sees_pixels_only],
    accepts=[Subject(name="lpips_on_bapps", options={"bapps": "2afc/val"}, **_LPIPS)],
    textbook={
        "id": "M7",
        "says": "LPIPS: lower is more similar, and closer to human judgement than L2, PSNR, SSIM "
        "and FSIM",
        "verdict": "true if",
        "condition": "distortions grow; people's judgement asks for the BAPPS set",
    },
)
def agrees_with_people(metric: Implementation, case: Case) -> Evidence:
    """It agrees with people's choices more often than the mean squared error does.

    The 2AFC score on the copy of BAPPS in the folder `options.bapps`: the mean share of people
    who choose, of two distorted patches, the one that the metric has nearer to the reference.
    Triplets are compared one by one; the difference must be above 3 of its standard errors.
    Not checked without such a folder.
    """
    folder = metric.options["bapps"]
    try:
        parts = list(triplets(folder))
    except FileNotFoundError as error:
        raise NotApplicable(f"not checked: {error}") from None
    own, plain = (
        torch.cat([choices(distance, part) for part in parts])
        for distance in (_distance(metric), _squares)
    )
    gain = own - plain
    margin = 3 * float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else float("inf")
    lost = not float(gain.mean()) > margin
    return Evidence(
        error=float(lost),
        bound=0.0,
        signal=1.0,
        unit="comparisons",
        what="comparison with the mean squared error by people's choices that is lost",
        expected=f"2AFC score above {float(plain.mean()) + margin:.4f}",
        got=f"{float(own.mean()):.4f}",
        values={"2AFC": float(own.mean()), "2AFC of the mean squared error": float(plain.mean())},
    )
