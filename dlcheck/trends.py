"""Benchmarks of two runs: longer or shorter, or why that cannot be said. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dlcheck.benchmark import Benchmark
from dlcheck.ratio import median
from dlcheck.regression import ALPHA, FLOOR, Shift, Trend, holm, processes_needed

_PLENTY = 8  # processes a side, with which +20 % is found


class Recorded(Protocol):
    """A run or its report."""

    meta: dict[str, Any]
    benchmarks: list[Benchmark]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One benchmark in two runs, a record a process; empty where a run does not have it.

    slower, faster: the chances of the shift without a change, adjusted for all the benchmarks
    that are judged beside this one. in_turn: were the processes of both runs run alternately?
    """

    befores: tuple[Benchmark, ...] = ()
    afters: tuple[Benchmark, ...] = ()
    foreign: str = ""  # how the runs differ, where times of the two mean nothing together
    in_turn: bool = False
    slower: float = 1.0
    faster: float = 1.0
    judged: int = 1  # benchmarks
    floor: float = FLOOR

    @property
    def before(self) -> Benchmark | None:
        return middle(self.befores) if self.befores else None

    @property
    def after(self) -> Benchmark | None:
        return middle(self.afters) if self.afters else None

    @property
    def named(self) -> Benchmark:
        named = self.after or self.before
        assert named is not None
        return named

    @property
    def processes(self) -> tuple[int, int]:
        """In which it was timed, before and after."""
        return len(_measured(self.befores)), len(_measured(self.afters))

    @property
    def newly_wrong(self) -> bool:
        """Does the subject raise, or answer otherwise than the reference, and did not before?"""
        return _wrong(self.afters) and not _wrong(self.befores)

    @property
    def obstacle(self) -> str:
        """Why the two times are not compared; empty where they may be."""
        if not self.befores or not self.afters:
            return "gone" if self.befores else "new"
        if self.foreign or (differs := _unlike(self.befores[0], self.afters[0])):
            return f"not comparable: {self.foreign or differs}"
        if _wrong(self.afters):
            return f"the subject is wrong: {self.after.refused if self.after else ''}"
        if not all(self.processes):
            side = self.afters if self.processes[0] else self.befores
            return f"not timed in both: {side[0].refused or 'no samples'}"
        return ""

    @property
    def beside(self) -> str:
        """What the times are relative to: timed in pairs with it in the same processes.

        Runs that were measured in turn are compared by their times. In those of different hours
        the machine is another; a reference of the same process has seen the same machine.
        """
        sides = {each.against.target if each.against else "" for each in self._both}
        return sides.pop() if len(sides) == 1 and not self.in_turn else ""

    @property
    def _both(self) -> tuple[Benchmark, ...]:
        return (*_measured(self.befores), *_measured(self.afters))

    @property
    def shift(self) -> Shift | None:
        """One log time a process; None where the runs cannot be compared."""
        if self.obstacle:
            return None
        beside = bool(self.beside)
        return Shift(
            tuple(_log_time(each, beside=beside) for each in _measured(self.befores)),
            tuple(_log_time(each, beside=beside) for each in _measured(self.afters)),
        )

    @property
    def ratio(self) -> float | None:
        """How many times as long it takes now."""
        return self.shift.ratio if self.shift else None

    @property
    def doubt(self) -> str:
        """Why the ratio is no verdict; empty where it is judged."""
        if self.obstacle:
            return self.obstacle
        if min(self.processes) == 1:
            return f"one process a side: no verdict; measure with --processes {_PLENTY}"
        if not self.in_turn and not self.beside:
            return "measured at different times, beside nothing: measure both in turn, with --since"
        shift = self.shift
        assert shift is not None
        if self.judged * shift.least_chance > ALPHA:
            needed = processes_needed(self.judged)
            return (
                f"{self.processes[0]} + {self.processes[1]} processes cannot show a regression "
                f"among {self.judged} benchmark{'s' * (self.judged != 1)}; measure with "
                f"--processes {max(needed, _PLENTY)}"
            )
        return ""

    @property
    def trend(self) -> Trend:
        if self.doubt or self.shift is None:
            return Trend.NO_VERDICT
        return self.shift.trend(slower=self.slower, faster=self.faster, floor=self.floor)

    @property
    def is_regression(self) -> bool:
        return self.trend is Trend.SLOWER

    @property
    def is_unmeasured(self) -> bool:
        """In both runs, and yet without an answer?"""
        both = bool(self.befores and self.afters)
        return both and self.trend in (Trend.NO_VERDICT, Trend.UNCLEAR)

    @property
    def told(self) -> str:
        """The verdict and what it stands on, in a sentence."""
        if self.shift is None:
            return self.obstacle
        (low, high), (n, m) = self.shift.interval, self.processes
        times = f"{self.shift.ratio:.2f} × as long" + (f" beside {self.beside}" * bool(self.beside))
        if self.doubt:
            return f"{times}; {self.doubt}"
        chance = self.faster if self.trend is Trend.FASTER else self.slower
        among = f" among {self.judged} benchmarks" if self.judged > 1 else ""
        tail = {
            Trend.SLOWER: f"a regression, p = {chance:.2g}{among}",
            Trend.FASTER: f"faster, p = {chance:.2g}{among}",
            Trend.SAME: f"no regression of {100 * self.floor:.0f} % is seen",
            Trend.UNCLEAR: "unclear: a regression is not excluded",
        }[self.trend]
        within = f" [{low:.2f}, {high:.2f}]" if high < math.inf else ""
        return f"{times}{within}, {n} + {m} processes: {tail}"


def timed(before: Recorded, after: Recorded, *, floor: float = FLOOR) -> tuple[Timed, ...]:
    """Every benchmark of either run, by its id, those of the later run first."""
    one, two = processes_of(before), processes_of(after)
    token = before.meta.get("in turn")
    found = [
        Timed(
            befores=one.get(name, ()),
            afters=two.get(name, ()),
            foreign=foreign(before.meta, after.meta),
            in_turn=bool(token) and token == after.meta.get("in turn"),
            floor=floor,
        )
        for name in dict.fromkeys((*two, *one))
    ]
    return tuple(_adjusted(found))


def _adjusted(found: Sequence[Timed]) -> Iterator[Timed]:
    """With the chances as they are among all that are judged."""
    shifts = [None if each.doubt else each.shift for each in found]
    judged = [shift for shift in shifts if shift is not None]
    slower = iter(holm([shift.chance_slower for shift in judged]))
    faster = iter(holm([shift.chance_faster for shift in judged]))
    for each, shift in zip(found, shifts, strict=True):
        if shift is None:
            yield each
        else:
            yield replace(each, slower=next(slower), faster=next(faster), judged=len(judged))


def processes_of(run: Recorded) -> dict[str, tuple[Benchmark, ...]]:
    """The records of each benchmark, one a process.

    A benchmark that was repeated within the one process of its run counts once.
    """
    found: dict[str, list[Benchmark]] = {}
    for each in run.benchmarks:
        found.setdefault(each.id, []).append(each)
    several = _whole(run.meta.get("processes")) > 1
    return {name: tuple(each if several else each[-1:]) for name, each in found.items()}


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 1


def middle(replicas: Sequence[Benchmark]) -> Benchmark:
    """What is shown for all: one that is wrong, or the process in the middle by its median."""
    there = _measured(replicas)
    if not there or _wrong(replicas):
        return next((each for each in replicas if each.fault), replicas[0])
    return sorted(there, key=lambda each: each.subject.median or 0.0)[(len(there) - 1) // 2]


def foreign(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What of two environments makes their times incomparable; empty where nothing does."""
    sides = (dict(_conditions(before)), dict(_conditions(after)))
    for name in dict.fromkeys((*sides[0], *sides[1])):
        old, new = (side.get(name) or "unknown" for side in sides)
        if old != new:
            return f"another {name}, {old} → {new}"
    return ""


def _conditions(meta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    processor, versions = meta.get("cpu"), meta.get("versions")
    if isinstance(processor, Mapping):
        yield "processor", str(processor.get("model", ""))
        yield "number of cores", str(processor.get("cores", ""))
    if isinstance(versions, Mapping):
        yield "torch", str(versions.get("torch", ""))
    yield "Python", ".".join(str(meta.get("python", "")).split(".")[:2])


def _unlike(one: Benchmark, two: Benchmark) -> str:
    for name in ("hardware", "device", "dtype", "threads", "sizes", "params"):
        old, new = getattr(one, name), getattr(two, name)
        if old != new:
            return f"other {name}, {_said(old)} → {_said(new)}"
    return ""


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={part}" for name, part in value.items()) or "none"
    return str(value) or "unknown"


def _measured(replicas: Sequence[Benchmark]) -> tuple[Benchmark, ...]:
    return tuple(
        each for each in replicas if 0 < (each.subject.median or 0) < math.inf and not each.refused
    )


def _wrong(replicas: Sequence[Benchmark]) -> bool:
    return any(each.fault for each in replicas)


def _log_time(benchmark: Benchmark, *, beside: bool) -> float:
    if beside and benchmark.ratio is not None:
        return median(benchmark.ratio.logs)
    return math.log(benchmark.subject.median or math.nan)
