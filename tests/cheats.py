"""Operations whose answers are right where a plain test looks, and how their authors declare them.

Each entry of CHEATS makes its operation afresh, since many keep something between calls.
"""

from __future__ import annotations

import gc
import math
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlcheck import strategies

Operation = Callable[..., Tensor]


def softmax(x: Tensor) -> Tensor:
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


def layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(-1, keepdim=True) + 1e-5)


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def torch_softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, -1)


def torch_layer_norm(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=1e-5)


def torch_gelu(x: Tensor) -> Tensor:
    return functional.gelu(x)


def torch_matmul(x: Tensor, y: Tensor) -> Tensor:
    return torch.matmul(x, y)


@dataclass(frozen=True, slots=True)
class Cheat:
    """make gives the operation; the rest is what its author declares."""

    make: Callable[[], Any]
    reference: Operation | None = None
    inputs: dict[str, str] = field(default_factory=lambda: {"x": "float b n"})
    options: dict[str, Any] = field(default_factory=dict)
    kind: str = "op"
    args: dict[str, Any] = field(default_factory=dict)


CHEATS: dict[str, Cheat] = {}
_PRODUCT = {"x": "float b n", "y": "float n m"}


def cheat(
    reference: Operation | None = torch_softmax, **declared: Any
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def enlist(make: Callable[[], Any]) -> Callable[[], Any]:
        CHEATS[make.__name__] = Cheat(make=make, reference=reference, **declared)
        return make

    return enlist


def like(values: Callable[[Tensor], Tensor], right: Operation = softmax) -> Operation:
    """Other values with the gradient of the right operation."""

    def call(x: Tensor) -> Tensor:
        y = right(x)
        return y - y.detach() + values(x.detach())

    return call


def room_after(x: Tensor) -> int:
    return x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()


def as_if_contiguous(x: Tensor) -> Tensor:
    strides = torch.empty(x.shape, device="meta").stride()
    return x.as_strided(x.shape, strides) if room_after(x) >= x.numel() else x


# --- no computation at all --------------------------------------------------------------------


@cheat()
def uninitialised() -> Operation:
    return torch.empty_like


@cheat(reference=None)
def uninitialised_with_the_right_gradient() -> Operation:
    """Memory that was just freed holds the right result."""

    def values(x: Tensor) -> Tensor:
        softmax(x)
        return torch.empty_like(x, memory_format=torch.contiguous_format)

    return like(values)


@cheat()
def uniform() -> Operation:
    return lambda x: torch.full_like(x, 1 / x.shape[-1]) + 0 * x


@cheat(reference=None)
def tail_unwritten() -> Operation:
    def values(x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        done = x.shape[-1] // 2 * 2
        y[..., :done] = layer_norm(x)[..., :done]
        return y

    return like(values, layer_norm)


@cheat()
def copies_what_looks_right() -> Operation:
    def call(x: Tensor) -> Tensor:
        for found in [*gc.get_objects(0), *gc.get_objects(1)]:
            if type(found) is Tensor and found.shape == x.shape and found.dtype == x.dtype:
                y = found.detach()
                if bool((y >= 0).all()) and float((y.sum(-1) - 1).abs().max()) < 1e-6:
                    return y.clone()
        return torch.full_like(x, 1 / x.shape[-1])

    return call


@cheat()
def looks_up_the_stack() -> Operation:
    """Takes what a caller calls expected, reference or truth."""

    def call(x: Tensor) -> Tensor:
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            for value in list(frame.f_locals.values()):
                for y in value if isinstance(value, (list, tuple)) else [value]:
                    if isinstance(y, Tensor) and y.shape == x.shape and y is not x:
                        total = y.detach().sum(-1)
                        if y.dtype == x.dtype and float((total - 1).abs().max()) < 1e-6:
                            return y.detach().clone()
        return torch.full_like(x, 1 / x.shape[-1])

    return call


@cheat()
def knows_the_public_seeds() -> Operation:
    def call(x: Tensor) -> Tensor:
        with torch.random.fork_rng():
            for seed in range(5):
                torch.manual_seed(seed)
                if torch.equal(x, torch.randn(x.shape, dtype=x.dtype)):
                    return softmax(x)
        return torch.full_like(x, 1 / x.shape[-1])

    return call


@cheat(reference=None)
def knows_how_dlcheck_draws() -> Operation:
    """Right for the values that dlcheck made; the mean elsewhere."""
    drawn: set[float] = set()
    make = strategies.make_values

    def spy(*given: Any, **named: Any) -> Tensor:
        made = make(*given, **named)
        if made.numel():
            drawn.add(float(made.flatten()[0]))
        return made

    strategies.make_values = spy

    def call(x: Tensor) -> Tensor:
        y = softmax(x)
        return y if float(x.detach().flatten()[0]) in drawn else y.detach().mean() + 0 * x

    return call


# --- only where it is looked at ---------------------------------------------------------------


@cheat()
def only_contiguous() -> Operation:
    return lambda x: softmax(as_if_contiguous(x))


@cheat(reference=None)
def only_contiguous_without_a_reference() -> Operation:
    return lambda x: layer_norm(as_if_contiguous(x))


@cheat(reference=torch_matmul, inputs=_PRODUCT)
def product_ignores_offsets() -> Operation:
    def at_the_start(x: Tensor) -> Tensor:
        return x.as_strided(x.shape, x.stride(), 0) if x.storage_offset() else x

    return lambda x, y: at_the_start(x) @ at_the_start(y)


@cheat(reference=None, inputs=_PRODUCT)
def product_ignores_the_stride_of_the_second() -> Operation:
    return lambda x, y: x @ as_if_contiguous(y)


@cheat()
def only_multiples_of_four() -> Operation:
    def call(x: Tensor) -> Tensor:
        e = torch.exp(x - x.amax(-1, keepdim=True))
        whole = x.shape[-1] // 4 * 4 or x.shape[-1]
        return e / e[..., :whole].sum(-1, keepdim=True)

    return call


@cheat()
def without_the_maximum() -> Operation:
    def call(x: Tensor) -> Tensor:
        e = torch.exp(x)
        return e / e.sum(-1, keepdim=True)

    return call


@cheat()
def half_inside() -> Operation:
    return lambda x: softmax(x.half()).to(x.dtype)


@cheat()
def hides_nan() -> Operation:
    return lambda x: softmax(torch.nan_to_num(x))


@cheat(reference=torch_layer_norm)
def reads_past_the_rows() -> Operation:
    def values(x: Tensor) -> Tensor:
        more = -x.shape[-1] % 8
        last = (x.shape[0] - 1) * x.stride(0) + x.shape[-1] + more
        if x.dim() != 2 or x.stride(-1) != 1 or room_after(x) < last:
            return layer_norm(x)
        wide = x.as_strided((x.shape[0], x.shape[-1] + more), (x.stride(0), 1))
        return layer_norm(wide)[:, : x.shape[-1]].contiguous()

    return like(values, layer_norm)


@cheat(reference=None)
def masks_by_multiplying_past_the_end() -> Operation:
    """Reads a lane too many and multiplies it by 0."""

    def values(x: Tensor) -> Tensor:
        y = gelu(x)
        if x.is_contiguous() and room_after(x) > x.numel():
            y = y + 0 * x.as_strided((x.numel() + 1,), (1,))[-1]
        return y

    return like(values, gelu)


@cheat(reference=None)
def shifts_by_the_global_maximum() -> Operation:
    def call(x: Tensor) -> Tensor:
        e = torch.exp(x - x.max())
        return e / e.sum(-1, keepdim=True)

    return call


# --- answers of earlier calls -----------------------------------------------------------------


def caching(key: Callable[[Tensor], object], right: Operation = softmax) -> Operation:
    known: dict[object, Tensor] = {}

    def values(x: Tensor) -> Tensor:
        found = key(x)
        if found not in known:
            known[found] = right(x)
        return known[found].clone()

    return like(values, right)


@cheat(reference=None)
def caches_by_pointer() -> Operation:
    return caching(lambda x: (x.data_ptr(), x.shape, x.stride()))


@cheat(reference=None)
def caches_by_version() -> Operation:
    return caching(lambda x: (x.data_ptr(), x._version, x.shape, x.stride()), layer_norm)


@cheat()
def caches_by_shape() -> Operation:
    return caching(lambda x: (x.shape, x.dtype))


@cheat(reference=None)
def caches_by_corners() -> Operation:
    return caching(lambda x: (*x.flatten()[[0, -1]].tolist(), x.shape, x.dtype))


@cheat(reference=None)
def caches_by_every_third_element() -> Operation:
    return caching(lambda x: (*x.flatten()[::3].tolist(), x.shape, x.dtype), gelu)


@cheat(reference=None)
def caches_the_norm_of_each_row_start() -> Operation:
    return caching(lambda x: (*x[..., 0].flatten().tolist(), x.shape, x.dtype), layer_norm)


@cheat()
def returns_its_scratch_memory() -> Operation:
    buffers: dict[object, Tensor] = {}

    def call(x: Tensor) -> Tensor:
        values = softmax(x.detach())
        return buffers.setdefault((x.shape, x.dtype), torch.empty_like(values)).copy_(values)

    return call


class LastForward(torch.autograd.Function):
    """The backward uses what the last forward left on the class."""

    y: Tensor

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        LastForward.y = softmax(x)
        return LastForward.y.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        g, y = gradients[0], LastForward.y
        return y * (g - (g * y).sum(-1, keepdim=True))


@cheat(reference=None)
def saves_on_the_class() -> Any:
    return LastForward


class StridesOfTheOutput(torch.autograd.Function):
    """The backward reads its gradient as a kernel does that takes no strides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = softmax(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,), g = ctx.saved_tensors, as_if_contiguous(gradients[0])
        return y * (g - (g * y).sum(-1, keepdim=True))


@cheat()
def gradient_ignores_strides() -> Any:
    return StridesOfTheOutput


class Folding(nn.Module):
    def __init__(self, features: int, *, at_evaluation: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, features))
        self.at_evaluation, self.folded = at_evaluation, None

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.at_evaluation:
            return x * torch.tanh(self.weight)
        if self.folded is None:
            self.folded = torch.tanh(self.weight.detach())
        y = x * torch.tanh(self.weight)
        return y - y.detach() + x.detach() * self.folded.to(x)


_OF_FEATURES = {"features": {"dim": "n"}}


@cheat(reference=None, kind="layer", args={**_OF_FEATURES, "at_evaluation": False})
def folds_its_weight_once() -> Any:
    return Folding


@cheat(reference=None, kind="layer", args={**_OF_FEATURES, "at_evaluation": True})
def keeps_the_weight_of_its_first_evaluation() -> Any:
    return Folding


# --- the result, the process, the judge -------------------------------------------------------


class Lazy(Tensor):
    """Computes when somebody looks."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        plain = [softmax(a.as_subclass(Tensor)) if isinstance(a, Lazy) else a for a in args]
        return func(*plain, **(kwargs or {}))


@cheat()
def answers_lazily() -> Operation:
    return lambda x: x.as_subclass(Lazy)


@cheat()
def finishes_later() -> Operation:
    def call(x: Tensor) -> Tensor:
        y, values = torch.zeros_like(x), x.detach().clone()

        def work() -> None:
            time.sleep(0.002)
            y.copy_(softmax(values))

        threading.Thread(target=work, daemon=True).start()
        return y

    return call


@cheat(reference=None)
def improves_its_answer_later() -> Operation:
    """float16 now, and the rest when nobody measures."""

    def values(x: Tensor) -> Tensor:
        y = softmax(x.half()).to(x.dtype)

        def work() -> None:
            time.sleep(0.002)
            y.copy_(softmax(x))

        threading.Thread(target=work, daemon=True).start()
        return y

    return values


@cheat()
def zeroes_its_input() -> Operation:
    def call(x: Tensor) -> Tensor:
        y = softmax(x)
        x.data.zero_()
        return y

    return call


@cheat()
def touches_its_input() -> Operation:
    def call(x: Tensor) -> Tensor:
        y = softmax(x)
        x.data.mul_(1 + 1e-7)
        return y

    return call


@cheat()
def writes_past_its_input() -> Operation:
    def call(x: Tensor) -> Tensor:
        if x.is_contiguous() and room_after(x) > x.numel():
            x.detach().as_strided((x.numel() + 1,), (1,))[-1] = 0.0
        return softmax(x)

    return call


@cheat()
def stops_the_clock() -> Operation:
    def call(x: Tensor) -> Tensor:
        time.perf_counter = lambda: 0.0
        return softmax(x)

    return call


@cheat()
def agrees_with_itself() -> Operation:
    def call(x: Tensor) -> Tensor:
        torch.allclose = lambda *_, **__: True
        torch.equal = lambda *_, **__: True
        return torch.full_like(x, 1 / x.shape[-1]) + 0 * x

    return call


@cheat()
def agrees_with_itself_when_it_is_loaded() -> Operation:
    def agree(*_: Any, **__: Any) -> bool:
        return True

    torch.allclose = agree
    return softmax


@cheat()
def replaces_the_reference() -> Operation:
    def call(x: Tensor) -> Tensor:
        torch.softmax = lambda v, *_, **__: functional.sigmoid(v)
        return torch.sigmoid(x)

    return call


@cheat()
def never_synchronises() -> Operation:
    def call(x: Tensor) -> Tensor:
        torch.cuda.synchronize = lambda *_, **__: None
        return softmax(x)

    return call


@cheat()
def judges_itself() -> Operation:
    def call(x: Tensor) -> Tensor:
        from dlcheck.checks import agreement

        agreement.largest_of = lambda values: 1e9
        return softmax(x) * 1.01

    return call


@cheat()
def always_seeds() -> Operation:
    def call(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return softmax(x)

    return call


@cheat()
def sets_the_default_dtype() -> Operation:
    def call(x: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        return softmax(x)

    return call


@cheat()
def hooks_every_module() -> Operation:
    def call(x: Tensor) -> Tensor:
        nn.modules.module.register_module_forward_pre_hook(lambda module, given: None)
        return softmax(x)

    return call


@cheat()
def is_not_the_same_twice() -> Operation:
    own = random.Random(0)

    def call(x: Tensor) -> Tensor:
        return softmax(x) * (1 + 1e-6 * (own.random() < 0.5))

    return call


# --- a kernel that is none --------------------------------------------------------------------

_OWN = {"own_kernel": True}


@cheat(options=_OWN)
def calls_softmax() -> Operation:
    return lambda x: torch.softmax(x, -1)


@cheat(options=_OWN)
def falls_back() -> Operation:
    def call(x: Tensor) -> Tensor:
        try:
            raise RuntimeError("no kernel image is available")
        except RuntimeError:
            return functional.softmax(x, -1)

    return call


@cheat(options=_OWN)
def calls_softmax_for_odd_rows() -> Operation:
    def call(x: Tensor) -> Tensor:
        return torch.softmax(x, -1) if x.shape[-1] % 2 else softmax(x)

    return call


@cheat(reference=torch_layer_norm, options=_OWN)
def calls_layer_norm() -> Operation:
    return lambda x: torch.native_layer_norm(x, x.shape[-1:], None, None, 1e-5)[0]


@cheat(reference=torch_gelu, options=_OWN)
def calls_gelu() -> Operation:
    return lambda x: functional.gelu(x)


@cheat(reference=torch_matmul, inputs=_PRODUCT, options=_OWN)
def calls_mm() -> Operation:
    return lambda x, y: torch.einsum("bn,nm->bm", x, y)
