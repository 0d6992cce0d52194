"""What foreign objects say of themselves: they may raise when asked, lie, or never end."""

from __future__ import annotations

from collections.abc import Sequence

_MOST = 2000  # characters of an exception's text
_NAMED = 3  # of a list of names


def brief(error: BaseException) -> str:
    """`ValueError: its text`, whatever the exception says when it is asked."""
    name = type.__dict__["__name__"].__get__(type(error))  # a metaclass may answer something else
    return f"{name}: {text_of(error)}"


def text_of(value: object) -> str:
    """What `str` gives, at most 2,000 characters."""
    try:
        text = "".join([str(value)])  # plain, where it is of a subclass
        return text if len(text) <= _MOST else f"{text[:_MOST]}… ({len(text):,} characters)"
    except BaseException as error:
        return f"(its text cannot be had: str raises {type(error).__name__})"


def some_of(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`."""
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED:,} more" if len(names) > _NAMED else shown
