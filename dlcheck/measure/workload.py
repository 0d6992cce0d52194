"""What is trained when batch sizes are compared: a model, its objective, rows, an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset, default_collate


@dataclass(frozen=True, slots=True)
class Rows:
    """A data set by number: columns [n, …], or a map-style data set whose rows are collated."""

    source: Sequence[Tensor] | Dataset[Any]
    collate: Callable[[list[Any]], Any] = default_collate

    def __len__(self) -> int:
        if isinstance(self.source, Dataset):
            return len(self.source)  # type: ignore[arg-type]
        return len(self.source[0])

    def batch(self, numbers: Tensor, device: torch.device) -> Any:
        """The rows of these numbers [b], as one batch on the device."""
        if isinstance(self.source, Dataset):
            return moved(self.collate([self.source[i] for i in numbers.tolist()]), device)
        return tuple(column[numbers.to(column.device)].to(device) for column in self.source)


def moved(batch: Any, device: torch.device) -> Any:
    """A batch of tensors in tuples, lists and dicts, on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: moved(part, device) for name, part in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(moved(part, device) for part in batch)
    return batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One training problem, of which every batch size trains its own model.

    build: a fresh model, drawn from torch's global generator. objective: (model, batch) → the
    mean loss of its rows. optimizer: (parameters, lr=…) → Optimizer. rate: the learning rate at
    which a search begins. chunk: rows of one evaluation.
    """

    build: Callable[[], nn.Module]
    objective: Callable[[nn.Module, Any], Tensor]
    rows: Rows
    optimizer: Callable[..., Optimizer]
    device: torch.device
    rate: float = 0.1
    chunk: int = 1024

    def model(self, seed: int) -> nn.Module:
        """A fresh model in train mode; the same for the same seed."""
        torch.manual_seed(seed)
        return self.build().to(self.device).train()

    def batch(self, numbers: Tensor) -> Any:
        return self.rows.batch(numbers, self.device)

    def drawn(self, size: int, seed: int) -> Any:
        """A batch of `size` rows drawn without replacement."""
        generator = torch.Generator().manual_seed(seed)
        return self.batch(torch.randperm(len(self.rows), generator=generator)[:size])

    def batches(self, size: int, seed: int) -> Iterator[Any]:
        """Batches without end, epoch after epoch in a new order; the short last one is left out.

        As the variance law has it: each batch is a uniform sample without replacement.
        """
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(self.rows), generator=generator)
            for start in range(0, len(order) - size + 1, size):
                yield self.batch(order[start : start + size])

    def step(self, model: nn.Module, optimizer: Optimizer, batch: Any) -> None:
        """Forward, backward, update."""
        optimizer.zero_grad(set_to_none=True)
        self.objective(model, batch).backward()
        optimizer.step()

    def loss(self, model: nn.Module, numbers: Tensor) -> float:
        """The mean loss over these rows, in evaluation mode, which is left again."""
        was_training = model.training
        model.eval()
        total = 0.0
        with torch.no_grad():
            for part in numbers.split(self.chunk):
                total += float(self.objective(model, self.batch(part))) * len(part)
        model.train(was_training)
        return total / len(numbers)


def gradient(workload: Workload, model: nn.Module, batch: Any) -> Tensor:
    """The gradient of a batch's mean loss by every trainable parameter, flat, in float64."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss = workload.objective(model, batch)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    parts = (
        (p.new_zeros(p.numel()) if g is None else g.reshape(-1)).double()
        for g, p in zip(found, parameters, strict=True)
    )
    return torch.cat(list(parts))
