"""Formulas in declarations are arithmetic and nothing else."""

from __future__ import annotations

import math
import re

import pytest

from dlcheck.errors import DeclarationError
from dlcheck.formulas import evaluate, names_in


@pytest.mark.parametrize(
    ("formula", "names", "value"),
    [
        ("2 / (fan_in + fan_out)", {"fan_in": 3, "fan_out": 5}, 0.25),
        ("gain**2 / fan_in", {"gain": 2.0, "fan_in": 8}, 0.5),
        ("(b - a)**2 / 12", {"a": -3, "b": 3}, 3.0),
        ("-1 + 2 * 3", {}, 5.0),
        ("sqrt(2) * exp(0) + log(e)", {}, math.sqrt(2) + 1),
        ("max(1, min(n, 4)) * cos(pi)", {"n": 9}, -4.0),
        ("abs(-2e-3)", {}, 2e-3),
        (0.5, {}, 0.5),
        (3, {}, 3.0),
    ],
)
def test_has_the_value_of_its_arithmetic(
    formula: str, names: dict[str, float], value: float
) -> None:
    assert evaluate(formula, names) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("__import__('os')", "no function named"),
        ("().__class__", "allowed are"),
        ("x.real", "allowed are"),
        ("lambda: 1", "allowed are"),
        ("[1 for _ in x]", "allowed are"),
        ("'text'", "allowed are"),
        ("True", "allowed are"),
        ("(lambda: 1)", "allowed are"),
        ("max(*x)", "allowed are"),
        ("2 +", "is no formula"),
        ("2; 3", "is no formula"),
        ("y", "no name named 'y'"),
        ("1 / (x - 1)", "has no value at x = 1"),
        ("sqrt(-x)", "has no value"),
        ("(-x) ** 0.5", "has no value"),
        ("9**9**9**9", "has no value"),
        ("exp(1e6)", "has no value"),
        ("sqrt(1, 2)", "has no value"),
        ("1+" * 400 + "1", "a short text"),
    ],
)
def test_refuses_what_is_no_arithmetic(formula: str, says: str) -> None:
    with pytest.raises(DeclarationError, match=re.escape(says)):
        evaluate(formula, {"x": 1.0})


def test_names_its_names() -> None:
    assert names_in("sqrt(2) * gain / fan_in + pi") == {"gain", "fan_in"}
    assert names_in(1.0) == frozenset()


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("rate * 0.5 ** (t // 3)", 0.25),
        ("rate * 0.1 ** sum(t >= m for m in milestones)", 0.01),
        ("rate * min(1, (t + 1) / 4) if t < 4 else 0", 0.0),
        ("(1 + math.cos(math.pi * t / 14)) / 2", 0.5),
        ("milestones[1] % 4 and 2 < t <= 7", 1.0),
        ("max(m for m in milestones) + len(milestones)", 8.0),
    ],
)
def test_schedules_can_be_written(formula: str, value: float) -> None:
    names = {"rate": 1.0, "t": 7, "milestones": [2, 6]}
    assert evaluate(formula, names) == pytest.approx(value)
    assert names_in(formula) <= set(names)
