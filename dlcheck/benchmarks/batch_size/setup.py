"""What a user hands in, as a workload: a function that returns the parts of a training problem."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from dlcheck.errors import SubjectError, UsageError, unknown
from dlcheck.isolation import guarded
from dlcheck.measure.workload import Rows, Workload
from dlcheck.targets import load_target

PARTS = {
    "model": "a class or function that builds a fresh nn.Module",
    "loss": "loss(prediction, target) → the mean over the rows",
    "objective": "objective(model, batch) → the mean over the rows; in place of loss",
    "data": "a tuple of tensors (x, y), or a map-style Dataset",
    "collate": "rows of the Dataset → a batch; by default torch's own",
    "optimizer": "optimizer(parameters, lr=…); by default torch.optim.SGD",
    "lr": "the learning rate at which the search begins; by default 0.1",
    "target": "the loss that counts as trained; by default measured",
}
_EXAMPLE = (
    "def setup():\n"
    "    return {'model': MyModel, 'loss': nn.CrossEntropyLoss(), 'data': (x, y),\n"
    "            'optimizer': torch.optim.SGD, 'lr': 0.1}"
)


@dataclass(frozen=True, slots=True)
class Setup:
    """A workload, with what else its author said."""

    name: str
    workload: Workload
    target: float | None


def read_setup(training: Any, device: torch.device) -> Setup:
    """The workload of a function, an import path or a mapping of parts.

    Raises UsageError where a part is missing, unknown or of no use, and SubjectRaised where the
    function raises.
    """
    name = training if isinstance(training, str) else getattr(training, "__name__", "training")
    made = load_target(training) if isinstance(training, str) else training
    parts = guarded(made) if callable(made) and not isinstance(made, Mapping) else made
    if not isinstance(parts, Mapping):
        raise UsageError(
            f"{name} gave {type(parts).__name__}, but a setup is a function that returns a "
            f"dictionary:\n\n{_EXAMPLE}\n\nIts parts: {', '.join(PARTS)}"
        )
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"{name}: {unknown('part of a setup', str(part), PARTS)}")
    return Setup(name, _workload(name, parts, device), _number(name, parts, "target"))


def _workload(name: str, parts: Mapping[str, Any], device: torch.device) -> Workload:
    missing = [part for part in ("model", "data") if part not in parts]
    if "loss" not in parts and "objective" not in parts:
        missing.append("loss")
    if missing:
        told = "; ".join(f"{part}: {PARTS[part]}" for part in missing)
        raise UsageError(f"{name}: the setup lacks {' and '.join(missing)} ({told})")
    rate = _number(name, parts, "lr")
    return Workload(
        build=_builder(name, parts["model"]),
        objective=_objective(name, parts),
        rows=_rows(name, parts["data"], parts.get("collate", default_collate)),
        optimizer=_optimizer(parts.get("optimizer", torch.optim.SGD)),
        device=device,
        rate=0.1 if rate is None else rate,
    )


def _number(name: str, parts: Mapping[str, Any], part: str) -> float | None:
    value = parts.get(part)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{name}: {part} is a number, not {value!r}")
    if part == "lr" and not value > 0:
        raise UsageError(f"{name}: lr is positive, not {value!r}")
    return float(value)


def _builder(name: str, model: Any) -> Callable[[], nn.Module]:
    if isinstance(model, nn.Module):
        raise UsageError(
            f"{name}: model is a built {type(model).__name__}; every batch size begins with a "
            "fresh one, so give what builds it: its class, or lambda: MyModel(…)"
        )

    def build() -> nn.Module:
        made = guarded(model)
        if not isinstance(made, nn.Module):
            raise SubjectError(f"{name}: model built {type(made).__name__}, not an nn.Module")
        return made

    return build


def _objective(name: str, parts: Mapping[str, Any]) -> Callable[[nn.Module, Any], Tensor]:
    objective: Any = parts.get("objective")
    loss: Any = parts.get("loss")
    if inspect.isclass(loss):
        loss = guarded(loss)

    def whole(model: nn.Module, batch: Any) -> Tensor:
        if objective is not None:
            value = guarded(objective, model, batch)
        else:
            if not isinstance(batch, tuple) or len(batch) != 2:
                raise UsageError(
                    f"{name}: a batch is {_shape_of(batch)}, no pair (x, y); give "
                    "objective(model, batch) in place of loss"
                )
            value = guarded(loss, guarded(model, batch[0]), batch[1])
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise SubjectError(
                f"{name}: the loss of a batch is {_shape_of(value)}; it must be one number, the "
                "mean over the rows"
            )
        return value.reshape(())

    return whole


def _shape_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _rows(name: str, data: Any, collate: Callable[[list[Any]], Any]) -> Rows:
    if isinstance(data, DataLoader):
        raise UsageError(
            f"{name}: data is a DataLoader, whose batch size is fixed; give its data set, "
            "loader.dataset"
        )
    if isinstance(data, IterableDataset) or (
        isinstance(data, Dataset) and not hasattr(data, "__len__")
    ):
        raise UsageError(
            f"{name}: data is an iterable data set, which may not end; the study draws rows by "
            "number: give a map-style Dataset, or tensors of some thousand rows"
        )
    if isinstance(data, Tensor):
        data = (data,)
    if not isinstance(data, Dataset):
        _check_columns(name, data)
        data = tuple(data)
    rows = Rows(data, collate)
    if len(rows) < 2:
        raise UsageError(
            f"{name}: the data set has {len(rows)} row(s): every batch would be the same"
        )
    return rows


def _check_columns(name: str, data: Any) -> None:
    fits = isinstance(data, Sequence) and data and all(isinstance(c, Tensor) for c in data)
    if not fits:
        raise UsageError(f"{name}: data is {_shape_of(data)}, but must be {PARTS['data']}")
    lengths = [len(column) for column in data]
    if len(set(lengths)) > 1:
        raise UsageError(f"{name}: the columns of data have {lengths} rows; they must be as many")


def _optimizer(made: Any) -> Callable[..., torch.optim.Optimizer]:
    def build(parameters: Any, lr: float) -> torch.optim.Optimizer:
        found: torch.optim.Optimizer = guarded(made, list(parameters), lr=lr)
        return found

    return build
