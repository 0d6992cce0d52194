"""Is a benchmark slower than in a recorded run? Judged while the run goes on, one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dlcheck.benchmark import Benchmark
from dlcheck.results import Run
from dlcheck.trends import Timed, foreign, processes_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A baseline, further processes of the run that goes on, and the environment of that."""

    name: str  # as the person called the baseline
    baseline: Run
    others: Sequence[Run] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def judge(self, found: Benchmark, benchmarks: int) -> Timed:
        """Before and now, with the chances times the number of benchmarks (Bonferroni).

        Those that come later are not known yet, as Holm's steps would need.
        """
        before = processes_of(self.baseline).get(found.id, ())
        now = [each for run in self.others for each in run.benchmarks if each.id == found.id]
        timed = Timed(
            befores=before,
            afters=(found, *now),
            foreign=foreign(self.baseline.meta, self.meta),
            judged=benchmarks,
        )
        shift = timed.shift
        if shift is None:
            return timed
        return replace(
            timed,
            slower=min(1.0, benchmarks * shift.chance_slower),
            faster=min(1.0, benchmarks * shift.chance_faster),
        )
