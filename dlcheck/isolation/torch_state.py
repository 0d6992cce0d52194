"""Random streams and switches of torch, the environment and the working folder: put back."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from dlcheck import originals
from dlcheck.isolation.listening import LISTENERS

Flag = tuple[str, Callable[[], Any], Callable[[Any], None]]


def _flags() -> list[Flag]:
    """(name, read, write) of every global switch of torch that changes numbers, speed or text.

    Those without a name are changed by every trial.
    """
    flags: list[Flag] = [
        ("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
        ("gradient mode", torch.is_grad_enabled, torch._C._set_grad_enabled),
        ("", torch.get_num_threads, torch.set_num_threads),
        (
            "float32 matmul precision",
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
        ),
        ("anomaly detection", torch.is_anomaly_enabled, _set_anomaly),
        ("deterministic algorithms", _deterministic, _set_deterministic),
        ("", torch.get_rng_state, torch.set_rng_state),
        ("the default device", torch.get_default_device, _set_default_device),
        ("inference mode", torch.is_inference_mode_enabled, _set_inference),
        ("denormal numbers", _flushes_denormals, _set_flush_denormals),
        ("torch's print options", _print_options, _set_print_options),
        *(flag for device in ("cpu", "cuda") for flag in _autocast_flags(device)),
    ]
    for owner, name in (
        (torch.utils.deterministic, "fill_uninitialized_memory"),
        (torch.backends.cudnn, "enabled"),
        (torch.backends.cudnn, "benchmark"),
        (torch.backends.cudnn, "deterministic"),
    ):
        module = owner.__name__.removeprefix("torch.")
        flags.append((f"{module}.{name}", _reader(owner, name), _writer(owner, name)))
    return flags


def _autocast_flags(device: str) -> list[Flag]:
    return [
        (
            f"autocast of {device}",
            lambda: torch.is_autocast_enabled(device),
            lambda on: torch.set_autocast_enabled(device, on),
        ),
        (
            f"the dtype of autocast of {device}",
            lambda: torch.get_autocast_dtype(device),
            lambda dtype: torch.set_autocast_dtype(device, dtype),
        ),
    ]


_SMALLEST = 5e-324
_KEPT_MODES: list[Any] = []  # guards of inference mode: it ends where they are collected


def _flushes_denormals() -> bool:
    return _SMALLEST * 1.0 == 0.0


def _set_flush_denormals(mode: bool) -> None:  # noqa: FBT001
    torch.set_flush_denormal(mode)


def _set_inference(mode: bool) -> None:  # noqa: FBT001
    if torch.is_inference_mode_enabled() != mode:
        _KEPT_MODES.append(torch._C._InferenceMode(mode))


def _print_options() -> tuple[Any, ...]:
    options = torch._tensor_str.PRINT_OPTS
    return (options.precision, options.threshold, options.edgeitems, options.linewidth,
            options.sci_mode)  # fmt: skip


def _set_print_options(given: tuple[Any, ...]) -> None:
    if given != _print_options():
        names = ("precision", "threshold", "edgeitems", "linewidth", "sci_mode")
        torch.set_printoptions(**dict(zip(names, given, strict=True)))


def _deterministic() -> tuple[bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _set_deterministic(state: tuple[bool, bool]) -> None:
    # Setting it imports torch's compiler, seconds of it: only where it was changed.
    if state != _deterministic():
        torch.use_deterministic_algorithms(state[0], warn_only=state[1])


def _set_anomaly(mode: bool) -> None:  # noqa: FBT001
    torch.autograd.set_detect_anomaly(mode)


def _set_default_device(device: torch.device) -> None:
    # Setting it pushes a mode on every torch call: only where it was changed.
    if torch.get_default_device() != device:
        torch.set_default_device(None if device.type == "cpu" else device)


def _reader(owner: Any, name: str) -> Callable[[], Any]:
    return lambda: getattr(owner, name)


def _writer(owner: Any, name: str) -> Callable[[Any], None]:
    def write(value: Any) -> None:
        # torch.testing freezes its backends' flags, even against the value that they have.
        if getattr(owner, name) != value:
            setattr(owner, name, value)

    return write


_STANDING: list[tuple[list[tuple[Any, ...]], str, list[str]]] = []


def as_at_the_start() -> None:
    """Put switches and working folder back between two cases: the next is drawn as the first."""
    if not _STANDING:
        return
    flags, folder, notes = _STANDING[-1]
    if folder and _folder() != folder and os.path.isdir(folder):
        os.chdir(folder)
        notes.append("changed the working folder (put back)")
    for name, read, write, value in flags:
        if name and read() != value:
            write(value)
            notes.append(f"changed {name} (put back)")


@contextlib.contextmanager
def restored_state(target: object = None, notes: list[str] | None = None) -> Iterator[None]:
    """Put back random streams, default dtype and device, grad mode, determinism, threads, TF32,
    the working directory, the environment, warning filters, hooks and functions, whatever happens
    inside. target: of the trial, to whom what it replaces is told. notes: gets in words what had
    been changed."""
    standing = originals.enter(target)
    flags = [(name, read, write, read()) for name, read, write in _flags()]
    streams = random.getstate(), np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    folder, environment = ("", {}) if notes is not None else (_folder(), dict(os.environ))
    modes, hooks = torch._C._len_torch_dispatch_stack(), _saved_tensor_hooks()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # a subject's warning is shown, and is no failure
            torch.set_grad_enabled(True)
            if notes is not None:
                _STANDING.append((flags, _folder(), notes))
            yield
    finally:
        if notes is not None:
            _STANDING.pop()
        changed = list(_popped(modes, hooks))
        for name, read, write, value in flags:
            if name and read() != value:
                changed.append(name)
            write(value)
        changed += originals.leave(standing)
        random.setstate(streams[0])
        np.random.set_state(streams[1])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if notes is not None:  # then whoever gives them puts back what follows, and names it
            notes += [f"changed {each} (put back)" for each in changed]
        else:
            if os.environ != environment:
                os.environ.clear()
                os.environ.update(environment)
            if os.path.isdir(folder):
                os.chdir(folder)


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return ""


def _saved_tensor_hooks() -> Any:
    ignore_is_tracing = True
    return torch._C._autograd._top_saved_tensors_default_hooks(ignore_is_tracing)


def _popped(modes: int, hooks: Any) -> Iterator[str]:
    """Modes and hooks that were entered and never left."""
    while torch._C._len_torch_dispatch_stack() > modes:
        torch._C._pop_torch_dispatch_stack()
        yield "modes of torch's dispatcher"
    while (top := _saved_tensor_hooks()) is not None and top != hooks:
        torch._C._autograd._pop_saved_tensors_default_hooks()
        yield "hooks on saved tensors"


@functools.cache
def _has_accelerator() -> bool:
    return bool(
        torch.cuda.device_count() or torch.backends.mps.is_available() or torch.xpu.device_count()
    )


def seed_everything(seed: int) -> None:
    """Seed `random`, NumPy's global generator and torch on every device."""
    if LISTENERS:
        LISTENERS[-1].seeded(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if _has_accelerator():
        torch.manual_seed(seed)
    else:  # torch.manual_seed would take a stack trace, for devices that may come later
        torch.default_generator.manual_seed(seed)


def kept_buffers(module: torch.nn.Module | None) -> list[torch.Tensor]:
    """The buffers that are state: those that a state dict holds.

    The others are tables and caches beside which a module keeps its own account (a length, a
    flag). Put back without it, they no longer agree.
    """
    if module is None:
        return []
    return [
        buffer
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None and name not in owner._non_persistent_buffers_set
    ]
