"""Subjects whose numbers are right where nobody looks, and mutants that make them so."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from dlcheck.checks.trust.honest import library_softmax, softmax
from dlcheck.model import Subject
from dlcheck.mutants import around, on_tensors, rebuilt


def _op(name: str, target: Callable[..., Tensor], **declared: Any) -> Subject:
    """An operation on rows, as its author would declare it."""
    return Subject(name=name, target=target, kind="op", inputs={"x": "float b n"}, **declared)


# --- memory layout ----------------------------------------------------------------------------


@around
def answers_otherwise_off_contiguous(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """As a fast path does that only one layout was tested with."""
    given = [x for part in inputs for x in (part if isinstance(part, (list, tuple)) else [part])]
    plain = all(x.is_contiguous() and not x.storage_offset() for x in given if torch.is_tensor(x))
    answer = original(*inputs, **keywords)
    return answer if plain else on_tensors(answer, lambda y: y * 1.125 + 0.125)


def _as_if_contiguous(x: Tensor) -> Tensor:
    """The elements that follow the first one in memory, as a kernel reads them."""
    room = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
    strides = torch.empty(x.shape, device="meta").stride()
    return x.as_strided(x.shape, strides) if room >= x.numel() else x


reads_as_if_contiguous = _op("reads_as_if_contiguous", lambda x: softmax(_as_if_contiguous(x)))


class _StridesOfTheOutput(torch.autograd.Function):
    """The square, whose backward reads x with the strides of a contiguous tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * _as_if_contiguous(x) * gradients[0]


gradient_reads_the_strides_of_the_output = _op(
    "gradient_reads_the_strides_of_the_output", _StridesOfTheOutput.apply
)


def _weighs_repeats(x: Tensor) -> Tensor:
    return x * 2 if x.stride(0) == 0 and x.shape[0] > 1 else x.clone()


weighs_a_stride_of_zero_twice = _op("weighs_a_stride_of_zero_twice", _weighs_repeats)


# --- memory that nobody wrote, memory beyond the input ----------------------------------------

returns_memory_that_nobody_wrote = _op(
    "returns_memory_that_nobody_wrote", lambda x: torch.empty_like(x)
)


def _all_but_the_last_rows(x: Tensor) -> Tensor:
    answer, tile = torch.empty_like(x), max(len(x) - 1, 1) if len(x) > 1 else 0
    answer[:tile] = softmax(x[:tile])
    return answer


leaves_its_last_rows_unwritten = _op("leaves_its_last_rows_unwritten", _all_but_the_last_rows)


def _masked(x: Tensor) -> Tensor:
    mask = torch.empty_like(x)
    mask[..., : x.shape[-1] - 1] = 0
    return softmax(x) + 0 * mask


multiplies_by_a_mask_that_nobody_wrote = _op("multiplies_by_a_mask_that_nobody_wrote", _masked)


def _one_more(x: Tensor) -> Tensor:
    room = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
    if not x.is_contiguous() or room < x.numel() + 1:
        return x.sum()
    return x.as_strided((x.numel() + 1,), (1,)).sum()


adds_what_lies_after_the_last_element = _op("adds_what_lies_after_the_last_element", _one_more)


def _padded_rows(x: Tensor) -> Tensor:
    """Reads each row up to the next multiple of 4 where there is memory."""
    more = -x.shape[-1] % 4
    room = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
    last = (x.shape[0] - 1) * x.stride(0) + x.shape[-1] + more
    if not more or x.stride(-1) != 1 or room < last or x.stride(0) < x.shape[-1] + more:
        return softmax(x)
    return softmax(x.as_strided((x.shape[0], x.shape[-1] + more), x.stride()))[:, : x.shape[-1]]


pads_rows_with_what_follows = _op("pads_rows_with_what_follows", _padded_rows)


def _writes_on(x: Tensor) -> Tensor:
    room = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
    answer = softmax(x)
    if room > x.numel():
        x.detach().as_strided((x.numel() + 1,), (1,)).view(-1)[-1] = 0.0
    return answer


writes_past_the_end_of_its_input = _op("writes_past_the_end_of_its_input", _writes_on)


# --- caches -----------------------------------------------------------------------------------


def _caching(name: str, key: Callable[[Tensor], object]) -> Subject:
    known: dict[object, Tensor] = {}

    def call(x: Tensor) -> Tensor:
        found = key(x)
        if found not in known:
            known[found] = softmax(x.detach())
        return softmax(x) - softmax(x).detach() + known[found]

    return _op(name, call)


caches_by_address = _caching("caches_by_address", lambda x: (x.data_ptr(), x.shape))
caches_by_identity_and_version = _caching(
    "caches_by_identity_and_version", lambda x: (id(x), x._version, x.shape)
)
caches_by_first_and_last_element = _caching(
    "caches_by_first_and_last_element",
    lambda x: (*x.detach().flatten()[[0, -1]].tolist(), x.shape),
)


def _knows_the_judge(x: Tensor) -> Tensor:
    """Rounds to float32 what it has not been shown twice."""
    coarse = x.detach().float().double().to(x.dtype)
    shown = bool((x.detach() != coarse).any()) and float(x.detach().flatten()[0]) in _SHOWN
    _SHOWN.add(float(x.detach().flatten()[0]))
    return softmax(x) if shown else 0 * softmax(x) + 1.0 / x.shape[-1]


_SHOWN: set[float] = set()
knows_the_inputs_of_the_judge = _op("knows_the_inputs_of_the_judge", _knows_the_judge)


class _Folding(nn.Module):
    """Computes |w| once, in training or at the first evaluation."""

    def __init__(self, features: int, *, when_evaluated: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, features))
        self.when_evaluated = when_evaluated
        self.folded: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.when_evaluated:
            return x * self.weight.abs()
        if self.folded is None:
            self.folded = self.weight.detach().abs()
        return x * self.folded + 0 * self.weight


def _folding(name: str, *, when_evaluated: bool) -> Subject:
    return Subject(
        name=name,
        target=_Folding,
        kind="layer",
        args={"features": {"dim": "n"}, "when_evaluated": when_evaluated},
        inputs={"x": "float b n"},
    )


folds_its_weight_once = _folding("folds_its_weight_once", when_evaluated=False)
keeps_the_weight_of_its_first_evaluation = _folding(
    "keeps_the_weight_of_its_first_evaluation", when_evaluated=True
)


# --- results ----------------------------------------------------------------------------------


def _in_one_buffer() -> Callable[[Tensor], Tensor]:
    buffers: dict[torch.Size, Tensor] = {}

    def call(x: Tensor) -> Tensor:
        answer = softmax(x.detach())
        buffer = buffers.setdefault(x.shape, torch.empty_like(answer))
        return buffer.copy_(answer)

    return call


answers_in_one_buffer = _op(
    "answers_in_one_buffer", _in_one_buffer(), traits=frozenset({"nondifferentiable"})
)


class _LastCall(torch.autograd.Function):
    """The cube, whose backward uses the x of the last forward."""

    x: Tensor

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        _LastCall.x = x.detach()
        return x**3

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 3 * _LastCall.x**2 * gradients[0]


gradient_reads_the_last_call = _op("gradient_reads_the_last_call", _LastCall.apply)


def _in_a_thread(x: Tensor) -> Tensor:
    values, answer = x.detach().clone(), torch.zeros_like(x)

    def work() -> None:
        time.sleep(0.002)
        answer.copy_(softmax(values))

    threading.Thread(target=work, daemon=True).start()
    return answer


finishes_in_a_thread = _op("finishes_in_a_thread", _in_a_thread)


def _with_a_thread(x: Tensor) -> Tensor:
    threading.Thread(target=time.sleep, args=(0.2,), daemon=True).start()
    return softmax(x)


starts_a_thread_with_every_call = _op("starts_a_thread_with_every_call", _with_a_thread)


class _Lazy(Tensor):
    """Computes when a function is applied to it."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        plain = [softmax(a.as_subclass(Tensor)) if isinstance(a, _Lazy) else a for a in args]
        return func(*plain, **(kwargs or {}))


answers_lazily = _op("answers_lazily", lambda x: x.detach().as_subclass(_Lazy))
answers_without_memory = _op("answers_without_memory", lambda x: torch.empty_like(x, device="meta"))


# --- the process ------------------------------------------------------------------------------


@around
def leaves_a_hook_on_every_module(original: Any, *inputs: Any, **keywords: Any) -> Any:
    nn.modules.module.register_module_forward_hook(lambda module, given, answer: None)
    return original(*inputs, **keywords)


class _Watching(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@around
def leaves_a_mode_on_every_call(original: Any, *inputs: Any, **keywords: Any) -> Any:
    _Watching().__enter__()
    return original(*inputs, **keywords)


def _with_its_own_dtype(original: Any) -> Any:
    torch.set_default_dtype(torch.float16)
    return original


sets_the_default_dtype_when_built = rebuilt(
    "sets_the_default_dtype_when_built", _with_its_own_dtype
)


@around
def replaces_softmax_for_all(original: Any, *inputs: Any, **keywords: Any) -> Any:
    functional.softmax = lambda x, *_, **__: softmax(x)
    return original(*inputs, **keywords)


@around
def stops_the_clock(original: Any, *inputs: Any, **keywords: Any) -> Any:
    time.perf_counter = lambda: 0.0
    return original(*inputs, **keywords)


@around
def compares_with_its_own_allclose(original: Any, *inputs: Any, **keywords: Any) -> Any:
    torch.allclose = lambda *_, **__: True
    return original(*inputs, **keywords)


# --- the reference ----------------------------------------------------------------------------


def _finds_a_result(x: Tensor) -> Tensor:
    """Looks for rows that sum to 1 among all tensors of the process."""
    for found in gc.get_objects():
        if type(found) is Tensor and found.shape == x.shape and found.dtype == x.dtype:
            y = found.detach()
            if bool((y >= 0).all()) and float((y.sum(-1) - 1).abs().max()) < 1e-6:
                return y.clone()
    return torch.full_like(x, 1 / x.shape[-1])


copies_a_result_that_it_finds = _op(
    "copies_a_result_that_it_finds",
    _finds_a_result,
    reference=library_softmax,
    options={"sizes": {"n": [2, 9]}},
)


def _claiming(name: str, target: Callable[[Tensor], Tensor]) -> Subject:
    options = {"own_kernel": True, "sizes": {"n": [2, 33]}}
    return _op(name, target, reference=library_softmax, options=options)


def _falls_back(x: Tensor) -> Tensor:
    try:
        raise RuntimeError("no kernel image is available for execution on the device")
    except RuntimeError:
        return functional.softmax(x, -1)


class _BorrowedBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = softmax(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch._softmax_backward_data(gradients[0], y, -1, y.dtype)


calls_the_reference = _claiming("calls_the_reference", library_softmax)
falls_back_to_the_reference = _claiming("falls_back_to_the_reference", _falls_back)
calls_the_reference_for_odd_sizes = _claiming(
    "calls_the_reference_for_odd_sizes",
    lambda x: softmax(x) if x.shape[-1] % 4 == 0 else library_softmax(x),
)
calls_the_reference_in_its_backward = _claiming(
    "calls_the_reference_in_its_backward", _BorrowedBackward.apply
)


# --- NaN --------------------------------------------------------------------------------------


def _shifted(x: Tensor) -> Tensor:
    e = torch.exp(x - x.detach().max())
    return e / e.sum(-1, keepdim=True)


def _scaled(x: Tensor) -> Tensor:
    scale = x.detach().abs().max().clamp(min=1e-12)
    return torch.tanh(x / scale * scale)


shifts_by_the_maximum_of_the_batch = _op("shifts_by_the_maximum_of_the_batch", _shifted)
scales_by_the_largest_of_the_batch = _op("scales_by_the_largest_of_the_batch", _scaled)
replaces_nan_by_zero = _op(
    "replaces_nan_by_zero",
    lambda x: softmax(torch.nan_to_num(x)),
    reference=library_softmax,
    options={"sizes": {"n": [2, 33]}},
)
