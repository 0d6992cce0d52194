"""The tables of the op database: totals, what did not pass and why, and the bugs that escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from markdown import Table, figure
from op_database_explained import EXPLAINED

TITLE = "The gradient engine on PyTorch's op database"
CHECKERS = {"ours": "dlcheck", "slow": "gradcheck, slow", "fast": "gradcheck, fast"}
VERDICTS = ("passed", "failed", "inconclusive", "raised", "out of time")

Record = dict[str, Any]


def tables(ops: Sequence[Record]) -> list[Table]:
    samples = [{"op": op["op"], **sample} for op in ops for sample in op["samples"]]
    checked = [sample for sample in samples if "ours" in sample]
    injected = [
        {"op": sample["op"], "index": sample["index"], **bug}
        for sample in checked for bug in sample.get("bugs", ())
    ]  # fmt: skip
    return [
        _scope(ops, samples, checked, injected),
        _verdicts("Right gradients", checked),
        _not_passed(checked),
        _found(injected),
        _escaped(injected),
    ]


def _scope(
    ops: Sequence[Record],
    samples: Sequence[Record],
    checked: Sequence[Record],
    injected: Sequence[Record],
) -> Table:
    reasons = Counter(f"op: {op['left_out']}" for op in ops if "left_out" in op)
    reasons += Counter(f"sample: {s['left_out']}" for s in samples if "left_out" in s)
    engines = sorted({op.get("engine", "unknown") for op in ops})
    rows: list[Sequence[object]] = [
        ["ops in the database", len(ops)],
        ["ops checked", len({sample["op"] for sample in checked})],
        ["samples checked", len(checked)],
        ["bugs injected", len(injected)],
        ["fingerprint of the engine", ", ".join(engines)],
        ["seconds of one process", round(sum(op.get("seconds", 0.0) for op in ops))],
        *([f"left out, {reason}", count] for reason, count in reasons.most_common()),
    ]
    return Table(title="Scope", columns=["what", "count"], rows=rows)


def _verdicts(title: str, checked: Sequence[Record]) -> Table:
    rows = []
    for key, name in CHECKERS.items():
        own = [record[key] for record in checked if key in record]
        counts = Counter(found["verdict"] for found in own)
        seconds = sum(found.get("seconds", 0.0) for found in own)
        rows.append([name, len(own), *(counts[v] for v in VERDICTS), f"{seconds:.0f} s"])
    note = "Slow mode only where its Jacobian has at most 20,000 elements."
    columns = ["checker", "samples", *VERDICTS, "time"]
    return Table(title=title, columns=columns, rows=rows, note=note)


def _not_passed(checked: Sequence[Record]) -> Table:
    rows = []
    for record in checked:
        found = record["ours"]
        if found["verdict"] == "passed":
            continue
        numbers = f"{found.get('expected', '')}, got {found.get('got', '')}"
        said = found.get("reason") or f"{numbers}; {found.get('cause') or 'no cause'}"
        rows.append(
            [f"{record['op']}, {record['index']}", found["verdict"], said,
             *(record.get(key, {}).get("verdict", "not run") for key in ("slow", "fast")),
             EXPLAINED.get(record["op"], "not explained")]
        )  # fmt: skip
    columns = ["op, sample", "dlcheck", "what it says", "slow", "fast", "explanation"]
    return Table(title="Right gradients that did not pass", columns=columns, rows=rows)


def _found(injected: Sequence[Record]) -> Table:
    rows = []
    for bug in [*dict.fromkeys(record["bug"] for record in injected), "all"]:
        own = [record for record in injected if bug in (record["bug"], "all")]
        verdicts = {
            key: Counter(record[key]["verdict"] for record in own if key in record)
            for key in CHECKERS
        }
        mine = verdicts["ours"]
        others = len(own) - mine["failed"] - mine["passed"]
        found = [verdicts[key]["failed"] for key in ("slow", "fast")]
        rows.append([bug, len(own), mine["failed"], others, mine["passed"], *found])
    columns = ["bug", "injected", "dlcheck: found", "undecided", "passed",
               "gradcheck slow: found", "fast: found"]  # fmt: skip
    return Table(title="Injected bugs", columns=columns, rows=rows)


def _escaped(injected: Sequence[Record]) -> Table:
    rows = [
        [f"{record['op']}, {record['index']}", record["bug"], figure(record["size"]),
         record["ours"]["verdict"], figure(record["ours"].get("certificate", float("nan"))),
         record["ours"].get("reason") or "; ".join(record["ours"].get("notes", ())),
         *(record[key]["verdict"] for key in ("slow", "fast"))]
        for record in injected if record["ours"]["verdict"] != "failed"
    ]  # fmt: skip
    columns = ["op, sample", "bug", "relative size", "dlcheck", "certificate", "reason", "slow",
               "fast"]  # fmt: skip
    return Table(title="Injected bugs that were not found", columns=columns, rows=rows)
