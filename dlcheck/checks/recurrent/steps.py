"""Steps follow each other through the state, and through nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.agreement import agreement, largest_of
from dlcheck.checks.recurrent import broken
from dlcheck.checks.recurrent.calls import Recurrence, accepts_no_state, both_agree
from dlcheck.errors import NotApplicable
from dlcheck.isolation import guarded
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, tensors_in

_LONG = 9  # steps beyond which a gradient may vanish for good
_SIZE = {"input_size": {"dim": "i"}, "hidden_size": {"dim": "n"}}
CAUSAL = [
    Subject(
        name=name,
        target=target,
        kind="recurrent",
        args=_SIZE,
        inputs=inputs,
        traits=frozenset({"causal"}),
        options={"batch_first": False, "state": [*inputs][1:]},
    )
    for name, target, inputs in (
        ("torch_gru", nn.GRU, {"x": "float t b i", "h": "float 1 b n"}),
        ("torch_lstm", nn.LSTM, {"x": "float t b i", "h": "float 1 b n", "c": "float 1 b n"}),
        ("torch_rnn", nn.RNN, {"x": "float t b i", "h": "float 1 b n"}),
    )
]


@check(
    kind="recurrent",
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "small"],
    rejects=[
        broken.returns_the_state_it_was_given,
        broken.returns_the_state_of_the_first_step,
        broken.ignores_its_state,
    ],
    accepts=CAUSAL,
)
def chunks_are_the_whole(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A sequence in two chunks, the state carried over, gives what the whole sequence gives.

    Outputs and last state, within rounding; cut at random, and after the first step, so that a
    single step is a sequence too. Of a subject that is not declared causal it is asked where the
    past does not depend on the future: a bidirectional network has no chunks.
    """
    made = Recurrence.of(subject, case)
    made.must_have_steps(2)
    if subject.options.get("lengths"):
        raise NotApplicable("takes lengths, which chunks do not have")
    x, state = made.inputs
    if state is None:
        made.must_return_its_state(made(x)[1])
    whole = made.flat(x, state)
    if len(whole) < 2:
        raise NotApplicable("returns no state")
    if "causal" not in subject.traits and _sees_the_future(made, x, state, whole[0]):
        raise NotApplicable("its past depends on the future, as of a bidirectional network")
    room = made.room(x, state)
    for cut in sorted({1, made.random(1, made.length, "cut")}):
        first, between = made(made.steps(x, slice(0, cut)), state)
        second, after = made(made.steps(x, slice(cut, None)), between, start=cut)
        joined = torch.cat((first, second), made.time or 0)
        what = f"of {made.length} steps in chunks of {cut} and {made.length - cut}"
        yield from both_agree(what, (joined, *tensors_in(after)), whole, room)


def _sees_the_future(made: Recurrence, x: Tensor, state: Any, y: Tensor) -> bool:
    """Does the first output change with the last step?"""
    other = made.steps(made.drawn("future")[0], slice(made.length - 1, None))
    moved = torch.cat((made.steps(x, slice(0, made.length - 1)), other), made.time or 0)
    first = slice(0, 1)
    gap = (made.steps(made(moved, state)[0], first) - made.steps(y, first)).abs()
    return float(gap.detach().amax()) > 1e-4 * largest_of(y)


@check(
    kind="recurrent",
    needs={"causal"},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "small"],
    rejects=[
        broken.reads_the_sequence_backwards_too,
        broken.centres_over_time,
        broken.sees_the_next_step,
    ],
    accepts=CAUSAL,
)
def future_steps_leave_the_past(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """What comes after step t changes no output up to t.

    Later steps are drawn anew; the outputs up to t stay, within rounding, and their gradient of
    later steps is exactly 0.
    """
    made = Recurrence.of(subject, case)
    made.must_have_steps(2)
    x, state = made.inputs
    cut = made.random(1, made.length, "cut")
    past, future = slice(0, cut), slice(cut, None)
    leaf = x.clone().requires_grad_()
    y = made.steps(made(leaf, state)[0], past)
    z = torch.randn(y.shape, generator=case.generator("gradient"), dtype=torch.float64)
    (found,) = guarded(torch.autograd.grad, y, [leaf], z.to(y))
    other = made.steps(10 * made.drawn("future")[0], future)
    moved = torch.cat((made.steps(x, past), other), made.time or 0)
    yield agreement(
        f"output up to step {cut - 1}, after later steps were drawn anew",
        made.steps(made(moved, state)[0], past),
        y,
        made.steps(made.room(x, state)[0], past),
    )
    yield Evidence(
        error=largest_of(made.steps(found, future)),
        bound=0.0,
        signal=largest_of(found),
        what="gradient of later steps",
    )


@check(
    kind="recurrent",
    dtypes=["float64", "float32"],
    regimes=["normal", "small"],
    rejects=[broken.cuts_the_gradient_of_the_state, broken.cuts_the_gradient_between_steps],
    accepts=CAUSAL,
)
def gradient_reaches_the_first_step(subject: Implementation, case: Case) -> Evidence:
    """What moves the last output has a gradient of it: the first step, and the state before it.

    Each is moved by 10⁻³ in a random direction; where that moves the output of the last step by
    more than √u of its size, a gradient of exactly 0 means that the graph was cut. Of nine steps
    at most, and not of inputs that `stop_gradient` names.
    """
    made = Recurrence.of(subject, case)
    x, state = made.inputs
    if made.time is not None:
        x = made.steps(x, slice(0, _LONG))
    leaves = {made.x: x.clone().requires_grad_()}
    leaves |= {
        n: s.clone().requires_grad_() for n, s in zip(made.state_names, state or (), strict=False)
    }
    y = _last(made, leaves.values())
    if not y.requires_grad:
        raise NotApplicable("its output has no gradient")
    z = torch.randn(y.shape, generator=case.generator("gradient"), dtype=torch.float64).to(y)
    found = guarded(torch.autograd.grad, y, list(leaves.values()), z, allow_unused=True)
    stopped = subject.options.get("stop_gradient", ())
    cut, judged = [], 0
    for name, gradient in zip(leaves, found, strict=True):
        if name in stopped or not _moves(made, leaves, name, y.detach()):
            continue
        judged += 1
        if gradient is None or not bool(_early(made, gradient, name).any()):
            cut.append(name)
    if not judged:
        raise NotApplicable("neither the first step nor the state moves the last output")
    return Evidence(
        error=float(len(cut)),
        bound=0.0,
        signal=float(judged),
        unit="inputs",
        what="inputs that move the last output without a gradient",
        got=", ".join(cut),
        where=f"{1 if made.time is None else x.shape[made.time]} steps",
    )


def _last(made: Recurrence, given: Any) -> Tensor:
    """The output of the last step."""
    x, *state = given
    y, _ = made(x, tuple(state) or None)
    return y if made.time is None else made.steps(y, slice(-1, None))


def _early(made: Recurrence, gradient: Tensor, name: str) -> Tensor:
    if name != made.x or made.time is None:
        return gradient
    return made.steps(gradient, slice(0, 1))


def _moves(made: Recurrence, leaves: dict[str, Tensor], name: str, y: Tensor) -> bool:
    """Does the first step, or a state, move the last output?"""
    given = {key: leaf.detach() for key, leaf in leaves.items()}
    moved = given[name].clone()
    part = _early(made, moved, name)  # a view
    z = torch.randn(part.shape, generator=made.case.generator(name), dtype=torch.float64)
    part.add_((1e-3 * z).to(part))
    with torch.no_grad():
        gap = (_last(made, {**given, name: moved}.values()) - y).abs()
    eps: float = torch.finfo(y.dtype).eps
    return largest_of(gap) > math.sqrt(eps) * largest_of(y)


@check(
    kind="recurrent",
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "small"],
    rejects=[broken.remembers_the_last_call, broken.overwrites_the_state_it_was_given],
    accepts=CAUSAL,
)
def calls_share_no_state(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A call depends on its own x and state, not on earlier calls, and leaves its state as it was.

    The same call before and after another one gives the same numbers, within rounding; the
    tensors of the state that was given are the same, exactly.
    """
    made = Recurrence.of(subject, case)
    x, state = made.inputs
    given = None if state is None else tuple(s.clone() for s in state)
    before = [t.detach().clone() for t in made.flat(x, given)]
    for kept, old in zip(given or (), state or (), strict=True):
        yield Evidence(
            error=float((kept != old).sum()),
            bound=0.0,
            signal=float(old.numel()),
            unit="elements",
            what="changed elements of the state that was given",
        )
    made(*made.drawn("another call"))
    yield from both_agree("after another call", made.flat(x, state), before, made.room(x, state))


@check(
    kind="recurrent",
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "small"],
    rejects=[broken.begins_at_one],
    accepts=CAUSAL,
)
def no_state_is_a_zero_state(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Without a state the network starts from zeros.

    Outputs and state with the state left out are those with zeros, within rounding. Not judged
    where the state may not be left out, or where it is learned: then a parameter has a gradient
    only if the state is left out.
    """
    made = Recurrence.of(subject, case)
    x, state = made.inputs
    if state is None or not accepts_no_state(made):
        raise NotApplicable("its state is no input that may be left out")
    zeros = tuple(torch.zeros_like(s) for s in state)
    if _used(made, x, None) - _used(made, x, zeros):
        raise NotApplicable("its first state is learned")
    room = made.room(x, zeros)
    yield from both_agree("without a state", made.flat(x, None), made.flat(x, zeros), room)


def _used(made: Recurrence, x: Tensor, state: Sequence[Tensor] | None) -> set[str]:
    """The parameters that the output depends on."""
    parameters = made.subject.parameters
    y, _ = made(x, state)
    if not parameters or not y.requires_grad:
        return set()
    found = guarded(torch.autograd.grad, y.sum(), list(parameters.values()), allow_unused=True)
    return {name for name, g in zip(parameters, found, strict=True) if g is not None}
