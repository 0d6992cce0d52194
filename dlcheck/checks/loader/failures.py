"""What goes wrong in a data set is heard of, and what cannot be done is refused."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import Dataset, get_worker_info

from dlcheck.checks.loader.epochs import PATIENCE, copied, data_set, joint_keys, keeps_all
from dlcheck.checks.loader.shards_and_workers import DATA_LOADER
from dlcheck.errors import SubjectError, SubjectRaised, TrialTimeout
from dlcheck.isolation import guarded, time_limit
from dlcheck.model import Evidence, Mutant
from dlcheck.mutants import rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROWS, _BATCH, _BAD, _WORKERS = 12, 3, 7, 2


class Broken(Dataset):  # type: ignore[type-arg]
    """A data set of which one row cannot be read."""

    def __init__(self, dataset: Any, breaks: Callable[[], None]) -> None:
        self.dataset = dataset
        self.breaks = breaks

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if index == _BAD:
            self.breaks()
        return self.dataset[index]


def _raise() -> None:
    raise OSError("row 7 of the data set cannot be read (made by dlcheck)")


def _die() -> None:
    if get_worker_info() is not None:
        os._exit(1)
    _raise()


class _Swallowing:
    def __init__(self, loader: Any, instead: str) -> None:
        self.loader = loader
        self.instead = instead

    def __iter__(self) -> Iterator[Any]:
        batches, last = iter(self.loader), None
        while True:
            try:
                last = next(batches)
            except StopIteration:
                return
            except Exception:
                if self.instead == "stop":
                    return
                if self.instead == "repeat" and last is not None:
                    yield last
                try:
                    batches = iter([])
                except TypeError:
                    return
            else:
                yield last


def _swallowing(name: str, instead: str) -> Mutant:
    return rebuilt(name, lambda factory: lambda *a, **b: _Swallowing(factory(*a, **b), instead))


class _Skipping(Dataset):  # type: ignore[type-arg]
    """Another row in the place of one that cannot be read."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except OSError:
            return self.dataset[0]


takes_another_row = rebuilt(
    "takes_another_row", lambda factory: lambda dataset, **b: factory(_Skipping(dataset), **b)
)


@check(
    kind="loader",
    forbids={"endless", "with_replacement", "skips_bad_rows"},
    rejects=[
        _swallowing("ends_the_epoch_at_an_error", "stop"),
        _swallowing("leaves_out_what_raises", "skip"),
        _swallowing("repeats_the_batch_before", "repeat"),
        takes_another_row,
    ],
    accepts=[DATA_LOADER],
    once=True,
)
def errors_of_rows_come_through(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A row that cannot be read raises; no batch is lost in silence, and nothing waits for ever.

    One of 12 rows raises an OSError. Where `workers` names the argument, then also the worker
    process that reads the row dies, and 30 seconds are allowed. Counted: epochs that ended as if
    nothing had been. Exact: the bound is 0.
    Source: an error must not pass silently: every row is read once or the epoch fails.
    """
    dataset, given = data_set(subject, case, _ROWS), keeps_all(subject)
    workers = subject.options.get("workers")
    settings: list[tuple[str, Callable[[], None], dict[str, Any]]] = [
        ("a row that raises", _raise, dict(given))
    ]
    if isinstance(workers, str):
        settings.append(("a row that raises in a worker", _raise, {**given, workers: _WORKERS}))
        settings.append(("a worker that dies", _die, {**given, workers: _WORKERS}))
    for what, breaks, keywords in settings:
        rows, silent = _rows_read(subject, Broken(dataset, breaks), what, keywords)
        yield Evidence(
            error=float(silent),
            bound=0.0,
            signal=1.0,
            unit="epochs",
            what=f"epochs that ended in silence over {what}",
            expected="an exception",
            got=f"{rows} of {len(joint_keys(dataset.tensors))} rows, and no exception",
        )


def _rows_read(
    subject: Implementation, dataset: Broken, what: str, keywords: dict[str, Any]
) -> tuple[int, bool]:
    """(rows that came, did the epoch end as if nothing had been)."""

    def read() -> int:
        loader = subject(dataset, batch_size=_BATCH, **keywords)
        return sum(1 for _ in copied(loader))

    try:
        with time_limit(PATIENCE):
            batches = guarded(read)
    except SubjectRaised:
        return 0, False
    except TrialTimeout:
        raise SubjectError(
            f"{subject.declared.name} neither raised nor ended within {PATIENCE:g} s over {what}: "
            "it waits for what will not come"
        ) from None
    finally:
        gc.collect()  # a dead iterator that is still held is forked into the next workers
    return batches * _BATCH, True


def _mended(name: str, mend: Callable[[int], int]) -> Mutant:
    def altered(factory: Any) -> Any:
        return lambda dataset, *, batch_size, **b: factory(
            dataset, batch_size=mend(batch_size), **b
        )

    return rebuilt(name, altered)


class _Nothing:
    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _empty(factory: Any) -> Any:
    return lambda dataset, *, batch_size, **b: (
        factory(dataset, batch_size=batch_size, **b) if batch_size > 0 else _Nothing()
    )


yields_nothing = rebuilt("yields_nothing_for_a_batch_of_0", _empty)


@check(
    kind="loader",
    needs={"validates"},
    rejects=[
        _mended("takes_the_absolute_value", lambda size: abs(size) or 1),
        _mended("takes_at_least_one", lambda size: max(size, 1)),
        yields_nothing,
        _mended("takes_0_for_everything", lambda size: size if size > 0 else 1000),
    ],
    accepts=[DATA_LOADER],
    once=True,
)
def refuses_empty_batches(subject: Implementation, case: Case) -> Evidence:
    """A batch size of 0 or less is refused: when the loader is made, or when it is first read.

    Sizes 0, −1 and −3 of 12 rows. Counted: sizes that were taken. Exact: the bound is 0.
    Source: a batch holds at least one row; the trait `validates` promises to say so.
    """
    dataset, given = data_set(subject, case, _ROWS), keeps_all(subject)
    taken = []
    for size in (0, -1, -3):
        try:
            loader = subject(dataset, batch_size=size, **given)
            guarded(lambda loader=loader: next(iter(loader), None))
        except SubjectRaised:
            continue
        taken.append(size)
    return Evidence(
        error=float(len(taken)),
        bound=0.0,
        signal=3.0,
        unit="batch sizes",
        what="batch sizes that are no size and were taken",
        got=", ".join(map(str, taken)),
    )
