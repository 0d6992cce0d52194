"""`suite.lock`, and signals that end a run: what keeps a run from meaning less than it seems."""

from __future__ import annotations

import functools
import os
import shlex
import signal
import threading
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

from _dlcheck_pytest.state import State, dest_of, state_of
from _dlcheck_pytest.trials import is_recorded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BEFORE = pytest.StashKey[dict[int, Any]]()


def hold_to_lock(config: pytest.Config, state: State) -> bool:
    """Compare the run with the locks beside its suites, or write them; is it short of one?"""
    from dlcheck.errors import UsageError
    from dlcheck.suite_lock import NAME, counts, grown, read_lock, shrunk, write_lock

    if why := _why_partial(config, state):
        if config.getoption(dest_of("--lock")):
            state.problems.append(f"--lock locks whole suites, and this run is partial: {why}")
            return True
        return False
    run = {"profile": state.overrides.profile, "seed": state.overrides.seed}
    folders: dict[Path, dict[str, Mapping[str, int]]] = {}
    for suite, table in counts(state.outcomes).items():
        path = config.rootpath / suite
        if path.suffix == ".toml":
            folders.setdefault(path.parent, {})[path.stem] = table
    short = False
    for folder, found in folders.items():
        path = folder / NAME
        try:
            if config.getoption(dest_of("--lock")):
                write_lock(path, run, found)
                continue
            lock = read_lock(path)
        except (OSError, UsageError) as error:
            state.problems.append(str(error))
            short = True
            continue
        if any(lock.get(name) != value for name, value in run.items()):
            continue
        for told in shrunk(lock, found):
            state.problems.append(f"{path.name}: {told} (if that is meant: dlcheck run … --lock)")
            short = True
        if more := grown(lock, found):
            state.notes.append(f"{path.name}: {more:,} trials ran that are not locked yet (--lock)")
    return short


def _why_partial(config: pytest.Config, state: State) -> str:
    """What selects a part of the suites; empty where they ran as they are."""
    option, given = config.option, state.overrides
    for name, value in {
        "-k": option.keyword,
        "-m": option.markexpr,
        "--deselect": option.deselect,
        "--ignore": option.ignore,
        "--ignore-glob": option.ignore_glob,
        "--lf": getattr(option, "lf", False),
        "--stepwise": getattr(option, "stepwise", False),
        "--device": given.devices,
        "--dtype": given.dtypes,
        "--subject": given.targets,
        "--shard": state.shard,
    }.items():
        if value:
            return name
    nodes = [arg for arg in config.args if "::" in arg]
    if nodes:
        return f"only {nodes[0]}"
    return f"{state.deselected:,} trials were deselected" if state.deselected else ""


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """By whatever: a conftest, a plugin that splits runs. Workers tell their controller."""
    trials = sum(map(is_recorded, items))
    if trials:
        config = items[0].config
        state_of(config).deselected += trials
        if hasattr(config, "workeroutput"):
            config.workeroutput["dlcheck_deselected"] = state_of(config).deselected


# --- signals ----------------------------------------------------------------------------------


def take_signals(config: pytest.Config) -> None:
    """SIGTERM and SIGHUP end a run as Ctrl-C does: the record is closed, reports are written."""
    if threading.current_thread() is threading.main_thread():
        names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        config.stash[_BEFORE] = {
            number: signal.signal(number, _interrupt)
            for number in (getattr(signal, name) for name in names)
            if signal.getsignal(number) is signal.SIG_DFL
        }
        config.add_cleanup(partial(put_signals_back, config))
        _leave_forks_alone()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")


def put_signals_back(config: pytest.Config) -> None:
    for number, handler in config.stash.get(_BEFORE, {}).items():
        signal.signal(number, handler)
    config.stash[_BEFORE] = {}


@functools.cache
def _leave_forks_alone() -> None:
    """What a test forks ends by these signals as any process does.

    They are blocked while it is forked: Python forgets those that come before its handlers do.
    """
    if not hasattr(os, "register_at_fork"):
        return
    masks: list[set[int]] = []

    def block() -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, _taken()))

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    def give_up() -> None:
        for number in _taken():
            signal.signal(number, signal.SIG_DFL)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=give_up)


def _taken() -> list[int]:
    numbers = (getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
    return [number for number in numbers if signal.getsignal(number) is _interrupt]


def told_of_interruption(config: pytest.Config, state: State, exitstatus: int) -> None:
    """Say how to go on."""
    if exitstatus != pytest.ExitCode.INTERRUPTED or state.writer is None:
        return
    from dlcheck.arguments import without

    words = without(shlex.split(state.command), ("--resume", "--dlcheck-resume"))
    again = shlex.join([*words, f"--resume={state.writer.path.stem}"])
    state.notes.append(f"interrupted; go on with: {again}")
