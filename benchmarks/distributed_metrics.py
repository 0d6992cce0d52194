"""A Fréchet distance of a million feature rows: peak memory and time, in one process and in two.

Rows are made as they are needed, half on each side, so that what a process holds is the metric's.
Memory is the peak of the resident set (VmHWM of /proc, hence Linux) less what it was before the
first row; each figure is of processes of its own. Seconds are of the clock, on a machine that
others may use, and those of the processor beside them.

    OMP_NUM_THREADS=1 nice -n 19 python benchmarks/distributed_metrics.py \
        --output reports/distributed_metrics.md
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from markdown import Table, circumstances, replace_section, section
from torch import Tensor

from dlcheck.references.metrics.all_reduce import all_reduce
from dlcheck.references.metrics.frechet_distance import StreamingFrechetDistance

BATCH = 500  # rows of each side
SPREAD, SHIFT = 1.1, 0.1  # of the second side against the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one rank measured: MB, seconds of the clock and of the processor, and the distance."""

    memory: float
    seconds: float
    reducing: float
    processor: float
    distance: float


def batches(rows: int, features: int, rank: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every `size`-th batch of one and the same rows, whatever the number of ranks."""
    for number in range(rank, rows // (2 * BATCH), size):
        generator = torch.Generator().manual_seed(number)
        a, b = torch.randn(2, BATCH, features, generator=generator)
        yield a, SPREAD * b + SHIFT


def status(field: str) -> float:
    """A field of /proc/self/status in MB."""
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1000


def one_pass(rank: int, size: int, rows: int, features: int, folder: str) -> None:
    """Run by each rank; writes its Pass into the folder."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size
    )
    dist.barrier()
    before, began, processor = status("VmRSS"), time.perf_counter(), time.process_time()
    metric = StreamingFrechetDistance()
    for a, b in batches(rows, features, rank, size):
        metric.update(a, b)
    streamed = time.perf_counter()
    whole = all_reduce(metric, timeout=timedelta(hours=1))
    reducing = time.perf_counter() - streamed
    distance = float(whole.compute())
    measured = Pass(
        memory=status("VmHWM") - before,
        seconds=time.perf_counter() - began,
        reducing=reducing,
        processor=time.process_time() - processor,
        distance=distance,
    )
    torch.save(measured, f"{folder}/{rank}")
    dist.destroy_process_group()


def measured(rows: int, features: int, size: int) -> list[Pass]:
    """Of each rank."""
    with tempfile.TemporaryDirectory() as folder:
        processes.spawn(one_pass, (size, rows, features, folder), nprocs=size)
        return [torch.load(f"{folder}/{rank}", weights_only=False) for rank in range(size)]


def table(features: int, counts: Sequence[int], sizes: Sequence[int]) -> Table:
    lines: list[list[object]] = []
    apart = 0.0
    for rows in counts:
        first: float | None = None
        for size in sizes:
            ranks = measured(rows, features, size)
            assert len({each.distance for each in ranks}) == 1, "ranks disagree"
            first = ranks[0].distance if first is None else first
            apart = max(apart, abs(ranks[0].distance - first) / first)
            lines.append(
                [
                    rows,
                    size,
                    max(each.memory for each in ranks),
                    rows * features * 8 / 1e6,
                    max(each.seconds for each in ranks),
                    max(each.processor for each in ranks),
                    max(each.reducing for each in ranks),
                    f"{ranks[0].distance:.12g}",
                ]
            )
            print(lines[-1], flush=True)
    return Table(
        title=f"A pass over all rows, d = {features}",
        columns=["rows", "ranks", "peak MB of a rank", "MB of all rows in float64", "seconds",
                 "of the processor", "to reduce and to wait", "distance"],
        rows=lines,
        note=f"A covariance of this width has {features**2 * 8 / 1e6:.3g} MB. The distances over "
        f"ranks are apart from those of one process by at most {apart:.1e} of themselves; "
        f"between the two laws themselves it is {features * ((SPREAD - 1) ** 2 + SHIFT**2):.4g}.",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--features", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    for features in options.features:
        found = table(features, options.rows, options.ranks)
        title = f"Rows of {features:,} features"
        text = section(title, circumstances(torch.device("cpu")), [found])
        print(text)
        if options.output:
            replace_section(options.output, title, text)


if __name__ == "__main__":
    main()
