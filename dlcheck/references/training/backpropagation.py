"""A training loop whose forward, backward and update are written by hand, without autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcheck.references.training.minibatch_training import Batch, windows
from dlcheck.registry import reference

Loss = Callable[[Tensor, Tensor], Tensor]
Gradients = dict[Tensor, Tensor]


@reference(
    kind="training",
    formula="δ_{l−1} = (δ_l W_l) ∘ σ′(z_{l−1}),  ∂L/∂W_l = δ_lᵀ a_{l−1},  v ← μv + ∂L/∂θ,  "
    "θ ← θ − ηv",
    source="Rumelhart, Hinton & Williams, Learning representations by back-propagating errors, "
    "Nature 323, 1986; the momentum as torch.optim.SGD writes it",
    traits=["plain_sequential"],
)
@torch.no_grad()
def backpropagation(
    model: nn.Module,
    loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    *,
    accumulate: int = 1,
    epochs: int = 1,
) -> list[float]:
    """Train in place; returns the mean loss of each epoch, as seen while training.

    model: a Sequential of Linear, Tanh and ReLU; loss: cross-entropy or squared error, mean over
    rows; optimizer: torch.optim.SGD, of which learning rate, momentum and state are used, never
    its step. Raises TypeError for anything else.
    """
    layers = _layers(model)
    slope_of = _slope_of(loss)
    _refuse_other_optimizers(optimizer)
    history = []
    for _ in range(epochs):
        total, rows = 0.0, 0
        for window in windows(loader, accumulate):
            size = sum(len(x) for x, _ in window)
            gradients: Gradients = {}
            for x, y in window:
                activations = _forward(layers, x)
                value, slope = slope_of(activations[-1], y)
                _backward(layers, activations, slope / size, gradients)
                total += value
            _update(optimizer, gradients)
            rows += size
        history.append(total / max(rows, 1))
    return history


def _forward(layers: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """a₀ = x, a₁, …: the input and what each layer makes of the one before."""
    activations = [x]
    for layer in layers:
        a = activations[-1]
        if isinstance(layer, nn.Linear):
            z = a @ layer.weight.T
            activations.append(z if layer.bias is None else z + layer.bias)
        else:
            activations.append(torch.tanh(a) if isinstance(layer, nn.Tanh) else a.clamp_min(0))
    return activations


def _backward(
    layers: Sequence[nn.Module], activations: Sequence[Tensor], delta: Tensor, into: Gradients
) -> None:
    """Carry δ = ∂L/∂a from the last layer to the first, adding ∂L/∂W = δᵀa, ∂L/∂b = Σδ."""
    for layer, a, out in zip(
        reversed(layers), reversed(activations[:-1]), reversed(activations[1:]), strict=True
    ):
        if isinstance(layer, nn.Linear):
            into[layer.weight] = into.get(layer.weight, 0.0) + delta.T @ a
            if layer.bias is not None:
                into[layer.bias] = into.get(layer.bias, 0.0) + delta.sum(0)
            delta = delta @ layer.weight
        else:  # tanh′(z) = 1 − tanh²(z); relu′(z) = [z > 0]
            delta = delta * (1 - out.square() if isinstance(layer, nn.Tanh) else out > 0)


def _update(optimizer: torch.optim.Optimizer, gradients: Gradients) -> None:
    """v ← μv + g (v = g at first), θ ← θ − ηv; v is kept in the optimizer's own state."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter not in gradients:
                continue
            velocity = gradients[parameter]
            if group["momentum"]:
                state = optimizer.state[parameter]
                if state.get("momentum_buffer") is not None:
                    velocity = group["momentum"] * state["momentum_buffer"] + velocity
                state["momentum_buffer"] = velocity
            parameter -= group["lr"] * velocity


def _cross_entropy(logits: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """Σ (log Σ exp z − z_y) and its slope softmax(z) − e_y."""
    log_probabilities = logits - logits.logsumexp(-1, keepdim=True)
    value = -log_probabilities.gather(-1, y[:, None]).sum()
    return float(value), log_probabilities.exp() - F.one_hot(y, logits.shape[-1])


def _squared_error(prediction: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """Σ over rows of the mean of (ŷ − y)² over a row's d elements, and its slope 2(ŷ − y)/d."""
    difference = prediction - y
    elements = difference[0].numel()
    return float(difference.square().sum()) / elements, 2 * difference / elements


def _slope_of(loss: Loss) -> Callable[[Tensor, Tensor], tuple[float, Tensor]]:
    plain = getattr(loss, "reduction", "mean") == "mean" and getattr(loss, "weight", None) is None
    if plain and (loss is F.cross_entropy or isinstance(loss, nn.CrossEntropyLoss)):
        if not getattr(loss, "label_smoothing", 0.0):
            return _cross_entropy
    elif plain and (loss is F.mse_loss or isinstance(loss, nn.MSELoss)):
        return _squared_error
    raise TypeError(
        f"backpropagation by hand knows the mean cross-entropy and the mean squared error, "
        f"not {loss!r}"
    )


def _layers(model: nn.Module) -> list[nn.Module]:
    layers = list(model) if isinstance(model, nn.Sequential) else [model]
    for layer in layers:
        if not isinstance(layer, (nn.Linear, nn.Tanh, nn.ReLU)):
            raise TypeError(
                "backpropagation by hand takes a Sequential of Linear, Tanh and ReLU, "
                f"not {type(layer).__name__}"
            )
    return layers


def _refuse_other_optimizers(optimizer: torch.optim.Optimizer) -> None:
    if type(optimizer) is not torch.optim.SGD:
        raise TypeError(f"backpropagation by hand updates as SGD, not {type(optimizer).__name__}")
    for group in optimizer.param_groups:
        for option in ("weight_decay", "dampening", "nesterov", "maximize"):
            if group[option]:
                raise TypeError(f"backpropagation by hand knows no {option} = {group[option]}")
