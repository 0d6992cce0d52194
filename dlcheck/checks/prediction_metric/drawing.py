"""Targets, and predictions of them as good as those of a real model: most right, some wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.domains import Input
from dlcheck.errors import NotApplicable
from dlcheck.numerics.perturbations import bounds_of
from dlcheck.regimes import make_values

_RIGHT = 0.6  # of the predictions
_BINARY = ("bool", "mask", "sign")
_SIMPLEX = ("probability", "log_probability", "onehot")


@dataclass(frozen=True, slots=True)
class Form:
    """How a prediction says a target.

    `says` is labels (one class per target), classes (one number for each class of a target),
    scores (one number for each yes or no) or values (the number itself).
    """

    says: str
    as_: str  # logits, probabilities, log_probabilities or values
    classes: int  # 0 for values
    axis: int  # of the classes in the prediction, from the end; of `classes` alone
    prediction: Input
    target: Input

    @classmethod
    def of(
        cls,
        prediction: Input,
        target: Input,
        sizes: Mapping[str, int],
        options: Mapping[str, Any],
    ) -> Form:
        """From the inputs, and from `prediction` where that says more. Raises NotApplicable."""
        stated = options.get("prediction")
        alike = prediction.dims == target.dims
        labelled = target.count is not None or target.element in _BINARY
        classes = 2 if target.count is None else target.count.size(sizes)
        as_ = str(stated) if stated else _form_of(prediction)
        if not labelled:
            if not alike:
                raise NotApplicable("the prediction has another shape than the target's values")
            return cls("values", "values", 0, -1, prediction, target)
        if alike:
            whole = prediction.is_floating
            return cls("scores" if whole else "labels", as_, classes, -1, prediction, target)
        places = [a for a, dim in enumerate(prediction.dims) if dim not in target.dims]
        if len(places) != 1 or len(prediction.dims) != len(target.dims) + 1:
            raise NotApplicable("no axis of the prediction counts the classes of the target")
        axis = places[0] - len(prediction.dims)
        return cls("classes", as_, classes, axis, prediction, target)

    def saying(self, target: Tensor) -> Tensor:
        """The prediction that says this target as surely as its form can."""
        if self.says in ("labels", "values"):
            return self._as_values(target)
        if self.says == "scores":
            return self.scored(self.share(target), torch.zeros((), dtype=torch.float64), sure=60)
        sure = F.one_hot(target.clamp(0, self.classes - 1), self.classes).double()
        return self.of_classes(60 * sure, exact=True)

    def _as_values(self, target: Tensor) -> Tensor:
        if self.says == "labels" and self.prediction.element == "sign":
            return 2 * self.binary(target) - 1
        if self.says == "labels" and self.target.element == "sign":
            return self.binary(target)
        return target.clone()

    def binary(self, target: Tensor) -> Tensor:
        """A yes or no as 0 or 1 in float64."""
        return (target > 0).double()

    def share(self, target: Tensor) -> Tensor:
        """0 for the lowest label, 1 for the highest, in float64; between them for grades."""
        if self.target.element in _BINARY:
            return self.binary(target)
        return target.double() / max(self.classes - 1, 1)

    def scored(self, share: Tensor, noise: Tensor, sure: float = 1.0) -> Tensor:
        """Scores of a yes or no in the domain of the prediction: real, (0, 1) or an interval.

        share: of the highest label; noise: added to scores of ±`sure`. Without noise an interval
        is used up to its ends.
        """
        scores = sure * (2 * share - 1) + noise
        bounds = bounds_of(self.prediction)
        if bounds is None and self.as_ == "probabilities":
            bounds = 0.0, 1.0
        if bounds is None:
            return scores
        low, high = bounds
        return low + (high - low) * (torch.sigmoid(scores) if bool(noise.any()) else share)

    def of_classes(self, scores: Tensor, *, exact: bool = False) -> Tensor:
        """Scores [..., k] in the form of the prediction, the classes moved to their axis."""
        element = self.prediction.element
        if self.as_ == "probabilities" or element in ("probability", "onehot"):
            top = F.one_hot(scores.argmax(-1), self.classes).double()
            scores = top if exact else scores.softmax(-1)
        elif self.as_ == "log_probabilities" or element == "log_probability":
            scores = scores.log_softmax(-1)
        elif (bounds := bounds_of(self.prediction)) is not None:
            scores = bounds[0] + (bounds[1] - bounds[0]) * torch.sigmoid(scores - 2)
        return scores.movedim(-1, self.axis)


def _form_of(spec: Input) -> str:
    return {
        "logit": "logits",
        "probability": "probabilities",
        "onehot": "probabilities",
        "unit": "probabilities",
        "log_probability": "log_probabilities",
    }.get(spec.element, "values")


def drawn_target(
    spec: Input,
    sizes: Mapping[str, int],
    generator: torch.Generator,
    classes: int | None,
    *,
    tied: bool,
) -> Tensor:
    """Labels of unequal frequencies, each class once at least; or values of the element."""
    shape = spec.shape(sizes)
    known = _classes(spec, sizes)
    if not known:
        values = make_values(spec, sizes, "normal", generator)
        if spec.element == "float" and spec.low is None:
            values = 1 + 2 * values
        return _rounded(values, spec) if tied else values
    k = min(classes or known, known)
    weights = torch.linspace(2, 1, k)
    many = torch.Size(shape).numel()
    drawn = torch.multinomial(weights, max(many, 1), replacement=True, generator=generator)[:many]
    if many >= k:  # spread, so that a batch of the first rows has not all of them
        drawn[torch.randperm(many, generator=generator)[:k]] = torch.arange(k)
    drawn = drawn.view(shape)
    return {"sign": 2 * drawn - 1, "bool": drawn > 0, "mask": drawn > 0}.get(spec.element, drawn)


def drawn_prediction(
    form: Form,
    target: Tensor,
    sizes: Mapping[str, int],
    generator: torch.Generator,
    classes: int | None,
    *,
    tied: bool,
) -> Tensor:
    """A prediction of the target that is right for about 60 % of it."""
    if form.says == "values":
        return _near(form.prediction, target, sizes, generator, tied=tied)
    k = min(classes or form.classes, form.classes)
    if form.says == "labels":
        right = torch.rand(target.shape, generator=generator) < _RIGHT
        own = form.binary(target).long() if form.target.element in _BINARY else target.long()
        said = torch.where(right, own, torch.randint(0, k, target.shape, generator=generator))
        return 2 * said - 1 if form.prediction.element == "sign" else said
    if form.says == "scores":
        noise = torch.randn(target.shape, generator=generator, dtype=torch.float64)
        noise = (2 * noise).round() / 2 if tied else noise
        return form.scored(form.share(target), noise)
    sure = F.one_hot(target.long().clamp(0, form.classes - 1), form.classes).double()
    noise = torch.randn(sure.shape, generator=generator, dtype=torch.float64)
    scores = 1.5 * sure + noise
    scores[..., k:] -= 8  # classes that are not there
    return form.of_classes((2 * scores).round() / 2 if tied else scores)


def _classes(spec: Input, sizes: Mapping[str, int]) -> int:
    if spec.count is not None:
        return spec.count.size(sizes)
    return 2 if spec.element in _BINARY else 0


def _rounded(values: Tensor, spec: Input) -> Tensor:
    """Steps of ½, none of them 0, by which a relative error would divide."""
    real = spec.element == "float" and spec.low is None
    return (2 * values).round() / 2 + 0.25 if real else values


def _near(
    spec: Input,
    target: Tensor,
    sizes: Mapping[str, int],
    generator: torch.Generator,
    *,
    tied: bool,
) -> Tensor:
    """Values of the same domain, most of the way from other values to the target."""
    other = make_values(spec, sizes, "normal", generator)
    if not spec.is_floating:
        keep = torch.rand(target.shape, generator=generator) < _RIGHT
        return torch.where(keep, target, other.to(target))
    if spec.element == "float" and spec.low is None:
        return _rounded(target + 0.8 * other, spec) if tied else target + 0.8 * other
    # Every domain but directions and orthogonal matrices is convex.
    near = _RIGHT * target + (1 - _RIGHT) * other
    return near / near.norm(dim=-1, keepdim=True) if spec.element == "direction" else near
