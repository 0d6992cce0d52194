"""What a step keeps for its backward grows with the batch, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.training.batches_of_digits import Workload, workloads
from dlcheck.measure.memory import SavedBytes, saved_for_backward
from dlcheck.model import Evidence, Figure, Mutant
from dlcheck.mutants import instead
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_SIZES = (2, 3, 8, 32, 128, 512)
_STEPS, _BATCH = 4, 8
Loss = Callable[[Tensor, Tensor], Tensor]


def looped(step: Callable[[nn.Module, Any, Loss, Tensor, Tensor, list[Tensor]], None]) -> Mutant:
    """A mutant whose loop calls `step(model, optimizer, loss, x, y, kept)` on every batch."""

    def train(
        model: nn.Module,
        loader: Any,
        optimizer: Any,
        loss: Loss,
        *,
        accumulate: int = 1,
        epochs: int = 1,
    ) -> None:
        kept: list[Tensor] = []  # lives as long as the loop
        for _ in range(epochs):
            for x, y in loader:
                step(model, optimizer, loss, x, y, kept)

    train.__name__ = step.__name__
    return instead(train)


def _descend(optimizer: Any, value: Tensor, **how: bool) -> None:
    optimizer.zero_grad()
    value.backward(**how)
    optimizer.step()


@looped
def truncates_the_batch(
    model: nn.Module, optimizer: Any, loss: Loss, x: Tensor, y: Tensor, kept: list[Tensor]
) -> None:
    _descend(optimizer, loss(model(x[:64]), y[:64]))


@looped
def cuts_the_batch_in_pieces(
    model: nn.Module, optimizer: Any, loss: Loss, x: Tensor, y: Tensor, kept: list[Tensor]
) -> None:
    optimizer.zero_grad()
    for piece, target in zip(x.split(16), y.split(16), strict=True):
        (loss(model(piece), target) * len(piece) / len(x)).backward()
    optimizer.step()


@looped
def goes_through_rows_one_by_one(
    model: nn.Module, optimizer: Any, loss: Loss, x: Tensor, y: Tensor, kept: list[Tensor]
) -> None:
    optimizer.zero_grad()
    for row, target in zip(x.split(1), y.split(1), strict=True):
        (loss(model(row), target) / len(x)).backward()
    optimizer.step()


@looped
def trains_on_the_first_row_only(
    model: nn.Module, optimizer: Any, loss: Loss, x: Tensor, y: Tensor, kept: list[Tensor]
) -> None:
    _descend(optimizer, loss(model(x[:1]), y[:1]))


@looped
def compares_every_row_with_every_other(
    model: nn.Module, optimizer: Any, loss: Loss, x: Tensor, y: Tensor, kept: list[Tensor]
) -> None:
    answer = model(x)
    pull = (answer[:, None] - answer[None]).square().mean()
    _descend(optimizer, loss(answer, y) + 0.01 * pull)


@check(
    kind="training",
    forbids={"micro_batches", "plain_sequential"},
    rejects=[
        truncates_the_batch,
        cuts_the_batch_in_pieces,
        goes_through_rows_one_by_one,
        trains_on_the_first_row_only,
        compares_every_row_with_every_other,
    ],
    once=True,
    textbook={
        "id": "B5",
        "says": "Too big a batch does not fit into memory",
        "verdict": "true",
    },
)
def memory_grows_with_the_batch(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The bytes that a step saves for its backward are a + bB, to the byte, and b is positive.

    The most that live graphs hold at one time while the loop trains one batch of B = 2 … 512
    rows; shared memory counts once, parameters not at all. Every saved tensor has B rows or none,
    so the count is affine in B: it may leave the line through its ends by 0 bytes. b is at least
    a byte for each input of a row, since ∂L/∂W = δxᵀ needs x.
    Source: Rumelhart et al. 1986 (backward uses the forward's values); TEXTBOOK B5.
    """
    torch.set_num_threads(1)  # small layers gain nothing from more
    for load in workloads(subject, case):
        saved = {size: _peak(subject, load, size, 1) for size in _SIZES}
        low, high = _SIZES[0], _SIZES[-1]
        rise = saved[high] - saved[low]
        # (s(B) − s(low)) / (B − low) = rise / (high − low), without a division
        off = {
            size: abs((s - saved[low]) * (high - low) - rise * (size - low)) / (high - low)
            for size, s in saved.items()
        }
        worst = max(off, key=lambda size: off[size])
        slope, features = rise / (high - low), load.rows(1)[0].numel()
        least = float(features) if load.name != "declared" else 1.0
        yield Evidence(
            error=off[worst],
            bound=0.0,
            signal=float(max(saved.values())),
            unit="bytes",
            what=f"distance of the saved bytes from a line ({load.name})",
            where=f"B = {worst}: {saved[worst]} bytes" if off[worst] else "",
            cause="the loop does not take the batch as a whole" if off[worst] else "",
            values={"bytes a row": slope, "bytes without rows": saved[low] - low * slope},
            figures=(_figure(load, saved, slope),),
        )
        yield Evidence(
            error=max(0.0, least - slope),
            bound=0.0,
            signal=least,
            unit="bytes a row",
            what=f"missing from what a row must leave for the backward ({load.name})",
            expected=f"at least {least:g}",
            got=f"{slope:g}",
        )


def _peak(train: Implementation, load: Workload, size: int, batches: int, epochs: int = 1) -> int:
    model, call = load.prepared(train, size, batches, epochs)
    return saved_for_backward(model, call).peak


def _figure(load: Workload, saved: dict[int, int], slope: float) -> Figure:
    start = saved[_SIZES[0]] - _SIZES[0] * slope
    return Figure(
        title=f"Bytes saved for backward ({load.name})",
        x="batch size B",
        y="bytes",
        series={
            "measured": [(float(size), float(count)) for size, count in saved.items()],
            f"{start:.0f} + {slope:.0f} B": [(float(b), start + slope * b) for b in saved],
        },
        log_x=True,
        log_y=True,
        marks=("measured",),
    )


@looped
def keeps_every_graph(
    model: nn.Module, optimizer: Any, loss: Loss, x: Tensor, y: Tensor, kept: list[Tensor]
) -> None:
    kept.append(loss(model(x), y))
    _descend(optimizer, kept[-1], retain_graph=True)


@looped
def sums_losses_that_it_never_differentiates(
    model: nn.Module, optimizer: Any, loss: Loss, x: Tensor, y: Tensor, kept: list[Tensor]
) -> None:
    _descend(optimizer, loss(model(x), y))
    kept.append(loss(model(x), y))  # a curve of training, outside no_grad


@looped
def collects_outputs_of_a_second_forward(
    model: nn.Module, optimizer: Any, loss: Loss, x: Tensor, y: Tensor, kept: list[Tensor]
) -> None:
    kept.append(torch.softmax(model(x), -1))
    _descend(optimizer, loss(model(x), y))


@check(
    kind="training",
    forbids={"plain_sequential"},
    rejects=[
        keeps_every_graph,
        sums_losses_that_it_never_differentiates,
        collects_outputs_of_a_second_forward,
    ],
    once=True,
)
def memory_does_not_grow_with_the_steps(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Eight steps hold no more for their backward than one, and nothing when they are done.

    The most bytes that live graphs hold during two epochs of four batches of 8 rows, against one
    batch; and what they hold after the loop. A graph that has been differentiated, or is not
    going to be, has nothing to keep. Exact: the bound is 0.
    Source: PyTorch FAQ, "Don't accumulate history across your training loop"; TEXTBOOK B5.
    """
    torch.set_num_threads(1)  # small layers gain nothing from more
    for load in workloads(subject, case):
        one = _peak(subject, load, _BATCH, 1)
        meter = _meter(subject, load)
        yield Evidence(
            error=float(max(0, meter.peak - one)),
            bound=0.0,
            signal=float(one),
            unit="bytes",
            what=f"held beyond what one step needs ({load.name})",
            got=f"{meter.peak} bytes in {2 * _STEPS} steps, {one} in one",
            cause="graphs of earlier steps are kept" if meter.peak > one else "",
        )
        yield Evidence(
            error=float(meter.now),
            bound=0.0,
            signal=float(one),
            unit="bytes",
            what=f"held after the last step ({load.name})",
        )


def _meter(train: Implementation, load: Workload) -> SavedBytes:
    model, call = load.prepared(train, _BATCH, _STEPS, epochs=2)
    return saved_for_backward(model, call)
