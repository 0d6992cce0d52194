"""Domain → Hypothesis strategies of recipes, and recipe → tensors.

Hypothesis draws a few sizes, names and a seed; torch makes the numbers from them. So shrinking
works on the recipe, a counterexample is small and readable, and a tensor of a million elements
costs nothing to draw. Numbers are made in float64 on the CPU and then moved, so that one recipe
is the same case on every device and, up to rounding, in every dtype.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from dlcheck.domains import Input, bound_dims, size_bounds
from dlcheck.model import PROFILES, Profile, Recipe, Subject
from dlcheck.numerics.layouts import LAYOUTS
from dlcheck.numerics.layouts import clone_as_laid_out as clone_as_laid_out
from dlcheck.numerics.layouts import lay_out as lay_out

# 1, odd, prime, and just past a tile: where index arithmetic goes wrong.
_SIZES = (2, 3, 1, 5, 7, 4, 9, 13, 17)
_TYPICAL = 5  # of the one case of a check that runs once

# Where each kind of element is hard. "normal" comes first: shrinking ends there.
_REAL = ("normal", "large", "tiny", "negative", "offset", "ties", "zeros", "outliers", "ascending",
         "duplicated")  # fmt: skip
_BOUNDED = ("normal", "extreme", "duplicated")
REGIMES: Mapping[str, tuple[str, ...]] = {
    "float": _REAL,
    "logit": ("normal", "large", "offset", "ties", "onehot"),
    "positive": ("normal", "large", "tiny", "ties"),
    "unit": _BOUNDED,
    "signed": _BOUNDED,
    "probability": ("normal", "onehot", "uniform"),
    "image": ("normal", "noise", "constant"),
    "label": ("normal", "constant"),
    "index": ("normal", "constant"),
    "bool": ("normal", "constant"),
    "mask": ("normal", "constant"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One concrete set of inputs, and all that a check may need besides.

    `inputs` maps each argument to its tensor, on the trial's device, floating ones in its dtype.
    """

    recipe: Recipe
    specs: Mapping[str, Input]
    inputs: Mapping[str, Tensor]
    device: torch.device
    dtype: torch.dtype
    profile: Profile = PROFILES["default"]
    root: int = 0  # the run's seed
    claim: str = ""  # names the random streams of this trial
    explains: bool = False  # the smallest case that failed, run again: say why, at any cost

    @property
    def sizes(self) -> Mapping[str, int]:
        return self.recipe.sizes

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The inputs in declared order."""
        return tuple(self.inputs.values())

    @property
    def floating(self) -> tuple[str, ...]:
        """Names of the inputs that can have a gradient."""
        return tuple(name for name, spec in self.specs.items() if spec.is_floating)

    def generator(self, salt: str = "") -> torch.Generator:
        """A CPU generator that repeats for this case and differs for every salt."""
        return torch.Generator().manual_seed(stream_seed(self.recipe.seed, salt))

    def fresh(self, requires_grad: Sequence[str] = ()) -> tuple[Tensor, ...]:
        """Private copies of the inputs with their layout, some of them leaves with a gradient."""
        return tuple(
            clone_as_laid_out(tensor).requires_grad_(name in requires_grad)
            for name, tensor in self.inputs.items()
        )


def stream_seed(root: int, *names: str) -> int:
    """A seed below 2⁶³ for a named stream: independent of order and of other streams' names."""
    words = b"\0".join([str(root).encode(), *(name.encode() for name in names)])
    return (zlib.crc32(words) << 31 | zlib.adler32(words)) & (2**63 - 1)


# --- recipes ----------------------------------------------------------------------------------


def recipes(
    subject: Subject, specs: Mapping[str, Input], regimes: Sequence[str] = ()
) -> st.SearchStrategy[Recipe]:
    """Recipes of cases for a subject: sizes within its bounds, regimes, layouts, a seed.

    regimes restricts the distributions to those in which a check can judge.
    """
    sizes = {name: _size(subject, name) for name in sorted(dim_names(subject, specs))}
    return st.builds(
        lambda sizes, regimes, layouts, seed: Recipe(
            sizes=sizes, regimes=regimes, layouts=layouts, seed=seed
        ),
        sizes=st.fixed_dictionaries(sizes),
        regimes=st.fixed_dictionaries(
            {name: st.sampled_from(_regimes(spec, regimes)) for name, spec in specs.items()}
        ),
        layouts=st.fixed_dictionaries(
            {name: st.sampled_from(_layouts(subject, spec)) for name, spec in specs.items()}
        ),
        seed=st.integers(0, 2**16 - 1),
    )


def typical_recipe(subject: Subject, specs: Mapping[str, Input], seed: int) -> Recipe:
    """The one recipe of a check that runs once: middling sizes, normal values, contiguous."""
    sizes = {}
    for position, name in enumerate(sorted(dim_names(subject, specs))):
        low, high = size_bounds(subject.options, name) or (1, _TYPICAL + position)
        sizes[name] = min(max(low, _TYPICAL + position), high)  # all dims different
    return Recipe(
        sizes=sizes,
        regimes={name: "normal" for name in specs},
        layouts={name: "contiguous" for name in specs},
        seed=seed,
    )


def dim_names(subject: Subject, specs: Mapping[str, Input]) -> set[str]:
    """Every dim name that needs a size: of the inputs and of the constructor arguments."""
    names = {name for spec in specs.values() for name in spec.names}
    return names | {dim.name for dim in bound_dims(subject.args).values() if dim.name}


def _size(subject: Subject, name: str) -> st.SearchStrategy[int]:
    bounds = size_bounds(subject.options, name)
    if bounds is None:
        return st.sampled_from(_SIZES)
    low, high = bounds
    if "accepts_empty" not in subject.traits:
        low = max(low, 1)
    inside = [size for size in _SIZES if low <= size <= high]
    ends = [low, high] if high <= 256 else [low]
    return st.sampled_from(list(dict.fromkeys([*inside, *ends])))


def _regimes(spec: Input, allowed: Sequence[str]) -> list[str]:
    known = REGIMES.get(spec.element, ("normal",))
    if spec.low is not None and spec.is_floating:
        known = _BOUNDED
    return [regime for regime in known if not allowed or regime in allowed] or ["normal"]


def _layouts(subject: Subject, spec: Input) -> list[str]:
    wanted = subject.options.get("layouts", LAYOUTS)
    possible = ["contiguous"]
    if len(spec.dims) >= 1:
        possible.append("sliced")
    if len(spec.dims) >= 2:
        possible.append("transposed")
    if len(spec.dims) == 4:
        possible.append("channels_last")
    return [layout for layout in possible if layout in wanted] or ["contiguous"]


# --- tensors ----------------------------------------------------------------------------------


def materialize(
    recipe: Recipe, specs: Mapping[str, Input], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The tensors of a recipe: floating ones in `dtype`, labels and indices in int64."""
    made = {}
    for name, spec in specs.items():
        generator = torch.Generator().manual_seed(stream_seed(recipe.seed, name))
        regime = recipe.regimes.get(name, "normal")
        values = make_values(spec, recipe.sizes, regime, generator)
        values = values.to(device=device, dtype=dtype if spec.is_floating else values.dtype)
        made[name] = lay_out(values, recipe.layouts.get(name, "contiguous"))
    return made


def make_values(
    spec: Input, sizes: Mapping[str, int], regime: str, generator: torch.Generator
) -> Tensor:
    """One tensor of a domain under a regime, on the CPU, in float64, int64, uint8 or bool."""
    shape = spec.shape(sizes)
    if not spec.is_floating:
        return _integers(spec, sizes, shape, regime, generator)
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


def _float(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
    z = _normal(shape, generator)
    match regime:
        case "large":
            return 30 * z
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
        case "ascending" if shape:
            return z.sort(dim=-1).values
        case "duplicated" if shape:
            return z[:1].expand(shape).clone()
    return z


def _logit(shape: tuple[int, ...], regime: str, generator: torch.Generator) -> Tensor:
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
    if spec.element in ("bool", "mask"):
        high = 2
    elif spec.count is not None:
        high = spec.count.size(sizes)
    elif spec.low is not None and spec.high is not None:
        low, high = int(spec.low), int(spec.high)
    values = torch.randint(low, max(high, low + 1), shape, generator=generator)
    if regime == "constant" and shape:
        values = values.flatten()[:1].expand(values.numel()).reshape(shape).clone()
    if spec.element == "uint8":
        return values.to(torch.uint8)
    return values.bool() if spec.element in ("bool", "mask") else values
