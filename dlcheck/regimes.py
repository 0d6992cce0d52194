"""Where inputs are hard: the distributions from which a domain is drawn.

Standard normal inputs of even shape reveal half of the wrong variants of an operation; a few
regimes of values and shapes reveal nearly all. Each regime is one way in which real inputs
differ: outliers, a mean far from 0, values near an eps, ties, zeros, ascending rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dlcheck.domains import Input

# Where each kind of element is hard. "normal" comes first: shrinking ends there; then the regimes
# in the order in which they reveal bugs.
_REAL = ("normal", "outliers", "far", "small", "ascending", "zeros", "large", "negative", "ties",
         "offset", "duplicated", "huge", "tiny", "mixed")  # fmt: skip
_LOGIT = ("normal", "large", "onehot", "offset", "ties", "ascending", "outliers", "small", "mixed")
_BOUNDED = ("normal", "extreme", "duplicated")
REGIMES: Mapping[str, tuple[str, ...]] = {
    "float": _REAL,
    "logit": _LOGIT,
    "positive": ("normal", "large", "tiny", "ties"),
    "unit": _BOUNDED,
    "signed": _BOUNDED,
    "probability": ("normal", "onehot", "uniform"),
    "image": ("normal", "noise", "constant"),
    "log_probability": ("normal", "uniform"),
    "label": ("normal", "constant"),
    "index": ("normal", "constant"),
    "sign": ("normal", "constant"),
    "bool": ("normal", "constant"),
    "mask": ("normal", "constant"),
}


def regimes_of(spec: Input, allowed: Sequence[str] = ()) -> list[str]:
    """The distributions in which an input is drawn; allowed restricts them."""
    known = REGIMES.get(spec.element, ("normal",))
    if spec.low is not None and spec.is_floating:
        known = _BOUNDED
    if spec.ignored is not None:
        known = (*known, "ignored")
    return [regime for regime in known if not allowed or regime in allowed] or ["normal"]


def make_values(
    spec: Input, sizes: Mapping[str, int], regime: str, generator: torch.Generator
) -> Tensor:
    """One tensor of a domain under a regime, on the CPU, in float64, int64, uint8 or bool."""
    shape = spec.shape(sizes)
    if not spec.is_floating:
        return _integers(spec, sizes, shape, regime, generator)
    if spec.along is not None:  # the axis that hangs together is the last one of the makers
        order = [*shape[: spec.axis], *shape[len(shape) + spec.axis + 1 :], shape[spec.axis]]
        made = _MAKERS[spec.element](tuple(order), regime, generator)
        return made.movedim(-1, spec.axis).contiguous()
    values = _MAKERS[spec.element](shape, regime, generator)
    if spec.low is None or spec.high is None:
        return values
    if spec.element == "float":  # the bounded regimes live in (0, 1)
        values = _unit(shape, regime, generator)
    return spec.low + (spec.high - spec.low) * values


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _mixed(
    make: Callable[[tuple[int, ...], str, torch.Generator], Tensor],
    regimes: Sequence[str],
    shape: tuple[int, ...],
    generator: torch.Generator,
) -> Tensor:
    """Every second row in the first regime, the others in turn: one case shows them all."""
    z = make(shape, regimes[0], generator)
    if z.dim() < 2 or not z.numel():
        return z
    rows, others = z.flatten(0, -2), regimes[1:]
    for place, regime in enumerate(others):
        chosen = rows[2 * place + 1 :: 2 * len(others)]
        chosen.copy_(make(tuple(chosen.shape), regime, generator))
    return z


def _float(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    if regime == "mixed":
        return _mixed(_float, _REAL[:-1], shape, generator)
    z = _normal(shape, generator)
    match regime:
        case "large":
            return 30 * z
        case "huge":
            return 200 * z
        case "small":  # a variance near the eps of a normalization, 1e-5
            return 3e-3 * z
        case "far":  # a mean that is large against the deviation: what one-pass sums cancel
            return 8 * z + 3e4  # neighbours are 16 apart in float16, 128 in bfloat16: few differ
        case "tiny":
            return 2.0**-13 * z
        case "negative":
            return -z.abs() - 0.1
        case "offset":
            return z + 100
        case "ties":
            return (2 * z).round() / 2
        case "zeros":
            return torch.where(_uniform(shape, generator) < 0.3, 0.0, z)
        case "outliers":
            return torch.where(_uniform(shape, generator) < 0.1, 200 * z, z)
        case "ascending" if shape:  # steep enough that the last few outweigh all the others
            return 6 * z.sort(dim=-1).values
        case "duplicated" if shape:
            return z[:1].expand(shape).clone()
    return z


def _logit(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    if regime == "mixed":
        return _mixed(_logit, _LOGIT[:-1], shape, generator)
    if regime != "onehot" or not shape:
        return _float(shape, regime, generator)
    z = _normal(shape, generator)
    return torch.where(z == z.amax(-1, keepdim=True), 40.0, -40.0)


def _positive(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    z = _normal(shape, generator).exp()
    return {"large": 30 * z, "tiny": 2.0**-13 * z, "ties": (2 * z).ceil() / 2}.get(regime, z)


def _unit(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    u = 0.02 + 0.96 * _uniform(shape, generator)
    if regime == "extreme":  # close to both ends, in float16 too
        return torch.where(u < 0.5, 2.0**-10, 1 - 2.0**-10)
    if regime == "duplicated" and shape:
        return u[:1].expand(shape).clone()
    return u


def _signed(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    return 2 * _unit(shape, regime, generator) - 1


def _probability(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    if not shape:
        return torch.ones(shape, dtype=torch.float64)
    z = _normal(shape, generator)
    if regime == "onehot":
        return (z == z.amax(-1, keepdim=True)).double()
    return torch.softmax(0 * z if regime == "uniform" else z, -1)


def _log_probability(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    return _probability(shape, regime, generator).log()


def _direction(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    z = _normal(shape, generator)
    return z / torch.linalg.vector_norm(z, dim=-1, keepdim=True) if shape else z.sign()


def _image(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    """Smooth: random waves of few cycles a side, mapped into (0.02, 0.98)."""
    if regime == "constant" or len(shape) < 2:
        level = (
            _uniform((*shape[:-2], 1, 1), generator) if len(shape) > 1 else _uniform((), generator)
        )
        return 0.02 + 0.96 * level.expand(shape).clone()
    if regime == "noise":
        return 0.02 + 0.96 * _uniform(shape, generator)
    height, width = shape[-2:]
    rows = torch.linspace(0, 1, height, dtype=torch.float64)[:, None]
    columns = torch.linspace(0, 1, width, dtype=torch.float64)
    total = torch.zeros(shape, dtype=torch.float64)
    for _ in range(4):
        a, b, phase = (_normal((*shape[:-2], 1, 1), generator) for _ in range(3))
        total += torch.cos(2 * torch.pi * (a * rows + b * columns) + 3 * phase)
    return 0.5 + 0.48 * torch.tanh(total / 2)


def _spd(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    a = _normal(shape, generator)
    n = shape[-1]
    return a @ a.mT / n + 0.1 * torch.eye(n, dtype=torch.float64)


def _orthogonal(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    q: Tensor = torch.linalg.qr(_normal(shape, generator)).Q
    return q


def _onehot(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    return _probability(shape, "onehot", generator)


_MAKERS: Mapping[str, Callable[[tuple[int, ...], str, torch.Generator], Tensor]] = {
    "float": _float,
    "logit": _logit,
    "positive": _positive,
    "unit": _unit,
    "signed": _signed,
    "probability": _probability,
    "log_probability": _log_probability,
    "direction": _direction,
    "image": _image,
    "spd": _spd,
    "orthogonal": _orthogonal,
    "onehot": _onehot,
}


def _integers(
    spec: Input,
    sizes: Mapping[str, int],
    shape: tuple[int, ...],
    regime: str,
    generator: torch.Generator,
) -> Tensor:
    low, high = 0, 256
    if spec.element in ("bool", "mask", "sign"):
        high = 2
    elif spec.count is not None:
        high = spec.count.size(sizes)
    elif spec.low is not None and spec.high is not None:
        low, high = int(spec.low), int(spec.high)
    values = torch.randint(low, max(high, low + 1), shape, generator=generator)
    if regime == "constant" and shape:
        values = values.flatten()[:1].expand(values.numel()).reshape(shape).clone()
    if regime == "ignored" and spec.ignored is not None and values.numel() > 1:
        dropped = torch.rand(shape, generator=generator) < 0.4
        dropped.view(-1)[0] = False  # a mean over no target at all is for a check of its own
        values = values.masked_fill(dropped, spec.ignored)
    if spec.element == "sign":
        values = 2 * values - 1
    if spec.element == "uint8":
        return values.to(torch.uint8)
    return values.bool() if spec.element in ("bool", "mask") else values
