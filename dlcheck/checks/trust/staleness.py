"""An answer is computed from what the inputs and parameters hold now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dlcheck.checks.every.twin import in_dtype
from dlcheck.checks.still import buffers_of, put_back
from dlcheck.checks.trust.calls import Asked, contiguous, held, or_refused
from dlcheck.checks.trust.careless import (
    caches_by_address,
    caches_by_first_and_last_element,
    caches_by_identity_and_version,
    folds_its_weight_once,
    keeps_the_weight_of_its_first_evaluation,
    knows_the_inputs_of_the_judge,
)
from dlcheck.domains import Input
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation, guarded

_NUDGE = 8  # × u: the last bits of every element
_TIED = (
    "probability",
    "log_probability",
    "spd",
    "orthogonal",
    "direction",
)  # elements that hang together


@check(
    kind="tensors",
    dtypes=["float64", "float32"],
    regimes=["normal"],
    forbids={"in_place"},
    rejects=[
        caches_by_address,
        caches_by_identity_and_version,
        caches_by_first_and_last_element,
        knows_the_inputs_of_the_judge,
    ],
)
def sees_what_its_inputs_hold_now(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A call answers for the present values of its inputs, whatever it answered before.

    Tensors that were just answered for are refilled past autograd's version counter: the answer
    is that of other tensors with the same values. Then, in every other case, each input differs
    in one element of its interior; and in all the answer is that of inputs whose every element
    differs from those by 2u to 8u more. A result found by address, identity, version or some
    elements is that of other values; so is one that is known for the drawn values alone.
    """
    asked = Asked(subject, case, values_only=True)
    other = _other_values(case)
    expected = asked(*(x.clone() for x in other))
    first = contiguous(case)
    asked(*first)
    for x, value in zip(first, other, strict=True):
        x.data.copy_(value)
    yield held(
        asked,
        "after its inputs were refilled in place",
        asked(*first),
        expected,
        inputs=other,
        cause="a result is cached by the address, the identity or the version of an input",
    )
    yield _beside_a_neighbour(asked, case, other)


def _beside_a_neighbour(asked: Asked, case: Case, other: Sequence[Tensor]) -> Evidence:
    inputs, what, cause = contiguous(case), "beside inputs that differ in the last bits", _REPLAYED
    if case.recipe.seed % 2:
        inputs = _with_one_other(case, other)
        what, cause = "of inputs with one other element, beside such", _FINGERPRINT
    answer = asked(*(x.clone() for x in inputs))
    generator = case.generator(what)  # otherwise each time: no element is known
    pairs = zip(inputs, case.specs.values(), strict=True)
    nearby = [_nudged(x, spec, generator) for x, spec in pairs]
    times = 1.0 + _NUDGE
    return held(asked, what, answer, asked(*nearby), inputs=nearby, times=times, cause=cause)


_REPLAYED = "the drawn values are recognised, and their result is known"
_FINGERPRINT = "a result is cached by some elements of an input"


def _other_values(case: Case) -> list[Tensor]:
    """Other values of the same sizes and regimes, contiguous."""
    recipe = replace(case.recipe, seed=(case.recipe.seed + 104729) % 2**31)
    made = materialize(recipe, case.specs, case.device, case.dtype)
    return [x.contiguous() for x in made.values()]


def _with_one_other(case: Case, other: Sequence[Tensor]) -> list[Tensor]:
    """The inputs with one element of each, in its interior, taken from other values."""
    found = []
    for x, spec, value in zip(contiguous(case), case.specs.values(), other, strict=True):
        if x.numel() and spec.element not in _TIED:
            middle = torch.unravel_index(torch.tensor(x.numel() // 2), x.shape)
            x[middle] = value[middle]
        found.append(x)
    return found


def _nudged(x: Tensor, spec: Input, generator: torch.Generator) -> Tensor:
    """Each element moved by a few units of its last place; those that hang together, alike."""
    if not x.is_floating_point():
        return x.clone()
    u = unit_roundoff(x.dtype)
    shape = () if spec.element in _TIED else x.shape
    steps = 1 + 3 * torch.rand(shape, generator=generator, dtype=torch.float64).to(x)
    return x * (1 - steps.round() * 2 * u)  # towards 0: bounds of the domain are kept


@check(
    kind="tensors",
    dtypes=["float64", "float32"],
    regimes=["normal"],
    once=True,
    forbids={"in_place"},
    rejects=[folds_its_weight_once, keeps_the_weight_of_its_first_evaluation],
)
def sees_what_its_parameters_hold_now(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A module answers with the present values of its parameters, whatever it answered before.

    Every parameter is changed in place between two calls, past autograd's version counter, as an
    optimizer or a loaded state changes it: in the mode of the build, and in training between two
    evaluations. The answer is that of a module built anew that holds the same state.
    """
    if subject.module is None or not subject.parameters:
        raise NotApplicable("has no parameters")
    mode, asked = subject.module.training, Asked(subject, case)
    asked(*contiguous(case))
    _change_parameters(subject, case, "in one mode")
    yield _beside_anew(asked, case, mode, "after its parameters changed")
    subject.module.eval()
    asked(*contiguous(case))
    subject.module.train()
    or_refused(lambda: asked(*contiguous(case)))
    _change_parameters(subject, case, "between evaluations")
    subject.module.eval()
    yield _beside_anew(asked, case, False, "in evaluation, after its parameters changed")  # noqa: FBT003


def _beside_anew(asked: Asked, case: Case, mode: bool, what: str) -> Evidence:  # noqa: FBT001
    subject = asked.subject
    assert subject.module is not None
    put_back(asked.still.state)
    try:
        anew = in_dtype(subject, case, case.dtype)
    except SubjectRaised as error:
        raise NotApplicable("its state cannot be loaded into one built anew") from error
    assert anew.module is not None
    fresh = Asked(anew, case, training=mode)
    # Asked moves parameters off their constants, which those of the subject may have become.
    guarded(anew.module.load_state_dict, subject.module.state_dict())
    fresh.still.state = buffers_of(anew.module)
    seed_everything(case.recipe.seed)
    return held(
        asked,
        what,
        asked(*contiguous(case)),
        fresh(*contiguous(case)),
        inputs=contiguous(case),
        cause="something computed from the parameters is kept",
    )


def _change_parameters(subject: Implementation, case: Case, salt: str) -> None:
    """p ← p (1 + z/4) + z/16, z standard normal: values that training could reach."""
    generator = case.generator(salt)
    for parameter in subject.parameters.values():
        if parameter.is_floating_point():
            z = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            z = z.to(parameter.device, parameter.dtype)
            parameter.data.copy_(parameter.data * (1 + z / 4) + z / 16)
