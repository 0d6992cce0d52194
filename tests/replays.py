"""Do the printed forms of a failure show it again? Mutants as a person's own broken subjects.

A Python suite of the mutants of one check fails; then the pytest command, `dlcheck replay ID` and
the script that each failure prints are executed, each in a fresh process.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from sessions import run_command

from dlcheck.encoding import decode
from dlcheck.history import runs
from dlcheck.model import Outcome, Suite, Trial, Verdict
from dlcheck.proof import rejected_in_turn
from dlcheck.registry import catalogue
from dlcheck.results import read_run

_FILE = "test_broken.py"
_PATIENCE = 300.0


@cache
def mutants_of(check: str) -> list[Trial]:
    """Every mutant of a check, of one subject each in turn."""
    return list(rejected_in_turn(catalogue().checks[check]))


def suite_of(check: str, numbers: Sequence[int]) -> Suite:
    """Some mutants of a check as the subjects of a suite, to which only this check is put."""
    chosen = [mutants_of(check)[number] for number in numbers]
    return Suite(
        name="broken",
        matrix={"device": ["cpu"], "dtype": [chosen[0].dtype]},
        subjects=tuple(
            replace(
                trial.subject,
                name=f"{trial.subject.name.replace(':', '.')}.{number}",
                matrix={},
                checks=(check,),
                skip=(),
                expect_failures=(),
                requires=(),
            )
            for number, trial in zip(numbers, chosen, strict=True)
        ),
    )


@dataclass(slots=True)
class Shown:
    """A failure, and for each printed form what is wrong with it; empty where it fails again."""

    outcome: Outcome
    forms: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The largest size of the minimal case; 0 for a check that runs once."""
        return max(self.outcome.recipe.sizes.values(), default=0) if self.outcome.recipe else 0


@dataclass(frozen=True, slots=True)
class _Folder:
    path: Path


def shown_again(folder: Path, chosen: Mapping[str, Sequence[int]]) -> Iterator[Shown]:
    """Run mutants in an empty folder, then every form that their failures print.

    chosen: a check → the numbers of its mutants.
    """
    here = _Folder(folder)
    suites = [
        f"SUITE_{place} = suite_of({check!r}, {list(numbers)})"
        for place, (check, numbers) in enumerate(chosen.items())
    ]
    (folder / _FILE).write_text("\n".join(["from replays import suite_of", "", *suites, ""]))
    done = run_command(here, ["pytest", "-q", _FILE], seconds=_PATIENCE)
    outcomes = _newest(folder)
    if not outcomes:
        raise RuntimeError(f"nothing ran: {done.ret}\n{done.stdout}\n{done.stderr}")
    shown = [Shown(each) for each in outcomes if each.verdict is Verdict.FAILED]
    for each in shown:  # while the failures are kept
        each.forms["replay"] = _replayed(here, each.outcome)
        if each.outcome.script:
            each.forms["script"] = _scripted(here, each.outcome)
    for each in shown:
        shutil.rmtree(folder / ".dlcheck", ignore_errors=True)  # pytest finds the failure by itself
        each.forms["pytest"] = _run_again(here, each.outcome)
    yield from shown


def _newest(folder: Path) -> list[Outcome]:
    found = runs(folder)
    return read_run(found[0]).outcomes if found else []


def _replayed(here: _Folder, first: Outcome) -> str:
    done = run_command(here, ["dlcheck", "replay", first.failure, "--json"], seconds=_PATIENCE)
    if done.ret != 1:
        return f"exit code {done.ret}: {' '.join(done.errlines[-2:])}"
    return _difference(first, decode(json.loads(done.stdout.str())[0]))


def _run_again(here: _Folder, first: Outcome) -> str:
    done = run_command(here, shlex.split(first.reproduce), seconds=_PATIENCE)
    found = _newest(here.path)
    if done.ret != 1 or len(found) != 1:
        return f"exit code {done.ret}, {len(found)} outcomes"
    return _difference(first, found[0])


def _scripted(here: _Folder, first: Outcome) -> str:
    path = here.path / "again.py"
    path.write_text(first.script)
    done = run_command(here, ["python", str(path)], seconds=_PATIENCE)
    return "" if done.ret else "it exits with 0"


def _difference(first: Outcome, again: Outcome) -> str:
    for name in ("check", "verdict", "case"):
        one, other = getattr(first, name), getattr(again, name)
        if one != other:
            return f"{name}: {one} → {other}"
    return ""
