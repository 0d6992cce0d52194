"""Which distributions a subject needs and are not installed. Imports none of them."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Sequence


def why_absent(requires: Sequence[str]) -> str:
    """What is missing and how to get it; empty where all are installed."""
    missing = [name for name in requires if not _is_installed(name)]
    if not missing:
        return ""
    names = " ".join(missing)
    return f"not installed: {', '.join(missing)} (pip install {names})"


@functools.cache
def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
    return True
