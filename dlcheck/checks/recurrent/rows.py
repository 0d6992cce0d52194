"""Rows of a batch have their own states, resets and lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlcheck.checks.agreement import agreement
from dlcheck.checks.recurrent import broken
from dlcheck.checks.recurrent.calls import Recurrence, both_agree
from dlcheck.checks.recurrent.steps import CAUSAL
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


class _RestartingGRU(nn.Module):
    """A GRU whose state of row b restarts from zeros before step t where reset[t, b]."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(input_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        outputs = []
        for step, restart in zip(x, reset, strict=True):
            h = self.cell(step, h.masked_fill(restart[:, None], 0.0))
            outputs.append(h)
        return torch.stack(outputs), h


class _GRUWithLengths(nn.Module):
    """A GRU over rows of their own lengths; outputs after the end of a row are 0."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
        y, h = self.gru(packed, h)
        return pad_packed_sequence(y, total_length=x.shape[0])[0], h


_SIZE = {"input_size": {"dim": "i"}, "hidden_size": {"dim": "n"}}
CELLS = [
    Subject(
        name=name,
        target=target,
        kind="recurrent",
        args=_SIZE,
        inputs=inputs,
        options={"state": [*inputs][1:]},
    )
    for name, target, inputs in (
        ("torch_gru_cell", nn.GRUCell, {"x": "float b i", "h": "float b n"}),
        ("torch_lstm_cell", nn.LSTMCell, {"x": "float b i", "h": "float b n", "c": "float b n"}),
    )
]
RESTARTING = Subject(
    name="restarting_gru",
    target=_RestartingGRU,
    kind="recurrent",
    args=_SIZE,
    inputs={"x": "float t b i", "h": "float b n", "reset": "bool t b"},
    traits=frozenset({"causal"}),
    options={"state": "h", "reset": "reset"},
)
WITH_LENGTHS = Subject(
    name="gru_with_lengths",
    target=_GRUWithLengths,
    kind="recurrent",
    args=_SIZE,
    inputs={"x": "float 7 b i", "h": "float 1 b n", "lengths": "int[1:8] b"},
    traits=frozenset({"causal"}),
    options={"state": "h", "lengths": "lengths"},
)


def _without(x: Tensor, axis: int, row: int) -> Tensor:
    rest = [i for i in range(x.shape[axis]) if i != row]
    return x.index_select(axis, torch.tensor(rest, device=x.device))


def _replaced(x: Tensor, axis: int, row: int, other: Tensor) -> Tensor:
    out = x.clone()
    out.select(axis, row).copy_(other.select(axis, row))
    return out


@check(
    kind="recurrent",
    forbids={"batch_coupled_in_eval"},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "small"],
    rejects=[broken.mixes_states_of_the_batch, broken.mixes_rows_of_the_batch],
    accepts=[*CAUSAL, RESTARTING],
)
def recurrent_rows_are_independent(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Output and state of a row of the batch do not depend on the other rows.

    One row of x and of the state is drawn anew; the others stay, within rounding. A row alone
    gives what it gives in the batch.
    """
    made = Recurrence.of(subject, case)
    x, state = made.inputs
    if made.batch is None or x.shape[made.batch] < 2:
        raise NotApplicable("has one row")
    row = made.random(0, x.shape[made.batch], "row")
    other, others = made.drawn("row drawn anew")
    moved = _replaced(x, made.batch, row, 10 * other)
    states = state and tuple(
        _replaced(s, made.batch_of(s), row, o) for s, o in zip(state, others or (), strict=True)
    )

    def rest(tensors: Any) -> list[Tensor]:
        y, *after = tensors
        kept = [_without(y, made.batch or 0, row)]
        return kept + [_without(s, made.batch_of(s), row) for s in after]

    yield from both_agree(
        f"of the other rows, after row {row} was drawn anew",
        rest(made.flat(moved, states)),
        rest(made.flat(x, state)),
        rest(made.room(x, state)),
    )


@check(
    kind="recurrent",
    options={"reset": True},
    dtypes=["float64", "float32"],
    regimes=["normal", "constant"],
    rejects=[
        broken.ignores_its_reset,
        broken.resets_every_row,
        broken.resets_at_the_first_step_only,
        broken.resets_unless_told,
    ],
    accepts=[RESTARTING],
)
def a_reset_forgets_the_state(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """After a reset of a row its outputs ignore what was before it; other rows are not reset.

    Row r restarts at step t. Then its state and its steps before t are drawn anew: its outputs
    after t and its last state stay, within rounding, whether the state restarts before step t
    or after it. The other rows are as without a reset. With a reset at every step no output after
    the first depends on the state. A `bool` or number restarts where it is
    true, a `mask`, being of what to keep, where it is false.
    """
    made = Recurrence.of(subject, case)
    x, state = made.inputs
    timed, none = _no_reset(made)
    if state is None or made.batch is None or (timed and made.length < 2):
        raise NotApplicable("has no state, row or second step to be seen")
    row = made.random(0, x.shape[made.batch], "row")
    step = made.random(0, made.length - 1, "step") if timed else 0
    reset = _reset_at(made, none, row, step)
    other, others = made.drawn("before the reset")
    early = slice(0, step)
    if timed and step:
        other = torch.cat(
            (made.steps(other, early), made.steps(x, slice(step, None))), made.time or 0
        )
    moved = _replaced(x, made.batch, row, other if timed and step else x)
    states = tuple(
        _replaced(s, made.batch_of(s), row, o) for s, o in zip(state, others or (), strict=True)
    )
    name = str(subject.options["reset"])
    plain = made.flat(x, state, {name: reset})
    after = made.flat(moved, states, {name: reset})
    room = made.room(x, state)
    late = slice(step + 1, None) if timed else slice(None)

    def of_row(tensors: Any) -> list[Tensor]:
        y, *last = tensors
        y = y if made.time is None else made.steps(y, late)
        kept = [y.select(made.batch or 0, row)]
        return kept + [s.select(made.batch_of(s), row) for s in last]

    yield from both_agree(
        f"of row {row} after its reset at step {step}, its past drawn anew",
        of_row(after),
        of_row(plain),
        of_row(room),
    )
    later = slice(1, None) if timed else slice(None)
    drawn = made.drawn("state")[1]
    one, other = (made(x, s, {name: torch.logical_not(none).to(none)})[0] for s in (state, drawn))
    yield agreement(
        "outputs under a reset at every step, the state drawn anew",
        one if made.time is None else made.steps(one, later),
        other if made.time is None else made.steps(other, later),
        room[0] if made.time is None else made.steps(room[0], later),
    )
    if x.shape[made.batch] > 1:
        unreset = made.flat(x, state, {name: none})
        yield agreement(
            f"output of the rows that are not reset beside row {row}",
            _without(plain[0], made.batch, row),
            _without(unreset[0], made.batch, row),
            _without(room[0], made.batch, row),
        )


def _no_reset(made: Recurrence) -> tuple[bool, Tensor]:
    """Has the reset an axis of time? And the reset that restarts nothing."""
    name = str(made.subject.options["reset"])
    spec, own = made.case.specs[name], made.case.specs[made.x].dims
    names = [dim.name for dim in spec.dims]
    timed = made.time is not None and own[made.time].name in names and len(names) > 1
    value = made.case.inputs[name]
    kept = torch.ones_like(value) if spec.element == "mask" else torch.zeros_like(value)
    return timed, kept


def _reset_at(made: Recurrence, none: Tensor, row: int, step: int) -> Tensor:
    name = str(made.subject.options["reset"])
    own = made.case.specs[made.x].dims
    batch = own[made.batch or 0].name
    time = own[made.time].name if made.time is not None else ""
    index = [
        row if dim.name == batch else step if dim.name == time else slice(None)
        for dim in made.case.specs[name].dims
    ]
    out = none.clone()
    out[tuple(index)] = made.case.specs[name].element != "mask"
    return out


@check(
    kind="recurrent",
    options={"lengths": True},
    dtypes=["float64", "float32"],
    regimes=["normal"],
    rejects=[broken.ignores_its_lengths, broken.counts_one_step_too_many],
    accepts=[WITH_LENGTHS],
)
def padding_steps_change_nothing(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Steps after the end of a row change neither its outputs nor its last state.

    Each row up to its length; the steps after it are drawn anew. The last state is that after the
    last step of the row, so it stays too.
    """
    made = Recurrence.of(subject, case)
    x, state = made.inputs
    lengths = case.inputs[str(subject.options["lengths"])]
    if made.time is None or made.batch is None or bool((lengths >= made.length).all()):
        raise NotApplicable("no row is padded")
    inside = torch.arange(made.length, device=x.device) < lengths[:, None].to(x.device)  # [b, t]
    rows = inside if made.batch == 0 else inside.T
    rows = rows.reshape(*rows.shape, *([1] * (x.dim() - 2)))
    moved = torch.where(rows, x, 10 * made.drawn("padding")[0])
    plain, after = made.flat(x, state), made.flat(moved, state)
    room = made.room(x, state)

    def kept(tensors: Any) -> list[Tensor]:
        y, *last = tensors
        return [torch.where(rows.expand(y.shape), y, 0.0), *last]

    yield from both_agree("after the padding was drawn anew", kept(after), kept(plain), room)


@check(
    kind="recurrent",
    options={"packed": True},
    dtypes=["float64", "float32"],
    regimes=["normal"],
    rejects=[broken.runs_over_the_padding],
    accepts=[
        Subject(
            name="gru_of_packed",
            target=nn.GRU,
            kind="recurrent",
            args=_SIZE,
            inputs={"x": "float t b i", "h": "float 1 b n"},
            options={"batch_first": False, "state": "h", "packed": True},
        )
    ],
)
def packed_rows_are_rows_alone(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A row of a PackedSequence gives what the row alone gives, and so does its last state."""
    made = Recurrence.of(subject, case)
    x, state = made.inputs
    if made.time is None or made.batch is None or made.length < 2:
        raise NotApplicable("has no rows of different lengths")
    rows = x.shape[made.batch]
    drawn = torch.randint(1, made.length + 1, (rows,), generator=case.generator("lengths"))
    first = made.batch == 0
    packed = pack_padded_sequence(x, drawn, batch_first=first, enforce_sorted=False)
    answer, after = subject(packed, *([] if state is None else [made._packed(state)]))
    padded, _ = pad_packed_sequence(answer, batch_first=first)
    row = made.random(0, rows, "row")
    alone = made.steps(x.narrow(made.batch, row, 1), slice(0, int(drawn[row])))
    own = state and tuple(s.narrow(made.batch_of(s), row, 1) for s in state)
    expected = made.flat(alone, own)
    found = [made.steps(padded.narrow(made.batch, row, 1), slice(0, int(drawn[row])))]
    states = [after] if isinstance(after, Tensor) else list(after)
    found += [s.narrow(made.batch_of(s), row, 1) for s in states]
    yield from both_agree(f"of packed row {row}", found, expected, made.room(alone, own))
