"""Wrong gradients of layers: normalisation, attention, convolution, pooling, recurrence."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from gradient_cases import Call, Draw, Wrong, claiming, only, registered
from torch import Tensor

LAYERS: dict[str, Wrong] = {}
wrong = registered(LAYERS, Wrong)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * weight + bias


def norm_inputs(draw: Draw) -> list[Tensor]:
    return [draw.leaf(4, 16), draw.leaf(16), draw.leaf(16)]


@wrong(cause=r"term|mean")
def layer_norm_without_the_projection_on_x(draw: Draw) -> Call:
    def claimed(_: Tensor, inputs: list[Tensor], cotangent: Tensor) -> Tensor:
        x, weight, _bias = inputs
        d = cotangent * weight
        spread = torch.sqrt(x.var(-1, correction=0, keepdim=True) + 1e-5)
        return (d - d.mean(-1, keepdim=True)) / spread  # lacks − x̂ mean(d x̂)

    return claiming(layer_norm, only(0, claimed)), norm_inputs(draw)


@wrong()
def layer_norm_with_another_eps_behind(draw: Draw) -> Call:
    def claim(_: Any, inputs: list[Tensor], cotangents: tuple[Tensor, ...]) -> list[Tensor | None]:
        with torch.enable_grad():
            return [*torch.autograd.grad(layer_norm(*inputs, eps=1e-3), inputs, cotangents)]

    return claiming(layer_norm, claim), norm_inputs(draw)


@wrong(cause=r"term|sum|diagonal")
def softmax_without_the_off_diagonal(draw: Draw) -> Call:
    claim = only(0, lambda _, inputs, v: v * torch.softmax(inputs[0], -1))
    return claiming(lambda x: torch.softmax(x, -1), claim), [draw.leaf(5, 9)]


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v


@wrong(cause=r"√|sqrt|factor|0\.5|1/2|½|2")
def attention_keys_without_the_root(draw: Draw) -> Call:
    claim = only(1, lambda g, inputs, _: g * math.sqrt(inputs[0].shape[-1]))
    return claiming(attention, claim), [draw.leaf(2, 6, 4) for _ in range(3)]


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x, weight, bias, padding=1)


def convolution_inputs(draw: Draw) -> list[Tensor]:
    return [draw.leaf(1, 2, 7, 7), draw.leaf(3, 2, 3, 3, scale=0.3), draw.leaf(3)]


@wrong(cause=r"border|first|row|index")
def convolution_halves_the_top_border(draw: Draw) -> Call:
    top = torch.ones(7, 1, dtype=torch.float64)
    top[0] = 0.5
    return claiming(convolution, only(0, lambda g, *_: g * top)), convolution_inputs(draw)


@wrong(cause="flip")
def convolution_kernel_not_flipped(draw: Draw) -> Call:
    return claiming(convolution, only(1, lambda g, *_: g.flip(-1, -2))), convolution_inputs(draw)


class RootMeanSquareNorm(torch.autograd.Function):
    """x / √(mean x² + ε), whose backward takes √(mean x²) + ε."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.eps = eps
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        r = 1 / (x.square().mean(-1, keepdim=True).sqrt() + ctx.eps)
        return r * (v - x * r**2 * (v * x).mean(-1, keepdim=True)), None


@wrong()
def root_mean_square_norm_with_eps_outside_the_root(draw: Draw) -> Call:
    return RootMeanSquareNorm.apply, [draw.leaf(4, 12), 1e-3]


@wrong(cause=r"mean|term")
def batch_norm_backward_of_evaluation_mode(draw: Draw) -> Call:
    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        x, weight, _bias = inputs
        return v * weight * torch.rsqrt(x.var(0, correction=0) + 1e-5)

    def batch_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, weight, bias, training=True)

    return claiming(batch_norm, only(0, claimed)), [draw.leaf(8, 5), draw.leaf(5), draw.leaf(5)]


@wrong()
def group_norm_backward_of_instance_norm(draw: Draw) -> Call:
    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        with torch.enable_grad():
            x = inputs[0].detach().requires_grad_()
            return torch.autograd.grad(F.instance_norm(x), x, v)[0]

    return claiming(lambda x: F.group_norm(x, 2), only(0, claimed)), [draw.leaf(2, 6, 5)]


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)
    return torch.softmax(scores, -1) @ v


@wrong()
def attention_recomputed_without_its_mask(draw: Draw) -> Call:
    causal = torch.ones(6, 6, dtype=torch.bool).tril()

    def claim(_: Any, inputs: list[Tensor], cotangents: tuple[Tensor, ...]) -> list[Tensor | None]:
        with torch.enable_grad():
            return [*torch.autograd.grad(attention(*inputs), inputs, cotangents)]

    forward = claiming(lambda q, k, v: masked_attention(q, k, v, causal), claim)
    return forward, [draw.leaf(2, 6, 4) for _ in range(3)]


@wrong()
def attention_without_the_row_sum(draw: Draw) -> Call:
    def claimed(_: Tensor, inputs: list[Tensor], cotangent: Tensor) -> Tensor:
        q, k, v = inputs
        p = torch.softmax(q @ k.mT / 2, -1)
        return (p * (cotangent @ v.mT)) @ k / 2  # lacks − p · rowsum(cotangent · output)

    return claiming(attention, only(0, claimed)), [draw.leaf(2, 6, 4) for _ in range(3)]


@wrong()
def grouped_keys_get_the_first_head_only(draw: Draw) -> Call:
    def claimed(_: Tensor, inputs: list[Tensor], cotangent: Tensor) -> Tensor:
        with torch.enable_grad():
            q, k, v = (tensor.detach().requires_grad_() for tensor in inputs)
            shared = k.repeat_interleave(2, 0)
            y = attention(q, shared, v.repeat_interleave(2, 0))
            return torch.autograd.grad(y, shared, cotangent)[0][::2]

    def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k.repeat_interleave(2, 0), v.repeat_interleave(2, 0))

    queries, shared = draw.leaf(4, 5, 4), [draw.leaf(2, 5, 4) for _ in range(2)]
    return claiming(grouped, only(1, claimed)), [queries, *shared]


def rotated(x: Tensor, sign: int = 1) -> Tensor:
    positions = torch.arange(x.shape[-2], dtype=x.dtype)[:, None]
    angles = positions / 10 ** torch.arange(x.shape[-1] // 2, dtype=x.dtype)
    a, b = x.chunk(2, -1)
    cosine, sine = torch.cos(angles), sign * torch.sin(angles)
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)


@wrong()
def rotary_embedding_turned_the_same_way_back(draw: Draw) -> Call:
    return claiming(rotated, only(0, lambda _, inputs, v: rotated(v))), [draw.leaf(2, 7, 6)]


class RedrawnDropout(torch.autograd.Function):
    """Dropout whose backward draws a mask of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) < 0.5) * 2

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Tensor:
        return v * (torch.rand_like(v) < 0.5) * 2


@wrong()
def dropout_mask_redrawn_in_backward(draw: Draw) -> Call:
    return RedrawnDropout.apply, [draw.leaf(40)]


@wrong(cause=r"1\.33|4/3|factor|scal|0\.75|3/4")
def dropout_scale_missing_in_backward(draw: Draw) -> Call:
    kept = (torch.arange(40) % 4 > 0).double()
    return claiming(lambda x: x * kept / 0.75, only(0, lambda g, *_: g * 0.75)), [draw.leaf(40)]


@wrong()
def transposed_convolution_padded_one_too_little(draw: Draw) -> Call:
    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        wide = F.conv_transpose2d(v, inputs[1], padding=0)
        return wide[..., :7, :7]  # the crop starts at 0 where the padding was 1

    return claiming(convolution, only(0, claimed)), convolution_inputs(draw)


@wrong(cause=r"49|mean|average|times|factor")
def convolution_bias_averaged_over_positions(draw: Draw) -> Call:
    claim = only(2, lambda _g, _inputs, v: v.mean((-1, -2)).sum(0))
    return claiming(convolution, claim), convolution_inputs(draw)


@wrong()
def strided_convolution_forgets_the_last_row(draw: Draw) -> Call:
    def claimed(g: Tensor, *_: Any) -> Tensor:
        return torch.cat([g[..., :-1, :], 0 * g[..., -1:, :]], -2)

    def strided(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, stride=2, padding=1)

    inputs = [draw.leaf(1, 2, 8, 8), draw.leaf(3, 2, 3, 3, scale=0.3)]
    return claiming(strided, only(0, claimed)), inputs


@wrong()
def average_pool_counts_padding_forward_only(draw: Draw) -> Call:
    def pooled(x: Tensor, *, counted: bool = True) -> Tensor:
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=counted)

    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        with torch.enable_grad():
            x = inputs[0].detach().requires_grad_()
            return torch.autograd.grad(pooled(x, counted=False), x, v)[0]

    return claiming(pooled, only(0, claimed)), [draw.leaf(1, 2, 6, 6)]


@wrong()
def max_pool_sends_all_to_the_first_corner(draw: Draw) -> Call:
    def claimed(g: Tensor, _inputs: list[Tensor], v: Tensor) -> Tensor:
        corner = torch.zeros_like(g)
        corner[..., ::2, ::2] = v
        return corner

    return claiming(lambda x: F.max_pool2d(x, 2), only(0, claimed)), [draw.leaf(1, 2, 6, 6)]


@wrong(cause=r"\b4\b|factor|scal|0\.25|1/4")
def nearest_upsampling_averages_in_backward(draw: Draw) -> Call:
    doubled = claiming(
        lambda x: x.repeat_interleave(2, -1).repeat_interleave(2, -2), only(0, lambda g, *_: g / 4)
    )
    return doubled, [draw.leaf(1, 3, 4, 5)]


@wrong()
def recurrent_cell_state_cut_between_steps(draw: Draw) -> Call:
    def unrolled(x: Tensor, weight: Tensor) -> Tensor:
        state = torch.zeros(4, dtype=x.dtype)
        for step in x:
            state = torch.tanh(step + state.data @ weight)  # .data cuts the path through time
        return state

    return unrolled, [draw.leaf(3, 4), draw.leaf(4, 4, scale=0.5)]


@wrong(cause=r"times|factor|3\.5|×")
def grid_sample_in_normalised_units(draw: Draw) -> Call:
    image = draw(1, 2, 8, 8)
    grid = draw.leaf(1, 5, 5, 2, scale=0.3)

    def sampled(grid: Tensor) -> Tensor:
        return F.grid_sample(image, grid, align_corners=True)

    return claiming(sampled, only(0, lambda g, *_: g / 3.5)), [grid]


@wrong()
def real_spectrum_without_its_mirror_half(draw: Draw) -> Call:
    def energy(x: Tensor) -> Tensor:
        return torch.view_as_real(torch.fft.rfft(x)).square().sum(-1) ** 1.5

    def claimed(_: Tensor, inputs: list[Tensor], v: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(inputs[0])
        flow = 3 * v * spectrum.abs() * spectrum
        return torch.fft.irfft(flow, n=inputs[0].shape[-1], norm="forward")  # doubles the interior

    return claiming(energy, only(0, claimed)), [draw.leaf(3, 10)]
