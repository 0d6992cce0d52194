"""Gated recurrent units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.references.activations.sigmoids import sigmoid, tanh
from dlcheck.references.precision import wide
from dlcheck.references.recurrent.layers import Recurrent
from dlcheck.registry import reference


class _Cell(torch.autograd.Function):
    """h′ = (1 − z) q + z h, r = σ(x_r + h_r), z = σ(x_z + h_z), q = tanh(x_q + r h_q), for the
    parts of what comes from the input, x [b, 3n], and from the state, u = U h + β [b, 3n].

    With the cotangent v of h′: x_q gets Q = v (1 − z) (1 − q²), and h_q gets r Q;
    x_z and h_z get v (h − q) z (1 − z); x_r and h_r get Q h_q r (1 − r); h gets v z.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, u: Tensor, h: Tensor) -> Tensor:
        _, z, q, _ = _gates(x, u)
        return q + z * (h - q)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, u, h = ctx.saved_tensors
        (v,) = gradients
        r, z, q, from_state = _gates(x, u)
        to_q = v * (1 - z) * (1 - q.square())
        to_z = v * (h - q) * z * (1 - z)
        to_r = to_q * from_state * r * (1 - r)
        return torch.cat((to_r, to_z, to_q), -1), torch.cat((to_r, to_z, r * to_q), -1), v * z


def _gates(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """r, z, q, and the part of u that r acts on."""
    (x_r, x_z, x_q), (u_r, u_z, u_q) = x.chunk(3, -1), u.chunk(3, -1)
    r = sigmoid(x_r + u_r)
    return r, sigmoid(x_z + u_z), tanh(x_q + r * u_q), u_q


@reference(
    kind="recurrent",
    formula="h′ = (1 − z) tanh(W_q x + r (U_q h + β_q)) + z h,  r, z = σ(W x + U h + β)",
    source="Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014, "
    "§2.3; the reset gate after the product as in cuDNN",
    inputs={"x": "float t b i", "h": "float 1 b n"},
    args={"input_size": {"dim": "i"}, "hidden_size": {"dim": "n"}},
    traits=["smooth", "twice_differentiable"],
    options={"batch_first": False, "variant": "reset_after", "state": ["h"]},
)
class GRU(Recurrent):
    """A GRU over a sequence: x [t, b, m], or [b, t, m] where batch_first, and the state h
    [layers, b, n], zeros unless given; returns y [t, b, n] and the state after the last step.
    The gates lie in the order reset, update, new.
    """

    gates = 3

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        steps = wide(self.time_first(x))
        first = self.zeros(steps) if state is None else wide(state)
        last = []
        for layer in range(self.num_layers):
            steps, h = self._layer(steps, first[layer], layer)
            last.append(h)
        return self.time_first(steps).to(x.dtype), torch.stack(last).to(x.dtype)

    def _layer(self, steps: Tensor, h: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        outputs = []
        for given in self.from_inputs(steps, layer):
            h = _Cell.apply(given, self.from_state(h, layer), h)
            outputs.append(h)
        return torch.stack(outputs), h
