"""`dlcheck report [RUN]`: a recorded run as HTML and Markdown. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlcheck.cli import Parser
from dlcheck.errors import UsageError
from dlcheck.reporting import write_reports
from dlcheck.results import latest_run, read_run


def main(arguments: Sequence[str]) -> int:
    """Render a record; returns the exit code."""
    parser = Parser(prog="dlcheck report", description="Render a recorded run.")
    parser.add_argument("run", nargs="?", help="a .jsonl record, or the beginning of its name in "
                        ".dlcheck/runs (default: the latest)")  # fmt: skip
    parser.add_argument("-o", "--output", default="reports", metavar="FOLDER")
    given = parser.parse_args(arguments)
    run = read_run(_record(given.run, Path.cwd()))
    for path in write_reports(run, Path(given.output)):
        print(f"wrote {path}")
    return 0


def _record(name: str | None, root: Path) -> Path:
    if name and Path(name).is_file():
        return Path(name)
    folder = root / ".dlcheck" / "runs"
    if name:
        found = sorted(folder.glob(f"{name}*.jsonl"))
        if len(found) == 1:
            return found[0]
        which = "several records begin with" if found else "there is no record"
        raise UsageError(f"{which} {name!r} in {folder}")
    latest = latest_run(root)
    if latest is None:
        raise UsageError(f"nothing is recorded in {folder} yet; run: dlcheck run")
    return latest
