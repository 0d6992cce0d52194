"""A suite, of layers unless told, over many seeds: what fails, says nothing, or is excepted.

python benchmarks/layers.py [--suite suites/layers.toml] [--seeds 20] [--first-seed 0]
                            [--profile default] [--device cpu] [--only NAME]
                            [--processes 1] [--log FILE] [--write reports/layers.md]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from markdown import Table, circumstances, replace_section, section

from dlcheck.expansion import Overrides, Trial, expand
from dlcheck.model import Outcome, Verdict
from dlcheck.runner import run_trial
from dlcheck.suite import read_suite

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Layers, measured"
_CHOSEN: list[Trial] = []  # trials cannot be pickled: processes are forked once they are here
VERDICTS = (
    Verdict.PASSED,
    Verdict.FAILED,
    Verdict.INCONCLUSIVE,
    Verdict.ERRORED,
    Verdict.EXPECTED,
    Verdict.SKIPPED,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What is told of an outcome; it crosses from one process to another."""

    id: str
    subject: str
    check: str
    seed: int
    verdict: Verdict
    seconds: float
    tightness: float
    case: str
    measured: str
    message: str

    @classmethod
    def of(cls, outcome: Outcome) -> Found:
        worst = outcome.worst
        return cls(
            id=outcome.id,
            subject=outcome.subject,
            check=outcome.check,
            seed=outcome.seed,
            verdict=outcome.verdict,
            seconds=outcome.seconds,
            tightness=worst.tightness if worst else 0.0,
            case=outcome.case,
            measured=f"{worst.what} {worst.cause}: {worst}" if worst else "",
            message=outcome.message.partition("\n")[0]  # the reason that the suite gives
            if outcome.verdict is Verdict.EXPECTED
            else outcome.message[-600:],
        )


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", type=Path, default=ROOT / "suites" / "layers.toml")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--profile", default="default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="trials whose name contains this")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--log", type=Path, metavar="FILE", help="what did not pass, as JSON lines")
    parser.add_argument("--write", type=Path, metavar="FILE")
    return parser.parse_args()


def trials(options: argparse.Namespace) -> Iterator[Trial]:
    suite = read_suite(options.suite)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        overrides = Overrides(devices=(options.device,), profile=options.profile, seed=seed)
        for trial in expand(suite, overrides, suite.name):
            if options.only in trial.id:
                yield trial


def run(place: int) -> Found:
    torch.set_num_threads(1)
    trial = _CHOSEN[place]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that are deprecated
        return Found.of(run_trial(trial))


def outcomes(options: argparse.Namespace) -> Iterator[Found]:
    """As they come; those that did not pass go to the log."""
    log = options.log.open("w") if options.log else None
    _CHOSEN[:] = trials(options)
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        for outcome in pool.imap(run, range(len(_CHOSEN)), chunksize=16):
            yield outcome
            if log and outcome.verdict not in (Verdict.PASSED, Verdict.SKIPPED):
                print(json.dumps(asdict(outcome), default=str), file=log, flush=True)


def tables(found: Iterable[Found]) -> Iterator[Table]:
    verdicts: dict[int, Counter[Verdict]] = defaultdict(Counter)
    seconds: Counter[int] = Counter()
    excepted: dict[tuple[str, str], list[Found]] = defaultdict(list)
    wrong: list[Found] = []
    for outcome in found:
        verdicts[outcome.seed][outcome.verdict] += 1
        seconds[outcome.seed] += outcome.seconds
        if outcome.verdict is Verdict.EXPECTED:
            excepted[outcome.subject, outcome.check].append(outcome)
        elif not outcome.verdict.is_good:
            wrong.append(outcome)
    yield Table(
        title="Trials",
        columns=["seed", *(verdict.value for verdict in VERDICTS), "s"],
        rows=[
            [seed, *(counts[verdict] for verdict in VERDICTS), round(seconds[seed])]
            for seed, counts in sorted(verdicts.items())
        ],
        note="Expected: failures that the suite declares, strictly; they are listed below. "
        "Skipped: checks that the subject gives nothing to measure for.",
    )
    yield Table(
        title="Exceptions",
        columns=["subject", "check", "why", "error / bound", "seeds"],
        rows=[
            [
                subject,
                check,
                same[0].message,
                max(one.tightness for one in same),
                f"{len(same)} of {len(verdicts)}",
            ]
            for (subject, check), same in sorted(excepted.items())
        ],
    )
    yield Table(
        title="Neither passed nor expected",
        columns=["trial", "seed", "verdict", "case", "measured"],
        rows=[
            [one.id, one.seed, one.verdict.value, one.case, one.measured or one.message[-200:]]
            for one in wrong
        ],
    )


def main() -> None:
    options = asked()
    started = time.perf_counter()
    found = list(tables(outcomes(options)))
    where = f"{circumstances(torch.device(options.device))}, {time.perf_counter() - started:,.0f} s"
    title = f"{options.suite.name}, profile {options.profile}"
    text = section(title, where, found)
    print(text)
    if options.write is not None:
        replace_section(options.write, TITLE, text)


if __name__ == "__main__":
    main()
