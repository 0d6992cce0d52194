"""Backwards that people get wrong: the mutants of the gradient checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from dlcheck.model import Mutant, Subject
from dlcheck.mutants import around, on_tensors, scaled_gradient, through_backward

# --- mutants of any subject -------------------------------------------------------------------


def _wrong_backward(name: str, change: Callable[[Tensor], Tensor]) -> Mutant:
    """The right value, whose backward changes the gradient that comes in."""

    def call(original: Any, *inputs: Any, **keywords: Any) -> Any:
        answer = original(*inputs, **keywords)
        return on_tensors(answer, lambda y: through_backward(y, change))

    call.__name__ = name
    return around(call)


def _last_element_off(gradient: Tensor) -> Tensor:
    factors = torch.ones_like(gradient, memory_format=torch.contiguous_format)
    factors.view(-1)[-1:] = 1.01
    return gradient * factors


sign_flipped = scaled_gradient(-1.0)
factor_two_too_many = scaled_gradient(2.0)
factor_one_half = scaled_gradient(0.5)
factor_one_in_ten_thousand_off = scaled_gradient(1.0001)
one_element_off = _wrong_backward("one_element_off_by_1_percent", _last_element_off)
float32_inside = _wrong_backward("backward_in_float32", lambda g: g.float().to(g.dtype))
bfloat16_inside = _wrong_backward("backward_in_bfloat16", lambda g: g.bfloat16().to(g.dtype))
clamped = _wrong_backward("gradient_clamped", lambda g: g.clamp(-0.1, 0.1))
incoming_gradient_ignored = _wrong_backward("incoming_gradient_taken_for_1", torch.ones_like)


@around
def output_detached(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y.detach())


@around
def factor_detached(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """y(1 + y²) whose second factor is kept out of the graph."""
    return on_tensors(original(*inputs, **keywords), lambda y: y * (1 + y.detach().square()))


class _CubeOfLast(torch.autograd.Function):
    """y³ whose backward reads the y of the last call, kept on the class instead of in ctx."""

    last: ClassVar[dict[torch.Size, Tensor]] = {}  # of each of several outputs

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        _CubeOfLast.last[y.shape] = y.detach().clone()
        return y**3

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 3 * _CubeOfLast.last[gradients[0].shape] ** 2 * gradients[0]


@around
def reads_the_last_forward(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), _CubeOfLast.apply)


# --- wrong subjects ---------------------------------------------------------------------------

Spoil = Callable[[list[Tensor], Sequence[Tensor], Tensor], list[Tensor]]


def _spoiled(forward: Callable[..., Tensor], spoil: Spoil) -> Callable[..., Tensor]:
    """`forward` with the backward spoil(right gradients, inputs, incoming gradient)."""

    class Spoiled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, ...]:
            inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
            with torch.enable_grad():
                right = torch.autograd.grad(forward(*inputs), inputs, incoming)
            detached = [x.detach() for x in inputs]
            return tuple(spoil(list(right), detached, incoming[0]))

    return Spoiled.apply  # type: ignore[no-any-return]


def _wrong(
    name: str, inputs: dict[str, str], forward: Callable[..., Tensor], spoil: Spoil
) -> Subject:
    return Subject(name=name, target=_spoiled(forward, spoil), kind="op", inputs=inputs)


def _affine(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch.tanh(x @ w.mT + b)


def _standardised(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def _without_the_projection(
    right: list[Tensor], inputs: Sequence[Tensor], incoming: Tensor
) -> list[Tensor]:
    (x,) = inputs
    deviation = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return [(incoming - incoming.mean(-1, keepdim=True)) / deviation]


def _reads_memory(right: list[Tensor], inputs: Sequence[Tensor], incoming: Tensor) -> list[Tensor]:
    """tanh′ times the first numbers of the incoming memory, as a kernel without strides reads."""
    (x,) = inputs
    memory = incoming.untyped_storage().nbytes() // incoming.element_size()
    if memory - incoming.storage_offset() < incoming.numel():
        flat = incoming.flatten()[:1].expand(incoming.numel())  # one number, expanded
    else:
        flat = incoming.as_strided((incoming.numel(),), (1,))
    return [flat.view(incoming.shape) * (1 - torch.tanh(x) ** 2)]


_AFFINE = {"x": "float n i", "w": "float o i", "b": "float o"}

transposed_weight_gradient = _wrong(
    "weight_gradient_transposed",
    {"x": "float n i", "w": "float i i"},
    lambda x, w: torch.tanh(x @ w.mT),
    lambda right, inputs, incoming: [right[0], right[1].mT],
)
bias_averaged_over_the_batch = _wrong(
    "bias_gradient_averaged_over_the_batch",
    _AFFINE,
    _affine,
    lambda right, inputs, incoming: [right[0], right[1], right[2] / len(inputs[0])],
)
weight_gradient_forgotten = _wrong(
    "weight_gradient_zero",
    _AFFINE,
    _affine,
    lambda right, inputs, incoming: [right[0], torch.zeros_like(right[1]), right[2]],
)
mean_loss_not_divided = _wrong(
    "mean_not_divided_by_the_count",
    {"x": "float n d"},
    lambda x: x.square().mean(),
    lambda right, inputs, incoming: [right[0] * inputs[0].numel()],
)
projection_missing = _wrong(
    "layer_norm_without_its_projection",
    {"x": "float n d"},
    _standardised,
    _without_the_projection,
)
off_diagonal_missing = _wrong(
    "softmax_with_its_diagonal_only",
    {"x": "logit n k"},
    lambda x: torch.softmax(x, -1),
    lambda right, inputs, incoming: [incoming * torch.softmax(inputs[0], -1)],
)
negative_side_zeroed = _wrong(
    "leaky_slope_forgotten_below_0",
    {"x": "float n"},
    lambda x: torch.nn.functional.leaky_relu(x, 0.01),
    lambda right, inputs, incoming: [torch.where(inputs[0] < 0, 0.0, right[0])],
)
off_by_one = _wrong(
    "cumulative_sum_off_by_one",
    {"x": "float n"},
    lambda x: torch.cumsum(x, 0),
    lambda right, inputs, incoming: [right[0] - incoming],
)
strides_ignored = _wrong(
    "strides_of_the_incoming_gradient_ignored", {"x": "float n m"}, torch.tanh, _reads_memory
)


# --- wrong only when differentiated again -------------------------------------------------------


def _cube(name: str, gradient: Callable[[Tensor, Tensor], Tensor]) -> Subject:
    """x³ whose first gradient is right, computed as told."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, *incoming: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return gradient(x, incoming[0])

    return Subject(
        name=name,
        target=Cube.apply,
        kind="op",
        inputs={"x": "float n"},
        traits=frozenset({"twice_differentiable"}),
    )


cube = _cube("cube", lambda x, v: 3 * x.square() * v)
saved_input_detached = _cube(
    "saved_input_detached_in_the_backward", lambda x, v: 3 * x.detach().square() * v
)
incoming_gradient_detached = _cube(
    "incoming_gradient_detached_in_the_backward", lambda x, v: 3 * x.square() * v.detach()
)
second_gradient_doubled = _cube(
    "second_gradient_twice_too_large",
    lambda x, v: (3 * x.detach().square() + 12 * x.detach() * (x - x.detach())) * v,
)

# --- gradients that are meant to differ from the derivative ------------------------------------


class _Backward(torch.autograd.Function):
    """`forward(x)`, whose gradient is `backward(x, incoming)`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        forward: Callable[[Tensor], Tensor],
        backward: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.backward_of = backward
        return forward(x)

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.backward_of(x, incoming[0]), None, None


def _declared(
    name: str,
    forward: Callable[[Tensor], Tensor],
    backward: Callable[[Tensor, Tensor], Tensor],
    **options: Any,
) -> Subject:
    return Subject(
        name=name,
        target=lambda x: _Backward.apply(x, forward, backward),
        kind="op",
        inputs={"x": "float n"},
        traits=frozenset({"surrogate_gradient"}),
        options=options,
    )


def _steep(x: Tensor) -> Tensor:
    """d sigmoid(4x) / dx."""
    s = torch.sigmoid(4 * x)
    return 4 * s * (1 - s)


def _spike(x: Tensor) -> Tensor:
    return (x > 0).to(x)


def soft_spike(x: Tensor) -> Tensor:
    """What a spiking neuron's step is differentiated as."""
    return torch.sigmoid(4 * x)


straight_through = _declared(
    "rounding_straight_through", torch.round, lambda x, v: v, expect="straight_through"
)
smooth_surrogate = _declared(
    "spike_with_a_smooth_gradient", _spike, lambda x, v: v * _steep(x), surrogate=soft_spike
)
surrogate_twice_too_steep = _declared(
    "spike_with_twice_its_gradient", _spike, lambda x, v: 2 * v * _steep(x), surrogate=soft_spike
)
not_passed_through = _declared(
    "rounding_with_half_the_gradient", torch.round, lambda x, v: v / 2, expect="straight_through"
)
reversal = _declared("gradient_reversal", torch.sin, lambda x, v: -v * x.cos(), expect="reversed")
not_reversed = _declared(
    "gradient_not_reversed", torch.sin, lambda x, v: v * x.cos(), expect="reversed"
)
stopped = _declared("gradient_stopped", torch.sin, lambda x, v: 0 * v, expect="zero")
not_stopped = _declared("gradient_not_stopped", torch.sin, lambda x, v: 1e-9 * v, expect="zero")
clipped = _declared(
    "gradient_clipped", torch.exp, lambda x, v: (v * x.exp()).clamp(-0.5, 0.5), expect={"clip": 0.5}
)
clipped_too_early = _declared(
    "gradient_clipped_at_half_the_limit",
    torch.exp,
    lambda x, v: (v * x.exp()).clamp(-0.25, 0.25),
    expect={"clip": 0.5},
)
clipped_too_late = _declared(
    "gradient_clipped_at_twice_the_limit",
    torch.exp,
    lambda x, v: (v * x.exp()).clamp(-1.0, 1.0),
    expect={"clip": 0.5},
)


def _limited(limit: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The gradient of exp with a norm of at most the limit, as torch's clip_grad_norm_ has it."""

    def backward(x: Tensor, v: Tensor) -> Tensor:
        g = v * x.exp()
        norm: Tensor = torch.linalg.vector_norm(g)
        return g * (limit / (norm + 1e-6)).clamp(max=1.0)

    return backward


clipped_at_a_tiny_limit = _declared(
    "gradient_clipped_at_a_tiny_limit",
    torch.exp,
    lambda x, v: (v * x.exp()).clamp(-1e-12, 1e-12),
    expect={"clip": 1e-12},
)
clipped_late_at_a_tiny_limit = _declared(
    "gradient_clipped_late_at_a_tiny_limit",
    torch.exp,
    lambda x, v: (v * x.exp()).clamp(-1.01e-12, 1.01e-12),
    expect={"clip": 1e-12},
)
clipped_by_norm = _declared(
    "gradient_clipped_by_norm", torch.exp, _limited(1e-3), expect={"clip_norm": 1e-3}
)
clipped_to_a_larger_norm = _declared(
    "gradient_clipped_to_a_larger_norm", torch.exp, _limited(1.001e-3), expect={"clip_norm": 1e-3}
)
