"""`dlcheck merge RUN…`: the shards of a run as one record and one report. Loads no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlcheck.cli import Parser
from dlcheck.errors import UsageError
from dlcheck.history import find_run
from dlcheck.merging import Merged, merge
from dlcheck.results import Run, RunWriter, new_run_path, read_run

_SHOWN = 20  # failures


def parser() -> Parser:
    made = Parser(
        prog="dlcheck merge",
        description="Merge the records of shards (dlcheck run --shard k/N) into one.",
        epilog="A RUN is a .jsonl record, a folder of them, the beginning of a name in "
        ".dlcheck/runs, or a baseline. Exit codes: those that one run of everything would have "
        "had; 4 where the records are no parts of one run. suite.lock is not looked at: a shard "
        "is a part, and only whole runs are held to it.",
    )
    add = made.add_argument
    add("runs", nargs="+", metavar="RUN", help="all shards of one run")
    add("-o", "--output", type=Path, metavar="OUT", help="the record (default: in .dlcheck/runs)")
    add("--report", type=Path, metavar="FOLDER", help="write index.html and summary.md there")
    add("--force", action="store_true", help="merge what differs or is not whole; say how")
    return made


def main(arguments: Sequence[str]) -> int:
    """Merge records and print the verdict; returns the exit code of the whole."""
    given, root = parser().parse_args(arguments), Path.cwd()
    paths = list(dict.fromkeys(p.resolve() for name in given.runs for p in _records(name, root)))
    merged = merge([read_run(path) for path in paths], force=given.force)
    for told in merged.told:
        print(f"careful: {told}", file=sys.stderr)
    try:
        _write(merged, given.output, given.report, root)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}; the records are whole") from None
    return merged.exit


def _records(name: str, root: Path) -> Iterator[Path]:
    """One record, or all below a folder that is not that of a report."""
    folder = Path(name)
    if not folder.is_dir() or (folder / "run.jsonl").is_file():
        yield find_run(name, root)
        return
    found = sorted(folder.rglob("*.jsonl"))
    if not found:
        raise UsageError(f"there is no record (*.jsonl) in the folder {name}")
    yield from found


def _write(merged: Merged, output: Path | None, report: Path | None, root: Path) -> None:
    from dlcheck.reporting import write_reports
    from dlcheck.reporting.markup import clean
    from dlcheck.reporting.report import Report

    run = _recorded(merged.run, output, root)
    shown = Report.of(run)
    for outcome in shown.failures[:_SHOWN]:
        print(f"{outcome.verdict.value.upper()} {clean(outcome.id)}")
    if len(shown.failures) > _SHOWN:
        print(f"and {len(shown.failures) - _SHOWN:,} more")
    print(shown.verdict_line)
    assert run.path is not None
    print(f"record: {os.path.relpath(run.path, root)}")
    for path in write_reports(run, report) if report else ():
        print(f"wrote {path}")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        from dlcheck.reporting.markdown import render_markdown

        with open(summary, "a", encoding="utf-8") as file:
            file.write(render_markdown(shown) + "\n")


def _recorded(run: Run, output: Path | None, root: Path) -> Run:
    """Written as a record. An OUT that is there already is replaced, as with any -o."""
    if output is not None and output.is_dir():
        raise UsageError(f"-o takes a file for the record, and {output} is a folder")
    place = output.with_name(f".{output.name}.part") if output else new_run_path(root)
    with RunWriter(place, run.meta) as writer:
        for outcome in run.outcomes:
            writer.append(outcome)
        for benchmark in run.benchmarks:
            writer.append(benchmark)
    run.path = writer.path if output is None else writer.path.replace(output)
    return run
