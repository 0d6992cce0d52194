"""`--ray ADDRESS`: the items of a session run as tasks of Ray, their reports as if here.

Ray places the tasks, runs those of lost nodes again, and asks for more nodes; every report is
taken once, in the driver, where the terminal, the record and all other plugins see it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from _dlcheck_pytest.ray_batches import Batch, batches
from _dlcheck_pytest.ray_cluster import (
    Muffled,
    by_value,
    cluster,
    living,
    look_at_nodes,
    own_path,
)
from _dlcheck_pytest.state import State, state_of
from _dlcheck_pytest.trials import trial_of
from _dlcheck_pytest.workers import told_to_workers
from dlcheck.arguments import without
from dlcheck.errors import UsageError

_RETRIES = 2  # of a task whose process or node is lost; of one with a single trial, one less
_QUEUED = 1000  # tasks that Ray knows of at a time
_GLANCE = 5.0  # seconds between looks at the nodes, while nothing comes


def run_on_ray(session: pytest.Session, address: str) -> bool:
    """Run every item of the session. Raises pytest.UsageError where that cannot be."""
    config = session.config
    if session.testsfailed and not config.option.continue_on_collection_errors:
        raise session.Interrupted(f"{session.testsfailed} errors during collection")
    state = state_of(config)
    try:
        muffled = Muffled(sys.stdout)
        with contextlib.redirect_stdout(muffled), cluster(address, shipped_folder(config)) as ray:
            state.notes += look_at_nodes(ray, _modules(session.items))
            try:
                Loop(session, state, ray).run()
            finally:
                if muffled.again:
                    tasks = "1 task" if muffled.again == 1 else f"{muffled.again:,} tasks"
                    state.notes.append(f"{tasks} lost a process or a node of Ray, and ran again")
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    return True


def shipped_folder(config: pytest.Config) -> Path:
    """The root of the project where the run was started inside of it, else the working folder."""
    here = config.invocation_params.dir
    return config.rootpath if config.rootpath in (here, *here.parents) else here


def _modules(items: Sequence[pytest.Item]) -> list[str]:
    """The packages that the subjects are from, as far as they are named by import path."""
    trials = [trial for item in items if (trial := trial_of(item)) is not None]
    targets = {t.subject.target for t in trials if isinstance(t.subject.target, str)}
    modules = {target.partition(":")[0] for target in targets}
    return sorted({m.partition(".")[0] for m in modules if m.replace(".", "").isidentifier()})


@dataclasses.dataclass(slots=True, eq=False)
class Loop:
    """One run: what waits, what Ray works on, what came."""

    session: pytest.Session
    state: State
    ray: Any
    waiting: dict[str, pytest.Item] = dataclasses.field(default_factory=dict)
    queue: list[Batch] = dataclasses.field(default_factory=list)
    running: dict[Any, Batch] = dataclasses.field(default_factory=dict)
    quiet_since: float = 0.0  # nothing could run since then; 0 where something can

    def run(self) -> None:
        session, ray = self.session, self.ray
        up = living(ray)
        resources = [node["Resources"] for node in up]
        with_gpus = any(node.get("GPU") for node in resources) or "cuda" in self.state.required
        self.waiting = {item.nodeid: item for item in session.items}
        self.queue = batches(session.items, self._seconds(), resources, with_gpus=with_gpus)[
            ::-1
        ]  # taken from the end
        self.state.cluster = {
            "version": ray.__version__,
            "nodes": len(up),
            "CPUs": sum(node.get("CPU", 0) for node in resources),
            "GPUs": sum(node.get("GPU", 0) for node in resources),
        }
        task = ray.remote(by_value(_task()))
        job = ray.put(self._job())
        try:
            while self.queue or self.running:
                self._submit(task, job)
                self._take()
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
                if session.shouldstop:
                    raise session.Interrupted(session.shouldstop)
        finally:
            for one in self.running:
                ray.cancel(one, force=True)

    def _job(self) -> dict[str, Any]:
        from dlcheck.shipped import PACKAGE, own_folder

        config = self.session.config
        folder = shipped_folder(config)
        words = [str(word) for word in config.invocation_params.args]
        given = {word.partition("=")[0] for word in words}
        if config.inipath is not None and not given & {"-c", "--config-file"}:
            words += ["-c", str(config.inipath)]
        if "--rootdir" not in given:
            words.append(f"--rootdir={config.rootpath}")
        return {
            "token": uuid.uuid4().hex,
            "arguments": (*_for_tasks(words), "-p", "no:randomly"),
            "folder": str(folder),
            "inside": os.path.relpath(config.invocation_params.dir, folder),
            "installed": {"package": str(PACKAGE), "suites": str(own_folder())},
            "path": own_path(),
            "told": told_to_workers(config),
        }

    def _seconds(self) -> dict[str, float]:
        """How long each item took in the last run, for batches of about one length."""
        from dlcheck.history import runs
        from dlcheck.results import read_run

        for path in runs(self.state.root)[:1]:
            try:
                return {outcome.id: outcome.seconds for outcome in read_run(path).outcomes}
            except UsageError:
                break
        return {}

    def _submit(self, task: Any, job: Any) -> None:
        while self.queue and len(self.running) < _QUEUED:
            batch = self.queue.pop()
            asks = task.options(
                num_cpus=batch.cpus, num_gpus=batch.gpus, max_retries=_retries(batch)
            )
            self.running[asks.remote(job, batch.nodes)] = batch

    def _take(self) -> None:
        """What is done by now; after a while of nothing, a look at the nodes."""
        wait, running = self.ray.wait, list(self.running)
        done, rest = wait(running, num_returns=1, timeout=_GLANCE)
        if not done:
            self._look()
            return
        self.quiet_since = 0.0
        more, _ = wait(rest, num_returns=len(rest), timeout=0) if rest else ([], [])
        for one in (*done, *more):
            self._receive(one, self.running.pop(one))

    def _receive(self, one: Any, batch: Batch) -> None:
        errors = self.ray.exceptions
        try:
            answer = self.ray.get(one)
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            raise UsageError(f"a task of Ray did not start: {_end_of(error)}") from None
        except errors.RayError as error:  # the process or its node was lost too often
            self._lost(batch, error)
            return
        if "stale" in answer:
            self.queue.append(batch)
            return
        if "refused" in answer:
            raise UsageError(f"a node of Ray cannot run the trials: {answer['refused']}")
        for node, reports in answer["reports"]:
            if self.session.shouldfail or self.session.shouldstop:
                return
            self._report(node, reports)

    def _report(self, node: str, reports: Sequence[dict[str, Any]]) -> None:
        """As pytest does for an item of this process. Each item once, whatever Ray repeats."""
        item = self.waiting.pop(node, None)
        if item is None:
            return
        hook, config = self.session.config.hook, self.session.config
        hook.pytest_runtest_logstart(nodeid=node, location=item.location)
        for sent in reports:
            report = hook.pytest_report_from_serializable(config=config, data=sent)
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=node, location=item.location)

    def _lost(self, batch: Batch, error: Exception) -> None:
        """One of a batch ends its process, again and again; alone, it is seen which."""
        if len(batch.nodes) > 1:
            self.queue += batch.singly()
            return
        from _dlcheck_pytest.ray_crash import crash_reports

        item = self.waiting[batch.nodes[0]]
        self._report(
            item.nodeid, crash_reports(item, self.state, _end_of(error), 1 + _retries(batch))
        )

    def _look(self) -> None:
        """Stop where no node could run what waits, for longer than is allowed."""
        up = living(self.ray)
        todo = (*self.running.values(), *self.queue)
        if any(batch.fits(node["Resources"]) for batch in todo for node in up):
            self.quiet_since = 0.0
            return
        now = time.monotonic()
        if not self.quiet_since:
            self.quiet_since = now
            self._say(f"no node can run the {len(self.waiting):,} trials that are left; waiting "
                      f"{self.state.ray_timeout:g} s for one")  # fmt: skip
        elif now - self.quiet_since > self.state.ray_timeout:
            asked = max(todo, key=lambda batch: (batch.gpus, batch.cpus))
            raise self.session.Interrupted(
                f"no node of Ray has {asked.cpus:g} CPUs and {asked.gpus} GPUs any more; "
                f"{len(self.waiting):,} trials were not run (--ray-timeout waits longer)"
            )

    def _say(self, text: str) -> None:
        terminal = self.session.config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.write_line(f"dlcheck: {text}", yellow=True)


def _retries(batch: Batch) -> int:
    """Ray counts what the machine did to a task, not what a trial raises."""
    return _RETRIES if len(batch.nodes) > 1 else _RETRIES - 1


def _task() -> Any:
    from _dlcheck_pytest.ray_tasks import first_steps

    return first_steps


def _for_tasks(words: Sequence[str]) -> list[str]:
    """The driver's command line without what is the driver's alone: the cluster, the shard."""
    return without(
        words,
        {f"--{prefix}{name}" for prefix in ("", "dlcheck-")
         for name in ("ray", "ray-timeout", "shard", "balance")},
    )  # fmt: skip


def _end_of(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1][:400] if lines else type(error).__name__
