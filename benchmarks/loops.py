"""How many wrong loops are found, and how many right ones raise an alarm.

    PYTHONPATH=.:SITE python benchmarks/loops.py right 0 1 2
    PYTHONPATH=. python benchmarks/loops.py wrong 0 1 2

SITE may hold lightning, transformers, accelerate, pytorch-ignite, skorch, timm, torchmetrics.
"""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from pathlib import Path

import dlcheck

sys.path.insert(0, str(Path(__file__).parent))
warnings.simplefilter("ignore")
SLOW = ["memory_*", "bigger_batches_are_faster", "converges_on_the_digits", "replicas_*"]


def main(which: str, seeds: list[int], names: list[str]) -> int:
    """Prints a line per subject and seed that is judged otherwise than it is; returns how many."""
    tables, wrong, total = importlib.import_module(f"loops_{which}"), 0, 0
    for kind in ("training", "evaluation", "loader", "collate"):
        for name, (target, declared) in getattr(tables, kind.upper()).items():
            if names and not any(part in name for part in names):
                continue
            for seed in seeds:
                declaration = dict(declared)
                traits = declaration.pop("traits", ())
                inputs = declaration.pop("inputs", None)
                started = time.process_time()
                report = dlcheck.validate(
                    target, kind=kind, inputs=inputs, traits=traits, options=declaration,
                    skip=SLOW if kind == "training" else (), device="cpu", profile="quick",
                    seed=seed,
                )  # fmt: skip
                spent = time.process_time() - started
                bad = [o for o in report.outcomes if not o.verdict.is_good]
                failed = [o.check for o in bad if o.verdict.name == "FAILED"]
                off = bad if which == "right" else [] if failed else [None]
                total, wrong = total + 1, wrong + bool(off)
                mark = "!!" if off else "ok"
                print(f"{mark} {kind} {name} seed {seed}: {', '.join(failed)} {spent:.1f} s")
                for outcome in off if which == "right" else ():
                    print("    ", outcome.check, outcome.verdict.name, outcome.worst,
                          outcome.message[-700:])  # fmt: skip
    verb = "alarms about right subjects" if which == "right" else "wrong subjects not found"
    print(f"{verb}: {wrong} of {total}")
    return wrong


if __name__ == "__main__":
    words = sys.argv[2:]
    numbers = [int(word) for word in words if word.isdigit()] or [0]
    sys.exit(main(sys.argv[1], numbers, [word for word in words if not word.isdigit()]) > 0)
