"""`Comparison`: the benchmarks of one call, for people and programs. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dlcheck.benchmark import Benchmark
from dlcheck.errors import UsageError
from dlcheck.ratio import Ratio, Speed
from dlcheck.results import plain

SCHEMA = 1


class Comparison:
    """A subject against a reference at every point of a sweep, with its environment.

    `str()` is the terminal's table; in a notebook it shows itself as HTML.
    """

    def __init__(self, benchmarks: Sequence[Benchmark], meta: Mapping[str, Any]) -> None:
        self.benchmarks = tuple(benchmarks)
        self.meta = dict(meta)

    @property
    def only(self) -> Benchmark:
        """The benchmark of a comparison at one point. Raises UsageError where there are more."""
        if len(self.benchmarks) != 1:
            raise UsageError(f"this comparison has {len(self.benchmarks)} points: see .benchmarks")
        return self.benchmarks[0]

    @property
    def verdict(self) -> Speed | None:
        """Of the one point."""
        return self.only.verdict

    @property
    def ratio(self) -> Ratio | None:
        """The subject's time over the reference's, of the one point: below 1 it is faster."""
        return self.only.ratio

    @property
    def measured(self) -> bool:
        """Did every point come to a verdict, or to times where nothing stands against it?"""
        return bool(self.benchmarks) and all(each.is_measured for each in self.benchmarks)

    @property
    def failed(self) -> bool:
        """Is the subject wrong at some point: does it raise, or answer otherwise?"""
        return any(each.fault for each in self.benchmarks)

    def to_json(self) -> str:
        """One object of strict JSON: schema, meta and benchmarks with their raw samples."""
        data = {
            "schema": SCHEMA,
            "meta": plain(self.meta),
            "benchmarks": [each.to_data() for each in self.benchmarks],
        }
        return json.dumps(data, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        """The comparison that was written. Raises UsageError where the text is none."""
        try:
            data = json.loads(text)
            if data["schema"] > SCHEMA:
                raise UsageError("this comparison is of a newer dlcheck; upgrade dlcheck")
            found = [Benchmark.from_data(each) for each in data["benchmarks"]]
            return cls(found, data["meta"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"this is no comparison: {error}") from None

    def __str__(self) -> str:
        from dlcheck.reporting.comparison_shown import summary

        return summary(self.benchmarks)

    def __repr__(self) -> str:
        verdicts = [v.value for b in self.benchmarks if (v := b.verdict) is not None]
        return f"<Comparison: {', '.join(verdicts) or 'times'}>"

    def _repr_html_(self) -> str:
        from dlcheck.reporting.comparison_shown import fragment

        return fragment(self.benchmarks)
