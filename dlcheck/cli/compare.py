"""`dlcheck compare RUN RUN`: what changed from one recorded run to another. Loads no torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlcheck.cli import COULD_NOT_MEASURE, FAILED, ONLY_REGRESSIONS, Parser
from dlcheck.history import LATEST, load_run

if TYPE_CHECKING:
    from dlcheck.reporting.changes import Changes

_SHOWN = 10
_WIDE = 400  # letters of a reason


def parser() -> Parser:
    made = Parser(
        prog="dlcheck compare",
        description="What changed between two recorded runs: verdicts, and times of benchmarks. "
        "A regression is judged from several processes a side, by an exact test.",
        epilog="A RUN is a .jsonl file, the beginning of a name in .dlcheck/runs, latest, latest~1 "
        "for the one before, or a baseline (dlcheck baseline NAME). Exit codes: 0 the same or "
        "better, 1 something fails that did not, 6 only regressions, 7 something could not be "
        "measured or compared, 4 a mistake in the call.",
    )
    add = made.add_argument
    add("before", metavar="RUN", help="the earlier one")
    add("after", nargs="?", default=LATEST, metavar="RUN", help="the later one (default: latest)")
    add("--junitxml", type=Path, metavar="FILE", help="an item for each trial and benchmark")
    add("--report", type=Path, metavar="FOLDER", help="write changes.html and changes.md there")
    return made


def main(arguments: Sequence[str]) -> int:
    """Compare two records and print what changed; returns the exit code."""
    from dlcheck.errors import UsageError
    from dlcheck.reporting import write_changes
    from dlcheck.reporting.changes import changes
    from dlcheck.reporting.junit import write_junit

    given, root = parser().parse_args(arguments), Path.cwd()
    found = changes(load_run(given.before, root), load_run(given.after, root))
    print(found)
    try:
        if given.junitxml:
            write_junit(found, given.junitxml)
        for path in write_changes(found, given.report) if given.report else ():
            print(f"wrote {path}")
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}; the records are whole") from None
    return exit_code(found)


def exit_code(found: Changes) -> int:
    """1 where something newly fails, then 6 for regressions, 7 for what stays open, else 0."""
    from dlcheck.reporting.markup import clean

    if found.broken:
        return FAILED
    if found.regressions:
        return ONLY_REGRESSIONS
    if left := found.unmeasured:
        for reason in left[:_SHOWN]:
            print(f"not settled: {clean(reason)[:_WIDE]}", file=sys.stderr)
        if len(left) > _SHOWN:
            print(f"and {len(left) - _SHOWN:,} more", file=sys.stderr)
        return COULD_NOT_MEASURE
    return 0
