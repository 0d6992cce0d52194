"""A suite as pytest collects it: a module, a class per subject, a function per check."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from _dlcheck_pytest.benchmarking import run_benchmark_item
from _dlcheck_pytest.running import run_item
from _dlcheck_pytest.state import STATE, state_of

if TYPE_CHECKING:
    from dlcheck.model import BenchmarkTrial, Suite, Trial


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix != ".toml":
        return None
    from dlcheck.suite import is_suite_file

    if is_suite_file(file_path) or parent.session.isinitpath(file_path):
        return SuiteModule.from_parent(parent, path=file_path)
    return None


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if path.suffix == ".toml" and parent.session.isinitpath(path):
        return SuiteModule.from_parent(parent, path=path)  # which says that it is a folder
    return None


class SuiteModule(pytest.Module):
    """A suite file. Its "module" holds one class per subject."""

    def _getobj(self) -> types.ModuleType:
        from dlcheck.errors import UsageError
        from dlcheck.suite import read_suite

        module = types.ModuleType(self.path.stem)
        module.__file__ = str(self.path)
        try:
            suite = read_suite(self.path)
            where = self.nodeid
            for name, subject in _subject_classes(suite, self.config, where, str(self.path)):
                setattr(module, name, subject)
        except UsageError as error:
            raise SuiteCollectError(str(error)) from None
        return module


class SuiteCollectError(pytest.Collector.CollectError):
    """The suite is wrong; the text says where, file by file and line by line."""


class SubjectClass(pytest.Class):
    """One subject: the class whose methods are its checks."""


class PythonSuite(pytest.Class):
    """A `Suite` object in a test file: a class that holds one class per subject."""


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> pytest.Collector | None:
    if isinstance(obj, type) and "__dlcheck_subject__" in vars(obj):
        return SubjectClass.from_parent(collector, name=name)
    if type(obj).__module__ == "dlcheck.model" and type(obj).__name__ == "Suite":
        return _python_suite(collector, name, obj)  # type: ignore[arg-type]
    return None


def _python_suite(collector: pytest.Collector, name: str, suite: Suite) -> pytest.Collector:
    from dlcheck.errors import UsageError
    from dlcheck.suite import check_suite

    file = str(collector.path)
    where = f"{collector.nodeid}::{name}"
    try:
        check_suite(dataclasses.replace(suite, file=suite.file or file))
        inside = dict(_subject_classes(suite, collector.config, where, file))
    except UsageError as error:
        raise SuiteCollectError(str(error)) from None
    node = PythonSuite.from_parent(collector, name=name)
    node.obj = type(name, (), inside)
    return node


def _subject_classes(
    suite: Suite, config: pytest.Config, where: str, file: str
) -> Iterator[tuple[str, type]]:
    from dlcheck.benchmark_plans import CLASS
    from dlcheck.expansion import expand, expand_benchmarks

    state = state_of(config)
    trials = expand(suite, state.overrides, where)
    for name, of_subject in groupby(trials, key=lambda trial: trial.subject.name):
        state.names.add(name)
        functions = {
            check: _check_function(check, list(of_check), config, file)
            for check, of_check in groupby(of_subject, key=lambda trial: trial.check.name)
        }
        yield name, _class_of(name, functions, file)
    if suite.benchmarks:
        points = expand_benchmarks(suite, state.overrides, f"{where}::{CLASS}")
        timed = {
            name: _benchmark_function(name, list(of_plan), config, file)
            for name, of_plan in groupby(points, key=lambda point: point.plan.name)
        }
        state.names |= {plan.subject or plan.name for plan in suite.benchmarks}
        yield CLASS, _class_of(CLASS, timed, file)


def _class_of(name: str, functions: dict[str, Callable[..., None]], file: str) -> type:
    body = {**functions, "__dlcheck_subject__": name, "__module__": Path(file).stem}
    return type(name, (), body)


def _check_function(
    name: str, trials: list[Trial], config: pytest.Config, file: str
) -> Callable[..., None]:
    first = trials[0]
    place = (file, first.subject.line)
    function = _function(_run_trial_item, name, place, first.check.claim)
    return _parametrised(function, trials, first.check.tags | first.subject.tags, config)


def _benchmark_function(
    name: str, trials: list[BenchmarkTrial], config: pytest.Config, file: str
) -> Callable[..., None]:
    """With the fixture of pytest-benchmark where that is active, so that it stores the times."""
    plan = trials[0].plan
    stores = config.pluginmanager.hasplugin("benchmark")
    body = _run_stored_benchmark_item if stores else _run_benchmark_item
    function = _function(body, name, (file, plan.line), "is timed")
    return _parametrised(function, trials, plan.tags | {"benchmark"}, config)


def _function(body: Any, name: str, place: tuple[str, int], claim: str) -> Any:
    """A test function that claims the suite's file and line as its own."""
    file, line = place
    code = body.__code__.replace(co_filename=file, co_firstlineno=max(line, 1), co_name=name)
    function: Any = types.FunctionType(code, body.__globals__, name)
    function.__doc__ = claim
    function.__test__ = True
    return function


def _parametrised(
    function: Any,
    trials: list[Trial] | list[BenchmarkTrial],
    tags: Iterable[str],
    config: pytest.Config,
) -> Callable[..., None]:
    for tag in sorted(tags):
        _register_mark(tag, config)
        function = getattr(pytest.mark, tag)(function)
    params = [
        pytest.param(trial, id=trial.point, marks=[] if trial.device == "cpu" else pytest.mark.gpu)
        for trial in trials
    ]
    return pytest.mark.parametrize("trial", params)(function)


def _register_mark(tag: str, config: pytest.Config) -> None:
    known = {line.partition(":")[0].partition("(")[0] for line in config.getini("markers")}
    if tag not in known:
        config.addinivalue_line("markers", f"{tag}: a tag of a dlcheck suite")


def _run_trial_item(self: object, trial: Trial, request: pytest.FixtureRequest) -> None:
    __tracebackhide__ = True
    run_item(trial, request.node)


def _run_benchmark_item(
    self: object, trial: BenchmarkTrial, request: pytest.FixtureRequest
) -> None:
    __tracebackhide__ = True
    run_benchmark_item(trial, request.node, None)


def _run_stored_benchmark_item(
    self: object, trial: BenchmarkTrial, benchmark: Any, request: pytest.FixtureRequest
) -> None:
    __tracebackhide__ = True
    run_benchmark_item(trial, request.node, benchmark)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`@dlcheck.parametrize(...)`: one test per check that applies."""
    wanted = getattr(metafunc.function, "__dlcheck_parametrize__", None)
    if wanted is None:
        return
    from dlcheck.errors import UsageError
    from dlcheck.validation import trials_of

    if "check" not in metafunc.fixturenames:
        raise SuiteCollectError(
            f"{metafunc.function.__name__} is parametrised by dlcheck.parametrize: it takes an "
            "argument named check, and calls it"
        )
    overrides = state_of(metafunc.config).overrides
    where = metafunc.definition.nodeid
    try:
        trials = trials_of(**wanted, overrides=overrides, where=where)
    except UsageError as error:
        raise SuiteCollectError(str(error)) from None
    short = len({trial.point for trial in trials}) == 1
    metafunc.parametrize(
        "check",
        [CheckCall(trial) for trial in trials],
        ids=[t.check.name if short else f"{t.check.name}-{t.point}" for t in trials],
        indirect=False,
    )


@dataclasses.dataclass(slots=True, eq=False)
class CheckCall:
    """What a parametrised test calls to run its check."""

    trial: Trial
    node: pytest.Item | None = None

    def __call__(self) -> None:
        __tracebackhide__ = True
        run_item(self.trial, self.node)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for value in getattr(getattr(item, "callspec", None), "params", {}).values():
        if isinstance(value, CheckCall):
            value.node = item


def pytest_collection_finish(session: pytest.Session) -> None:
    if STATE in session.config.stash and not hasattr(session.config, "workerinput"):
        _refuse_unknown_swaps(session.config, state_of(session.config).names)
        if not session.items and state_of(session.config).names:
            _refuse_unknown_tags(session.config)


def _refuse_unknown_tags(config: pytest.Config) -> None:
    """`-m` that selects nothing, and names a tag that nothing could have."""
    from dlcheck.errors import unknown

    expression = config.option.markexpr
    words = set() if "(" in expression else set(re.findall(r"[^\W\d]\w*", expression))
    known = {line.partition(":")[0].partition("(")[0] for line in config.getini("markers")}
    for word in sorted(words - {"and", "or", "not", "True", "False"} - known):
        raise pytest.UsageError(f"-m {expression}: {unknown('tag', word, known)}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    if STATE not in node.config.stash or state_of(node.config).shard is not None:
        return  # nothing is swapped; or the subject may have its trials in another shard
    names = {part for nodeid in ids for part in nodeid.split("::")[1:-1]}
    _refuse_unknown_swaps(node.config, names)


def _refuse_unknown_swaps(config: pytest.Config, names: Iterable[str]) -> None:
    from dlcheck.errors import UsageError
    from dlcheck.expansion import refuse_unknown_swaps

    swaps = state_of(config).overrides.targets
    if config.option.collectonly and not swaps:
        return
    try:
        refuse_unknown_swaps(swaps, sorted(names))
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[pytest.CollectReport]:
    report = yield
    excinfo = getattr(getattr(report, "call", None), "excinfo", None)
    if excinfo is not None and isinstance(excinfo.value, SuiteCollectError):
        report.longrepr = str(excinfo.value)
        report.dlcheck_usage = True
    return report
