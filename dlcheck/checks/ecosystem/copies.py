"""A copy is the same subject: by pickle, by deepcopy, by its saved state."""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dlcheck.checks.ecosystem.findings import (
    alike,
    answers,
    excuse_torch,
    prepare,
    refusal,
    same_answers,
)
from dlcheck.checks.ecosystem.fragile_modules import (
    ClosesOverItself,
    CopiesItsShellOnly,
    ForgetsItsGainInGetstate,
    HoldsALock,
    KeepsALambda,
    KeepsARandomTensorOutOfItsState,
    KeepsTheGraphOfItsLastAnswer,
    SavesAnObject,
    SavesANumpyNumber,
    SavesUnderOtherNames,
    StartsAfreshWhenCopied,
    made_by,
)
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build, guarded, tensors_in

_STEP = 0.25  # relative change of the parameters: they keep their signs and zeros


@check(
    kind="tensors",
    once=True,
    forbids={"in_place"},
    rejects=[
        made_by(KeepsALambda),
        made_by(HoldsALock),
        made_by(ForgetsItsGainInGetstate),
    ],
)
def survives_pickle(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A pickled and loaded copy gives the same answers.

    Workers that are spawned, multiprocessing and torch.save of a whole module need it. The
    parameters are moved away from where the constructor puts them first. A lambda, a lock or an
    open file as an attribute is refused by pickle: one refusal, where none is allowed. Equal
    answers are equal bit by bit, or within rounding. What is defined in a function has no name to
    be found by: that is no property of the subject, and it is skipped.
    """
    prepare(subject, case)
    _move(subject, case, "trained")
    try:
        copied = pickle.loads(pickle.dumps(subject.target))
    except Exception as error:
        _excuse_place(subject, error)
        excuse_torch(subject, "pickle", error)
        yield refusal("pickle.loads(pickle.dumps(subject))", error, _pickle_remedy(error))
        return
    twin = dataclasses.replace(subject, target=copied)
    yield from same_answers("answer of a pickled copy", twin, subject, case)


def _excuse_place(subject: Implementation, error: Exception) -> None:
    """Raise NotApplicable where the subject cannot be found by name, since it is defined inside."""
    if subject.module is None:
        raise NotApplicable(
            f"a function is pickled by its name, by which this one cannot be found: {error}"
        ) from error
    for module in subject.module.modules():
        if "<locals>" in type(module).__qualname__:
            raise NotApplicable(
                f"{type(module).__qualname__} is defined in a function, where pickle cannot find "
                "it; define it in a module to have this checked"
            ) from error


def _pickle_remedy(error: Exception) -> str:
    if "lambda" in str(error) or "local" in str(error):
        return "a lambda or local function is kept as an attribute; make it a method or a module"
    return "an attribute cannot be pickled; leave it out in __getstate__ and make it anew"


@check(
    kind="tensors",
    once=True,
    forbids={"in_place"},
    rejects=[
        made_by(CopiesItsShellOnly),
        made_by(ClosesOverItself),
        made_by(StartsAfreshWhenCopied),
        made_by(KeepsTheGraphOfItsLastAnswer),
    ],
)
def survives_deepcopy(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A deep copy gives the same answers, and the two are independent.

    Copied after a forward with gradients, as averaged weights and best models are: a tensor with
    its graph kept as an attribute is refused. Then the copy's parameters are changed: the
    original's answers stay, and the copy's become those of a subject with these parameters. All
    are equal bit by bit, or within rounding.
    """
    prepare(subject, case)
    _move(subject, case, "trained")
    seed_everything(case.recipe.seed)
    subject(*case.fresh(requires_grad=case.floating[:1]))
    try:
        copied = copy.deepcopy(subject.target)
    except Exception as error:
        remedy = "a tensor with a graph is kept as an attribute; keep tensor.detach()"
        yield refusal("copy.deepcopy(subject)", error, remedy if "leaves" in str(error) else "")
        return
    twin = dataclasses.replace(subject, target=copied)
    yield from same_answers("answer of a deep copy", twin, subject, case)
    if not subject.parameters or not twin.parameters:
        return
    seed = case.recipe.seed
    before = answers(subject, case.fresh(), seed)
    _move(twin, case, "moved on")
    moved = answers(twin, case.fresh(), seed)
    after = answers(subject, case.fresh(), seed)
    yield from alike(
        "answer of the original after the copy's parameters changed",
        after,
        before,
        subject,
        case,
        cause="the copy shares its parameters with the original",
    )
    _put(subject, twin.parameters)
    expected = answers(subject, case.fresh(), seed)
    yield from alike(
        "answer of the copy with other parameters",
        moved,
        expected,
        subject,
        case,
        cause="the copy computes with the original's parameters, as through a closure over self",
    )


@check(
    kind="tensors",
    once=True,
    forbids={"in_place"},
    rejects=[
        made_by(SavesAnObject),
        made_by(SavesANumpyNumber),
        made_by(KeepsARandomTensorOutOfItsState),
        made_by(SavesUnderOtherNames),
    ],
)
def survives_weights_only_loading(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A state_dict that is saved, and loaded with weights_only, gives a fresh subject its answers.

    The subject's parameters are moved and its buffers run by one call; then torch.save,
    torch.load(weights_only=True) and load_state_dict(strict=True) into a subject that is built
    with another seed. Answers in train and in eval are equal bit by bit, or within rounding. A
    function has no state: only its answers are compared.
    """
    prepare(subject, case)
    _move(subject, case, "trained")
    seed_everything(case.recipe.seed)
    subject(*case.fresh())
    fresh = build(
        subject.declared, case.sizes, case.device, case.dtype, (case.recipe.seed + 1) % 2**31
    )
    if subject.module is not None and fresh.module is not None:
        try:
            _load_into(fresh.module, subject.module)
        except Exception as error:
            yield refusal(
                "torch.load(weights_only=True) of the saved state_dict", error, _load_remedy(error)
            )
            return
    for mode in (True, False):
        for made in (subject, fresh):
            if made.module is not None:
                guarded(made.module.train, mode)
        said = "train" if mode else "eval"
        yield from same_answers(
            f"answer in {said} of a fresh subject with the saved state",
            fresh,
            subject,
            case,
            cause="something that the answer depends on is neither a parameter nor a buffer",
        )


def _load_into(fresh: nn.Module, trained: nn.Module) -> None:
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    device = next((x.device for x in _tensors_of(trained)), None)
    fresh.load_state_dict(torch.load(file, weights_only=True, map_location=device))


def _tensors_of(module: nn.Module) -> Iterator[Tensor]:
    return tensors_in([*module.parameters(), *module.buffers()])


def _load_remedy(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return "the state holds more than tensors and plain values, as by get_extra_state"
    if "Missing key" in str(error) or "Unexpected key" in str(error):
        return "state_dict and load_state_dict disagree about the names"
    return ""


def _move(made: Implementation, case: Case, salt: str) -> None:
    """Change every parameter in place, by a random factor in 1 ± ¼."""
    generator = case.generator(salt)
    with torch.no_grad():
        for parameter in made.parameters.values():
            if not parameter.is_floating_point():
                continue
            draw = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.mul_((1 + _STEP * (2 * draw - 1)).to(parameter))


def _put(made: Implementation, values: dict[str, nn.Parameter]) -> None:
    if made.parameters.keys() != values.keys():
        raise SubjectError("a deep copy has other parameters than the original")
    with torch.no_grad():
        for name, parameter in made.parameters.items():
            parameter.copy_(values[name])
