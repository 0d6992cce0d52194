"""The gradient engine, measured: speed, the two development sets, and what it may miss.

    python benchmarks/gradients.py --speed [--slow] [--device cuda] [--only MLP]
    python benchmarks/gradients.py --development [--seeds 10] [--mode lite] [--rivals]
    python benchmarks/gradients.py --miss [--trials 3000]
    … [--processes 2] [--write reports/gradients.md]

With --write the sections that were measured replace those of the same title in the report, and
the others stay.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler is used for its record of memory

import torch
from markdown import circumstances, replace_section, section

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the sets of right and wrong gradients

TITLE = "The gradient engine, measured"


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speed", action="store_true", help="beside gradcheck")
    parser.add_argument("--slow", action="store_true", help="its slow mode to the end at 1e5")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--development", action="store_true", help="right and wrong gradients")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--mode", choices=["full", "lite"], default="full")
    parser.add_argument("--rivals", action="store_true", help="gradcheck on them too, one seed")
    parser.add_argument("--miss", action="store_true", help="calibrate the probability of a miss")
    parser.add_argument("--trials", type=int, default=1000, help="of each kind of error, at most")
    parser.add_argument("--processes", type=int, default=1, help="of all but --speed")
    parser.add_argument("--only", default="", help="subjects whose name contains this")
    parser.add_argument("--write", type=Path, metavar="FILE")
    return parser.parse_args()


def measured(options: argparse.Namespace) -> dict[str, str]:
    """Title → section, of what was asked for."""
    found = {}
    where = circumstances(options.device)
    if options.speed:
        from gradients_speed import speed

        tables = speed(options.device, complete=options.slow, only=options.only)
        found["Speed"] = section("Speed", where, tables)
    if options.development:
        from gradients_development import development

        seeds = range(options.first_seed, options.first_seed + options.seeds)
        tables = development(
            seeds, options.mode, options.processes, only=options.only, rivals=options.rivals
        )
        title = f"Development sets, {options.mode} mode"
        found[title] = section(title, where, tables)
    if options.miss:
        from gradients_miss import TEXT, miss

        tables = miss(options.trials, options.processes, only=options.only)
        found["What escapes"] = section("What escapes", where, tables, TEXT)
    return found


def main() -> None:
    options = asked()
    torch.set_num_threads(1)
    for text in measured(options).values():
        print(text)
        if options.write is not None:
            replace_section(options.write, TITLE, text)


if __name__ == "__main__":
    main()
