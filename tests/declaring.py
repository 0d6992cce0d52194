"""A subject and what its author declares, in one line."""

from __future__ import annotations

from typing import Any

from dlcheck import Subject


def declared(
    kind: str,
    name: str,
    target: Any,
    inputs: dict[str, str],
    *traits: str,
    args: dict[str, Any] | None = None,
    **options: Any,
) -> Subject:
    return Subject(
        name=name,
        target=target,
        kind=kind,
        args=args or {},
        inputs=inputs,
        traits=frozenset(traits),
        options=options,
    )
