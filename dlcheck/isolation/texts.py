"""What foreign objects say of themselves: they may raise when asked, lie, or never end."""

from __future__ import annotations

_MOST = 2000  # characters of an exception's text


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
