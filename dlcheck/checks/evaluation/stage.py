"""A model and rows to evaluate it on, in batches of any size and order."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.numerics.rounding import gamma
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation
from dlcheck.targets import load_target

ROWS = 23  # leaves a short last batch for every size but 1 and 23


@dataclass(frozen=True, slots=True)
class Stage:
    """Rows and a model with batch statistics and dropout, whose running statistics are moved."""

    x: Tensor
    y: Tensor
    model: nn.Module

    @classmethod
    def of(cls, subject: Implementation, case: Case, rows: int = ROWS) -> Stage:
        """Rows whose errors differ, so that a wrong weight shows. Raises NotApplicable."""
        first = next(iter(case.specs.values())).dims
        if len(case.specs) < 2 or not first or not first[0].name:
            raise NotApplicable("an evaluation needs two inputs whose first dim has a name")
        recipe = replace(case.recipe, sizes={**case.sizes, first[0].name: rows})
        x, y = list(materialize(recipe, case.specs, case.device, case.dtype).values())[:2]
        seed_everything(case.recipe.seed)
        model = _model(subject, case, x, y).to(device=case.device, dtype=case.dtype)
        return cls(x, y, model)

    def loader(
        self, batch: int, order: Sequence[int] | None = None, **given: Any
    ) -> DataLoader[Any]:
        """A real DataLoader; its draws are its own."""
        order = range(len(self.x)) if order is None else order
        return DataLoader(
            TensorDataset(self.x, self.y),
            batch_size=batch,
            sampler=list(order),
            generator=torch.Generator().manual_seed(0),
            **given,
        )

    def value(
        self,
        subject: Implementation,
        batch: int,
        order: Sequence[int] | None = None,
        **given: Any,
    ) -> float:
        """What the subject makes of a copy of the model."""
        return subject.number(copy.deepcopy(self.model), self.loader(batch, order, **given))

    def values(self, subject: Implementation) -> list[float]:
        """The value of each row alone: how far rows differ, and so how much a weight shows."""
        return [self.value(subject, 1, (row,)) for row in range(len(self.x))]

    def rounding(self, size: float) -> float:
        """How far the value of N rows may move with the order of sums, in all layers.

        A number passes N + width roundings in each of three layers; a loss is Lipschitz in the
        logits with constant 1, and logits are of the size of the value or 1. The roundings are
        those of float32, in which metrics may keep their sums (ignite, torchmetrics).
        """
        width = max(p.shape[-1] for p in self.model.parameters())
        return gamma(3 * (len(self.x) + width), torch.float32) * max(abs(size), 1.0)


def _model(subject: Implementation, case: Case, x: Tensor, y: Tensor) -> nn.Module:
    if "model" in subject.options:
        made = load_target(subject.options["model"], near=subject.declared.file)
        return copy.deepcopy(made) if isinstance(made, nn.Module) else made()
    features = x[0].numel()
    spec = list(case.specs.values())[1]
    outputs = spec.count.size(case.sizes) if spec.count is not None else y[0].numel()
    return network(features, outputs)


def network(features: int, outputs: int) -> nn.Module:
    """BatchNorm with statistics of its own and dropout: both show the mode."""
    norm = nn.BatchNorm1d(8)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(features, 8), norm, nn.Tanh(), nn.Dropout(0.4),
        nn.Linear(8, outputs),
    )  # fmt: skip
    with torch.no_grad():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(0, 0.5)
        norm.running_var.uniform_(0.5, 2)
        for parameter in model[-1].parameters():
            parameter.mul_(4)  # rows that differ: some are right and some are far off
    return model
