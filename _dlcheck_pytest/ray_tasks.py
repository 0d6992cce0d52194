"""What runs on a node of Ray: a session of pytest that is kept, and items of it by node id.

A process of Ray collects once, as a worker of xdist does, and then runs whatever task comes.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

_FAREWELL = 0.2  # seconds for the answer to leave
_SESSIONS: dict[str, Kept] = {}  # by the run's own name: one process serves one driver


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every task of a run must know. Folders are those of the driver's machine."""

    token: str
    arguments: tuple[str, ...]
    folder: str  # that is shipped
    inside: str  # where in it the run was started
    installed: Mapping[str, str]  # "package" and "suites" → where dlcheck lies
    path: tuple[str, ...]  # of modules, but for what is installed
    told: Mapping[str, Any]  # as to every worker


@dataclasses.dataclass(slots=True, eq=False)
class Kept:
    """A session that outlives its tasks, and what its items report."""

    session: pytest.Session
    items: dict[str, pytest.Item]
    places: dict[str, str]  # folder here → folder on the driver
    gpus: str  # that this process saw when it began: those that CUDA knows until it ends
    reports: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    loaded: dict[tuple[Any, str], str] = dataclasses.field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        config = self.session.config
        sent = config.hook.pytest_report_to_serializable(config=config, report=report)
        self.reports.append(_elsewhere(sent, self.places))


class _Failures:
    """What could not be collected here, though it could on the driver."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.texts.append(f"{report.nodeid}: {report.longreprtext}")


def run_items(job: Job, nodes: Sequence[str]) -> dict[str, Any]:
    """Run items: `reports`, those of each, or `refused`: why this node cannot run them, or
    `stale`: Ray gave this process another GPU than it began with, and it ends."""
    kept = _SESSIONS.get(job.token)
    if kept is None:
        found = _opened(job)
        if isinstance(found, str):
            return {"refused": found}
        kept = _SESSIONS[job.token] = found
    if (gpus := _visible()) and gpus != kept.gpus:
        threading.Timer(_FAREWELL, os._exit, [0]).start()
        return {"stale": True}
    absent = [node for node in nodes if node not in kept.items]
    if absent:
        return {"refused": f"collects other trials than the driver: it has no {absent[0]}"}
    items = [kept.items[node] for node in nodes]
    if problems := list(dict.fromkeys(_unloadable(items, kept.loaded))):
        return {"refused": "\n".join(problems)}
    return {"reports": list(_run(items, kept))}


def _visible() -> str:
    """The GPUs that Ray gave to this task; empty where it gave none."""
    from dlcheck.machine import VARIABLES

    return " ".join(filter(None, (os.environ.get(variable) for variable in VARIABLES)))


def _run(items: Sequence[pytest.Item], kept: Kept) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    session = kept.session
    for item, following in zip(items, (*items[1:], None), strict=True):
        kept.reports.clear()
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        session.shouldfail = session.shouldstop = False  # the driver decides on that
        yield item.nodeid, list(kept.reports)


def _unloadable(items: Sequence[pytest.Item], loaded: dict[tuple[Any, str], str]) -> Iterator[str]:
    """Targets that cannot be imported here, each tried once."""
    from _dlcheck_pytest.running import unloadable
    from _dlcheck_pytest.trials import trial_of

    for item in items:
        if (trial := trial_of(item)) is None or not isinstance(trial.subject.target, str):
            continue
        key = (trial.subject.target, trial.subject.file)
        if key not in loaded:
            loaded[key] = unloadable(trial)
        if loaded[key]:
            yield loaded[key]


def _opened(job: Job) -> Kept | str:
    """Collect as the driver did; what it came to, or why it could not."""
    from _pytest.config import _prepareconfig

    places = _places(job)
    os.chdir(Path.cwd() / job.inside)
    _extend_path(job, places)
    config = _prepareconfig([_here(word, places) for word in job.arguments])
    failures = _Failures()
    config.pluginmanager.register(failures)
    # As in a worker of xdist, plugins leave files and the cache to the driver.
    told = {"workerid": "ray", "workercount": 1, "testrunuid": job.token, "mainargv": ["dlcheck"]}
    config.workerinput, config.workeroutput = {**told, **job.told}, {}  # type: ignore[attr-defined]
    config._do_configure()
    session = pytest.Session.from_config(config)
    config.hook.pytest_sessionstart(session=session)
    try:
        config.hook.pytest_collection(session=session)
    except pytest.UsageError as error:
        failures.texts.append(str(error))
    if failures.texts:
        return "cannot collect what the driver collects:\n" + "\n".join(failures.texts)
    there = {here: folder for folder, here in places.items()}
    kept = Kept(session, {item.nodeid: item for item in session.items}, there, _visible())
    config.pluginmanager.register(kept)
    return kept


def _places(job: Job) -> dict[str, str]:
    """The driver's folders → those here; what lies deeper comes first."""
    from dlcheck.shipped import PACKAGE, own_folder

    installed = {"suites": str(own_folder()), "package": str(PACKAGE)}
    found = {
        folder: installed[name]
        for name, folder in job.installed.items()
        if not Path(folder).is_relative_to(job.folder)  # else it was shipped
    }
    found[job.folder] = str(Path.cwd())
    return dict(sorted(found.items(), key=lambda pair: len(pair[0]), reverse=True))


def _here(text: str, places: Mapping[str, str]) -> str:
    """A word of the command line with the driver's folders exchanged for those here."""
    for there, here in places.items():
        if there in text:
            return text.replace(there, here)
    return text


def _elsewhere(value: Any, places: Mapping[str, str]) -> Any:
    """A report with the folders of this machine exchanged for those of the driver."""
    if isinstance(value, str):
        for here, there in places.items():
            value = value.replace(here, there) if here != there else value
        return value
    if isinstance(value, dict):
        return {key: _elsewhere(part, places) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_elsewhere(part, places) for part in value)
    return value


def _extend_path(job: Job, places: Mapping[str, str]) -> None:
    """The driver's own folders of modules: those that were shipped, and those that are here too,
    as on a shared file system."""
    for folder in reversed(job.path):
        here = _here(folder, {job.folder: places[job.folder]})
        if os.path.isdir(here):
            if here in sys.path:
                sys.path.remove(here)
            sys.path.insert(0, here)
    importlib.invalidate_caches()


def first_steps(job: dict[str, Any], nodes: Sequence[str]) -> dict[str, Any]:
    """`run_items` where this module may not be on the path yet: shipped as it stands."""
    import os
    import sys

    for folder in reversed(job["path"]):
        shipped = (folder + os.sep).startswith(job["folder"] + os.sep)
        if not shipped and os.path.isdir(folder) and folder not in sys.path:
            sys.path.insert(0, folder)
    from _dlcheck_pytest.ray_tasks import Job, run_items

    return run_items(Job(**job), nodes)


def about_this_machine(modules: Sequence[str]) -> dict[str, Any]:
    """Versions, and which of the modules are absent. Runs before dlcheck is known to be here:
    it is shipped as it stands and uses the standard library only."""
    import importlib.metadata
    import importlib.util
    import platform

    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("ray", "dlcheck", "torch"):
        try:
            versions[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "none" if importlib.util.find_spec(name) is None else "uninstalled"
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    taken: list[str] = []
    try:
        from dlcheck.machine import taken_gpus

        taken += taken_gpus()
    except ImportError:
        pass  # told by the versions
    name = platform.node()
    return {"name": name, "versions": versions, "absent": absent, "taken": taken}
