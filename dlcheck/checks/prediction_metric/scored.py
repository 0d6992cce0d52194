"""What a score of predictions takes and says, from its declaration alone.

Which input is the prediction and which the target, what form each has, and sets of rows on which
a prediction is perfect, wrong, or as good as those of a real model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.answers import first_of, flat
from dlcheck.checks.prediction_metric.drawing import Form, drawn_prediction, drawn_target
from dlcheck.domains import Input
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.regimes import make_values
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_AVERAGES = ("macro", "micro", "weighted", "binary", "none")

_FEW, _MANY_CLASSES = 20, 300
Rows = Mapping[str, Tensor]  # one set of rows: the inputs in the order of the call

_TARGET_NAMES = ("target", "targets", "y_true", "labels", "truth", "reference")


@dataclass(frozen=True, slots=True)
class Scored:
    """A score on sets of rows that are drawn for a case."""

    subject: Implementation
    case: Case
    prediction: str
    target: str
    batch: str  # the dim of the rows

    @classmethod
    def of(cls, subject: Implementation, case: Case) -> Scored:
        """By `roles`, `target_first` and the names of the inputs. Raises NotApplicable."""
        prediction, target = _roles(subject, case)
        return cls(subject, case, prediction, target, _batch(subject, case, prediction, target))

    def rebuilt(self) -> Scored:
        """The same score, built afresh."""
        return Scored(self.subject.rebuilt(), self.case, self.prediction, self.target, self.batch)

    # --- what the inputs are ----------------------------------------------------------------------

    @property
    def form(self) -> Form:
        specs = self.case.specs
        return Form.of(
            specs[self.prediction], specs[self.target], self.case.sizes, self.subject.options
        )

    @property
    def ignored(self) -> int | None:
        """The label that marks targets that do not count."""
        value = self.subject.argument("ignore_index")
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def average(self) -> str:
        stated = self.subject.options.get("average")
        value = stated if stated in _AVERAGES else self.subject.argument("average")
        return "none" if value is None and stated is not None else str(value)

    # --- sets of rows -----------------------------------------------------------------------------

    def draw(self, rows: int, salt: str, *, classes: int | None = None, tied: bool = False) -> Rows:
        """Rows on which a model is right more often than not.

        classes: the targets and predicted labels are below it; all classes by default, each of
        which then occurs if there are rows enough: of more than 20 rows there are more than
        classes. tied: scores repeat.
        """
        if rows > _FEW and self.form.classes <= _MANY_CLASSES:
            rows = max(rows, self.form.classes + 7)
        generator, sizes = self.case.generator(salt), {**self.case.sizes, self.batch: rows}
        spec = self.case.specs[self.target]
        target = drawn_target(spec, sizes, generator, classes, tied=tied)
        prediction = drawn_prediction(self.form, target, sizes, generator, classes, tied=tied)
        return self._rows(sizes, generator, prediction, target)

    def with_prediction(self, rows: Rows, prediction: Tensor) -> Rows:
        return {**rows, self.prediction: self._cast(prediction, self.prediction)}

    def with_target(self, rows: Rows, target: Tensor) -> Rows:
        return {**rows, self.target: self._cast(target, self.target)}

    def perfect(self, rows: Rows) -> Rows:
        """The same targets with the prediction that says them. Raises NotApplicable."""
        return self.with_prediction(rows, self.form.saying(rows[self.target]))

    def take(self, rows: Rows, index: Tensor | Sequence[int]) -> Rows:
        """These rows in this order; inputs without rows stay."""
        found = {}
        for name, x in rows.items():
            axis = self.axes.get(name)
            place = torch.as_tensor(index, dtype=torch.int64, device=x.device)
            found[name] = x if axis is None else x.index_select(axis, place)
        return found

    def joined(self, *parts: Rows) -> Rows:
        return {
            name: torch.cat([part[name] for part in parts], self.axes[name])
            if name in self.axes
            else x
            for name, x in parts[0].items()
        }

    def count(self, rows: Rows) -> int:
        return rows[self.prediction].shape[self.axes[self.prediction]]

    @property
    def axes(self) -> dict[str, int]:
        """Each input that has rows, with their axis."""
        return {
            name: axis
            for name, spec in self.case.specs.items()
            for axis, dim in enumerate(spec.dims)
            if dim.name == self.batch
        }

    def other_classes(self, target: Tensor) -> Tensor:
        """Another class for each target, not by one map: else a clustering would be as good."""
        if self.case.specs[self.target].element == "sign":
            return -target
        if target.dtype == torch.bool:
            return ~target
        step = torch.arange(target.numel(), device=target.device).view_as(target)
        return (target + 1 + step % max(self.form.classes - 1, 1)) % self.form.classes

    @property
    def count_dims(self) -> int:
        return len(self.case.specs[self.target].dims)

    @property
    def axes_are_first(self) -> bool:
        """Are the rows the first axis of prediction and target?"""
        return self.axes[self.prediction] == self.axes[self.target] == 0

    def _rows(
        self,
        sizes: Mapping[str, int],
        generator: torch.Generator,
        prediction: Tensor,
        target: Tensor,
    ) -> Rows:
        made = {self.prediction: prediction, self.target: target}
        for name, spec in self.case.specs.items():
            if name not in made:
                made[name] = make_values(spec, sizes, "normal", generator)
        return {name: self._cast(made[name], name) for name in self.case.specs}

    def _cast(self, x: Tensor, name: str) -> Tensor:
        spec = self.case.specs[name]
        dtype = self.case.dtype if spec.is_floating else _dtype(spec, x)
        return x.to(device=self.case.device, dtype=dtype)

    # --- calls ------------------------------------------------------------------------------------

    def given(self, rows: Rows) -> list[object]:
        """The arguments of a call, private copies: tensors, or arrays where it takes those."""
        copies = [x.clone() for x in rows.values()]
        if self.subject.options.get("arrays") == "numpy":
            return [x.cpu().numpy() for x in copies]
        return list(copies)

    def answer(self, rows: Rows) -> Tensor:
        """All that the score says of these rows, [m] in float64."""
        return flat(self.subject(*self.given(rows)), self.subject.declared.name)

    def value(self, rows: Rows) -> float:
        """The score, where it is one number. Raises NotApplicable where it is several."""
        found = flat(first_of(self.subject(*self.given(rows))), self.subject.declared.name)
        if found.numel() != 1:
            raise NotApplicable(f"answers {found.numel()} numbers instead of one")
        return float(found)

    def room(self, rows: Rows, value: float = 1.0) -> float:
        """How far rounding may move a score of these rows.

        n numbers enter through sums of at most n terms, of which a ratio, a product or a root has
        up to eight: 8 λ√n u, with λ = 8, of the value, or of 1 where that is smaller. The
        roundings are those of float32, in which scores may keep their sums (torchmetrics,
        torcheval). Source: Higham & Mary, A new approach to probabilistic rounding error
        analysis, SIAM J. Sci. Comput. 41(5), 2019, theorem 2.4.
        """
        entries = sum(x.numel() for name, x in rows.items() if name in self.axes)
        factor = 64 * math.sqrt(max(entries, 1)) * unit_roundoff(torch.float32)
        return factor * max(abs(value), 1.0)

    # --- what it says of itself -------------------------------------------------------------------

    @property
    def perfect_value(self) -> float:
        return self.stated("perfect")

    @property
    def ends(self) -> tuple[float, float]:
        """The declared range; infinite without one."""
        low, high = self.subject.options.get("range", (-math.inf, math.inf))
        return self.number(low), self.number(high)

    def stated(self, option: str) -> float:
        """A number, the size of a dim, or the value of the argument that the option names."""
        given = self.subject.options[option]
        try:
            return self.number(given)
        except ValueError:  # neither a dim nor "inf"
            return float(self.subject.argument(option))

    def number(self, stated: object) -> float:
        """A number, "inf", or the size of the dim of that name."""
        return float(self.case.sizes.get(str(stated), stated))  # type: ignore[arg-type]


def _dtype(spec: Input, x: Tensor) -> torch.dtype:
    if spec.element in ("bool", "mask"):
        return torch.bool
    return torch.uint8 if spec.element == "uint8" else torch.int64


def _roles(subject: Implementation, case: Case) -> tuple[str, str]:
    roles = subject.options.get("roles", {})
    names = list(case.specs)
    for role, name in roles.items():
        if role in ("prediction", "target") and name not in names:
            raise SubjectError(
                f"options.roles names {name!r} as the {role}, which is none of the inputs "
                f"{', '.join(names)}"
            )
    data = roles.get("data", ())
    data = {data} if isinstance(data, str) else set(data)
    free = [n for n in names if n not in data and n not in roles.values()]
    if not subject.options.get("target_first") and free[:1] and free[0] not in _TARGET_NAMES:
        ordered = free
    else:
        ordered = [*free[1:2], *free[:1]]
    prediction = roles.get("prediction") or (ordered.pop(0) if ordered else "")
    target = roles.get("target") or (ordered.pop(0) if ordered else "")
    if not prediction or not target:
        raise NotApplicable("has no prediction beside a target among its inputs; declare roles")
    return prediction, target


def _batch(subject: Implementation, case: Case, prediction: str, target: str) -> str:
    """The dim of the rows: `batch`, else the first one that prediction and target share."""
    own, other = (case.specs[name].dims for name in (prediction, target))
    names = [dim.name for dim in other]
    stated = subject.options.get("batch")
    shared = [d.name for d in own if d.name and d.name in names and d.times == 1]
    if stated is not None:
        shared = [name for name in shared if name == stated]
    if not shared:
        raise NotApplicable("prediction and target share no named dim of rows; declare batch")
    return shared[0]
