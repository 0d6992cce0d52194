"""Ways to break what ranks of torch.distributed say together, and the right way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from dlcheck.checks.metrics.broken_streams import Batch, Recorded
from dlcheck.model import Mutant, Subject
from dlcheck.mutants import rebuilt
from dlcheck.subjects import streams


class Gathered(Recorded):
    """A right stream over ranks: compute() gathers the batches of all, and scores them together."""

    def compute(self) -> Any:
        return self.of(self.gathered())

    def gathered(self) -> list[Batch]:
        return [batch for rank in self.ranks() for batch in rank]

    def ranks(self) -> list[list[Batch]]:
        """The batches of each rank; one's own where there is no process group."""
        return everyone(self.batches)


def everyone(own: Any) -> list[Any]:
    """What each rank has, in their order."""
    if not dist.is_initialized():
        return [own]
    found = [None] * dist.get_world_size()
    dist.all_gather_object(found, own)
    return found


def gathered(subject: Subject) -> Subject:
    """A stream as one that speaks for all ranks."""
    return rebuilt("over_ranks", Gathered)(subject)


def _broken(stream: Callable[[Any], Gathered]) -> Mutant:
    def change(original: Any) -> Any:
        inner = original.original if isinstance(original, Gathered) else original
        return stream(inner) if streams(original) else original

    name = "".join("_" + c.lower() if c.isupper() else c for c in getattr(stream, "__name__", ""))
    return rebuilt(name.lstrip("_"), change)


class SpeaksForItself(Gathered):
    """No collective at all: each rank logs its own value."""

    def compute(self) -> Any:
        return self.of(self.batches)


class AveragesOverRanks(Gathered):
    """As a logger with `sync_dist=True` does to a finished value."""

    def compute(self) -> Any:
        values = everyone(self.number(self.batches).nan_to_num(0.5))
        return torch.stack(values).mean(0)


class WeighsRanksByRows(Gathered):
    """Right for a mean over rows, and for nothing else."""

    def compute(self) -> Any:
        rows = sum(len(batch[0]) for batch in self.batches)
        own = self.number(self.batches).nan_to_num(0.5, 0.5) if rows else torch.zeros(())
        counts = everyone(rows)
        parts = [n * value for n, value in zip(counts, everyone(own), strict=True) if n]
        return torch.stack(parts).sum(0) / sum(counts)


class RankZeroAlone(Gathered):
    def compute(self) -> Any:
        return self.of(self.ranks()[0])


class PadsTheShorterRank(Gathered):
    """As DistributedSampler does: rows are repeated until every rank has as many as the longest."""

    def ranks(self) -> list[list[Batch]]:
        found = super().ranks()
        most = max(rows_of(rank) for rank in found)
        return [[*rank, *padding(rank, most - rows_of(rank))] for rank in found]


class CutsTheLongerRank(Gathered):
    """A gather into tensors of the shortest rank's size."""

    def ranks(self) -> list[list[Batch]]:
        found = super().ranks()
        least = min(rows_of(rank) for rank in found)
        return [padding(rank, least) for rank in found]


class CountsItsOwnTwice(Gathered):
    def gathered(self) -> list[Batch]:
        return [*self.batches, *super().gathered()] if dist.is_initialized() else self.batches


class ReadsTheOtherRanksIn(Gathered):
    """What is gathered stays in the state: read again, it is gathered again."""

    def compute(self) -> Any:
        self.batches = self.gathered()
        return self.of(self.batches)


class GathersOnceForAll(Gathered):
    """What was gathered first is kept: rows that come later are not asked for."""

    def compute(self) -> Any:
        if not hasattr(self, "found"):
            self.found = self.gathered()
        return self.of(self.found)

    def reset(self) -> None:
        super().reset()
        if hasattr(self, "found"):
            del self.found


class SendsZerosForNoRows(Gathered):
    """A rank without rows sends a row of zeros, as the initial value of a state."""

    def gathered(self) -> list[Batch]:
        found = super().gathered()
        idle = sum(not rank for rank in self.ranks())
        return [*found, *idle * [tuple(0 * x[:1] + x[:1] for x in found[0])]]


class SaysNothingWithoutRows(Gathered):
    """A rank without rows divides 0 by 0 of its own."""

    def compute(self) -> Any:
        whole = self.number(self.gathered())
        return whole if self.batches else whole * torch.nan


class AveragesInIdleRanks(Gathered):
    """The sum over ranks is divided by their number, also of those that had nothing to add."""

    def compute(self) -> Any:
        busy = sum(bool(rank) for rank in self.ranks())
        whole = self.number(self.gathered())
        return whole * busy / max(len(self.ranks()), 1)


def rows_of(batches: list[Batch]) -> int:
    return sum(len(batch[0]) for batch in batches)


def padding(batches: list[Batch], rows: int) -> list[Batch]:
    """The first rows of these batches, so many of them; of a second set as far as it goes."""
    if not batches or rows < 1:
        return []
    return [tuple(torch.cat(parts)[:rows] for parts in zip(*batches, strict=True))]


speaks_for_itself = _broken(SpeaksForItself)
averages_over_ranks = _broken(AveragesOverRanks)
weighs_ranks_by_rows = _broken(WeighsRanksByRows)
rank_zero_alone = _broken(RankZeroAlone)
pads_the_shorter_rank = _broken(PadsTheShorterRank)
cuts_the_longer_rank = _broken(CutsTheLongerRank)
counts_its_own_twice = _broken(CountsItsOwnTwice)
reads_the_other_ranks_in = _broken(ReadsTheOtherRanksIn)
gathers_once_for_all = _broken(GathersOnceForAll)
sends_zeros_for_no_rows = _broken(SendsZerosForNoRows)
says_nothing_without_rows = _broken(SaysNothingWithoutRows)
averages_in_idle_ranks = _broken(AveragesInIdleRanks)
