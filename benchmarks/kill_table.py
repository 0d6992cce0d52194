"""Every check of some kinds against all that it must accept and reject, as a table.

python benchmarks/kill_table.py [KIND …] [--profile quick] [--write docs/kills.md]

KIND is a folder of dlcheck/checks: loss, optimizer, scheduler, clipping unless told.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from markdown import Table, replace_section, section

from dlcheck.model import Check, Trial, Verdict
from dlcheck.proof import accepted, rejected
from dlcheck.registry import catalogue
from dlcheck.runner import run_trial

TITLE = "What each check rejects"


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=["loss", "optimizer", "scheduler", "clipping"])
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--write", type=Path, metavar="FILE")
    return parser.parse_args()


def verdict_of(trial: Trial, profile: str) -> Verdict:
    """What a trial comes to; with more cases where a few said nothing."""
    trial = replace(trial, minimal=False)
    verdict = run_trial(replace(trial, profile=profile)).verdict
    if verdict in (Verdict.PASSED, Verdict.INCONCLUSIVE) and not trial.check.once:
        verdict = run_trial(replace(trial, profile="default")).verdict
    return verdict


def row(check: Check, profile: str) -> list[object]:
    """The check, how many it accepts, and each mutant with the subjects on which it was killed."""
    right = {t.subject.name: run_trial(replace(t, profile=profile)).verdict
             for t in accepted(check)}  # fmt: skip
    skipped = {name for name, verdict in right.items() if verdict is Verdict.SKIPPED}
    killed: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for trial in rejected(check):
        original, _, mutant = trial.subject.name.rpartition(":")
        if original in skipped:
            continue
        tried[mutant] += 1
        killed[mutant] += verdict_of(trial, profile) is Verdict.FAILED
    shown = [f"{name} {killed[name]}/{tried[name]}" for name in tried]
    return [
        check.name,
        f"{sum(v is Verdict.PASSED for v in right.values())} of {len(right) - len(skipped)}",
        len(tried),
        ", ".join(shown),
    ]


def rows(kind: str, profile: str) -> Iterator[list[object]]:
    for name in sorted(catalogue().checks):
        check = catalogue().checks[name]
        if Path(check.file).parent.name == kind:
            yield row(check, profile)


def table(kind: str, profile: str) -> Table:
    return Table(
        title=kind,
        columns=["check", "accepts", "mutants", "killed / tried"],
        rows=list(rows(kind, profile)),
    )


def main() -> None:
    options = asked()
    where = (
        f"`python benchmarks/kill_table.py {' '.join(options.kinds)}`, profile {options.profile}"
    )
    text = section(TITLE, where, [table(kind, options.profile) for kind in options.kinds])
    print(text)
    if options.write is not None:
        replace_section(options.write, TITLE, text)


if __name__ == "__main__":
    main()
