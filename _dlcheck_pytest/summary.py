"""What dlcheck adds to the end of pytest's output."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from _dlcheck_pytest.state import STATE, state_of

if TYPE_CHECKING:
    from dlcheck.model import Outcome

_REASONS = 3


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if STATE not in config.stash:
        return
    state = state_of(config)
    if not state.outcomes and not state.benchmarks:
        return
    from dlcheck.reporting.comparison_shown import lines_of
    from dlcheck.reporting.notes import noted
    from dlcheck.reporting.report import Report

    terminalreporter.section("dlcheck")
    for line in _inconclusive(state.outcomes):
        terminalreporter.write_line(line)
    for line in lines_of(state.benchmarks):
        terminalreporter.write_line(line)
    for benchmark, (_, told) in zip(state.benchmarks, state.trends, strict=True):
        if told:
            terminalreporter.write_line(f"{benchmark.id}: {told}")
    if state.outcomes:
        terminalreporter.write_line(Report(state.outcomes, {}).verdict_line)
        for line in (*_not_run(state.outcomes), *noted(state.outcomes)):
            terminalreporter.write_line(line)
    if state.writer is not None:
        terminalreporter.write_line(f"record: {os.path.relpath(state.writer.path, state.root)}")
    for path in state.written:
        if path.suffix == ".html":
            terminalreporter.write_line(f"report: {os.path.relpath(path, state.root)}")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from dlcheck.reporting.annotations import workflow_commands

        root = Path(os.environ.get("GITHUB_WORKSPACE") or state.root)
        for command in workflow_commands(state.outcomes, root):
            terminalreporter.write_line(command)
    for note in state.notes:
        terminalreporter.write_line(f"dlcheck: {note}", yellow=True)
    for problem in state.problems:
        terminalreporter.write_line(f"dlcheck: {problem}", red=True)


def _not_run(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """One line: how much was left out for which reasons, the most frequent first."""
    from dlcheck.reporting.coverage import reasons
    from dlcheck.reporting.markup import clean

    found = list(reasons(list(outcomes)).items())
    if not found:
        return
    shown = [f"{clean(reason)[:100]} ({count:,})" for reason, count in found[:_REASONS]]
    rest = sum(count for _, count in found[_REASONS:])
    yield f"not run: {'; '.join([*shown, *([f'other reasons ({rest:,})'] if rest else [])])}"


def _inconclusive(outcomes: Iterable[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        if outcome.verdict.value == "inconclusive":
            yield f"inconclusive {outcome.id}: {outcome.worst}"
