"""The declared reference of a subject, built to hold the same parameters."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import torch

from dlcheck.errors import NotApplicable
from dlcheck.registry import catalogue
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build, guarded
from dlcheck.targets import load_target


def reference_of(subject: Implementation, case: Case, dtype: torch.dtype) -> Implementation:
    """The reference built in `dtype`, with the subject's parameters, buffers and mode."""
    made = own_reference_of(subject, case, dtype)
    if made.module is not None and subject.module is not None:
        own, state = subject.module.state_dict(), {}
        for theirs, ours in paired_names(subject, made).items():
            state[theirs] = own[ours]
        made.module.load_state_dict(state, strict=False)
        if made.module.training != subject.module.training:  # parts may be frozen in evaluation
            made.module.train(subject.module.training)
    return made


def own_reference_of(subject: Implementation, case: Case, dtype: torch.dtype) -> Implementation:
    """The reference built in `dtype`, with the parameters that it brings."""
    declared, target = subject.declared, subject.declared.reference
    live = load_target(target, near=declared.file)
    registered = catalogue().reference_at(target)
    args: dict[str, Any] = dict(registered.args) if registered else {}
    args |= declared.reference_args or {
        name: value for name, value in declared.args.items() if _takes(live, name)
    }
    if _names(live) == ["subject"]:  # a factory of the reference of one subject
        live, args = guarded(live, subject.target), {}
    twin = dataclasses.replace(declared, target=live, args=args)
    return build(twin, case.sizes, case.device, dtype, case.recipe.seed)


def in_dtype(subject: Implementation, case: Case, dtype: torch.dtype) -> Implementation:
    """The subject itself, built again in another type, with the same parameters and buffers."""
    return _again(subject, case, case.device, dtype)


def on_device(subject: Implementation, case: Case, device: torch.device) -> Implementation:
    """The subject itself, built again elsewhere, with the same parameters and buffers."""
    return _again(subject, case, device, case.dtype)


def _again(
    subject: Implementation, case: Case, device: torch.device, dtype: torch.dtype
) -> Implementation:
    made = build(subject.declared, case.sizes, device, dtype, case.recipe.seed)
    if made.module is not None and subject.module is not None:
        guarded(made.module.load_state_dict, subject.module.state_dict())
        for part, original in zip(made.module.modules(), subject.module.modules(), strict=True):
            part.training = original.training
    return made


def paired_names(subject: Implementation, other: Implementation) -> dict[str, str]:
    """Names of the reference's parameters and buffers → those of the subject.

    By the option reference_state, else by equal names and shapes, else by their order.
    """
    if subject.module is None or other.module is None:
        return {}
    own, theirs = subject.module.state_dict(), other.module.state_dict()
    stated = subject.options.get("reference_state", {})
    pairs = {}
    for name, value in theirs.items():
        wanted = stated.get(name, name)
        same = [n for n in own if n == wanted or n.endswith("." + wanted)]
        same = [n for n in same if own[n].shape == value.shape]
        if len(same) == 1:
            pairs[name] = same[0]
    if len(pairs) == len(theirs):
        return pairs
    if [v.shape for v in own.values()] == [v.shape for v in theirs.values()]:
        return dict(zip(theirs, own, strict=True))
    missing = ", ".join(name for name in theirs if name not in pairs)
    raise NotApplicable(
        f"the reference's {missing} has no counterpart of its name and shape in the subject; "
        "declare options.reference_state = { theirs = ours }"
    )


def _names(function: Any) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


def _takes(function: Any, argument: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    return argument in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )
