"""Calls into foreign code, and the global state that it may change: saved and put back."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import torch

from dlcheck import originals
from dlcheck.errors import NotApplicable, SubjectError, SubjectRaised, TrialTimeout, UsageError


def _flags() -> list[tuple[Callable[[], Any], Callable[[Any], None]]]:
    """(read, write) of every global switch of torch that changes numbers or speed."""
    pairs: list[tuple[Callable[[], Any], Callable[[Any], None]]] = [
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.is_grad_enabled, torch._C._set_grad_enabled),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (torch.is_anomaly_enabled, _set_anomaly),
        (_deterministic, _set_deterministic),
        (torch.get_rng_state, torch.set_rng_state),
        (torch.get_default_device, _set_default_device),
    ]  # fmt: skip
    for owner, name in (
        (torch.utils.deterministic, "fill_uninitialized_memory"),
        (torch.backends.cudnn, "enabled"),
        (torch.backends.cudnn, "benchmark"),
        (torch.backends.cudnn, "deterministic"),
    ):
        pairs.append((_reader(owner, name), _writer(owner, name)))
    return pairs


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


@contextlib.contextmanager
def restored_state(target: object = None) -> Iterator[None]:
    """Put back random streams, default dtype and device, grad mode, determinism, threads, TF32,
    the working directory, the environment, warning filters, hooks and functions, whatever happens
    inside. target: of the trial, to whom what it replaces is told."""
    standing = originals.enter(target)
    flags = [(write, read()) for read, write in _flags()]
    streams = random.getstate(), np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    folder, environment = os.getcwd(), dict(os.environ)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # a subject's warning is shown, and is no failure
            torch.set_grad_enabled(True)
            yield
    finally:
        for write, value in flags:
            write(value)
        originals.leave(standing)
        random.setstate(streams[0])
        np.random.set_state(streams[1])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if os.environ != environment:
            os.environ.clear()
            os.environ.update(environment)
        if os.path.isdir(folder):
            os.chdir(folder)


@functools.cache
def _has_accelerator() -> bool:
    return bool(
        torch.cuda.device_count() or torch.backends.mps.is_available() or torch.xpu.device_count()
    )


def seed_everything(seed: int) -> None:
    """Seed `random`, NumPy's global generator and torch on every device."""
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


def guarded(function: Callable[..., Any], *inputs: Any, **keywords: Any) -> Any:
    """Call foreign code; what it raises becomes SubjectRaised with the cause attached.

    A call of sys.exit too: it would end the run. An interrupt of the user passes.
    """
    try:
        return function(*inputs, **keywords)
    except (UsageError, SubjectError, NotApplicable):
        raise
    except (Exception, SystemExit) as error:
        raise SubjectRaised(f"{type(error).__name__}: {error}") from error


class _Bell(BaseException):
    """Time is up. No Exception: a subject must not swallow it, nor Hypothesis run it again."""


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TrialTimeout after so many seconds. Acts in the main thread of a POSIX process."""
    possible = (
        hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    )
    if not seconds or not possible:
        yield
        return

    def ring(signum: int, frame: FrameType | None) -> None:
        raise _Bell

    before = signal.signal(signal.SIGALRM, ring)
    started = time.monotonic()
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Bell:
        raise TrialTimeout(f"ran past its timeout of {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer:  # a limit within a limit: the outer one runs on
            left = outer - (time.monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3))
