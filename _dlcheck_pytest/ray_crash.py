"""A trial that ends its process on every node: one failed item, and one failed outcome."""

from __future__ import annotations

from typing import Any

import pytest

from _dlcheck_pytest.commands import command_of
from _dlcheck_pytest.running import trial_of
from _dlcheck_pytest.state import State


def crash_reports(item: pytest.Item, state: State, why: str, times: int) -> list[dict[str, Any]]:
    """What the item would have reported, serialised. why: what Ray says of the last time."""
    from dlcheck.model import Outcome, Trial, Verdict
    from dlcheck.reporting.terminal import describe
    from dlcheck.results import encode

    text = f"the process ended while it ran, {times} times: {why}"
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome="failed",
        longrepr=text,
        when="call",
    )
    trial = trial_of(item)
    if isinstance(trial, Trial):
        subject, check = trial.subject, trial.check
        outcome = Outcome(
            suite=trial.suite,
            subject=subject.name,
            kind=subject.kind,
            check=check.name,
            claim=check.claim,
            device=trial.device,
            dtype=trial.dtype,
            point=trial.point,
            verdict=Verdict.FAILED,
            message=text,
            reproduce=command_of(item, trial, state),
            profile=trial.profile,
            seed=trial.seed,
            target=subject.target if isinstance(subject.target, str) else "",
            file=subject.file,
            line=subject.line,
            tags=tuple(sorted(check.tags | subject.tags)),
        )
        report.longrepr = describe(outcome)
        report.dlcheck = encode(outcome)  # type: ignore[attr-defined]
    config = item.config
    return [config.hook.pytest_report_to_serializable(config=config, report=report)]
