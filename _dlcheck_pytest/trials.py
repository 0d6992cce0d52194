"""Which items are trials. Asked of every item of every project: it imports nothing for them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dlcheck.model import BenchmarkTrial, Trial


def trial_of(item: pytest.Item) -> Trial | BenchmarkTrial | None:
    """The trial that a suite's item runs."""
    model = sys.modules.get("dlcheck.model")  # not loaded: nothing is a trial
    trial: Trial | BenchmarkTrial | None = _params(item).get("trial")
    known = model is not None and isinstance(trial, model.Trial | model.BenchmarkTrial)
    return trial if known else None


def is_benchmark(item: pytest.Item) -> bool:
    """Is it one of ours? The mark says little: pytest-benchmark has it too."""
    return hasattr(trial_of(item), "plan")


def is_recorded(item: pytest.Item) -> bool:
    """Does it come to an outcome or a benchmark of the record?"""
    from _dlcheck_pytest.collection import CheckCall

    calls = (value for value in _params(item).values() if isinstance(value, CheckCall))
    return trial_of(item) is not None or any(calls)


def _params(item: pytest.Item) -> dict[str, Any]:
    found: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return found
