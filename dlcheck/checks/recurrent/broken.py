"""Recurrent networks as people get them wrong: each breaks any module m(x, state, *further)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from dlcheck.mutants import Around, around, on_tensors, rebuilt

Call = Callable[..., Any]


def _with_state(answer: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The answer (y, state) with its state changed."""
    if isinstance(answer, Tensor):
        return change(answer)
    return (answer[0], on_tensors(answer[1], change))


def _with_output(answer: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(answer, Tensor):
        return change(answer)
    return (change(answer[0]), *answer[1:])


@around
def returns_the_state_it_was_given(original: Call, x: Tensor, *state: Any) -> Any:
    answer = original(x, *state)
    if not state or state[0] is None:
        return _with_state(answer, torch.zeros_like)
    return (answer[0], state[0])


@around
def returns_the_state_of_the_first_step(original: Call, x: Tensor, *state: Any) -> Any:
    return (original(x, *state)[0], original(x[:1], *state)[1])


@around
def ignores_its_state(original: Call, x: Tensor, *state: Any) -> Any:
    return original(x, *(on_tensors(s, torch.zeros_like) for s in state))


@around
def mixes_states_of_the_batch(original: Call, x: Tensor, *state: Any) -> Any:
    """A reshape where a transpose is due."""
    return _with_state(original(x, *state), lambda s: s.mT.reshape(s.shape))


@around
def mixes_rows_of_the_batch(original: Call, x: Tensor, *state: Any) -> Any:
    return _with_output(original(x, *state), lambda y: y + 0.1 * y.roll(1, -2))


@around
def shares_the_state_of_the_first_row(original: Call, x: Tensor, *state: Any) -> Any:
    def first(s: Tensor) -> Tensor:
        return s[..., :1, :].expand(s.shape).clone()

    return original(x, *(on_tensors(s, first) for s in state))


@around
def takes_time_for_the_batch(original: Call, x: Tensor, *state: Any) -> Any:
    """batch_first mixed up: every row begins where the one before it ended."""
    y, after = original(x, *state)
    return y + 0.1 * y.cumsum(1), after


@around
def reads_the_sequence_backwards_too(original: Call, x: Tensor, *state: Any) -> Any:
    """Bidirectional, declared causal."""
    backwards = original(x.flip(0), *state)[0].flip(0)
    return _with_output(original(x, *state), lambda y: y + backwards)


@around
def centres_over_time(original: Call, x: Tensor, *state: Any) -> Any:
    return _with_output(original(x, *state), lambda y: y - y.mean(0, keepdim=True))


@around
def sees_the_next_step(original: Call, x: Tensor, *state: Any) -> Any:
    return original(x.roll(-1, 0), *state)


@around
def begins_at_one(original: Call, x: Tensor, *state: Any) -> Any:
    """Without a state it starts from another than with zeros."""
    answer = original(x, *state)
    if state and state[0] is not None:
        return answer
    ones = on_tensors(answer if isinstance(answer, Tensor) else answer[1], torch.ones_like)
    return original(x, ones)


@around
def overwrites_the_state_it_was_given(original: Call, x: Tensor, *state: Any) -> Any:
    answer = original(x, *state)
    after = answer if isinstance(answer, Tensor) else answer[1]
    with torch.no_grad():
        for old, new in zip(_tensors(state), _tensors(after), strict=False):
            old.copy_(new)
    return answer


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for part in value if part is not None for t in _tensors(part)]


def _keeps(module: Any) -> Any:
    """Its last state lives on and is mixed into the next call."""
    last: list[Any] = []

    def call(original: Call, x: Tensor, *state: Any) -> Any:
        answer = original(x, *state)
        kept = last[-1] if last else 0.0
        last[:] = [float(x.detach().double().mean())]
        return _with_output(answer, lambda y: y + 0.1 * kept)

    return Around(module, call)


remembers_the_last_call = rebuilt("remembers_the_last_call", _keeps)


@around
def cuts_the_gradient_of_the_state(original: Call, x: Tensor, *state: Any) -> Any:
    return original(x, *(on_tensors(s, Tensor.detach) for s in state))


@around
def cuts_the_gradient_between_steps(original: Call, x: Tensor, *state: Any) -> Any:
    """The state is detached at every step, as truncated backpropagation does between chunks."""
    outputs, carried = [], state
    for step in x.split(1):
        y, after = original(step, *carried)
        outputs.append(y)
        carried = (on_tensors(after, Tensor.detach),)
    return torch.cat(outputs), after


# --- resets and lengths -----------------------------------------------------------------------


@around
def ignores_its_reset(original: Call, x: Tensor, state: Any, reset: Tensor) -> Any:
    return original(x, state, torch.zeros_like(reset))


@around
def resets_unless_told(original: Call, x: Tensor, state: Any, reset: Tensor) -> Any:
    return original(x, state, ~reset)


@around
def resets_every_row(original: Call, x: Tensor, state: Any, reset: Tensor) -> Any:
    return original(x, state, reset.any(-1, keepdim=True).expand(reset.shape))


@around
def resets_at_the_first_step_only(original: Call, x: Tensor, state: Any, reset: Tensor) -> Any:
    first = torch.arange(len(reset), device=reset.device)[:, None] == 0
    return original(x, state, reset & first)


@around
def ignores_its_lengths(original: Call, x: Tensor, state: Any, lengths: Tensor) -> Any:
    return original(x, state, torch.full_like(lengths, x.shape[0]))


@around
def counts_one_step_too_many(original: Call, x: Tensor, state: Any, lengths: Tensor) -> Any:
    return original(x, state, (lengths + 1).clamp_max(x.shape[0]))


@around
def runs_over_the_padding(original: Call, x: Any, *state: Any) -> Any:
    """Unpacks, runs every row to the longest one's end, and packs again."""
    if not isinstance(x, PackedSequence):
        return original(x, *state)
    padded, lengths = pad_packed_sequence(x)
    y, after = original(padded, *state)
    return pack_padded_sequence(y, lengths, enforce_sorted=False), after
