"""`suite.lock`, and signals that end a run: what keeps a run from meaning less than it seems."""

from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

from _dlcheck_pytest.state import State, dest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    return f"only {nodes[0]}" if nodes else ""


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


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")


def put_signals_back(config: pytest.Config) -> None:
    for number, handler in config.stash.get(_BEFORE, {}).items():
        signal.signal(number, handler)


def told_of_interruption(config: pytest.Config, state: State, exitstatus: int) -> None:
    """Say how to go on."""
    if exitstatus != pytest.ExitCode.INTERRUPTED or state.writer is None:
        return
    words = [word for word in shlex.split(state.command) if not word.startswith("--resume")]
    again = shlex.join([*words, f"--resume={state.writer.path.stem}"])
    state.notes.append(f"interrupted; go on with: {again}")
