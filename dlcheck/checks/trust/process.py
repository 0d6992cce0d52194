"""A subject replaces nothing that other code calls, and leaves no hook on it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from dlcheck import originals
from dlcheck.checks.every.twin import in_dtype
from dlcheck.checks.trust.careless import (
    compares_with_its_own_allclose,
    leaves_a_hook_on_every_module,
    leaves_a_mode_on_every_call,
    replaces_softmax_for_all,
    sets_the_default_dtype_when_built,
    stops_the_clock,
)
from dlcheck.errors import SubjectRaised
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, Remade
from dlcheck.targets import load_target

_SUBNORMAL = torch.tensor(2.0**-1070, dtype=torch.float64)
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
    "flushing of subnormal numbers": lambda: bool(_SUBNORMAL * 1.0 == 0),
    "autocast": lambda: (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
    "modes of dispatch": torch._C._len_torch_dispatch_stack,
    "garbage collection": gc.isenabled,
    "tracing": sys.gettrace,
}


@check(
    kind="tensors",
    once=True,
    rejects=[
        leaves_a_hook_on_every_module,
        leaves_a_mode_on_every_call,
        sets_the_default_dtype_when_built,
        replaces_softmax_for_all,
        stops_the_clock,
        compares_with_its_own_allclose,
    ],
)
def leaves_other_code_alone(subject: Implementation, case: Case) -> Evidence:
    """Building and calling the subject replaces nothing that other code calls, its judge least.

    Clocks, comparisons, the functions of torch and of dlcheck itself are what they were; so are
    hooks on all modules, modes on all calls, and, where building the subject could change them,
    the switches of torch. What was changed is put back. Of what a module replaced when it was
    imported, the subjects of that module are told.
    """
    found = _of_its_module(subject)
    standing = originals.restore_the_judge()
    made, switched = _built_elsewhere(subject, case)
    made(*case.fresh())
    found += [*switched, *originals.restore(standing)]
    originals.restored_lately(subject.declared.target, "")
    return Evidence(
        error=float(len(found)),
        bound=0.0,
        signal=1.0,
        unit="changes",
        what="changes in the process",
        got=", ".join(dict.fromkeys(found)),
    )


def _built_elsewhere(subject: Implementation, case: Case) -> tuple[Implementation, list[str]]:
    """The subject built anew under other switches, and those that this changed.

    The build before this check may have set one: under another value that shows again.
    """
    default, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float32 if default == torch.float64 else torch.float64)
    torch.set_num_threads(2 if threads == 1 else 1)
    before = {name: read() for name, read in _SWITCHES.items()}
    try:
        made = in_dtype(subject, case, case.dtype)
    except SubjectRaised:
        made = subject
    changed = [name for name, read in _SWITCHES.items() if read() != before[name]]
    torch.set_default_dtype(default)
    torch.set_num_threads(threads)
    return made, changed


def _of_its_module(subject: Implementation) -> list[str]:
    """What the subject's module replaced before this check began: at import, or when called."""
    home = _home(subject.declared.target, subject.declared.file)
    found = originals.restored_lately(subject.declared.target, home.partition(".")[0])
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
