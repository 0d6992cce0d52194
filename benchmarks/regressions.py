"""How far a verdict between two runs can be trusted: identical code, and code that is slower.

    python benchmarks/regressions.py measure [--processes 160] [--medians FILE]
    python benchmarks/regressions.py simulate [--medians FILE] [--output reports/timing.md]
    python benchmarks/regressions.py real [--repeats 2] [--output reports/timing.md]

`measure` times six operations in fresh processes, one after the other, each beside a second way
to compute the same, and writes a line a process. `simulate` takes 8 + 8 of these processes as two
runs, by turns or one run after the other, multiplies the times of the second, and judges as
`dlcheck compare` does. `real` runs `dlcheck run --since FOLDER --processes 8`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from markdown import Table, circumstances, replace_section, section
from torch.nn import functional as F

from dlcheck.measure.clocks import Clock
from dlcheck.measure.pairs import time_pairs
from dlcheck.ratio import median, sign_interval
from dlcheck.regression import ALPHA, FLOOR, Shift, Trend, holm

SIDE = 8  # processes
REPORT = Path("reports/timing.md")
Values = Sequence[dict[str, float]]  # a process: operation → log time


def operations() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Each with the reference that it is timed beside."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    x, square, small, long, weight = (
        draw(256, 512),
        draw(128, 128),
        draw(16),
        draw(2**19),
        draw(512),
    )
    return {
        "softmax": (lambda: torch.softmax(x, -1), lambda: torch.log_softmax(x, -1).exp()),
        "layer norm": (lambda: F.layer_norm(x, (512,), weight), lambda: F.rms_norm(x, (512,))),
        "matmul": (lambda: square @ square, lambda: torch.einsum("ij,jk->ik", square, square)),
        "add": (lambda: small + 1, lambda: small - 1),
        "copy": (lambda: long.clone(), lambda: long + 0),
        "gelu": (lambda: F.gelu(x), lambda: F.gelu(x, approximate="tanh")),
    }


# --- processes ----------------------------------------------------------------------------------


def one_process() -> str:
    """A line: when, under which load, and of each operation the median, ratio and interval."""
    clock, found = Clock(torch.device("cpu")), {}
    torch.set_grad_enabled(False)
    for name, (subject, against) in operations().items():
        pairs = time_pairs(against, subject, clock, most=150, seed=len(found))
        low, high = sign_interval(pairs.second)
        found[name] = [median(pairs.second), median(pairs.logs), low, high]
    return json.dumps({"time": time.time(), "load": os.getloadavg()[0], "operations": found})


def measure(medians: Path, processes: int, pause: float) -> None:
    for done in range(processes):
        line = subprocess.run(
            [sys.executable, __file__, "one"], capture_output=True, text=True, check=True
        ).stdout
        with medians.open("a") as file:
            file.write(line)
        print(f"{done + 1} of {processes}", end="\r", flush=True)
        time.sleep(pause)


# --- simulated runs -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """Of comparisons of six benchmarks each: how many called one slower; and of benchmarks."""

    comparisons: int
    any_slower: int
    benchmarks: int
    slower: int

    @property
    def of_comparisons(self) -> str:
        return f"{100 * self.any_slower / self.comparisons:.1f} % of {self.comparisons:,}"

    @property
    def of_benchmarks(self) -> str:
        return f"{100 * self.slower / self.benchmarks:.1f} %"


Judge = Callable[[Values, Values], list[bool]]


def rate(pairs: Iterator[tuple[Values, Values]], judge: Judge, effect: float) -> Rate:
    found = []
    for before, after in pairs:
        slow = [{name: t + math.log1p(effect) for name, t in each.items()} for each in after]
        found.append(judge(before, slow))
    flat = [each for verdicts in found for each in verdicts]
    return Rate(len(found), sum(map(any, found)), len(flat), sum(flat))


def by_turns(values: Values) -> Iterator[tuple[Values, Values]]:
    """A B A B … from every start."""
    for start in range(len(values) - 2 * SIDE + 1):
        window = values[start : start + 2 * SIDE]
        yield window[0::2], window[1::2]


def apart(values: Values, step: int = 3) -> Iterator[tuple[Values, Values]]:
    """Eight in a row, and eight others in a row at any other time."""
    starts = range(0, len(values) - SIDE + 1, step)
    for one in starts:
        for two in starts:
            if abs(one - two) >= SIDE:
                yield values[one : one + SIDE], values[two : two + SIDE]


def ours(before: Values, after: Values) -> list[bool]:
    shifts = _shifts(before, after)
    slower = holm([shift.chance_slower for shift in shifts])
    return [
        shift.trend(slower=p, faster=1.0) is Trend.SLOWER
        for shift, p in zip(shifts, slower, strict=True)
    ]


def without_a_floor(before: Values, after: Values) -> list[bool]:
    return [p <= ALPHA for p in holm([s.chance_slower for s in _shifts(before, after)])]


def one_a_side(before: Values, after: Values) -> list[bool]:
    """The floor alone, on the first process of each."""
    return [s > math.log1p(FLOOR) for s in (after[0][k] - before[0][k] for k in before[0])]


def _shifts(before: Values, after: Values) -> list[Shift]:
    sides = (before, after)
    return [Shift(*(tuple(each[name] for each in side) for side in sides)) for name in before[0]]


def disjoint(lines: Sequence[dict[str, list[float]]]) -> Rate:
    """One process a side: do the 95 % intervals of the two medians leave a gap?"""
    found = [
        [two[name][2] > one[name][3] for name in one]
        for i, one in enumerate(lines)
        for two in (lines[(i + 1) % len(lines)], lines[(i + len(lines) // 2) % len(lines)])
    ]
    flat = [each for verdicts in found for each in verdicts]
    return Rate(len(found), sum(map(any, found)), len(flat), sum(flat))


def simulated(medians: Path) -> list[Table]:
    lines = [json.loads(line) for line in medians.read_text().splitlines()]
    seconds: Values = [{k: math.log(v[0]) for k, v in x["operations"].items()} for x in lines]
    ratios: Values = [{k: v[1] for k, v in x["operations"].items()} for x in lines]
    minutes = (lines[-1]["time"] - lines[0]["time"]) / 60
    ways = [
        ("by turns, times (`--since`)", seconds, by_turns, ours),
        ("at different times, beside the reference (`compare`)", ratios, apart, ours),
        ("at different times, times: refused", seconds, apart, ours),
        ("the same without the floor", seconds, apart, without_a_floor),
        ("one process a side, more than 10 %: refused", seconds, apart, one_a_side),
    ]
    rows = []
    for name, values, runs, judge in ways:
        same = rate(runs(values), judge, 0.0)
        found = [rate(runs(values), judge, effect).of_benchmarks for effect in (0.15, 0.2, 0.3)]
        rows.append([name, same.of_comparisons, same.of_benchmarks, *found])
    gap = disjoint([x["operations"] for x in lines])
    rows.append(["one process a side, intervals of the medians disjoint: refused",
                 gap.of_comparisons, gap.of_benchmarks, "–", "–", "–"])  # fmt: skip
    note = (
        f"{len(lines)} processes within {minutes:.0f} minutes, load "
        f"{min(x['load'] for x in lines):.1f} to {max(x['load'] for x in lines):.1f}; windows of "
        f"{SIDE} + {SIDE} of them overlap. The slower side is the same times, multiplied."
    )
    columns = ["compared", "A against A: comparisons with a false regression", "benchmarks",
               "+15 % found", "+20 % found", "+30 % found"]  # fmt: skip
    return [
        Table(title="Six benchmarks, 8 + 8 processes", columns=columns, rows=rows, note=note),
        _spreads(seconds, ratios),
    ]


def _spreads(seconds: Values, ratios: Values) -> Table:
    rows = []
    for name in seconds[0]:
        cells: list[object] = [name]
        for values in (seconds, ratios):
            logs = [each[name] for each in values]
            middle = median(logs)
            off = sorted(abs(math.expm1(log - middle)) for log in logs)
            cells += [f"{100 * median(off):.1f} %", f"{100 * off[-1]:.0f} %"]
        rows.append(cells)
    columns = ["operation", "time: half within", "all within", "beside the reference: half within",
               "all within"]  # fmt: skip
    return Table(title="How far processes are from their median", columns=columns, rows=rows)


# --- real runs ------------------------------------------------------------------------------------

_OPERATIONS = """\
import torch
from torch.nn import functional as F

CALLS = {calls}


def repeated(operation, *inputs):
    for _ in range(CALLS):
        found = operation(*inputs)
    return found


def softmax(x):
    return repeated(lambda x: torch.softmax(x, -1), x)


def gelu(x):
    return repeated(F.gelu, x)


def square(x):
    return repeated(lambda x: x @ x.mT, x)


def total(x):
    return repeated(lambda x: x.sum(-1), x)
"""
_SUITE = 'suite = "Regressions"\n' + "".join(
    f'\n[[benchmark]]\nname = "{name}"\ntarget = "ops:{name}"\n'
    'inputs = { x = "float b n" }\nsizes = { b = 64, n = 256 }\n'
    'matrix = { device = ["cpu"], dtype = ["float32"] }\n'
    for name in ("softmax", "gelu", "square", "total")
)


def real(repeats: int, processes: int) -> Table:
    """Twenty calls against twenty, then against twenty-four."""
    rows = []
    for name, calls in (("A against A", 20), ("+20 %", 24)):
        told = [_real_run(calls, processes) for _ in range(repeats)]
        words = [word for found in told for word in found[0]]
        counts = ", ".join(f"{words.count(w)} {w}" for w in dict.fromkeys(words))
        ratios = [ratio for found in told for ratio in found[1]]
        codes = ", ".join(str(found[2]) for found in told)
        rows.append([name, counts, f"{min(ratios):.3f} to {max(ratios):.3f}", codes,
                     f"{sum(found[3] for found in told) / repeats:.0f} s"])  # fmt: skip
    return Table(
        title=f"Real runs: four benchmarks, {processes} + {processes} processes by turns",
        columns=["true difference", "verdicts", "ratios", "exit codes", "a comparison takes"],
        rows=rows,
    )


def _real_run(calls: int, processes: int) -> tuple[list[str], list[float], int, float]:
    with tempfile.TemporaryDirectory() as scratch:
        before, after = (Path(scratch) / name for name in ("before", "after"))
        for folder, n in ((before, 20), (after, calls)):
            folder.mkdir()
            (folder / "ops.py").write_text(_OPERATIONS.format(calls=n))
            (folder / "speed.toml").write_text(_SUITE)
        words = ["run", "speed.toml", "--profile", "quick", "-p", "no:benchmark",
                 "--since", str(before), "--processes", str(processes)]  # fmt: skip
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "dlcheck", *words], cwd=after, text=True,
                              capture_output=True, check=False)  # fmt: skip
    took = time.perf_counter() - started
    words = re.findall(r"^(\w[\w ]*): \w+ \[cpu-float32", done.stdout, re.M)
    ratios = [float(x) for x in re.findall(r"^ +([\d.]+) × as long", done.stdout, re.M)]
    if not ratios:
        raise SystemExit(done.stdout + done.stderr)
    return words, ratios, done.returncode, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["measure", "one", "simulate", "real"])
    parser.add_argument("--medians", type=Path, default=Path("reports/processes.jsonl"))
    parser.add_argument("--processes", type=int, default=160)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between processes")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--output", type=Path, default=REPORT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part == "one":
        print(one_process())
        return
    if given.part == "measure":
        measure(given.medians, given.processes, given.pause)
        return
    where = circumstances(torch.device("cpu"))
    if given.part == "simulate":
        title, tables = "Across runs: simulated from measured processes", simulated(given.medians)
    else:
        title, tables = "Across runs: measured", [real(given.repeats, SIDE)]
    replace_section(given.output, "Timing", section(title, where, tables))


if __name__ == "__main__":
    main()
