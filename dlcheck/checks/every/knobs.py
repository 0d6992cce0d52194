"""Other values for an argument: what a check tries in place of the one that is given."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from dlcheck.checks.every.source import compared_with
from dlcheck.subjects import Implementation
from dlcheck.targets import load_target

_FLOATS = (0.37, 0.0, 1.0, 2.5, 30.0)


def alternatives(subject: Implementation, name: str, value: Any) -> list[Any]:
    """Values that differ clearly from the given one: of `matrix`, of `knobs`, else by the type.

    Neutral and extreme ones too: an ε of 1e-8 and one of 1e-7 look alike. Of a string: what the
    source compares it with.
    """
    stated = subject.declared.matrix.get(name)
    if stated is not None:
        return [other for other in stated if other != value]
    knobs: Mapping[str, Any] = subject.options.get("knobs", {})
    if name in knobs:
        low, high = knobs[name]
        middle = math.sqrt(low * high) if low > 0 else (low + high) / 2
        found = [low, high, middle]
        if isinstance(value, int) and not isinstance(value, bool):
            found = [round(other) for other in found]
        return list(dict.fromkeys(other for other in found if other != value))
    if isinstance(value, str):
        known = compared_with(
            load_target(subject.declared.target, near=subject.declared.file), name
        )
        return [other for other in known if other != value]
    return _of_its_type(value)


def _target(subject: Implementation) -> Any:
    return load_target(subject.declared.target, near=subject.declared.file)


def _of_its_type(value: Any) -> list[Any]:
    found: list[Any]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        found = [value + 1, 2 * value, value - 1, 1, 2, 3]
        least = min(value, 1)  # no stride is 0: some kernels divide by it and kill the process
        return list(dict.fromkeys(other for other in found if other != value and other >= least))
    if isinstance(value, float):
        found = [value / 2, 2 * value, *_FLOATS, -value]
        return list(dict.fromkeys(other for other in found if other != value))
    if isinstance(value, (tuple, list)) and value and all(_is_number(part) for part in value):
        return [type(value)(_of_its_type(part)[i] for part in value) for i in (0, 1)]
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def optional_arguments(subject: Implementation) -> dict[str, Any]:
    """Constructor or keyword arguments with a default, and what each is set to.

    Those that stand for inputs, and those bound to a size, are left out.
    """
    try:
        parameters = inspect.signature(
            load_target(subject.declared.target, near=subject.declared.file)
        ).parameters
    except (TypeError, ValueError):
        return {}
    found = {}
    for place, (name, parameter) in enumerate(parameters.items()):
        is_input = subject.module is None and (
            name in subject.declared.inputs or place < len(subject.declared.inputs)
        )
        if parameter.default is inspect.Parameter.empty or is_input:
            continue
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        found[name] = subject.args.get(name, parameter.default)
    return found
