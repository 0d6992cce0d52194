"""What a study of batch sizes found, as plain data: standard library only, ⇄ JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlcheck.benchmarks.batch_size.journal import tuples
from dlcheck.errors import UsageError
from dlcheck.results import plain

SCHEMA = 1
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One batch size. None where it was not measured, which `notes` of the study explains."""

    size: int
    seconds: float | None = None  # of a step, the median
    seconds_interval: Interval | None = None  # 95 %, by the sign test
    bytes: int | None = None  # of a step: weights, gradients, optimizer, batch, saved for backward
    allocated: int | None = None  # the allocator's peak, on CUDA
    variance: float | None = None  # measured E‖g_B − G‖²
    variance_law: float | None = None
    variance_error: float | None = None  # standard error
    cosine: float | None = None
    cosine_law: float | None = None
    rate: float | None = None  # the best learning rate
    diverged_from: float | None = None  # the smallest learning rate that diverged
    steps: tuple[float, ...] = ()  # to the target, one for each seed that reached it
    cut_off: int = 0  # seeds that did not reach it
    oscillation: float | None = None  # of the loss from step to step, at one learning rate for all

    @property
    def throughput(self) -> float | None:
        """Rows a second."""
        return self.size / self.seconds if self.seconds else None

    @property
    def throughput_interval(self) -> Interval | None:
        if self.seconds_interval is None:
            return None
        low, high = self.seconds_interval
        return self.size / high, self.size / low if low > 0 else math.inf

    @property
    def median_steps(self) -> float | None:
        """None where half of the seeds or more did not reach the target."""
        if len(self.steps) <= self.cut_off:
            return None
        ordered = sorted(self.steps)
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else sum(ordered[middle - 1 : middle + 1]) / 2

    @property
    def samples(self) -> float | None:
        """Rows that were shown until the target was reached."""
        return None if self.median_steps is None else self.median_steps * self.size

    @property
    def seconds_to_target(self) -> float | None:
        if self.median_steps is None or self.seconds is None:
            return None
        return self.median_steps * self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """The laws that were fitted, each with its 95 % interval; None where there was too little."""

    fixed_seconds: float | None = None  # a of t(B) = a + bB
    seconds_per_row: float | None = None  # b
    knee: float | None = None  # B½ = a/b
    knee_interval: Interval | None = None
    time_misfit: float | None = None  # the largest relative residual
    fixed_bytes: float | None = None
    bytes_per_row: float | None = None
    memory_misfit: float | None = None
    noise_scale: float | None = None  # B_n at the start
    noise_scale_trained: float | None = None  # B_n where the target is reached
    least_steps: float | None = None  # S_min
    least_steps_interval: Interval | None = None
    critical: float | None = None  # B_c
    critical_interval: Interval | None = None
    steps_misfit: float | None = None  # root mean square of the log residuals
    edge: str = ""  # "below" or "above" where the sizes do not enclose B_c


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """k steps (η, B) against one (kη, kB): the distance of the ends for falling η."""

    steps: int
    size: int
    rates: tuple[float, ...]
    differences: tuple[float, ...]
    orders: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSizeStudy:
    """Time, memory, gradient noise and convergence against the batch size, and what follows.

    `predicted` is B* = √(B½ B_c) from the two fits; `fastest` is the size with the least measured
    time to the target, among `points`. `str()` is the terminal report, `to_json()` the record.
    """

    name: str
    device: str
    rows: int
    parameters: int
    profile: str
    seed: int
    target: float
    start_loss: float
    points: tuple[Point, ...]
    fits: Fits
    predicted: float | None = None
    predicted_interval: Interval | None = None
    checked: int | None = None  # the size at which the prediction was measured
    budget: float | None = None  # bytes
    largest: int | None = None  # batch that fits the budget
    scaling: Scaling | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0  # that the study took
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def fastest(self) -> int | None:
        """The size with the least measured time to the target."""
        timed = [(t, p.size) for p in self.points if (t := p.seconds_to_target) is not None]
        return min(timed)[1] if timed else None

    @property
    def recommended(self) -> int | None:
        """What to use: the fastest size that was measured, if it fits the budget."""
        allowed = [p for p in self.points if self.largest is None or p.size <= self.largest]
        timed = [(t, p.size) for p in allowed if (t := p.seconds_to_target) is not None]
        return min(timed)[1] if timed else None

    @property
    def agreement(self) -> float | None:
        """Predicted over measured optimum, the larger by the smaller: 2 is a doubling."""
        if self.predicted is None or self.fastest is None:
            return None
        ratio = self.predicted / self.fastest
        return max(ratio, 1 / ratio) if ratio > 0 else math.inf

    def point(self, size: int) -> Point:
        return next(point for point in self.points if point.size == size)

    def to_json(self) -> str:
        """Strict JSON; infinities and NaN are text."""
        return json.dumps({"schema": SCHEMA, **plain(dataclasses.asdict(self))}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> BatchSizeStudy:
        """The study that was written. Raises UsageError where the text is none."""
        try:
            data = tuples(json.loads(text))
            if data.pop("schema") > SCHEMA:
                raise UsageError("this study is of a newer dlcheck; upgrade dlcheck")
            scaling = data.pop("scaling")
            return cls(
                **{
                    **data,
                    "points": tuple(Point(**point) for point in data["points"]),
                    "fits": Fits(**data["fits"]),
                    "scaling": Scaling(**scaling) if scaling else None,
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"this is no study of batch sizes: {error}") from None

    def __str__(self) -> str:
        from dlcheck.reporting.batch_sizes import summary

        return summary(self)

    def __repr__(self) -> str:
        return f"<BatchSizeStudy of {self.name}: {len(self.points)} sizes, use {self.recommended}>"

    def _repr_html_(self) -> str:
        from dlcheck.reporting.batch_sizes import fragment

        return fragment(self)
