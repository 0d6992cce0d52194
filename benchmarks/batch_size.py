"""What the study of batch sizes claims, held against what is known.

    python benchmarks/batch_size.py same --output reports/batch_size.md
    python benchmarks/batch_size.py variance --output reports/batch_size.md

`same`: one and the same step timed as two batch sizes of a study: any difference is a false claim.
`variance`: E‖g_B − G‖² of digits, measured over the law (tr Σ/B)(N − B)/(N − 1), at every B.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from dlcheck.benchmarks.batch_size.setup import read_setup
from dlcheck.measure.clocks import Clock
from dlcheck.measure.gradient_noise import measure_gradient_noise
from dlcheck.measure.pairs import sign_interval
from dlcheck.measure.throughput import time_batches
from dlcheck.measure.workload import Workload

sys.path.insert(0, str(Path(__file__).parent))

from markdown import Table, circumstances, replace_section, section

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STEP = (64, 512)
ROUNDS = 15  # of the study's default profile
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def workload() -> Workload:
    setup = f"{Path(__file__).parents[1] / 'examples/batch_size.py'}:setup"
    return read_setup(setup, DEVICE).workload


def same(times: int) -> Table:
    """So many times two batch sizes whose step is the same work."""
    load = workload()
    rows = []
    for size in STEP:
        apart = 0
        for seed in range(times):
            works = {size: still(load, size, seed), size + 1: still(load, size, seed)}
            measured = time_batches(works, Clock(DEVICE), rounds=ROUNDS)
            first, second = zip(*measured.seconds, strict=True)
            (low, high), (least, most) = (sign_interval(x, 0.95) for x in (first, second))
            apart += high < least or most < low
        rows.append((size, times, apart))
    return Table(
        title="A step against itself, in the timing of the study",
        columns=("batch", "comparisons", "intervals apart"),
        rows=rows,
        note="intervals apart: the two 95 % intervals of seconds a step, as the study prints them, "
        "do not meet.",
    )


def still(load: Workload, size: int, seed: int) -> Callable[[], None]:
    """A step on one batch, at a learning rate that hardly moves the weights."""
    model, batch = load.model(seed), load.drawn(size, seed)
    optimizer = load.optimizer(model.parameters(), lr=1e-9)
    return lambda: load.step(model, optimizer, batch)


def variance(batches: int) -> Table:
    """At the start, over all rows."""
    load = workload()
    noise = measure_gradient_noise(
        load, load.model(0), SIZES, population=len(load.rows), batches=batches, seconds=1e9
    )
    rows = [
        (size, misfit, deviation / noise.variance(size), misfit * noise.variance(size)
         * size / noise.trace)
        for size, misfit, deviation in zip(
            noise.sizes, noise.misfits, noise.deviations, strict=True)
    ]  # fmt: skip
    worst = max(abs(misfit - 1) for misfit in noise.misfits)
    return Table(
        title=f"Variance of the gradient of a batch, {noise.rows:,} digits",
        columns=("batch", "measured over the law", "standard error", "measured over tr Σ/B"),
        rows=rows,
        note=f"{batches:,} batches a size; off by {worst:.1%} at most. The last column is the law "
        "without (N − B)/(N − 1), which textbooks print.",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("same", "variance"))
    parser.add_argument("--times", type=int, default=200, help="comparisons of a step with itself")
    parser.add_argument("--batches", type=int, default=4000, help="batches of every size")
    parser.add_argument("--output", type=Path, help="a report in Markdown to write the section to")
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = same(given.times) if given.what == "same" else variance(given.batches)
    title = {"same": "Timing", "variance": "Gradient noise"}[given.what]
    written = section(title, circumstances(DEVICE), [table])
    print(written)
    if given.output:
        replace_section(given.output, "The study of batch sizes", written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
