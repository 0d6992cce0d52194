"""A failed trial as a script: recorded, cut down, run again, written out, and tried."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import SubjectError, TrialTimeout
from dlcheck.model import Evidence, Trial
from dlcheck.registry import catalogue
from dlcheck.scripts.claims import Claim, claims_of, wrong_answer
from dlcheck.scripts.control import Control, Run, failed
from dlcheck.scripts.importing import import_of
from dlcheck.scripts.page import Page
from dlcheck.scripts.program import Program
from dlcheck.scripts.proving import hold_to
from dlcheck.scripts.recorder import Recorder
from dlcheck.scripts.slopes import slopes
from dlcheck.scripts.sway import Sway
from dlcheck.scripts.tape import Node, Unwritable

NOT_AGAIN = "what failed does not fail again on its own"
_PATIENCE = 3.0  # seconds of the processor for all attempts
_FEWER = (12, 200, 6, 3, 2, 1)  # answers of a script that says which were wrong


@dataclass(frozen=True, slots=True)
class Script:
    """The text, or why there is none. natural: its assertion says what is right."""

    text: str = ""
    reason: str = ""
    natural: bool = False


def recorded(trial: Trial, inputs: Mapping[str, Tensor], run: Run) -> Script:
    """The script of a run that fails: its deciding evidence fails, or the subject raises.

    inputs: of the case, for their names. run: runs the case within what it is given; its evidence,
    of which the first piece decides.
    """
    kind = catalogue().kind(trial.subject.kind)

    def make(sway: Sway | None = None) -> Recorder:
        return Recorder(trial.subject, kind, sway)

    recorder, pieces = make(), list[Evidence]()
    try:
        pieces = list(run(recorder.listening()))
        if not failed(pieces):
            return Script(reason="it does not fail when it is watched")
    except TrialTimeout:
        raise
    except SubjectError:
        pass
    except Exception as error:  # of ours: the verdict stands without a script
        return Script(reason=f"it cannot be watched: {type(error).__name__}: {error}"[:200])
    recorder.inputs = inputs
    evidence = pieces[0] if pieces else None
    until = time.process_time() + _PATIENCE
    control = Control(make, run, pieces, recorder.tape, recorder.count, recorder.is_cut, until)
    return script_of(trial, recorder, evidence, control)


def script_of(
    trial: Trial, recorder: Recorder, evidence: Evidence | None, control: Control
) -> Script:
    """The script of what was recorded, failing with this evidence, or by raising."""
    if recorder.broken and not recorder.is_cut:
        return Script(reason=recorder.broken)
    try:
        page = Page(trial, import_of(trial.subject.target), recorder.inputs)
    except Unwritable as error:
        return Script(reason=str(error))
    reasons = [recorder.broken] if recorder.broken else []
    writer = _Writer(page, recorder, control, time.process_time() + _PATIENCE)
    try:
        for claim in _candidates(recorder, evidence):
            if (text := writer.tried(claim, reasons)) is not None:
                return Script(text, "; ".join(reasons), natural=claim.natural)
            if claim.decides and reasons[-1] == NOT_AGAIN:
                return Script(reason=NOT_AGAIN)  # it depends on more than the calls
    except Exception as error:
        reasons.append(_said(error))
    return Script(reason="; ".join(dict.fromkeys(reasons)) or "nothing that it saw was recorded")


def _candidates(recorder: Recorder, evidence: Evidence | None) -> Iterator[Claim]:
    """What the check compared; what holds of gradients; that the answers were wrong."""
    of_all = () if recorder.is_cut else claims_of(recorder.tape, evidence)
    program = _program(recorder)
    return itertools.chain(of_all, slopes(program), _answers(recorder))


def _said(error: Exception) -> str:
    if isinstance(error, Unwritable):
        return str(error)
    return " ".join(f"it does not run again: {type(error).__name__}: {error}".split())[:150]


def _answers(recorder: Recorder) -> Iterator[Claim]:
    """The answers that were judged wrong, and what was changed in place: all, then fewer.

    The last ones, or the first, before which less was drawn at random.
    """
    tape = recorder.tape
    calls = [
        i
        for i, n in enumerate(tape.nodes)
        if n.raised is None and (_is_use(n) or n.function is torch.autograd.grad)
    ]
    gradients = {i for i in calls if tape.nodes[i].kind == "torch"}
    sets = [frozenset(calls[-count:]) for count in _FEWER if len(calls) > count // 2]
    sets += [frozenset(calls[:count]) for count in _FEWER if len(calls) > count]
    for some in sets[len(sets) // 2 :] if recorder.is_cut else sets:
        if gradients and not gradients & some:
            continue  # where gradients are asked for, they are what is judged
        for stateful in (False, True):
            told = frozenset(i for i in some if tape.nodes[i].tells or i in gradients)
            program = replace(_program(recorder), stateful=stateful, collects=told)
            program = program.needed([], also=some)
            values: dict[int, Any] = {}
            program.run(values)
            if not stateful and not program.is_as_recorded():
                continue
            claim = wrong_answer(program, values, some)
            if claim is not None:
                yield replace(claim, stateful=stateful)
            break


def _program(recorder: Recorder) -> Program:
    return Program(recorder.tape, recorder.kind, recorder.target)


@dataclass(slots=True)
class _Writer:
    page: Page
    recorder: Recorder
    control: Control
    until: float  # of the processor's time

    def tried(self, claim: Claim, reasons: list[str]) -> str | None:
        """The script, once without and once with the state that calls may leave in a module."""
        for stateful in (False, True) if claim.natural else (claim.stateful,):
            if time.process_time() > self.until:
                raise Unwritable(f"none was found in {_PATIENCE:g} s")
            try:
                return self.text(claim, stateful=stateful)
            except Exception as error:  # what cannot be run again has no script
                reasons.append(_said(error))
        return None

    def text(self, claim: Claim, *, stateful: bool) -> str:
        """Raises Unwritable where it does not fail again, is too long, or says something else."""
        program = replace(
            _program(self.recorder), stateful=stateful, collects=claim.collects
        ).needed(claim.wanted)
        values: dict[int, Any] = {}
        raised = None
        try:
            program.run(values)
        except Unwritable:
            raise
        except Exception as error:
            if not claim.raises:
                raise
            raised = type(error)
        else:
            if claim.raises:
                raise Unwritable("what raised does not raise again")
            if not any(_is_use(node) for node in program.nodes.values()):
                raise Unwritable("what it is about calls nothing")
            if claim.holds(values):
                raise Unwritable(NOT_AGAIN)
            if not program.is_as_recorded():
                raise Unwritable("it answers otherwise when it is run again")
        folded = program.folded(values).needed(claim.wanted)
        text = self.page.text(folded, claim)
        self._hold(claim, program)
        names = self.page.imported.standing_for(self.recorder.target, self.recorder.kind)
        hold_to(text, self.page.imported.lines, names, raised)
        return text

    def _hold(self, claim: Claim, program: Program) -> None:
        """Raises Unwritable where it is not what the check measured."""
        if claim.natural and not self.control.confirms(claim, program.nodes):
            raise Unwritable("what it compares is not what the check measured")
        places = frozenset(program.nodes[ref.node].place for ref in claim.wanted)
        if not claim.natural and not self.control.depends(places):
            raise Unwritable("what failed does not follow from the answers")
        if not claim.natural and not self.control.repeats(program.nodes):
            raise Unwritable("it is given what it answered before")


def _is_use(node: Node) -> bool:
    """Is it a call of the subject, beyond building it?"""
    if node.kind != "call" or node.place < 0 or node.word in ("copy", ".to"):
        return False
    return node.word != "" or bool(node.args)
