"""`--shard 2/4`: which trials of a run are whose, the same in every shard. Loads no torch.

A shard knows nothing of the others. All cut the same list in the same way, and write down a digest
of it, by which `dlcheck merge` sees that they did.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from dlcheck.errors import UsageError


@dataclass(frozen=True, slots=True)
class Shard:
    """The `number`-th part of a run, counted from 1, `of` so many."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True, slots=True)
class Cut:
    """The node ids of one shard, and a digest of the whole list and its weights."""

    own: frozenset[str]
    digest: str


def read_shard(text: str) -> Shard:
    """`"2/4"`. Raises UsageError."""
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if not found:
        raise UsageError(f"--shard takes k/N, the k-th of N parts, as 1/4, not {text!r}")
    number, of = int(found[1]), int(found[2])
    if not 1 <= number <= of:
        parts = f"the shards of {of} are 1/{of} to {of}/{of}" if of else "there is no 0th part"
        raise UsageError(f"--shard {text}: {parts}")
    return Shard(number, of)


def cut(units: Mapping[str, Sequence[str]], shard: Shard, seconds: Mapping[str, float]) -> Cut:
    """Give every unit to one shard: the longest first, each to the one that has the least yet.

    units: what stays together, by name, as node ids. seconds: how long a node id took before, by
    which the shards are balanced; those without take the median of the others, or one second. The
    order of the units does not matter. Those of one weight are dealt out by the digest of their
    names, for neighbours are alike: of two shards one would get all of one device.
    """
    usual = median(seconds.values()) if seconds else 1.0
    weights = {
        name: sum(seconds.get(node, usual) for node in nodes) for name, nodes in units.items()
    }
    loads = [(0.0, number) for number in range(1, shard.of + 1)]
    own: list[str] = []
    for name in sorted(units, key=lambda name: (-weights[name], _digest([name]))):
        load, number = heapq.heappop(loads)
        heapq.heappush(loads, (load + weights[name], number))
        if number == shard.number:
            own += units[name]
    return Cut(frozenset(own), _digest(f"{name} {weights[name]!r}" for name in sorted(units)))


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()[:16]
