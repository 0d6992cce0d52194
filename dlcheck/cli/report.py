"""`dlcheck report [RUN [OTHER]]`: a recorded run, or two side by side, as pages. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlcheck.cli import Parser
from dlcheck.errors import UsageError
from dlcheck.history import LATEST, find_run
from dlcheck.reporting import write_changes, write_reports
from dlcheck.results import read_run


def main(arguments: Sequence[str]) -> int:
    """Render a record or two; returns the exit code."""
    parser = Parser(
        prog="dlcheck report",
        description="Render a recorded run, or what changed between two.",
        epilog="A RUN is a .jsonl record, the folder of a report, the beginning of a name in "
        ".dlcheck/runs, latest, latest~1, or a baseline.",
    )
    add = parser.add_argument
    add("run", nargs="?", metavar="RUN", help="default: the latest")
    add("other", nargs="?", metavar="OTHER", help="a later run: show what changed since RUN")
    add("-o", "--output", default="reports", metavar="FOLDER", help="where it goes")
    add("--no-record", action="store_true", help="write no copy of the record beside the pages")
    add("--open", action="store_true", help="show the page in the browser")
    given = parser.parse_args(arguments)
    record, folder = find_run(given.run or LATEST, Path.cwd()), Path(given.output)
    try:
        if given.other:
            written = _changes(record, given.other, folder)
        else:
            written = _report(record, folder, with_record=not given.no_record)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"the report cannot be written to {folder}: {reason}. The record {record} is untouched"
            "; name another folder with --output"
        ) from None
    for path in written:
        print(f"wrote {path}")
    if given.open:
        _open(next(path for path in written if path.suffix == ".html"))
    return 0


def _report(record: Path, folder: Path, *, with_record: bool) -> list[Path]:
    run = read_run(record)
    if "incomplete" in run.meta:
        print(f"careful: {run.meta['incomplete']}")
    return write_reports(run, folder, with_record=with_record)


def _changes(before: Path, after: str, folder: Path) -> list[Path]:
    from dlcheck.reporting.changes import changes

    found = changes(read_run(before), read_run(find_run(after, Path.cwd())))
    print(found)
    return write_changes(found, folder)


def _open(page: Path) -> None:
    import webbrowser

    address = page.absolute().as_uri()
    if not webbrowser.open(address):
        print(f"no browser could be started; open {address}")
