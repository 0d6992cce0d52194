"""The exact command that runs an item again, wherever it is typed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from _dlcheck_pytest.state import State

if TYPE_CHECKING:
    from dlcheck.model import BenchmarkTrial, Trial

# What decides which files, configuration and plugins pytest sees: option → has it a value?
_SURROUNDINGS = {
    **dict.fromkeys(("-c", "--config-file", "--rootdir", "-p", "-o", "--override-ini"), True),
    **dict.fromkeys(("--import-mode", "--confcutdir"), True),
    "--noconftest": False,
}
_OUTPUT = ("junit_family=",)  # of `-o`: changes no test


def command_of(node: pytest.Item, trial: Trial | BenchmarkTrial, state: State) -> str:
    """pytest with this node, and every override that was in force, wherever it was said.

    What DLCHECK_* or [tool.dlcheck] said is said here: another shell or folder may differ.
    """
    place, _, inside = node.nodeid.partition("::")
    path = os.path.relpath(node.config.rootpath / place, state.root)
    arguments = ["pytest", f"{path}::{inside}"]
    target = state.overrides.targets.get(trial.subject.name)
    if target:
        arguments += ["--subject", f"{trial.subject.name}={target}"]
    if state.overrides.devices:
        arguments += ["--device", trial.device]
    if state.overrides.dtypes:
        arguments += ["--dtype", trial.dtype]
    if node.config.option.runxfail and getattr(trial, "expected_failure", None):
        arguments.append("--runxfail")
    arguments += [*_told(trial, state), *state.surroundings]
    return shlex.join(arguments)


def _told(trial: Trial | BenchmarkTrial, state: State) -> Iterator[str]:
    """The settings that somebody made: command line, environment or pyproject.toml."""
    if trial.profile != "default" or "profile" in state.told:
        yield from ("--profile", trial.profile)
    if trial.seed or "seed" in state.told:
        yield from ("--seed", str(trial.seed))
    timeout = getattr(trial, "timeout", None)
    if timeout and "timeout" in state.told:
        yield from ("--trial-timeout", f"{timeout:g}")
    memory = getattr(trial, "memory", None)
    if memory is not None and "memory" in state.told:
        yield from ("--trial-memory", str(memory) if memory else "none")
    for module in state.plugins:
        yield from ("--plugin", module)
    device = trial.device.partition(":")[0]
    if device in state.required:
        yield from ("--require", device)


def surroundings(arguments: Sequence[str]) -> tuple[str, ...]:
    """Of pytest's arguments those that decide what it sees, as they were typed."""
    found: list[str] = []
    words = iter(arguments)
    for word in words:
        option, joined = _option(word)
        if option is None:
            continue
        typed = [word]
        if _SURROUNDINGS[option] and not joined:
            typed += [value for value in [next(words, None)] if value is not None]
        if not typed[-1].removeprefix("-o").startswith(_OUTPUT):
            found += typed
    return tuple(found)


def _option(word: str) -> tuple[str | None, bool]:
    """The option of a word, and whether its value is in the same word."""
    name, equals, _ = word.partition("=")
    if name in _SURROUNDINGS:
        return name, bool(equals)
    short = word[:2]
    if short in _SURROUNDINGS and not word.startswith("--") and len(word) > 2:
        return short, True
    return None, False
