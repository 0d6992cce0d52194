"""Fuzzed suite files and command lines: no traceback, no hang, one clear message each.

python benchmarks/fuzzing.py suites 100000
python benchmarks/fuzzing.py commands 10000
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fuzzed import (  # noqa: E402
    Fault,
    all_options,
    call_without_pytest,
    command_line,
    fault_of_command,
    fault_of_suite,
    in_folder,
    small_suites,
    suite_bytes,
)


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("what", choices=("suites", "commands"))
    made.add_argument("count", type=int)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--show", type=int, default=10, help="faults to print in full")
    given = made.parse_args()
    started, kinds, shown = time.perf_counter(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        each = _suites if given.what == "suites" else _commands
        for number, fault in enumerate(each(given.count, given.seed, Path(folder)), 1):
            if fault is not None:
                kind = fault.why.strip().splitlines()[-1][:120]
                kinds[kind] += 1
                if kinds[kind] == 1 and shown < given.show:
                    shown += 1
                    print(f"--- fault\n{fault.why}\ngiven:\n{fault.given[:1500]}\n", flush=True)
            if number % 10_000 == 0:
                print(f"{number:,} after {time.perf_counter() - started:.0f} s", flush=True)
    for kind, count in kinds.most_common():
        print(f"{count:6,} {kind}")
    print(f"{given.count:,} {given.what}, seed {given.seed}: {sum(kinds.values()):,} faults, "
          f"{time.perf_counter() - started:.0f} s")  # fmt: skip
    return bool(kinds)


def _suites(count: int, seed: int, folder: Path):
    rng, suites, path = random.Random(seed), small_suites(), folder / "fuzzed.toml"
    for _ in range(count):
        path.write_bytes(suite_bytes(rng, suites))
        yield fault_of_suite(path)


def _commands(count: int, seed: int, folder: Path):
    rng, options = random.Random(seed), all_options()
    for number in range(count):
        with in_folder(folder / str(number % 50)):
            words = command_line(rng, options)
            start = time.perf_counter()
            fault: Fault | None = fault_of_command(words, call_without_pytest)
            if (took := time.perf_counter() - start) > 20:
                print(f"{took:.0f} s: {words}", flush=True)
        yield fault


if __name__ == "__main__":
    sys.exit(main())
