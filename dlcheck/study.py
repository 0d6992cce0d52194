"""`dlcheck.batch_size`: measure, fit, predict the fastest batch, and check the prediction."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dlcheck.benchmarks.batch_size.journal import Journal
from dlcheck.benchmarks.batch_size.setup import Setup, read_setup
from dlcheck.benchmarks.batch_size.stages import Plan, Stages
from dlcheck.errors import UsageError, unknown
from dlcheck.isolation import restored_state
from dlcheck.measure.convergence import Descent, Tuned
from dlcheck.measure.critical_batch import StepLaw, fastest_batch, fit_steps
from dlcheck.measure.footprint import Footprint
from dlcheck.measure.gradient_noise import GradientNoise
from dlcheck.measure.pairs import sign_interval
from dlcheck.measure.throughput import AffineTime, BatchTimes, fit_affine
from dlcheck.reporting.batch_size_study import BatchSizeStudy, Fits, Interval, Point, Scaling

# profile: seconds, seeds, rounds of timing, rows and batches of the gradient noise, 2^k of sizes
_PROFILES: Mapping[str, tuple[float, int, int, int, int, int]] = {
    "quick": (12.0, 2, 9, 256, 60, 2),
    "default": (50.0, 3, 15, 512, 200, 1),
    "thorough": (900.0, 10, 31, 2048, 400, 1),
}
_MOST = 1024  # rows of the largest batch, unless sizes are given


def batch_size(
    training: Any,
    *,
    sizes: Sequence[int] | None = None,
    target: float | None = None,
    budget: float | None = None,
    seconds: float | None = None,
    device: str = "auto",
    profile: str = "default",
    seed: int = 0,
    resume: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> BatchSizeStudy:
    """Which batch size to train with: time, memory, gradient noise and steps against the batch.

    training: a function without arguments, or its import path, that returns a dictionary with
    `model`, `loss` (or `objective`), `data`, and where they differ from the defaults `optimizer`,
    `lr`, `target`, `collate`. sizes: batch sizes, by default powers of 2 up to 1,024 or half of
    the rows. target: the loss that counts as trained. budget: bytes that a step may take; by
    default what is free on a CUDA device. seconds: what convergence may take, about. resume: a
    file that holds what was measured; a study that was cut off goes on there.

    Raises UsageError for a setup or sizes that cannot be studied, SubjectRaised where the user's
    code raises. Source of the laws: McCandlish et al. 2018; Shallue et al. 2019.
    """
    started = time.perf_counter()
    if profile not in _PROFILES:
        raise UsageError(unknown("profile", profile, _PROFILES))
    if seconds is not None and not seconds > 0:
        raise UsageError(f"seconds is what training may take, more than 0, not {seconds!r}")
    where = _device(device)
    with restored_state():
        setup = read_setup(training, where)
        if target is not None:
            setup = replace(setup, target=float(target))
        plan = _plan(setup, profile, sizes, seconds, seed)
        stages = Stages(
            setup,
            plan,
            Journal(Path(resume) if resume else None, _question(setup, plan, seed, where)),
            seed,
            progress or (lambda text: None),
        )
        found = _studied(stages, profile, budget)
    return replace(found, seconds=time.perf_counter() - started)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} is absent: {str(error).splitlines()[0]}") from None
    return device


def _plan(
    setup: Setup, profile: str, sizes: Sequence[int] | None, seconds: float | None, seed: int
) -> Plan:
    budget, seeds, rounds, population, batches, step = _PROFILES[profile]
    rows = len(setup.workload.rows)
    if sizes is None:
        most = max(1, min(_MOST, rows // 2))
        chosen = tuple(2**k for k in range(0, most.bit_length(), step))
    else:
        chosen = _checked(sizes, rows)
    if len(chosen) < 2:
        raise UsageError(f"a study compares batch sizes: {list(chosen)} is one; {rows} rows")
    return Plan(
        sizes=chosen,
        seeds=tuple(range(seed, seed + seeds)),
        seconds=budget if seconds is None else float(seconds),
        rounds=rounds,
        population=population,
        batches=batches,
    )


def _checked(sizes: Sequence[int], rows: int) -> tuple[int, ...]:
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UsageError(f"a batch size is a whole number from 1 on, not {size!r}")
        if size > rows:
            raise UsageError(
                f"a batch of {size} rows cannot be drawn from a data set of {rows}; sizes go up "
                f"to {rows}"
            )
    return tuple(sorted(set(sizes)))


def _question(setup: Setup, plan: Plan, seed: int, device: torch.device) -> dict[str, Any]:
    model = setup.workload.model(seed)
    return {
        "setup": setup.name,
        "rows": len(setup.workload.rows),
        "parameters": sum(p.numel() for p in model.parameters()),
        "sizes": list(plan.sizes),
        "seeds": list(plan.seeds),
        "target": setup.target,
        "lr": setup.workload.rate,
        "device": str(device),
        "torch": torch.__version__,
    }


def _studied(stages: Stages, profile: str, budget: float | None) -> BatchSizeStudy:
    """Every part in turn: cheap ones first, so that a study that is cut off has told something."""
    workload = stages.workload
    refused = stages.usable()
    stages.notes += [f"batch size {b} is refused: {said}" for b, said in refused.items()]
    sizes = [b for b in stages.plan.sizes if b not in refused]
    footprint = stages.footprint(sizes)
    if footprint.limit is not None:
        stages.notes.append(f"batch size {footprint.limit} ran out of memory")
        sizes = [b for b in sizes if b < footprint.limit]
        stages.keep_to(max(sizes, default=1))
    if len(sizes) < 2:
        raise UsageError(
            f"{stages.setup.name}: fewer than two batch sizes can be trained ("
            + "; ".join(stages.notes) + ")"
        )  # fmt: skip
    times = stages.times(sizes)
    noise = stages.noise("at the start", None)
    tuned, target, start = _converged(stages, sizes, times)
    points = _points(sizes, times, footprint, noise, tuned)
    fits = _fits(times, footprint, noise)
    study = BatchSizeStudy(
        name=stages.setup.name,
        device=_device_name(workload.device),
        rows=len(workload.rows),
        parameters=sum(p.numel() for p in workload.model(stages.seed).parameters()),
        profile=profile,
        seed=stages.seed,
        target=target,
        start_loss=start,
        points=points,
        fits=fits,
        environment={"torch": torch.__version__, "threads": torch.get_num_threads()},
    )
    if noise.mode == "eval":
        stages.notes.append(
            "rows depend on each other or on chance in train mode (batch statistics, dropout): "
            "the gradient noise is that of evaluation mode"
        )
    study = _with_budget(study, stages, footprint, budget)
    study = _predicted(study, stages, fit_affine(times), tuned, target)
    return replace(study, notes=tuple(dict.fromkeys(stages.notes)))


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def _converged(
    stages: Stages, sizes: Sequence[int], times: BatchTimes
) -> tuple[dict[int, Tuned], float, float]:
    """Every size at its best learning rate, from the middle outward: each guides the next."""
    seconds = dict(zip(times.sizes, times.medians, strict=True))
    share = stages.plan.seconds / (len(sizes) * (4 + len(stages.plan.seeds)))
    most = {size: max(20, int(share / seconds[size])) for size in sizes}
    middle = len(sizes) // 2
    target, start = stages.target(sizes[middle], most[sizes[middle]])
    if not target < start:
        raise UsageError(
            f"{stages.setup.name}: the target {target:.6g} is no less than the loss at the start, "
            f"{start:.6g}; give a lower one, or a learning rate (lr) at which the loss falls"
        )
    tuned: dict[int, Tuned] = {}
    rate = stages.workload.rate
    for size in sizes[middle:]:
        tuned[size] = stages.tuned(size, rate, target, most[size])
        rate = tuned[size].rate if tuned[size].reached else rate
    rate = tuned[sizes[middle]].rate
    for size in reversed(sizes[:middle]):
        larger = tuned[min(tuned)]
        enough = _ENOUGH * max(larger.steps, default=0.0) * larger.size / size
        tuned[size] = stages.tuned(size, rate, target, max(most[size], math.ceil(enough)))
        rate = tuned[size].rate if tuned[size].reached else rate
    return tuned, target, start


# No law has S(B) fall faster than 1/B: so many times that are enough for a run of a smaller batch.
_ENOUGH = 2.0


def _points(
    sizes: Sequence[int],
    times: BatchTimes,
    footprint: Footprint,
    noise: GradientNoise,
    tuned: Mapping[int, Tuned],
) -> tuple[Point, ...]:
    return tuple(
        replace(
            _timed(size, times),
            bytes=footprint.counted.get(size),
            allocated=footprint.allocated.get(size),
            **_noisy(size, noise),
            **_trained(tuned[size]),
        )
        for size in sizes
    )


def _timed(size: int, times: BatchTimes) -> Point:
    i = times.sizes.index(size)
    return Point(
        size=size,
        seconds=times.medians[i],
        seconds_interval=sign_interval([row[i] for row in times.seconds], 0.95),
    )


def _noisy(size: int, noise: GradientNoise) -> dict[str, Any]:
    if size not in noise.sizes or size == noise.population:  # of all rows there is one batch
        return {}
    i = noise.sizes.index(size)
    return {
        "variance": noise.variances[i],
        "variance_error": noise.deviations[i],
        "variance_law": noise.variance(size),
        "cosine": noise.cosines[i],
        "cosine_law": noise.cosine(size),
    }


def _trained(tuned: Tuned) -> dict[str, Any]:
    return {
        "rate": tuned.rate if tuned.steps else None,
        "diverged_from": tuned.diverged_from,
        "steps": tuned.steps,
        "cut_off": len(tuned.runs) - len(tuned.steps),
    }


def _fits(times: BatchTimes, footprint: Footprint, noise: GradientNoise) -> Fits:
    fit = fit_affine(times)
    return Fits(
        fixed_seconds=fit.fixed,
        seconds_per_row=fit.per_row,
        knee=fit.knee,
        knee_interval=fit.knee_interval,
        time_misfit=fit.misfit,
        fixed_bytes=footprint.fixed,
        bytes_per_row=footprint.per_row,
        memory_misfit=footprint.misfit,
        noise_scale=noise.noise_scale,
    )


def _with_budget(
    study: BatchSizeStudy, stages: Stages, footprint: Footprint, budget: float | None
) -> BatchSizeStudy:
    device = stages.workload.device
    if budget is None and device.type == "cuda":
        budget = float(torch.cuda.mem_get_info(device)[0])
    if budget is None:
        return study
    largest = min(footprint.largest(budget), study.rows)
    return replace(study, budget=float(budget), largest=largest)


def _predicted(
    study: BatchSizeStudy,
    stages: Stages,
    time_law: AffineTime,
    tuned: Mapping[int, Tuned],
    target: float,
) -> BatchSizeStudy:
    """S(B), B* and what follows from them; notes where too few sizes reached the target."""
    for size, found in tuned.items():
        if not found.reached:
            stages.notes.append(_why_not(size, found))
    arrived = {size: found for size, found in tuned.items() if found.reached}
    if len(arrived) < 3:
        stages.notes.append(
            f"{len(arrived)} batch sizes reached the target: no law of steps is fitted; allow more "
            "seconds, or name a higher target"
        )
        return study
    law = fit_steps({size: found.steps for size, found in arrived.items()}, seed=stages.seed)
    study = replace(study, fits=_with_steps(study.fits, law, stages, arrived))
    study = _with_motion(study, stages, arrived)
    return _with_prediction(study, stages, time_law, law, arrived, target)


def _why_not(size: int, found: Tuned) -> str:
    ends = {run.end for run in found.runs}
    if ends == {"diverged"}:
        finite = max((run.rate for run in found.tried if run.end != "diverged"), default=None)
        last = f"; the last finite one is {finite:.3g}" if finite is not None else ""
        return f"batch size {size} diverges at every learning rate that was tried{last}"
    steps = max(run.steps for run in found.runs)
    return (
        f"batch size {size} did not reach the target in {steps:,.0f} steps: it is left out of the "
        "fit, not extrapolated"
    )


def _with_steps(fits: Fits, law: StepLaw, stages: Stages, arrived: Mapping[int, Tuned]) -> Fits:
    middle = arrived[sorted(arrived)[len(arrived) // 2]]
    run = next(run for run in middle.runs if run.reached)
    trained = stages.noise("at the target", run)
    return replace(
        fits,
        noise_scale_trained=trained.noise_scale,
        least_steps=law.least,
        least_steps_interval=law.least_interval,
        critical=law.critical,
        critical_interval=law.critical_interval,
        steps_misfit=law.misfit,
        edge=law.edge,
    )


def _with_motion(
    study: BatchSizeStudy, stages: Stages, arrived: Mapping[int, Tuned]
) -> BatchSizeStudy:
    """Oscillation at the learning rate of the smallest size, and the linear scaling rule."""
    smallest = arrived[min(arrived)]
    middle = arrived[sorted(arrived)[len(arrived) // 2]]
    run: Descent = next(run for run in middle.runs if run.reached)
    jumps = stages.oscillation(sorted(arrived), smallest.rate, run)
    rule = stages.scaling(smallest.rate)
    return replace(
        study,
        points=tuple(replace(p, oscillation=jumps.get(p.size)) for p in study.points),
        scaling=Scaling(
            steps=rule.steps,
            size=rule.size,
            rates=rule.rates,
            differences=rule.differences,
            orders=rule.orders,
        )
        if rule
        else None,
    )


def _with_prediction(
    study: BatchSizeStudy,
    stages: Stages,
    time_law: AffineTime,
    law: StepLaw,
    arrived: Mapping[int, Tuned],
    target: float,
) -> BatchSizeStudy:
    """B* = √(B½ B_c), and a run at that very size where it lies among those that were tried."""
    predicted = fastest_batch(time_law, law)
    if law.edge or not math.isfinite(predicted) or predicted <= 0:
        side = "above" if law.edge == "above" or predicted > max(arrived) else "below"
        stages.notes.append(
            f"the critical batch size lies {side} the sizes that were tried: try "
            f"{'larger' if side == 'above' else 'smaller'} ones; no optimum is predicted"
        )
        return study
    study = replace(
        study, predicted=predicted, predicted_interval=_product(time_law.knee_interval, law)
    )
    size = max(1, min(round(predicted), study.rows))
    if size in arrived or size > max(arrived) or size < min(arrived):
        return replace(study, checked=size if size in arrived else None)
    return _measured_at(study, stages, size, arrived, target)


def _product(knee: Interval, law: StepLaw) -> Interval:
    low, high = zip(knee, law.critical_interval, strict=True)
    return math.sqrt(low[0] * low[1]), math.sqrt(high[0] * high[1])


def _measured_at(
    study: BatchSizeStudy, stages: Stages, size: int, arrived: Mapping[int, Tuned], target: float
) -> BatchSizeStudy:
    near = min(arrived, key=lambda b: abs(math.log(b / size)))
    most = math.ceil(8 * max(arrived[near].steps))
    found = stages.tuned(size, arrived[near].rate, target, most)
    times = stages.times([size], f"time of {size}")
    point = replace(_timed(size, times), **_trained(found))
    points = sorted((*study.points, point), key=lambda p: p.size)
    return replace(study, points=tuple(points), checked=size)
