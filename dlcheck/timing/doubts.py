"""Why a time may be no time of the work: each doubt is one question, answered in one sentence.

What is slow elsewhere looks fast here: work put off, work on another stream, answers kept from
the last call. A doubt that holds refuses the verdict.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.measure.clocks import Clock
from dlcheck.measure.device_clock import left_over
from dlcheck.subjects import tensors_in
from dlcheck.timing.agreement import same_bits
from dlcheck.timing.contest import Contest, Work

_WAIT = 0.01  # seconds in which what was put off would arrive
_EMPTY = 3  # empty calls: what is not longer than so many does no work
_LEFT = 0.2  # of the time of a call: what may be left when its stream has ended
_REMEMBERED = 3.0  # times faster on the same values than on new ones
_FEW_MICROSECONDS = 2e-5
_ROUNDS = 5
_STRIKES = (1, 2, 3)  # refills: one number in a half type may be the same by chance
_KINDS = (Tensor, torch.nn.Parameter)


def doubt_before(contest: Contest, work: Work) -> str:
    """Is it what it seems? Why not, before it is timed; empty where nothing speaks against it."""
    return changes_its_inputs(contest, work) or puts_off(contest, work) or elsewhere(contest, work)


def changes_its_inputs(contest: Contest, work: Work) -> str:
    """Then the second call is on other inputs than the first."""
    names = list(contest.case.inputs)
    before = [x.detach().clone() for x in contest.leaves]
    work(*contest.arguments)
    for i, (old, now) in enumerate(zip(before, contest.leaves, strict=True)):
        if not same_bits([old], [now.detach()]):
            name = names[i] if i < len(names) else f"number {i}"
            contest.refill(0)
            return (
                f"it changes its input {name}, so that no two calls are alike: benchmark what "
                "copies it first, on both sides"
            )
    return ""


def puts_off(contest: Contest, work: Work) -> str:
    """Does it return before it has computed? Read at once, and again after a while."""
    answer = work(*contest.arguments)
    found = list(tensors_in(answer))
    if not found and hasattr(answer, "__next__"):
        return "it returns an iterator, which computes when it is read: return its values"
    for tensor in found:
        if type(tensor) not in _KINDS:
            return (
                f"it returns {type(tensor).__module__}.{type(tensor).__qualname__}, which may "
                "compute later than the clock stops: return plain tensors"
            )
    at_once = _bits(found)
    time.sleep(_WAIT)
    if not same_bits(at_once, _bits(found)):
        return (
            "its output changes after it has returned: another thread or stream still works on it "
            "when the clock stops"
        )
    return ""


def elsewhere(contest: Contest, work: Work) -> str:
    """Does the device go on when the stream has ended? Events see one stream."""
    device = contest.case.device
    if device.type != "cuda":
        return ""
    seconds, rest = left_over(work, contest.arguments, device)
    if rest <= max(_FEW_MICROSECONDS, _LEFT * seconds):
        return ""
    return (
        f"it works on another stream: {rest * 1e6:.0f} µs after the {seconds * 1e6:.0f} µs that "
        "its own stream took; let the current stream wait for it"
    )


def does_nothing(contest: Contest, seconds: float, calls: int) -> str:
    """Is it as short as a call that does nothing?"""

    def nothing(*_: Any) -> None:
        return None

    clock = Clock(torch.device("cpu"))
    empty = min(
        clock.seconds(nothing, *contest.arguments, calls=max(calls, 1000)) for _ in range(_ROUNDS)
    )
    if seconds > _EMPTY * empty:
        return ""
    return (
        f"it takes {seconds * 1e9:.0f} ns, and an empty call {empty * 1e9:.0f} ns: the clock "
        "cannot tell it from no work; benchmark more of it in one call"
    )


def remembers(contest: Contest, work: Work, other: Work | None) -> str:
    """Does it keep answers? Other values are written where the old ones were.

    Stale answers are seen bit by bit; those found again by value, by new values taking longer
    than known ones, where this is not so of `other`.
    """
    known = _answers(work, contest.arguments)
    before = _answers(other, contest.arguments) if other else known
    if all(_is_stale(contest, work, other, known, before, round_) for round_ in _STRIKES):
        contest.refill(0)
        return "it answers to new values in the same memory what it answered before: a cache"
    slower = _on_new_values(contest, work)
    if slower > _REMEMBERED and (other is None or _on_new_values(contest, other) < _REMEMBERED):
        contest.refill(0)
        return (
            f"it takes {slower:.0f} times longer on new values than on those of the last call: it "
            "keeps its answers, and the benchmark would time the look-up"
        )
    contest.refill(0)
    return ""


def _is_stale(
    contest: Contest,
    work: Work,
    other: Work | None,
    known: list[Tensor],
    before: list[Tensor],
    round_: int,
) -> bool:
    """Is the answer to new values the one known before, though there is another to give?"""
    contest.refill(round_)
    if not same_bits(_answers(work, contest.arguments), known):
        return False
    return _tells_apart(contest, other or work, before, elsewhere=other is None)


def _tells_apart(contest: Contest, work: Work, before: list[Tensor], *, elsewhere: bool) -> bool:
    """Are the answers to the values that are there now others than those from before?

    elsewhere: asked of copies in other memory; several at a time, as an old address may be known.
    """
    if not elsewhere:
        return not same_bits(_answers(work, contest.arguments), before)
    copies = [_copied(contest.arguments) for _ in range(_ROUNDS)]
    return any(not same_bits(_answers(work, each), before) for each in copies)


def _answers(work: Work, arguments: Sequence[Any]) -> list[Tensor]:
    return _bits(tensors_in(work(*arguments)))


def _on_new_values(contest: Contest, work: Work) -> float:
    """Time on values that are new over time on the same ones again: the least of both."""
    new, old = [], []
    clock = Clock(contest.case.device)
    for round_ in range(2, 2 + _ROUNDS):
        contest.refill(round_)
        new.append(clock.seconds(work, *contest.arguments))
        old.append(clock.seconds(work, *contest.arguments))
    return (min(new) - _FEW_MICROSECONDS) / min(old)


def _bits(tensors: Any) -> list[Tensor]:
    return [y.detach().clone() for y in tensors]


def _copied(arguments: Sequence[Any]) -> tuple[Any, ...]:
    def copy(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().clone().requires_grad_(value.requires_grad)
        return (
            type(value)(copy(part) for part in value) if isinstance(value, (list, tuple)) else value
        )

    return tuple(copy(value) for value in arguments)
