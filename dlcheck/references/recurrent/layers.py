"""A recurrent cell over a sequence, in one or several layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcheck.references.layers.linear import affine, fill_by_fan_in
from dlcheck.references.precision import wide, wide_or_none


class Recurrent(nn.Module):
    """What LSTM and GRU share: the parameters, named as in torch.nn, and the axes of x.

    Layer l has weight_ih_l [gates·n, m], weight_hh_l [gates·n, n] and a bias for each; layer 0
    reads x and every further layer the outputs of the one below. All begin uniform in ±1/√n.
    """

    gates = 0

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,  # noqa: FBT001, FBT002
        batch_first: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first = bias, batch_first
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            width = hidden_size if layer else input_size
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, width),
                "weight_hh": (rows, hidden_size),
            }
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            for name, shape in shapes.items():
                setattr(self, f"{name}_l{layer}", nn.Parameter(torch.empty(shape)))
        fill_by_fan_in(self, hidden_size)

    def from_inputs(self, x: Tensor, layer: int) -> Tensor:
        """What every step's gates get from its input, at once: [t, b, m] → [t, b, gates·n]."""
        return affine(x, self._wide("weight_ih", layer), self._wide_or_none("bias_ih", layer))

    def from_state(self, h: Tensor, layer: int) -> Tensor:
        """What the gates get from the state before: [b, n] → [b, gates·n]."""
        return affine(h, self._wide("weight_hh", layer), self._wide_or_none("bias_hh", layer))

    def _wide(self, name: str, layer: int) -> Tensor:
        return wide(getattr(self, f"{name}_l{layer}"))

    def _wide_or_none(self, name: str, layer: int) -> Tensor | None:
        return wide_or_none(getattr(self, f"{name}_l{layer}", None))

    def time_first(self, x: Tensor) -> Tensor:
        """x [t, b, m], or [b, t, m] where batch_first, as [t, b, m]; and back."""
        return x.transpose(0, 1) if self.batch_first else x

    def zeros(self, steps: Tensor) -> Tensor:
        """The state before the first step, [layers, b, n]."""
        return steps.new_zeros(self.num_layers, steps.shape[1], self.hidden_size)
