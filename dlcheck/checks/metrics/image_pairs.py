"""Photographs with graded distortions, and how a metric of image pairs is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dlcheck.checks.metrics.precision import precision
from dlcheck.datasets import photographs
from dlcheck.domains import Input, size_bounds
from dlcheck.errors import NotApplicable, SubjectError, SubjectRaised
from dlcheck.inside import is_single_inside
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, tensors_in

_SIDES = (64, 80)  # pixels, where the declaration leaves the size free: not square
_COLOURS = 3
_COARSEST = 0.004  # twice of which a hundredth of the value still resolves
_SMALL = 100  # pixels: above it, two photographs are enough work
_MANY = 20  # cases per trial: a profile with fewer takes less of everything
_SIDES_OF_SCALES = (176, 192)  # for five scales of an 11-pixel window


@dataclass(frozen=True, slots=True)
class Pictures:
    """Photographs [b, c, h, w] as the subject takes them: values in [low, high], its dtype."""

    values: Tensor
    low: float
    high: float

    @property
    def span(self) -> float:
        return self.high - self.low

    def noisy(self, strength: float, generator: torch.Generator) -> Tensor:
        """With normal noise of `strength` times the range, cut off at the ends of the range."""
        noise = torch.randn(self.values.shape, generator=generator, dtype=torch.float64)
        return self.kept(self.values.double() + strength * self.span * noise.to(self.values.device))

    def blurred(self, deviation: float) -> Tensor:
        """Convolved with a Gaussian of that standard deviation in pixels, mirrored at the edge."""
        return self.kept(blur(self.values.double(), deviation))

    def kept(self, values: Tensor) -> Tensor:
        """Values in the range, and whole where they are bytes."""
        values = values.clamp(self.low, self.high)
        if not self.values.is_floating_point():
            values = values.round()
        return values.to(self.values.dtype)


def blur(images: Tensor, deviation: float) -> Tensor:
    """A separable Gaussian over the last two axes of images [b, c, h, w]."""
    reach = min(int(3 * deviation) + 1, min(images.shape[-2:]) - 1)
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    weights = torch.softmax(-(offsets**2) / (2 * deviation**2), 0)
    b, c, h, w = images.shape
    padded = functional.pad(images, (reach,) * 4, mode="reflect").reshape(
        b * c, 1, *_more(h, w, reach)
    )
    rows = functional.conv2d(padded, weights.view(1, 1, -1, 1))
    return functional.conv2d(rows, weights.view(1, 1, 1, -1)).reshape(b, c, h, w)


def _more(height: int, width: int, reach: int) -> tuple[int, int]:
    return height + 2 * reach, width + 2 * reach


def pictures(metric: Implementation, case: Case, at_least: int = 1) -> Pictures:
    """The photographs that ship with scikit-image, in the size and range that is declared.

    Four of them; `at_least` so many where they are large or time is short.

    The range is that of the input, as `image[-1:1]`, else `options.interval`, else 0 to 1, or 0
    to 255 for bytes. Raises NotApplicable where the inputs are no images.
    """
    spec = next(iter(case.specs.values()))
    if len(spec.dims) != 4:
        raise NotApplicable(f"an image is [b, c, h, w], and the first input is {spec}")
    _, channels, height, width = (_size(metric, case, spec, axis) for axis in range(4))
    values = photographs(max(height, width))[..., :height, :width]
    values = values[: _count(case, height, at_least)]
    values = _with_channels(values, channels)
    low, high = interval_of(metric, spec)
    values = low + (high - low) * values
    dtype = case.dtype if spec.is_floating else torch.uint8
    if not spec.is_floating:
        values = values.round()
    return Pictures(values.to(device=case.device, dtype=dtype), low, high)


def _size(metric: Implementation, case: Case, spec: Input, axis: int) -> int:
    dim = spec.dims[axis]
    if axis == 0 or not dim.name:
        return dim.size(case.sizes)
    if axis == 1:
        low, high = size_bounds(metric.options, dim.name) or (_COLOURS, _COLOURS)
        return min(max(_COLOURS, low * dim.times), high * dim.times)
    sides = _SIDES_OF_SCALES if metric.options.get("formula") == "ms_ssim" else _SIDES
    side = sides[0] if dim.name == spec.dims[2].name else sides[1]
    low, high = size_bounds(metric.options, dim.name) or (side, side)
    return min(max(side, low * dim.times), high * dim.times)


def _count(case: Case, side: int, at_least: int) -> int:
    return 4 if has_time(case, side) else at_least


def has_time(case: Case, side: int) -> bool:
    """Is there time for more than a little, with images of that height?"""
    return side <= _SMALL and case.profile.examples >= _MANY


def _with_channels(values: Tensor, channels: int) -> Tensor:
    if channels == values.shape[1]:
        return values
    grey = values.mean(1, keepdim=True)
    return grey.expand(-1, channels, -1, -1).contiguous()


def interval_of(metric: Implementation, spec: Input) -> tuple[float, float]:
    """[lowest, highest] value of an image: of its input, else `options.interval`."""
    if spec.low is not None and spec.high is not None:
        return spec.low, spec.high
    low, high = metric.options.get("interval", (0, 1) if spec.is_floating else (0, 255))
    return float(low), float(high)


def scores(metric: Implementation, x: Tensor, y: Tensor) -> Tensor:
    """One float64 value for every pair [b]: the answer itself, or one call for each pair.

    A metric may answer [b], [b, 1, 1, 1] or one number for the batch. Raises SubjectError for
    anything else.
    """
    answer = flat_answer(metric, x, y)
    if answer.numel() == len(x):
        return answer
    if answer.numel() == 1:
        return torch.cat([flat_answer(metric, x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    raise SubjectError(
        f"{metric.declared.name} returned {answer.numel()} values for {len(x)} pairs of images; "
        "an image_metric returns one for each pair, or one for the batch"
    )


def flat_answer(metric: Implementation, x: Tensor, y: Tensor) -> Tensor:
    """What the metric answers for a batch: every number of it, float64 on the CPU."""
    answer = metric(x.clone(), y.clone())
    if isinstance(answer, list) and len(answer) == len(x) > 1:
        parts = [torch.as_tensor(part).detach().double().cpu() for part in answer]
        if all(part.numel() == 1 for part in parts):
            return torch.stack([part.reshape(()) for part in parts])
    found = next(tensors_in(answer), None)
    if found is None and isinstance(answer, np.ndarray):
        found = torch.as_tensor(answer)
    if found is None:
        return torch.tensor([metric.number(x.clone(), y.clone())], dtype=torch.float64)
    return found.detach().double().flatten().cpu()


def answer_with_graph(metric: Implementation, x: Tensor, y: Tensor) -> Tensor:
    """What the metric answers for a leaf x, as one tensor that depends on it.

    Raises NotApplicable where it carries no gradient: NumPy, no_grad.
    """
    try:
        answer = metric(x, y)
    except SubjectRaised as error:
        if "requires grad" in str(error):
            raise NotApplicable("turns its inputs into arrays, which carry no gradient") from None
        raise
    found = list(tensors_in(answer))
    if isinstance(answer, list) and all(part.numel() == 1 for part in found) and found:
        found = [torch.stack([part.reshape(()) for part in found])]
    if not found or not found[0].requires_grad:
        raise NotApplicable("the answer carries no gradient")
    return found[0]


def judged(metric: Implementation, original: Tensor, distorted: Tensor) -> Tensor:
    """`scores` with each image in its place: the distorted one is the input of
    `options.distorted`, by default the last."""
    swapped = metric.options.get("distorted") == next(iter(metric.declared.inputs), None)
    return scores(metric, distorted, original) if swapped else scores(metric, original, distorted)


def sign_of(metric: Implementation) -> int:
    """+1 where a higher value means more alike, −1 where it means less."""
    return {"higher": 1, "lower": -1}[metric.options["better"]]


def resolvable(
    metric: Implementation,
    case: Case,
    pictures: Pictures,
    other: Tensor,
    dtype: torch.dtype | None = None,
) -> float:
    """How far rounding may move the metric of a pair: its own sensitivity times √N u.

    A stable computation returns the exact value for inputs that are off by relative errors, in
    N values of an image each about √N u after sums over up to N terms (λ = 8 standard deviations
    of a random walk of roundings: Higham & Mary, SISC 41(5), 2019). The sensitivity is measured:
    the change under relative perturbations of 2⁻¹⁰, over 2⁻¹⁰. At most 0.4 % of the value: what
    rounds more is no measure. dtype: in which the metric computes; by default as declared or as
    it is seen to.
    """
    values = scores(metric, pictures.values, other)
    step = 2.0**-10
    moved = pictures.noisy(step, case.generator("rounding"))
    change = (scores(metric, moved, other) - values).abs().max() / step
    count = pictures.values[0].numel()
    unit = torch.finfo(dtype or _inner(metric, case, pictures, other)).eps / 2
    largest = values.abs().max()
    return min(float(8 * count**0.5 * unit * (largest + change)), _COARSEST * float(largest))


def _inner(metric: Implementation, case: Case, pictures: Pictures, other: Tensor) -> torch.dtype:
    """The declared `compute_dtype`; else float32 where the metric is seen to compute in it."""
    declared = precision(metric, case)
    if declared != torch.float64 or "compute_dtype" in metric.options:
        return declared
    x, y = pictures.values[:1], other[:1]

    seen: list[Tensor] = []

    def answer() -> list[Tensor]:
        with torch.no_grad():
            found = list(tensors_in(metric(x.clone(), y.clone())))
        seen.extend(a for a in found if a.is_floating_point() and a.dtype != torch.float64)
        return found

    return torch.float32 if is_single_inside(answer) or seen else torch.float64
