"""Correct gradients of torch.nn modules, in the modes in which people train them."""

from __future__ import annotations

from typing import Any

import torch
from gradient_cases import Call, Draw, Right, registered
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

MODULES: dict[str, Right] = {}
right = registered(MODULES, Right)


def filled(module: Any, draw: Draw) -> Any:
    """The module in float64 with parameters of the draw."""
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(draw(*parameter.shape, scale=0.4))
    return module


class PaddedRows(nn.Module):
    """Embedded tokens, with zeros for the padding."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.table = table

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.sin(self.table(tokens)) * (tokens != self.table.padding_idx)[..., None]


class FirstOutput(nn.Module):
    """A module of which only the first output is asked for."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Any:
        return self.inner(*inputs)[0]


@right()
def dropout_in_training(draw: Draw) -> Call:
    layers = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 3))
    return filled(layers, draw), draw.leaf(5, 6)


@right()
def batch_norm_in_training(draw: Draw) -> Call:
    return filled(nn.BatchNorm1d(5), draw).train(), draw.leaf(8, 5)


@right()
def batch_norm_in_evaluation(draw: Draw) -> Call:
    return filled(nn.BatchNorm2d(3), draw).eval(), draw.leaf(2, 3, 4, 4)


@right()
def group_norm(draw: Draw) -> Call:
    return filled(nn.GroupNorm(2, 6), draw), draw.leaf(3, 6, 5)


@right()
def lstm_with_its_states(draw: Draw) -> Call:
    return filled(nn.LSTM(4, 5), draw), draw.leaf(3, 2, 4)


@right()
def two_layers_of_gru_with_dropout(draw: Draw) -> Call:
    return FirstOutput(filled(nn.GRU(3, 4, num_layers=2, dropout=0.5), draw)), draw.leaf(4, 2, 3)


@right()
def multihead_attention(draw: Draw) -> Call:
    module = filled(nn.MultiheadAttention(8, 2, batch_first=True), draw)
    return FirstOutput(module), [draw.leaf(2, 4, 8) for _ in range(3)]


@right()
def transformer_layer_in_training(draw: Draw) -> Call:
    module = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    return filled(module, draw).train(), draw.leaf(2, 5, 8)


@right()
def convolutional_network_with_pooling(draw: Draw) -> Call:
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 3, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return filled(layers, draw), draw.leaf(2, 2, 8, 8)


@right()
def transposed_convolution(draw: Draw) -> Call:
    module = nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1)
    return filled(module, draw), draw.leaf(1, 3, 4, 4)


@right()
def embedding_with_padding(draw: Draw) -> Call:
    """The padded positions have no influence: with one, a zero gradient for them is wrong."""
    table = filled(nn.Embedding(7, 3, padding_idx=0), draw)
    return PaddedRows(table), torch.tensor([[1, 0, 2], [2, 2, 0]])


@right()
def embedding_with_sparse_gradients(draw: Draw) -> Call:
    return filled(nn.Embedding(9, 3, sparse=True), draw), torch.tensor([1, 4, 4, 8])


@right()
def embedding_bag_of_means(draw: Draw) -> Call:
    module = filled(nn.EmbeddingBag(9, 3, mode="mean"), draw)
    return module, [torch.tensor([1, 4, 4, 8, 0]), torch.tensor([0, 3])]


@right()
def parametric_rectifier_at_zero(draw: Draw) -> Call:
    x = draw(4, 3)
    x[0, 0] = 0
    return filled(nn.PReLU(3), draw), x.requires_grad_()


@right()
def bilinear_layer(draw: Draw) -> Call:
    return filled(nn.Bilinear(3, 4, 2), draw), [draw.leaf(5, 3), draw.leaf(5, 4)]


@right()
def weight_norm_parametrised(draw: Draw) -> Call:
    module = parametrizations.weight_norm(nn.Linear(4, 3))
    return filled(module, draw), draw.leaf(5, 4)


@right()
def spectral_norm_in_evaluation(draw: Draw) -> Call:
    module = filled(parametrizations.spectral_norm(nn.Linear(4, 3)), draw)
    return module.eval(), draw.leaf(5, 4)


@right(big=True)
def spectral_norm_in_training(draw: Draw) -> Call:
    """Each forward takes a step of the power iteration, whose vectors count as constants."""
    return parametrizations.spectral_norm(
        filled(nn.Linear(4, 3), draw), n_power_iterations=200
    ).train(), draw.leaf(5, 4)


@right()
def orthogonal_parametrised(draw: Draw) -> Call:
    return filled(parametrizations.orthogonal(nn.Linear(4, 4)), draw), draw.leaf(3, 4)


@right()
def weights_tied_in_two_places(draw: Draw) -> Call:
    tied = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    tied[4].weight = tied[2].weight
    return filled(tied, draw), draw.leaf(5, 4)


@right()
def layer_frozen_in_part(draw: Draw) -> Call:
    layers = filled(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), draw)
    layers[0].weight.requires_grad_(requires_grad=False)
    return layers, draw.leaf(3, 4)


@right()
def checkpointed_layers(draw: Draw) -> Call:
    inner = filled(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.4)), draw)
    return lambda x: checkpoint(inner, x, use_reentrant=False).sin(), draw.leaf(3, 4)


class GradientPenalty(nn.Module):
    """(‖∇ₓ D(x)‖ − 1)², which calls autograd inside its forward."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            scores = self.critic(x).sum()
            (slope,) = torch.autograd.grad(scores, x, create_graph=True)
        return (slope.norm(dim=1) - 1).square().mean()


def _critic(draw: Draw) -> nn.Module:
    return filled(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)), draw)


@right()
def gradient_penalty(draw: Draw) -> Call:
    return GradientPenalty(_critic(draw)), draw.leaf(5, 4)


@right()
def gradient_penalty_that_needs_grad_mode(draw: Draw) -> Call:
    critic = _critic(draw)

    def penalty(x: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        return slope.square().sum()

    return penalty, draw.leaf(5, 4)


@right(order=2)
def softplus_network_to_second_order(draw: Draw) -> Call:
    layers = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 1))
    return filled(layers, draw), draw.leaf(4, 3)


class CountsBatches(nn.Module):
    """A layer whose buffers change and have no influence on the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.batches += 1
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return torch.sin(x) * 2


@right()
def buffers_that_only_watch(draw: Draw) -> Call:
    return CountsBatches(), draw.leaf(3, 4)


class KeepsItsAnswer(nn.Module):
    """A layer that keeps its last activation, which is no leaf, for others to look at."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.weight = nn.Parameter(draw(4, 3))
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = torch.tanh(x @ self.weight)
        return 2 * self.last


@right()
def activation_kept_from_an_earlier_call(draw: Draw) -> Call:
    module = KeepsItsAnswer(draw)
    module(draw(5, 4))
    return module, draw.leaf(5, 4)


@right()
def zero_last_layer(draw: Draw) -> Call:
    layers = filled(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), draw)
    nn.init.zeros_(layers[2].weight)
    nn.init.zeros_(layers[2].bias)
    return layers, draw.leaf(5, 4)


@right(big=True)
def float32_perceptron(draw: Draw) -> Call:
    layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    return filled(layers, draw).float(), draw(6, 8).float().requires_grad_()


@right(big=True)
def float32_convolutional_network(draw: Draw) -> Call:
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    )
    return filled(layers, draw).float(), draw(4, 2, 8, 8).float().requires_grad_()


@right(big=True)
def float32_lstm(draw: Draw) -> Call:
    return filled(nn.LSTM(4, 5), draw).float(), draw(3, 2, 4).float().requires_grad_()


@right(big=True)
def float32_transformer_layer(draw: Draw) -> Call:
    module = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    return filled(module, draw).float(), draw(2, 5, 8).float().requires_grad_()


@right(big=True)
def bfloat16_perceptron(draw: Draw) -> Call:
    layers = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    return filled(layers, draw).bfloat16(), draw(6, 8).bfloat16().requires_grad_()
