"""`dlcheck validate TARGET`: every check that applies to one implementation."""

from __future__ import annotations

import contextlib
import shlex
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from dlcheck.arguments import without
from dlcheck.cli import COULD_NOT_MEASURE, Parser, parse_pairs
from dlcheck.failures import Failures, failure_of, identity, with_replay
from dlcheck.model import PROFILES, Outcome, Suite, Trial, Verdict
from dlcheck.registry import named_plugins
from dlcheck.reporting.report import Report
from dlcheck.settings import DEFAULT, Setting, read_settings
from dlcheck.suite import to_toml
from dlcheck.toml_text import to_toml_value


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
    add("--profile", metavar="NAME", help=f"how much work: {', '.join(PROFILES)}")
    add("--seed", metavar="N", help="root of all random streams (default: 0), or random")
    add("--timeout", type=float, metavar="SECONDS", help="per trial (default: 600)")
    add("--memory", metavar="BYTES", help="per trial: 4GiB, 512MB, none (default: what is there)")
    add("--report", metavar="FOLDER", help="also write index.html and summary.md there")
    add("--json", action="store_true", help="print the report as JSON")
    return made


def main(arguments: Sequence[str]) -> int:
    """Validate, print the report, record the run; returns the exit code."""
    given = parser().parse_args(arguments)
    command = shlex.join(["dlcheck", "validate", *arguments])
    report = _validated(given, arguments)
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


def _validated(given: Any, arguments: Sequence[str]) -> Report:
    from dlcheck.errors import UsageError
    from dlcheck.expansion import Overrides
    from dlcheck.validation import found_device, run_report, trials_of

    # The same readers as `run`, so that a wrong device or dtype gets the same message.
    settings = read_settings(
        {
            name: getattr(given, name)
            for name in ("device", "dtype", "timeout", "memory", "profile", "seed")
        },
        Path.cwd(),
    )
    given.profile, given.seed = settings["profile"].value, settings["seed"].value
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
            memory=settings["memory"].value,
        ),
        where="validate",
    )
    kept = Failures(Path.cwd())
    places = [_place(trial) for trial in trials]
    names = [
        kept.name_of(identity(trial, place)) for trial, place in zip(trials, places, strict=True)
    ]
    tried = [
        replace(trial, witness=kept.witness(name), scripted=True)
        for trial, name in zip(trials, names, strict=True)
    ]
    # What the subject prints is no report.
    with contextlib.redirect_stdout(sys.stderr), _each_warning_once():
        report = run_report(tried, progress=_progress())
    plugins = named_plugins()
    outcomes = [
        replace(
            with_replay(outcome, trial, name, place, plugins=plugins),
            reproduce=_again(arguments, trial, settings),
        )
        for outcome, trial, name, place in zip(report.outcomes, trials, names, places, strict=True)
    ]
    _keep(kept, outcomes, names, report.meta)
    return Report(outcomes, report.meta)


@contextlib.contextmanager
def _each_warning_once() -> Iterator[None]:
    """A subject that warns in every call is called some thousand times."""
    show, said = warnings.showwarning, set[tuple[object, ...]]()

    def once(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        warning = str(message), category, filename, lineno
        if warning not in said:
            said.add(warning)
            show(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.showwarning = once
        yield


def _place(trial: Trial) -> str:
    """Where the subject is declared: a call that says the same of it, whatever it checks."""
    declared = replace(trial.subject, checks=(), skip=(), matrix={})
    text = to_toml(Suite(name=trial.suite, subjects=(declared,)))
    return f"dlcheck validate {zlib.crc32(text.encode()):08x}"


def _again(arguments: Sequence[str], trial: Trial, settings: Mapping[str, Setting]) -> str:
    """The same call for this check at this point alone, wherever it is typed."""
    told = {name for name, setting in settings.items() if setting.source != DEFAULT}
    words = without(arguments, _REPLACED)
    words = [word for word in words if word != "--json"]
    for axis, value in trial.params.items():
        words += ["--vary", f"{axis}={to_toml_value([value])}"]
    words += ["--check", trial.check.name, "--device", trial.device]
    if trial.dtype != "float64" or "dtype" in told:
        words += ["--dtype", trial.dtype]
    if "profile" in told:
        words += ["--profile", trial.profile]
    if "seed" in told:
        words += ["--seed", str(trial.seed)]
    if "timeout" in told:
        words += ["--timeout", f"{trial.timeout:g}"]
    if "memory" in told:
        words += ["--memory", str(trial.memory) if trial.memory else "none"]
    return shlex.join(["dlcheck", "validate", *words])


# Said anew, for one trial.
_REPLACED = ("--check", "--vary", "--device", "--dtype", "--profile", "--seed", "--timeout",
             "--memory", "--report")  # fmt: skip


def _keep(
    failures: Failures, outcomes: Sequence[Outcome], names: Sequence[str], meta: dict[str, Any]
) -> None:
    """Keep what failed, forget what is mended; where that cannot be written, one line."""
    commit, date = meta.get("git", {}).get("commit", ""), meta.get("time", "")
    try:
        for outcome, name in zip(outcomes, names, strict=True):
            if outcome.failure:
                failures.put(failure_of(outcome, commit=commit, date=date))
            elif outcome.verdict is Verdict.PASSED and name in failures.names:
                failures.remove(name)
        failures.make_room()
    except OSError as error:
        _complain(f"a failure could not be kept in {failures.folder}: {error.strerror or error}")


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
