"""One question to the engine: is this the gradient of that, at these inputs?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from dlcheck.errors import Unchecked, UsageError, unknown
from dlcheck.gradients.binding import bound
from dlcheck.gradients.evidence import GradientEvidence
from dlcheck.gradients.examination import MODES, Examination
from dlcheck.gradients.expectations import Expectation
from dlcheck.gradients.function import Function
from dlcheck.gradients.judge import Judge
from dlcheck.gradients.low_precision import held_against_float64, is_low_precision
from dlcheck.gradients.second_order import gradient_of
from dlcheck.gradients.widening import widened
from dlcheck.model import NOTHING


def _as_it_is(function: Function) -> Function:
    return function


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a caller wants to know. The arguments are those of `check_gradient`.

    Raises UsageError for an unknown mode or order.

    change: what becomes of the function before it is judged, and change_of_twin of its float64
    twin in low precision: how a self-test puts bugs in.
    """

    f: Callable[..., Any]
    inputs: Any
    kwargs: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    wrt: Collection[str] | None = None
    order: int = 1
    expected: Expectation = field(default_factory=Expectation)
    mode: str = "full"
    seed: int = 0
    reference: Callable[..., Any] | None = None
    explains: bool = True
    change: Callable[[Function], Function] = _as_it_is
    change_of_twin: Callable[[Function], Function] = _as_it_is

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(unknown("mode", self.mode, MODES))
        if self.order not in (1, 2):
            raise UsageError(f"order is 1 or 2, not {self.order!r}")

    def function(self) -> Function:
        """What is judged, not yet met. Raises Unchecked where there is no second order."""
        found = self._bound(self.f)
        if self.order == 2:
            found = gradient_of(found, self._generator(found))
        return self.change(found)

    def answer(self) -> GradientEvidence:
        """The evidence. Raises SubjectRaised where the subject raises at its inputs."""
        examination = self._examination()
        try:
            examination.judge.function = self.function()
        except Unchecked as reason:
            return examination.unchecked(str(reason))
        if is_low_precision(examination.function):
            return held_against_float64(examination, self._twin)
        try:
            return examination.run()
        finally:
            examination.function.restore()

    def _twin(self) -> Examination:
        """The same, or the reference, in float64."""
        wide = replace(
            self,
            f=widened(self.reference or self.f),
            kwargs=widened(dict(self.kwargs)),
            inputs=widened(self.inputs),
            change=self.change_of_twin,
        )
        examination = wide._examination()
        examination.judge.function = wide.function()
        return examination

    def _examination(self) -> Examination:
        """Of the function itself, which is to be replaced by what is judged."""
        function, surrogate = self._bound(self.f), self.expected.surrogate
        judge = Judge(
            function,
            self._generator(function),
            precise=MODES[self.mode].precise,
            expected=self.expected,
            truth=None if surrogate is None else self._bound(surrogate),
        )
        return Examination(judge, MODES[self.mode], self.seed, explains=self.explains)

    def _bound(self, f: Callable[..., Any]) -> Function:
        return bound(f, self.inputs, kwargs=self.kwargs, wrt=self.wrt, seed=self.seed)

    def _generator(self, function: Function) -> torch.Generator:
        device = function.variables[0].value.device if function.variables else torch.device("cpu")
        generator = torch.Generator(device if device.type == "cuda" else "cpu")
        return generator.manual_seed(self.seed)
