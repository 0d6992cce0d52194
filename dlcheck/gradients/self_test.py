"""What would be found? Every known class of bug is put into the function, and the check is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from dlcheck.errors import SubjectError, Unchecked, UsageError, unknown
from dlcheck.gradients.bugs import BUGS
from dlcheck.gradients.check import bound
from dlcheck.gradients.effects import Effects
from dlcheck.gradients.evidence import GradientEvidence
from dlcheck.gradients.examination import MODES, Examination
from dlcheck.gradients.expectations import Expectation, expectation
from dlcheck.gradients.function import Function
from dlcheck.gradients.injection import Bug, injected
from dlcheck.gradients.judge import Judge
from dlcheck.gradients.low_precision import held_against_float64, is_low_precision
from dlcheck.gradients.second_order import gradient_of
from dlcheck.gradients.widening import widened
from dlcheck.isolation import restored_state
from dlcheck.model import NOTHING, Verdict

_TENSORS = 3  # into how many of a function's tensors each class goes; the next class, the next
_WORDS = {
    "incoming strides": "an incoming gradient that is not contiguous",
    "input strides": "inputs that are not contiguous",
    "another call": "another call between forward and backward",
    "second backward": "a second backward of one forward",
}
_CONDITIONS = ("incoming strides", "input strides", "second backward")  # conditions.py tries them


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """One bug in the gradient of one tensor, or of all."""

    tensor: str  # empty: all
    size: float  # of the error, relative to the gradient, where it is largest
    verdict: Verdict | None  # of the check; None where the gradient stays what it is
    certificate: float  # of the check without the bug
    reason: str = ""  # why the check decided nothing

    @property
    def has_effect(self) -> bool:
        return self.verdict is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassResult:
    """What became of one class of bug."""

    name: str
    needs: str  # the circumstance in which alone it shows, and who tries it; empty: any
    injected: tuple[Injected, ...]

    @property
    def effective(self) -> tuple[Injected, ...]:
        return tuple(each for each in self.injected if each.has_effect)

    @property
    def outcome(self) -> str:
        """found, missed, inconclusive or no effect: the worst of its tensors."""
        verdicts = {each.verdict for each in self.effective}
        if not verdicts:
            return "no effect"
        if Verdict.PASSED in verdicts:
            return "missed"
        return "inconclusive" if Verdict.INCONCLUSIVE in verdicts else "found"

    @property
    def size(self) -> float:
        """The smallest error that the class caused in any tensor; NaN without effect."""
        return min((each.size for each in self.effective), default=math.nan)

    @property
    def remark(self) -> str:
        """Why it was not found, in words."""
        for each in self.effective:
            if each.verdict is Verdict.PASSED and self.needs:
                return self.needs
            if each.verdict is Verdict.PASSED:
                side = "below" if each.size <= 10 * each.certificate else "above"
                return (
                    f"an error of {each.size:.1g} in {each.tensor or 'all'} is {side} what can "
                    f"be seen, {each.certificate:.1g}"
                )
            if each.verdict is Verdict.INCONCLUSIVE:
                return f"in {each.tensor or 'all'}: {each.reason}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """Every known class of bug in one function. Without a sound gradient, classes is empty."""

    sound: GradientEvidence  # of the function as it is
    classes: tuple[ClassResult, ...] = ()
    left_out: tuple[str, ...] = ()  # tensors whose gradient is zero up to rounding

    def of(self, outcome: str) -> tuple[ClassResult, ...]:
        """The classes that were found, missed, inconclusive, or had no effect."""
        return tuple(each for each in self.classes if each.outcome == outcome)

    @property
    def summary(self) -> str:
        if not self.classes:
            return "self-test: bugs can be told from a right gradient only; this one is not"
        idle = len(self.of("no effect"))
        text = f"found {len(self.of('found'))} of {len(self.classes) - idle} that have an effect"
        for outcome in ("missed", "inconclusive"):
            names = ", ".join(each.name for each in self.of(outcome))
            text += f"; {outcome}: {names}" if names else ""
        zero = ", ".join(self.left_out)
        return text + (f"; nothing was put into {zero}: zero up to rounding" if zero else "")

    def __str__(self) -> str:
        return "\n".join([*_table(self.classes), self.summary])


def _table(classes: Sequence[ClassResult]) -> Iterator[str]:
    marks = {"found": "✓", "missed": "✗", "inconclusive": "?", "no effect": "·"}
    width = max((len(each.name) for each in classes), default=0)
    if classes:
        yield f"    {'bug':<{width}}   error  outcome"
    for each in classes:
        size = f"{each.size:.1g}" if each.effective else ""
        where = ", ".join(part.tensor or "all tensors" for part in each.effective)
        said = {"found": f" in {where}", "no effect": " here"}.get(each.outcome, f": {each.remark}")
        yield f"  {marks[each.outcome]} {each.name:<{width}}  {size:>6}  {each.outcome}{said}"


def self_test(
    f: Callable[..., Any],
    inputs: Any,
    *,
    kwargs: Mapping[str, Any] = NOTHING,
    wrt: Collection[str] | None = None,
    order: int = 1,
    expect: Any = None,
    mode: str = "full",
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
) -> SelfTest:
    """Which known classes of bug would `check_gradient` find in this function?

    Takes what `check_gradient` takes. Each class goes into the gradients of up to three tensors,
    one after the other, and the check must fail. Raises SubjectRaised where f raises, and
    UsageError for wrong arguments.
    """
    if mode not in MODES:
        raise UsageError(unknown("mode", mode, MODES))
    if order not in (1, 2):
        raise UsageError(f"order is 1 or 2, not {order!r}")
    asked = _Workshop(f, inputs, kwargs, wrt, order, expectation(expect), mode, seed, reference)
    with restored_state():
        sound = asked.examined()
        if sound.verdict is not Verdict.PASSED:
            return SelfTest(sound=sound)
        effects = Effects.of(asked.function())
        names = [variable.name for variable in effects.function.variables]
        # Nothing is known of a gradient that is smaller than its bound: 0, but for rounding.
        known = [k for k, each in enumerate(sound.tensors) if each.certificate < 1]
        eligible = known or list(range(len(names)))
        classes = tuple(
            _class_result(asked, effects, sound, index, eligible) for index in range(len(BUGS))
        )
    left_out = tuple(name for k, name in enumerate(names) if k not in eligible)
    return SelfTest(sound=sound, classes=classes, left_out=left_out)


def _class_result(
    asked: _Workshop,
    effects: Effects,
    sound: GradientEvidence,
    index: int,
    eligible: Sequence[int],
) -> ClassResult:
    bug, variables = BUGS[index], effects.function.variables
    count = 1 if bug.is_whole else min(_TENSORS, len(eligible))
    turn = [(index * count + step) % len(eligible) for step in range(count)]
    certificates = {each.name: each.certificate for each in sound.tensors}
    found = []
    for target in (eligible[position] for position in sorted(turn)):
        name = "" if bug.is_whole else variables[target].name
        size = effects.size(asked.function(bug, target), bug)
        verdict, reason = asked.told(bug, target) if size > effects.least else (None, "")
        found.append(
            Injected(
                tensor=name,
                size=size,
                verdict=verdict,
                certificate=certificates.get(name, sound.certificate),
                reason=reason,
            )
        )
    needs = _needs(bug, asked, is_low=is_low_precision(effects.function))
    return ClassResult(name=bug.name, needs=needs, injected=tuple(found))


def _needs(bug: Bug, asked: _Workshop, *, is_low: bool) -> str:
    """In which circumstance alone a bug shows, and who tries that."""
    if not bug.shows:
        return ""
    who = "was not compared here"
    if bug.shows in _CONDITIONS and not MODES[asked.mode].conditions:
        who = "mode full tries"
    elif is_low:
        who = "is tried in float64 only"
    return f"it takes {_WORDS[bug.shows]}, which {who}"


@dataclass(frozen=True, slots=True)
class _Workshop:
    """The function with any bug, and its examination."""

    f: Callable[..., Any]
    inputs: Any
    kwargs: Mapping[str, Any]
    wrt: Collection[str] | None
    order: int
    expected: Expectation
    mode: str
    seed: int
    reference: Callable[..., Any] | None = None

    def function(self, bug: Bug | None = None, target: int = 0) -> Function:
        """Not yet met; the second order's has what differentiates the first one."""
        found = self._bound(self.f)
        if self.order == 2:
            found = gradient_of(found, self._generator(found))
        return found if bug is None else injected(found, bug, target)

    def examined(self, bug: Bug | None = None, target: int = 0) -> GradientEvidence:
        """As `check_gradient` examines it, without the search for the wrong elements."""
        examination = self._examination(self._bound(self.f), explains=bug is None)
        try:
            examination.judge.function = self.function(bug, target)
        except Unchecked as reason:
            return examination.unchecked(str(reason))
        if is_low_precision(examination.function):
            # The same code in float64 has the bug too. One in numbers only may be float32's own.
            shared = bug if bug is not None and bug.shows and self.reference is None else None
            return held_against_float64(examination, lambda: self._twin(shared, target))
        try:
            return examination.run()
        finally:
            examination.function.restore()

    def told(self, bug: Bug, target: int) -> tuple[Verdict, str]:
        try:
            found = self.examined(bug, target)
        except SubjectError as error:
            return Verdict.INCONCLUSIVE, str(error)
        return found.verdict, found.reason

    def _examination(self, function: Function, *, explains: bool) -> Examination:
        surrogate, mode = self.expected.surrogate, MODES[self.mode]
        judge = Judge(
            function,
            self._generator(function),
            precise=mode.precise,
            claim=self.expected.claim,
            truth=None if surrogate is None else self._bound(surrogate),
        )
        return Examination(judge, mode, self.seed, self.expected, explains=explains)

    def _twin(self, bug: Bug | None, target: int) -> Examination:
        """The same, or the reference, in float64."""
        wide = replace(
            self,
            f=widened(self.reference or self.f),
            kwargs=widened(dict(self.kwargs)),
            inputs=widened(self.inputs),
        )
        return wide._examination(wide.function(bug, target), explains=False)

    def _bound(self, f: Callable[..., Any]) -> Function:
        return bound(f, self.inputs, kwargs=self.kwargs, wrt=self.wrt, seed=self.seed)

    def _generator(self, function: Function) -> torch.Generator:
        device = function.variables[0].value.device if function.variables else torch.device("cpu")
        generator = torch.Generator(device if device.type == "cuda" else "cpu")
        return generator.manual_seed(self.seed)
