"""In which dtype a metric computes."""

from __future__ import annotations

import torch

from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def precision(metric: Implementation, case: Case) -> torch.dtype:
    """The declared `compute_dtype`; the case's own dtype by default."""
    name = str(metric.options.get("compute_dtype", case.dtype)).removeprefix("torch.")
    dtype: torch.dtype = getattr(torch, name)
    return dtype
