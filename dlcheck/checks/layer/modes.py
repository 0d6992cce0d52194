"""What train and evaluation change, and what they leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from dlcheck.checks.layer.broken import (
    draws_only_in_evaluation,
    is_random_in_evaluation,
    keeps_what_evaluation_fused,
    moves_its_buffer_in_evaluation,
    moves_its_parameters_in_evaluation,
    never_trains_again,
)
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation, build, scatter_parameters, tensors_in


@check(
    kind=[
        "layer", "activation", "normalization", "attention", "positional", "recurrent", "dropout",
    ],
    forbids={"stochastic_in_eval"},
    rejects=[is_random_in_evaluation, draws_only_in_evaluation],
)  # fmt: skip
def eval_is_deterministic(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """After train mode, two evaluations from different random streams give the same answer.

    Bit by bit; the error is the number of elements that differ, NaN being equal to NaN.
    """
    module = module_of(subject)
    scatter_parameters(subject, case.recipe.seed)
    answers(subject, case, case.recipe.seed)
    module.eval()
    first = answers(subject, case, case.recipe.seed)
    second = answers(subject, case, case.recipe.seed + 1)
    yield from same_elements("evaluation", second, first)


@check(
    kind=[
        "layer", "activation", "normalization", "attention", "positional", "recurrent", "dropout",
    ],
    rejects=[never_trains_again, keeps_what_evaluation_fused],
    once=True,
)  # fmt: skip
def train_mode_returns(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """train → eval → train behaves as if it had never been evaluated.

    Two equal instances are trained by one call; one is then evaluated, on the same and on other
    inputs, and set back to train. Its modes, and its answer in train with the same random
    numbers, are those of the other, bit by bit.
    """
    module_of(subject)
    plain, evaluated = (_again(subject, case) for _ in range(2))
    for made in (plain, evaluated):
        module_of(made).train()
        answers(made, case, case.recipe.seed)
    module = module_of(evaluated)
    module.eval()
    answers(evaluated, case, case.recipe.seed)
    answers(evaluated, case, case.recipe.seed, _others(case))
    module.train()
    module_of(plain).train()
    modes, wanted = _modes(module), _modes(module_of(plain))
    wrong = [name for name in wanted if modes.get(name) != wanted[name]]
    yield Evidence(
        error=float(len(wrong)),
        bound=0.0,
        signal=float(len(wanted)),
        unit="modules",
        what="modules whose mode an evaluation left changed",
        where=", ".join(name or "the module itself" for name in wrong[:5]),
    )
    expected = answers(plain, case, case.recipe.seed + 2)
    got = answers(evaluated, case, case.recipe.seed + 2)
    yield from same_elements("train after an evaluation", got, expected)


@check(
    kind=[
        "layer", "activation", "normalization", "attention", "positional", "recurrent", "dropout",
    ],
    rejects=[moves_its_buffer_in_evaluation, moves_its_parameters_in_evaluation],
    once=True,
)  # fmt: skip
def evaluation_changes_no_state(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A call in eval mode changes no parameter and no buffer of the state_dict.

    After a call in train; two evaluations on different inputs, compared bit by bit. Buffers that
    are not saved (persistent=False) may be caches, and are left out.
    """
    module = module_of(subject)
    scatter_parameters(subject, case.recipe.seed)
    answers(subject, case, case.recipe.seed)
    module.eval()
    before = saved_state(module)
    answers(subject, case, case.recipe.seed)
    answers(subject, case, case.recipe.seed + 1, _others(case))
    after = saved_state(module)
    wrong = [n for n in before if n not in after or not equal(after[n], before[n])]
    wrong += [n for n in after if n not in before]
    yield Evidence(
        error=float(len(wrong)),
        bound=0.0,
        signal=float(max(len(before), 1)),
        unit="tensors",
        what="parameters and buffers that an evaluation changed",
        where=", ".join(wrong[:5]),
    )


def module_of(subject: Implementation) -> nn.Module:
    """The subject as a module. Raises NotApplicable for a function, which has no state."""
    if subject.module is None:
        raise NotApplicable("is a function: it has no modes and no state")
    return subject.module


def answers(
    made: Implementation, case: Case, seed: int, inputs: Mapping[str, Tensor] | None = None
) -> list[Tensor]:
    """What a call answers with these random numbers; nothing is put back afterwards."""
    given = case.fresh() if inputs is None else tuple(inputs.values())
    seed_everything(seed)
    with torch.no_grad():
        return [y.detach().clone() for y in tensors_in(made(*given))]


def saved_state(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of the state_dict, copied."""
    return {
        name: value.detach().clone()
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor)
    }


def same_elements(what: str, got: list[Tensor], expected: list[Tensor]) -> Iterator[Evidence]:
    """The same numbers bit by bit: how many elements differ, of every answer."""
    if [y.shape for y in got] != [y.shape for y in expected]:
        yield Evidence(
            error=float("inf"),
            bound=0.0,
            signal=1.0,
            what=f"shapes in {what}",
            expected=str([tuple(y.shape) for y in expected]),
            got=str([tuple(y.shape) for y in got]),
        )
        return
    for position, (one, two) in enumerate(zip(got, expected, strict=True)):
        same = (one == two) | ((one != one) & (two != two))
        yield Evidence(
            error=float((~same).sum()),
            bound=0.0,
            signal=float(max(same.numel(), 1)),
            unit="elements",
            what=f"differing elements of answer {position} in {what}",
        )


def _others(case: Case) -> dict[str, Tensor]:
    recipe = replace(case.recipe, seed=case.recipe.seed + 7)
    return materialize(recipe, case.specs, case.device, case.dtype)


def _again(subject: Implementation, case: Case) -> Implementation:
    seed_everything(case.recipe.seed)  # an initialization may draw from NumPy
    made = build(subject.declared, case.sizes, case.device, case.dtype, case.recipe.seed)
    scatter_parameters(made, case.recipe.seed)
    return made


def _modes(module: nn.Module) -> dict[str, bool]:
    return {name: part.training for name, part in module.named_modules()}


def equal(one: Tensor, two: Tensor) -> bool:
    """The same type, shape and numbers, NaN being equal to NaN."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    return bool(((one == two) | ((one != one) & (two != two))).all())
