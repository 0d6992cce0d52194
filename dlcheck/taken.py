"""What a subject takes: as declared, or as its jaxtyping annotations say."""

from __future__ import annotations

import inspect
import typing
from dataclasses import replace
from typing import Any

from torch import nn

from dlcheck import kinds
from dlcheck.constructors import argument_of
from dlcheck.domains import Dim, Input, parse_inputs
from dlcheck.errors import DeclarationError
from dlcheck.model import Subject
from dlcheck.registry import catalogue
from dlcheck.targets import load_target


def inputs_of(subject: Subject) -> dict[str, Input]:
    """The subject's inputs: declared, from its task or kind, or from jaxtyping annotations.

    Raises DeclarationError where there is nothing to go by.
    """
    kind = catalogue().kind(subject.kind)
    declared = kinds.inputs_of(kind, subject.inputs, subject.options)
    if not declared:
        declared = _annotated_inputs(load_target(subject.target, near=subject.file))
    if not declared:
        tasks = f" or options.task = {' | '.join(kind.by_task)}" if kind.by_task else ""
        raise DeclarationError(
            f"subject {subject.name!r} of kind {kind.name!r} does not say what it takes; "
            f'declare its inputs, as inputs = {{ x = "float b n" }} in a suite or '
            f"--input 'x=float b n' on the command line{tasks}"
        )
    return _completed(subject, parse_inputs(declared))


def _completed(subject: Subject, specs: dict[str, Input]) -> dict[str, Input]:
    """What the declaration of a loss says of its inputs beside them: classes, ignored targets."""
    if subject.kind != "loss":
        return specs
    counts = [spec.count for spec in specs.values() if spec.element == "label" and spec.count]
    ignored = argument_of(subject, "ignore_index") if "masked" in subject.traits else None
    return {name: _of_loss(spec, counts, ignored) for name, spec in specs.items()}


def _of_loss(spec: Input, counts: list[Dim], ignored: Any) -> Input:
    """Probabilities sum to 1 along the classes, wherever they stand; some labels are ignored."""
    if spec.element in ("probability", "log_probability") and spec.along is None:
        classes = next((dim for dim in spec.dims if dim in counts), None)
        return replace(spec, along=classes)
    if spec.element == "label" and isinstance(ignored, int):
        return replace(spec, ignored=ignored)
    return spec


def _annotated_inputs(target: Any) -> dict[str, str]:
    """`x: Float[Tensor, "b n"]` → {"x": "float b n"}, as jaxtyping writes its annotations.

    `*batch` and `...` stand for one axis, `#b` for the axis that may be 1, `_` for any. Raises
    DeclarationError where an annotation cannot be a domain: an integer without a range.
    """
    if isinstance(target, nn.Module) or (inspect.isclass(target) and issubclass(target, nn.Module)):
        target = target.forward
    try:
        hints = typing.get_type_hints(target)
    except (TypeError, NameError, AttributeError):
        return {}
    hints.pop("return", None)
    found = {}
    for name, hint in hints.items():
        dims, dtypes = getattr(hint, "dim_str", None), getattr(hint, "dtypes", ())
        if dims is not None:
            found[name] = f"{_annotated_element(name, dtypes)} {_annotated_dims(name, dims)}"
    return found


def _annotated_element(name: str, dtypes: Any) -> str:
    named = [str(dtype) for dtype in dtypes] if isinstance(dtypes, (list, tuple)) else []
    if any("float" in dtype for dtype in named):
        return "float"
    if any("bool" in dtype for dtype in named):
        return "bool"
    raise DeclarationError(
        f"the annotation of {name} says no range of its numbers; declare what it takes, as "
        f'inputs = {{ {name} = "index[n] b t" }} (see: dlcheck list elements)'
    )


def _annotated_dims(name: str, dims: str) -> str:
    parts = []
    for position, part in enumerate(dims.split()):
        plain = part.lstrip("*#?").partition("=")[2] or part.lstrip("*#?")
        parts.append({"...": "batch", "_": f"{name}_{position}"}.get(plain, plain))
    return " ".join(parts)
