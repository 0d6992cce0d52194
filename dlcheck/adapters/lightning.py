"""Lightning's Trainer as a training loop and as an evaluation.

    [[subject]]
    name = "trainer"
    target = "dlcheck.adapters.lightning:training"
    kind = "training"
    args = { deterministic = true }                # arguments of the Trainer
    options = { clip = "gradient_clip_val", scheduler = "epoch", window = "full" }

A LightningModule of one's own is declared as `options.model`, and the loss that its training_step
computes as `options.loss`. It then trains as itself, with the optimizer that dlcheck gives.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.errors import UsageError

Loss = Callable[[Tensor, Tensor], Tensor]


def _lightning() -> Any:
    problems = []
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            problems.append(str(error))
    raise UsageError(
        f"dlcheck.adapters.lightning needs Lightning: pip install lightning ({problems[0]})"
    )


def training(
    model: nn.Module,
    loader: Any,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    *,
    accumulate: int = 1,
    epochs: int = 1,
    scheduler: Any = None,
    unit: str = "epoch",
    validation: Any = None,
    checkpoint: str | None = None,
    **trainer: Any,
) -> None:
    """Train in place with Trainer.fit. `trainer`: its further arguments.

    unit: how often the schedule is stepped, "step" or "epoch". checkpoint: a file; one that
    exists is gone on from, and it is written at the end.
    """
    pl = _lightning()
    module = _as_module(pl, model, loss)
    _give(module, optimizer, scheduler, unit)
    given = {"enable_model_summary": False, "max_epochs": epochs, **trainer}
    with _quiet():
        made = _trainer(pl, accumulate_grad_batches=accumulate, **given)
        start = checkpoint if checkpoint is not None and os.path.exists(checkpoint) else None
        made.fit(module, loader, validation, ckpt_path=start)
        if checkpoint is not None:
            made.save_checkpoint(checkpoint)


def evaluation(model: nn.Module, loader: Any, *, metric: str = "val_loss", **trainer: Any) -> float:
    """The number that a LightningModule logs under `metric` in Trainer.validate.

    A plain model is evaluated by its mean loss: cross-entropy, or squared error of values.
    """
    pl = _lightning()
    mode = model.training
    with _quiet():
        made = _trainer(pl, **trainer)
        (found,) = made.validate(_as_module(pl, model, _usual_loss), loader, verbose=False)
    model.train(mode)
    if metric not in found:
        raise UsageError(f"no {metric!r} was logged in validation; known: {', '.join(found)}")
    return float(found[metric])


def _usual_loss(prediction: Tensor, target: Tensor) -> Tensor:
    usual = nn.functional.mse_loss if target.is_floating_point() else nn.functional.cross_entropy
    return usual(prediction, target)


def _trainer(pl: Any, **given: Any) -> Any:
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "num_sanity_val_steps": 0,
            **given,
        }
    )


def _as_module(pl: Any, model: nn.Module, loss: Loss) -> Any:
    """The model itself where it is a LightningModule, else one that trains it by the loss."""
    if isinstance(model, pl.LightningModule):
        return model

    class Plain(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, number: int) -> Tensor:
            x, y = batch
            return loss(self.model(x), y)

        def validation_step(self, batch: Any, number: int) -> None:
            x, y = batch
            value = loss(self.model(x), y)
            self.log("val_loss", value, batch_size=len(y), on_step=False, on_epoch=True)

    return Plain()


def _give(module: Any, optimizer: Any, scheduler: Any, unit: str) -> None:
    """The optimizer and schedule that dlcheck made, in place of the module's own."""
    if scheduler is None:
        given: Any = optimizer
    else:
        schedule = {"scheduler": scheduler, "interval": unit}
        given = {"optimizer": optimizer, "lr_scheduler": schedule}
    module.configure_optimizers = lambda: given


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the notices about devices, workers and loggers."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
