"""Tensors within nested tuples, lists, dicts and dataclasses: found by name, and put back."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor


def named_tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a value, in order: `state[0]`, `batch['image']`."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from named_tensors(part, f"{name}[{key!r}]")
    elif isinstance(value, (tuple, list)):
        for index, part in enumerate(value):
            yield from named_tensors(part, f"{name}[{index}]")
    elif _is_record(value):
        for field in dataclasses.fields(value):
            yield from named_tensors(getattr(value, field.name), f"{name}.{field.name}")


def with_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every tensor changed, in the order of `named_tensors`."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        parts = {key: with_tensors(part, change) for key, part in value.items()}
        return parts if type(value) is dict else type(value)(parts)  # type: ignore[call-arg]
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return type(value)(*(with_tensors(part, change) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(with_tensors(part, change) for part in value)
    if _is_record(value):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        parts = {name: with_tensors(getattr(value, name), change) for name in names}
        return dataclasses.replace(value, **parts)
    return value


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def argument_names(function: Any, given: Sequence[Any]) -> list[str]:
    """The names of positional arguments, from the signature where it has them."""
    fallback = [f"input {index}" for index in range(len(given))]
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return fallback
    positional = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return [*positional, *fallback[len(positional) :]][: len(given)]
