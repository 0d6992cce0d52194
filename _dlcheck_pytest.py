"""pytest's view of dlcheck: a suite is a module, a subject a class, a check a function.

Items are ordinary `pytest.Function`s, parametrised over the trials of a check, so that selection,
fixtures, marks, xdist, --lf and IDEs work on them as on any test. At import and at collection
nothing but the standard library and pytest is loaded; torch comes with the first trial that runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dlcheck.benchmark import Benchmark
    from dlcheck.expansion import Overrides
    from dlcheck.gate import Gate
    from dlcheck.model import BenchmarkTrial, Outcome, Subject, Suite, Trial
    from dlcheck.results import Run, RunWriter

ONLY_REGRESSIONS, COULD_NOT_MEASURE = 6, 7  # beside pytest's own exit codes 0 to 5
_OPTIONS = {
    "--subject": ("append", "NAME=TARGET", "run a suite's subject NAME on another implementation"),
    "--device": ("append", "DEVICE", "only these devices: cpu, cuda, cuda:1, auto"),
    "--dtype": ("append", "DTYPE", "only these dtypes: float64, float32, bfloat16, float16"),
    "--profile": ("store", "NAME", "how much work: quick, default, thorough"),
    "--seed": ("store", "N", "root of all random streams; 'random' draws one and records it"),
    "--require": ("append", "DEVICE", "fail, rather than skip, where this device is absent"),
    "--trial-timeout": ("store", "SECONDS", "fail a trial that takes longer"),
    "--report": ("store", "FOLDER", "write index.html, summary.md and the record there"),
    "--against": ("store", "RUN", "fail a benchmark that is slower than in this recorded run"),
    "--replicas": ("store", "FILE", "further processes of the benchmarks, as dlcheck run makes"),
}
_STATE = pytest.StashKey["State"]()
_OUTCOME = pytest.StashKey["Outcome"]()
_BENCHMARK = pytest.StashKey["Benchmark"]()
_TREND = pytest.StashKey[tuple[str, str]]()
_SENT = pytest.StashKey[bool]()


class TrialFailed(Exception):
    """Carries an outcome from the trial to its report; its text is the failure message."""

    def __init__(self, outcome: Outcome | Benchmark, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


@dataclasses.dataclass(slots=True)
class State:
    """What one run of pytest knows about its trials."""

    overrides: Overrides
    required: tuple[str, ...]
    report: str
    root: Path
    command: str
    names: set[str] = dataclasses.field(default_factory=set)  # subjects seen at collection
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    benchmarks: list[Benchmark] = dataclasses.field(default_factory=list)
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)
    writer: RunWriter | None = None
    written: list[Path] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)  # what could not be written
    baseline: str = ""  # the run that benchmarks are held against
    others: list[Run] = dataclasses.field(default_factory=list)  # further processes of them
    gate: Gate | None = None  # made where the first benchmark is judged
    failed: int = 0
    trends: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # and in words
    only_usage_errors: bool = True
    usage_errors: int = 0


# --- options and state ------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dlcheck", "dlcheck: suites of deep-learning checks")
    for name, (action, metavar, text) in _OPTIONS.items():
        safe = f"--dlcheck-{name.removeprefix('--')}"
        options = {"action": action, "metavar": metavar, "help": text, "dest": _dest(name)}
        try:
            group.addoption(name, safe, default=None, **options)
        except ValueError:  # another plugin took the short name
            group.addoption(safe, default=None, **options)


def _dest(option: str) -> str:
    return "dlcheck_" + option.removeprefix("--").replace("-", "_")


def pytest_configure(config: pytest.Config) -> None:
    for mark, meaning in {
        "statistical": "judges a random sample with a stated false-alarm rate",
        "benchmark": "measures time or memory",
        "gpu": "runs on a GPU",
        "slow": "takes more than a few seconds",
        "experiment": "trains for seconds; runs where a suite names it in checks",
    }.items():
        config.addinivalue_line("markers", f"{mark}: {meaning} (dlcheck)")
    if hasattr(config, "workerinput"):
        _share_cores(int(config.workerinput.get("workercount", 1)))
    else:
        config.pluginmanager.register(Recorder(config), "dlcheck-recorder")
        if config.getoption(_dest("--against")):
            state_of(config)  # a wrong name is told before anything is collected


def _share_cores(workers: int) -> None:
    """Workers that each use every core wait for each other; set before torch is loaded."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (cores or 1) // workers)))


def state_of(config: pytest.Config) -> State:
    """This run's state; made on first use, so that plain test runs pay nothing for it."""
    if _STATE not in config.stash:
        config.stash[_STATE] = _new_state(config)
    return config.stash[_STATE]


def _new_state(config: pytest.Config) -> State:
    from dlcheck.errors import UsageError
    from dlcheck.expansion import Overrides, parse_swaps
    from dlcheck.results import read_run
    from dlcheck.settings import read_settings

    given = {option: config.getoption(_dest(option)) for option in _OPTIONS}
    here = config.invocation_params.dir
    try:
        settings = read_settings(
            {
                **{name.removeprefix("--"): value for name, value in given.items()},
                "timeout": given["--trial-timeout"],
            },
            here,
        )
        swaps = parse_swaps(given["--subject"] or [])
        _refuse_broken_targets(swaps)
        baseline = _found_baseline(given["--against"], here)
        others = [read_run(Path(given["--replicas"]))] if given["--replicas"] else []
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    seed = _shared_seed(config, settings["seed"].value)
    return State(
        overrides=Overrides(
            targets=swaps,
            devices=settings["device"].value,
            dtypes=settings["dtype"].value,
            profile=settings["profile"].value,
            seed=seed,
            timeout=settings["timeout"].value,
        ),
        required=settings["require"].value,
        report=settings["report"].value,
        root=here,
        command=shlex.join(["pytest", *map(str, config.invocation_params.args)]),
        baseline=baseline,
        others=others,
    )


def _found_baseline(name: str | None, folder: Path) -> str:
    """The path of its record: names like `latest` mean another when this run is recorded."""
    from dlcheck.history import find_run

    return str(find_run(name, folder).absolute()) if name else ""


def _refuse_broken_targets(swaps: dict[str, str]) -> None:
    from dlcheck.errors import UsageError
    from dlcheck.targets import problem_with

    for name, target in swaps.items():
        if problem := problem_with(target):
            raise UsageError(f"--subject {name}={target}: {problem}")


def _shared_seed(config: pytest.Config, seed: int) -> int:
    """The controller's seed, so that every worker draws the same streams."""
    worker = getattr(config, "workerinput", None)
    return int(worker["dlcheck_seed"]) if worker is not None else seed


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["dlcheck_seed"] = state_of(node.config).overrides.seed


# --- collection -------------------------------------------------------------------------------


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
    if _STATE in session.config.stash and not hasattr(session.config, "workerinput"):
        _refuse_unknown_swaps(session.config, state_of(session.config).names)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
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


# --- running ----------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Import every target before the first trial: what source could not settle is settled here."""
    if session.config.option.collectonly or hasattr(session.config, "workerinput"):
        return
    trials = [trial for item in session.items if (trial := trial_of(item)) is not None]
    subjects = {(t.subject.target, t.subject.file): t.subject for t in trials
                if isinstance(t.subject.target, str)}  # fmt: skip
    problems = [text for subject in subjects.values() if (text := _unloadable(subject))]
    if problems:
        raise pytest.UsageError("\n".join(problems))


def _unloadable(subject: Subject) -> str:
    from dlcheck.errors import Problem, TargetError
    from dlcheck.targets import load_target

    try:
        load_target(subject.target, near=subject.file)
    except TargetError as error:
        return str(Problem(str(error), subject.file, subject.line))
    return ""


def run_item(trial: Trial, node: pytest.Item | None) -> None:
    """Run a trial as the body of a test: returns, skips, xfails, or raises TrialFailed."""
    __tracebackhide__ = True
    from dlcheck.model import Verdict
    from dlcheck.runner import run_trial

    outcome = run_trial(trial)
    if node is not None:
        state = state_of(node.config)
        outcome = dataclasses.replace(
            _required(outcome, trial, state), reproduce=_command(node, trial, state)
        )
        node.stash[_OUTCOME] = outcome
    match outcome.verdict:
        case Verdict.PASSED:
            return
        case Verdict.SKIPPED:
            pytest.skip(outcome.message)
        case Verdict.INCONCLUSIVE:
            pytest.skip(f"inconclusive: {outcome.worst}")
        case Verdict.EXPECTED:
            pytest.xfail(outcome.message.splitlines()[0] if outcome.message else "as declared")
    from dlcheck.reporting.terminal import describe

    raise TrialFailed(outcome, describe(outcome))


def run_benchmark_item(trial: BenchmarkTrial, node: pytest.Item, fixture: Any) -> None:
    """Measure a point: returns, skips where it could not be measured, or raises TrialFailed."""
    __tracebackhide__ = True
    from dlcheck.errors import DeviceUnavailable, UsageError
    from dlcheck.reporting.comparison_shown import sentence
    from dlcheck.requirements import why_absent
    from dlcheck.timing.run import run_benchmark

    state = state_of(node.config)
    if absent := why_absent(trial.subject.requires):
        pytest.skip(absent)
    try:
        found = run_benchmark(trial)
    except DeviceUnavailable as error:
        if trial.device.partition(":")[0] in state.required:
            pytest.fail(f"{error}, and --require was given", pytrace=False)
        pytest.skip(str(error))
    except UsageError as error:
        pytest.fail(str(error), pytrace=False)
    found = dataclasses.replace(found, reproduce=_command(node, trial, state))
    node.stash[_BENCHMARK] = found
    if fixture is not None:
        _store(fixture, found)
    if found.fault:
        raise TrialFailed(found, f"{sentence(found)}\nagain: {found.reproduce}")
    if not found.is_measured:
        pytest.skip(sentence(found))
    if state.baseline:
        _hold_against(found, node, state)


def _hold_against(found: Benchmark, node: pytest.Item, state: State) -> None:
    """Raises TrialFailed for a regression, skips where that cannot be told."""
    __tracebackhide__ = True
    from dlcheck.gate import Gate
    from dlcheck.results import environment, read_run

    if state.gate is None:
        name, given = Path(state.baseline), node.config.getoption(_dest("--against"))
        state.gate = Gate(
            name=given, baseline=read_run(name), others=state.others, meta=environment()
        )
    timed = [item for item in node.session.items if _is_benchmark(item)]
    judged = state.gate.judge(found, len(timed))
    told = f"{judged.trend.value} against {state.gate.name}: {judged.told}"
    node.stash[_TREND] = ("unmeasured" if judged.is_unmeasured else judged.trend.value, told)
    if judged.is_regression:
        again = shlex.join(["dlcheck", "run", *shlex.split(found.reproduce)[1:]])
        again += f" --processes {judged.processes[1]} --against {shlex.quote(state.gate.name)}"
        raise TrialFailed(found, f"{told}\nagain: {again}")
    if judged.is_unmeasured:
        pytest.skip(told)


def _is_benchmark(item: pytest.Item) -> bool:
    trial = getattr(getattr(item, "callspec", None), "params", {}).get("trial")
    return hasattr(trial, "plan")


def _store(fixture: Any, found: Benchmark) -> None:
    """Our samples as those of pytest-benchmark, so that its storage and its tables hold them."""
    fixture.params = {"device": found.device, "dtype": found.dtype, **found.params}
    fixture.extra_info["dlcheck"] = {
        name: value
        for name, value in {
            "verdict": found.verdict.value if found.verdict else None,
            "against": found.against.target if found.against else None,
            "ratio": found.ratio.median if found.ratio else None,
            "interval": list(found.ratio.interval) if found.ratio else None,
            "pairs": len(found.subject.seconds),
            "throughput": found.throughput,
            "peak_bytes": found.subject.peak_bytes,
            "refused": found.refused,
        }.items()
        if value not in (None, "")
    }
    fixture.pedantic(_nothing, rounds=1, iterations=found.subject.calls)
    fixture.has_error = bool(found.refused)  # such times are stored nowhere
    if fixture.stats is not None:  # None where it is disabled, as under xdist
        fixture.stats.stats.data[:] = [] if found.refused else found.subject.seconds


def _nothing() -> None:
    """What pytest-benchmark times in place of what is timed already."""


def _required(outcome: Outcome, trial: Trial, state: State) -> Outcome:
    from dlcheck.model import Verdict

    absent = outcome.verdict is Verdict.SKIPPED and not outcome.cases
    if absent and trial.device.partition(":")[0] in state.required:
        message = f"{outcome.message}, and --require {trial.device.partition(':')[0]} was given"
        return dataclasses.replace(outcome, verdict=Verdict.FAILED, message=message)
    return outcome


def _command(node: pytest.Item, trial: Trial | BenchmarkTrial, state: State) -> str:
    """The exact command that runs this trial again, with every override that was in force."""
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
    if trial.profile != "default":
        arguments += ["--profile", trial.profile]
    if trial.seed:
        arguments += ["--seed", str(trial.seed)]
    return shlex.join(arguments)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report = yield
    outcome, timed = item.stash.get(_OUTCOME, None), item.stash.get(_BENCHMARK, None)
    if (outcome is None and timed is None) or call.when != "call":
        return report
    from dlcheck.results import encode, environment, plain

    if outcome is not None:
        report.dlcheck = encode(outcome)
    if timed is not None:
        report.dlcheck_benchmark = timed.to_data()
        report.dlcheck_trend = item.stash.get(_TREND, ("", ""))
    if hasattr(item.config, "workerinput") and _SENT not in item.config.stash:
        # The controller never loads torch: what it knows of devices comes from a worker.
        item.config.stash[_SENT] = True
        report.dlcheck_environment = plain(environment())
    if call.excinfo is not None and isinstance(call.excinfo.value, TrialFailed):
        report.longrepr = str(call.excinfo.value)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, Any] | None:
    verdict = getattr(report, "dlcheck", {}).get("verdict")
    if report.skipped and (verdict == "inconclusive" or hasattr(report, "dlcheck_benchmark")):
        return "inconclusive", "?", ("INCONCLUSIVE", {"yellow": True})
    return None


# --- recording --------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True, eq=False)
class Recorder:
    """Writes down every outcome of one run, from whichever worker it comes.

    Registered once per configuration, and not in workers: a pytest inside pytest keeps its own.
    """

    config: pytest.Config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        encoded = getattr(report, "dlcheck", None)
        timed = getattr(report, "dlcheck_benchmark", None)
        if _STATE in self.config.stash:
            state_of(self.config).failed += report.failed
        if encoded is None and timed is None:
            return
        from dlcheck.benchmark import Benchmark
        from dlcheck.results import decode

        state = state_of(self.config)
        line: Outcome | Benchmark
        if timed is not None:
            line = Benchmark.from_data(timed)
            state.benchmarks.append(line)
            state.trends.append((report.dlcheck_trend[0], report.dlcheck_trend[1]))
        else:
            line = decode(encoded)
            state.outcomes.append(line)
        if not state.meta:
            self._begin(state, getattr(report, "dlcheck_environment", {}))
        if state.writer is not None:
            state.writer.append(line)

    def _begin(self, state: State, found: dict[str, Any]) -> None:
        """Open the record. Where that fails the run goes on, and its end says so."""
        from dlcheck.results import RunWriter, environment, new_run_path

        state.meta = {
            **environment(),
            **found,
            "command": state.command,
            "seed": state.overrides.seed,
            "profile": state.overrides.profile,
        }
        others = [each for run in state.others for each in run.benchmarks]
        if others:
            state.meta["processes"] = 1 + int(state.others[0].meta.get("processes", 1))
        try:
            state.writer = RunWriter(new_run_path(state.root), state.meta)
            for each in others:
                state.writer.append(each)
        except OSError as error:
            state.problems.append(f"no record was written: {error}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.failed:
            return
        state = state_of(self.config)
        state.failed += 1
        if getattr(report, "dlcheck_usage", False):
            state.usage_errors += 1
        else:
            state.only_usage_errors = False


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[pytest.CollectReport]:
    report = yield
    excinfo = getattr(getattr(report, "call", None), "excinfo", None)
    if excinfo is not None and isinstance(excinfo.value, SuiteCollectError):
        report.longrepr = str(excinfo.value)
        report.dlcheck_usage = True
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if hasattr(config, "workerinput") or _STATE not in config.stash:
        return
    state = state_of(config)
    if state.writer is not None:
        state.writer.close(interrupted=exitstatus == pytest.ExitCode.INTERRUPTED)
    if state.outcomes or state.benchmarks:
        _write_reports(state)
    session.exitstatus = _exit_code(exitstatus, state)


def _exit_code(exitstatus: int, state: State) -> int:
    """pytest's, but for what a wrong suite, regressions alone or want of evidence come to."""
    trends = [trend for trend, _ in state.trends]
    if state.usage_errors and state.only_usage_errors and exitstatus in (1, 2):
        return pytest.ExitCode.USAGE_ERROR
    if exitstatus == pytest.ExitCode.TESTS_FAILED and state.failed == trends.count("slower"):
        return ONLY_REGRESSIONS
    if exitstatus == pytest.ExitCode.OK and (
        any(outcome.verdict.value == "inconclusive" for outcome in state.outcomes)
        or not all(benchmark.is_measured for benchmark in state.benchmarks)
        or "unmeasured" in trends
    ):
        return COULD_NOT_MEASURE
    return exitstatus


def _write_reports(state: State) -> None:
    """All that is asked for. What cannot be written is one line at the end, never a lost run."""
    summary_file = os.environ.get("GITHUB_STEP_SUMMARY")
    if not state.report and not summary_file:
        return
    run = _recorded(state)
    if summary_file:
        from dlcheck.reporting.markdown import render_markdown
        from dlcheck.reporting.report import Report

        text = render_markdown(Report.of(run)) + "\n"
        try:
            with open(summary_file, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            state.problems.append(f"no step summary was written: {error}")
    if not state.report:
        return
    from dlcheck.reporting import write_reports

    try:
        state.written = write_reports(run, state.root / state.report)
    except OSError as error:
        state.problems.append(f"no report was written to {state.report}: {error}")


def _recorded(state: State) -> Run:
    """The run from its record; from memory where the record lacks some of it."""
    from dlcheck.errors import UsageError
    from dlcheck.results import Run, read_run

    writer = state.writer
    if writer is not None and writer.lost:
        state.problems.append(
            f"{writer.lost:,} of {writer.written + writer.lost:,} outcomes are not in the record: "
            f"{writer.problem}"
        )
    elif writer is not None:
        with contextlib.suppress(UsageError):
            return read_run(writer.path)
    return Run(state.meta, state.outcomes, state.benchmarks)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if _STATE not in config.stash:
        return
    state = state_of(config)
    if not state.outcomes and not state.benchmarks:
        return
    from dlcheck.reporting.comparison_shown import lines_of
    from dlcheck.reporting.report import Report

    terminalreporter.section("dlcheck")
    for line in _inconclusive(state.outcomes):
        terminalreporter.write_line(line)
    for line in lines_of(state.benchmarks):
        terminalreporter.write_line(line)
    for benchmark, (_, told) in zip(state.benchmarks, state.trends, strict=True):
        if told:
            terminalreporter.write_line(f"{benchmark.id}: {told}")
    if state.outcomes:
        terminalreporter.write_line(Report(state.outcomes, {}).verdict_line)
    if state.writer is not None:
        terminalreporter.write_line(f"record: {os.path.relpath(state.writer.path, state.root)}")
    for path in state.written:
        if path.suffix == ".html":
            terminalreporter.write_line(f"report: {os.path.relpath(path, state.root)}")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from dlcheck.reporting.annotations import workflow_commands

        root = Path(os.environ.get("GITHUB_WORKSPACE") or state.root)
        for command in workflow_commands(state.outcomes, root):
            terminalreporter.write_line(command)
    for problem in state.problems:
        terminalreporter.write_line(f"dlcheck: {problem}", red=True)


def _inconclusive(outcomes: Iterable[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        if outcome.verdict.value == "inconclusive":
            yield f"inconclusive {outcome.id}: {outcome.worst}"


def trial_of(item: pytest.Item) -> Trial | None:
    """The trial that a suite's item runs."""
    trial: Trial | None = getattr(getattr(item, "callspec", None), "params", {}).get("trial")
    return trial if hasattr(trial, "subject") else None
