"""Which cases a trial ran, and how the one that failed is run again."""

from __future__ import annotations

from dlcheck.model import Outcome
from dlcheck.reporting.numbers import counted


def replay_command(outcome: Outcome) -> str:
    """What runs the failing case alone; empty where none is kept."""
    return f"dlcheck replay {outcome.failure}" if outcome.failure else ""


def script_path(outcome: Outcome) -> str:
    """Where its script is kept, from the working directory; empty where there is none."""
    there = outcome.script and outcome.failure
    return f".dlcheck/failures/{outcome.failure}.py" if there else ""


def statistics(name: str, outcome: Outcome) -> str:
    """What `--hypothesis-show-statistics` prints for a trial."""
    lines = [f"{name}:", ""]
    if not outcome.phases:
        lines.append("  - one case, which the seed decides: Hypothesis draws none")
    for phase, count in outcome.phases.items():
        lines.append(f"  - {phase}: {counted(count, 'case')}")
    left_out = sum(outcome.phases.values()) - outcome.cases
    if outcome.phases and left_out > 0:
        lines.append(f"  - of these {left_out:,} judged nothing: left out, refused or raised")
    lines.append(f"  - {outcome.seconds:.2f} seconds; {outcome.verdict.value}")
    return "\n".join(lines)
