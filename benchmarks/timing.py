"""How far a speed verdict can be trusted: identical code, and code that is 5 % slower, under load.

    python benchmarks/timing.py ours [--comparisons 440] [--output reports/timing.md]
    python benchmarks/timing.py compare [--comparisons 120] [--output reports/timing.md]
    python benchmarks/timing.py sequential [--comparisons 40] [--output reports/timing.md]

Each side calls an operation 20 times (the slower one 21 times), so that the true ratio is 1 or
1.05. A process that computes in bursts keeps another core busy. `ours` is `time_pairs`; `compare`
is all of `dlcheck.compare`, with the outputs graded, doubts and memory; `sequential` is
pytest-benchmark's own fixture with its defaults, first the one, then the other, judged by its
means and by its medians as `--benchmark-compare-fail` does.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from markdown import Table, circumstances, replace_section, section
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.timers import default_timer
from pytest_benchmark.utils import NameWrapper
from torch.nn import functional as F

import dlcheck
from dlcheck.measure.clocks import Clock
from dlcheck.measure.pairs import time_pairs
from dlcheck.ratio import Ratio, Speed

CALLS, SLOWER = 20, 21  # of an operation, in one call of either side
TRUE = SLOWER / CALLS
Work = Callable[[], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison: estimate, interval, what was said, seconds that it took, samples."""

    operation: str
    ratio: float
    low: float
    high: float
    word: str
    seconds: float
    samples: int = 0


def operations() -> dict[str, Callable[[], torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    x, small, square, weight = draw(64, 256), draw(16), draw(96, 96), draw(256)
    return {
        "add": lambda: small + 1,
        "softmax": lambda: torch.softmax(x, -1),
        "layer norm": lambda: F.layer_norm(x, (256,), weight, weight),
        "matmul": lambda: square @ square,
    }


def repeated(operation: Callable[[], torch.Tensor], times: int) -> Work:
    def work() -> torch.Tensor:
        for _ in range(times - 1):
            operation()
        return operation()

    return work


# --- the two ways -------------------------------------------------------------------------------


def paired(name: str, first: Work, second: Work, seed: int) -> Verdict:
    started = time.perf_counter()
    pairs = time_pairs(first, second, Clock(torch.device("cpu")), seed=seed)
    ratio = Ratio(logs=pairs.logs)
    took = time.perf_counter() - started
    word = ratio.verdict.value
    return Verdict(name, ratio.median, *ratio.interval, word, took, len(pairs.first))


def whole(name: str, first: Work, second: Work, seed: int) -> Verdict:
    """By the public function, at its defaults: the second against the first."""
    started = time.perf_counter()
    found = dlcheck.compare(
        lambda x: second(), lambda x: first(), inputs=[torch.zeros(4)], device="cpu", seed=seed
    ).only
    took = time.perf_counter() - started
    ratio, verdict = found.ratio, found.verdict
    assert ratio is not None
    assert verdict is not None
    word = verdict.value
    return Verdict(name, ratio.median, *ratio.interval, word, took, len(ratio.logs))


def sequential(name: str, first: Work, second: Work, seed: int) -> tuple[Verdict, Verdict]:
    """By means and by medians; the interval of the first is Welch's."""
    started = time.perf_counter()
    a, b = _samples(first), _samples(second)
    took = time.perf_counter() - started
    found = []
    for ratio in (b.mean / a.mean, b.median / a.median):
        word = "slower" if ratio > 1.05 else "faster" if ratio < 1 / 1.05 else "same"
        error = 1.96 * math.sqrt(
            a.stddev**2 / a.rounds / a.mean**2 + b.stddev**2 / b.rounds / b.mean**2
        )
        low, high = ratio * (1 - error), ratio * (1 + error)
        found.append(Verdict(name, ratio, low, high, word, took, a.rounds))
    return found[0], found[1]


class _Node:
    name = nodeid = "comparison"


class _Quiet:
    def debug(self, *_: object, **__: object) -> None:
        """pytest-benchmark tells of its calibration."""


def _samples(work: Work) -> object:
    """The statistics of pytest-benchmark's fixture, with the defaults of its command line."""
    fixture = BenchmarkFixture(
        _Node(),
        disable_gc=False,
        timer=NameWrapper(default_timer),
        min_rounds=5,
        min_time=5e-6,
        max_time=1.0,
        precision=None,
        confidence=None,
        warmup=False,
        warmup_iterations=100_000,
        calibration_precision=10,
        add_stats=lambda stats: None,
        logger=_Quiet(),
        warner=None,
        disabled=False,
        cprofile=False,
        cprofile_loops=None,
        cprofile_dump=False,
    )
    fixture(work)
    return fixture.stats.stats


# --- load ---------------------------------------------------------------------------------------


def _burn(seed: int) -> None:
    """Bursts of arithmetic of a tenth of a second or so, with pauses half as long."""
    drawn = random.Random(seed)
    a = torch.randn(200, 200)
    torch.set_num_threads(1)
    while os.getppid() != 1:
        end = time.perf_counter() + drawn.expovariate(10)
        while time.perf_counter() < end:
            a = torch.tanh(a @ a)
        time.sleep(drawn.expovariate(20))


@contextmanager
def load() -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=_burn, args=(0,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


# --- the report ---------------------------------------------------------------------------------


def compare_all(
    way: Callable[[str, Work, Work, int], object], comparisons: int
) -> tuple[list[object], list[object]]:
    """Comparisons of every operation with itself, and with 5 % more of it, in turn."""
    same, slower = [], []
    made = operations()
    torch.set_grad_enabled(False)
    for i in range(max(1, comparisons // len(made))):
        for name, operation in made.items():
            one = repeated(operation, CALLS)
            same.append(way(name, one, repeated(operation, CALLS), i))
            slower.append(way(name, one, repeated(operation, SLOWER), i))
    return same, slower


def row(name: str, same: Sequence[Verdict], slower: Sequence[Verdict]) -> list[object]:
    seconds = sorted(each.seconds for each in (*same, *slower))
    errors = sorted(abs(each.ratio - 1) for each in same)
    return [
        name,
        len(same),
        _share(each.word in ("faster", "slower") for each in same),
        _share(each.word == "unclear" for each in same),
        _share(each.low <= 1 <= each.high for each in same),
        _share(each.low <= TRUE <= each.high for each in slower),
        _share(each.word == "slower" for each in slower),
        f"{100 * errors[len(errors) // 2]:.2f} / {100 * errors[int(0.95 * len(errors))]:.2f} %",
        f"{seconds[len(seconds) // 2]:.2f} / {seconds[int(0.95 * len(seconds))]:.2f} s",
    ]


def _share(held: Iterator[bool]) -> str:
    found = list(held)
    return f"{sum(found)} of {len(found)} ({100 * sum(found) / len(found):.1f} %)"


COLUMNS = (
    "by", "comparisons", "A against A: false verdicts", "unclear", "interval holds 1",
    "interval holds 1.05", "+5 % found slower", "error of the ratio, p50 / p95",
    "a verdict takes, p50 / p95",
)  # fmt: skip


def ours(way: Callable[[str, Work, Work, int], object], comparisons: int) -> list[Table]:
    same, slower = compare_all(way, comparisons)
    rows = [row("all operations", same, slower)]
    for name in operations():
        of_it = [[each for each in found if each.operation == name] for found in (same, slower)]
        rows.append(row(name, *of_it))
    samples = sorted(each.samples for each in (*same, *slower))
    note = f"Pairs of a verdict: {samples[len(samples) // 2]} in the median, {samples[-1]} at most."
    assert {each.word for each in same} <= {speed.value for speed in Speed}
    title = "Pairs on shared buffers" if way is paired else "dlcheck.compare, as a whole"
    return [Table(title=title, columns=COLUMNS, rows=rows, note=note)]


def theirs(comparisons: int) -> list[Table]:
    same, slower = compare_all(sequential, comparisons)
    rows = [
        row(f"pytest-benchmark's {word}s", [s[i] for s in same], [s[i] for s in slower])
        for i, word in enumerate(("mean", "median"))
    ]
    note = (
        "One after the other, with its defaults (1 s a side). A verdict is a ratio beyond 5 %, as "
        "`--benchmark-compare-fail=mean:5%` has it, so that +5 % is found about every second time "
        "at best. Intervals are Welch's."
    )
    return [Table(title="Samples one after the other", columns=COLUMNS, rows=rows, note=note)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=["ours", "compare", "sequential"])
    parser.add_argument("--comparisons", type=int)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    before = os.getloadavg()[0]
    with load():
        if given.part == "ours":
            title, tables = "Pairs", ours(paired, given.comparisons or 440)
        elif given.part == "compare":
            title, tables = "dlcheck.compare", ours(whole, given.comparisons or 120)
        else:
            title, tables = "pytest-benchmark", theirs(given.comparisons or 40)
    where = circumstances(torch.device("cpu"))
    where += f"; load average {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    where += f", {os.cpu_count()} cores"
    written = section(title, where, tables)
    print(written)
    if given.output:
        replace_section(given.output, "Timing", written)


if __name__ == "__main__":
    main()
