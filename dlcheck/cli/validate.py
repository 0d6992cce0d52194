"""`dlcheck validate TARGET`: every check that applies to one implementation."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dlcheck.cli import COULD_NOT_MEASURE, Parser, parse_pairs
from dlcheck.model import PROFILES, Outcome
from dlcheck.reporting.report import Report


def parser() -> Parser:
    made = Parser(
        prog="dlcheck validate",
        description="Run every check that applies to one implementation.",
        epilog="Example: dlcheck validate mypkg.losses:FocalLoss --kind loss "
        "--option task=classification --arg gamma=2.0",
    )
    add = made.add_argument
    add("target", help="package.module:attribute or path/file.py:attribute")
    add("--kind", help="its role; see dlcheck list kinds (inferred for modules and optimizers)")
    add("--arg", action="append", default=[], metavar="NAME=VALUE", help="how to build it")
    add("--input", action="append", default=[], metavar='NAME="float b n"', help="what it takes")
    add("--vary", action="append", default=[], metavar="NAME=[VALUES]", help="an argument to vary")
    add("--trait", action="append", default=[], metavar="TRAIT", help="see dlcheck list traits")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="fact of the kind")
    add("--reference", metavar="TARGET", help="a trusted implementation, called the same way")
    add("--check", action="append", default=[], metavar="GLOB", help="only these checks")
    add("--skip", action="append", default=[], metavar="GLOB", help="not these checks")
    add("--device", default="auto", help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    add("--dtype", help="float64 unless told")
    add("--profile", default="default", choices=sorted(PROFILES))
    add("--seed", type=int, default=0)
    add("--timeout", type=float, metavar="SECONDS", help="per trial (default: 600)")
    add("--report", metavar="FOLDER", help="also write index.html and summary.md there")
    add("--json", action="store_true", help="print the report as JSON")
    return made


def main(arguments: Sequence[str]) -> int:
    """Validate, print the report, record the run; returns the exit code."""
    given = parser().parse_args(arguments)
    command = shlex.join(["dlcheck", "validate", *arguments])
    report = _validated(given, command)
    print(report.to_json() if given.json else _shown(report))
    _recorded(report, command, given)
    if report.failures:
        return 1
    return 0 if report.passed else COULD_NOT_MEASURE


def _shown(report: Report) -> str:
    from dlcheck.reporting.screen import folded, wants_color, width_of
    from dlcheck.reporting.terminal import summary

    text = summary(report, color=wants_color(sys.stdout))
    return folded(text, width_of(sys.stdout))


def _validated(given: Any, command: str) -> Report:
    from dlcheck.errors import UsageError
    from dlcheck.expansion import Overrides
    from dlcheck.settings import read_settings
    from dlcheck.validation import found_device, run_report, trials_of

    # The same readers as `run`, so that a wrong device or dtype gets the same message.
    settings = read_settings(
        {"device": given.device, "dtype": given.dtype, "timeout": given.timeout}, Path.cwd()
    )
    inputs = parse_pairs("--input", given.input)
    if wrong := [name for name, value in inputs.items() if not isinstance(value, str)]:
        raise UsageError(f"--input {wrong[0]}: an input is a text like 'float b n'")
    trials = trials_of(
        subject=given.target,
        kind=given.kind,
        args=parse_pairs("--arg", given.arg),
        inputs=inputs,  # type: ignore[arg-type]
        matrix=parse_pairs("--vary", given.vary),  # type: ignore[arg-type]
        reference=given.reference,
        traits=given.trait,
        options=parse_pairs("--option", given.option),
        checks=given.check or None,
        skip=given.skip,
        overrides=Overrides(
            devices=tuple(map(found_device, settings["device"].value)),
            dtypes=settings["dtype"].value,
            profile=given.profile,
            seed=given.seed,
            timeout=settings["timeout"].value,
        ),
        where="validate",
    )
    with contextlib.redirect_stdout(sys.stderr):  # what the subject prints is no report
        report = run_report(trials, progress=_progress())
    outcomes = [_with_command(outcome, command) for outcome in report.outcomes]
    return Report(outcomes, report.meta)


def _with_command(outcome: Outcome, command: str) -> Outcome:
    return replace(outcome, reproduce=f"{command} --check {outcome.check}")


def _progress() -> Callable[[int, int, str], None] | None:
    """One line that rewrites itself, on a terminal only."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int, name: str) -> None:
        print(f"\r\x1b[2K[{done + 1}/{total}] {name}", end="", file=sys.stderr, flush=True)
        if done + 1 == total:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)

    return show


def _recorded(report: Report, command: str, given: Any) -> None:
    """Write the record and the report that was asked for; what cannot be written is one line."""
    from dlcheck.results import Run, RunWriter, environment, new_run_path

    meta = {
        **report.meta,
        **environment(command=command, seed=given.seed, profile=given.profile),
    }
    try:
        with RunWriter(new_run_path(Path.cwd()), meta) as writer:
            for outcome in report.outcomes:
                writer.append(outcome)
        if writer.lost:
            _complain(f"{writer.lost:,} outcomes are not in the record: {writer.problem}")
    except OSError as error:
        _complain(f"no record was written: {error}")
    if not given.report:
        return
    from dlcheck.reporting import write_reports

    try:
        for path in write_reports(Run(meta, report.outcomes), Path(given.report)):
            print(f"wrote {path}", file=sys.stderr)
    except OSError as error:
        _complain(f"no report was written to {given.report}: {error}")


def _complain(text: str) -> None:
    print(f"dlcheck validate: {text}", file=sys.stderr)
