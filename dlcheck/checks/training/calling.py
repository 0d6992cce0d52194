"""How a training loop is called: with what it takes, and with what it declares set to rest."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from dlcheck.errors import NotApplicable
from dlcheck.subjects import Implementation, default_of

_COUNTS = ("epochs", "accumulate")


def keywords(subject: Implementation, **wanted: Any) -> dict[str, Any]:
    """The keyword arguments for these options: epochs=2, accumulate=3, clip=1.0, …

    A count of 1 is passed where the loop takes it. A declared limit of the gradient that is not
    wanted is set to infinity. Raises NotApplicable where the loop takes no such argument.
    """
    given: dict[str, Any] = {}
    for option in _COUNTS:
        name, count = subject.options.get(option, option), wanted.pop(option, 1)
        if takes(subject, name):
            given[name] = count
        elif count != 1:
            raise NotApplicable(
                f"takes no argument {name!r}; if it has another name for it, declare option "
                f'{option} = "…"'
            )
    clip = subject.options.get("clip")
    if isinstance(clip, str) and "clip" not in wanted and _is_set(subject, clip):
        wanted["clip"] = math.inf
    given.update({argument(subject, option): value for option, value in wanted.items()})
    return given


def argument(subject: Implementation, option: str) -> str:
    """The keyword argument that an option names."""
    stated = subject.options.get(option)
    if option == "scheduler":
        return "scheduler"
    if isinstance(stated, Mapping):
        stated = stated.get("path")
    if not isinstance(stated, str):
        raise NotApplicable(f"option {option} names no argument; write the name of the argument")
    return stated


def epochs_of(subject: Implementation, wanted: int) -> int:
    """So many epochs; one of a loop that takes no such argument."""
    return wanted if takes(subject, subject.options.get("epochs", "epochs")) else 1


def train_for(subject: Implementation, epochs: int, *given: Any) -> None:
    """Train on (model, loader, optimizer, loss) for so many epochs, one call each if need be."""
    for _ in range(epochs // epochs_of(subject, epochs)):
        subject(*given, **keywords(subject, epochs=epochs_of(subject, epochs)))


def windows_of(subject: Implementation, *wanted: int) -> tuple[int, ...]:
    """So many batches to a window; one of a loop that takes no such argument."""
    return wanted if takes(subject, subject.options.get("accumulate", "accumulate")) else (1,)


def _is_set(subject: Implementation, name: str) -> bool:
    """Is the argument given, or its default a number?"""
    value = subject.args.get(name, default_of(subject.declared, name))
    return isinstance(value, (int, float))


def takes(subject: Implementation, name: str) -> bool:
    """Has the loop a keyword argument of that name?"""
    try:
        parameters = inspect.signature(subject.target).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == name or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
