"""A call leaves the process as it was: random streams, default type, modes."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlcheck.checks.layer.modes import answers, same_elements
from dlcheck.isolation import restored_state, seed_everything
from dlcheck.model import Evidence
from dlcheck.mutants import around, on_tensors
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build, scatter_parameters


@around
def seeds_torch_for_all(original: Any, *inputs: Any, **keywords: Any) -> Any:
    torch.manual_seed(0)
    return original(*inputs, **keywords)


@around
def seeds_numpy_for_all(original: Any, *inputs: Any, **keywords: Any) -> Any:
    np.random.seed(0)
    random.seed(0)
    return original(*inputs, **keywords)


@around
def sets_the_default_dtype(original: Any, *inputs: Any, **keywords: Any) -> Any:
    torch.set_default_dtype(torch.float64)
    return original(*inputs, **keywords)


@around
def turns_gradients_off(original: Any, *inputs: Any, **keywords: Any) -> Any:
    answer = original(*inputs, **keywords)
    torch.set_grad_enabled(False)
    return answer


@around
def turns_gradients_on(original: Any, *inputs: Any, **keywords: Any) -> Any:
    torch.set_grad_enabled(True)
    return original(*inputs, **keywords)


@around
def detects_anomalies_from_now_on(original: Any, *inputs: Any, **keywords: Any) -> Any:
    torch.autograd.set_detect_anomaly(True)
    return original(*inputs, **keywords)


@around
def takes_all_threads(original: Any, *inputs: Any, **keywords: Any) -> Any:
    torch.set_num_threads(3)
    return original(*inputs, **keywords)


@check(
    kind="tensors",
    rejects=[
        seeds_torch_for_all,
        seeds_numpy_for_all,
        sets_the_default_dtype,
        turns_gradients_off,
        turns_gradients_on,
        detects_anomalies_from_now_on,
        takes_all_threads,
    ],
    once=True,
)
def leaves_the_process_unchanged(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A call changes no switch of the process, and seeds no random stream.

    Default type and device, gradient mode, determinism, anomaly detection, threads, precision of
    products, the environment and the folder, before and after a call with gradients on and one
    with them off, in train and in evaluation. A stream that a call draws from ends elsewhere when
    it starts elsewhere; one that ends at the same place from two starts was seeded.
    """
    scatter_parameters(subject, case.recipe.seed)
    for training in (True, False):
        if subject.module is not None:
            subject.module.train(training)
        mode = "train" if training else "evaluation"
        changed: set[str] = set()
        for grad in (True, False):
            changed |= _changed(subject, case, grad=grad)
        yield _counted(f"switches that a call in {mode} changed", sorted(changed), len(_SWITCHES))
        seeded = _seeded(subject, case)
        yield _counted(f"random streams that a call in {mode} seeds", seeded, len(_STREAMS))
        if subject.module is None:
            return


def _counted(what: str, wrong: list[str], of: int) -> Evidence:
    return Evidence(
        error=float(len(wrong)), bound=0.0, signal=float(of), what=what, where=", ".join(wrong)
    )


_SWITCHES: Mapping[str, Callable[[], Any]] = {
    "the default dtype": torch.get_default_dtype,
    "the default device": torch.get_default_device,
    "gradient mode": torch.is_grad_enabled,
    "inference mode": torch.is_inference_mode_enabled,
    "anomaly detection": torch.is_anomaly_enabled,
    "deterministic algorithms": torch.are_deterministic_algorithms_enabled,
    "the number of threads": torch.get_num_threads,
    "float32 matmul precision": torch.get_float32_matmul_precision,
    "cudnn.benchmark": lambda: torch.backends.cudnn.benchmark,
    "cudnn.deterministic": lambda: torch.backends.cudnn.deterministic,
    "autocast": lambda: torch.is_autocast_enabled("cpu"),
    "the environment": lambda: dict(os.environ),
    "the working directory": os.getcwd,
    "NumPy's error handling": lambda: tuple(np.geterr().items()),
    "warning filters": lambda: len(warnings.filters),
}


def _changed(subject: Implementation, case: Case, *, grad: bool) -> set[str]:
    with restored_state():
        subject(*case.fresh())  # what a first call imports is not counted
    with restored_state():
        torch.set_grad_enabled(grad)
        before = {name: read() for name, read in _SWITCHES.items()}
        seed_everything(case.recipe.seed)
        subject(*case.fresh())
        return {name for name, read in _SWITCHES.items() if read() != before[name]}


_STREAMS: Mapping[str, Callable[[], Any]] = {
    "torch": lambda: torch.get_rng_state().numpy().tobytes(),
    "numpy.random": lambda: repr(np.random.get_state()),
    "random": random.getstate,
}


def _seeded(subject: Implementation, case: Case) -> list[str]:
    """The streams that end at the same place, wherever they start."""
    ends: list[dict[str, Any]] = []
    for seed in (case.recipe.seed, case.recipe.seed + 1):
        with restored_state():
            seed_everything(seed)
            subject(*case.fresh())
            ends.append({name: read() for name, read in _STREAMS.items()})
    return [name for name in _STREAMS if ends[0][name] == ends[1][name]]


@around
def draws_its_weights_in_the_call(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """`torch.randn` in forward, where a parameter was meant."""

    def mixed(y: Tensor) -> Tensor:
        return y + torch.randn(y.shape[-1:], dtype=y.dtype, device=y.device)

    return on_tensors(original(*inputs, **keywords), mixed)


@around
def drops_though_it_declares_nothing(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y * (0.5 + torch.rand_like(y)))


@around
def uses_memory_that_nobody_filled(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """As `torch.empty` gives what lay there before: here by chance."""
    answer = original(*inputs, **keywords)
    return on_tensors(answer, lambda y: y + 1e-3 * random.random())


@check(
    kind="tensors",
    forbids={"stochastic", "stochastic_in_eval"},
    rejects=[
        draws_its_weights_in_the_call,
        drops_though_it_declares_nothing,
        uses_memory_that_nobody_filled,
    ],
    once=True,
)
def draws_no_random_numbers(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Without the trait stochastic, the answer is the same whatever the random streams hold.

    Two instances that are equal answer under two seeds, bit by bit the same. What is random in
    train only is `stochastic`.
    """
    seed_everything(case.recipe.seed)  # an initialization may draw from NumPy
    twin = build(subject.declared, case.sizes, case.device, case.dtype, case.recipe.seed)
    for made in (subject, twin):
        scatter_parameters(made, case.recipe.seed)
    first = answers(subject, case, case.recipe.seed)
    second = answers(twin, case, case.recipe.seed + 1)
    yield from same_elements("a call with another seed", second, first)
