"""The weights of lasso and ridge along λ, as figures."""

from __future__ import annotations

import functools
import itertools
import math

import torch

from dlcheck.checks.penalty.regression import regression
from dlcheck.model import Figure
from dlcheck.numerics.least_squares import elastic_net, ridge

Rows = list[tuple[float, list[float]]]  # λ, weights


@functools.cache
def lasso_path(name: str, device: torch.device, points: int = 40) -> Figure:
    """The coefficients of the lasso against λ, from λ_max down to a thousandth of it."""
    problem = regression(name, device)
    ends = torch.logspace(0, -3, points, dtype=torch.float64)
    weights = torch.zeros_like(problem.correlation)
    rows: Rows = []
    for fraction in ends.tolist():
        strength = fraction * problem.largest_penalty
        weights = elastic_net(problem, strength, start=weights)
        rows.append((strength, weights.tolist()))
    zeros = [sum(w == 0 for w in row) for _, row in rows]
    return Figure(
        title=f"Lasso path on {name}",
        x="λ",
        y="weight",
        series={
            **_columns(rows),
            "exactly zero": [
                (strength, 0.0) for (strength, _), count in zip(rows, zeros, strict=True) if count
            ],
        },
        log_x=True,
        marks=("exactly zero",),
        note=f"Marks show where a weight is exactly zero: {max(zeros)} of them at λ_max, "
        f"{zeros[-1]} at a thousandth of it.",
    )


def ridge_path(name: str, device: torch.device) -> Figure:
    """The coefficients of ridge against λ, and where they change their sign."""
    rows = _ridge_weights(name, device)
    columns = _columns(rows)
    crossings = [
        (math.sqrt(a[0] * b[0]), 0.0)
        for column in columns.values()
        for a, b in itertools.pairwise(column)
        if a[1] * b[1] < 0
    ]
    zeros = sum(w == 0 for _, row in rows for w in row)
    return Figure(
        title=f"Ridge path on {name}",
        x="λ",
        y="weight",
        series={**columns, "changes sign": sorted(crossings)},
        log_x=True,
        marks=("changes sign",),
        note="The norm falls with λ; single weights may grow, and change sign where marked; "
        f"{zeros or 'none'} of {len(rows) * len(columns)} is exactly zero.",
    )


def restless(name: str, device: torch.device) -> tuple[int, int]:
    """How many single weights grow somewhere on ridge's path as λ grows, how many change sign."""
    columns = [[w for _, w in column] for column in _columns(_ridge_weights(name, device)).values()]
    growing = sum(
        any(abs(b) > abs(a) + 1e-9 for a, b in itertools.pairwise(column)) for column in columns
    )
    flips = sum(any(a * b < 0 for a, b in itertools.pairwise(column)) for column in columns)
    return growing, flips


def ridge_norms(name: str, device: torch.device) -> list[tuple[float, float]]:
    """‖w(λ)‖ in closed form."""
    return [(strength, math.hypot(*row)) for strength, row in _ridge_weights(name, device)]


@functools.cache
def _ridge_weights(name: str, device: torch.device) -> Rows:
    problem = regression(name, device)
    strengths = torch.logspace(-4, 3, 60, dtype=torch.float64).tolist()
    return [(strength, ridge(problem, strength).tolist()) for strength in strengths]


def _columns(rows: Rows) -> dict[str, list[tuple[float, float]]]:
    return {f"w{j}": [(strength, row[j]) for strength, row in rows] for j in range(len(rows[0][1]))}
