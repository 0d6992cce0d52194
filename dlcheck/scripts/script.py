"""A failed trial as a script: recorded, cut down, run again, written out."""

from __future__ import annotations

import contextlib
import itertools
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import SubjectError, TrialTimeout
from dlcheck.model import Evidence, Trial, Verdict
from dlcheck.registry import catalogue
from dlcheck.scripts.claims import Claim, claims_of, wrong_answer
from dlcheck.scripts.plain import PLAIN
from dlcheck.scripts.program import Program
from dlcheck.scripts.recorder import Recorder
from dlcheck.scripts.rolling import rolled
from dlcheck.scripts.slopes import slopes
from dlcheck.scripts.tape import Node, Unwritable
from dlcheck.scripts.wording import Words
from dlcheck.targets import is_file, split_target

MOST_LINES = 25
MOST_CHARACTERS = 20_000
NOT_AGAIN = "what failed does not fail again on its own"
_PATIENCE = 3.0  # seconds of the processor for all attempts
_WIDEST = 160  # of a line without literals


@dataclass(frozen=True, slots=True)
class Script:
    """The text, or why there is none. natural: its assertion says what is right."""

    text: str = ""
    reason: str = ""
    natural: bool = False


def script_of(trial: Trial, recorder: Recorder, evidence: Evidence | None) -> Script:
    """The script of what was recorded, failing with this evidence, or by raising."""
    if recorder.broken:
        return Script(reason=recorder.broken)
    try:
        imported = import_of(trial.subject.target)
    except Unwritable as error:
        return Script(reason=str(error))
    reasons: list[str] = []
    writer = _Writer(trial, recorder, imported, time.process_time() + _PATIENCE)
    try:
        candidates = itertools.chain(claims_of(recorder.tape, evidence), slopes(_program(recorder)))
        for claim in candidates:
            if (text := writer.tried(claim, reasons)) is not None:
                return Script(text, "; ".join(reasons), natural=True)
            if claim.decides and reasons[-1] == NOT_AGAIN:
                return Script(reason=NOT_AGAIN)  # it depends on more than the calls
        for claim in _answers(recorder):
            if (text := writer.tried(claim, reasons)) is not None:
                return Script(text, "; ".join(reasons))
    except Exception as error:
        reasons.append(_said(error))
    return Script(reason="; ".join(dict.fromkeys(reasons)) or "nothing that it saw was recorded")


def _said(error: Exception) -> str:
    if isinstance(error, Unwritable):
        return str(error)
    return " ".join(f"it does not run again: {type(error).__name__}: {error}".split())[:150]


def _answers(recorder: Recorder) -> Iterator[Claim]:
    """The answers that were judged wrong, and what was changed in place: all, then fewer."""
    tape = recorder.tape
    calls = [
        i
        for i, n in enumerate(tape.nodes)
        if n.raised is None and (_is_use(n) or n.function is torch.autograd.grad)
    ]
    for count in (200, 12, 6, 3, 2, 1):
        some = frozenset(calls[-count:])
        if len(calls) <= count // 2:
            continue
        program = replace(_program(recorder), stateful=True, collects=some).needed([], also=some)
        values: dict[int, Any] = {}
        program.run(values)
        if (claim := wrong_answer(program, values)) is not None:
            yield claim


def _program(recorder: Recorder) -> Program:
    return Program(recorder.tape, recorder.kind, recorder.target)


@dataclass(slots=True)
class _Writer:
    trial: Trial
    recorder: Recorder
    imported: tuple[list[str], str]
    until: float  # of the processor's time

    def tried(self, claim: Claim, reasons: list[str]) -> str | None:
        """The script, once without and once with the state that calls may leave in a module."""
        for stateful in (False, True):
            if time.process_time() > self.until:
                raise Unwritable(f"none was found in {_PATIENCE:g} s")
            try:
                return self.text(claim, stateful=stateful)
            except Exception as error:  # what cannot be run again has no script
                reasons.append(_said(error))
        return None

    def text(self, claim: Claim, *, stateful: bool) -> str:
        """Raises Unwritable where it does not fail again, or is too long."""
        program = replace(
            _program(self.recorder), stateful=stateful or not claim.natural, collects=claim.collects
        ).needed(claim.wanted)
        values: dict[int, Any] = {}
        try:
            program.run(values)
        except Unwritable:
            raise
        except Exception:
            if not claim.raises:
                raise
        else:
            if claim.raises:
                raise Unwritable("what raised does not raise again")
            if not any(_is_use(node) for node in program.nodes.values()):
                raise Unwritable("what it is about calls nothing")
            if claim.holds(values):
                raise Unwritable(NOT_AGAIN)
        return self._written(program.folded(values).needed(claim.wanted), claim)

    def _written(self, program: Program, claim: Claim) -> str:
        """As it reads best; where that is too long, with what is used once where it is used."""
        for compact in (False, True):
            text = self._text(program, claim, compact=compact)
            if text.count("\n") <= MOST_LINES:
                break
        if text.count("\n") > MOST_LINES:
            raise Unwritable(f"it would take {text.count(chr(10))} lines")
        if len(text) > MOST_CHARACTERS:
            raise Unwritable(f"it would take {len(text)} characters")
        return text

    def _text(self, program: Program, claim: Claim, *, compact: bool) -> str:
        lines_of_import, name = self.imported
        built = self.trial.subject.kind.split("_")[-1]
        built = built if built not in ("op", name) else "subject"
        known = {} if compact else self._known(program)
        words = Words(program, name, built, known, collects=claim.collects, compact=compact)
        lines = _blocks(rolled(words.written(claim.wanted)), graded=words.graded)
        lines += words.with_calls(claim.lines(words.text, _message(self.trial)))
        head = _head(self.trial, claim)
        imports = [*sorted(words.imports), "import torch"]
        first = [] if claim.natural else [*PLAIN, "answers = []"]
        return "\n".join([*head, *imports, *lines_of_import, *first, *lines]) + "\n"

    def _known(self, program: Program) -> dict[int, str]:
        """The inputs of the case among the literals, by their numbers."""
        found: dict[int, str] = {}
        for name, value in self.recorder.inputs.items():
            for index, node in program.nodes.items():
                is_literal = node.word == "tensor" and node.kind == "value"
                if is_literal and index not in found and _is_same(node.args[0], value):
                    found[index] = name
        return found


def _is_use(node: Node) -> bool:
    """Is it a call of the subject, beyond building it?"""
    if node.kind != "call" or node.word in ("copy", ".to", "modes", "part"):
        return False
    return node.word != "" or bool(node.args)


def _is_same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.numel() > 0 and bool(torch.equal(a, b))


def _head(trial: Trial, claim: Claim) -> list[str]:
    subject = trial.subject
    words = [f"# {trial.check.name}: {trial.check.claim}"]
    if not claim.natural:
        words.append("# Fails while the subject gives the answer that was judged wrong.")
    del subject
    return [word[:_WIDEST] for word in words]


def _message(trial: Trial) -> str:
    return repr(textwrap.shorten(trial.check.claim, 90, placeholder=" …"))


def _blocks(lines: list[tuple[bool, str]], *, graded: bool) -> list[str]:
    """The lines with those without gradients in blocks of their own."""
    if not graded and not any("requires_grad" in text or "Parameter" in text or ".copy_(" in text
                              or "_(" in text or "[" in text.partition("=")[0]
                              for _, text in lines):  # fmt: skip
        return [text for _, text in lines]
    found: list[str] = []
    inside = False
    for grad, text in lines:
        if grad:
            inside = False
            found.append(text)
            continue
        if not inside:
            found.append("with torch.no_grad():")
            inside = True
        found.append("    " + text)
    return found


def import_of(target: Any) -> tuple[list[str], str]:
    """The lines that import a target, and its name in the script.

    Raises Unwritable for an object that no module holds by name.
    """
    if isinstance(target, str):
        module, attribute = split_target(target)
        first, *inner = attribute.split(".")
        name = ".".join([first, *inner])
        if is_file(module):
            place = repr(module)
            return [
                "import importlib.util",
                f"spec = importlib.util.spec_from_file_location('subject', {place})",
                "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)",
            ], f"module.{name}"
        return [f"from {module} import {first}"], name
    for module, name in _places(target):
        held: Any = sys.modules.get(module)
        first = name.split(".")[0]
        for part in name.split("."):
            held = getattr(held, part, None)
        if held is target and module != "__main__" and first.isidentifier():
            return [f"from {module} import {first}"], name
    raise Unwritable("the subject is an object that no module holds by name")


def _places(target: Any) -> Iterator[tuple[str, str]]:
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if module and name and "<" not in name:
        yield module, name
    with contextlib.suppress(RuntimeError):
        for module, held in list(sys.modules.items()):
            if module.startswith("torch"):
                continue
            for name, value in list(getattr(held, "__dict__", {}).items()):
                if value is target:
                    yield module, name


def recorded(
    trial: Trial,
    inputs: Mapping[str, Tensor],
    run: Callable[[AbstractContextManager[object]], Evidence | None],
) -> Script:
    """The script of a run that fails: its deciding evidence fails, or the subject raises.

    inputs: of the case, for their names. run: runs the case within what it is given.
    """
    recorder = Recorder(trial.subject, catalogue().kind(trial.subject.kind))
    evidence = None
    try:
        evidence = run(recorder.listening())
        if evidence is None or evidence.verdict is not Verdict.FAILED:
            return Script(reason="it does not fail when it is watched")
    except TrialTimeout:
        raise
    except SubjectError:
        pass
    except Exception as error:  # of ours: the verdict stands without a script
        return Script(reason=f"it cannot be watched: {type(error).__name__}: {error}"[:200])
    recorder.inputs = inputs
    return script_of(trial, recorder, evidence)
