"""The state_dict is all that a module has learned."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from dlcheck.checks.layer.forgetful import (
    does_not_save_its_directions,
    has_other_keys_each_time,
    keeps_a_random_constant_in_an_attribute,
    keeps_statistics_in_an_attribute,
)
from dlcheck.checks.layer.modes import answers, equal, module_of, same_elements, saved_state
from dlcheck.errors import SubjectRaised
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build, guarded, scatter_parameters


@check(
    kind=[
        "layer", "activation", "normalization", "attention", "positional", "recurrent", "dropout",
        "loss",
    ],
    rejects=[
        keeps_a_random_constant_in_an_attribute,
        keeps_statistics_in_an_attribute,
        does_not_save_its_directions,
        has_other_keys_each_time,
    ],
    once=True,
)  # fmt: skip
def state_round_trips(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A new instance that loads the state_dict answers as the old one, in train and evaluation.

    The old one has made two calls in train, so that its buffers have moved; the new one is built
    from another seed and loads strictly. Bit by bit, with the same random numbers. A module that
    is given as an instance is copied, so that only what a call changes can be seen.
    """
    module = module_of(subject)
    scatter_parameters(subject, case.recipe.seed)
    for turn in range(2):
        answers(subject, case, case.recipe.seed + turn)
    fresh = build(subject.declared, case.sizes, case.device, case.dtype, case.recipe.seed + 99)
    module_of(fresh)
    problem = _loaded(fresh, module.state_dict())
    yield Evidence(
        error=math.inf if problem else 0.0,
        bound=0.0,
        signal=1.0,
        what="loading the state_dict into a new instance",
        expected="every key fits",
        got=problem,
    )
    if problem:
        return
    assert fresh.module is not None
    for made in (subject, fresh):
        module_of(made).eval()
    seed = case.recipe.seed + 3
    expected = answers(subject, case, seed)
    yield from same_elements("evaluation of the new instance", answers(fresh, case, seed), expected)
    for made in (subject, fresh):
        module_of(made).train()
    expected = answers(subject, case, seed)
    yield from same_elements("train of the new instance", answers(fresh, case, seed), expected)
    yield _states(saved_state(fresh.module), saved_state(module))


def _loaded(fresh: Implementation, state: Mapping[str, Any]) -> str:
    """What the new instance objects to; empty if nothing."""
    assert fresh.module is not None
    try:
        guarded(fresh.module.load_state_dict, state)
    except SubjectRaised as error:
        return str(error)
    return ""


def _states(new: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> Evidence:
    """After one more call in train of each, the states are still equal."""
    wrong = [name for name in old if name not in new or not equal(new[name], old[name])]
    return Evidence(
        error=float(len(wrong)),
        bound=0.0,
        signal=float(max(len(old), 1)),
        unit="tensors",
        what="parameters and buffers that differ after one more call",
        where=", ".join(wrong[:5]),
    )
