"""Who hears the calls into foreign code: how a failure is recorded as a script."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from dlcheck.model import Evidence


class Listener(Protocol):
    """Hears every call into foreign code, which it makes itself, every seed and comparison."""

    def called(
        self, function: Callable[..., Any], inputs: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any: ...

    def seeded(self, seed: int) -> None: ...

    def compared(self, got: torch.Tensor, expected: torch.Tensor, found: Evidence) -> None: ...

    def deaf(self) -> contextlib.AbstractContextManager[None]: ...


class Deafness:
    """A listener's, while what it calls is its own work: it may be deaf within being deaf."""

    depth = 0  # how often it is deaf now

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1


LISTENERS: list[Listener] = []


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Within it, the listener makes the calls into foreign code."""
    LISTENERS.append(listener)
    try:
        yield
    finally:
        LISTENERS.remove(listener)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Within it, nobody listens: calls that measure rounding are no part of what failed."""
    with contextlib.ExitStack() as stack:
        if LISTENERS:
            stack.enter_context(LISTENERS[-1].deaf())
        yield


def compared(got: torch.Tensor, expected: torch.Tensor, found: Evidence) -> Evidence:
    """What was found of two tensors that should be the same, told to who listens."""
    if LISTENERS:
        LISTENERS[-1].compared(got, expected, found)
    return found
