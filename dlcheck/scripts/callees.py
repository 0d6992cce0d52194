"""Whose a guarded call is: of the subject, of what it made, or our own."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dlcheck.constructors import Remade
from dlcheck.model import Kind
from dlcheck.scripts.notes import Notes
from dlcheck.targets import load_target


@dataclass(slots=True)
class Callees:
    """The target, and what is known by now. given: to the constructor of what a remade target is
    made of."""

    target: Any
    kind: Kind
    notes: Notes
    given: Mapping[str, Any] = field(default_factory=dict)

    def of(
        self, function: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> tuple[str | None, Any, tuple[Any, ...], Mapping[str, Any]]:
        """How it is written, whose call it is, and with which arguments; None for what is ours."""
        target = self.target
        if isinstance(target, Remade) and function == target.change:
            made = inputs[0]
            given = made.keywords if isinstance(made, functools.partial) else self.given
            self.given = {}
            return "", None, (), given
        self.notes.adopt(getattr(function, "__self__", function))
        if self.notes.tape.known(function) is not None:
            return "()", function, inputs, keywords
        whole, fixed = function, {}
        if isinstance(function, functools.partial) and not function.args:
            whole, fixed = function.func, function.keywords
        if whole is target:
            return "", None, inputs, {**fixed, **keywords}
        owner = getattr(whole, "__self__", None)
        if owner is not None and owner is target:
            return f".{whole.__name__}", None, inputs, {**fixed, **keywords}
        if owner is not None and not fixed and self.notes.tape.known(owner) is not None:
            return f".{whole.__name__}", owner, inputs, keywords
        if function is copy.deepcopy and inputs:
            if inputs[0] is target:
                return "copy", None, (), {}
            if self.notes.tape.known(inputs[0]) is not None:
                return "copy", inputs[0], (), {}
        if (
            inputs
            and self.kind.methods
            and getattr(function, "__module__", "").endswith("dlcheck.arrangement")
        ):
            place = inputs[0]
            if self.notes.tape.known(place) is not None or place is target:
                known = place if self.notes.tape.known(place) is not None else None
                return ">" + " ".join(self.kind.methods), known, inputs[1:], keywords
        if not inputs and (held := self._passed_through(function)) is not None:
            return "iter", held, (), {}
        return None, None, inputs, keywords

    def _passed_through(self, function: Any) -> Any:
        """The one object of the subject that a function of ours, without arguments, goes over."""
        held = [
            cell.cell_contents
            for cell in getattr(function, "__closure__", None) or ()
            if hasattr(type(cell.cell_contents), "__iter__")
            and not isinstance(cell.cell_contents, (Tensor, Mapping, list, tuple, str))
            and self.notes.tape.known(cell.cell_contents) is not None
        ]
        return held[0] if len(held) == 1 else None


def parts_of(target: Any) -> Iterator[Any]:
    """What a remade target is made of."""
    while isinstance(target, Remade):
        original = target.original
        target = load_target(original.target, near=original.file)
        yield target.change if isinstance(target, Remade) else target
