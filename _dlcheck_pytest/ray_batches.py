"""Items → tasks of Ray: what each asks for, and how many items it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import pytest

from _dlcheck_pytest.trials import is_benchmark, trial_of

_LONGEST = 6.0  # seconds of a task, as far as that is known: what a lost node costs, at most
_MOST = 64  # items of a task
_GUESS = 0.5  # seconds of an item of which nothing is recorded


@dataclass(frozen=True, slots=True)
class Batch:
    """Node ids that one task runs, and what it asks of its node."""

    nodes: tuple[str, ...]
    cpus: float = 1
    gpus: int = 0

    def singly(self) -> list[Batch]:
        return [Batch((node,), self.cpus, self.gpus) for node in self.nodes]

    def fits(self, resources: Mapping[str, float]) -> bool:
        """Could a node with these resources ever run it?"""
        return self.cpus <= resources.get("CPU", 0) and self.gpus <= resources.get("GPU", 0)


def batches(
    items: Sequence[pytest.Item],
    seconds: Mapping[str, float],
    nodes: Sequence[Mapping[str, float]],
    *,
    with_gpus: bool,
) -> list[Batch]:
    """Benchmarks first, then the others in their order.

    seconds: how long a node id took before. nodes: the resources of each. A benchmark on the CPU
    takes all the processors of a node, so that nothing runs beside it; its points stay together.
    Where there are no GPUs, trials for them ask for none, and are skipped as they are anywhere.
    """
    most = max((node.get("CPU", 1.0) for node in nodes), default=1.0)
    timed: dict[str, list[pytest.Item]] = {}
    others: dict[int, list[pytest.Item]] = {}
    for item in items:
        if is_benchmark(item):
            timed.setdefault(item.nodeid.partition("[")[0], []).append(item)
        else:
            others.setdefault(_gpus(item) if with_gpus else 0, []).append(item)
    found = [
        batch
        for plan in timed.values()
        for batch in _of_plan(plan, cpus=max(1.0, most), with_gpus=with_gpus)
    ]
    slots = {
        0: sum(node.get("CPU", 0) for node in nodes),
        1: sum(node.get("GPU", 0) for node in nodes),
    }
    for gpus, same in sorted(others.items()):
        places = max(1.0, slots[min(gpus, 1)])
        found += [Batch(each, 1, gpus) for each in _chunks(same, seconds, places)]
    return found


def _of_plan(plan: Sequence[pytest.Item], *, cpus: float, with_gpus: bool) -> Iterator[Batch]:
    by_gpus: dict[int, list[str]] = {}
    for item in plan:
        by_gpus.setdefault(_gpus(item) if with_gpus else 0, []).append(item.nodeid)
    for gpus, nodes in by_gpus.items():
        yield Batch(tuple(nodes), 1 if gpus else cpus, gpus)


def _gpus(item: pytest.Item) -> int:
    """As many as make its device visible: cuda:1 is the second of two."""
    kind, _, index = getattr(trial_of(item), "device", "cpu").partition(":")
    return int(index or 0) + 1 if kind in ("cuda", "auto") else 0


def _chunks(
    items: Sequence[pytest.Item], seconds: Mapping[str, float], places: float
) -> Iterator[tuple[str, ...]]:
    """Shorter towards the end, so that all places end at about the same time."""
    usual = median(seconds.values()) if seconds else _GUESS
    left = sum(seconds.get(item.nodeid, usual) for item in items)
    chunk: list[str] = []
    load = 0.0
    for item in items:
        chunk.append(item.nodeid)
        load += seconds.get(item.nodeid, usual)
        if load >= min(_LONGEST, left / (4 * places)) or len(chunk) == _MOST:
            yield tuple(chunk)
            left -= load
            chunk, load = [], 0.0
    if chunk:
        yield tuple(chunk)
