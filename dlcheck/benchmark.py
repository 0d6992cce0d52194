"""`Benchmark`: one measurement of speed as it was made, from which every figure is derived.

Standard library only. It holds raw samples; ratio, interval, percentiles, throughput and verdict
are properties, so that a verdict and its numbers cannot disagree.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from dlcheck.model import NOTHING
from dlcheck.ratio import Ratio, Speed, median, sign_interval

FEWEST_FOR_P99 = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One implementation as it was timed. None is what was not, or cannot be, measured here."""

    target: str  # the import path, or the name of the object
    seconds: tuple[float, ...] = ()  # of a call, warm: one sample of every pair, in their order
    calls: int = 1  # in a row in one sample, whose mean it is
    cold: float | None = None  # the first call: imports, plans, compilation, page faults
    cpu: float | None = None  # processor seconds of a call, all threads together
    wall: float | None = None  # of a call in the pass in which `cpu` and `page_faults` were read
    page_faults: float | None = None  # of a call
    peak_bytes: int | None = None  # allocated within a call at one time, beside its inputs
    launch: float | None = None  # CUDA: what the host needs to start a call
    graph: float | None = None  # CUDA: of a call replayed from a graph
    uncleared: float | None = None  # CUDA: of a call that finds its inputs in the L2 cache

    @property
    def median(self) -> float | None:
        """Seconds of a call."""
        return median(self.seconds) if self.seconds else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Holds the median of the distribution of samples with 95 %, by the sign test."""
        return sign_interval(self.seconds) if self.seconds else None

    def percentile(self, percent: float) -> float | None:
        """The smallest sample that so many per cent of all do not exceed.

        The 99th, and those above, only of 100 samples or more. Where `calls` is more than 1 it
        is one of means of so many calls: the latency of a single call spreads more.
        """
        n = len(self.seconds)
        if not n or (percent >= 99 and n < FEWEST_FOR_P99):
            return None
        return sorted(self.seconds)[max(0, math.ceil(percent / 100 * n) - 1)]

    @property
    def percentiles(self) -> dict[str, float]:
        """p50, p90, p95, and p99 where there are samples enough."""
        found = {f"p{percent}": self.percentile(percent) for percent in (50, 90, 95, 99)}
        return {name: seconds for name, seconds in found.items() if seconds is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What the device did at best in the same run: a copy, and a matrix product in the dtype."""

    copy: float  # bytes a second, read and written
    matmul: float  # floating-point operations a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A subject timed at one point, alone or in pairs with `against`.

    `ratio` is the subject's time over that of `against`: below 1 the subject is faster.
    """

    name: str
    subject: Side
    against: Side | None = None
    suite: str = ""  # the suite's part of the node id; empty outside of suites
    device: str = "cpu"
    dtype: str = "float32"
    sizes: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    params: Mapping[str, Any] = field(default_factory=lambda: NOTHING)  # further axes
    point: str = ""  # the place in the grid, as the node id writes it
    hardware: str = ""  # the model of the device: ratios across two of them mean nothing
    threads: int = 1
    profile: str = "default"
    seed: int = 0
    margin: float = 0.02  # within which two are the same
    confidence: float = 0.95
    refused: str = ""  # why no verdict may be given
    fault: str = ""  # "disagrees" or "raised": refused because the subject is wrong
    grade: str = ""  # how accurate the subject's outputs are beside the reference's: A, B or C
    agreement: str = ""  # the same in words
    items: float | None = None  # that a call works on, where declared
    item: str = ""  # what one is: "row"
    flops: float | None = None  # of a call, as declared
    bytes: float | None = None  # that a call must read and write, as declared
    ceilings: Ceilings | None = None
    notes: tuple[str, ...] = ()
    took: float = 0.0  # seconds of the whole measurement
    reproduce: str = ""  # a shell command
    file: str = ""  # where it is declared
    line: int = 0

    @property
    def id(self) -> str:
        place = f"{self.suite}::" if self.suite else ""
        return f"{place}{self.name}[{self.point}]"

    @property
    def ratio(self) -> Ratio | None:
        """Of the pairs; None where nothing stands against the subject."""
        if self.against is None or not self.subject.seconds:
            return None
        pairs = zip(self.against.seconds, self.subject.seconds, strict=True)
        logs = tuple(math.log(second / first) for first, second in pairs)
        return Ratio(logs=logs, margin=self.margin, confidence=self.confidence)

    @property
    def verdict(self) -> Speed | None:
        """None for a subject that was timed alone."""
        if self.refused:
            return Speed.REFUSED
        return self.ratio.verdict if self.ratio is not None else None

    @property
    def disagrees(self) -> bool:
        """Was it refused because its outputs are not the reference's?"""
        return self.fault == "disagrees"

    @property
    def is_measured(self) -> bool:
        """Did it come to a verdict, or, alone, to times?"""
        if self.verdict is None:
            return bool(self.subject.seconds)
        return self.verdict.is_measured

    @property
    def throughput(self) -> float | None:
        """Items a second."""
        seconds = self.subject.median
        return self.items / seconds if self.items and seconds else None

    @property
    def intensity(self) -> float | None:
        """FLOPs a byte."""
        return self.flops / self.bytes if self.flops and self.bytes else None

    @property
    def attainable(self) -> float | None:
        """The least seconds that the measured ceilings allow a call, by its declared work."""
        if self.ceilings is None or not (self.flops or self.bytes):
            return None
        return max((self.flops or 0) / self.ceilings.matmul, (self.bytes or 0) / self.ceilings.copy)

    @property
    def roofline(self) -> float | None:
        """Per cent of what the measured ceilings allow.

        More than 100 where the data stay in a cache, or where more is declared than was done.
        """
        seconds = self.subject.median
        return 100 * self.attainable / seconds if self.attainable and seconds else None

    def to_data(self) -> dict[str, Any]:
        """JSON-safe data of plain Python types; `from_data` gives the record back unchanged."""
        data: dict[str, Any] = _plain(self)
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Benchmark:
        """The benchmark that was written. Keys of later versions are left out."""
        made: Benchmark = _record(cls, data)
        return made


def _plain(value: Any) -> Any:
    """Records as tables, infinities and NaN as the strings that `float` reads."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    match value:
        case Mapping():
            return {str(key): _plain(part) for key, part in value.items()}
        case tuple() | list():
            return [_plain(part) for part in value]
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else repr(value)
    return str(value)


def _record(kind: Any, data: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    known = {f.name: data[f.name] for f in fields(kind) if f.name in data}
    return kind(**{name: _value(hints[name], value) for name, value in known.items()})


def _value(kind: Any, value: Any) -> Any:
    """A value of JSON in the type that the field has."""
    if isinstance(kind, types.UnionType):
        kind = next(part for part in kind.__args__ if part is not types.NoneType)
        return None if value is None else _value(kind, value)
    if is_dataclass(kind):
        return _record(kind, value)
    origin = typing.get_origin(kind)
    if origin is tuple:
        return tuple(_value(kind.__args__[0], part) for part in _sequence(value))
    if origin is not None:  # a mapping
        return {key: _value(kind.__args__[1], part) for key, part in _table(value).items()}
    if kind is float:
        return float(value)
    if kind is not Any and type(value) is not kind:
        raise TypeError(f"{kind.__name__} is wanted, not {value!r:.60}")
    if kind is int:
        float(value)  # raises where it is beyond all that can be shown
    return value


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"a table is wanted, not {value!r:.60}")
    return value


def _sequence(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError(f"an array is wanted, not {value!r:.60}")
    return value
