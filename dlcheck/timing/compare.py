"""`dlcheck.compare`: which of two is faster, by how much, and whether that can be said."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from dlcheck.errors import DeviceUnavailable, SuiteError, UsageError, unknown
from dlcheck.expansion import Overrides, expand_benchmarks
from dlcheck.model import NOTHING, BenchmarkPlan, BenchmarkTrial, Suite
from dlcheck.reporting.comparison import Comparison
from dlcheck.results import environment
from dlcheck.suite import DTYPES, check_suite
from dlcheck.timing.run import BUDGETS, run_benchmark
from dlcheck.validation import found_device


def compare(
    a: Any,
    b: Any = None,
    *,
    inputs: Mapping[str, str] | Mapping[str, Tensor] | Sequence[Tensor] | None = None,
    sizes: Mapping[str, int] = NOTHING,
    sweep: Mapping[str, Sequence[Any]] = NOTHING,
    kind: str = "",
    args: Mapping[str, Any] = NOTHING,
    against_args: Mapping[str, Any] = NOTHING,
    backward: bool = False,
    items: float | str | None = None,
    item: str = "",
    flops: float | str | None = None,
    bytes: float | str | None = None,
    options: Mapping[str, Any] = NOTHING,
    device: str | Sequence[str] = "auto",
    dtype: str | Sequence[str] = "float32",
    profile: str = "default",
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Comparison:
    """Time `a` against `b` in interleaved pairs on the same inputs; or `a` alone.

    a, b: objects, or import paths "pkg.mod:Attr" and "path/file.py:Attr"; modules share their
    parameters. inputs: in the input language, {"x": "float b n"}, with sizes {"b": 64, "n": 1024};
    or tensors, by name or in order. sweep: dim, `device`, `dtype` or constructor argument → values,
    measured at every point. args, against_args: how to build them. backward: time the gradients
    too. items, flops, bytes of one call: numbers, or formulas in the dims and `itemsize`
    ("5 * b * n"), for throughput and the per cent of the machine's ceilings, which are measured.
    profile: quick, default or thorough: how long an undecided ratio is measured.

    A verdict is refused unless the outputs of `a` on these inputs are those of `b`. Raises
    UsageError for a declaration that does not fit.
    """
    if profile not in BUDGETS:
        raise UsageError(unknown("profile", profile, BUDGETS))
    tensors = _tensors(inputs)
    dtypes = [dtype] if isinstance(dtype, str) else list(dtype)
    devices = [device] if isinstance(device, str) else list(device)
    plan = BenchmarkPlan(
        name=_name_of(a),
        target=a,
        against=b,
        kind=kind,
        args=args,
        against_args=against_args,
        inputs=NOTHING if tensors else inputs or NOTHING,  # type: ignore[arg-type]
        sizes=sizes,
        matrix={"device": [found_device(each) for each in devices], "dtype": dtypes, **sweep},
        backward=backward,
        items=items,
        item=item,
        flops=flops,
        bytes=bytes,
        options=options,
    )
    suite = Suite(name="bench", benchmarks=(plan,))
    try:
        check_suite(suite)
    except SuiteError as error:
        raise UsageError("\n".join(problem.message for problem in error.problems)) from None
    trials = list(expand_benchmarks(suite, Overrides(profile=profile, seed=seed)))
    return _measured(trials, tensors, progress)


def _measured(
    trials: Sequence[BenchmarkTrial],
    tensors: Mapping[str, Tensor] | None,
    progress: Callable[[int, int, str], None] | None,
) -> Comparison:
    started, found = time.perf_counter(), []
    for done, trial in enumerate(trials):
        if progress is not None:
            progress(done, len(trials), trial.point)
        if trial.dtype not in DTYPES:
            raise UsageError(unknown("dtype", trial.dtype, DTYPES))
        try:
            found.append(run_benchmark(trial, tensors))
        except DeviceUnavailable as error:
            raise UsageError(str(error)) from None
    return Comparison(found, environment(seconds=time.perf_counter() - started))


def _tensors(inputs: Any) -> dict[str, Tensor] | None:
    """The inputs where they are tensors; None where they are declared."""
    if inputs is None:
        return None
    if isinstance(inputs, Tensor):
        return {"x": inputs}
    if isinstance(inputs, Mapping):
        if any(isinstance(value, Tensor) for value in inputs.values()):
            if wrong := [name for name, x in inputs.items() if not isinstance(x, Tensor)]:
                raise UsageError(f"inputs are all tensors or all texts; {wrong[0]} is no tensor")
            return dict(inputs)
        return None
    if isinstance(inputs, (list, tuple)) and all(isinstance(x, Tensor) for x in inputs):
        return {f"x{i}": x for i, x in enumerate(inputs)}
    raise UsageError(
        f'inputs are a table like {{"x": "float b n"}}, or tensors, not {type(inputs).__name__}'
    )


def _name_of(target: Any) -> str:
    if isinstance(target, str):
        target = target.rpartition(":")[2] or target
    name = target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)
    shown = "".join(letter if letter.isalnum() or letter in "_.+-" else "_" for letter in name)
    return shown.strip("_") or "it"
