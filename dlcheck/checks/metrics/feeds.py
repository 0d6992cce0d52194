"""Rows for a metric of any kind, in batches: what a stream is fed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics import class_probabilities, distance_bounds, feature_sets
from dlcheck.checks.prediction_metric.answers import flat, same_numbers
from dlcheck.checks.prediction_metric.scored import Scored
from dlcheck.domains import size_bounds
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import gamma
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation, guarded, streams

Rows = Mapping[str, Tensor]
_SIDE = 64  # of images whose size is free
_MOST = {"image_metric": 5}  # rows of a set, where they are dear
_ROWS = 13
_PAIR_ROUNDINGS = 1024  # of one pair of images, whose sums a library may order by the batch


@dataclass(frozen=True, slots=True)
class Feed:
    """A metric, what its calls say, and sets of rows for it."""

    subject: Implementation
    case: Case

    @classmethod
    def of(cls, subject: Implementation, case: Case) -> Feed:
        """Raises NotApplicable for a function, which keeps nothing between its calls."""
        if not streams(subject.target):
            raise NotApplicable("is a function without update, compute and reset: no stream")
        if subject.kind.name == "score_metric":
            subject = class_probabilities.unsplit(subject)
        return cls(subject, case)

    # --- streams ----------------------------------------------------------------------------------

    def fresh(self) -> Any:
        """A new stream of the subject."""
        return self.subject.rebuilt().target

    def update(self, stream: Any, *batches: Rows) -> None:
        for batch in batches:
            guarded(stream.update, *self.given(batch))

    def read(self, stream: Any) -> Tensor:
        seed_everything(self.case.recipe.seed)  # of a metric that shuffles its rows
        return self.flat(guarded(stream.compute))

    def flat(self, answer: object) -> Tensor:
        return flat(answer, self.subject.declared.name)

    def whole(self, rows: Rows) -> Tensor:
        """What a new stream says of these rows, given at once."""
        stream = self.fresh()
        self.update(stream, rows)
        return self.read(stream)

    def given(self, rows: Rows) -> list[Any]:
        copies = [x.clone() for x in rows.values()]
        if self.subject.options.get("arrays") == "numpy":
            return [x.cpu().numpy() for x in copies]
        return copies

    # --- rows -------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        return _MOST.get(self.subject.kind.name, _ROWS)

    @property
    def turns(self) -> int:
        """Draws of a check of one comparison: two sets of few rows may score alike by chance."""
        return 1 if self.subject.kind.name in _MOST else 3

    @property
    def scored(self) -> Scored | None:
        """The same as a score of predictions, where it is one."""
        if self.subject.kind.name != "prediction_metric":
            return None
        return Scored.of(self.subject, self.case)

    @property
    def least(self) -> int:
        """Rows of the smallest batch: 2 where the declaration says that one row is refused."""
        refused = self.subject.options.get("rejects", {})
        return 2 if isinstance(refused, Mapping) and 1 in refused.values() else 1

    def draw(self, salt: str, rows: int = 0) -> Rows:
        """A set of rows; the second set of a distance has another count."""
        rows = rows or self.count
        if (scored := self.scored) is not None:
            return _partly_ignored(scored, scored.draw(rows, salt))
        names = list(self.case.specs)
        match self.subject.kind.name:
            case "score_metric":
                p = class_probabilities.softmax_rows(self.case, rows, salt)
                form = class_probabilities.form_of(self.subject)
                return {names[0]: class_probabilities.in_form(p, form)}
            case "distribution_metric":
                case = replace(self.case, recipe=replace(self.case.recipe, seed=_seed(salt)))
                pair = feature_sets.pair(self.subject, case)
                return {
                    name: x.to(device=self.case.device, dtype=self.case.dtype)
                    for name, x in zip(names, pair, strict=False)
                }
        return self._images(rows, salt)

    def _images(self, rows: int, salt: str) -> Rows:
        sizes = {
            name: (size_bounds(self.subject.options, name) or (_SIDE, _SIDE))[0]
            for name in self.case.sizes
        }
        first = next(iter(self.case.specs.values())).dims[0].name
        recipe = replace(self.case.recipe, sizes={**sizes, first: rows}, seed=_seed(salt))
        return materialize(recipe, self.case.specs, self.case.device, self.case.dtype)

    def split(self, rows: Rows, sizes: Sequence[int]) -> list[Rows]:
        """Batches of these sizes; those of further sets with other counts in proportion."""
        axes = self.axes
        found: list[Rows] = []
        for place in range(len(sizes)):
            share = [sum(sizes[:place]), sum(sizes[: place + 1])]
            batch: dict[str, Tensor] = {}
            for name, x in rows.items():
                axis = axes.get(name)
                if axis is None:
                    batch[name] = x
                    continue
                total, many = sum(sizes), x.shape[axis]
                start, end = (end * many // total for end in share)
                batch[name] = x.narrow(axis, start, max(end - start, 1))
            found.append(batch)
        return found

    def joined(self, *parts: Rows) -> Rows:
        axes = self.axes
        return {
            name: torch.cat([part[name] for part in parts], axes[name]) if name in axes else x
            for name, x in parts[0].items()
        }

    def count_of(self, rows: Rows) -> int:
        name, axis = next(iter(self.axes.items()))
        return rows[name].shape[axis]

    @property
    def axes(self) -> dict[str, int]:
        scored = self.scored
        return dict.fromkeys(self.case.specs, 0) if scored is None else scored.axes

    # --- comparison -------------------------------------------------------------------------------

    def room(self, rows: Rows, value: float) -> float:
        """How far rounding may move what is said of these rows, in one batch or many."""
        match self.subject.kind.name:
            case "prediction_metric":
                scored = self.scored
                assert scored is not None
                return scored.room(rows, value)
            case "score_metric":
                return class_probabilities.resolvable(self.subject, self.case, value)
            case "distribution_metric":
                first, second = list(rows.values())[:2]
                return distance_bounds.resolvable_in(self.subject, self.case, first, second)
        return gamma(_PAIR_ROUNDINGS + self.count_of(rows), torch.float32) * max(abs(value), 1.0)

    def same(
        self, expected: Tensor, got: Tensor, rows: Rows, what: str, cause: str = ""
    ) -> Evidence:
        """Two readings are the same but for rounding; NaN where NaN was."""
        return same_numbers(expected, got, lambda size: self.room(rows, size), what, cause)


def _partly_ignored(scored: Scored, rows: Rows) -> Rows:
    """The rows with some targets that do not count, where the score ignores a label.

    Of sequences the ends, longer in later rows; else every fourth row. So batches have unequal
    numbers of targets, and one of few rows may have none.
    """
    ignored, target = scored.ignored, rows[scored.target]
    if ignored is None or not scored.axes_are_first:
        return rows
    place = torch.arange(len(target), device=target.device)
    if target.dim() == 1:
        marked = place % 4 == 3
    else:
        last = torch.arange(target.shape[-1], device=target.device).flip(0)
        marked = last < (place % target.shape[-1]).view(-1, *[1] * (target.dim() - 1))
    return {**rows, scored.target: target.masked_fill(marked, ignored)}


def _seed(salt: str) -> int:
    return sum(place * ord(letter) for place, letter in enumerate(salt, 1)) % 2**31
