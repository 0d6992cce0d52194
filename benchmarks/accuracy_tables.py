"""The runs of benchmarks/accuracy.py as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from markdown import Table

_USUAL = ("failed", "passed")


def tables(found: Sequence[Any]) -> list[Table]:
    plain = [one for one in found if not one.task.declared]
    declared = [one for one in found if one.task.declared]
    made = [_rejected(plain), _grades(plain)]
    made += [_declared(declared)] if declared else []
    made += [_misses(plain), _alarms(plain), _times(plain)]
    return made


def _dtypes(found: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(one.task.dtype for one in found))


def _share(runs: Sequence[Any], holds: Callable[[Any], bool]) -> str:
    count = sum(map(holds, runs))
    return f"{100 * count / len(runs):.1f} % ({count}/{len(runs)})" if runs else "–"


def _rejected(found: Sequence[Any]) -> Table:
    """One row per group and type."""
    rows = []
    for group in ("right", "loose", "wrong"):
        for dtype in _dtypes(found):
            runs = [one for one in found if (one.task.group, one.task.dtype) == (group, dtype)]
            others = Counter(one.verdict for one in runs)
            other = [
                f"{n} {name}" for name, n in others.items() if name not in ("failed", "passed")
            ]
            rows.append(
                (
                    group,
                    dtype,
                    _share(runs, lambda one: one.verdict == "failed"),
                    ", ".join(other) or "none",
                    _share(runs, lambda one: one.assert_close),
                    _share(runs, lambda one: one.kernelbench),
                )
            )
    columns = (
        "implementations", "dtype", "rejected", "neither failed nor passed", "by assert_close",
        "by KernelBench's rule",
    )  # fmt: skip
    note = "Shares of (implementation, seed). A loose one is rejected unless declared (below)."
    return Table(title="Rejected", columns=columns, rows=rows, note=note)


def _grades(found: Sequence[Any]) -> Table:
    rows = []
    for dtype in _dtypes(found):
        runs = [one for one in found if (one.task.group, one.task.dtype) == ("right", dtype)]
        failed = [one for one in runs if one.verdict == "failed"]
        grades = Counter(one.grade for one in failed)
        share = f"{100 * grades['B'] / len(runs):.2f} %" if runs else "–"
        rows.append((dtype, len(runs), sum(map(_passed, runs)), grades["B"], share, grades["C"]))
    columns = ("dtype", "runs", "passed", "grade B", "share", "grade C")
    return Table(title="Right implementations", columns=columns, rows=rows)


def _declared(found: Sequence[Any]) -> Table:
    rows = []
    for name, runs in _by_variant(found):
        cells = [
            _share([one for one in runs if one.task.dtype == dtype], lambda one: _passed(one))
            for dtype in _dtypes(found)
        ]
        rows.append((name, *cells))
    title = "Loose implementations that declare compute_dtype: accepted"
    return Table(title=title, columns=("implementation", *_dtypes(found)), rows=rows)


def _passed(one: Any) -> bool:
    return bool(one.verdict == "passed")


def _by_variant(found: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    for name, runs in groupby(found, lambda one: f"{one.task.operation}: {one.task.variant}"):
        yield name, list(runs)


def _misses(found: Sequence[Any]) -> Table:
    rows = []
    for name, runs in _by_variant([one for one in found if one.task.group == "wrong"]):
        for dtype in _dtypes(found):
            here = [one for one in runs if one.task.dtype == dtype]
            caught = sum(one.verdict == "failed" for one in here)
            if caught < len(here):
                rows.append((name, dtype, f"{caught} of {len(here)}"))
    columns = ("implementation", "dtype", "found at")
    return Table(title="Wrong implementations that passed at some seed", columns=columns, rows=rows)


def _alarms(found: Sequence[Any]) -> Table:
    rows = [
        (
            f"{one.task.operation}: {one.task.variant}",
            one.task.dtype,
            one.task.seed,
            one.grade or one.verdict,
            one.what or one.message,
            f"{one.tightness:.3g}",
            one.case,
        )
        for one in found
        if one.task.group == "right" and one.verdict != "passed"
    ]
    columns = ("implementation", "dtype", "seed", "grade", "what", "error / bound", "case")
    return Table(title="Right implementations that were rejected", columns=columns, rows=rows)


def _times(found: Sequence[Any]) -> Table:
    rows = []
    for dtype in _dtypes(found):
        right = [o for o in found if (o.task.group, o.task.dtype) == ("right", dtype) and o.cases]
        each = [1e3 * one.seconds / one.cases for one in right]
        wrong = [o.seconds for o in found if (o.task.group, o.task.dtype) == ("wrong", dtype)]
        rows.append((dtype, median(each) if each else 0.0, median(wrong) if wrong else 0.0))
    columns = ("dtype", "ms per case, right", "s per run, wrong")
    return Table(title="Time (median)", columns=columns, rows=rows)
