"""Correct gradients at extreme scales: saturation, cancellation, ill-conditioned matrices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from gradient_cases import Call, Draw, Right, registered
from torch import Tensor
from wrong_layers import layer_norm

SCALES: dict[str, Right] = {}
right = registered(SCALES, Right)


def powers_of_ten(low: float, high: float, count: int) -> Tensor:
    return 10 ** torch.linspace(low, high, count, dtype=torch.float64)


@right()
def square_root_down_to_1e_12(draw: Draw) -> Call:
    return torch.sqrt, [(powers_of_ten(-12, 0, 20) * (1 + draw(20).abs())).requires_grad_()]


@right()
def logarithm_down_to_1e_12(draw: Draw) -> Call:
    return torch.log, [(powers_of_ten(-12, 0, 20) * (1 + draw(20).abs())).requires_grad_()]


@right()
def rational_over_sixteen_decades(draw: Draw) -> Call:
    x = powers_of_ten(-8, 8, 30) * (1 + draw(30).abs())
    return lambda x: x / (1 + x * x), [x.requires_grad_()]


@right()
def cube_at_1e_8(draw: Draw) -> Call:
    return lambda x: x**3, [draw.leaf(20, scale=1e8)]


@right()
def inputs_sixteen_decades_apart(draw: Draw) -> Call:
    return lambda a, b: torch.sin(a * b), [
        draw(20, scale=1e-8).requires_grad_(),
        draw(20, scale=1e8).requires_grad_(),
    ]


@right()
def softplus_saturated(draw: Draw) -> Call:
    return lambda x: F.softplus(x, beta=50, threshold=1e9), [draw.leaf(30, scale=3.0)]


@right()
def softplus_across_its_threshold(draw: Draw) -> Call:
    x = torch.linspace(-40, 40, 30, dtype=torch.float64) + draw(30)
    return F.softplus, [x.requires_grad_()]


@right()
def sigmoid_saturated(draw: Draw) -> Call:
    x = torch.linspace(-40, 40, 31, dtype=torch.float64) + draw(31)
    return torch.sigmoid, [x.requires_grad_()]


@right()
def cross_entropy_of_logits_1e3(draw: Draw) -> Call:
    target = draw.integers(5, 8)
    return lambda x: F.cross_entropy(x, target), [draw.leaf(8, 5, scale=1e3)]


@right()
def exponential_at_300(draw: Draw) -> Call:
    return torch.exp, [(300 + draw(10)).requires_grad_()]


@right()
def sine_of_1e5_x(draw: Draw) -> Call:
    return lambda x: torch.sin(1e5 * x), [draw.leaf(10)]


@right()
def sine_on_top_of_1e8(draw: Draw) -> Call:
    return lambda x: 1e8 + torch.sin(x), [draw.leaf(10)]


@right()
def sum_of_sines_on_top_of_1e8(draw: Draw) -> Call:
    return lambda x: 1e8 + torch.sin(x).sum(), [draw.leaf(100)]


@right()
def cumulative_product_through_zero(draw: Draw) -> Call:
    x = draw(10) + 2
    x[4] = 0
    return lambda x: x.cumprod(0), [x.requires_grad_()]


@right()
def norm_of_a_tiny_vector(draw: Draw) -> Call:
    return lambda x: x.norm(), [draw.leaf(10, scale=1e-10)]


@right()
def layer_norm_of_rows_that_hardly_vary(draw: Draw) -> Call:
    ones, zeros = torch.ones(16, dtype=torch.float64), torch.zeros(16, dtype=torch.float64)
    x = 3 + 1e-5 * draw(4, 16)
    return lambda x: layer_norm(x, ones, zeros), [x.requires_grad_()]


@right()
def frechet_distance_of_condition_1e_8(draw: Draw) -> Call:
    def distance(a: Tensor) -> Tensor:
        moments = a @ a.T
        return moments.trace() - 2 * torch.linalg.eigvalsh(moments).clamp_min(0).sqrt().sum()

    rotation = torch.linalg.qr(draw(12, 12)).Q
    return distance, [(rotation * powers_of_ten(0, -4, 12)).requires_grad_()]


@right()
def frechet_distance_of_features(draw: Draw) -> Call:
    other = draw(12, 40)
    moments = other @ other.T / 40
    root = torch.linalg.cholesky(moments)

    def distance(x: Tensor) -> Tensor:
        mean = x.mean(0)
        covariance = (x - mean).T @ (x - mean) / (x.shape[0] - 1)
        spectrum = torch.linalg.eigvalsh(root.T @ covariance @ root)
        traces = covariance.trace() + moments.trace()
        return mean @ mean + traces - 2 * spectrum.clamp_min(0).sqrt().sum()

    return distance, [draw.leaf(40, 12)]


@right()
def log_softmax_of_spread_1e4(draw: Draw) -> Call:
    return lambda x: F.log_softmax(x, -1), [draw.leaf(4, 7, scale=1e4)]


@right()
def arc_cosine_beside_one(draw: Draw) -> Call:
    return torch.acos, [(1 - powers_of_ten(-12, -1, 12) * (1 + draw(12).abs())).requires_grad_()]


def beside_zero(draw: Draw, count: int, special: float = 0.0) -> Tensor:
    """Positive numbers, the first of them the special one."""
    x = draw.positive(count).detach()
    x[0] = special
    return x.requires_grad_()


def with_an_outlier(draw: Draw, size: float) -> Tensor:
    x = draw(12)
    x[0] = size
    return x.requires_grad_()


@right()
def sine_of_1e8_x_at_zero(draw: Draw) -> Call:
    """At zeros nothing tells the scale on which the function turns."""
    return lambda x: torch.sin(1e8 * x), [torch.zeros(5, dtype=torch.float64, requires_grad=True)]


@right()
def smoothed_modulus_at_zero(draw: Draw) -> Call:
    return lambda x: torch.sqrt(x * x + 1e-12), [beside_zero(draw, 6)]


@right()
def fine_structure_beside_an_outlier(draw: Draw) -> Call:
    return lambda x: (x * x + torch.sin(x)).sum(), [with_an_outlier(draw, 1e5)]


@right()
def layer_norm_of_an_outlier(draw: Draw) -> Call:
    return lambda x: F.layer_norm(x, (12,)), [with_an_outlier(draw, 1e4)]


@right()
def square_root_at_zero(draw: Draw) -> Call:
    return torch.sqrt, [beside_zero(draw, 6)]


@right()
def logarithm_at_zero(draw: Draw) -> Call:
    """The output at 0 is −∞ and its gradient not finite: neither is wrong."""
    return torch.log, [beside_zero(draw, 6)]


@right()
def arc_cosine_at_one(draw: Draw) -> Call:
    return lambda x: torch.acos(x.clamp_max(1)), [beside_zero(draw, 6, 1.0)]


@right()
def exponential_that_overflows_in_part(draw: Draw) -> Call:
    return torch.exp, [beside_zero(draw, 6, 800.0)]


@right()
def product_of_two_zeros(draw: Draw) -> Call:
    x = draw(6)
    x[[2, 4]] = 0
    return torch.prod, [x.requires_grad_()]


@right()
def softmax_of_temperature_1e_3(draw: Draw) -> Call:
    return lambda x: torch.softmax(1e3 * x, -1), [draw.leaf(4, 6)]


@right()
def power_of_three_halves_at_zero(draw: Draw) -> Call:
    return lambda x: x.abs() ** 1.5, [beside_zero(draw, 6)]
