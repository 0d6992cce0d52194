"""Wrong gradients of the machinery: detached parts, saved tensors, strides, order, duplicates."""

from __future__ import annotations

from typing import Any

import torch
from gradient_cases import Call, Draw, Wrong, claiming, only, registered
from torch import Tensor

MACHINERY: dict[str, Wrong] = {}
wrong = registered(MACHINERY, Wrong)


class SavedThenScaled(torch.autograd.Function):
    """exp(x) / 2, halved in place after it was kept for the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.exp(x)
        ctx.kept = y
        return y.mul_(0.5).clone()

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Tensor:
        return v * ctx.kept * 0.5


@wrong(cause=r"2|0\.5|half|factor|scal")
def saved_output_halved_in_place(draw: Draw) -> Call:
    return SavedThenScaled.apply, [draw.leaf(20)]


class EatsItsSavedTensor(torch.autograd.Function):
    """sin(x), whose backward overwrites what a second backward reads."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.slope = torch.cos(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Tensor:
        return ctx.slope.mul_(v)


@wrong(cause=r"second|twice|backward|saved|state|again")
def backward_overwrites_its_saved_tensor(draw: Draw) -> Call:
    return EatsItsSavedTensor.apply, [draw.leaf(20)]


class EatsItsCotangent(torch.autograd.Function):
    """relu(x), whose backward masks the incoming gradient in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return v.mul_(x > 0)


@wrong()
def backward_overwrites_its_cotangent(draw: Draw) -> Call:
    return lambda x: torch.sinh(x) + EatsItsCotangent.apply(x), [draw.leaf(20)]


@wrong()
def broadcast_scale_takes_the_first_row(draw: Draw) -> Call:
    claim = only(1, lambda _, inputs, v: (v * inputs[0])[0])
    return claiming(lambda x, scale: x * scale, claim), [draw.leaf(6, 5), draw.leaf(5)]


@wrong()
def channel_slope_summed_over_the_wrong_axes(draw: Draw) -> Call:
    def prelu(x: Tensor, slope: Tensor) -> Tensor:
        return torch.where(x > 0, x, slope[:, None, None] * x)

    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        return (v * inputs[0].clamp_max(0)).sum((0, 1, 2))

    return claiming(prelu, only(1, claimed)), [draw.leaf(2, 4, 3, 4), draw.leaf(4)]


@wrong(cause=r"other|swap|order|input")
def gradients_in_the_wrong_order(draw: Draw) -> Call:
    product = claiming(lambda a, b: torch.sin(a) * b, lambda gs, *_: [gs[1], gs[0]])
    return product, [draw.leaf(12), draw.leaf(12)]


class PackedGradients(torch.autograd.Function):
    """a · b · c, whose backward packs the gradients that are needed to the front."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, c)
        return a * b * c

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        a, b, c = ctx.saved_tensors
        every = [v * b * c, v * a * c, v * a * b]
        needed = [g for g, need in zip(every, ctx.needs_input_grad, strict=True) if need]
        return tuple([*needed, None, None][:3])


@wrong()
def needed_gradients_packed_to_the_front(draw: Draw) -> Call:
    return PackedGradients.apply, [draw(9), draw.leaf(9), draw.leaf(9)]


@wrong(cause=r"element|index|duplicat|repeat|row")
def repeated_rows_overwrite_each_other(draw: Draw) -> Call:
    rows = torch.tensor([0, 2, 2, 5, 7, 7, 7])

    def claimed(g: Tensor, _inputs: list[Tensor], v: Tensor) -> Tensor:
        written = torch.zeros_like(g)
        written[rows] = v  # index_add_ where a row repeats
        return written

    return claiming(lambda table: table[rows], only(0, claimed)), [draw.leaf(9, 3)]


@wrong()
def overlapping_windows_overwrite_each_other(draw: Draw) -> Call:
    def claimed(g: Tensor, _inputs: list[Tensor], v: Tensor) -> Tensor:
        written = torch.zeros_like(g)
        for start in range(v.shape[0]):
            written[2 * start : 2 * start + 4] = v[start]
        return written

    return claiming(lambda x: x.unfold(0, 4, 2), only(0, claimed)), [draw.leaf(20)]


@wrong()
def permutation_applied_instead_of_its_inverse(draw: Draw) -> Call:
    order = torch.tensor([2, 0, 1, 5, 3, 4])

    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        return v[:, order] * torch.cos(inputs[0])  # v[:, argsort(order)] is right

    shuffled = claiming(lambda x: torch.sin(x)[:, order], only(0, claimed))
    return shuffled, [draw.leaf(3, 6)]


class UnconjugatedProduct(torch.autograd.Function):
    """The complex product a · b without the conjugates of its backward."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return v * b, v * a


@wrong(cause="conj")
def complex_input_not_conjugated(draw: Draw) -> Call:
    a, b = (torch.complex(draw(8), draw(8)).requires_grad_() for _ in range(2))
    return UnconjugatedProduct.apply, [a, b]


@wrong()
def complex_inside_not_conjugated(draw: Draw) -> Call:
    phase = torch.complex(draw(8), draw(8))

    def turned(x: Tensor) -> Tensor:
        return torch.view_as_real(UnconjugatedProduct.apply(torch.complex(x, x**2), phase))

    return turned, [draw.leaf(8)]


@wrong()
def second_output_ignored(draw: Draw) -> Call:
    def claim(_: Any, inputs: list[Tensor], cotangents: tuple[Tensor, ...]) -> list[Tensor | None]:
        x, scale = inputs
        return [cotangents[0] * torch.exp(scale), cotangents[0] * x * torch.exp(scale)]

    def coupling(x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return x * torch.exp(scale), scale.sum(-1)  # the log-determinant has a gradient as well

    return claiming(coupling, claim), [draw.leaf(4, 5), draw.leaf(4, 5)]


class ReadsCotangentMemory(torch.autograd.Function):
    """sin(x), whose backward reads the incoming gradient as if it were contiguous."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.as_strided(v, v.shape, (v.shape[1], 1)) * torch.cos(x)


@wrong()
def cotangent_read_as_contiguous(draw: Draw) -> Call:
    return lambda x: torch.exp(ReadsCotangentMemory.apply(x).T), [draw.leaf(5, 6)]


@wrong(cause=r"last|index|element|first|≥|>=|1024|from|end")
def elements_past_the_block_dropped(draw: Draw) -> Call:
    inside = (torch.arange(1500) < 1024).double()
    return claiming(torch.tanh, only(0, lambda g, *_: g * inside)), [draw.leaf(1500)]


@wrong(cause=r"nan|finite|∞|0/0")
def not_a_number_behind_where(draw: Draw) -> Call:
    def rectified_root(x: Tensor) -> Tensor:
        return torch.where(x > 0, torch.sqrt(x), torch.zeros_like(x))

    return rectified_root, [draw.leaf(30)]


@wrong(cause=r"nan|finite|∞|0/0", regimes=("zeros",))
def not_a_number_at_zero(draw: Draw) -> Call:
    return lambda x: x * torch.sqrt(x * x), [draw.leaf(4, 5)]


@wrong(cause=r"nan|finite|∞|0/0")
def cumulative_product_divides_by_zero(draw: Draw) -> Call:
    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        (x,) = inputs
        return (v * x.cumprod(0)).flip(0).cumsum(0).flip(0) / x

    x = draw(8)
    x[3] = 0
    return claiming(lambda x: x.cumprod(0), only(0, claimed)), [x.requires_grad_()]


@wrong(regimes=("negative",))
def slope_wrong_for_negative_inputs_only(draw: Draw) -> Call:
    claim = only(0, lambda _, inputs, v: 2 * v * inputs[0].abs())
    return claiming(lambda x: (x * x).sum(), claim), [draw.positive(20)]


@wrong(regimes=("ties",))
def equal_values_share_one_slot(draw: Draw) -> Call:
    """A backward that finds its elements by value: of equal ones only the first gets a gradient."""

    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        x = inputs[0].flatten()
        ranked, order = torch.sort(x)
        found = order[torch.searchsorted(ranked, x)]
        flat = torch.zeros_like(x)
        flat[found] = (v * torch.cos(inputs[0])).flatten()
        return flat.view(v.shape)

    return claiming(torch.sin, only(0, claimed)), [draw.leaf(4, 5)]
