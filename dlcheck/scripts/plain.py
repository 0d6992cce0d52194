"""An answer as a text that is the same on another day: what a script without a claim compares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from dlcheck.scripts.tape import Unwritable, is_plain


def plain_source(answers: Iterable[Any]) -> list[str]:
    """The same function as it stands in a script, for answers of these forms."""
    tables = any(map(_has_a_table, answers))
    return [
        "def plain(v):",
        *["    v = list(v.values()) if isinstance(v, dict) else v"] * tables,
        "    v = [str(v.shape), v.tolist()] if hasattr(v, 'tolist') else v",
        "    if isinstance(v, (list, tuple)): return [plain(x) for x in v]",
        "    return f'{v:.9g}' if isinstance(v, float) else str(v)",
        "answers = []  # Fails while the subject gives the answers that were judged wrong:",
    ]


def _has_a_table(answer: Any) -> bool:
    if isinstance(answer, (list, tuple)):
        return any(map(_has_a_table, answer))
    return isinstance(answer, dict)


def plain(v: Any) -> Any:
    """Nested lists of texts, numbers to nine digits. Raises Unwritable for an object."""
    if hasattr(v, "tolist"):
        v = [str(v.shape), v.tolist()]
    if isinstance(v, dict):
        v = list(v.values())
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    if not is_plain(v):
        raise Unwritable(f"it answers with a {type(v).__module__}.{type(v).__qualname__}")
    return f"{v:.9g}" if isinstance(v, float) else str(v)


def plain_text(v: Any) -> str:
    """As above, as Python text; empty for what cannot be said, or is too long to be."""
    if _count(v) > _MOST:
        return ""
    try:
        return repr(plain(v))
    except (TypeError, ValueError, RuntimeError, Unwritable):
        return ""


_MOST = 2**14  # numbers of an answer that is said: as text they take 30 ms


def _count(v: Any) -> int:
    """How many numbers tensors and arrays hold."""
    if isinstance(v, dict):
        return _count(list(v.values()))
    if isinstance(v, (list, tuple)):
        return sum(map(_count, v))
    return int(v.size if isinstance(v, np.ndarray) else v.numel() if isinstance(v, Tensor) else 1)
