"""An activation acts on each element alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.activation.torch_activations import STOCHASTIC, TORCH
from dlcheck.checks.agreement import agreement, rounding_room
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@around
def subtracts_the_mean(original: Any, x: Tensor) -> Any:
    return original(x - x.mean())


@around
def is_scaled_by_the_largest(original: Any, x: Tensor) -> Any:
    """A scale per tensor, as quantization has it."""
    return original(x) + 1e-3 * x.abs().amax()


@around
def mixes_neighbours(original: Any, x: Tensor) -> Any:
    y = original(x)
    return y + 0.01 * torch.roll(x.reshape(-1), 1).reshape(x.shape)


@check(
    kind="activation",
    options={"axes": False},
    rejects=[subtracts_the_mean, is_scaled_by_the_largest, mixes_neighbours],
    accepts=[*TORCH, *STOCHASTIC],
    dtypes=["float64", "float32"],
)
def each_element_acts_alone(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Other numbers in the other places leave an element's value as it was.

    Half of the elements, at random, are replaced; the values at the others must stay, within what
    rounding moves. The shape is kept.
    """
    name = case.floating[0] if case.floating else ""
    if not name or case.inputs[name].numel() < 2:
        raise NotApplicable("a single element is always alone")
    if subject.module is not None and "stochastic" in subject.traits:
        subject.module.eval()
    x = case.inputs[name]
    generator = case.generator("others")
    kept = torch.rand(x.shape, generator=generator) < 0.5
    kept.view(-1)[0], kept.view(-1)[-1] = True, False
    kept = kept.to(x.device)
    others = x[torch.randperm(len(x), generator=generator).to(x.device)].flip(-1)
    changed = torch.where(kept, x, 1 - 0.75 * others)
    room = rounding_room(subject, case)[0]

    def answer(values: Tensor) -> Tensor:
        seed_everything(case.recipe.seed)
        with torch.no_grad():
            given = [values if key == name else own for key, own in case.inputs.items()]
            return subject.tensor(*given)

    plain, after = answer(x), answer(changed)
    if plain.shape != x.shape:
        yield agreement("shape of the answer", plain, x, 0.0)
        return
    signal = max(float(plain.abs().nan_to_num(0.0, 0.0, 0.0).amax()), 2.0**-10)
    yield agreement(
        "value beside other elements", after[kept], plain[kept], room[kept], signal=signal
    )
