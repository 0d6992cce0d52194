"""`dlcheck replay ID`: the case of a failure run again, alone."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dlcheck.cli import FAILED, Parser
from dlcheck.errors import UsageError
from dlcheck.failures import Failure, Failures, failure_of

CANNOT = 2
_EXPECTED = "expected"  # the verdict of one that is declared to fail
_NEAR = 5


def parser() -> Parser:
    made = Parser(
        prog="dlcheck replay",
        description="Run the case of a failure again, alone. Without ID: list the failures that "
        "are kept in .dlcheck/failures, the newest first.",
        epilog="Exit codes: 0 it is mended, 1 it still fails, 2 it cannot be run here, 4 a mistake "
        "in the call. A failure is forgotten when a run of its suite passes.",
    )
    add = made.add_argument
    add("id", nargs="*", metavar="ID", help="as the failure message prints it, or its beginning")
    add("--all", action="store_true", help="every failure that is kept, but the expected ones")
    add("--run", metavar="RUN", help="those of a recorded run: a file, latest, a baseline")
    add("--prune", action="store_true", help="forget what can never be run again: its suite, "
        "subject or check is gone")  # fmt: skip
    add("--script", action="store_true", help="print a program of at most 25 lines that shows the "
        "failure with torch and the subject alone; nothing is run")  # fmt: skip
    add("--json", action="store_true", help="print the outcomes as JSON")
    return made


def main(arguments: Sequence[str]) -> int:
    """Replay, list or prune; returns the exit code."""
    given = parser().parse_args(arguments)
    if wrong := _contradiction(given):
        raise UsageError(wrong)
    root = Path.cwd()
    try:
        if given.prune:
            return _prune(Failures(root), root)
        known, damaged = _known(given.run, root)
        if not given.id and not given.all:
            return _list(known, damaged, given)
        chosen = _chosen(given, known, damaged)
    except UsageError as error:
        print(f"dlcheck replay: {error}", file=sys.stderr)
        return CANNOT
    if given.script:
        return _scripts(chosen)
    return _replayed(chosen, root, as_json=given.json)


def _contradiction(given: Any) -> str:
    if given.id and (given.all or given.prune):
        return f"an ID and {'--all' if given.all else '--prune'} contradict each other"
    if given.script and (given.prune or not (given.id or given.all)):
        return "--script needs an ID or --all, as printed by dlcheck replay"
    if given.prune and (given.all or given.run):
        return f"--prune and {'--all' if given.all else '--run'} contradict each other"
    return ""


# --- which ones ---------------------------------------------------------------------------------


def _known(run: str | None, root: Path) -> tuple[list[Failure], list[str]]:
    """The failures, and what is wrong with those that cannot be read. Raises UsageError."""
    if run is None:
        found = list(Failures(root).newest_first())
    else:
        from dlcheck.history import load_run

        found = list(_of_record(load_run(run, root)))
    return (
        [each for each in found if isinstance(each, Failure)],
        [str(each) for each in found if isinstance(each, UsageError)],
    )


def _of_record(run: Any) -> Iterable[Failure | UsageError]:
    commit, date = run.meta.get("git", {}).get("commit", ""), run.meta.get("time", "")
    for outcome in run.outcomes:
        if outcome.verdict.value not in ("failed", _EXPECTED):
            continue
        try:
            yield failure_of(outcome, commit=str(commit), date=str(date))
        except UsageError as error:
            yield error


def _chosen(given: Any, known: Sequence[Failure], damaged: Sequence[str]) -> list[Failure]:
    if given.all:
        for problem in damaged:
            print(f"dlcheck replay: {problem}", file=sys.stderr)
        found = [failure for failure in known if failure.verdict != _EXPECTED]
        return sorted(found, key=lambda failure: failure.recipe is None)  # crashes have no case
    return [_one(name, known, damaged) for name in given.id]


def _one(name: str, known: Sequence[Failure], damaged: Sequence[str]) -> Failure:
    """The failure whose ID begins so. Raises UsageError with the near ones."""
    name = name.lower()
    found = [failure for failure in known if failure.id.startswith(name)]
    whole = [failure for failure in found if failure.id == name]
    if len(found) == 1 or whole:
        return (whole or found)[0]
    if found:
        raise UsageError(f"{len(found)} failures begin with {name!r}:\n{_table(found[:_NEAR])}")
    if broken := [problem for problem in damaged if name in problem]:
        raise UsageError(broken[0])
    raise UsageError(f"no failure {name!r} is kept. {_near(name, known)}")


def _near(name: str, known: Sequence[Failure]) -> str:
    """Those whose ID, check or subject is near; a name of a check may have been typed."""
    import difflib

    if not known:
        return "None is: one is kept when a check fails (dlcheck run, dlcheck validate)"
    words = {word: each for each in reversed(known) for word in (each.id, each.check, each.subject)}
    close = difflib.get_close_matches(name, words, n=_NEAR, cutoff=0.5)
    near = list({words[word].id: words[word] for word in close}.values())
    heading = "Near it:" if near else "The newest:"
    return f"{heading}\n{_table(near or known[:_NEAR])}\nAll: dlcheck replay"


def _list(known: Sequence[Failure], damaged: Sequence[str], given: Any) -> int:
    if given.json:
        print(json.dumps([failure.to_data() for failure in known], indent=2))
    elif known:
        print(_table(known))
        print("Run one again: dlcheck replay ID" + (f" --run {given.run}" if given.run else ""))
    elif not damaged:
        print("no failure is kept" if given.run is None else f"nothing failed in {given.run}")
    for problem in damaged:
        print(f"dlcheck replay: {problem}", file=sys.stderr)
    return 0


def _table(failures: Sequence[Failure]) -> str:
    rows = [("ID", "last seen", "check", "subject", "case", "")]
    rows += [
        (
            failure.id,
            failure.date.partition("T")[0],
            _clean(failure.check),
            _clean(failure.subject),
            _clean(failure.case) or f"[{failure.point}] seed={failure.seed}",
            "as expected" if failure.verdict == _EXPECTED else "",
        )
        for failure in failures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            f"{_clean(cell):<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _clean(text: str) -> str:
    from dlcheck.reporting.markup import clean

    return " ".join(clean(text).split())


def _scripts(failures: Sequence[Failure]) -> int:
    """Print what shows them without dlcheck."""
    for failure in failures:
        if failure.script:
            print(failure.script, end="")
        else:
            why = failure.scriptless or "it was kept by a dlcheck that wrote none"
            said = f"dlcheck replay: {failure.id} ({_name(failure)}) has no script: {_clean(why)}"
            print(said, file=sys.stderr)
    return 0 if all(failure.script for failure in failures) else CANNOT


# --- running them -------------------------------------------------------------------------------


def _replayed(failures: Sequence[Failure], root: Path, *, as_json: bool) -> int:
    """Run them one after the other; the gravest of what they came to."""
    codes, outcomes = [], []
    for failure in failures:
        try:
            outcome = _outcome(failure, root)
        except UsageError as error:
            codes.append(CANNOT)
            print(_cannot(failure, str(error)), file=sys.stderr)
            continue
        outcomes.append(outcome)
        code, told = _verdict(failure, outcome)
        codes.append(code)
        if not as_json:
            print(told, file=sys.stderr if code == CANNOT else sys.stdout)
    if as_json:
        from dlcheck.results import encode

        print(json.dumps([encode(outcome) for outcome in outcomes], indent=2))
    elif not failures:
        print("no failure is kept")
    return next((code for code in (FAILED, CANNOT) if code in codes), 0)


def _outcome(failure: Failure, root: Path) -> Any:
    from dlcheck.replaying import run_again

    if not faulthandler.is_enabled():
        with contextlib.suppress(AttributeError, OSError, ValueError):  # no stderr of its own
            faulthandler.enable()  # a failure may be a crash: it says where
    with contextlib.redirect_stdout(sys.stderr):  # what the subject prints is no answer
        return run_again(failure, root)


def _verdict(failure: Failure, outcome: Any) -> tuple[int, str]:
    from dlcheck.reporting.screen import wants_color
    from dlcheck.reporting.terminal import describe, told

    match outcome.verdict.value:
        case "failed":
            return FAILED, describe(outcome, color=wants_color(sys.stdout))
        case "passed":
            said = f"{failure.id}: {_name(failure)} passes now: {told(outcome)}"
            rest = f"The whole trial: {failure.command}" if failure.command else ""
            return 0, "\n".join(part for part in (said, rest) if part)
    return CANNOT, _cannot(failure, f"{outcome.verdict.value}: {told(outcome)}")


def _cannot(failure: Failure, why: str) -> str:
    return f"dlcheck replay: {failure.id} ({_name(failure)}) cannot be run again: {why}"


def _name(failure: Failure) -> str:
    return f"{_clean(failure.subject)}: {_clean(failure.check)} [{_clean(failure.point)}]"


def _prune(kept: Failures, root: Path) -> int:
    """Forget what no run can show again; what is broken now, or lacks something here, stays."""
    from dlcheck.replaying import CannotReplay, Gone, trial_of

    known, damaged = _known(None, root)
    gone = 0
    for failure in known:
        try:
            trial_of(failure, root)
        except Gone as error:
            kept.remove(failure.id)
            gone += 1
            print(f"forgot {failure.id} ({_name(failure)}): {error}")
        except CannotReplay as error:
            print(_cannot(failure, str(error)), file=sys.stderr)
    print(f"{gone} forgotten, {len(known) - gone} kept")
    for problem in damaged:
        print(f"dlcheck replay: {problem}", file=sys.stderr)
    return 0
