"""How a subject is built: what its constructor takes, and what was made from another one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dlcheck.model import Subject
from dlcheck.targets import load_target


@dataclass(frozen=True, slots=True)
class Remade:
    """A target made from another one: how a mutant breaks a subject of any form.

    `change` takes the built original (module, function or factory) and returns the built mutant.
    """

    original: Subject
    change: Callable[[Any], Any]


def default_of(subject: Subject, argument: str) -> Any:
    """The default of an argument in the subject's signature; `Parameter.empty` without one."""
    target = load_target(subject.target, near=subject.file)
    if isinstance(target, Remade):
        return default_of(target.original, argument)
    for owner in inspect.getmro(target) if inspect.isclass(target) else (target,):
        try:
            parameters = inspect.signature(owner).parameters
        except (TypeError, ValueError):
            break
        if argument in parameters:
            return parameters[argument].default
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            break  # else it may hand keywords on to its base
    return inspect.Parameter.empty


def argument_of(subject: Subject, option: str) -> Any:
    """An option that may be a value or the name of the constructor argument that holds it.

    `ignore_index = -100` is that number, `ignore_index = "ignore_index"` what that argument is
    given or is by default; None where the option is not declared or the argument unknown.
    """
    stated = subject.options.get(option)
    if not isinstance(stated, str):
        return stated
    if stated in subject.args:
        return subject.args[stated]
    found = default_of(subject, stated)
    return None if found is inspect.Parameter.empty else found
