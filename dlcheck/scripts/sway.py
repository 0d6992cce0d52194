"""Answers changed a little, to see what a verdict is made of."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlcheck.isolation.listening import Deafness
from dlcheck.model import Evidence
from dlcheck.scripts.tape import tensors_of, version_of

# Shares of itself by which a number is swayed at most; TINY is 64 roundings of its type.
TINY, SMALL, LARGE, NONE = 1e-14, 1e-3, -4.0, -1.0
_REAL = (TINY, SMALL)  # those that leave whole numbers


class Sway:
    """Changes the numbers that a subject gives, each by another share of itself.

    by: TINY and SMALL for real numbers alone; LARGE for whole numbers too; NONE leaves zeros. What
    a check then finds different depends on the answers; what stays is its own.
    """

    def __init__(self, by: float) -> None:
        self.by, self.has_moved = by, False
        self.generator = torch.Generator().manual_seed(0)

    def moved(self, answer: Any, changed: list[Tensor]) -> Any:
        """The answer with other numbers; tensors that were changed in place are changed again."""
        with torch.no_grad():
            for tensor in changed:
                if self._moves(tensor):
                    tensor.copy_(self._tensor(tensor.detach()))
        return self._value(answer, {id(tensor) for tensor in changed})

    def _value(self, value: Any, done: set[int]) -> Any:
        if isinstance(value, Tensor):
            is_free = self._moves(value) and not (value.is_leaf and value.requires_grad)
            return self._tensor(value) if is_free and id(value) not in done else value
        if isinstance(value, (np.ndarray, np.number)):
            return self._array(value)
        if type(value) is float:
            return float(self._tensor(torch.tensor(value, dtype=torch.float64)))
        if isinstance(value, (bool, int)):
            return value if self.by in _REAL else type(value)(self.by == LARGE and value + 1)
        if isinstance(value, types.GeneratorType):
            return (self._value(part, done) for part in value)
        if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections"):
            pairs = {key: self._value(part, done) for key, part in value.items()}
            return type(value)(pairs)  # type: ignore[call-arg]
        if type(value) in (tuple, list):
            if len(value) > 1 and all(type(part) is int for part in value):
                return type(value)(self._array(np.array(value)).tolist())
            return type(value)(self._value(part, done) for part in value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self._value(part, done) for part in value))
        return value

    def _moves(self, value: Tensor) -> bool:
        if value.layout != torch.strided:
            return False
        return self.by not in _REAL or value.is_floating_point() or value.is_complex()

    def _array(self, value: Any) -> Any:
        if value.dtype.kind not in "fiub" or (self.by in _REAL and value.dtype.kind != "f"):
            return value
        return self._tensor(torch.as_tensor(value)).numpy()

    def _tensor(self, value: Tensor) -> Tensor:
        self.has_moved = True
        if self.by == NONE:
            return torch.zeros_like(value)
        if value.dtype == torch.bool:
            return ~value
        if not (value.is_floating_point() or value.is_complex()):
            # Of several the order of size is turned round: indices stay indices.
            return value.amax() + value.amin() - value if value.numel() > 1 else value + 1
        whole = value.nan_to_num(1.0, 1.0, -1.0) if self.by == LARGE else value
        noise = torch.rand(value.shape, generator=self.generator, dtype=torch.float64)
        by = min(64 * torch.finfo(value.dtype).eps, SMALL) if self.by == TINY else self.by
        share = (by * noise).to(value.device, value.dtype)
        return whole * (1 + share) + share * (whole == 0)


class Form:
    """Puts zeros in the form of an input where the first tensor of an answer was.

    axes: how many of the input's are kept; None for all. Where a check judges shape or dtype, this
    is another one.
    """

    def __init__(self, axes: int | None) -> None:
        self.axes, self.has_moved = axes, False

    def moved(self, answer: Any, like: Tensor | None) -> Any:
        if isinstance(answer, (tuple, list)) and answer and type(answer) in (tuple, list):
            return type(answer)((self.moved(answer[0], like), *answer[1:]))
        if not isinstance(answer, Tensor) or like is None:
            return answer
        return like.detach().new_zeros(like.shape[: self.axes])


class Echo:
    """Gives back what was given, as many things as the answer has."""

    has_moved = False

    def moved(self, answer: Any, inputs: tuple[Any, ...]) -> Any:
        several = isinstance(answer, (tuple, list))
        if not inputs or (several and len(answer) > len(inputs)):
            return answer
        return type(answer)(inputs[: len(answer)]) if several else inputs[0]


class Swaying(Deafness):
    """Sways the answers to some of the calls into foreign code, and records nothing.

    places: numbers of these calls.
    """

    def __init__(self, sway: Sway | Form | Echo, places: frozenset[int]) -> None:
        self.sway, self.places = sway, places
        self.count = 0

    def called(
        self, function: Callable[..., Any], inputs: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        if self.depth:
            return function(*inputs, **keywords)
        place, self.count = self.count, self.count + 1
        if place not in self.places:
            with self.deaf():
                return function(*inputs, **keywords)
        tensors = [*tensors_of((inputs, keywords)), *tensors_of(getattr(function, "__self__", ()))]
        versions = [version_of(t) for t in tensors]
        with self.deaf():
            answer = function(*inputs, **keywords)
            if isinstance(self.sway, Echo):
                return self.sway.moved(answer, inputs)
            if isinstance(self.sway, Form):
                given = tensors_of((inputs, keywords))
                return self.sway.moved(answer, next(filter(Tensor.is_floating_point, given), None))
            pairs = zip(tensors, versions, strict=True)
            return self.sway.moved(answer, [t for t, v in pairs if version_of(t) != v])

    def seeded(self, seed: int) -> None: ...

    def compared(self, got: Tensor, expected: Tensor, found: Evidence) -> None: ...
