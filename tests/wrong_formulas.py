"""Wrong gradients of small formulas: signs, scales, missing terms, single elements, old state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from gradient_cases import Call, Claim, Draw, Wrong, claiming, only, registered
from right_operations import weighted_by_nearness
from torch import Tensor

FORMULAS: dict[str, Wrong] = {}
wrong = registered(FORMULAS, Wrong)

SCALE = r"scal|factor|times|×"


def dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.tanh(x @ weight.T + bias)


def dense_inputs(draw: Draw) -> list[Tensor]:
    return [draw.leaf(6, 8), draw.leaf(5, 8, scale=0.4), draw.leaf(5)]


def wave(x: Tensor) -> Tensor:
    return (x * torch.sin(x)).sum()


@wrong(cause="sign")
def weight_sign_flipped(draw: Draw) -> Call:
    return claiming(dense, only(1, lambda g, *_: -g)), dense_inputs(draw)


def _scaled(excess: float) -> Callable[[Draw], Call]:
    def build(draw: Draw) -> Call:
        return claiming(dense, lambda gs, *_: [g * (1 + excess) for g in gs]), dense_inputs(draw)

    return build


wrong(name="scaled_by_1_01", cause=SCALE)(_scaled(1e-2))
wrong(name="scaled_by_1_001", cause=SCALE)(_scaled(1e-3))
wrong(name="scaled_by_1_0001", cause=SCALE)(_scaled(1e-4))
wrong(name="scaled_by_1_000001", cause=SCALE, below=1e-6)(_scaled(1e-6))


@wrong(cause=r"factor 2|× ?2|2 ×|0\.5|1/2|½|twice|half")
def factor_two_missing(draw: Draw) -> Call:
    return claiming(lambda x: (x * x).sum(), only(0, lambda g, *_: g / 2)), [draw.leaf(40)]


LONG, SPOILED = 100_000, 33_333


def _one_spoiled(relative: float) -> Callable[[Draw], Call]:
    def spoil(g: Tensor, *_: Any) -> Tensor:
        g = g.clone()
        g[SPOILED] *= 1 + relative
        return g

    def build(draw: Draw) -> Call:
        x = draw(LONG)
        x[SPOILED] = 1.0  # an element of ordinary size, whatever the seed
        return claiming(wave, only(0, spoil)), [x.requires_grad_()]

    return build


for _name, _relative, _below in [
    ("one_element_of_1e5_flipped", -2.0, math.inf),
    ("one_element_of_1e5_off_by_1e_2", 1e-2, math.inf),
    ("one_element_of_1e5_off_by_1e_4", 1e-4, 3e-7),
    ("one_element_of_1e5_off_by_1e_6", 1e-6, 3e-9),
]:
    wrong(name=_name, cause="element", big=True, below=_below, elements=((SPOILED,),))(
        _one_spoiled(_relative)
    )


@wrong(cause="element|constant", big=True, elements=((7,), (9,)))
def two_elements_of_1e5_cancel(draw: Draw) -> Call:
    def spoil(g: Tensor, *_: Any) -> Tensor:
        g = g.clone()
        g[7] += 1e-3
        g[9] -= 1e-3
        return g

    return claiming(wave, only(0, spoil)), [draw.leaf(LONG)]


@wrong(cause="sign", big=True)
def mean_of_1e5_squares_flipped(draw: Draw) -> Call:
    return claiming(lambda x: (x * x).mean(), only(0, lambda g, *_: -g)), [draw.leaf(LONG)]


@wrong(cause=r"half|first|index|element", big=True)
def half_of_a_mean_scaled(draw: Draw) -> Call:
    first = (torch.arange(LONG) < LONG // 2).double()
    claim = only(0, lambda g, *_: g * (1 + first / 2))
    return claiming(lambda x: (x * x).mean(), claim), [draw.leaf(LONG)]


@wrong(cause=r"42|numel|mean|number of elements")
def mean_squared_error_not_divided(draw: Draw) -> Call:
    error = claiming(lambda x, t: ((x - t) ** 2).mean(), lambda gs, *_: [g * 42 for g in gs])
    return error, [draw.leaf(6, 7), draw.leaf(6, 7)]


@wrong(cause=r"batch|mean|\b6\b")
def bias_averaged_over_the_batch(draw: Draw) -> Call:
    return claiming(dense, only(2, lambda g, *_: g / 6)), dense_inputs(draw)


@wrong(cause=r"term|detach|miss")
def swish_gate_detached(draw: Draw) -> Call:
    return lambda x: x * torch.sigmoid(x).detach(), [draw.leaf(30)]


def _remembering(*, first: bool) -> Callable[[Draw], Call]:
    def build(draw: Draw) -> Call:
        kept: list[Tensor] = []

        class Remembering(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                if not (first and kept):
                    kept[:] = [x.detach().clone()]
                return x * torch.sin(x)

            @staticmethod
            def backward(ctx: Any, v: Tensor) -> Tensor:
                return v * (kept[0] * torch.cos(kept[0]) + torch.sin(kept[0]))

        return Remembering.apply, [draw.leaf(20)]

    return build


STATE = r"state|later|first call|earlier|stale|another forward|saved"
wrong(name="state_of_the_first_call", cause=STATE)(_remembering(first=True))
wrong(name="state_of_the_last_call", cause=STATE)(_remembering(first=False))


@wrong(cause=r"sum|axis|dim|transpos")
def bias_summed_over_the_wrong_axis(draw: Draw) -> Call:
    def claim(gs: list[Tensor], *_: Any) -> list[Tensor | None]:
        return [gs[0], gs[0].sum(1)]

    return claiming(lambda x, b: torch.tanh(x + b), claim), [draw.leaf(7, 7), draw.leaf(7)]


@wrong(cause="transpos")
def square_weight_transposed(draw: Draw) -> Call:
    layer = claiming(lambda x, w: torch.tanh(x @ w.T), only(1, lambda g, *_: g.T))
    return layer, [draw.leaf(5, 6), draw.leaf(6, 6, scale=0.4)]


@wrong(cause=r"< 0|<0|negative")
def leaky_slope_forgotten_below_zero(draw: Draw) -> Call:
    claim = only(0, lambda g, inputs, _: g * (inputs[0] > 0))
    return claiming(lambda x: F.leaky_relu(x, 0.01), claim), [draw.leaf(40)]


@wrong(cause=r"> ?[12]\d|large|\|x", regimes=("large",))
def far_elements_forgotten(draw: Draw) -> Call:
    claim = only(0, lambda g, inputs, _: g * (inputs[0].abs() <= 20))
    return claiming(lambda x: torch.log1p(x * x), claim), [draw.leaf(40)]


@wrong(order=2)
def cube_detached_in_second_order(draw: Draw) -> Call:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, v: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return 3 * v * x.detach() ** 2

    return Cube.apply, [draw.leaf(20)]


@wrong(cause=r"contiguous|layout|stride")
def storage_read_in_memory_order(draw: Draw) -> Call:
    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        (x,) = inputs
        flat = torch.as_strided(x, (x.numel(),), (1,), x.storage_offset())
        return v * torch.cos(flat).view(x.shape)

    return claiming(torch.sin, only(0, claimed)), [draw.leaf(6, 7)]


@wrong(cause=r"odd|last|size", regimes=("odd",))
def last_column_dropped_at_odd_widths(draw: Draw) -> Call:
    def claimed(g: Tensor, *_: Any) -> Tensor:
        return torch.cat([g[..., :-1], 0 * g[..., -1:]], -1) if g.shape[-1] % 2 else g

    return claiming(torch.tanh, only(0, claimed)), [draw.leaf(4, 16)]


@wrong(cause=r"zero|none|detach|drop|depend")
def second_input_dropped(draw: Draw) -> Call:
    product = claiming(lambda x, t: torch.tanh(x) * torch.exp(t), only(1, lambda *_: None))
    return product, [draw.leaf(9), draw.leaf(9, scale=0.3)]


ROUNDED = r"float32|float16|bfloat16|round|precision"


@wrong(cause=ROUNDED, below=2e-8)
def gradients_rounded_to_float32(draw: Draw) -> Call:
    return claiming(dense, lambda gs, *_: [g.float().double() for g in gs]), dense_inputs(draw)


@wrong(cause=ROUNDED)
def gradients_rounded_to_bfloat16(draw: Draw) -> Call:
    return claiming(dense, lambda gs, *_: [g.bfloat16().double() for g in gs]), dense_inputs(draw)


@wrong(cause=r"term|cotangent|grad_output|output gradient|off by one|shift")
def cumulative_sum_starts_one_late(draw: Draw) -> Call:
    return claiming(lambda x: x.cumsum(0), only(0, lambda g, _, v: g - v)), [draw.leaf(30)]


@wrong(cause=r"clamp|clip|\|g|> 1|magnitude")
def gradient_clamped_to_one(draw: Draw) -> Call:
    return claiming(lambda x: x**3, only(0, lambda g, *_: g.clamp(-1, 1))), [draw.leaf(30)]


@wrong(cause=r"cotangent|grad_output|output gradient|ignor")
def cotangent_ignored(draw: Draw) -> Call:
    return claiming(torch.sin, only(0, lambda _, inputs, v: torch.cos(inputs[0]))), [draw.leaf(20)]


@wrong(cause="sign")
def tiny_gradient_flipped(draw: Draw) -> Call:
    return claiming(lambda x: 1e-6 * torch.sin(x).sum(), only(0, lambda g, *_: -g)), [draw.leaf(40)]


@wrong()
def residual_branch_counted_twice(draw: Draw) -> Call:
    def twice(g: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        return g + 0.1 * v * (1 - torch.tanh(inputs[0]) ** 2)

    return claiming(lambda x: x + 0.1 * torch.tanh(x), only(0, twice)), [draw.leaf(30)]


@wrong(cause=r"term|0\.01|weight decay")
def weight_decay_forgotten(draw: Draw) -> Call:
    claim = only(0, lambda g, inputs, v: g - 1e-2 * v * inputs[0])
    return claiming(lambda w: torch.sin(w).sum() + 5e-3 * w.square().sum(), claim), [draw.leaf(40)]


@wrong(cause=r"shift|roll|index|off by one")
def gathered_gradient_one_index_late(draw: Draw) -> Call:
    rows = torch.tensor([0, 3, 3, 7, 9])
    return claiming(lambda x: x[rows] ** 2, only(0, lambda g, *_: g.roll(1))), [draw.leaf(12)]


@wrong(cause=r"triang|symmetr|below|lower|diagonal")
def matrix_root_not_symmetrised(draw: Draw) -> Call:
    def root(a: Tensor) -> Tensor:
        moments = a @ a.T / 8 + 0.1 * torch.eye(8, dtype=a.dtype)
        return torch.linalg.eigvalsh(moments).sqrt().sum()

    return claiming(root, only(0, lambda g, *_: g.triu())), [draw.leaf(8, 8)]


@wrong(cause=SCALE)
def bilateral_filter_off_by_a_ten_thousandth(draw: Draw) -> Call:
    """Beside the point, too, the claim is not what the steps measure."""
    x = (8 * draw(3, 36) + 3e4).requires_grad_()
    return claiming(weighted_by_nearness, only(0, lambda g, *_: g * (1 + 1e-4))), [x]


def _none_where(chosen: Callable[[Tensor], Tensor]) -> Claim:
    return only(0, lambda g, inputs, _: torch.where(chosen(inputs[0]), 0.0, g))


@wrong()
def no_gradient_at_exactly_zero(draw: Draw) -> Call:
    """The claim jumps right beside the point."""
    x = draw(30)
    x[::6] = 0
    return claiming(torch.sin, _none_where(lambda x: x == 0)), [x.requires_grad_()]


@wrong()
def no_gradient_in_a_narrow_interval(draw: Draw) -> Call:
    """Steps that leave the interval meet a right claim; smaller ones tell."""
    x = draw(30)
    x[::6] = 5e-4 * draw(5)
    return claiming(torch.sin, _none_where(lambda x: x.abs() < 2e-3)), [x.requires_grad_()]
