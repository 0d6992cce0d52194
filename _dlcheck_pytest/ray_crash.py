"""A trial that ends its process on every node: one failed item, and one failed outcome."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from _dlcheck_pytest.commands import command_of
from _dlcheck_pytest.running import replayable
from _dlcheck_pytest.state import State
from _dlcheck_pytest.trials import trial_of


def crash_reports(item: pytest.Item, state: State, why: str, times: int) -> list[dict[str, Any]]:
    """What the item would have reported, serialised. why: what Ray says of the last time."""
    from dlcheck.model import Trial, Verdict
    from dlcheck.reporting.terminal import describe
    from dlcheck.results import encode
    from dlcheck.runner import unfinished

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
        made = unfinished(trial, reproduce=command_of(item, trial, state))
        expected = None if item.config.option.runxfail else trial.expected_failure
        if expected is not None:
            verdict, text = Verdict.EXPECTED, "\n".join(filter(None, [expected.reason, text]))
            report.outcome, report.wasxfail = "skipped", text.splitlines()[0]  # type: ignore[attr-defined]
            made = dataclasses.replace(made, verdict=verdict)
        made = replayable(dataclasses.replace(made, message=text), trial, item, state)
        report.longrepr = describe(made)
        report.dlcheck = encode(made)  # type: ignore[attr-defined]
    config = item.config
    return [config.hook.pytest_report_to_serializable(config=config, report=report)]
