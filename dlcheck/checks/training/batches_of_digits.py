"""Batches of any size for a training loop: what a step costs in memory and in time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dlcheck.checks.training.calling import keywords
from dlcheck.datasets import digits
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation
from dlcheck.targets import load_target

Loss = Callable[[Tensor, Tensor], Tensor]


class Rows(Dataset):  # type: ignore[type-arg]
    """Rows that are fetched a batch at a time: the loader's part of a step stays small."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x = x
        self.y = y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.x[indices], self.y[indices]


def as_it_is(batch: Any) -> Any:
    """Collates nothing: the rows come as a batch already."""
    return batch


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, its loss, and as many rows as are asked for."""

    name: str
    model: nn.Module
    loss: Loss
    rows: Callable[[int], tuple[Tensor, Tensor]]

    def run(self, train: Implementation, size: int, batches: int, epochs: int = 1) -> nn.Module:
        """The model after `batches` batches of `size` rows an epoch."""
        model, call = self.prepared(train, size, batches, epochs)
        call()
        return model

    def prepared(
        self, train: Implementation, size: int, batches: int, epochs: int = 1
    ) -> tuple[nn.Module, Callable[[], Any]]:
        """A private model, and the call that trains it."""
        model = copy.deepcopy(self.model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        loader: DataLoader[Any] = DataLoader(
            Rows(*self.rows(size * batches)), batch_size=size, collate_fn=as_it_is
        )
        given = keywords(train, epochs=epochs)
        return model, lambda: train(model, loader, optimizer, self.loss, **given)


def workloads(train: Implementation, case: Case) -> list[Workload]:
    """The declared model on the declared inputs; else two small networks on digits."""
    seed_everything(case.recipe.seed)
    if "model" in train.options:
        return [_declared(train, case)]
    rows = _digits(case)
    made = {
        "perceptron": nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        "convolution": nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 10),
        ),
    }
    loss = nn.CrossEntropyLoss()
    return [
        Workload(name, model.to(device=case.device, dtype=case.dtype), loss, rows)
        for name, model in made.items()
    ]


def _digits(case: Case) -> Callable[[int], tuple[Tensor, Tensor]]:
    table = digits().to(case.device, case.dtype)

    def rows(count: int) -> tuple[Tensor, Tensor]:
        chosen = torch.arange(count, device=case.device) % len(table.x)
        return table.x[chosen], table.y[chosen]

    return rows


def _declared(train: Implementation, case: Case) -> Workload:
    made = load_target(train.options["model"], near=train.declared.file)
    model = made if isinstance(made, nn.Module) else made()
    specs = list(case.specs.values())
    if len(specs) != 2 or not all(spec.dims and spec.dims[0].name for spec in specs):
        raise NotApplicable("batches of any size need two inputs whose first dim has a name")
    first = specs[0].dims[0].name

    def rows(count: int) -> tuple[Tensor, Tensor]:
        recipe = replace(case.recipe, sizes={**case.sizes, first: count})
        x, y = materialize(recipe, case.specs, case.device, case.dtype).values()
        return x, y

    path = train.options.get("loss")
    loss = load_target(path, near=train.declared.file) if path else None
    if loss is None:
        loss = nn.MSELoss() if specs[1].is_floating else nn.CrossEntropyLoss()
    loss = loss() if isinstance(loss, type) else loss
    return Workload("declared", model.to(device=case.device, dtype=case.dtype), loss, rows)
