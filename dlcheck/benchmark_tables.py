"""`[[benchmark]]` tables ⇄ `BenchmarkPlan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dlcheck.model import BenchmarkPlan

_FORMULAS = ("items", "flops", "bytes")
_TABLES = ("args", "against_args", "inputs", "sizes", "matrix", "options")
_TEXTS = ("name", "subject", "kind", "item")


def plan_from(table: Mapping[str, Any], file: str, line: int) -> BenchmarkPlan:
    """The plan of a well-formed table; what is not well formed is left out."""
    given: dict[str, Any] = {key: table[key] for key in _TABLES if isinstance(table.get(key), dict)}
    given["matrix"] = {
        axis: values
        for axis, values in given.get("matrix", {}).items()
        if isinstance(values, list) and values
    }
    given |= {key: table[key] for key in _TEXTS if isinstance(table.get(key), str)}
    for key in ("target", "against"):
        if isinstance(table.get(key), str):
            given[key] = table[key]
    for key in _FORMULAS:
        if isinstance(table.get(key), (int, float, str)):
            given[key] = table[key]
    for key, made in (("traits", frozenset), ("tags", frozenset), ("requires", tuple)):
        if isinstance(table.get(key), list):
            given[key] = made(part for part in table[key] if isinstance(part, str))
    plan = BenchmarkPlan(**{"name": "", **given}, file=file, line=line)
    return replace(plan, backward=table.get("backward") is True)


def plan_data(plan: BenchmarkPlan) -> dict[str, Any]:
    """The table of a plan, without what is empty; a target that is an object stays one."""
    table: dict[str, Any] = {}
    for key in ("name", "subject", "target", "against", "kind", *_TABLES, "backward", *_FORMULAS):
        value = getattr(plan, key)
        if value is not None and value not in ("", False) and not _is_empty(value):
            table[key] = dict(value) if isinstance(value, Mapping) else value
    for key in ("item", "traits", "tags", "requires"):
        if value := getattr(plan, key):
            table[key] = value if isinstance(value, str) else sorted(value)
    return table


def _is_empty(value: Any) -> bool:
    return isinstance(value, Mapping) and not value
