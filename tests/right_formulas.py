"""Correct gradients of formulas that are hard to difference: kinks, ties, noise, low precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from gradient_cases import Call, Draw, Right, registered
from torch import Tensor
from wrong_formulas import dense, dense_inputs
from wrong_layers import layer_norm, norm_inputs

FORMULAS: dict[str, Right] = {}
right = registered(FORMULAS, Right)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@right()
def dense_layer(draw: Draw) -> Call:
    return dense, dense_inputs(draw)


@right()
def cross_entropy(draw: Draw) -> Call:
    target = draw.integers(5, 8)
    return lambda x: F.cross_entropy(x, target), [draw.leaf(8, 5)]


@right()
def layer_normalisation(draw: Draw) -> Call:
    return layer_norm, norm_inputs(draw)


@right()
def absolute_value_beside_its_kink(draw: Draw) -> Call:
    x = draw(30)
    x[:4] = numbers(1e-9, -1e-9, 3e-8, -2e-7)
    return torch.abs, [x.requires_grad_()]


@right()
def absolute_value_at_zero(draw: Draw) -> Call:
    x = draw(30)
    x[:3] = 0
    return torch.abs, [x.requires_grad_()]


@right()
def rectifier_at_zero(draw: Draw) -> Call:
    x = draw(30)
    x[5] = 0
    return torch.relu, [x.requires_grad_()]


@right()
def rectifier_with_a_kink_at_one(draw: Draw) -> Call:
    x = draw(30)
    x[:2] = numbers(1 + 1e-8, 1 - 1e-8)
    return lambda x: torch.relu(x - 1), [x.requires_grad_()]


@right()
def maximum_with_a_close_second(draw: Draw) -> Call:
    x = draw(10)
    x[:2] = numbers(9, 9 + 1e-9)
    return torch.max, [x.requires_grad_()]


@right()
def maximum_with_a_tie(draw: Draw) -> Call:
    x = draw(10)
    x[:2] = 9
    return torch.amax, [x.requires_grad_()]


@right()
def max_pool_with_close_seconds(draw: Draw) -> Call:
    x = draw(1, 1, 6, 6)
    x[..., 1::2] = x[..., ::2] + 1e-8
    return lambda x: F.max_pool2d(x, 2), [x.requires_grad_()]


@right()
def sorted_values_1e_8_apart(draw: Draw) -> Call:
    ranks = torch.arange(12, dtype=torch.float64)
    order = torch.argsort(draw(12))
    return lambda x: torch.sort(x).values * ranks, [(1 + 1e-8 * ranks[order]).requires_grad_()]


@right()
def float32_inside(draw: Draw) -> Call:
    return lambda x: torch.tanh(x.float() * 2).double(), [draw.leaf(50)]


@right()
def float32_inputs(draw: Draw) -> Call:
    inputs = [draw(6, 8).float().requires_grad_(), draw(5, 8).float().requires_grad_()]
    return lambda x, w: torch.tanh(x @ w.T), inputs


@right()
def bfloat16_inputs(draw: Draw) -> Call:
    inputs = [draw(6, 8).bfloat16().requires_grad_(), draw(5, 8).bfloat16().requires_grad_()]
    return lambda x, w: x @ w.T, inputs


@right()
def dropout_of_squares(draw: Draw) -> Call:
    return lambda x: F.dropout(x * x, 0.5, training=True), [draw.leaf(40)]


@right()
def noise_of_1e_12(draw: Draw) -> Call:
    """Noise of a private generator: no seed pins it."""
    return lambda x: torch.sin(x).sum() * (1 + 1e-12 * draw(1)[0]), [draw.leaf(40)]


@right()
def noise_of_1e_7(draw: Draw) -> Call:
    return lambda x: torch.sin(x) + 1e-7 * draw(*x.shape), [draw.leaf(40)]


@right(big=True)
def classifier_of_1e5_parameters(draw: Draw) -> Call:
    x, target = draw(32, 64), draw.integers(10, 32)
    weights = [
        draw(400, 64, scale=0.15),
        torch.zeros(400, dtype=torch.float64),
        draw(180, 400, scale=0.07),
        torch.zeros(180, dtype=torch.float64),
        draw(10, 180, scale=0.1),
    ]

    def loss(w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor) -> Tensor:
        hidden = torch.relu(torch.relu(x @ w1.T + b1) @ w2.T + b2)
        return F.cross_entropy(hidden @ w3.T, target)

    return loss, [weight.requires_grad_() for weight in weights]


@right()
def clamp_at_its_boundary(draw: Draw) -> Call:
    x = draw(20)
    x[:2] = numbers(1, -1)
    return lambda x: x.clamp(-1, 1) * x, [x.requires_grad_()]


@right()
def huber_at_its_threshold(draw: Draw) -> Call:
    x = draw(20)
    x[0] = 1
    zeros = torch.zeros_like(x)
    return lambda x: F.huber_loss(x, zeros, reduction="none"), [x.requires_grad_()]


@right()
def embedding_with_repeats(draw: Draw) -> Call:
    rows = torch.tensor([0, 0, 3])
    return lambda table: F.embedding(rows, table) ** 2, [draw.leaf(6, 4)]


@right()
def rounding_beside_a_slope(draw: Draw) -> Call:
    return lambda x: torch.round(x) + x, [draw.leaf(20)]


@right()
def constant_sum_of_probabilities(draw: Draw) -> Call:
    return lambda x: torch.softmax(x, -1).sum(-1), [draw.leaf(5, 6)]


@right()
def expanded_view_inside(draw: Draw) -> Call:
    return lambda bias: torch.sin(bias.expand(5, 4)), [draw.leaf(4)]


@right()
def batch_normalisation(draw: Draw) -> Call:
    def normal(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, weight, bias, training=True)

    return normal, [draw.leaf(8, 5), draw.leaf(5), draw.leaf(5)]


@right()
def lstm_cell_by_hand(draw: Draw) -> Call:
    def cell(x: Tensor, h: Tensor, w: Tensor, u: Tensor) -> Tensor:
        i, f, g, o = (x @ w.T + h @ u.T).chunk(4, -1)
        kept = torch.sigmoid(f) + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(kept)

    return cell, [draw.leaf(3, 4), draw.leaf(3, 5), draw.leaf(20, 4), draw.leaf(20, 5)]
