"""What a trial costs, what a worker costs, and what more workers gain: measured, then extrapolated.

Runs a part of the shipped suites (`dlcheck run -n k --shard 1/P`) by turns on 1, 2 and 4 workers,
and one trial alone, which costs what every run pays. Ratios are of runs of the same round. The
processor time of the controller is read from /proc (hence Linux).

    OMP_NUM_THREADS=1 python benchmarks/scaling.py --output reports/scaling.md

On a quiet machine: all else that runs takes cores away from the second worker. `--part 1/1` runs
the suites whole. `--record FILE` extrapolates from the seconds of another run, as that of a GPU;
`--price 2.5` says what an hour of a device costs you.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, quantiles

import torch
from markdown import Table, circumstances, replace_section, section
from scaling_model import (
    Interval,
    bounds,
    by_subject,
    efficiencies,
    predicted,
    saturation,
    serial_share,
)
from scaling_runs import Measured, Study, studied, trials_of


def tables(
    study: Study, trials: Mapping[str, Sequence[float]], options: argparse.Namespace
) -> Iterator[Table]:
    costs = study.costs
    own = [seconds for each in trials.values() for seconds in each]
    cuts = quantiles(own, n=100)
    yield Table(
        title="What a trial and a run cost the processor",
        columns=["cost", "seconds"],
        rows=[
            ["a trial: mean", fmean(own)],
            ["median", cuts[49]],
            ["of 99 in 100 at most", cuts[98]],
            ["longest", max(own)],
            ["besides, in the controller (d)", costs.controller],
            ["that a worker names it to the controller (e)", costs.named],
            ["that a worker collects it (c)", costs.collected],
            ["a run: start and imports (s)", costs.start],
        ],
        note=f"{len(own):,} trials of {len(trials):,} subjects, which had a core for "
        f"{study.share:.0%} of the time that they took. One controller keeps "
        f"k* = {saturation(own, costs):,.0f} workers busy.",
    )
    yield speedups(study)
    yield extrapolated(study, trials, options)


def speedups(study: Study) -> Table:
    rows: list[list[object]] = []
    seconds = {k: median(each.seconds for each in found) for k, found in study.parts.items()}
    for k, speedup, share in efficiencies(seconds):
        rounds = zip(study.parts[1], study.parts[k], strict=True)
        ratios = sorted(one.seconds / several.seconds for one, several in rounds)
        said = fmean(expected(study, each, k) for each in study.parts[1])
        load = max(each.load for each in study.parts[k])
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        rows.append([k, seconds[k], f"{speedup:.2f}", spread, share, said, load])
    return Table(
        title="Workers on this machine",
        columns=["workers", "seconds", "speed-up", "of rounds", "Amdahl's share", "the model says",
                 "load before"],
        rows=rows,
        note=f"{os.cpu_count()} cores; the model takes no more workers than these. Of a part of "
        f"this size F is {share_of(study):.0%} of a run on one worker; of all "
        f"{study.collected:,} trials it would be {share_of(study, whole=True):.0%}."
        + ("" if study.is_quiet else " **Others used this machine: no speed-up was measured.**"),
    )  # fmt: skip


def share_of(study: Study, *, whole: bool = False) -> float:
    """Amdahl's serial share, of the part that was run or of all trials."""
    own = [study.share * seconds for _, seconds in study.parts[1][0].trials]
    times = round(study.collected / len(own)) if whole else 1
    return serial_share(own * times, study.costs, study.collected)


def expected(study: Study, one: Measured, workers: int) -> float:
    """Seconds on so many workers, from the trials' own on one, as far as there are cores."""
    own = [study.share * seconds for _, seconds in one.trials]
    workers = min(workers, os.cpu_count() or workers)
    return bounds(own, workers, study.costs, study.collected).expected


def extrapolated(
    study: Study, trials: Mapping[str, Sequence[float]], options: argparse.Namespace
) -> Table:
    rows: list[list[object]] = []
    apart = off(study) if study.is_quiet else 0.0
    missed = f", widened by {apart:.0%}, by which the model missed the runs above at most"
    for devices, parts in dict.fromkeys([(1, 1), (8, 1), (options.devices, 1),
                                         (options.devices, options.parts)]):  # fmt: skip
        time_ = predicted(trials, options.trials, devices, study.costs, parts)
        hours = time_.scaled(devices / 3600, apart)
        line = [devices, parts, shown(time_.scaled(1 / 60, apart)), shown(hours)]
        if options.price is not None:
            line.append(shown(hours.scaled(options.price)))
        rows.append(line)
    return Table(
        title=f"A run of {options.trials:,} trials",
        columns=["devices", "controllers", "minutes", "device hours",
                 *(["cost"] if options.price is not None else [])],
        rows=rows,
        note=f"In brackets 95 % over other subjects of the same kinds{missed * study.is_quiet}. "
        "Each worker has a device.",
    )  # fmt: skip


def off(study: Study) -> float:
    """By how much of itself the model missed a measured time at most."""
    missed = [
        abs(expected(study, one, k) / several.seconds - 1)
        for k, found in study.parts.items()
        for one, several in zip(study.parts[1], found, strict=True)
    ]
    return max(missed)


def shown(found: Interval) -> str:
    return f"{found.value:.3g} ({found.low:.3g} to {found.high:.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suites", nargs="*", help="the shipped ones by default")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--part", default="1/16", help="of the suites: --shard's k/N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--record", type=Path, help="take the trials' seconds from this record")
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--devices", type=int, default=64)
    parser.add_argument("--parts", type=int, default=8, help="runs at a time, as --shard makes")
    parser.add_argument("--price", type=float, help="of a device hour, in any currency")
    options = parser.parse_args()
    study = studied(sorted({1, *options.workers}), options.rounds, options)
    if options.record:
        trials = by_subject(trials_of(options.record))
    else:
        pairs = [pair for each in study.parts[1] for pair in each.trials]
        trials = by_subject((name, study.share * seconds) for name, seconds in pairs)
    title = "Workers and trials"
    found = list(tables(study, trials, options))
    text = section(title, circumstances(torch.device("cpu")), found)
    print(text)
    if options.output:
        replace_section(options.output, title, text)


if __name__ == "__main__":
    main()
