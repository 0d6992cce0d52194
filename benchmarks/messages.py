"""What the messages of all mutants look like: how long, how wide, and how much they tell.

python benchmarks/messages.py [--every K] [--seconds S] [--write reports/messages.md]

Each mutant of each check breaks one subject. A message is `describe(outcome)`, with the command
that pytest would add left out, as its width is that of the node id.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from markdown import Table, circumstances, replace_section, section

from dlcheck.model import Outcome, Subject, Trial, Verdict
from dlcheck.proof import accepted, rejected
from dlcheck.registry import catalogue, live_check
from dlcheck.reporting.terminal import describe
from dlcheck.runner import run_trial

TITLE = "Messages of the mutants"
LONGEST, WIDEST = 24, 100


@dataclass(frozen=True, slots=True)
class Told:
    """What one failure came to."""

    outcome: Outcome
    seconds: float

    @property
    def lines(self) -> list[str]:
        return describe(self.outcome).splitlines()

    @property
    def is_searched(self) -> bool:
        return self.outcome.recipe is not None


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="only each K-th mutant")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--write", type=Path, metavar="FILE")
    parser.add_argument("--show", action="store_true", help="print each message")
    return parser.parse_args()


def mutants() -> Iterator[Trial]:
    """Every mutant of every check, of one subject each in turn; without what trains for long."""
    for name in sorted(catalogue().checks):
        check = catalogue().checks[name]
        if "experiment" in check.tags:
            continue
        trials, subjects = list(rejected(check)), max(len(list(accepted(check))), 1)
        alone = sum(isinstance(mutant, Subject) for mutant in live_check(check).rejects)
        yield from trials[:alone]
        count = len(trials[alone:]) // subjects
        for position, trial in enumerate(trials[alone:]):
            subject, mutant = divmod(position, max(count, 1))
            if (subject - mutant) % subjects == 0:
                yield trial


def told(trials: Sequence[Trial], seconds: float, *, show: bool) -> tuple[int, list[Told]]:
    """How many were run, and the failures among them; what did not fail says something else."""
    until, found, count = time.monotonic() + seconds, [], 0
    for trial in trials:
        if time.monotonic() > until:
            break
        started, count = time.perf_counter(), count + 1
        outcome = run_trial(trial)
        if outcome.verdict is Verdict.FAILED:
            found.append(Told(outcome, time.perf_counter() - started))
            if show:
                print(describe(outcome), end="\n\n", flush=True)
    return count, found


def share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} ({100 * count / max(total, 1):.0f} %)"


def having(found: Sequence[Told], field: str) -> int:
    return sum(any(line.startswith(f"  {field} ") for line in each.lines) for each in found)


def tables(found: Sequence[Told]) -> list[Table]:
    total = len(found)
    lengths = sorted(len(each.lines) for each in found)
    widths = [max(map(len, each.lines)) for each in found]
    searched = [each for each in found if each.is_searched]
    compared = [each for each in found if "elements" in (each.outcome.evidence or (None,))[0].where]
    sizes = sorted(len(each.outcome.recipe.sizes) for each in searched)
    free = Counter(len(each.outcome.free) > 0 for each in searched)
    seconds = sorted(each.seconds for each in found)
    rows = [
        ["failures", f"{total:,}"],
        ["lines, median and most", f"{statistics.median(lengths):.0f} and {lengths[-1]}"],
        [f"over {LONGEST} lines", share(sum(n > LONGEST for n in lengths), total)],
        [f"over {WIDEST} columns", share(sum(n > WIDEST for n in widths), total)],
        ["with a line of the subject's source", share(having(found, "source"), total)],
        ["with what was expected or got", share(having(found, "expected"), total)],
        ["with a place (where)", share(having(found, "where"), total)],
        ["with a likely cause", share(having(found, "likely"), total)],
        ["tensors compared element by element", share(len(compared), total)],
        ["of these, with a pattern", share(sum(", only where " in e.outcome.evidence[0].where
                                               for e in compared), len(compared))],
        ["of these, with a likely cause", share(sum(bool(e.outcome.evidence[0].cause)
                                                    for e in compared), len(compared))],
        ["cases that were searched", share(len(searched), total)],
        ["of these, with parts that may be otherwise", share(free[True], len(searched))],
        ["sizes of a case, median and most", f"{statistics.median(sizes):.0f} and {sizes[-1]}"],
        ["seconds of a trial, median and 95 %",
         f"{statistics.median(seconds):.2f} and {seconds[int(0.95 * (total - 1))]:.1f}"],
    ]  # fmt: skip
    return [Table(title="all", columns=["", "messages"], rows=rows)]


def main() -> None:
    options = asked()
    every = list(mutants())
    trials = every[:: options.every]
    random.Random(0).shuffle(trials)  # where the time ends, what was left out is left out at random
    count, found = told(trials, options.seconds, show=options.show)
    where = circumstances(torch.device("cpu"))
    text = section(
        TITLE, where, tables(found), f"{count:,} of {len(every):,} mutants, profile default."
    )
    print(text)
    if options.write is not None:
        replace_section(options.write, TITLE, text)


if __name__ == "__main__":
    main()
