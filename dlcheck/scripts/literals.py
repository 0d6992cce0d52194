"""Values as Python text that makes them again, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlcheck.scripts.tape import Unwritable

MOST_NUMBERS = 1500  # of one literal


def literal(value: Any) -> str:
    """A plain value, or nested lists and tables of them."""
    match value:
        case bool() | None | str() | bytes() | int():
            return repr(value)
        case float():
            return _number(value)
        case np.generic():
            return literal(value.item())
        case torch.Size():
            return repr(tuple(value))
        case torch.dtype() | torch.layout() | torch.memory_format():
            return str(value)
        case torch.device():
            return f'"{value}"'
        case slice():
            return _slice(value)
        case complex():
            return repr(value)
        case type():
            return _type(value)
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case tuple():
            return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
        case Mapping():
            return "{" + ", ".join(f"{k!r}: {literal(v)}" for k, v in value.items()) + "}"
    if value is ...:
        return "..."
    if isinstance(value, set) and value:
        return repr(value)
    raise Unwritable(f"it is given a {type(value).__module__}.{type(value).__qualname__}")


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return f'float("{value}")'


def _slice(value: slice) -> str:
    return f"slice({value.start!r}, {value.stop!r}, {value.step!r})"


def subscript(value: Any) -> str:
    """An index as it stands in brackets; Refs are texts already."""
    if isinstance(value, slice):
        start, stop, step = (
            "" if part is None else repr(part) for part in (value.start, value.stop, value.step)
        )
        return f"{start}:{stop}" + (f":{step}" if step else "")
    if isinstance(value, tuple) and value:
        return ", ".join(map(subscript, value)) + ("," if len(value) == 1 else "")
    return literal(value)


def _type(value: type) -> str:
    if value.__module__ == "builtins":
        return value.__name__
    if value.__module__.startswith("torch") and getattr(torch, value.__name__, None) is value:
        return f"torch.{value.__name__}"
    raise Unwritable(f"it is given the class {value.__module__}.{value.__qualname__}")


def tensor_text(tensor: Tensor, *, requires_grad: bool = False, parameter: bool = False) -> str:
    """An expression that makes a tensor of these numbers, type, place and layout in memory."""
    if tensor.layout != torch.strided:
        raise Unwritable("it is given a sparse tensor")
    if tensor.numel() > MOST_NUMBERS:
        raise Unwritable(f"it needs a tensor of {tensor.numel()} numbers")
    text = _plain_tensor(tensor)
    if requires_grad and parameter:
        return f"torch.nn.Parameter({text})"
    if parameter:
        return f"torch.nn.Parameter({text}, requires_grad=False)"
    if not requires_grad:
        return text
    simple = text.startswith("torch.tensor(") and text.count("(") == text.count("tensor(")
    if simple and text.endswith(")"):
        return f"{text[:-1]}, requires_grad=True)"
    return f"{text}.requires_grad_()"


def _plain_tensor(tensor: Tensor) -> str:
    default = {torch.int64, torch.bool, torch.float32}
    words = "" if tensor.dtype in default else f", dtype={tensor.dtype}"
    words += f', device="{tensor.device}"' if tensor.device.type != "cpu" else ""
    shape = tuple(tensor.shape)
    flat = tensor.detach().reshape(-1)
    if tensor.numel() == 0:
        return f'torch.empty({shape}, dtype={tensor.dtype}, device="{tensor.device}")'
    if tensor.numel() > 2 and bool((flat == flat[0]).all()):
        kind = f", dtype={tensor.dtype}" if tensor.dtype not in (torch.float32,) else ""
        place = f', device="{tensor.device}"' if tensor.device.type != "cpu" else ""
        value = flat[0].item()
        made = f"torch.full({shape}, {literal(value)}{kind}{place})"
        if value in (0, 1) and not (value == 0 and math.copysign(1, float(value)) < 0):
            made = f"torch.{'ones' if value else 'zeros'}({shape}{kind}{place})"
        return _laid_out(made, tensor)
    return _laid_out(f"torch.tensor({_numbers(tensor)}{words})", tensor)


def _laid_out(text: str, tensor: Tensor) -> str:
    if tensor.is_contiguous() or tensor.numel() < 2:
        return text
    shape, strides = tuple(tensor.shape), tensor.stride()
    if 0 in strides:
        return text
    return f"torch.empty_strided({shape}, {strides}, dtype={tensor.dtype}).copy_({text})"


def _numbers(tensor: Tensor) -> str:
    if tensor.dtype in (torch.float32, torch.float16, torch.bfloat16):
        # The shortest text that float32 reads back as the same number.
        rows = tensor.detach().float().cpu().numpy()
        return _nested(rows.tolist(), lambda v: _short(np.float32(v)))
    return _nested(tensor.detach().cpu().tolist(), literal)


def _short(value: np.float32) -> str:
    if not np.isfinite(value):
        return _number(float(value))
    return str(value)


def _nested(value: Any, text: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_nested(part, text) for part in value)}]"
    return str(text(value))
