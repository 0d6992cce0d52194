"""The elementwise activations of torch.nn, as their documentation declares them."""

from __future__ import annotations

import math
from typing import Any

from dlcheck.model import Subject

_ZERO, _IDENTITY = [0.0, 0.0], [1.0, 0.0]
_RECTIFIER = {"left": _ZERO, "right": _IDENTITY}
_SELU = 1.0507009873554805, 1.7580993408473766  # λ and λα
_PHI = 0.8413447460685429  # Φ(1)


def _subject(
    name: str,
    values: list[list[float]],
    *traits: str,
    args: dict[str, Any] | None = None,
    inputs: str = "float b n",
    **options: Any,
) -> Subject:
    return Subject(
        name=name,
        target=f"torch.nn:{name}",
        kind="activation",
        args=args or {},
        inputs={"x": inputs},
        traits=frozenset(traits),
        options={"values": values, **options},
    )


SMOOTH = [
    _subject("GELU", [[0, 0], [1, _PHI], [-1, _PHI - 1]], asymptotes=_RECTIFIER),
    _subject("SiLU", [[0, 0], [1, 1 / (1 + math.exp(-1))]], asymptotes=_RECTIFIER),
    _subject(
        "Sigmoid",
        [[0, 0.5], [math.log(3), 0.75]],
        monotone=True,
        bounds=[0, 1],
        asymptotes={"left": _ZERO, "right": [0.0, 1.0]},
    ),
    _subject(
        "Tanh",
        [[0, 0], [math.atanh(0.5), 0.5]],
        "odd",
        monotone=True,
        bounds=[-1, 1],
        asymptotes={"left": [0.0, -1.0], "right": [0.0, 1.0]},
    ),
    _subject("Softplus", [[0, math.log(2)]], monotone=True, asymptotes=_RECTIFIER),
    _subject(
        "LogSigmoid",
        [[0, -math.log(2)]],
        monotone=True,
        asymptotes={"left": _IDENTITY, "right": _ZERO},
    ),
    _subject("Softsign", [[0, 0], [1, 0.5], [-3, -0.75]], "odd", monotone=True, bounds=[-1, 1]),
    _subject(
        "Tanhshrink",
        [[0, 0]],
        "odd",
        monotone=True,
        asymptotes={"left": [1.0, 1.0], "right": [1.0, -1.0]},
    ),
]
KINKED = [
    _subject("ReLU", [[0, 0], [2, 2], [-2, 0]], monotone=True, asymptotes=_RECTIFIER),
    _subject("ReLU6", [[2, 2], [9, 6], [-2, 0]], monotone=True, bounds=[0, 6]),
    _subject(
        "LeakyReLU",
        [[0, 0], [-2, -0.02]],
        monotone=True,
        asymptotes={"left": [0.01, 0.0], "right": _IDENTITY},
    ),
    _subject("ELU", [[0, 0], [-1, math.expm1(-1)]], monotone=True),
    _subject(
        "SELU",
        [[0, 0], [1, _SELU[0]], [-1, _SELU[1] * math.expm1(-1)]],
        monotone=True,
        asymptotes={"left": [0.0, -_SELU[1]], "right": [_SELU[0], 0.0]},
    ),
    _subject(
        "PReLU", [[0, 0], [2, 2], [-2, -0.5]], inputs="float b 3 t", args={"num_parameters": 3}
    ),
    _subject("Hardswish", [[0, 0], [-3, 0], [4, 4], [1, 2 / 3]], asymptotes=_RECTIFIER),
]
STOCHASTIC = [
    _subject("RReLU", [[0, 0], [2, 2], [-2, -2 * (1 / 8 + 1 / 3) / 2]], "stochastic"),
]
EVEN = [
    Subject(
        name="square",
        target="torch:square",
        kind="activation",
        traits=frozenset({"even"}),
        options={"values": [[0, 0], [3, 9]]},
    )
]
TORCH = [*SMOOTH, *KINKED]
