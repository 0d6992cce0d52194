"""Every public loss, optimizer and schedule of torch stands in a suite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.nn.modules.loss
import torch.optim.lr_scheduler
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from dlcheck.suite import read_suite

SUITES = Path(__file__).parent.parent / "suites"
ALIASES = {"NLLLoss2d": "NLLLoss, of which it is the deprecated name"}


def names_of(suite: str) -> set[str]:
    """The last part of each target, and each subject's own name."""
    subjects = read_suite(SUITES / suite).subjects
    targets = {str(subject.target).rpartition(":")[2] for subject in subjects}
    return targets | {subject.name for subject in subjects}


LOSSES = sorted(set(torch.nn.modules.loss.__all__) - set(ALIASES))
OPTIMIZERS = sorted(
    name
    for name, found in vars(torch.optim).items()
    if isinstance(found, type)
    and issubclass(found, torch.optim.Optimizer)
    and found is not torch.optim.Optimizer
)
SCHEDULERS = sorted(
    name
    for name in torch.optim.lr_scheduler.__all__
    if getattr(torch.optim.lr_scheduler, name) is not LRScheduler
)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_in_the_suite(name: str) -> None:
    assert issubclass(getattr(nn, name), nn.Module)
    assert name in names_of("losses.toml")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_in_the_suite(name: str) -> None:
    assert name in names_of("optimizers.toml")


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_schedule_is_in_the_suite(name: str) -> None:
    assert name in names_of("optimizers.toml")


def test_what_is_left_out_is_an_alias() -> None:
    for name in ALIASES:
        assert issubclass(getattr(nn, name), nn.NLLLoss)


FUNCTIONS = sorted(
    name
    for name in vars(nn.functional)
    if not name.startswith("_")
    and (
        name.endswith("_loss")
        or name.endswith("cross_entropy")
        or name in ("kl_div", "binary_cross_entropy_with_logits")
    )
)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_functional_loss_has_its_module(name: str) -> None:
    """Each function is what a module of the suite calls, so that the suite runs it too."""
    words = {"kl": "KL", "nll": "NLL", "ctc": "CTC", "bce": "BCE", "l1": "L1", "mse": "MSE"}
    short = name.replace("binary_cross_entropy", "bce").replace("kl_div", "kl_div_loss")
    short = short.replace("multilabel", "multi_label").removesuffix("_loss")
    wanted = "".join(words.get(part, part.title()) for part in short.split("_"))
    known = {loss.removesuffix("Loss").lower() for loss in names_of("losses.toml")}
    assert wanted.lower() in known, wanted
