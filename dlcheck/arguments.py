"""A command line as words. Standard library only."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def without(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """The arguments less some options, each with its value."""
    kept, words = [], iter(arguments)
    for word in words:
        if word in options:
            next(words, None)
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return kept
