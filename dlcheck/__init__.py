"""dlcheck: is my deep-learning code right, and is it fast?

The public names are loaded when first used (PEP 562), so that `import dlcheck` loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlcheck.benchmark import Benchmark as Benchmark
    from dlcheck.gradients.check import check_gradient as check_gradient
    from dlcheck.model import BenchmarkPlan as BenchmarkPlan
    from dlcheck.model import Evidence as Evidence
    from dlcheck.model import ExpectedFailure as ExpectedFailure
    from dlcheck.model import Figure as Figure
    from dlcheck.model import Kind as Kind
    from dlcheck.model import Outcome as Outcome
    from dlcheck.model import Subject as Subject
    from dlcheck.model import Suite as Suite
    from dlcheck.model import Verdict as Verdict
    from dlcheck.registry import check as check
    from dlcheck.registry import reference as reference
    from dlcheck.reporting.batch_size_study import BatchSizeStudy as BatchSizeStudy
    from dlcheck.reporting.comparison import Comparison as Comparison
    from dlcheck.reporting.report import Report as Report
    from dlcheck.study import batch_size as batch_size
    from dlcheck.timing.compare import compare as compare
    from dlcheck.validation import parametrize as parametrize
    from dlcheck.validation import validate as validate

_HOME = {
    "BatchSizeStudy": "reporting.batch_size_study",
    "Benchmark": "benchmark",
    "BenchmarkPlan": "model",
    "Comparison": "reporting.comparison",
    "Evidence": "model",
    "ExpectedFailure": "model",
    "Figure": "model",
    "Kind": "model",
    "Outcome": "model",
    "Report": "reporting.report",
    "Subject": "model",
    "Suite": "model",
    "Verdict": "model",
    "batch_size": "study",
    "check": "registry",
    "check_gradient": "gradients.check",
    "compare": "timing.compare",
    "parametrize": "validation",
    "reference": "registry",
    "validate": "validation",
}

__all__ = [*sorted(_HOME)]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'dlcheck' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dlcheck.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
