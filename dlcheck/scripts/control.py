"""The same case with answers that are swayed: is a claim about what the check measured?

A number may equal the error by chance, and a constant may have been computed from the answers. In
a second run with other answers neither is left: the claim must give what the check finds then, of
the same calls with the same constants.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import TrialTimeout
from dlcheck.isolation import heard_by
from dlcheck.model import Evidence, Verdict
from dlcheck.scripts.claims import Claim
from dlcheck.scripts.recorder import Recorder
from dlcheck.scripts.sway import LARGE, NONE, SMALL, TINY, Echo, Form, Sway, Swaying
from dlcheck.scripts.tape import Node, Tape

Run = Callable[[AbstractContextManager[object]], Sequence[Evidence]]


@dataclass(slots=True)
class Control:
    """Runs of the case with other answers.

    make: a recorder that sways. run: the pieces of evidence of a run within what it is given.
    pieces, tape, calls: of the run that failed; how many guarded calls it made, and whether
    the tape ends before it. until: of the processor's time; no run is begun after it.
    """

    make: Callable[[Sway], Recorder]
    run: Run
    pieces: Sequence[Evidence]
    tape: Tape
    calls: int
    is_cut: bool
    until: float
    _idle: list[frozenset[int]] = field(default_factory=list)  # on whose answers nothing depends
    _runs: dict[float, tuple[Tape, Sequence[Evidence]] | None] = field(default_factory=dict)

    @property
    def found(self) -> Evidence | None:
        """What decided."""
        return self.pieces[0] if self.pieces else None

    def confirms(self, claim: Claim, nodes: Mapping[int, Node]) -> bool:
        """Does the claim give what the check finds, whatever the answers are?

        Where the check finds the same of all answers, a claim must be the only candidate.
        """
        if self.found is None or claim.measures is None:
            return True
        for by in (SMALL, LARGE):
            swayed = self._swayed(by)
            if swayed is None:
                return claim.decides
            tape, pieces = swayed
            if not pieces:
                continue
            if claim.decides and self._is_the_same(nodes, tape):
                return True
            if not _same_nodes(nodes, tape):
                if by == SMALL:
                    return False
                continue
            errors = [p.error for p in pieces if p.what == self.found.what] or [
                p.error for p in pieces
            ]
            if all(_equal(error, self.found.error) for error in errors):
                continue
            return claim.measures(tape, pieces)
        return claim.decides or claim.alone

    def _is_the_same(self, nodes: Mapping[int, Node], tape: Tape) -> bool:
        """Are the nodes the same as far as the check goes the same way, with the same constants?"""
        pairs = enumerate(zip(self.tape.nodes, tape.nodes, strict=False))
        apart = next((i for i, (a, b) in pairs if (a.kind, a.word) != (b.kind, b.word)), None)
        first = nodes if apart is None else {i: n for i, n in nodes.items() if i < apart}
        return _same_nodes(first, tape) and _has_constants(nodes, tape)

    def depends(self, places: frozenset[int]) -> bool:
        """Does what the check finds follow from the answers to these calls?

        places: numbers of the guarded calls. A change of the last digits alone shows which of the
        answers decide; it leaves what is right within its bound. Where there is no time to see it,
        true of all answers together, but for a run of which only the beginning is known.
        """
        if self.found is None:
            return True
        if any(places <= others for others in self._idle):
            return False
        counts = not math.isfinite(self.found.error) or self.found.error == int(self.found.error)
        forms = (Form(axes) for axes in (None, 1, 0))
        is_drawn = bool(self.found.p_values)  # an average, in which no answer decides alone
        whole = (Sway(by) for by in (SMALL if is_drawn else TINY, LARGE, NONE))
        sways: list[Sway | Form | Echo] = [*whole, *forms, Echo()]
        for sway in sways:
            if time.process_time() >= self.until:
                return places >= self._judged and not self.is_cut
            listener = Swaying(sway, places)
            pieces = _pieces(self.run, _within(listener))
            if not pieces:
                continue  # the check does not apply to such answers, which says nothing
            if listener.count != self.calls or self._is_another(pieces):
                return True
            if sway.has_moved and not counts:
                break
        self._idle.append(places)
        return False

    def _is_another(self, pieces: Sequence[Evidence]) -> bool:
        """Has a piece that failed, or the worst, another error now?"""
        errors = {piece.what: piece.error for piece in pieces}
        wrong = (piece for piece in self.pieces if piece.verdict is Verdict.FAILED)
        return not _equal(pieces[0].error, self.pieces[0].error) or any(
            not _equal(errors.get(piece.what, piece.error), piece.error) for piece in wrong
        )

    @property
    def _judged(self) -> set[int]:
        """The numbers of all calls of the subject."""
        return {node.place for node in self.tape.nodes if node.tells}

    def repeats(self, nodes: Mapping[int, Node]) -> bool:
        """Are the constants of these calls no answers of the subject, as far as is seen?"""
        if self.found is None or (swayed := self._swayed(SMALL)) is None:
            return True
        return _has_constants(nodes, swayed[0])

    def _swayed(self, by: float) -> tuple[Tape, Sequence[Evidence]] | None:
        """What is on the tape then; None where there is no time."""
        if by not in self._runs:
            self._runs[by] = None
            if time.process_time() < self.until:
                recorder = self.make(Sway(by))
                recorder.until = min(recorder.until, self.until)
                pieces = _pieces(self.run, recorder.listening())
                if not recorder.broken:
                    self._runs[by] = recorder.tape, pieces
        return self._runs[by]


def _pieces(run: Run, watch: AbstractContextManager[object]) -> Sequence[Evidence]:
    try:
        return run(watch)
    except TrialTimeout:
        raise
    except Exception:  # of the subject, whose answers are no longer its own
        return []


@contextlib.contextmanager
def _within(listener: Swaying) -> Iterator[None]:
    with heard_by(listener):
        yield


def _equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _same_nodes(nodes: Mapping[int, Node], tape: Tape) -> bool:
    """Have these calls the same places, arguments and constants on the other tape?"""
    return all(
        index < len(tape.nodes) and _same_node(node, tape.nodes[index])
        for index, node in nodes.items()
    )


def _same_node(a: Node, b: Node) -> bool:
    same = (a.kind, a.word) == (b.kind, b.word) and _same(a.keywords, b.keywords)
    return same and _same(a.args, b.args) and _same(a.state, b.state)


def _has_constants(nodes: Mapping[int, Node], tape: Tape) -> bool:
    """Are the numbers that these calls are given on the other tape too, wherever they stand?"""
    there = set().union(*map(_constants, tape.nodes))
    return all(_constants(node) <= there for node in nodes.values())


def _constants(node: Node) -> set[Any]:
    return set(_numbers((node.args, dict(node.keywords))))


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, Tensor):
        if value.layout == torch.strided:
            yield tuple(value.shape), str(value.dtype), str(value.detach().cpu().tolist())
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _numbers(part)
    elif hasattr(value, "tolist"):
        yield str(value.tolist())
    elif isinstance(value, (int, float)):
        yield repr(value)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return (
            isinstance(b, Tensor)
            and a.shape == b.shape
            and a.layout == b.layout
            and (a.layout != torch.strided or torch.equal(a.nan_to_num(), b.nan_to_num()))
        )
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and _same(list(a.items()), list(b.items()))
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    if hasattr(a, "tolist"):
        return type(a) is type(b) and bool(str(a) == str(b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and bool(a == b)


def failed(pieces: Sequence[Evidence]) -> bool:
    """Is the first of them, which decides, a failure?"""
    return bool(pieces) and pieces[0].verdict is Verdict.FAILED
