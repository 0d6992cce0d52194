"""Where the Triton kernels of a subject run: on a GPU, in the interpreter, or nowhere but built.

    cuda           a trial on a CUDA device: the kernels as they are
    interpret      a trial on the CPU of a machine without a GPU: TRITON_INTERPRET=1
    compile_only   built for GPUs that this machine lacks: the check `compiles_for_gpus`
    cpu            a subject without kernels

A subject has kernels if it declares them, `options.kernels`. Triton decides when `@triton.jit`
runs, and for its own library when it is imported, whether a kernel is interpreted; so the variable
is set before the subject is imported. What a lane cannot do is said, and skipped.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from dlcheck.errors import DeclarationError, NotApplicable
from dlcheck.model import Subject
from dlcheck.targets import load_target

_VARIABLE = "TRITON_INTERPRET"
_ON = ("1", "true", "on", "yes", "y")
ABSENT = "triton is not installed, so its kernels are not checked"


def waits_for_its_lane(subject: Subject) -> bool:
    """Does an import before its trial's lane is set up decide how its kernels run?"""
    return bool(subject.options.get("kernels"))


def kernels_of(subject: Subject) -> Mapping[str, Mapping[str, Any]]:
    """Its kernels by name: `{ name = { jit = path, signature = {…}, constexprs = {…} } }`."""
    kernels = subject.options.get("kernels", {})
    for name, kernel in kernels.items():
        if not isinstance(kernel, Mapping) or not isinstance(kernel.get("jit"), str):
            raise DeclarationError(
                f"option kernels of {subject.name}: {name} is a table with jit = 'path:kernel', "
                f"not {kernel!r}"
            )
    return kernels  # type: ignore[no-any-return]


def has_triton() -> bool:
    """Is triton installed? There is none for macOS."""
    return importlib.util.find_spec("triton") is not None


def why_no_lane(subject: Subject, device: str, dtype: str) -> str:
    """Set up the lane of a subject with kernels; what keeps it from running there, or nothing.

    device: the type of the trial's device. Called before the subject is imported. The variable
    that it may set is put back with the rest of the environment after the trial.
    """
    kernels = kernels_of(subject)
    if not kernels:
        return ""
    if not has_triton():
        return ABSENT
    if device != "cpu":
        return _no_gpu_lane() if device == "cuda" else f"triton kernels do not run on {device}"
    return _no_interpreter(dtype) or _not_interpreted(subject, kernels)


def _is_interpreting() -> bool:
    return os.environ.get(_VARIABLE, "").lower() in _ON


def _no_gpu_lane() -> str:
    if _is_interpreting():
        return f"{_VARIABLE} is set: the kernels would be interpreted, not run on the GPU"
    return ""


def _no_interpreter(dtype: str) -> str:
    import torch

    if dtype == "bfloat16":
        return "not checked: Triton's interpreter computes wrong numbers in bfloat16"
    if torch.cuda.is_available() and not _is_interpreting():
        return f"its kernels run on cuda here; to interpret them on the CPU, set {_VARIABLE}=1"
    return ""


def _not_interpreted(subject: Subject, kernels: Mapping[str, Mapping[str, Any]]) -> str:
    """Set the variable, import the kernels, and see whether they are interpreted."""
    remedy = f"run it in a process of its own, as {_VARIABLE}=1 dlcheck …"
    os.environ[_VARIABLE] = "1"
    if "triton" in sys.modules and not _is_interpreted(sys.modules["triton"].language.sum):
        return f"triton was imported before {_VARIABLE}=1 was set; {remedy}"
    for name, kernel in kernels.items():
        if not _is_interpreted(load_target(kernel["jit"], near=subject.file)):
            return f"the kernel {name} was imported before {_VARIABLE}=1 was set; {remedy}"
    return ""


def _is_interpreted(kernel: Any) -> bool:
    """Is it interpreted, below whatever wraps it (autotune, heuristics)?"""
    while not hasattr(kernel, "src") and hasattr(kernel, "fn") and hasattr(kernel.fn, "fn"):
        kernel = kernel.fn
    return type(kernel).__name__ == "InterpretedFunction"


def not_run(reason: str) -> Callable[..., NoReturn]:
    """In place of a subject that has no lane: whoever calls it learns why, as a skip."""

    def call(*inputs: Any, **keywords: Any) -> NoReturn:
        raise NotApplicable(reason)

    return call
