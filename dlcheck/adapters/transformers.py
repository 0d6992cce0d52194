"""Hugging Face's Trainer as a training loop.

    [[subject]]
    name = "trainer"
    target = "dlcheck.adapters.transformers:training"
    kind = "training"
    options = { clip = "max_grad_norm", scheduler = "step" }

A subclass of Trainer is given by `args = { trainer = "mypkg.train:MyTrainer" }`.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.errors import UsageError

Loss = Callable[[Tensor, Tensor], Tensor]


class _Named(nn.Module):
    """A model that takes its batch by name and answers with its logits by name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.model(x)}


class _Batches:
    """A loader whose batches have names: the Trainer counts the labels of a window by them."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.dataset = loader.dataset
        self.batch_size = loader.batch_size

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for x, y in self.loader:
            yield {"x": x, "labels": y}


def training(
    model: nn.Module,
    loader: Any,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    *,
    accumulate: int = 1,
    epochs: int = 1,
    scheduler: Any = None,
    max_grad_norm: float | None = None,
    trainer: str = "transformers:Trainer",
    **arguments: Any,
) -> None:
    """Train in place with Trainer.train. `arguments`: further TrainingArguments.

    loss: a mean over rows, or over labels that are not -100; a window divides by all of its
    labels, as Trainer does with a loss that takes num_items_in_batch.
    """
    try:
        hf = importlib.import_module("transformers")
        importlib.import_module("accelerate")
    except ImportError as error:
        raise UsageError(
            f"dlcheck.adapters.transformers needs: pip install transformers accelerate ({error})"
        ) from error
    module, _, name = trainer.partition(":")
    owner: Any = getattr(importlib.import_module(module), name)

    class Fed(owner):
        def get_train_dataloader(self) -> Any:
            return _Batches(loader)

    def summed(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        counted = labels.numel() if labels.is_floating_point() else int((labels != -100).sum())
        if num_items_in_batch is None:
            return loss(outputs["logits"], labels)
        return loss(outputs["logits"], labels) * (counted / int(num_items_in_batch))

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stated = hf.TrainingArguments(
            output_dir=folder,
            use_cpu=not next(model.parameters()).is_cuda,
            num_train_epochs=epochs,
            gradient_accumulation_steps=accumulate,
            max_grad_norm=0.0 if max_grad_norm is None else max_grad_norm,
            **{
                "report_to": "none",
                "save_strategy": "no",
                "disable_tqdm": True,
                "logging_strategy": "no",
                **arguments,
            },
        )
        schedule = scheduler or torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1.0)
        made = Fed(
            model=_Named(model),
            args=stated,
            train_dataset=loader.dataset,
            optimizers=(optimizer, schedule),
            compute_loss_func=summed,
        )
        made.remove_callback(hf.PrinterCallback)
        made.train()
