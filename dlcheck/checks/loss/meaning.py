"""What the inputs of a loss mean: which is the prediction, what the target says, what is perfect.

Read from the declaration alone: `roles`, `task`, the elements of the inputs, and the forms that
`prediction` and `target` name. What it leaves open raises NotApplicable with the declaration that
would tell.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.axes import axes_of, batch_dim
from dlcheck.checks.still import Still
from dlcheck.domains import Input
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.numerics.perturbations import bounds_of
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_SIMPLEX = ("probability", "log_probability", "onehot")
_SCALES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 36.0)  # of logits: e⁻³⁶ = 2e-16
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class Path:
    """Predictions from a perfect one, `at(0)`, to a wrong one, `at(1)`, and the target they fit."""

    target: Tensor
    at: Callable[[float], Tensor]
    far: float  # how far beyond 1 the path may be followed
    is_exact: bool  # at(0) is the target itself, not only what nears it


class Meaning:
    """A loss on the inputs of a case, by what each of them is."""

    def __init__(self, subject: Implementation, case: Case) -> None:
        self.subject, self.case = subject, case
        self.call = Still(subject, case)
        self.inputs: dict[str, Tensor] = dict(zip(case.inputs, case.fresh(), strict=True))
        self.prediction, self._target = _roles(subject, case)

    @property
    def task(self) -> str:
        return str(self.subject.options.get("task", ""))

    @property
    def target(self) -> str:
        """The name of the input that is the target. Raises NotApplicable without one."""
        if self._target is None:
            raise NotApplicable("has no target among its inputs; declare roles")
        return self._target

    def spec(self, name: str) -> Input:
        return self.case.specs[name]

    # --- calls ---------------------------------------------------------------------------------

    def answer(self, changed: Mapping[str, Tensor]) -> Tensor:
        """The loss with some inputs changed: [] or, without a reduction, one per sample."""
        inputs = {**self.inputs, **changed}
        return self.call(*inputs.values())[0]

    def value(self, **changed: Tensor) -> float:
        """The loss, summed where it is not reduced, with the inputs of these names changed."""
        return float(self.answer(changed).double().sum())

    def on(self, prediction: Tensor, target: Tensor | None = None) -> float:
        """The loss of another prediction, and target."""
        changed = {self.prediction: prediction.to(self.inputs[self.prediction])}
        if target is not None:
            changed[self.target] = target.to(self.inputs[self.target])
        return self.value(**changed)

    def room(self, path: Path) -> float:
        """How far rounding may move the loss along the path: that of its middle and its end.

        Not at the perfect prediction, where the loss is 0 and nothing to be relative to.
        """
        return max(self._room(path.at(s), path.target) for s in (0.5, 1.0))

    def _room(self, prediction: Tensor, target: Tensor) -> float:
        inputs = {**self.inputs, self.prediction: prediction.to(self.inputs[self.prediction])}
        inputs[self.target] = target.to(self.inputs[self.target])
        found = self.call.room(list(inputs.values()))()[0].sum()
        return float(found) if bool(torch.isfinite(found)) else 0.0

    # --- what the inputs are ---------------------------------------------------------------------

    @functools.cached_property
    def form(self) -> str:
        """The prediction is logits, probabilities, log_probabilities, log_rate or values."""
        stated = self.subject.options.get("prediction")
        if stated is not None:
            return str(stated)
        element = self.spec(self.prediction).element
        known = {"logit": "logits", "log_probability": "log_probabilities"}
        if element in ("probability", "onehot") or (element == "unit" and self.task == "binary"):
            return "probabilities"
        return known.get(element, "values")

    @functools.cached_property
    def has_labels(self) -> bool:
        """Is the target one class per position?"""
        spec = self.spec(self.target)
        return spec.element in ("label", "index") and not self.fits_the_prediction

    @functools.cached_property
    def fits_the_prediction(self) -> bool:
        """Has the target an element for each one of the prediction?"""
        return self.spec(self.target).dims == self.spec(self.prediction).dims

    @functools.cached_property
    def class_axis(self) -> int:
        """The axis of the prediction, from the end, along which the classes lie."""
        spec = self.spec(self.prediction)
        if self._target is not None and self.has_labels:
            count = self.spec(self.target).count
            places = [axis for axis, dim in enumerate(spec.dims) if dim == count]
            if len(places) != 1:
                raise NotApplicable("no dim of the prediction counts the classes of the target")
            return places[0] - len(spec.dims)
        if self._target is not None and self.spec(self.target).element in _SIMPLEX:
            return self.spec(self.target).axis
        if spec.element in _SIMPLEX:
            return spec.axis
        if self.task == "distribution" and spec.element == "logit" and len(spec.dims) == 2:
            return -1  # of a distillation, that takes two tensors of logits
        raise NotApplicable("which of its axes holds the classes is not known")

    @functools.cached_property
    def batch(self) -> dict[str, int]:
        """Each input that has a row per sample, with the axis of its rows."""
        return axes_of(self.case, self.batch_name)

    @functools.cached_property
    def batch_name(self) -> str:
        try:
            return batch_dim(self.subject, self.case)
        except NotApplicable:
            dims = self.spec(self.prediction).dims
            if not dims or not dims[0].name:
                raise
            return dims[0].name

    def ignored_of(self, target: Tensor) -> Tensor:
        """Where a target is the ignored label: bool, of its shape."""
        ignored = self.spec(self.target).ignored
        if ignored is None:
            return torch.zeros_like(target, dtype=torch.bool)
        return target == ignored

    @property
    def optimum(self) -> float | None:
        """The least value as declared; 0 unless told; None where only a range is declared."""
        for name in ("optimum", "perfect"):
            if name in self.subject.options:
                return self._number(self.subject.argument(name))
        if "smoothed" in self.subject.traits or self.form == "log_rate":
            return None
        return 0.0 if self.lowest == 0 else None

    @property
    def lowest(self) -> float:
        """The least value that the declaration allows: 0 unless told."""
        options = self.subject.options
        declared = options.get("range", options.get("bounds"))
        if declared is not None:
            return self._number(declared[0])
        for name in ("optimum", "perfect"):
            if name in options:
                return min(0.0, self._number(self.subject.argument(name)))
        return -math.inf if self.form == "log_rate" else 0.0

    def _number(self, stated: object) -> float:
        """A number, "-inf", or the size of the dim of that name."""
        return float(self.case.sizes.get(str(stated), stated))  # type: ignore[arg-type]

    # --- perfect and wrong predictions -----------------------------------------------------------

    @functools.cached_property
    def hard_target(self) -> Tensor:
        """The target with what is soft made hard: 0 or 1, −1 or 1, one class."""
        target, spec = self.inputs[self.target], self.spec(self.target)
        if self.has_labels or self.task == "distribution":
            return target
        if spec.element in ("probability", "onehot"):
            return _onehot(target.argmax(spec.axis), target.shape[spec.axis], spec.axis).to(target)
        if self.is_binary:
            low, high = self.ends
            middle = (low + high) / 2
            return torch.where(target > middle, high, low).to(target)
        return target

    @property
    def is_binary(self) -> bool:
        """Is the target a yes or no for each element?"""
        element = self.spec(self.target).element
        return self.fits_the_prediction and (
            self.task == "binary"
            or element in ("bool", "mask", "label", "sign")
            or (element == "unit" and self.form == "logits")
        )

    @property
    def ends(self) -> tuple[float, float]:
        """The two values of a binary target: 0 and 1, or −1 and 1."""
        low, _ = bounds_of(self.spec(self.target)) or (0.0, 1.0)
        low = -1.0 if self.spec(self.target).element == "sign" else low
        return (-1.0 if low < 0 else 0.0), 1.0

    def toward(self, target: Tensor, scale: float, other: float | None = None) -> Tensor:
        """The prediction that says this hard target: logits of `scale`, and −`other` elsewhere.

        other: `scale` unless told. −scale, not 0, for what it is not: of a loss of one against
        all a logit of 0 says "perhaps".
        """
        if self.has_labels:
            classes = self.inputs[self.prediction].shape[self.class_axis]
            labels = self.without_class_axis(target).clamp(0, classes - 1)
            said = _onehot(labels, classes, self.class_axis).double()
        elif self.is_binary:
            low, high = self.ends
            said = (target.double() - low) / (high - low)
        else:
            said = target.double()
        if self.form == "probabilities":
            return said
        bounds = bounds_of(self.spec(self.prediction))
        other = scale if other is None else other
        if not self.is_binary and bounds is not None and bounds[0] >= 0:
            other = 0.0
        logits = scale * said - other * (1 - said)
        if self.form == "log_probabilities":
            return F.logsigmoid(logits) if self.is_binary else logits.log_softmax(self.class_axis)
        return logits

    def without_class_axis(self, target: Tensor) -> Tensor:
        """Labels of shape [b, 1, h, w], as MONAI takes them, as [b, h, w]."""
        if target.dim() < self.inputs[self.prediction].dim():
            return target
        return target.squeeze(self.class_axis)

    def other_target(self, target: Tensor) -> Tensor:
        """A hard target that is wrong everywhere. Raises NotApplicable with one class alone."""
        if self.has_labels:
            classes = self.inputs[self.prediction].shape[self.class_axis]
            if classes < 2:
                raise NotApplicable("one class cannot be wrong")
            return torch.where(self.ignored_of(target), target, (target + 1) % classes)
        if self.is_binary:
            low, high = self.ends
            return low + high - target.double()
        axis = self.spec(self.target).axis
        if target.shape[axis] < 2:
            raise NotApplicable("one class cannot be wrong")
        return target.roll(1, axis)

    def says_nothing_here(self, path: Path) -> bool:
        """Is every target the same, and does the loss then depend on no prediction?

        A correlation with what is constant, a ranking with nothing to rank: such a batch teaches
        nothing, and says nothing of the loss.
        """
        counted = path.target[~self.ignored_of(path.target)]
        if not counted.numel() or bool((counted != counted.flatten()[0]).any()):
            return False
        start, *others = (self.on(path.at(s), path.target) for s in (0.0, 0.25, 0.5, 1.0))
        slack = 64 * unit_roundoff(self.case.dtype) * max(map(abs, [start, *others]))
        return all(abs(other - start) <= slack for other in others)

    def path(self) -> Path:
        """From a perfect prediction to a wrong one. Raises NotApplicable where none is known."""
        if self.task in ("contrastive", "triplet"):
            raise NotApplicable("predicts nothing: pairs are judged by their own checks")
        if self.task == "distribution":
            return self._between_distributions()
        if self.has_labels or self.is_binary or self.spec(self.target).element in _SIMPLEX:
            return self._between_classes()
        if not self.fits_the_prediction:
            raise NotApplicable(
                "the target has another shape than the prediction: what is perfect is not known"
            )
        return self._between_values()

    def _between_classes(self) -> Path:
        right = self.hard_target
        wrong = self.other_target(right)
        scales = self.best_scales(right)
        start, end = self.toward(right, *scales), self.toward(wrong, *scales)
        if self.form != "log_probabilities":
            return Path(right, lambda s: (1 - s) * start + s * end, 1.0, is_exact=False)

        def at(s: float) -> Tensor:
            mixed = (1 - s) * start + s * end
            return mixed if self.is_binary else mixed.log_softmax(self.class_axis)

        return Path(right, at, 1.0, is_exact=False)

    def best_scales(self, target: Tensor) -> tuple[float, float]:
        """The sizes of logits at which they say the target best: smoothing makes them finite.

        Those of the target and of the others are one number, unless smoothed targets ask for two.
        """
        if self.form == "probabilities":
            return 1.0, 1.0
        bounds = bounds_of(self.spec(self.prediction))
        if bounds is not None:  # cosines: the classes may not be said any louder
            return 0.98 * bounds[1], 0.98 * bounds[1]

        def loss(scale: float, other: float) -> float:
            return self.on(self.toward(target, scale, other), target)

        values = [loss(scale, scale) for scale in _SCALES]
        best = min(range(len(_SCALES)), key=lambda place: (values[place], -place))
        scale = other = _SCALES[best]
        if best in (0, len(_SCALES) - 1) or "smoothed" not in self.subject.traits:
            return scale, other
        reach = 2 * _SCALES[best + 1]
        for _ in range(2):
            scale = _least(lambda s, o=other: loss(s, o), 0.0, reach)  # type: ignore[misc]
            other = _least(lambda o, s=scale: loss(s, o), 0.0, reach)  # type: ignore[misc]
        return scale, other

    def _between_distributions(self) -> Path:
        target, spec = self.inputs[self.target], self.spec(self.target)
        said = str(self.subject.options.get("target", ""))
        axis = self.class_axis
        if said in ("log_probabilities", "logits") or spec.element in ("log_probability", "logit"):
            log_p = target.double().log_softmax(axis)
        elif spec.element in _SIMPLEX or said == "probabilities":
            log_p = target.double().log()
        else:
            raise NotApplicable(
                'whether the target is probabilities is not known; declare target = "probabilities"'
            )
        if log_p.shape[axis] < 2:
            raise NotApplicable("one class has one distribution")
        z = self._normal(log_p)
        if self.form == "probabilities":
            other = z.softmax(axis)
            return Path(target, lambda s: (1 - s) * log_p.exp() + s * other, 1.0, is_exact=True)
        floor = log_p.clamp_min(-80.0)  # a class of probability 0

        def at(s: float) -> Tensor:
            moved = floor + s * z
            return moved.log_softmax(axis) if self.form == "log_probabilities" else moved

        return Path(target, at, 4.0, is_exact=True)

    def _between_values(self) -> Path:
        told = self.task or "roles" in self.subject.options or self._target == "target"
        if not told:  # a mean and a variance are two inputs of one shape too
            raise NotApplicable(
                f"whether {self._target} is the target of {self.prediction} is not known; declare "
                'task = "regression", or roles'
            )
        target, spec = self.inputs[self.target], self.spec(self.prediction)
        wide = target.double()
        z = self._normal(wide)
        if self.form == "log_rate":
            start = wide.clamp_min(1e-12).log()
            return Path(target, lambda s: start + s * z, 4.0, is_exact=True)
        if bounds_of(spec) is not None or spec.element in ("positive", "direction"):
            end = self.inputs[self.prediction].double()
            return Path(target, lambda s: (1 - s) * wide + s * end, 1.0, is_exact=True)
        size = float(wide.square().mean().sqrt()) if wide.numel() else 1.0
        return Path(target, lambda s: wide + s * (size or 1.0) * z, 8.0, is_exact=True)

    def _normal(self, like: Tensor) -> Tensor:
        generator = self.case.generator("wrong")
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.device)


def _onehot(labels: Tensor, classes: int, axis: int) -> Tensor:
    return F.one_hot(labels.long(), classes).movedim(-1, axis)


def _least(f: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one number is least between two, by golden sections."""
    for _ in range(30):
        a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, b) if f(a) <= f(b) else (a, high)
    return (low + high) / 2


def _roles(subject: Implementation, case: Case) -> tuple[str, str | None]:
    """Names of the prediction and of the target: by `roles`, else the first two inputs."""
    roles: Mapping[str, Any] = subject.options.get("roles", {})
    names = list(case.inputs)
    for role in ("prediction", "target"):
        if role in roles and roles[role] not in names:
            raise SubjectError(
                f"options.roles names {roles[role]!r} as the {role}, which is none of the inputs "
                f"{', '.join(names)}"
            )
    data = roles.get("data", ())
    data = [data] if isinstance(data, str) else list(data)
    free = [n for n in names if n not in data and n not in roles.values()]
    prediction = roles.get("prediction") or (free.pop(0) if free else "")
    if not prediction:
        raise NotApplicable("has no input that is a prediction; declare roles")
    if subject.options.get("task") in ("contrastive", "triplet"):
        return prediction, roles.get("target")
    return prediction, roles.get("target") or (free.pop(0) if free else None)
