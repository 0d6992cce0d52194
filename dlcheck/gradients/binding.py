"""A function, module or operator with its inputs as what the engine differentiates."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.errors import UsageError, unknown
from dlcheck.gradients.function import Function
from dlcheck.gradients.trees import argument_names, named_tensors, with_tensors
from dlcheck.gradients.variables import Variable
from dlcheck.isolation import kept_buffers
from dlcheck.model import NOTHING


def bound(
    f: Callable[..., Any],
    inputs: Any,
    *,
    kwargs: Mapping[str, Any] = NOTHING,
    wrt: Collection[str] | None = None,
    seed: int = 0,
) -> Function:
    """f with its inputs as a Function of the tensors to be differentiated."""
    call, args, keywords = _called(f, inputs, kwargs)
    names = argument_names(f.forward if isinstance(f, nn.Module) else f, args)
    named = [pair for name, value in zip(names, args, strict=True)
             for pair in named_tensors(value, name)]  # fmt: skip
    named += [pair for name, value in keywords.items() for pair in named_tensors(value, name)]
    module = _private(call) if isinstance(call, nn.Module) else None
    chosen = [_is_chosen(name, tensor, wrt) for name, tensor in named]
    variables = [
        Variable(name, tensor.detach())
        for (name, tensor), wanted in zip(named, chosen, strict=True) if wanted
    ]  # fmt: skip
    parameters = [] if module is None else _parameters(call, module, wrt)
    known = [name for name, _ in named]
    known += [name for name, _ in module.named_parameters()] if module is not None else []
    _refuse_unknown(wrt, known)

    def answer(leaves: Sequence[Tensor]) -> Any:
        given = iter(leaves)
        places = iter(chosen)

        def put(tensor: Tensor) -> Tensor:
            return next(given) if next(places) else tensor

        placed = [with_tensors(value, put) for value in args]
        further = {name: with_tensors(value, put) for name, value in keywords.items()}
        return (module or call)(*placed, **further)

    return Function(
        answer,
        tuple([*variables, *parameters]),
        buffers=tuple((b, b.clone()) for b in kept_buffers(module)),
        constants=tuple(pair for pair, wanted in zip(named, chosen, strict=True) if not wanted),
        seed=seed,
        borrows=module is not None and module is call,
    )


def _called(
    f: Any, inputs: Any, kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    if inspect.isclass(f) and issubclass(f, torch.autograd.Function):
        f = f.apply
    if not callable(f):
        raise UsageError(f"f is {type(f).__qualname__}, which cannot be called")
    if isinstance(inputs, Mapping):
        return f, [], {**inputs, **kwargs}
    args = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    return f, args, dict(kwargs)


def _private(module: nn.Module) -> nn.Module:
    """A copy, so that the module that was passed in is never changed.

    One that cannot be copied, as with torch.nn.utils.weight_norm, is restored afterwards.
    """
    try:
        return copy.deepcopy(module)
    except Exception:
        return module


def _parameters(original: Any, module: nn.Module, wrt: Collection[str] | None) -> list[Variable]:
    own = dict(original.named_parameters())
    return [
        Variable(name, _value(own[name], parameter), parameter=parameter)
        for name, parameter in module.named_parameters()
        if (parameter.requires_grad if wrt is None else name in wrt)
    ]


def _value(original: Tensor, moved: Tensor) -> Tensor:
    """The value of a parameter; a copy where the parameter itself is what will be moved."""
    return original.detach().clone() if original is moved else original.detach()


def _is_chosen(name: str, tensor: Tensor, wrt: Collection[str] | None) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    return tensor.requires_grad if wrt is None else name in wrt


def _refuse_unknown(wrt: Collection[str] | None, known: Collection[str]) -> None:
    for name in [wrt] if isinstance(wrt, str) else wrt or ():
        if name not in known:
            raise UsageError(unknown("input", name, known))
