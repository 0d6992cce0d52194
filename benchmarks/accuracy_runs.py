"""Every implementation of the six operations through `dlcheck.validate`, in several processes."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from accuracy_baselines import kernelbench_rejects, outright_rejects
from operations import Operation
from operations_of_products import ATTENTION, CONVOLUTION, MATMUL
from operations_on_rows import CROSS_ENTROPY, LAYER_NORM, SOFTMAX

import dlcheck

OPERATIONS = {
    operation.name: operation
    for operation in (SOFTMAX, LAYER_NORM, MATMUL, CROSS_ENTROPY, CONVOLUTION, ATTENTION)
}


@dataclass(frozen=True, slots=True)
class Task:
    """One implementation in one type at one seed. declared: with its compute_dtype."""

    operation: str
    group: str
    variant: str
    dtype: str
    seed: int
    declared: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What the check, and two fixed tolerances, say of it."""

    task: Task
    verdict: str
    grade: str
    what: str
    tightness: float
    case: str
    message: str
    cases: int
    seconds: float
    assert_close: bool  # does it reject?
    kernelbench: bool


def tasks(options: argparse.Namespace) -> Iterator[Task]:
    counts = {"wrong": options.wrong_seeds, "right": options.right_seeds, "loose": 5}
    for operation in OPERATIONS.values():
        for group, members in operation.groups.items():
            if group not in options.groups.split(","):
                continue
            for variant in members:
                if options.only and options.only not in f"{operation.name}: {variant}":
                    continue
                for dtype in options.dtypes.split(","):
                    for seed in range(options.first_seed, options.first_seed + counts[group]):
                        yield Task(operation.name, group, variant, dtype, seed)
                        if group == "loose":
                            yield Task(operation.name, group, variant, dtype, seed, declared=True)


def run(task: Task) -> Found:
    torch.set_num_threads(1)
    operation = OPERATIONS[task.operation]
    implementation = operation.groups[task.group][task.variant]
    started = time.perf_counter()
    report = dlcheck.validate(
        implementation,
        kind="op",
        inputs=operation.inputs,
        reference=operation.reference,
        checks=["matches_reference"],
        options={"compute_dtype": inside_of(task)} if task.declared else {},
        device="cpu",
        dtype=task.dtype,
        seed=task.seed,
    )
    seconds = time.perf_counter() - started
    (outcome,) = report.outcomes
    worst = outcome.worst
    close, bench = baselines(operation, task)
    return Found(
        task=task,
        verdict=outcome.verdict.value,
        grade=str(worst.values.get("grade", "")) if worst else "",
        what=f"{worst.what} {worst.cause}" if worst else "",
        tightness=worst.tightness if worst else 0.0,
        case=outcome.case,
        message=outcome.message[-300:],
        cases=outcome.cases,
        seconds=seconds,
        assert_close=close,
        kernelbench=bench,
    )


def inside_of(task: Task) -> str:
    """What the author of a loose implementation would declare."""
    return "bfloat16" if task.variant == "three bfloat16 products" else task.dtype


def baselines(operation: Operation, task: Task) -> tuple[bool, bool]:
    implementation = operation.groups[task.group][task.variant]
    dtype = getattr(torch, task.dtype)
    return (
        outright_rejects(operation, implementation, dtype, task.seed),
        kernelbench_rejects(operation, implementation, dtype, task.seed),
    )


def measured(options: argparse.Namespace) -> list[Found]:
    found: list[Found] = []
    chosen = list(tasks(options))
    log = options.log.open("w") if options.log else None
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        for one in pool.imap(run, chosen, chunksize=4):
            found.append(one)
            if log:
                print(json.dumps(asdict(one)), file=log, flush=True)
    return found
