"""The tolerance policy, measured: how many wrong implementations fail, how many right ones pass.

    python benchmarks/accuracy.py [--wrong-seeds 5] [--right-seeds 20] [--first-seed 1000]
                                  [--dtypes float32,bfloat16,float16,float64] [--only NAME]
                                  [--processes 1] [--log FILE] [--write reports/accuracy.md]

Six operations (tests/operations*.py) with right, loose and wrong implementations, each declared
as a subject beside torch's own operation and run through `dlcheck.validate` with the check
matches_reference in the default profile. Beside it stand torch.testing.assert_close and
KernelBench's rule on what kernels are usually compared on: standard normal inputs of even shape.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from markdown import circumstances, replace_section, section

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the operations

DTYPES = ("float32", "bfloat16", "float16", "float64")
TITLE = "The tolerance policy, measured"


def asked(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wrong-seeds", type=int, default=5)
    parser.add_argument("--right-seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--groups", default="right,loose,wrong")
    parser.add_argument("--only", default="", help="implementations whose name contains this")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--log", type=Path, metavar="FILE", help="every run, as JSON lines")
    parser.add_argument("--write", type=Path, metavar="FILE")
    return parser.parse_args(arguments)


def main() -> None:
    from accuracy_runs import measured
    from accuracy_tables import tables

    options = asked()
    torch.set_num_threads(1)
    started = time.perf_counter()
    found = measured(options)
    where = f"{circumstances(torch.device('cpu'))}, {time.perf_counter() - started:,.0f} s"
    text = section("Six operations", where, tables(found))
    print(text)
    if options.write is not None:
        replace_section(options.write, TITLE, text)


if __name__ == "__main__":
    main()
