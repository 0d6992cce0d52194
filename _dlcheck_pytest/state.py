"""The options of dlcheck, and what one run of pytest knows about its trials."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess

    from dlcheck.benchmark import Benchmark
    from dlcheck.crashes import Running
    from dlcheck.expansion import Overrides
    from dlcheck.failures import Failures
    from dlcheck.gate import Gate
    from dlcheck.model import Outcome
    from dlcheck.results import Run, RunWriter
    from dlcheck.shards import Shard

ONLY_REGRESSIONS, COULD_NOT_MEASURE = 6, 7  # beside pytest's own exit codes 0 to 5
OPTIONS = {
    "--subject": ("append", "NAME=TARGET", "run a suite's subject NAME on another implementation"),
    "--device": ("append", "DEVICE", "only these devices: cpu, cuda, cuda:1, auto"),
    "--dtype": ("append", "DTYPE", "only these dtypes: float64, float32, bfloat16, float16"),
    "--profile": ("store", "NAME", "how much work: quick, default, thorough, ci, nightly"),
    "--seed": ("store", "N", "root of all random streams; 'random' draws one and records it"),
    "--require": ("append", "DEVICE", "fail, rather than skip, where this device is absent"),
    "--trial-timeout": ("store", "SECONDS", "fail a trial that takes longer"),
    "--trial-memory": ("store", "BYTES", "fail a trial that allocates more: 4GiB, 512MB, none"),
    "--plugin": ("append", "MODULE", "read the checks and references of this module too"),
    "--report": ("store", "FOLDER", "write index.html, summary.md and the record there"),
    "--resume": (
        "store",
        "RUN",
        "take over what this run recorded (latest: the last), do the rest",
    ),
    "--lock": ("store_true", "", "write suite.lock: what ran now must run from now on"),
    "--shard": ("store", "k/N", "run only the k-th of N parts; see: dlcheck merge --help"),
    "--balance": ("store", "RUN", "cut the shards by the seconds of this recorded run"),
    "--ray": ("store", "ADDRESS", "run the trials as tasks of Ray: local, auto or HOST:PORT"),
    "--ray-timeout": ("store", "SECONDS", "give up when no node of Ray could run a trial so long"),
    "--against": ("store", "RUN", "fail a benchmark that is slower than in this recorded run"),
    "--replicas": ("store", "FILE", "further processes of the benchmarks, as dlcheck run makes"),
}
STATE = pytest.StashKey["State"]()
OUTCOME = pytest.StashKey["Outcome"]()
BENCHMARK = pytest.StashKey["Benchmark"]()
TREND = pytest.StashKey[tuple[str, str]]()
SENT = pytest.StashKey[bool]()
STALE = pytest.StashKey[bool]()  # recorded earlier, and edited since
MENDED = pytest.StashKey[str]()  # the ID of a failure that passes now


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
    failures: Failures
    told: frozenset[str] = frozenset()  # settings that somebody made, wherever
    plugins: tuple[str, ...] = ()  # modules of --plugin
    surroundings: tuple[str, ...] = ()  # arguments that decide what pytest sees
    names: set[str] = dataclasses.field(default_factory=set)  # subjects seen at collection
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    benchmarks: list[Benchmark] = dataclasses.field(default_factory=list)
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)
    writer: RunWriter | None = None
    written: list[Path] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)  # what could not be written
    notes: list[str] = dataclasses.field(default_factory=list)  # what a reader should know
    ray: str = ""  # the address of a cluster
    ray_timeout: float = 600.0
    cluster: dict[str, Any] = dataclasses.field(default_factory=dict)  # what it is, in the record
    workers: int = 0  # processes that run trials side by side; 0 where this one does
    unkept: list[str] = dataclasses.field(default_factory=list)  # why a failure was not kept
    baseline: str = ""  # the run that benchmarks are held against
    others: list[Run] = dataclasses.field(default_factory=list)  # further processes of them
    shard: Shard | None = None
    times: dict[str, float] = dataclasses.field(default_factory=dict)  # by node id, to cut by
    cut: dict[str, Any] = dataclasses.field(default_factory=dict)  # known after collection
    gate: Gate | None = None  # made where the first benchmark is judged
    earlier: Run | None = None  # that goes on here
    known: dict[str, Outcome] = dataclasses.field(default_factory=dict)  # its outcomes by ID
    stale: int = 0  # recorded there, and edited since
    deselected: int = 0  # trials, by whatever
    failed: int = 0
    trends: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # and in words
    only_usage_errors: bool = True
    usage_errors: int = 0
    running: Running | None = None  # where this process says which trial it runs
    sentinel: subprocess.Popen[bytes] | None = None


def dest_of(option: str) -> str:
    return "dlcheck_" + option.removeprefix("--").replace("-", "_")


def state_of(config: pytest.Config) -> State:
    """This run's state; made on first use, so that plain test runs pay nothing for it."""
    if STATE not in config.stash:
        config.stash[STATE] = _new_state(config)
    return config.stash[STATE]


def _new_state(config: pytest.Config) -> State:
    from dlcheck.errors import UsageError
    from dlcheck.expansion import Overrides, parse_swaps
    from dlcheck.failures import Failures
    from dlcheck.registry import use_plugins
    from dlcheck.results import read_run
    from dlcheck.settings import DEFAULT, read_settings
    from dlcheck.shards import read_shard

    given = {option: config.getoption(dest_of(option)) for option in OPTIONS}
    here = config.invocation_params.dir
    try:
        settings = read_settings(
            {
                **{name.removeprefix("--"): value for name, value in given.items()},
                "timeout": given["--trial-timeout"],
                "memory": given["--trial-memory"],
            },
            here,
        )
        use_plugins(settings["plugin"].value)
        swaps = parse_swaps(given["--subject"] or [])
        _refuse_broken_targets(swaps)
        baseline = _found_baseline(given["--against"], here)
        shard = read_shard(given["--shard"]) if given["--shard"] else None
        times = _recorded_times(given["--balance"], shard, here)
        earlier = _earlier_run(config, given["--resume"], here)
        patience = _refuse_beside_ray(config, given)
        _refuse_to_lock_what_is_drawn(given["--lock"], drawn=settings["seed"].drawn)
        others = [read_run(Path(given["--replicas"]))] if given["--replicas"] else []
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    seed = _shared_seed(config, settings["seed"].value)
    if earlier is not None and settings["seed"].source == "default":
        seed = int(earlier.meta.get("seed", seed))
    state = State(
        overrides=Overrides(
            targets=swaps,
            devices=settings["device"].value,
            dtypes=settings["dtype"].value,
            profile=settings["profile"].value,
            seed=seed,
            timeout=settings["timeout"].value,
            memory=settings["memory"].value,
        ),
        required=settings["require"].value,
        report=settings["report"].value,
        root=here,
        command=shlex.join(["pytest", *map(str, config.invocation_params.args)]),
        failures=Failures(here),
        told=frozenset(name for name, each in settings.items() if each.source != DEFAULT),
        plugins=settings["plugin"].value,
        surroundings=surroundings_of(config),
        baseline=baseline,
        others=others,
        ray=given["--ray"] or "",
        ray_timeout=patience,
        shard=shard,
        times=times,
        earlier=earlier,
    )
    if earlier is not None and not hasattr(config, "workerinput"):
        _refuse_another_run(earlier, state)
        _name_what_ran(earlier, state)
    return state


def overrides_of(state: State) -> dict[str, Any]:
    """What the command line changed in every suite, as far as it is not told elsewhere."""
    given = state.overrides
    return {
        "subject": dict(given.targets),
        "device": list(given.devices),
        "dtype": list(given.dtypes),
        "timeout": given.timeout,
        "memory": given.memory,
    }


def _earlier_run(config: pytest.Config, name: str | None, folder: Path) -> Run | None:
    """The run to go on with. A worker is told which: `latest` is another by now."""
    from dlcheck.history import find_run
    from dlcheck.results import read_run

    worker = getattr(config, "workerinput", None)
    if worker is not None:
        path = worker.get("dlcheck_resume")
        return read_run(Path(path)) if path else None
    return read_run(find_run(name, folder).absolute()) if name else None


def _name_what_ran(earlier: Run, state: State) -> None:
    """What was running when the process of that run ended runs again, and is a suspect."""
    from dlcheck.crashes import forget, running_at_the_end

    if earlier.path is None:
        return
    for path, node in running_at_the_end(state.root, earlier.path.resolve()):
        state.notes.append(f"{node} was running when that process ended; it ran again")
        forget(path)


def _refuse_another_run(earlier: Run, state: State) -> None:
    """Outcomes of other code or other overrides say nothing about these."""
    from dlcheck.results import environment
    from dlcheck.sameness import differences

    own = {
        **environment(),
        "seed": state.overrides.seed,
        "profile": state.overrides.profile,
        "overrides": overrides_of(state),
    }
    if found := list(differences(earlier.meta, own)):
        raise pytest.UsageError(
            f"--resume: {earlier.path} was recorded otherwise, then and now: {'; '.join(found)}. "
            f"It ran: {earlier.meta.get('command', 'unknown')}"
        )


def surroundings_of(config: pytest.Config) -> tuple[str, ...]:
    """A worker's own arguments are not those that were typed: the controller hands them on."""
    from _dlcheck_pytest.commands import surroundings

    worker = getattr(config, "workerinput", None)
    if worker is not None:
        return tuple(worker["dlcheck_surroundings"])
    return surroundings([str(word) for word in config.invocation_params.args])


def _refuse_beside_ray(config: pytest.Config, given: dict[str, Any]) -> float:
    """Seconds that a run waits for a node. Raises UsageError for what Ray cannot do too."""
    from dlcheck.errors import UsageError

    text = given["--ray-timeout"] or "600"
    try:
        patience = float(text)
    except ValueError:
        patience = -1.0
    if not 0 <= patience < float("inf"):
        raise UsageError(f"--ray-timeout takes seconds, as 600, not {text!r}")
    if not given["--ray"]:
        return patience
    others = {
        "-n": getattr(config.option, "numprocesses", None),
        "--pdb": getattr(config.option, "usepdb", None),
        "--against": given["--against"],
        "--processes": given["--replicas"],
        "--resume": given["--resume"],
    }
    for option, value in others.items():
        if value:
            why = "needs one machine" if option.startswith("--") else "has workers of its own"
            raise UsageError(f"--ray does not go with {option}, which {why}: give one of them")
    return patience


def _refuse_to_lock_what_is_drawn(lock: object, *, drawn: bool) -> None:
    from dlcheck.errors import UsageError

    if lock and drawn:
        raise UsageError(
            "--lock holds later runs with the same seed to this one, and this run draws its seed: "
            "give --seed N"
        )


def _recorded_times(name: str | None, shard: Shard | None, folder: Path) -> dict[str, float]:
    """How long each trial and benchmark of a run took, by node id."""
    from dlcheck.errors import UsageError
    from dlcheck.history import load_run

    if not name:
        return {}
    if shard is None:
        raise UsageError("--balance cuts shards: give --shard k/N too")
    run = load_run(name, folder)
    return {
        **{outcome.id: outcome.seconds for outcome in run.outcomes},
        **{benchmark.id: benchmark.took for benchmark in run.benchmarks},
    }


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
    return int(worker.get("dlcheck_seed", seed)) if worker is not None else seed
