"""Runs of suites on several workers, and what they cost: of the clock, and of the processor."""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from scaling_model import Costs

from dlcheck.results import read_run
from dlcheck.shipped import is_optional, suite_paths

_TICKS = os.sysconf("SC_CLK_TCK")
_GLANCE = 0.05
_IDLE = 1.0  # processes that want a core
_PATIENCE = 240.0  # seconds, in which a load of 4 falls to 0.1
_ENDED = (0, 1, 7)  # passed; some failed or could not be measured: they took their time too


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run: its seconds, those of the processor in the controller and in workers, its trials."""

    seconds: float
    controller: float
    workers: float
    trials: Sequence[tuple[str, float]]
    load: float  # of the machine before it, in processes that want a core

    @property
    def work(self) -> float:
        return sum(seconds for _, seconds in self.trials)


def run(workers: int, part: str, arguments: Sequence[str]) -> Measured:
    """One run of suites in a process of its own."""
    load = settled()
    with tempfile.TemporaryDirectory() as folder:
        command = ["dlcheck", "run", *arguments, "-q", "-n", str(workers)]
        command += ["--shard", part, "--report", folder]
        before = _of_children()
        seconds, spent, text = watched(command, Path(folder))
        workers_spent = _of_children() - before - spent
        records = list(Path(folder).glob("*.jsonl"))
        if not records:
            raise RuntimeError(f"{' '.join(command)} left no record:\n{text[-3000:]}")
        trials = list(trials_of(records[0]))
    return Measured(
        seconds=seconds, controller=spent, workers=workers_spent, trials=trials, load=load
    )


def settled() -> float:
    """The load of the machine, once what ran before has left its average: a minute or two."""
    until = time.monotonic() + _PATIENCE
    while (load := os.getloadavg()[0]) > _IDLE and time.monotonic() < until:
        time.sleep(1)
    return load


def watched(command: Sequence[str], folder: Path) -> tuple[float, float, str]:
    """Seconds of the clock and of the processor, and the output, which goes through the folder.

    Raises RuntimeError with the output where the command broke off.
    """
    output = folder / "output"
    began, spent = time.perf_counter(), 0.0
    with output.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=file, stderr=subprocess.STDOUT
        )
        while child.poll() is None:
            spent = _processor(child.pid) or spent
            time.sleep(_GLANCE)
    seconds, text = time.perf_counter() - began, output.read_text()
    if child.returncode not in _ENDED:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}:\n{text[-3000:]}")
    return seconds, spent, text


def naming(tests: int = 5000, many: int = 4) -> float:
    """Seconds of the controller's processor for one trial that one more worker names (e)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "test_plain.py")
        file.write_text("".join(f"def test_number_{k}(): pass\n" for k in range(tests)))
        plain = ["pytest", "-q", "-p", "no:cacheprovider", str(file), "-n"]
        few, more = (watched([*plain, str(k)], Path(folder))[1] for k in (1, many))
    return max(more - few, 1 / _TICKS) / (tests * (many - 1))


def collection(suites: Sequence[str]) -> tuple[int, float]:
    """How many trials these suites have, and the seconds of the processor to collect one (c)."""
    paths = [suite_paths().get(name, Path(name)) for name in suites]
    smallest = min(paths, key=lambda path: path.stat().st_size)
    counts, spent = [], []
    for chosen in (suites, [str(smallest)]):
        with tempfile.TemporaryDirectory() as folder:
            command = ["dlcheck", "run", *chosen, "--device", "cpu", "--collect-only", "-qq"]
            _, processor, text = watched(command, Path(folder))
        counts.append(sum(map(int, re.findall(r": (\d+)$", text, re.MULTILINE))))
        spent.append(processor)
    if len(paths) == 1:  # an upper bound: its start is in it
        return counts[0], spent[0] / counts[0]
    return counts[0], (spent[0] - spent[1]) / (counts[0] - counts[1])


def trials_of(record: Path) -> Iterator[tuple[str, float]]:
    """(suite and subject, seconds) of each trial of a record that was not skipped."""
    for outcome in read_run(record).outcomes:
        if outcome.verdict.value != "skipped":
            yield f"{outcome.suite}::{outcome.subject}", outcome.seconds


def _of_children() -> float:
    """Seconds of the processor of all processes that ended, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _processor(process: int) -> float:
    """Seconds of the process itself, without its children; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Rounds of runs: by workers those of a part, and one of a single trial."""

    parts: Mapping[int, Sequence[Measured]]
    single: Sequence[Measured]
    collected: int  # trials of all parts together
    costs: Costs
    share: float  # of the processor, in trials

    @property
    def is_quiet(self) -> bool:
        """Was there a core for every process?"""
        runs = [each for found in self.parts.values() for each in found]
        return all(each.load <= (os.cpu_count() or 1) for each in runs) and self.share > 0.8


def costs_of(
    one: Sequence[Measured], single: Sequence[Measured], each: float, collected: int, named: float
) -> Costs:
    """From runs on one worker, of a part and of a single trial; medians over the rounds.

    In seconds of the processor: what others do on the machine moves those of the clock.
    """
    trials, pairs = len(one[0].trials), list(zip(one, single, strict=True))
    fixed = median(alone.workers + alone.controller for alone in single)
    handed = median(run.controller - alone.controller for run, alone in pairs)
    return Costs(
        start=max(fixed - each * collected, 0.0),
        collected=each,
        trial=0.0,  # it is in the processor's seconds of the trials
        controller=max(handed, 1 / _TICKS) / trials,
        named=named,
    )


def given_the_processor(one: Sequence[Measured], single: Sequence[Measured]) -> float:
    """Seconds of the processor in workers for each second of the clock in trials."""
    pairs = zip(one, single, strict=True)
    return median((run.workers - alone.workers) / (run.work - alone.work) for run, alone in pairs)


def studied(workers: Sequence[int], rounds: int, options: argparse.Namespace) -> Study:
    suites = options.suites or [name for name, path in suite_paths().items()
                                if not is_optional(path)]  # fmt: skip
    arguments = [*suites, "--device", "cpu", "--profile", options.profile]
    collected, each = collection(suites)
    print(f"{collected} trials, {1e3 * each:.2f} ms to collect one", flush=True)
    parts: dict[int, list[Measured]] = {k: [] for k in workers}
    single = []
    for number in range(rounds):
        for k in workers if number % 2 == 0 else reversed(workers):
            parts[k].append(run(k, options.part, arguments))
            told(f"round {number + 1}, {k} workers", parts[k][-1])
        single.append(run(1, _ONE, arguments))
        told(f"round {number + 1}, one trial", single[-1])
    costs = costs_of(parts[1], single, each, collected, naming())
    return Study(
        parts=parts,
        single=single,
        collected=collected,
        costs=costs,
        share=given_the_processor(parts[1], single),
    )


_ONE = "1/999999"  # more parts than trials: the first has one


def told(what: str, each: Measured) -> None:
    print(f"{what}: {each.seconds:.1f} s, of which trials {each.work:.1f} s, controller "
          f"{each.controller:.2f} s, load {each.load:.1f}", flush=True)  # fmt: skip
