"""Workers of pytest-xdist: how many, which GPU and how many threads each, and benchmarks alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Generator
from functools import partial
from typing import Any

import pytest

from _dlcheck_pytest.crashing import place_of
from _dlcheck_pytest.gpus import gpu_of, gpus_to_share, note_taken_gpus
from _dlcheck_pytest.lanes import Lanes, lanes_in
from _dlcheck_pytest.state import STATE, state_of, surroundings_of
from _dlcheck_pytest.trials import is_benchmark, trial_of

FOLDER = pytest.StashKey[str]()
LANES = pytest.StashKey[Lanes | None]()


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto` of suites: a worker for each visible GPU. Without one, and for other tests, and
    where PYTEST_XDIST_AUTO_NUM_WORKERS says a number, it is what xdist makes of it."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or not _runs_suites(config):
        return None
    return len(gpus_to_share(state_of(config)).entries) or None


def _runs_suites(config: pytest.Config) -> bool:
    """Is all that the command line names a suite, or a folder of suites?"""
    from dlcheck.suite import is_suite_file

    places = [config.invocation_params.dir / word.partition("::")[0] for word in config.args]
    return bool(places) and all(
        any(map(is_suite_file, place.glob("*.toml"))) if place.is_dir() else place.suffix == ".toml"
        for place in places
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """What each worker finds in its environment when it starts, before anything loads torch."""
    # Made by the first worker that times something.
    config.stash[FOLDER] = os.path.join(tempfile.gettempdir(), f"dlcheck-lanes-{uuid.uuid4().hex}")
    config.add_cleanup(partial(shutil.rmtree, config.stash[FOLDER], ignore_errors=True))
    if not _runs_suites(config):
        return
    from dlcheck.machine import cores

    here = [spec for spec in specs if spec.popen]
    if "OMP_NUM_THREADS" not in os.environ:  # workers that use every core wait for each other
        for spec in here:
            spec.env.setdefault("OMP_NUM_THREADS", str(max(1, cores() // len(here))))
    state = state_of(config)
    state.workers = len(specs)
    gpus = gpus_to_share(state)
    for number, spec in enumerate(here):
        for name, value in gpus.of_worker(number).items():
            spec.env.setdefault(name, value)
    if gpus.entries:
        note_taken_gpus(state, gpus.entries[: len(here)])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput.update(told_to_workers(node.config))
    node.workerinput["dlcheck_running"] = place_of(node.config)
    if node.gateway.spec.popen:  # on this machine
        node.workerinput["dlcheck_lanes"] = node.config.stash.get(FOLDER, "")


def told_to_workers(config: pytest.Config) -> dict[str, Any]:
    """What a worker, on this machine or another, cannot find out for itself."""
    told: dict[str, Any] = {"dlcheck_surroundings": list(surroundings_of(config))}
    if STATE in config.stash:  # else nobody said anything, and a worker finds the same defaults
        state = state_of(config)
        told["dlcheck_seed"] = state.overrides.seed
        told["dlcheck_resume"] = str(state.earlier.path) if state.earlier is not None else ""
    return told


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A benchmark waits until the other workers are done with its device, and they for it."""
    lanes = _lanes_of(item.session)
    if lanes is None:
        return (yield)
    device = getattr(trial_of(item), "device", "cpu")
    with lanes.held("cpu" if device == "cpu" else gpu_of(device), alone=is_benchmark(item)):
        return (yield)


def _lanes_of(session: pytest.Session) -> Lanes | None:
    """None where this process is the only one, or nothing is timed."""
    stash = session.config.stash
    if LANES not in stash:
        told = getattr(session.config, "workerinput", {})
        folder = told.get("dlcheck_lanes", "") if told.get("workercount", 1) > 1 else ""
        stash[LANES] = None
        if folder and any(map(is_benchmark, session.items)):
            with contextlib.suppress(OSError):
                os.makedirs(folder, mode=0o700, exist_ok=True)
                stash[LANES] = lanes_in(folder)
    return stash[LANES]
