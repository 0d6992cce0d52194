"""Evaluations that people get wrong: mutants that feed or call a right one differently."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dlcheck.mutants import around

Evaluate = Callable[[Any, Any], Any]


def _rows(loader: Any) -> int:
    return sum(len(batch[0]) for batch in loader)


@around
def averages_batches_not_rows(original: Evaluate, model: Any, loader: Any) -> float:
    values = [float(original(model, [batch])) for batch in loader]
    return sum(values) / len(values)


@around
def drops_the_last_batch(original: Evaluate, model: Any, loader: Any) -> float:
    batches = list(loader)
    return original(model, batches[:-1] or batches)  # type: ignore[no-any-return]


@around
def divides_by_the_data_set(original: Evaluate, model: Any, loader: Any) -> float:
    return float(original(model, loader)) * _rows(loader) / len(loader.dataset)


@around
def divides_by_batches_times_size(original: Evaluate, model: Any, loader: Any) -> float:
    whole: int = len(loader) * loader.batch_size
    return float(original(model, loader)) * _rows(loader) / whole


@around
def looks_at_the_first_batch_only(original: Evaluate, model: Any, loader: Any) -> float:
    return original(model, [next(iter(loader))])  # type: ignore[no-any-return]


@around
def ignores_the_sampler(original: Evaluate, model: Any, loader: Any) -> float:
    return original(model, DataLoader(loader.dataset, 4))  # type: ignore[no-any-return]


@around
def weighs_later_batches_more(original: Evaluate, model: Any, loader: Any) -> float:
    value = 0.0
    for batch in loader:
        value = 0.9 * value + 0.1 * float(original(model, [batch]))
    return value


class Trained(nn.Module):
    """A model that stays in train mode whatever it is told."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.train()

    def train(self, mode: bool = True) -> Trained:  # noqa: FBT001, FBT002
        return super().train(True)  # noqa: FBT003

    def forward(self, *inputs: Any) -> Any:
        return self.model(*inputs)


@around
def stays_in_train_mode(original: Evaluate, model: Any, loader: Any) -> float:
    mode = model.training
    value = original(Trained(model), loader)
    model.train(mode)
    return value  # type: ignore[no-any-return]


@around
def leaves_evaluation_mode(original: Evaluate, model: Any, loader: Any) -> float:
    value = original(model, loader)
    model.eval()
    return value  # type: ignore[no-any-return]


@around
def ends_in_train_mode(original: Evaluate, model: Any, loader: Any) -> float:
    value = original(model, loader)
    model.train()
    return value  # type: ignore[no-any-return]


class Graph(nn.Module):
    """A model whose forward builds a graph even where gradients are off."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> Any:
        with torch.enable_grad():
            return self.model(*inputs)


@around
def builds_a_graph(original: Evaluate, model: Any, loader: Any) -> float:
    mode = model.training
    value = original(Graph(model), loader)
    model.train(mode)
    return value  # type: ignore[no-any-return]


@around
def goes_backward(original: Evaluate, model: Any, loader: Any) -> float:
    mode = model.training
    model.eval()
    for batch in loader:
        model(batch[0]).sum().backward()
    model.train(mode)
    return original(model, loader)  # type: ignore[no-any-return]


@around
def moves_the_running_statistics(original: Evaluate, model: Any, loader: Any) -> float:
    mode = model.training
    model.train()
    with torch.no_grad():
        for batch in loader:
            if len(batch[0]) > 1:
                model(batch[0])
    model.train(mode)
    return original(model, loader)  # type: ignore[no-any-return]


@around
def rounds_the_weights(original: Evaluate, model: Any, loader: Any) -> float:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    return original(model, loader)  # type: ignore[no-any-return]


@around
def scales_the_rows_in_place(original: Evaluate, model: Any, loader: Any) -> float:
    value = original(model, loader)
    if isinstance(loader.dataset, TensorDataset):
        loader.dataset.tensors[0].mul_(0.5)
    return value  # type: ignore[no-any-return]


@around
def adds_up_over_calls(original: Evaluate, model: Any, loader: Any) -> float:
    value = float(original(model, loader))
    _CALLS.append(value)
    return math.fsum(_CALLS[-2:])


_CALLS: list[float] = []


@around
def answers_in_percent(original: Evaluate, model: Any, loader: Any) -> float:
    return 100 * float(original(model, loader))


@around
def answers_the_complement(original: Evaluate, model: Any, loader: Any) -> float:
    return 1 - float(original(model, loader))


@around
def shifts_the_targets(original: Evaluate, model: Any, loader: Any) -> float:
    return original(model, [(x, y.roll(1, 0)) for x, y in loader])  # type: ignore[no-any-return]


@around
def counts_a_row_twice(original: Evaluate, model: Any, loader: Any) -> float:
    batches = [tuple(batch) for batch in loader]
    return original(model, [*batches, batches[0]])  # type: ignore[no-any-return]
