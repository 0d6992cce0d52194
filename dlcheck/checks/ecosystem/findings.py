"""What the checks of the ecosystem share: a tool that refuses, a twin that must answer alike."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from dlcheck.checks.agreement import Call, agreement, rounding_room
from dlcheck.checks.every.answers import Answers, Question
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import guarded, kept_buffers, seed_everything
from dlcheck.model import Evidence
from dlcheck.strategies import Case
from dlcheck.subject_source import raised_at
from dlcheck.subjects import Implementation, scatter_parameters, tensors_in

_LONGEST = 300  # characters of a tool's message
# What torch itself does not do yet, whatever the subject is: said as not checked, not as failed.
_TORCH_CANNOT = (
    "setup_context",  # an autograd.Function in the form that was the only one before torch 2.0
    "saved tensor hooks",  # activation checkpoints below torch.func
    "not implemented for 'BFloat16'",  # a kernel that torch lacks
    "parametrized modules is only supported through state_dict",
    "Cannot access storage of TensorWrapper",  # a backward that is a kernel of its own
    "could not create a primitive",  # a kernel that this CPU lacks
    "Jitted modules",
    "Tried to serialize object __torch__",  # a scripted module: it has torch.jit.save
)


def refusal(tool: str, error: Exception, cause: str = "") -> Evidence:
    """The tool raised: one refusal, where none was allowed. cause: the likely remedy."""
    raised = _innermost(error)
    message = " ".join(str(raised).split())
    short = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"
    return Evidence(
        error=1.0,
        bound=0.0,
        signal=1.0,
        unit="refusals",
        what=tool,
        expected="the same answer as without it",
        got=f"{type(raised).__name__}: {short}",
        where=raised_at(raised),
        cause=cause,
    )


def excuse_torch(subject: Implementation, word: str, error: Exception) -> None:
    """Raise NotApplicable where torch lacks a feature, unless the subject is declared to work.

    word: the tool as `options.ecosystem` names it.
    """
    raised = _innermost(error)
    if word in subject.options.get("ecosystem", ()):
        return
    for limit in _TORCH_CANNOT:
        if limit in str(raised):
            raise NotApplicable(
                f"torch does not support this ({limit}); where it is meant to work, declare "
                f'options.ecosystem = ["{word}"]: {type(raised).__name__}'
            ) from error


def _innermost(error: Exception) -> BaseException:
    raised: BaseException = error
    while raised.__cause__ is not None:
        raised = raised.__cause__
    return raised


@contextmanager
def quiet() -> Iterator[None]:
    """Within it compilers neither print nor log the graph at which they gave up."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def prepare(subject: Implementation, case: Case) -> None:
    """Parameters that a lazy module makes at its first call are made; none is left constant."""
    if any(is_lazy(parameter) for parameter in subject.parameters.values()):
        answers(subject, case.fresh(), case.recipe.seed)
    scatter_parameters(subject, case.recipe.seed)


@contextmanager
def buffers_kept(subject: Implementation) -> Iterator[None]:
    """Afterwards the buffers are what they were, so that the next call starts from the same."""
    kept = [(b, b.detach().clone()) for b in kept_buffers(subject.module)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)


def plain_answers(question: Question, subject: Implementation) -> Answers:
    """Values and gradients without the tool. Raises NotApplicable where these raise already."""
    with buffers_kept(subject):
        try:
            return question.put_to(subject)
        except SubjectError as error:
            raise NotApplicable(f"without the tool it raises already: {error}") from error


def settle(subject: Implementation) -> None:
    """Nothing random is left: eval for a stochastic module."""
    if not subject.traits & {"stochastic", "stochastic_in_eval"}:
        return
    if subject.module is None or "stochastic_in_eval" in subject.traits:
        raise NotApplicable("it is random, and the tool may draw in another order")
    guarded(subject.module.eval)


def answers(subject: Implementation, inputs: Sequence[Any], seed: int) -> list[Tensor]:
    """The tensors of the answer, detached, drawn with this seed; buffers are put back."""
    seed_everything(seed)
    with torch.no_grad(), buffers_kept(subject):
        return [y.detach().clone() for y in tensors_in(subject(*inputs))]


def same_answers(
    what: str,
    got: Implementation,
    expected: Implementation,
    case: Case,
    *,
    cause: str = "",
) -> Iterator[Evidence]:
    """Two implementations give the same answers to the case: bit by bit, or within rounding."""
    seed = case.recipe.seed
    wanted = answers(expected, case.fresh(), seed)
    found = answers(got, case.fresh(), seed)
    yield from alike(what, found, wanted, expected, case, cause=cause)


def alike(
    what: str,
    got: Sequence[Tensor],
    expected: Sequence[Tensor],
    subject: Implementation,
    case: Case,
    *,
    inputs: Sequence[Tensor] | None = None,
    call: Call | None = None,
    cause: str = "",
) -> Iterator[Evidence]:
    """Tensors that are equal, or that differ by no more than rounding may move them.

    The room for rounding is measured (`rounding_room`) only where they are not equal: a copy may
    lie otherwise in memory, so that a sum is taken in another order. call, inputs: what gave
    `expected`, the subject and the case's inputs unless told.
    """
    if len(got) != len(expected):
        yield Evidence(
            error=float(abs(len(got) - len(expected))),
            bound=0.0,
            signal=float(max(len(expected), 1)),
            unit="tensors",
            what=what,
            expected=f"{len(expected)} tensors",
            got=f"{len(got)} tensors",
            cause=cause,
        )
        return
    rooms: list[Tensor] | None = None
    for position, (one, two) in enumerate(zip(got, expected, strict=True)):
        name = what if len(expected) == 1 else f"{what}, output {position}"
        if _is_equal(one, two):
            yield _equal(name, two)
            continue
        if rooms is None:
            rooms = rounding_room(subject, case, inputs, call)
        yield agreement(name, one, two, rooms[position], cause=cause)


def _is_equal(one: Tensor, two: Tensor) -> bool:
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    return bool(((one == two) | ((one != one) & (two != two))).all())


def _equal(what: str, answer: Tensor) -> Evidence:
    elements = float(max(answer.numel(), 1))
    return Evidence(error=0.0, bound=0.0, signal=elements, unit="elements", what=what)
