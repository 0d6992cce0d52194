"""Ways to break a metric that is fed in batches, for metrics of any kind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlcheck.model import Mutant
from dlcheck.mutants import rebuilt
from dlcheck.subjects import streams

Batch = tuple[Tensor, ...]


class Recorded:
    """A right stream: it keeps its batches, and scores them together when it is read."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.batches: list[Batch] = []

    def reset(self) -> None:
        self.batches = []

    def update(self, *inputs: Tensor) -> None:
        self.batches.append(inputs)

    def compute(self) -> Any:
        return self.of(self.batches)

    def merge(self, other: Recorded) -> None:
        self.batches = self.batches + other.batches

    def merge_state(self, other: Recorded) -> None:
        """The same under the name that torchmetrics gives it."""
        self.merge(other)

    def state_dict(self) -> dict[str, Any]:
        return {"batches": list(self.batches)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = list(state["batches"])

    def __call__(self, *inputs: Tensor) -> Any:
        self.update(*inputs)
        return self.of([inputs])

    def of(self, batches: list[Batch]) -> Any:
        """The value of these batches together, from a stream of its own; NaN where it has none."""
        one = copy.deepcopy(self.original)
        one.reset()
        try:
            one.update(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
            return one.compute()
        except (ValueError, RuntimeError, TypeError):
            return torch.tensor(torch.nan, dtype=torch.float64)

    def number(self, batches: list[Batch]) -> Tensor:
        """The same as a tensor."""
        answer = self.of(batches)
        return torch.as_tensor(answer[0] if isinstance(answer, tuple) else answer).double()


def broken(stream: type[Recorded]) -> Mutant:
    """A mutant that puts such a stream in the place of one; its name says what is broken."""

    def change(original: Any) -> Any:
        return stream(original) if streams(original) else original

    return rebuilt(_name(stream), change)


def _name(stream: Callable[..., Any]) -> str:
    letters = "".join("_" + c.lower() if c.isupper() else c for c in stream.__name__)
    return letters.lstrip("_")


class AveragesOverBatches(Recorded):
    def compute(self) -> Any:
        values = torch.stack([self.number([batch]) for batch in self.batches])
        return values.nan_to_num(0.5).mean(0)


class WeighsBatchesByRows(Recorded):
    """Right for a mean over rows, and for nothing else."""

    def compute(self) -> Any:
        rows = [len(batch[0]) for batch in self.batches]
        parts = [n * self.number([b]).nan_to_num(0.5) for n, b in zip(rows, self.batches)]  # noqa: B905
        return torch.stack(parts).sum(0) / sum(rows)


class KeepsTheLastBatch(Recorded):
    def update(self, *inputs: Tensor) -> None:
        self.batches = [inputs]


class DropsAShortBatch(Recorded):
    """As with drop_last: a batch that is shorter than the first is left out."""

    def update(self, *inputs: Tensor) -> None:
        if not self.batches or len(inputs[0]) >= len(self.batches[0][0]):
            super().update(*inputs)


class StartsAgainWhenRead(Recorded):
    def compute(self) -> Any:
        value = self.of(self.batches)
        self.batches = []
        return value


class AnswersFromItsFirstReading(Recorded):
    """A value that is kept, and cleared by no update and no reset."""

    def compute(self) -> Any:
        if not hasattr(self, "kept"):
            self.kept = self.of(self.batches)
        return self.kept


class ReadsItsLastBatchIn(Recorded):
    """What compute gathers is put into the state: read twice, it counts twice."""

    def compute(self) -> Any:
        value = self.of(self.batches)
        self.batches = [*self.batches, *2 * [tuple(x[:4] for x in self.batches[-1])]]
        return value


class DriftsWhenRead(Recorded):
    """The sum is divided by the count in place."""

    def compute(self) -> Any:
        self.readings = getattr(self, "readings", 0) + 1
        return self.number(self.batches) / self.readings

    def reset(self) -> None:
        super().reset()
        self.readings = 0


class ResetKeepsTheFirstBatch(Recorded):
    def reset(self) -> None:
        self.batches = self.batches[:1]


class ResetForgetsACounter(Recorded):
    """The sum starts again, the count does not."""

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.rows = 0

    def update(self, *inputs: Tensor) -> None:
        super().update(*inputs)
        self.rows += len(inputs[0])

    def compute(self) -> Any:
        own = sum(len(batch[0]) for batch in self.batches)
        return self.number(self.batches) * own / self.rows


class SharesAClassLevelList(Recorded):
    """`batches = []` in the body of the class."""

    common: list[Batch] = []  # noqa: RUF012

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.batches = self.common

    def reset(self) -> None:
        self.batches.clear()

    def update(self, *inputs: Tensor) -> None:
        shapes = [[x.shape[1:] for x in batch] for batch in self.batches]
        if any(shape != [x.shape[1:] for x in inputs] for shape in shapes):
            self.batches.clear()  # of another trial
        self.batches.append(inputs)


class SharesACounter(ResetForgetsACounter):
    """A counter on the class."""

    counted: list[int] = []  # noqa: RUF012

    def update(self, *inputs: Tensor) -> None:
        super().update(*inputs)
        self.counted.append(len(inputs[0]))
        self.rows = sum(self.counted)

    def reset(self) -> None:
        super().reset()
        self.counted.clear()


class MergeTakesTheOtherAlone(Recorded):
    def merge(self, other: Recorded) -> None:
        self.batches = list(other.batches)


class MergeIgnoresTheOther(Recorded):
    def merge(self, other: Recorded) -> None:
        pass


class MergeTakesTheLastBatch(Recorded):
    def merge(self, other: Recorded) -> None:
        self.batches = self.batches + other.batches[-1:]


class SavesItsFirstBatch(Recorded):
    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches[:1]}


class SavesItsLastBatch(Recorded):
    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches[-1:]}


class LoadsBesideWhatIsThere(Recorded):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = self.batches + 2 * list(state["batches"])


class CallAnswersForAllSoFar(Recorded):
    def __call__(self, *inputs: Tensor) -> Any:
        self.update(*inputs)
        return self.of(self.batches)


class CallKeepsTheFirstBatch(Recorded):
    def __call__(self, *inputs: Tensor) -> Any:
        self.batches = self.batches or [inputs]
        return self.of([inputs])


class FirstCallCountsTwice(Recorded):
    def __call__(self, *inputs: Tensor) -> Any:
        self.batches = self.batches or [inputs]
        return super().__call__(*inputs)


averages_over_batches = broken(AveragesOverBatches)
weighs_batches_by_rows = broken(WeighsBatchesByRows)
keeps_the_last_batch = broken(KeepsTheLastBatch)
drops_a_short_batch = broken(DropsAShortBatch)
starts_again_when_read = broken(StartsAgainWhenRead)
answers_from_its_first_reading = broken(AnswersFromItsFirstReading)
reads_its_last_batch_in = broken(ReadsItsLastBatchIn)
drifts_when_read = broken(DriftsWhenRead)
reset_keeps_the_first_batch = broken(ResetKeepsTheFirstBatch)
reset_forgets_a_counter = broken(ResetForgetsACounter)
shares_a_class_level_list = broken(SharesAClassLevelList)
shares_a_counter = broken(SharesACounter)
merge_takes_the_other_alone = broken(MergeTakesTheOtherAlone)
merge_ignores_the_other = broken(MergeIgnoresTheOther)
merge_takes_the_last_batch = broken(MergeTakesTheLastBatch)
saves_its_first_batch = broken(SavesItsFirstBatch)
saves_its_last_batch = broken(SavesItsLastBatch)
loads_beside_what_is_there = broken(LoadsBesideWhatIsThere)
call_answers_for_all_so_far = broken(CallAnswersForAllSoFar)
call_keeps_the_first_batch = broken(CallKeepsTheFirstBatch)
first_call_counts_twice = broken(FirstCallCountsTwice)
