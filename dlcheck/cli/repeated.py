"""`--processes N` and `--since COMMIT` of `dlcheck bench` and `dlcheck run`. Loads no torch."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dlcheck.cli import COULD_NOT_MEASURE, FAILED
from dlcheck.errors import UsageError
from dlcheck.processes import in_processes, refuse_wrong_number, tree
from dlcheck.results import Run

PROCESSES = 8  # a side, where only --since is given
OPTIONS = ("--processes", "--since")


def repeated(verb: str, arguments: Sequence[str], *, processes: int, since: str | None) -> int:
    """Measure in fresh processes, here or by turns there too; print it; the exit code."""
    refuse_wrong_number(processes)
    words, command = without(arguments, OPTIONS), shlex.join(["dlcheck", verb, *arguments])
    progress = _progress()
    if since is None:
        (run,) = in_processes([verb, *words], [Path.cwd()], processes, command=command,
                              progress=progress)  # fmt: skip
        return _show(run)
    from dlcheck.cli.compare import exit_code
    from dlcheck.reporting.changes import changes

    with tree(since) as folder:
        before, after = in_processes([verb, *words], [folder, Path.cwd()], processes,
                                     command=command, progress=progress)  # fmt: skip
    found = changes(before, after)
    print(found)
    for name, run in (("before", before), ("after", after)):
        print(f"record {name}: {_shown(run)}")
    return exit_code(found)


def without(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """The arguments less some options, each with its value."""
    kept, words = [], iter(arguments)
    for word in words:
        if word in options:
            next(words, None)
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return kept


def _show(run: Run) -> int:
    from dlcheck.reporting.comparison_shown import summary
    from dlcheck.trends import middle, processes_of

    found = processes_of(run)
    print(summary([middle(each) for each in found.values()]))
    print("\n".join(["", *_spread(run)]))
    print(f"record: {_shown(run)}")
    if any(each.fault for each in run.benchmarks):
        return FAILED
    measured = all(middle(each).is_measured for each in found.values())
    return 0 if measured else COULD_NOT_MEASURE


def _spread(run: Run) -> Iterator[str]:
    """How far apart the processes are: what a later run is held against."""
    from dlcheck.reporting.numbers import clocked
    from dlcheck.trends import processes_of

    for name, each in processes_of(run).items():
        medians = [side.median for side in (one.subject for one in each) if side.median]
        if medians:
            least, most = clocked(min(medians)), clocked(max(medians))
            yield f"{name}: medians of {len(medians)} processes from {least} to {most}"


def _shown(run: Run) -> str:
    path = run.path
    assert path is not None
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _progress() -> Callable[[int, int], None]:
    """One line that rewrites itself, on a terminal only."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\r\x1b[2K" if done + 1 == total else ""
            print(f"\r\x1b[2Kprocess {done + 1} of {total}{end}", end="", file=sys.stderr)

    return show


def whole_number(option: str, text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"{option} takes a number of processes, as {PROCESSES}, not {text!r}")
    return int(text)
