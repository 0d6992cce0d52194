"""What a study has measured so far, on disk: it goes on where it ended.

One JSON file, written whole after every part. A journal belongs to one question: the same setup,
rows, sizes, seed, device and versions; for another it is refused, not mixed in.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dlcheck.errors import UsageError

Part = TypeVar("Part")


class Journal:
    """Parts by name; kept in memory alone where there is no path."""

    def __init__(self, path: Path | None, question: Mapping[str, Any]) -> None:
        self.path = path
        self.question = json.loads(json.dumps(question))
        self.parts: dict[str, Any] = self._read() if path is not None and path.exists() else {}

    def part(
        self,
        name: str,
        measure: Callable[[], Part],
        encode: Callable[[Part], Any],
        decode: Callable[[Any], Part],
    ) -> Part:
        """What was measured under this name before, else now."""
        if name in self.parts:
            return decode(self.parts[name])
        found = measure()
        self.parts[name] = encode(found)
        self._write()
        return found

    def _read(self) -> dict[str, Any]:
        assert self.path is not None
        try:
            data = json.loads(self.path.read_text("utf-8"))
            question, parts = data["question"], dict(data["parts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self.path} is no journal of a study: {error}") from None
        if question != self.question:
            changed = [key for key in self.question if question.get(key) != self.question[key]]
            told = "; ".join(f"{k}: {question.get(k)!r}, now {self.question[k]!r}" for k in changed)
            raise UsageError(
                f"{self.path} belongs to another study ({told}); give another file, or remove it"
            )
        return parts

    def _write(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"question": self.question, "parts": _finite(self.parts)})
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(text, "utf-8")
        os.replace(beside, self.path)


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: `float` reads their names."""
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def tuples(value: Any) -> Any:
    """Lists as tuples and names of infinities as numbers: what `_finite` and JSON made of them."""
    if isinstance(value, Mapping):
        return {key: tuples(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(tuples(part) for part in value)
    return float(value) if value in ("nan", "inf", "-inf") else value
