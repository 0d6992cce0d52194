"""`suite.lock`: how much of each suite ran; a run that checks less does not pass unnoticed.

A TOML file beside the suites. Below `suites` one table per suite file: subject = trials that ran
on the CPU.
Loads no torch.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dlcheck.errors import UsageError
from dlcheck.model import Outcome, Verdict
from dlcheck.toml_text import to_toml_value

NAME = "suite.lock"
SUITES = "suites"
RUN = ("profile", "seed")  # a run is held to the lock where it has the same
_HEAD = """\
# Written by `dlcheck run --lock`: how many trials of each subject ran, with evidence, on the CPU.
# A run of a whole suite in which fewer run fails and names them.
"""
_SHOWN = 8


def counts(outcomes: Iterable[Outcome]) -> dict[str, Counter[str]]:
    """Suite → subject → trials that ran on the CPU. A subject of which none ran has 0."""
    found: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        ran = outcome.verdict is not Verdict.SKIPPED and outcome.device == "cpu"
        found.setdefault(outcome.suite, Counter())[outcome.subject] += ran
    return found


def read_lock(path: Path) -> dict[str, Any]:
    """The lock: its profile and its tables; empty where there is none. Raises UsageError."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: this lock cannot be read: {error}; write it anew with --lock"
        ) from None
    suites = data.get(SUITES)
    if set(data) != {*RUN, SUITES} or not isinstance(suites, dict):
        raise UsageError(
            f"{path}: a lock has {', '.join(RUN)} and the table {SUITES}; write it anew with --lock"
        )
    for name, table in suites.items():
        if not isinstance(table, dict) or not all(type(n) is int for n in table.values()):
            raise UsageError(
                f"{path}: {SUITES}.{name} is a table of counts; write it anew with --lock"
            )
    return data


def write_lock(path: Path, run: Mapping[str, Any], found: Mapping[str, Mapping[str, int]]) -> None:
    """Lock these suites; what other suites have stays, if it is of such a run too.

    run: its profile and seed, on which it depends which claims have content; found: file stem →
    subject → trials.
    """
    kept = read_lock(path)
    same = all(kept.get(name) == run[name] for name in RUN)
    tables = dict(kept[SUITES]) if same else {}
    tables |= {stem: {name: n for name, n in table.items() if n} for stem, table in found.items()}
    lines = [_HEAD, *(f"{name} = {to_toml_value(run[name])}\n" for name in RUN)]
    for stem in sorted(tables):
        lines.append(f"\n[{SUITES}.{_key(stem)}]\n")
        lines += [f"{_key(name)} = {tables[stem][name]}\n" for name in sorted(tables[stem])]
    path.write_text("".join(lines), "utf-8")


def _key(name: str) -> str:
    bare = name.replace("-", "").replace("_", "").isalnum() and name.isascii()
    return name if bare else str(to_toml_value(name))


def shrunk(lock: Mapping[str, Any], found: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Per suite that ran: which subjects ran less than is locked, in words."""
    for stem, table in found.items():
        locked = lock.get(SUITES, {}).get(stem, {})
        less = {
            name: (table.get(name, 0), n) for name, n in locked.items() if table.get(name, 0) < n
        }
        if not less:
            continue
        shown = [f"{name} {now} of {then}" for name, (now, then) in list(less.items())[:_SHOWN]]
        rest = f", and {len(less) - _SHOWN} more" if len(less) > _SHOWN else ""
        gone = sum(then - now for now, then in less.values())
        yield f"{stem}: {gone:,} trials that are locked did not run: {', '.join(shown)}{rest}"


def grown(lock: Mapping[str, Any], found: Mapping[str, Mapping[str, int]]) -> int:
    """How many trials ran beyond what is locked, in suites that are locked."""
    locked = lock.get(SUITES, {})
    return sum(
        max(0, n - locked[stem].get(name, 0))
        for stem, table in found.items()
        if stem in locked
        for name, n in table.items()
    )
