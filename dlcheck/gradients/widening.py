"""The same computation in float64: its inputs, its parameters and what it makes up inside.

Copies of the inputs and parameters in float64 are enough for most functions. One that converts to
float32 inside, makes float32 constants, or draws random numbers needs `Widened` around it.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from dlcheck.gradients.trees import with_tensors

_COMPLEX = {torch.complex32: torch.complex128, torch.complex64: torch.complex128}
_DRAW = (  # operations that draw numbers; others with random numbers inside compute as well
    "rand", "randn", "rand_like", "randn_like", "uniform", "uniform_", "normal", "normal_",
    "bernoulli", "bernoulli_", "exponential", "exponential_", "geometric_", "cauchy_",
    "log_normal_", "multinomial", "poisson", "normal_functional",
)  # fmt: skip


def is_narrow(dtype: torch.dtype) -> bool:
    """Is it a real or complex floating type with less than float64?"""
    if dtype.is_complex:
        return dtype in _COMPLEX
    return dtype.is_floating_point and dtype != torch.float64


def widened(value: Any) -> Any:
    """The value with its floating tensors in float64; of a module or a partial call, a copy."""
    if isinstance(value, nn.Module):
        return copy.deepcopy(value)._apply(_wide)
    if isinstance(value, functools.partial):
        parts = widened(value.args), widened(value.keywords)
        return functools.partial(widened(value.func), *parts[0], **parts[1])
    return with_tensors(value, _wide)


def _wide(tensor: Tensor) -> Tensor:
    if not is_narrow(tensor.dtype):
        return tensor
    found = tensor.detach().to(_COMPLEX.get(tensor.dtype, torch.float64))
    return found.requires_grad_(tensor.requires_grad)


class Widened(TorchDispatchMode):
    """Within it, what is asked for in float32 or in `dtype` is computed in float64.

    Random numbers are drawn in `dtype` all the same: each type has a sequence of its own, and the
    computation must get the one that it gets outside.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the wrapper that skips it imports torch's compiler: seconds

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self._types = {torch.float32, dtype}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in _DRAW:
            return self._drawn(func, args, kwargs)
        if any(kind.alias_info is not None for kind in func._schema.returns):
            return func(*args, **kwargs)  # views, and what changes a tensor in place
        wide = tree_map(self._wide, args), tree_map(self._wide, dict(kwargs))
        return func(*wide[0], **wide[1])

    def _drawn(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        narrow = tree_map(self._narrow, args), tree_map(self._narrow, dict(kwargs))
        answer = func(*narrow[0], **narrow[1])
        target = args[0] if args and isinstance(args[0], Tensor) else None
        if target is not None and answer is narrow[0][0]:  # in place
            return target.copy_(answer)
        return tree_map(self._wide, answer)

    def _wide(self, value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return torch.float64 if value in self._types else value
        if isinstance(value, Tensor) and value.dtype in self._types:
            return value.to(torch.float64)
        return value

    def _narrow(self, value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return self._dtype if value == torch.float64 else value
        if isinstance(value, Tensor) and value.dtype == torch.float64:
            return value.to(self._dtype)
        return value
