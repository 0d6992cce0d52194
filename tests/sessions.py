"""pytest inside pytest, each run in a process of its own that has torch loaded already.

pytester's in-process runs forget what was imported, and torch loads once a process; its
subprocesses load torch anew, four seconds each. A fork server loads it once and forks.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import popen_forkserver  # noqa: F401  # else it is one of what is forgotten
from pathlib import Path
from typing import Protocol

import pytest

import dlcheck

SERVER = multiprocessing.get_context("forkserver")
# Not the plugins of pytest, which it must see being imported. A gradient of torch loads sympy.
SERVER.set_forkserver_preload(
    ["pytest", "hypothesis", "numpy", "torch.fx.experimental.symbolic_shapes", "dlcheck.runner",
     "dlcheck.registry", "dlcheck.reporting.html", "dlcheck.results",
     "dlcheck.checks.gradients.gradient_matches_difference"]
)  # fmt: skip


class Folder(Protocol):
    """Where pytest runs: a Pytester, or what else has a path."""

    path: Path


def run_pytest(folder: Folder, *arguments: str, seconds: float = 120) -> pytest.RunResult:
    """Run pytest in a folder; what it printed and its exit code."""
    return run_command(folder, ["pytest", "-p", "no:randomly", *arguments], seconds=seconds)


def run_command(folder: Folder, words: Sequence[str], *, seconds: float = 120) -> pytest.RunResult:
    """Run `pytest …`, `dlcheck …` or `python FILE` in a folder, in a process of its own."""
    started = time.perf_counter()
    files = [folder.path / name for name in ("stdout.txt", "stderr.txt")]
    # A session of its own, also where this one is a worker of xdist.
    outer = {name: value for name, value in os.environ.items() if "PYTEST_XDIST" not in name}
    environment = {**outer, "PYTHONPATH": str(folder.path), "COLUMNS": "120"}
    child = SERVER.Process(
        target=_session, args=(str(folder.path), list(words), environment, *map(str, files))
    )
    child.start()
    child.join(timeout=seconds)
    if child.is_alive():
        child.kill()
        raise TimeoutError(f"{' '.join(words)} took more than {seconds} s")
    out, err = (path.read_text().splitlines() for path in files)
    for path in files:
        path.unlink()
    return pytest.RunResult(child.exitcode or 0, out, err, time.perf_counter() - started)


def in_a_process(work: Callable[..., None], *arguments: object) -> int:
    """Call it in a process of its own that has torch loaded; its exit status, as a signal below 0.

    What it prints is not seen."""
    child = SERVER.Process(target=_silent, args=(work, *arguments))
    child.start()
    child.join(timeout=60)
    if child.is_alive():
        child.kill()
        raise TimeoutError(f"{work.__name__} took more than 60 s")
    return child.exitcode or 0


def _silent(work: Callable[..., None], *arguments: object) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    work(*arguments)
    os._exit(0)


def _session(
    folder: str, words: list[str], environment: dict[str, str], out: str, err: str
) -> None:
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    # What multiprocessing set up for the parent must not leak into the session.
    # The plugin comes from where dlcheck does, which the parent's folder may be.
    kept = {Path(dlcheck.__file__).resolve().parents[1]}
    foreign = {Path.cwd()} - kept
    sys.path[:] = [folder, *(p for p in sys.path if Path(p or ".").resolve() not in foreign)]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    code = _called(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _called(words: list[str]) -> int:
    program, *arguments = words
    if program == "pytest":
        return int(pytest.main(arguments))
    if program == "dlcheck":
        from dlcheck.cli import main

        return main(arguments)
    sys.argv[:] = arguments
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except Exception:
        traceback.print_exc()
        return 1
    return 0
