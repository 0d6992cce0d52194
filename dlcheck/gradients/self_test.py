"""What would be found? Every known class of bug is put into the function, and the check is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dlcheck.errors import SubjectError
from dlcheck.gradients.bugs import BUGS
from dlcheck.gradients.effects import Effects
from dlcheck.gradients.evidence import GradientEvidence
from dlcheck.gradients.examination import MODES
from dlcheck.gradients.expectations import expectation
from dlcheck.gradients.function import Function
from dlcheck.gradients.injection import Bug, injected
from dlcheck.gradients.low_precision import is_low_precision
from dlcheck.gradients.question import Question
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
    asked = Question(
        f=f,
        inputs=inputs,
        kwargs=kwargs,
        wrt=wrt,
        order=order,
        expected=expectation(expect),
        mode=mode,
        seed=seed,
        reference=reference,
    )
    with restored_state():
        sound = asked.answer()
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
    asked: Question,
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
        broken = _with_bug(asked, bug, target)
        size = effects.size(broken.function(), bug)
        verdict, reason = _told(broken) if size > effects.least else (None, "")
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


def _needs(bug: Bug, asked: Question, *, is_low: bool) -> str:
    """In which circumstance alone a bug shows, and who tries that."""
    if not bug.shows:
        return ""
    who = "was not compared here"
    if bug.shows in _CONDITIONS and not MODES[asked.mode].conditions:
        who = "mode full tries"
    elif is_low:
        who = "is tried in float64 only"
    return f"it takes {_WORDS[bug.shows]}, which {who}"


def _with_bug(question: Question, bug: Bug, target: int) -> Question:
    """The same question of the function with a bug, without the search for wrong elements."""

    def broken(function: Function) -> Function:
        return injected(function, bug, target)

    # The same code in float64 has the bug too. One in numbers only may be float32's own.
    if bug.shows and question.reference is None:
        return replace(question, explains=False, change=broken, change_of_twin=broken)
    return replace(question, explains=False, change=broken)


def _told(question: Question) -> tuple[Verdict, str]:
    try:
        found = question.answer()
    except SubjectError as error:
        return Verdict.INCONCLUSIVE, str(error)
    return found.verdict, found.reason
