"""Subjects that behave badly: what each does, what its trial comes to, and which words say so.

A behaviour is a function of the honest answer: it misbehaves and returns what the subject returns.
Each is a subject of every kind of KINDS, `hostile:<kind>__<behaviour>`. Those of `ENDS` end their
process, so that they need one of their own.
"""

from __future__ import annotations

import _thread
import builtins
import contextlib
import ctypes
import gc
import locale
import logging
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CHECK = "leaves_inputs_unchanged"
HANGS = "ran past its timeout"
MEMORY = "256MiB"
PASSED, FAILED = "passed", "failed"

KINDS = {
    "op": {"kind": "op", "inputs": {"x": "float b n"}},
    "layer": {"kind": "layer", "inputs": {"x": "float b n"}},
    "activation": {"kind": "activation", "inputs": {"x": "float b n"}},
    "loss": {"kind": "loss", "options": {"task": "regression"}},
}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """words: in the message of a failure, in the notes of a pass. ends: the process with it."""

    act: Callable[[Any], Any]
    verdict: str
    words: str
    ends: bool = False


BEHAVIOURS: dict[str, Behaviour] = {}


def fails(words: str, *, ends: bool = False) -> Callable[[Any], Any]:
    """It is a failed trial, whose message says so."""
    return _registered(FAILED, words, ends=ends)


def passes(words: str = "") -> Callable[[Any], Any]:
    """It is a trial like others, with a note where there are words."""
    return _registered(PASSED, words, ends=False)


def _registered(verdict: str, words: str, *, ends: bool) -> Callable[[Any], Any]:
    def register(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
        BEHAVIOURS[act.__name__] = Behaviour(act, verdict, words, ends)
        return act

    return register


# --- ends its process, in native code -------------------------------------------------------------


def libc() -> Any:
    return ctypes.CDLL(None)


@fails("SIGSEGV", ends=True)
def reads_address_zero(y: Any) -> Any:
    return ctypes.string_at(0)


@fails("SIGSEGV", ends=True)
def writes_far_behind_a_tensor(y: Any) -> Any:
    ctypes.memset(torch.zeros(1).data_ptr() + 2**40, 1, 8)
    return y


@fails("SIGABRT", ends=True)
def aborts_in_native_code(y: Any) -> Any:
    libc().abort()
    return y


@fails("exit status 3", ends=True)
def exits_in_native_code(y: Any) -> Any:
    libc()._exit(3)
    return y


@fails("exit status 0", ends=True)
def exits_as_if_all_were_well(y: Any) -> Any:
    libc()._exit(0)
    return y


@fails("SIGKILL", ends=True)
def kills_itself_in_native_code(y: Any) -> Any:
    libc().kill(os.getpid(), signal.SIGKILL)
    return y


@fails("SIGKILL", ends=True)
def is_killed_from_outside(y: Any) -> Any:
    import subprocess

    subprocess.run(["kill", "-KILL", str(os.getpid())], check=False)
    time.sleep(5)
    return y


@fails("SIGFPE", ends=True)
def divides_by_zero_in_native_code(y: Any) -> Any:
    libc()["raise"](int(signal.SIGFPE))
    return y


@fails("SIGILL", ends=True)
def runs_an_illegal_instruction(y: Any) -> Any:
    libc()["raise"](int(signal.SIGILL))
    return y


@fails("SIGBUS", ends=True)
def reads_behind_the_end_of_a_file(y: Any) -> Any:
    import mmap

    with tempfile.TemporaryFile() as file:
        file.truncate(4096)
        seen = mmap.mmap(file.fileno(), 4096)
        file.truncate(0)
        return seen[0]


@fails("did not stop when told to", ends=True)
def hangs_in_native_code_with_the_lock(y: Any) -> Any:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    ctypes.PyDLL(None).sleep(1000)
    return y


@fails("did not stop when told to", ends=True)
def catches_everything_for_ever(y: Any) -> Any:
    while True:
        with contextlib.suppress(BaseException):
            while True:
                time.sleep(0.01)


@fails("did not stop when told to", ends=True)
def ignores_the_alarm(y: Any) -> Any:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        pass


@fails("SIGSEGV", ends=True)
def crashes_in_a_thread(y: Any) -> Any:
    thread = threading.Thread(target=ctypes.string_at, args=(0,))
    thread.start()
    thread.join()
    return y


@fails("exit status 1", ends=True)
def exits_in_a_thread_of_native_code(y: Any) -> Any:
    thread = threading.Thread(target=libc()._exit, args=(1,))
    thread.start()
    thread.join(5)
    return y


# --- would end the run, and is refused ------------------------------------------------------------


@fails("os._exit(3) ends the process")
def calls_os_exit(y: Any) -> Any:
    os._exit(3)


@fails("os.abort() ends the process")
def calls_os_abort(y: Any) -> Any:
    os.abort()


@fails("ends the process that runs it")
def kills_its_own_process(y: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
    return y


@fails("ends the process that runs it")
def kills_its_group(y: Any) -> Any:
    os.killpg(os.getpgrp(), signal.SIGTERM)
    return y


@fails("ends the process that runs it")
def raises_a_signal(y: Any) -> Any:
    signal.raise_signal(signal.SIGTERM)
    return y


@fails("ends the process that runs it")
def becomes_another_program(y: Any) -> Any:
    os.execv("/bin/true", ["true"])


@fails("ends the process that runs it")
def interrupts_the_main_thread(y: Any) -> Any:
    _thread.interrupt_main()
    return y


@passes("ended thread")
def kills_the_main_thread_from_another(y: Any) -> Any:
    main = threading.main_thread().ident
    assert main is not None
    thread = threading.Thread(target=signal.pthread_kill, args=(main, signal.SIGTERM))
    thread.start()
    thread.join()
    return y


@fails("SystemExit: 3")
def calls_sys_exit(y: Any) -> Any:
    sys.exit(3)


@fails("SystemExit")
def calls_quit(y: Any) -> Any:
    import site  # noqa: F401  # which brings quit

    raise SystemExit


@fails("KeyboardInterrupt")
def raises_keyboard_interrupt(y: Any) -> Any:
    raise KeyboardInterrupt


@fails("GeneratorExit")
def raises_generator_exit(y: Any) -> Any:
    raise GeneratorExit


class Odd(BaseException):
    """No Exception."""


@fails("Odd: away")
def raises_a_base_exception(y: Any) -> Any:
    raise Odd("away")


@fails("Skipped")
def skips_its_own_test(y: Any) -> Any:
    import pytest

    pytest.skip("nothing to see")


@fails("Exit: enough")
def ends_the_session_of_pytest(y: Any) -> Any:
    import pytest

    pytest.exit("enough")


@fails("set an alarm")
def sets_an_alarm_that_nothing_handles(y: Any) -> Any:
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    time.sleep(0.2)
    return y


# --- takes too long, or too much ------------------------------------------------------------------


@fails(HANGS)
def loops_for_ever(y: Any) -> Any:
    while True:
        pass


@fails(HANGS)
def sleeps_for_ever(y: Any) -> Any:
    time.sleep(1e6)


@fails(HANGS)
def waits_for_a_lock_for_ever(y: Any) -> Any:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@fails(HANGS)
def swallows_exceptions_for_ever(y: Any) -> Any:
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.01)


@fails(HANGS)
def loops_in_torch(y: Any) -> Any:
    x = torch.ones(100)
    while True:
        x = x * 1.0


@fails("it asked for 64.0 TiB")
def asks_torch_for_too_much(y: Any) -> Any:
    return torch.empty(2**43, dtype=torch.float64)


@fails("a trial may allocate 256.0 MiB")
def asks_torch_for_two_gigabytes(y: Any) -> Any:
    return torch.ones(2**28, dtype=torch.float64)


@fails("it asked for 64.0 GiB")
def asks_numpy_for_too_much(y: Any) -> Any:
    return np.ones(2**33)


@fails("a trial may allocate 256.0 MiB")
def grows_a_list(y: Any) -> Any:
    held = []
    while True:
        held.append(bytearray(2**26))


@fails("a trial may allocate 256.0 MiB")
def grows_a_string(y: Any) -> Any:
    text = "x" * 2**20
    while True:
        text += text


@fails("")
def makes_a_huge_sparse_tensor_dense(y: Any) -> Any:
    return torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), [1.0], (2**40,)).to_dense()


@fails("RecursionError")
def recurses_without_end(y: Any) -> Any:
    return recurses_without_end(y)


@passes("wrote")
def prints_megabytes(y: Any) -> Any:
    os.write(1, b"x" * 2**22)
    return y


@passes()
def prints_what_a_terminal_obeys(y: Any) -> Any:
    print("\x1b[2J\x1b[31m\a\x00\r::error::no\n##[group]\x1b]0;title\a")
    return y


@passes()
def prints_half_a_surrogate_pair(y: Any) -> Any:
    with contextlib.suppress(UnicodeEncodeError):
        print("\ud800 \udfff")
    os.write(2, b"\xff\xfe\x80")
    return y


@passes()
def warns_again_and_again(y: Any) -> Any:
    for k in range(20):
        warnings.warn(f"warning {k}", stacklevel=1)
    return y


# --- raises what is hard to tell ------------------------------------------------------------------


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no comment")

    __repr__ = __str__


@fails("Silent")
def raises_what_has_no_text(y: Any) -> Any:
    raise Silent


@fails("characters)")
def raises_a_long_story(y: Any) -> Any:
    raise ValueError("x" * 10**7)


@fails("ValueError")
def raises_half_a_surrogate_pair(y: Any) -> Any:
    raise ValueError("a\ud800b\x1b[31m\x00</script>")


@fails("StopIteration")
def raises_stop_iteration(y: Any) -> Any:
    raise StopIteration(3)


@fails("MemoryError")
def raises_memory_error(y: Any) -> Any:
    raise MemoryError


@fails("AssertionError")
def raises_assertion_error(y: Any) -> Any:
    raise AssertionError


@fails("several")
def raises_a_group(y: Any) -> Any:
    raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])


class Named(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


@fails("Nameless")
def raises_what_has_no_name(y: Any) -> Any:
    class Nameless(Exception, metaclass=Named):
        pass

    raise Nameless("here")


@fails("ValueError: loop")
def raises_what_is_its_own_cause(y: Any) -> Any:
    error = ValueError("loop")
    error.__context__ = error
    raise error


@fails("SyntaxError")
def raises_a_syntax_error_elsewhere(y: Any) -> Any:
    raise SyntaxError("bad", ("/nowhere.py", -5, 10**9, "\x00", -1, -1))


@passes("which Python ignores")
def raises_when_it_is_collected(y: Any) -> Any:
    class Heavy:
        def __del__(self) -> None:
            raise ValueError("not yet")

    Heavy()
    return y


@passes("ended thread 'crooked'")
def raises_in_a_thread(y: Any) -> Any:
    def work() -> None:
        raise ValueError("over here")

    thread = threading.Thread(target=work, name="crooked")
    thread.start()
    thread.join()
    return y


# --- returns what is hard to look at --------------------------------------------------------------


class Liar:
    """Says that it is a tensor, and raises when asked for more."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return Tensor

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@fails("must return tensor(s)")
def returns_what_says_it_is_a_tensor(y: Any) -> Any:
    return Liar()


class Raising(Tensor):
    @classmethod
    def __torch_function__(cls, *arguments: Any, **keywords: Any) -> Any:
        raise RuntimeError("hands off")


@passes()
def returns_a_tensor_that_raises(y: Any) -> Any:
    return y.detach().as_subclass(Raising)


@fails("must return tensor(s)")
def returns_nothing(y: Any) -> Any:
    return None


@fails("must return tensor(s)")
def returns_itself(y: Any) -> Any:
    return returns_itself


@fails("must return tensor(s)")
def returns_a_generator(y: Any) -> Any:
    return (each for each in [y])


@fails("must return tensor(s)")
def returns_a_coroutine(y: Any) -> Any:
    async def later() -> Any:
        return y

    made = later()
    made.close()
    return made


@fails("must return tensor(s)")
def returns_a_module(y: Any) -> Any:
    return types


@fails("must return tensor(s)")
def returns_an_array(y: Any) -> Any:
    return y.detach().numpy()


@fails("must return tensor(s)")
def returns_not_implemented(y: Any) -> Any:
    return NotImplemented


@fails("holds itself")
def returns_a_list_that_holds_itself(y: Any) -> Any:
    held: list[Any] = []
    held.append(held)
    return held


@passes()
def returns_a_parameter(y: Any) -> Any:
    return nn.Parameter(y.detach())


@passes()
def returns_not_a_number(y: Any) -> Any:
    return y * float("nan")


@passes()
def returns_a_tensor_of_no_elements(y: Any) -> Any:
    return y.flatten()[:0]


# --- changes the process --------------------------------------------------------------------------


@passes("sys.excepthook")
def sets_the_hook_of_exceptions(y: Any) -> Any:
    sys.excepthook = lambda *_: None
    return y


@passes("sys.unraisablehook")
def sets_the_hook_of_what_cannot_be_raised(y: Any) -> Any:
    sys.unraisablehook = lambda _: None
    return y


@passes("threading.excepthook")
def sets_the_hook_of_threads(y: Any) -> Any:
    threading.excepthook = lambda _: None
    return y


@passes("the trace function")
def traces_every_line(y: Any) -> Any:
    sys.settrace(lambda *_: None)
    return y


@passes("the profile function")
def profiles_every_call(y: Any) -> Any:
    sys.setprofile(lambda *_: None)
    return y


@passes("garbage collection")
def stops_garbage_collection(y: Any) -> Any:
    gc.disable()
    return y


@passes("the recursion limit")
def raises_the_recursion_limit(y: Any) -> Any:
    sys.setrecursionlimit(sys.getrecursionlimit() + 1000)
    return y


@passes("the locale")
def sets_the_locale(y: Any) -> Any:
    was = locale.setlocale(locale.LC_ALL, None)
    locale.setlocale(locale.LC_CTYPE, "C" if was != "C" else "C.UTF-8")
    return y


@passes("the file mode mask")
def sets_the_file_mode_mask(y: Any) -> Any:
    os.umask(0o707)
    return y


@passes("the working folder")
def goes_elsewhere(y: Any) -> Any:
    os.chdir("/")
    return y


@passes("the working folder")
def removes_the_folder_it_is_in(y: Any) -> Any:
    os.chdir(place := tempfile.mkdtemp())
    os.rmdir(place)
    return y


@passes("the environment: HOSTILE")
def sets_a_variable(y: Any) -> Any:
    os.environ["HOSTILE"] = "1"
    return y


@passes("the environment")
def clears_the_environment(y: Any) -> Any:
    os.environ.clear()
    return y


@passes("the handler of SIGINT")
def handles_the_interrupt(y: Any) -> Any:
    signal.signal(signal.SIGINT, lambda *_: None)  # a shell may ignore it already
    return y


@passes("the handler of SIGTERM")
def handles_the_request_to_end(y: Any) -> Any:
    signal.signal(signal.SIGTERM, lambda *_: None)
    return y


@passes("a timer")
def leaves_a_timer(y: Any) -> Any:
    signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
    return y


@passes("sys.modules: torch")
def replaces_torch(y: Any) -> Any:
    sys.modules["torch"] = types.ModuleType("torch")
    return y


@passes("sys.modules: numpy")
def removes_numpy(y: Any) -> Any:
    del sys.modules["numpy"]
    return y


@passes("sys.path")
def forgets_where_modules_are(y: Any) -> Any:
    sys.path.clear()
    return y


@passes("sys.meta_path")
def forgets_how_modules_are_found(y: Any) -> Any:
    sys.meta_path.clear()
    return y


@passes("builtins: len")
def replaces_a_builtin(y: Any) -> Any:
    builtins.len = lambda _: 3  # type: ignore[assignment]
    return y


@passes("builtins: isinstance")
def replaces_isinstance(y: Any) -> Any:
    builtins.isinstance = lambda *_: True  # type: ignore[assignment]
    return y


@passes("builtins: sum")
def deletes_a_builtin(y: Any) -> Any:
    del builtins.sum
    return y


@passes("sys.argv")
def changes_the_arguments(y: Any) -> Any:
    sys.argv.append("--hostile")
    return y


@passes("the level of logging")
def sets_the_level_of_logging(y: Any) -> Any:
    logging.getLogger().setLevel(1)
    return y


@passes("logging is disabled")
def disables_logging(y: Any) -> Any:
    logging.disable(logging.CRITICAL)
    return y


@passes("the handlers of logging")
def configures_logging(y: Any) -> Any:
    logging.getLogger().handlers.append(logging.NullHandler())
    return y


@passes("NumPy's error handling")
def makes_numpy_raise(y: Any) -> Any:
    np.seterr(all="raise")
    return y


@passes("NumPy's print options")
def sets_print_options_of_numpy(y: Any) -> Any:
    np.set_printoptions(precision=1)
    return y


@passes("torch's print options")
def sets_print_options_of_torch(y: Any) -> Any:
    torch.set_printoptions(precision=1)
    return y


@passes("the default dtype")
def sets_the_default_dtype(y: Any) -> Any:
    torch.set_default_dtype(torch.float16)
    return y


@passes("the default device")
def sets_the_default_device(y: Any) -> Any:
    torch.set_default_device("meta")
    return y


@passes()
def leaves_gradients_off(y: Any) -> Any:
    torch.set_grad_enabled(False)
    return y


@passes("autocast of cpu")
def leaves_autocast_on(y: Any) -> Any:
    enabled = True
    torch.set_autocast_enabled("cpu", enabled)
    return y


@passes("denormal numbers")
def flushes_denormal_numbers(y: Any) -> Any:
    torch.set_flush_denormal(True)
    return y


@passes("deterministic algorithms")
def asks_for_deterministic_algorithms(y: Any) -> Any:
    torch.use_deterministic_algorithms(True)
    return y


@passes("anomaly detection")
def leaves_anomaly_detection_on(y: Any) -> Any:
    torch.autograd.set_detect_anomaly(True)
    return y


@passes("hooks on saved tensors")
def leaves_hooks_on_saved_tensors(y: Any) -> Any:
    torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x).__enter__()
    return y


@passes("forward_hooks of every module")
def leaves_a_hook_on_every_module(y: Any) -> Any:
    nn.modules.module.register_module_forward_hook(lambda *_: None)
    return y


@passes("torch.relu")
def replaces_a_function_of_torch(y: Any) -> Any:
    torch.relu = lambda x: x  # type: ignore[assignment]
    return y


@passes("torch.allclose")
def replaces_its_judge(y: Any) -> Any:
    torch.allclose = lambda *_, **__: True  # type: ignore[assignment]
    return y


@passes("time.perf_counter")
def stops_the_clock(y: Any) -> Any:
    time.perf_counter = lambda: 0.0  # type: ignore[assignment]
    return y


@passes()
def seeds_every_stream(y: Any) -> Any:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    return y


@passes()
def hides_warnings(y: Any) -> Any:
    warnings.filterwarnings("ignore")
    warnings.showwarning = lambda *_, **__: None
    return y


# --- streams and descriptors ----------------------------------------------------------------------


@passes("closed sys.stdout")
def closes_stdout(y: Any) -> Any:
    sys.stdout.close()
    return y


@passes("closed sys.stderr")
def closes_the_buffer_of_stderr(y: Any) -> Any:
    sys.stderr.buffer.close()
    return y


@passes("sys.stdout")
def replaces_stdout(y: Any) -> Any:
    import io

    sys.stdout = io.StringIO()
    return y


@passes("file descriptor 1")
def closes_descriptor_one(y: Any) -> Any:
    os.close(1)
    return y


@passes("file descriptor 2")
def sends_stderr_elsewhere(y: Any) -> Any:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return y


@passes("file descriptor 0")
def closes_all_three(y: Any) -> Any:
    os.closerange(0, 3)
    return y


KEPT: list[Any] = []  # what a subject holds on to


def let_go() -> None:
    """End what is held, so that a test leaves nothing to the next."""
    for each in KEPT:
        if isinstance(each, socket.socket):
            each.close()
        else:
            each.kill()
            each.wait()
    KEPT.clear()


@passes("open: ")
def leaves_a_socket_open(y: Any) -> Any:
    KEPT.append(socket.socket())
    return y


# --- leaves something behind ----------------------------------------------------------------------


@passes("left a thread running: 'poll'")
def leaves_a_thread(y: Any) -> Any:
    if not any(thread.name == "poll" for thread in threading.enumerate()):
        threading.Thread(target=time.sleep, args=(3,), name="poll", daemon=True).start()
    return y


@passes("child process")
def leaves_a_child(y: Any) -> Any:
    import subprocess

    KEPT.append(subprocess.Popen(["sleep", "5"]))
    return y


@passes("a fork, which was ended")
def forks_and_the_child_stays(y: Any) -> Any:
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    return y


@passes()
def forks_and_both_go_on(y: Any) -> Any:
    os.fork()
    return y


@passes()
def forks_and_the_child_raises(y: Any) -> Any:
    if os.fork() == 0:
        raise ValueError("the child")
    return y


@passes("in the working folder: hostile")
def leaves_a_file(y: Any) -> Any:
    with open(f"hostile-{time.monotonic_ns()}.bin", "wb") as file:
        file.write(b"x")
    return y


@passes("in the temporary folder: ")
def leaves_a_temporary_file(y: Any) -> Any:
    descriptor, _ = tempfile.mkstemp()
    os.close(descriptor)
    return y


# --- changes its inputs ---------------------------------------------------------------------------


@fails("")
def forgets_the_shape_of_the_answer(y: Any) -> Any:
    raise IndexError("list index out of range")


@fails("FileNotFoundError")
def needs_a_file_that_is_not_there(y: Any) -> Any:
    with open("/nowhere/at/all", encoding="utf-8") as file:
        return file.read()


@fails("ModuleNotFoundError")
def needs_a_module_that_is_not_there(y: Any) -> Any:
    import nothing_of_that_name  # type: ignore[import-not-found]

    return nothing_of_that_name


@fails("TypeError")
def calls_what_cannot_be_called(y: Any) -> Any:
    return y.shape()


# --- as subjects ----------------------------------------------------------------------------------


def honest(*inputs: Tensor) -> Tensor:
    return (inputs[0] - inputs[1]).square().mean() if len(inputs) > 1 else inputs[0] * 2


def subject(kind: str, behaviour: str) -> Any:
    """What misbehaves so, as a function, or as a class of modules for layers."""
    act = BEHAVIOURS[behaviour].act if behaviour != "is_honest" else lambda y: y

    def call(*inputs: Tensor) -> Any:
        return act(honest(*inputs))

    call.__name__ = call.__qualname__ = f"{kind}__{behaviour}"
    if kind != "layer":
        return call

    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return act(honest(x))

    Layer.__name__ = Layer.__qualname__ = f"{kind}__{behaviour}"
    return Layer


def __getattr__(name: str) -> Any:
    kind, found, behaviour = name.partition("__")
    if not found or kind not in KINDS or behaviour not in {*BEHAVIOURS, "is_honest"}:
        raise AttributeError(name)
    return globals().setdefault(name, subject(kind, behaviour))


def subjects() -> list[tuple[str, str]]:
    """(kind, behaviour) of all; those that end their process as one kind each."""
    return [
        (kind, name)
        for name, behaviour in BEHAVIOURS.items()
        for kind in (("op",) if behaviour.ends else KINDS)
    ]


# --- takes away what is put back with -------------------------------------------------------------


@passes()
def closes_the_copies_of_the_streams(y: Any) -> Any:
    os.closerange(64, 90)
    return y


@passes()
def lowers_its_hard_limits(y: Any) -> Any:
    import resource

    for kind in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE):
        soft, _ = resource.getrlimit(kind)
        resource.setrlimit(kind, (soft, 2**50))
    return y
