"""Domain → Hypothesis strategies of recipes, and recipe → tensors.

Hypothesis draws a few sizes, names and a seed; torch makes the numbers from them. So shrinking
works on the recipe, a counterexample is small and readable, and a tensor of a million elements
costs nothing to draw. Numbers are made in float64 on the CPU and then moved, so that one recipe
is the same case on every device and, up to rounding, in every dtype.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from dlcheck.domains import Input, bound_dims, size_bounds
from dlcheck.model import PROFILES, Profile, Recipe, Subject
from dlcheck.numerics.layouts import LAYOUTS
from dlcheck.numerics.layouts import clone_as_laid_out as clone_as_laid_out
from dlcheck.numerics.layouts import lay_out as lay_out
from dlcheck.regimes import make_values, regimes_of

# 1, odd and prime: where index arithmetic goes wrong.
_SIZES = (2, 3, 1, 5, 7, 4, 9, 13, 17)
_TYPICAL = 5  # of the one case of a check that runs once


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
    return _recipes(
        sizes={name: sizes_of(subject, name) for name in dim_names(subject, specs)},
        regimes={name: regimes_of(spec, regimes) for name, spec in specs.items()},
        layouts={name: layouts_of(subject, spec) for name, spec in specs.items()},
        seeds=st.integers(0, 2**16 - 1),
    )


def is_recipe_of(
    recipe: Recipe, subject: Subject, specs: Mapping[str, Input], regimes: Sequence[str] = ()
) -> bool:
    """Could this recipe be drawn for the subject as it is declared? It may be of another day."""
    if set(recipe.sizes) != set(dim_names(subject, specs)):
        return False
    if not set(recipe.regimes) == set(recipe.layouts) == set(specs):
        return False
    return all(clipped(subject, name, size) == size for name, size in recipe.sizes.items()) and all(
        recipe.regimes[name] in regimes_of(spec, regimes)
        and recipe.layouts[name] in layouts_of(subject, spec)
        for name, spec in specs.items()
    )


def simpler(
    recipe: Recipe, subject: Subject, specs: Mapping[str, Input]
) -> st.SearchStrategy[Recipe]:
    """Recipes that are the given one with smaller sizes, tamer values or a plainer layout."""
    sizes = {}
    for name, size in recipe.sizes.items():
        sizes[name] = [s for s in sizes_of(subject, name) if s < size] + [size]
    return _recipes(
        sizes=sizes,
        regimes={name: list(dict.fromkeys(("normal", r))) for name, r in recipe.regimes.items()},
        layouts={
            name: list(dict.fromkeys((layouts_of(subject, specs[name])[0], layout)))
            for name, layout in recipe.layouts.items()
        },
        seeds=st.just(recipe.seed),
    )


def _recipes(
    *,
    sizes: Mapping[str, Sequence[int]],
    regimes: Mapping[str, Sequence[str]],
    layouts: Mapping[str, Sequence[str]],
    seeds: st.SearchStrategy[int],
) -> st.SearchStrategy[Recipe]:
    def one_of(choices: Mapping[str, Sequence[object]]) -> st.SearchStrategy[dict[str, object]]:
        return st.fixed_dictionaries(
            {name: st.sampled_from(list(values)) for name, values in choices.items()}
        )

    return st.builds(
        lambda sizes, regimes, layouts, seed: Recipe(
            sizes=sizes, regimes=regimes, layouts=layouts, seed=seed
        ),
        sizes=one_of(sizes),
        regimes=one_of(regimes),
        layouts=one_of(layouts),
        seed=seeds,
    )


def clipped(subject: Subject, name: str, size: int) -> int:
    """The size within the author's bounds; at least 1 unless empty inputs are taken."""
    low, high = size_bounds(subject.options, name) or (0, size)
    low = low if "accepts_empty" in subject.traits else max(low, 1)
    return min(max(low, size), high)


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


def dim_names(subject: Subject, specs: Mapping[str, Input]) -> list[str]:
    """Every dim name that needs a size: of the inputs in order, then of the arguments."""
    dims = [dim for spec in specs.values() for dim in (*spec.dims, spec.count) if dim is not None]
    dims += bound_dims(subject.args).values()
    return list(dict.fromkeys(dim.name for dim in dims if dim.name))


def sizes_of(subject: Subject, name: str) -> list[int]:
    """The sizes that are drawn, the one to which shrinking tends first."""
    empty = (0,) if "accepts_empty" in subject.traits else ()
    bounds = size_bounds(subject.options, name)
    if bounds is None:
        return [*_SIZES, *empty]
    low, high = bounds
    if not empty:
        low = max(low, 1)
    inside = [size for size in (*_SIZES, *empty) if low <= size <= high]
    ends = [low, high] if high <= 256 else [low]
    return list(dict.fromkeys([*inside, *ends]))


def layouts_of(subject: Subject, spec: Input) -> list[str]:
    """The memory layouts in which an input is given."""
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
