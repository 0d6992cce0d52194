"""What two records must share to be parts of one run. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_Reader = Callable[[Mapping[str, Any]], Any]


def _within(*keys: str) -> _Reader:
    def read(meta: Mapping[str, Any]) -> Any:
        found: Any = meta
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    return read


# What an outcome depends on and a record says: name → where it stands.
_SHARED: Mapping[str, _Reader] = {
    "commit": _within("git", "commit"),
    "seed": _within("seed"),
    "profile": _within("profile"),
    "--subject": _within("overrides", "subject"),
    "--device": _within("overrides", "device"),
    "--dtype": _within("overrides", "dtype"),
    "--trial-timeout": _within("overrides", "timeout"),
    "--trial-memory": _within("overrides", "memory"),
    "dlcheck": _within("versions", "dlcheck"),
    "torch": _within("versions", "torch"),
    "hypothesis": _within("versions", "hypothesis"),
}


def differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """How the metadata of two runs differ in what their outcomes depend on: `seed 0 and 7`.

    The same commit with uncommitted changes counts as the same: a record does not hold them.
    """
    for name, read in _SHARED.items():
        one, two = (value if value or value == 0 else None for value in (read(first), read(other)))
        if one != two:
            yield f"{name} {_said(one)} and {_said(two)}"


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={part}" for name, part in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)[:60]
