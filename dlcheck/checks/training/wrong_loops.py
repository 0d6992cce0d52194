"""Training loops that people get wrong: the mutants of the training checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dlcheck.mutants import instead

Step = Callable[[nn.Module, Optimizer, Tensor, int], None]
Weight = Callable[[int, int, int, int], float]


def _looped(name: str, step: Step, batches: Callable[[Any], Iterable[Any]] = iter) -> Any:
    """A loop over batches that calls `step(model, optimizer, mean loss, step number)`."""

    def train(
        model: nn.Module,
        loader: Any,
        optimizer: Optimizer,
        loss: Callable[[Tensor, Tensor], Tensor],
        *,
        accumulate: int = 1,
        epochs: int = 1,
    ) -> None:
        for _ in range(epochs):
            for number, (x, y) in enumerate(batches(loader)):
                step(model, optimizer, loss(model(x), y), number)

    train.__name__ = name
    return instead(train)


def _right(model: nn.Module, optimizer: Optimizer, value: Tensor, number: int) -> None:
    optimizer.zero_grad()
    value.backward()
    optimizer.step()


def _without_zero_grad(model: nn.Module, optimizer: Optimizer, value: Tensor, number: int) -> None:
    value.backward()
    optimizer.step()


def _step_first(model: nn.Module, optimizer: Optimizer, value: Tensor, number: int) -> None:
    optimizer.zero_grad()
    optimizer.step()
    value.backward()


def _zero_last(model: nn.Module, optimizer: Optimizer, value: Tensor, number: int) -> None:
    value.backward()
    optimizer.zero_grad()
    optimizer.step()


def _uphill(model: nn.Module, optimizer: Optimizer, value: Tensor, number: int) -> None:
    _right(model, optimizer, -value, number)


def _first_layer_detached(
    model: nn.Module, optimizer: Optimizer, value: Tensor, number: int
) -> None:
    optimizer.zero_grad()
    value.backward()
    first = next(iter(model.parameters()))
    first.grad = None
    optimizer.step()


def _one_step_late(model: nn.Module, optimizer: Optimizer, value: Tensor, number: int) -> None:
    """Steps with the gradient of the batch before."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(value, parameters)
    if number:
        optimizer.step()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def _momentum_forgotten(model: nn.Module, optimizer: Optimizer, value: Tensor, number: int) -> None:
    optimizer.state.clear()
    _right(model, optimizer, value, number)


def _first_only(loader: Any) -> Iterator[Any]:
    batches = list(loader)
    return iter([batches[0]] * len(batches))


def _without_the_last(loader: Any) -> Iterator[Any]:
    return iter(list(loader)[:-1])


def _once(loader: Any) -> Iterator[Any]:
    """The loader's batches in its first epoch, and none in a later one."""
    if getattr(loader, "has_been_read", False):
        return iter(())
    loader.has_been_read = True
    return iter(loader)


forgets_zero_grad = _looped("forgets_zero_grad", _without_zero_grad)
steps_before_backward = _looped("steps_before_backward", _step_first)
zeroes_before_the_step = _looped("zeroes_gradients_before_the_step", _zero_last)
climbs = _looped("steps_uphill", _uphill)
detaches_the_first_layer = _looped("detaches_the_first_layer", _first_layer_detached)
steps_one_batch_late = _looped("steps_one_batch_late", _one_step_late)
forgets_momentum = _looped("makes_a_new_optimizer_state_each_step", _momentum_forgotten)
reuses_the_first_batch = _looped("reuses_the_first_batch", _right, _first_only)
drops_the_last_batch = _looped("drops_the_last_batch", _right, _without_the_last)
trains_one_epoch_only = _looped("trains_one_epoch_only", _right, _once)
ignores_accumulation = _looped("steps_after_every_batch", _right)


def _accumulating(name: str, weight: Weight, *, tail: bool = True, keep: bool = True) -> Any:
    """A loop with windows: `weight(rows, rows of window, batches of window, accumulate)`.

    tail: does it step on an incomplete window? keep: does it keep the gradients before?
    """

    def train(
        model: nn.Module,
        loader: Any,
        optimizer: Optimizer,
        loss: Callable[[Tensor, Tensor], Tensor],
        *,
        accumulate: int = 1,
        epochs: int = 1,
    ) -> None:
        for _ in range(epochs):
            batches = iter(loader)
            while window := list(islice(batches, accumulate)):
                optimizer.zero_grad()
                rows = sum(len(x) for x, _ in window)
                for x, y in window:
                    if not keep:
                        optimizer.zero_grad()
                    value = loss(model(x), y) * weight(len(x), rows, len(window), accumulate)
                    value.backward()
                if tail or len(window) == accumulate:
                    optimizer.step()

    train.__name__ = name
    return instead(train)


divides_the_tail_by_the_full_count = _accumulating(
    "divides_the_last_window_by_the_full_count", lambda n, rows, batches, full: 1 / full
)
averages_batches_not_rows = _accumulating(
    "averages_batches_instead_of_rows", lambda n, rows, batches, full: 1 / batches
)
forgets_to_divide = _accumulating(
    "sums_the_batches_of_a_window", lambda n, rows, batches, full: 1.0
)
drops_the_incomplete_window = _accumulating(
    "drops_the_incomplete_window", lambda n, rows, batches, full: n / rows, tail=False
)
keeps_the_last_batch_only = _accumulating(
    "zeroes_gradients_within_a_window", lambda n, rows, batches, full: n / rows, keep=False
)
