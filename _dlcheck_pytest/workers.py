"""Workers of pytest-xdist: how many, which GPU and how many threads each, and benchmarks alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from _dlcheck_pytest.crashing import place_of
from _dlcheck_pytest.gpus import gpu_of, gpus_to_share, note_taken_gpus
from _dlcheck_pytest.lanes import Lanes, lanes_in
from _dlcheck_pytest.state import state_of

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
    from dlcheck.machine import cores

    here = [spec for spec in specs if spec.popen]
    config.stash[FOLDER] = tempfile.mkdtemp(prefix="dlcheck-lanes-")
    config.add_cleanup(partial(shutil.rmtree, config.stash[FOLDER], ignore_errors=True))
    if "OMP_NUM_THREADS" not in os.environ:  # workers that use every core wait for each other
        for spec in here:
            spec.env.setdefault("OMP_NUM_THREADS", str(max(1, cores() // len(here))))
    if not _runs_suites(config):
        return
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
    node.workerinput["dlcheck_running"] = place_of(state_of(node.config))
    node.workerinput["dlcheck_lanes"] = node.config.stash.get(FOLDER, "")


def told_to_workers(config: pytest.Config) -> dict[str, Any]:
    """What a worker, on this machine or another, cannot find out for itself."""
    state = state_of(config)
    return {
        "dlcheck_seed": state.overrides.seed,
        "dlcheck_surroundings": list(state.surroundings),
        "dlcheck_resume": str(state.earlier.path) if state.earlier is not None else "",
    }


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A benchmark waits until the other workers are done with its device, and they for it."""
    lanes = _lanes_of(item.session)
    if lanes is None:
        return (yield)
    device = getattr(
        getattr(item, "callspec", None) and item.callspec.params.get("trial"), "device", "cpu"
    )
    alone = item.get_closest_marker("benchmark") is not None
    with lanes.held("cpu" if device == "cpu" else gpu_of(device), alone=alone):
        return (yield)


def _lanes_of(session: pytest.Session) -> Lanes | None:
    """None where this process is the only one, or nothing is timed."""
    stash = session.config.stash
    if LANES not in stash:
        told = getattr(session.config, "workerinput", {})
        folder = told.get("dlcheck_lanes", "") if told.get("workercount", 1) > 1 else ""
        timed = folder and any(item.get_closest_marker("benchmark") for item in session.items)
        stash[LANES] = lanes_in(folder) if timed and Path(folder).is_dir() else None
    return stash[LANES]
