"""Long short-term memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.references.activations.sigmoids import sigmoid, tanh
from dlcheck.references.precision import wide
from dlcheck.references.recurrent.layers import Recurrent
from dlcheck.registry import reference


class _Cell(torch.autograd.Function):
    """c′ = f c + i g, h′ = o tanh c′, with i, f, o = σ and g = tanh of the parts of a [b, 4n].

    With cotangents ḣ of h′ and ċ of c′ and T = tanh c′, what reaches c′ is γ = ċ + ḣ o (1 − T²).
    Then i: γ g, f: γ c, g: γ i, o: ḣ T, each times σ′ = σ (1 − σ) or tanh′ = 1 − tanh²; c: γ f.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = _gates(a)
        after = f * c + i * g
        return o * tanh(after), after

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        a, c = ctx.saved_tensors
        to_h, to_c = gradients
        i, f, g, o = _gates(a)
        bent = tanh(f * c + i * g)
        through = to_c + to_h * o * (1 - bent.square())
        parts = (
            through * g * i * (1 - i),
            through * c * f * (1 - f),
            through * i * (1 - g.square()),
            to_h * bent * o * (1 - o),
        )
        return torch.cat(parts, -1), through * f


def _gates(a: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    i, f, g, o = a.chunk(4, -1)
    return sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)


@reference(
    kind="recurrent",
    formula="c′ = σ(a_f) c + σ(a_i) tanh(a_g),  h′ = σ(a_o) tanh(c′),  a = W x + U h + β",
    source="Hochreiter & Schmidhuber, Long Short-Term Memory, Neural Computation 9(8), 1997; with "
    "the forget gate of Gers, Schmidhuber & Cummins, Neural Computation 12(10), 2000, §3",
    inputs={"x": "float t b i", "h": "float 1 b n", "c": "float 1 b n"},
    args={"input_size": {"dim": "i"}, "hidden_size": {"dim": "n"}},
    traits=["smooth", "twice_differentiable"],
    options={"batch_first": False, "state": ["h", "c"]},
)
class LSTM(Recurrent):
    """An LSTM over a sequence: x [t, b, m], or [b, t, m] where batch_first, and the state
    (h, c), each [layers, b, n], zeros unless given; returns y [t, b, n] and the state after the
    last step. The gates lie in the order input, forget, cell, output.
    """

    gates = 4

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        steps = wide(self.time_first(x))
        first = (self.zeros(steps),) * 2 if state is None else (wide(state[0]), wide(state[1]))
        last_h, last_c = [], []
        for layer in range(self.num_layers):
            steps, h, c = self._layer(steps, first[0][layer], first[1][layer], layer)
            last_h.append(h)
            last_c.append(c)
        after = torch.stack(last_h).to(x.dtype), torch.stack(last_c).to(x.dtype)
        return self.time_first(steps).to(x.dtype), after

    def _layer(
        self, steps: Tensor, h: Tensor, c: Tensor, layer: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        outputs = []
        for given in self.from_inputs(steps, layer):
            h, c = _Cell.apply(given + self.from_state(h, layer), c)
            outputs.append(h)
        return torch.stack(outputs), h, c
