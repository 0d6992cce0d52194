"""Modules of torch as the calls that construct them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dlcheck.scripts.tape import is_plain

_MISSING = inspect.Parameter.empty
_SKIPPED = ("self", "device", "dtype", "size_average", "reduce")


def module_text(module: nn.Module) -> str:
    """A call that builds a module of this structure, without its numbers; empty where none is
    known."""
    text = _text(module)
    if not text or not _is_built_so(module):
        return ""
    own = _dtype(module)
    return text + (f".to({own})" if own is not None else "")


def seeded(module: nn.Module, seed: int) -> Callable[[], nn.Module] | None:
    """What builds it with its numbers, after this seed and with nothing drawn since; else None."""
    state = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        made = built(module)
        is_same = torch.equal(torch.get_rng_state(), state) and made.training == module.training
    finally:
        torch.set_rng_state(state)
    own, other = module.state_dict(), made.state_dict()
    is_same = is_same and all(torch.equal(own[name], other[name]) for name in own)
    return (lambda: built(module)) if is_same else None


def built(module: nn.Module) -> nn.Module:
    """The module built as its text says."""
    made: nn.Module = _made(module)
    own = _dtype(module)
    return made if own is None else made.to(own)


def _dtype(module: nn.Module) -> torch.dtype | None:
    """The one dtype of its numbers, where it is not the default."""
    dtypes = {p.dtype for p in (*module.parameters(), *module.buffers()) if p.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 and dtypes != {torch.float32} else None


def without_hooks(module: nn.Module) -> nn.Module:
    """A copy to which nobody listens."""
    made = copy.deepcopy(module)
    for part in made.modules():
        for name, held in vars(part).items():
            if name.endswith("_hooks") and isinstance(held, dict):
                held.clear()
    return made


def _text(module: nn.Module) -> str:
    kind = type(module)
    if not kind.__module__.startswith("torch.nn.modules"):
        return ""
    if kind in (nn.Sequential, nn.ModuleList):
        if any(name != str(i) for i, (name, _) in enumerate(module.named_children())):
            return ""
        parts = [_text(child) for child in module.children()]
        inner = ", ".join(parts)
        inner = f"[{inner}]" if kind is nn.ModuleList else inner
        return f"torch.nn.{kind.__name__}({inner})" if all(parts) else ""
    given = _given(module)
    if given is None:
        return ""
    words = [repr(value) for value in given[0]]
    words += [f"{name}={value!r}" for name, value in given[1].items()]
    return f"torch.nn.{kind.__name__}({', '.join(words)})"


def _given(module: nn.Module) -> tuple[list[Any], dict[str, Any]] | None:
    """The arguments without a default, and those that differ from it, by their attributes."""
    positional, named = [], {}
    for name, parameter in inspect.signature(type(module).__init__).parameters.items():
        if name in _SKIPPED or parameter.kind in (
            parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD,
        ):  # fmt: skip
            continue
        value = getattr(module, name, _MISSING)
        if name == "bias" and not isinstance(value, bool):
            value = value is not None
        if value is _MISSING or not (is_plain(value) or type(value) is tuple):
            if parameter.default is _MISSING:
                return None
        elif parameter.default is _MISSING:
            positional.append(value)
        elif value != parameter.default:
            named[name] = value
    return positional, named


def _is_built_so(module: nn.Module) -> bool:
    """Is what the arguments build of the same structure?"""
    state = torch.get_rng_state()
    made = _made(module)
    torch.set_rng_state(state)  # the numbers that the check draws stay its own
    return (
        made is not None
        and repr(made) == repr(module)
        and [(n, p.shape) for n, p in made.state_dict().items()]
        == [(n, p.shape) for n, p in module.state_dict().items()]
    )


def _made(module: nn.Module) -> Any:
    """The module built by the same call as its text says."""
    kind: Any = type(module)
    if kind is nn.Sequential:
        return nn.Sequential(*(_made(child) for child in module.children()))
    if kind is nn.ModuleList:
        return nn.ModuleList(_made(child) for child in module.children())
    given = _given(module)
    try:
        return kind(*given[0], **given[1]) if given is not None else None
    except Exception:  # another structure than its attributes say
        return None
