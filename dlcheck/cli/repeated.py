"""`--processes N` and `--since COMMIT` of `dlcheck bench` and `dlcheck run`. Loads no torch."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from dlcheck.arguments import without
from dlcheck.cli import COULD_NOT_MEASURE, FAILED
from dlcheck.errors import UsageError
from dlcheck.processes import in_processes, refuse_wrong_number, tree
from dlcheck.results import Run

PROCESSES = 8  # a side, where only --since is given
OPTIONS = ("--processes", "--since")


def repeated(
    words: Sequence[str], *, processes: int, since: str | None, command: Sequence[str]
) -> int:
    """Measure in fresh processes, here or by turns there too; print it; the exit code.

    words: what each process is called with; command: what the person typed, for the record.
    """
    refuse_wrong_number(processes)
    typed = shlex.join(["dlcheck", *command])
    progress = _progress()
    if since is None:
        (run,) = in_processes(words, [Path.cwd()], processes, command=typed,
                              progress=progress)  # fmt: skip
        return _show(run)
    from dlcheck.cli.compare import exit_code
    from dlcheck.reporting.changes import changes

    with tree(since) as folder:
        before, after = in_processes(words, [folder, Path.cwd()], processes,
                                     command=typed, progress=progress)  # fmt: skip
    found = changes(before, after)
    print(found)
    for name, run in (("before", before), ("after", after)):
        print(f"record {name}: {_shown(run)}")
    return exit_code(found)


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


# --- dlcheck run ----------------------------------------------------------------------------------


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """What is given for an option, as two words or with a sign of equality; the last counts."""
    found = None
    for word, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        if word == option:
            found = following
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found


@contextmanager
def replicas(arguments: Sequence[str], processes: int) -> Iterator[Path | None]:
    """The record of all processes but the last, which is the run itself."""
    refuse_wrong_number(processes)
    if processes == 1:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="dlcheck-") as scratch:
        words = ["run", *benchmarks_only(arguments, Path(scratch))]
        record = Path(scratch) / "replicas.jsonl"
        in_processes(words, [Path.cwd()], processes - 1, place=record, progress=_progress())
        yield record


def benchmarks_only(arguments: Sequence[str], scratch: Path) -> list[str]:
    """What runs the benchmarks and leaves nothing where the person looks."""
    words = without(arguments, (*OPTIONS, "--against", "--report", "--junitxml", "--junit-xml"))
    if value_of("-m", arguments) is None:
        words += ["-m", "benchmark"]
    # With the sign of equality: pytest seeks its root above every word that is a path.
    quiet = [f"--report={scratch / 'report'}", f"--junitxml={scratch / 'junit.xml'}"]
    return [*words, *quiet, "-p", "no:cacheprovider"]


def run_since(arguments: Sequence[str], processes: int, since: str) -> int:
    """The benchmarks of suites by turns, here and there."""
    if value_of("--against", arguments) is not None:
        raise UsageError("--since measures both sides; --against takes one from a record: give one")
    with tempfile.TemporaryDirectory(prefix="dlcheck-") as scratch:
        words, typed = benchmarks_only(arguments, Path(scratch)), ["run", *arguments]
        return repeated(["run", *words], processes=processes, since=since, command=typed)


def number_of_processes(arguments: Sequence[str], default: int) -> int:
    text = value_of("--processes", arguments)
    if text is None:
        return default
    if not text.isdigit():
        raise UsageError(f"--processes takes a number, as {PROCESSES}, not {text!r}")
    return int(text)
