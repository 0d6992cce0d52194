"""`Report`: what a run came to, for people and programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dlcheck.benchmark import Benchmark
from dlcheck.errors import ValidationFailed
from dlcheck.model import Outcome, Verdict
from dlcheck.ratio import Speed
from dlcheck.reporting.numbers import counted
from dlcheck.results import Run, encode, plain
from dlcheck.trends import middle, processes_of

_WORDS = {
    Verdict.FAILED: "failed",
    Verdict.ERRORED: "errored",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.PASSED: "passed",
    Verdict.EXPECTED: "failed as expected",
    Verdict.SKIPPED: "not run",
}


def told_speeds(benchmarks: Sequence[Benchmark]) -> str:
    """`5 benchmarks: 1 slower, 4 same`."""
    speeds: tuple[Speed | None, ...] = (*Speed, None)
    found = {speed: sum(each.verdict is speed for each in benchmarks) for speed in speeds}
    said = [f"{count:,} {speed_word(speed)}" for speed, count in found.items() if count]
    return f"{counted(len(benchmarks), 'benchmark')}: {', '.join(said)}"


def speed_word(speed: Speed | None) -> str:
    """The verdict in words; a subject may have been timed alone."""
    return speed.value if speed is not None else "timed alone"


class Report:
    """The outcomes and benchmarks of a run with its environment.

    `str(report)` is the terminal report; in a notebook it shows itself as HTML.
    """

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        meta: Mapping[str, Any],
        benchmarks: Sequence[Benchmark] = (),
    ) -> None:
        self.outcomes = list(outcomes)
        self.meta = dict(meta)
        self.benchmarks = list(benchmarks)

    @classmethod
    def of(cls, run: Run) -> Report:
        """The report of a recorded run; of a benchmark of many processes, the middle one."""
        return cls(run.outcomes, run.meta, [middle(each) for each in processes_of(run).values()])

    @property
    def passed(self) -> bool:
        """Nothing failed, errored, stayed inconclusive or was lost, and at least one check ran."""
        good = all(outcome.verdict.is_good for outcome in self.outcomes)
        measured = all(benchmark.is_measured for benchmark in self.benchmarks)
        return self.ran and good and measured and not self.incomplete

    @property
    def incomplete(self) -> str:
        """What the record lacks, where it was cut off or damaged; empty where it is whole."""
        return str(self.meta.get("incomplete", ""))

    @property
    def ran(self) -> bool:
        """Did at least one check or benchmark run?"""
        return bool(self.benchmarks) or any(
            outcome.verdict is not Verdict.SKIPPED for outcome in self.outcomes
        )

    @property
    def unchecked(self) -> dict[str, list[str]]:
        """What a further declaration would have checked: "trait causal" → names of checks."""
        found = self.meta.get("unchecked")
        return dict(found) if isinstance(found, Mapping) else {}

    @property
    def failures(self) -> list[Outcome]:
        """What failed or errored."""
        bad = (Verdict.FAILED, Verdict.ERRORED)
        return [outcome for outcome in self.outcomes if outcome.verdict in bad]

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many outcomes of each verdict, gravest first; verdicts that none has are absent."""
        found = Counter(outcome.verdict for outcome in self.outcomes)
        return {verdict: found[verdict] for verdict in _WORDS if found[verdict]}

    @property
    def headline(self) -> str:
        """The run in a word or two."""
        if not self.ran:
            return "Nothing ran"
        if Verdict.FAILED in self.counts or any(each.fault for each in self.benchmarks):
            return "Failed"
        if Verdict.ERRORED in self.counts:
            return "Errored"
        measured = all(benchmark.is_measured for benchmark in self.benchmarks)
        if Verdict.INCONCLUSIVE in self.counts or not measured:
            return "Inconclusive"
        return "Incomplete" if self.incomplete else "Passed"

    @property
    def verdict_line(self) -> str:
        """One sentence: `3 failed, 120 passed, 40 not run; 2 benchmarks: 1 slower, 1 same`."""
        said = [", ".join(f"{count:,} {_WORDS[each]}" for each, count in self.counts.items())]
        if self.benchmarks:
            said.append(told_speeds(self.benchmarks))
        return "; ".join(part for part in said if part) or "no check ran"

    def raise_for_failures(self) -> None:
        """Raise ValidationFailed, whose text is the terminal report, unless the report passed."""
        if not self.passed:
            raise ValidationFailed(str(self))

    def to_json(self) -> str:
        """The report as one object of strict JSON: meta, passed, verdict, counts, outcomes."""
        data = {
            "meta": plain(self.meta),
            "passed": self.passed,
            "verdict": self.verdict_line,
            "counts": {verdict.value: count for verdict, count in self.counts.items()},
            "outcomes": [encode(outcome) for outcome in self.outcomes],
            **({"benchmarks": [b.to_data() for b in self.benchmarks]} if self.benchmarks else {}),
        }
        return json.dumps(data, indent=2, allow_nan=False)

    def __str__(self) -> str:
        from dlcheck.reporting.terminal import summary

        return summary(self)

    def __repr__(self) -> str:
        return f"<Report: {self.verdict_line}>"

    def _repr_html_(self) -> str:
        from dlcheck.reporting.html import render_fragment

        return render_fragment(self)
