"""`dlcheck baseline NAME [RUN]`: give a recorded run a name. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlcheck.cli import Parser
from dlcheck.history import LATEST, baselines, find_run, remove_baseline, set_baseline


def main(arguments: Sequence[str]) -> int:
    """Set, remove or list baselines; returns the exit code."""
    parser = Parser(
        prog="dlcheck baseline",
        description="Give a recorded run a name, or list the names.",
        epilog="Then: dlcheck compare NAME latest, or dlcheck run --against NAME. A RUN is a "
        ".jsonl file, the beginning of a name in .dlcheck/runs, latest, latest~1, or a baseline.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME")
    parser.add_argument("run", nargs="?", metavar="RUN", help="default: the latest")
    parser.add_argument("--remove", action="store_true", help="forget the name, not the run")
    given = parser.parse_args(arguments)
    root = Path.cwd()
    if given.name is None:
        return _list(root)
    if given.remove:
        remove_baseline(given.name, root)
        print(f"forgot {given.name}")
        return 0
    found = find_run(given.run or LATEST, root)
    set_baseline(given.name, found, root)
    print(f"{given.name} is {found.name}")
    return 0


def _list(root: Path) -> int:
    found = baselines(root)
    width = max(map(len, found), default=0)
    for name, record in found.items():
        print(f"{name:<{width}}  {record}")
    if not found:
        print("no baseline yet; name the latest run: dlcheck baseline main")
    return 0
