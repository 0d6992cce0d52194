"""Objects that a check hands to the subject, as expressions that make them again."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset

from dlcheck.scripts.tape import is_plain


@dataclass(frozen=True, slots=True)
class Made:
    """How an object is made again: build(*args), written as text.format(*args).

    reason: why it cannot be.
    """

    build: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    text: str = ""
    reason: str = ""


def described(thing: object) -> Made:
    """How a thing is made again; with its reason where it cannot be."""
    match thing:
        case torch.Generator():
            return _generator(thing)
        case nn.Module():
            return _module(thing)
        case torch.optim.Optimizer():
            return _optimizer(thing)
        case TensorDataset():
            marks = ", ".join("{}" for _ in thing.tensors)
            return Made(TensorDataset, thing.tensors, f"torch.utils.data.TensorDataset({marks})")
        case DataLoader():
            return _loader(thing)
        case range():
            return Made(lambda: thing, (), repr(thing))
        case set() | frozenset() if all(map(is_plain, thing)):
            return Made(lambda: type(thing)(thing), (), repr(thing))
    if callable(thing) and (name := _name_in_torch(thing)):
        return Made(lambda: thing, (), name)
    return unwritable(thing)


def unwritable(thing: object) -> Made:
    kind = thing if isinstance(thing, type) else type(thing)
    return Made(reason=f"it is given a {kind.__module__}.{kind.__qualname__}")


def _generator(thing: torch.Generator) -> Made:
    seed = thing.initial_seed()
    fresh = torch.Generator(thing.device).manual_seed(seed)
    if not torch.equal(fresh.get_state(), thing.get_state()):
        return Made(reason="it is given a generator that was used before")
    build = functools.partial(_seeded, thing.device, seed)
    place = "" if thing.device.type == "cpu" else f'"{thing.device}"'
    return Made(build, (), f"torch.Generator({place}).manual_seed({seed})")


def _seeded(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def _module(thing: nn.Module) -> Made:
    text, dtypes = _module_text(thing), {p.dtype for p in thing.parameters()}
    if not text:
        return unwritable(thing)
    dtypes -= {torch.float32}
    text += f".to({next(iter(dtypes))})" if len(dtypes) == 1 else ""
    first = copy.deepcopy(thing)
    return Made(lambda: copy.deepcopy(first), (), text.replace("{", "{{").replace("}", "}}"))


def _module_text(module: nn.Module) -> str:
    kind = type(module)
    if not kind.__module__.startswith("torch.nn.modules") or module._forward_hooks:
        return ""
    if kind is nn.Sequential:
        parts = [_module_text(child) for child in module.children()]
        return f"torch.nn.Sequential({', '.join(parts)})" if all(parts) else ""
    if next(module.children(), None) is not None:
        return ""
    given = []
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name in ("self", "device", "dtype", "size_average", "reduce") or parameter.kind in (
            parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD,
        ):  # fmt: skip
            continue
        value = getattr(module, name, inspect.Parameter.empty)
        if name == "bias":
            value = getattr(module, "bias", None) is not None
        if value is inspect.Parameter.empty or (not is_plain(value) and type(value) is not tuple):
            if parameter.default is inspect.Parameter.empty:
                return ""
            continue
        if parameter.default is inspect.Parameter.empty:
            given.append(repr(value))
        elif value != parameter.default:
            given.append(f"{name}={value!r}")
    return f"torch.nn.{kind.__name__}({', '.join(given)})"


def _optimizer(thing: torch.optim.Optimizer) -> Made:
    kind = type(thing)
    if not kind.__module__.startswith("torch.optim") or thing.state or len(thing.param_groups) > 1:
        return unwritable(thing)
    (group,) = thing.param_groups
    known = inspect.signature(kind.__init__).parameters
    if any(group.get(name, value) != value for name, value in thing.defaults.items()):
        return unwritable(thing)
    given = {
        name: value
        for name, value in thing.defaults.items()
        if name in known and (name == "lr" or value != known[name].default)
    }
    words = "".join(f", {name}={value!r}" for name, value in given.items())
    return Made(
        lambda parameters: kind(parameters, **given),
        (list(group["params"]),),
        f"torch.optim.{kind.__name__}({{}}{words})",
    )


def _loader(thing: DataLoader[Any]) -> Made:
    sampler = thing.sampler
    settings: dict[str, Any] = {}
    if thing.batch_size is None or thing.num_workers:
        return unwritable(thing)
    if not isinstance(sampler, SequentialSampler):
        if not isinstance(sampler, (list, tuple, range)):
            return unwritable(thing)
        settings["sampler"] = list(sampler)
    settings["batch_size"] = thing.batch_size
    if thing.drop_last:
        settings["drop_last"] = True
    words = "".join(f", {name}={value!r}" for name, value in settings.items())
    made: Any = functools.partial(DataLoader, **settings)
    if thing.generator is None:
        return Made(made, (thing.dataset,), f"torch.utils.data.DataLoader({{}}{words})")
    return Made(
        lambda data, generator: DataLoader(data, generator=generator, **settings),
        (thing.dataset, thing.generator),
        f"torch.utils.data.DataLoader({{}}{words}, generator={{}})",
    )


def _name_in_torch(thing: Any) -> str:
    """The public name of a function of torch."""
    name = getattr(thing, "__name__", "")
    for place, owner in (("torch", torch), ("torch.nn.functional", nn.functional)):
        if name and getattr(owner, name, None) is thing:
            return f"{place}.{name}"
    return ""
