"""The scripts of broken subjects, each run in a process of its own: on the mutant, and on the right
subject that it was made from."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from dlcheck.arrangement import has_methods, through_methods
from dlcheck.constructors import Remade
from dlcheck.model import Kind, Outcome, Subject, Trial, Verdict
from dlcheck.proof import trial_of
from dlcheck.registry import catalogue
from dlcheck.runner import run_trial
from dlcheck.subjects import _make
from dlcheck.targets import load_target

HOME = "rejected_subjects"  # the module from which a script imports a subject without a path
FALLBACK = "# Fails while the subject gives"


def outcome_of(check: str, **declared: object) -> Outcome:
    subject = Subject(name="mine", **declared)  # type: ignore[arg-type]
    trial = trial_of(catalogue().checks[check], subject)
    return run_trial(replace(trial, profile="quick", scripted=True))


def run_script(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "shown.py"
    path.write_text(text)
    return subprocess.run(
        [sys.executable, str(path)], cwd=folder, capture_output=True, text=True, check=False
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """What the script of one mutant came to."""

    verdict: str
    script: str = ""  # "natural", "fallback" or "none"
    reason: str = ""
    fails: bool | None = None  # on the mutant
    passes: bool | None = None  # on the right subject, where there is one
    lines: int = 0
    told: str = ""  # how it ended where that is not as it should
    text: str = ""


def shown(trial: Trial, right: Subject | None) -> Shown:
    """Run a mutant as its user would, and then its script, on it and on the right subject."""
    home = sys.modules.setdefault(HOME, types.ModuleType(HOME))
    target = trial.subject.target
    home.subject = target  # type: ignore[attr-defined]
    outcome = run_trial(replace(trial, profile="quick", scripted=True))
    if outcome.verdict in (Verdict.PASSED, Verdict.INCONCLUSIVE) and not trial.check.once:
        outcome = run_trial(replace(trial, profile="default"))
    if outcome.verdict is not Verdict.FAILED:
        return Shown(outcome.verdict.value)
    text = outcome.script
    if not text:
        return Shown("failed", "none", outcome.scriptless)
    home.subject = _builder(trial, trial.subject)  # type: ignore[attr-defined]
    code, said = _run(text)
    passes, ending = None, "" if code else said
    if right is not None:
        home.right = _in_the_form_of(trial, right)  # type: ignore[attr-defined]
        swapped = re.sub(_import_of(trial), rf"from {HOME} import right as \1", text, count=1)
        if isinstance(target, Remade):  # a mutant may wrap its module
            swapped = re.sub(r"\boriginal\.|\.original\b", "", swapped)
        other, said = _run(swapped)
        if said.startswith("TypeError") and trial.subject.kind.endswith("_metric"):
            home.right = _first_number_of(home.right)  # type: ignore[attr-defined]
            other, said = _run(swapped)
        passes = other == 0 and swapped != text
        ending = ending or ("" if passes else said)
    kind = "fallback" if FALLBACK in text else "natural"
    return Shown("failed", kind, "", code not in (0, None), passes, text.count("\n"), ending, text)


def _import_of(trial: Trial) -> str:
    return r"from [\w.]+ import (\w+)(?=\n(?!from|import))"


def _builder(trial: Trial, subject: Subject) -> Any:
    target = subject.target
    if not isinstance(target, Remade):
        return target
    kind = catalogue().kind(subject.kind)
    return lambda **args: _make(kind, target, args)


def _in_the_form_of(trial: Trial, right: Subject) -> Any:
    """The right subject, to be called as the script calls the broken one."""
    broken, kind = trial.subject.target, catalogue().kind(right.kind)
    broken = load_target(broken, near=trial.subject.file)
    own = load_target(right.target, near=right.file)
    if isinstance(broken, Remade):
        return lambda **args: _as_a_module(_make(kind, own, args), kind)
    if kind.form == "factory":
        return own
    if inspect.isclass(broken) or kind.form == "module":
        return lambda **args: _make(kind, own, args)
    return own if inspect.isroutine(own) else lambda *x, **args: _make(kind, own, args)(*x)


def _as_a_module(made: Any, kind: Kind) -> Any:
    """A function with the methods of a module: a mutant of it may be one; an object that is called
    by the methods of its kind, as a function too."""
    if has_methods(made, kind) and not callable(made):
        return _Both(made, kind)
    if not inspect.isroutine(made):
        return made

    class Called(nn.Module):
        def forward(self, *x: Any, **named: Any) -> Any:
            return made(*x, **named)

    return Called()


def _first_number_of(build: Any) -> Any:
    """A metric that answers with its first number alone, as a mutant of it does."""

    def built(**args: Any) -> Any:
        metric = build(**args)

        def call(*inputs: Any, **named: Any) -> Any:
            answer = metric(*inputs, **named)
            return answer[0] if isinstance(answer, tuple) else answer

        return call

    return built


class _Both:
    def __init__(self, made: Any, kind: Kind) -> None:
        self.made, self.kind = made, kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self.made, name)

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        return through_methods(self.kind)(self.made, *inputs, **keywords)


def _run(text: str) -> tuple[int | None, str]:
    """The exit code of a program in a process of its own, and the end of what it said."""

    def program() -> str:
        exec(compile(text, "script.py", "exec"), {"__name__": "__main__"})
        return ""

    return forked(program, 30.0)


def forked(work: Callable[[], str], seconds: float) -> tuple[int | None, str]:
    """Run in a child that has everything loaded; None where it took too long or was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 0
        try:
            signal.alarm(int(seconds))
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                said = work()
        except BaseException as error:
            code, said = 1, f"{type(error).__name__}: {error}"
        os.write(writing, said.encode("utf-8", "replace")[:60_000])
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    return (os.WEXITSTATUS(status) if os.WIFEXITED(status) else None), said


def shown_apart(trial: Trial, right: Subject | None, seconds: float = 120.0) -> dict[str, Any]:
    """As `shown`, in a process of its own."""
    started = time.perf_counter()

    def work() -> str:
        found = shown(trial, right)
        return json.dumps({name: getattr(found, name) for name in found.__slots__})

    code, said = forked(work, seconds)
    data = json.loads(said) if code == 0 else {"verdict": "broken", "told": said[-300:]}
    return {**data, "seconds": round(time.perf_counter() - started, 2)}


def write_shown(check: str, place: int, path: str) -> None:
    """What one mutant of a check comes to, as JSON in a file: for a process that is forked."""
    from test_every_check import original_of

    from dlcheck.proof import rejected

    trial = list(rejected(catalogue().checks[check]))[place]
    found = shown(trial, original_of(trial))
    with open(path, "w", encoding="utf-8") as file:
        json.dump({name: getattr(found, name) for name in found.__slots__}, file)
