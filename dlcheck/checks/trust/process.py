"""A call leaves the process as it found it: switches, hooks, random streams, and the judge."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from dlcheck import originals
from dlcheck.checks.every.twin import in_dtype
from dlcheck.checks.trust.careless import (
    changes_the_default_dtype,
    compares_with_its_own_allclose,
    leaves_a_hook_on_every_module,
    seeds_the_global_generator,
    sets_the_number_of_threads,
    stops_the_clock,
)
from dlcheck.errors import SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.originals import Replaced
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, Remade
from dlcheck.targets import load_target

_SWITCHES: Mapping[str, Callable[[], object]] = {
    "the default dtype": torch.get_default_dtype,
    "the default device": torch.get_default_device,
    "grad mode": torch.is_grad_enabled,
    "inference mode": torch.is_inference_mode_enabled,
    "the number of threads": torch.get_num_threads,
    "the precision of float32 products": torch.get_float32_matmul_precision,
    "anomaly detection": torch.is_anomaly_enabled,
    "deterministic algorithms": torch.are_deterministic_algorithms_enabled,
    "oneDNN": torch._C._get_mkldnn_enabled,
    "cuDNN": lambda: torch.backends.cudnn.enabled,
    "cuDNN's benchmark": lambda: torch.backends.cudnn.benchmark,
    "flushing of subnormal numbers": lambda: float(torch.tensor([2.0**-1070]).double() * 1.0) == 0,
    "autocast": lambda: (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
    "modes of torch functions": torch._C._len_torch_function_stack,
    "modes of dispatch": torch._C._len_torch_dispatch_stack,
    "garbage collection": gc.isenabled,
    "tracing": sys.gettrace,
}
_HOOKS: Mapping[str, dict[int, Any]] = {
    f"{name[len('_global_') :]} of every module": value
    for name, value in vars(nn.modules.module).items()
    if name.startswith("_global_") and isinstance(value, dict)
}


@check(
    kind="tensors",
    once=True,
    rejects=[
        changes_the_default_dtype,
        sets_the_number_of_threads,
        leaves_a_hook_on_every_module,
        seeds_the_global_generator,
        stops_the_clock,
        compares_with_its_own_allclose,
    ],
)
def leaves_the_process_as_it_was(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Building and calling the subject changes nothing that other code in the process sees.

    Global switches of torch (default dtype and device, modes, threads, precision, determinism),
    hooks on all modules, and what clocks, comparisons, functions and dlcheck itself are called;
    of random streams, a call may draw from them, but must not seed them: after it from two
    seeds, they stand at two places. Warnings and printing are allowed. What was changed is put
    back.
    """
    found = _of_its_module(subject)
    before = _Process()
    try:
        made = in_dtype(subject, case, case.dtype)
    except SubjectRaised:
        made = subject
    made(*case.fresh())
    found += before.changes()
    yield _told("changes in the process", found)
    yield _told("random streams that a call seeds", _seeded(subject, case))


def _told(what: str, found: list[str]) -> Evidence:
    return Evidence(
        error=float(len(found)),
        bound=0.0,
        signal=1.0,
        unit="changes",
        what=what,
        got=", ".join(dict.fromkeys(found)),
    )


class _Process:
    """What is compared before and after: switches, hooks, names of functions."""

    def __init__(self) -> None:
        self.switches = {name: read() for name, read in _SWITCHES.items()}
        self.hooks = {name: set(hooks) for name, hooks in _HOOKS.items()}
        self.replaced = {(id(r.owner), r.name) for r in originals.replaced()}
        self.own = _own_functions()

    def changes(self) -> list[str]:
        """What is no longer as it was, in words; hooks and functions are put back."""
        found = [name for name, read in _SWITCHES.items() if read() != self.switches[name]]
        for name, hooks in _HOOKS.items():
            for key in set(hooks) - self.hooks[name]:
                del hooks[key]
                found.append(name)
        for entry in originals.replaced():
            if (id(entry.owner), entry.name) not in self.replaced:
                originals.put_back(entry)
                found.append(str(entry))
        for (module, name), function in self.own.items():
            if getattr(sys.modules.get(module), name, function) is not function:
                setattr(sys.modules[module], name, function)
                found.append(f"{module}.{name}")
        return found


def _own_functions() -> dict[tuple[str, str], Any]:
    """dlcheck's functions and classes, by module and name."""
    return {
        (module, name): value
        for module, loaded in list(sys.modules.items())
        if module.partition(".")[0] == "dlcheck"
        for name, value in vars(loaded).items()
        if callable(value) and not name.startswith("__")
    }


def _of_its_module(subject: Implementation) -> list[str]:
    """What the subject's module replaced before this check began: at import, or when called."""
    home = _home(subject.declared.target, subject.declared.file)
    found: list[Replaced] = []
    for entry in originals.restored_lately():
        if home and entry.module.partition(".")[0] == home.partition(".")[0]:
            found.append(entry)
    for entry in originals.replaced():
        if home and entry.module == home:
            originals.put_back(entry)
            found.append(entry)
    return [str(entry) for entry in found]


def _home(target: Any, near: str) -> str:
    while isinstance(target, Remade):
        near, target = target.original.file, target.original.target
    loaded = load_target(target, near=near)
    loaded = getattr(loaded, "func", loaded)
    return getattr(loaded, "__module__", None) or type(loaded).__module__


def _seeded(subject: Implementation, case: Case) -> list[str]:
    """The streams that stand at the same place after calls from two seeds."""
    ends: list[dict[str, bytes]] = []
    for seed in (case.recipe.seed, case.recipe.seed + 1):
        seed_everything(seed)
        subject(*case.fresh())
        ends.append(_streams())
    return [name for name, state in ends[0].items() if ends[1][name] == state]


def _streams() -> dict[str, bytes]:
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": np.random.get_state()[1].tobytes(),  # type: ignore[union-attr, index]
        "random": repr(random.getstate()[1]).encode(),
    }
