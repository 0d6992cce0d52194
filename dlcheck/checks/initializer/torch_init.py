"""The functions of torch.nn.init, as their documentation declares them, and some that are wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.model import Subject


def _subject(
    name: str, variance: Any = None, *, inputs: str = "float out in", label: str = "", **more: Any
) -> Subject:
    options: dict[str, Any] = {} if variance is None else {"variance": variance}
    options |= {key: more.pop(key) for key in ("mean", "independent") if key in more}
    return Subject(
        name=label or name,
        target=f"torch.nn.init:{name}",
        kind="initializer",
        args=more.pop("args", {}),
        inputs={"tensor": inputs},
        traits=frozenset(more.pop("traits", ())),
        options=options,
    )


# The variance of a standard normal number within ±2 is 1 − 2·2φ(2)/(2Φ(2) − 1).
_TRUNCATED = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
CONVOLUTION = "float out in 3 2"
RANDOM = [
    _subject("uniform_", "(b - a)**2 / 12", mean="(a + b) / 2", args={"a": -1.0, "b": 3.0}),
    _subject("normal_", "std**2", mean="mean", args={"mean": 0.5, "std": 2.0}),
    _subject("trunc_normal_", f"{_TRUNCATED!r} * std**2"),
    _subject("xavier_uniform_", "2 * gain**2 / (fan_in + fan_out)", inputs=CONVOLUTION),
    _subject("xavier_normal_", "2 * gain**2 / (fan_in + fan_out)", args={"gain": 3.0}),
    _subject("kaiming_uniform_", "2 / ((1 + a**2) * fan_in)", args={"a": 2.0}),
    _subject(
        "kaiming_normal_",
        "2 / fan_out",
        inputs=CONVOLUTION,
        args={"mode": "fan_out", "nonlinearity": "relu"},
    ),
]
DEPENDENT = [
    _subject(
        "orthogonal_",
        "gain**2 / max(out, fan_in)",
        independent=False,
        traits=("orthogonal",),
        args={"gain": 2.0},
    ),
    _subject(
        "orthogonal_",
        "1 / max(out, fan_in)",
        label="orthogonal_convolution",
        inputs=CONVOLUTION,
        independent=False,
        traits=("orthogonal",),
    ),
]
CONSTANT = [
    _subject("constant_", 0.0, mean="val", args={"val": 3.0}),
    _subject("zeros_", 0.0, inputs="float n"),
    _subject("eye_"),
    _subject("dirac_", inputs="float out in 3 2"),
    _subject("sparse_", independent=False, args={"sparsity": 0.3}),
]


def _filled(tensor: Tensor, deviation: float) -> Tensor:
    with torch.no_grad():
        return tensor.normal_(0, deviation)


def lecun_by_fan_out(tensor: Tensor) -> Tensor:
    """Variance 1/fan_out where 1/fan_in was declared."""
    return _filled(tensor, tensor.shape[0] ** -0.5)


def lecun_with_the_variance_for_the_deviation(tensor: Tensor) -> Tensor:
    return _filled(tensor, 1 / tensor.shape[1])


def lecun_without_the_receptive_field(tensor: Tensor) -> Tensor:
    return _filled(tensor, tensor.shape[1] ** -0.5)


def kaiming_without_the_root_of_three(tensor: Tensor) -> Tensor:
    """U(−σ, σ) has the variance σ²/3."""
    bound = math.sqrt(2 / tensor.shape[1])
    return nn.init.uniform_(tensor, -bound, bound)


def truncated_without_rescaling(tensor: Tensor) -> Tensor:
    """Cut at two deviations, which leaves 0.77 of the variance."""
    deviation = tensor.shape[1] ** -0.5
    return nn.init.trunc_normal_(tensor, std=deviation, a=-2 * deviation, b=2 * deviation)


def xavier_of_the_larger_fan(tensor: Tensor) -> Tensor:
    return _filled(tensor, max(tensor.shape) ** -0.5)


def _wrong(function: Callable[..., Tensor], variance: str, inputs: str = "float out in") -> Subject:
    return Subject(
        name=function.__name__,
        target=f"{__name__}:{function.__name__}",
        kind="initializer",
        inputs={"tensor": inputs},
        options={"variance": variance},
    )


WRONG_VARIANCES = [
    _wrong(lecun_by_fan_out, "1 / fan_in"),
    _wrong(lecun_with_the_variance_for_the_deviation, "1 / fan_in"),
    _wrong(lecun_without_the_receptive_field, "1 / fan_in", CONVOLUTION),
    _wrong(kaiming_without_the_root_of_three, "2 / fan_in"),
    _wrong(truncated_without_rescaling, "1 / fan_in"),
    _wrong(xavier_of_the_larger_fan, "2 / (fan_in + fan_out)"),
]
