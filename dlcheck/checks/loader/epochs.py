"""What a loader yields, read back: epochs as lists of batches, rows as keys that can be compared.

A row is known by its bytes, with dtype and shape, so that it is told from its neighbours without
an index column, which would make the data set another one than was declared.
"""

from __future__ import annotations

import itertools
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from dlcheck.checks.loader.ragged import DataSet, Rows, pad_of, widened
from dlcheck.errors import NotApplicable, SubjectError, SubjectRaised, TrialTimeout
from dlcheck.isolation import time_limit
from dlcheck.model import NOTHING
from dlcheck.strategies import Case, materialize, stream_seed
from dlcheck.subjects import Implementation, guarded

Batch = tuple[Tensor, ...]
Key = tuple[Any, ...]
PATIENCE = 30.0  # seconds for a pass, which takes a fraction of one


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass: its batches, each a tuple of columns, and `len(loader)` where it has one."""

    batches: tuple[Batch, ...]
    promised: int | None

    @property
    def sizes(self) -> list[int]:
        """Rows of every batch."""
        return [len(batch[0]) for batch in self.batches]

    def column(self, index: int) -> list[Key]:
        """The keys of one column, row by row."""
        return [key for batch in self.batches for key in keys(batch[index])]

    @property
    def rows(self) -> list[Key]:
        """The keys of the rows, all columns together."""
        return [row for batch in self.batches for row in joint_keys(batch)]


def keys(column: Tensor) -> list[Key]:
    """One key a row: equal where dtype, shape and every bit are."""
    # A copy: a tensor of one element counts as contiguous whatever its stride, and is no bytes.
    flat = column.detach().cpu().clone(memory_format=torch.contiguous_format)
    width = flat[:1].numel() * flat.element_size()
    raw = flat.reshape(-1).view(torch.uint8).numpy() if width else np.zeros(0, np.uint8)
    kind = (str(column.dtype), tuple(column.shape[1:]))
    return [(*kind, raw[i * width : (i + 1) * width].tobytes()) for i in range(len(column))]


def joint_keys(columns: Sequence[Tensor]) -> list[Key]:
    """One key a row over all columns."""
    return list(zip(*(keys(column) for column in columns), strict=True))


def data_set(subject: Implementation, case: Case, rows: int | None = None) -> DataSet:
    """The declared columns as a map-style data set on the CPU; `rows` changes how many."""
    first = next(iter(case.specs.values()))
    inputs, recipe = case.inputs, case.recipe
    if rows is not None:
        if not first.dims or not first.dims[0].name:
            raise NotApplicable("the number of rows is fixed; name the first dim of the inputs")
        recipe = replace(recipe, sizes={**case.sizes, first.dims[0].name: rows})
        inputs = materialize(recipe, case.specs, case.device, case.dtype)
    columns = [tensor.detach().cpu().clone() for tensor in inputs.values()]
    if len({len(column) for column in columns}) != 1:
        raise NotApplicable("the declared columns differ in their number of rows")
    form = subject.options.get("rows", "tuple")
    if form == "tuple" and not any(dim.ragged for spec in case.specs.values() for dim in spec.dims):
        return TensorDataset(*columns)
    pads = {name: pad_of(subject, name) for name in inputs}
    named = dict(zip(inputs, columns, strict=True))
    return Rows.of(named, case.specs, recipe.seed, form, pads)


def epochs(
    subject: Implementation,
    dataset: Any,
    batch_size: int,
    count: int,
    given: Mapping[str, Any] = NOTHING,
) -> list[Epoch]:
    """`count` passes over one loader; a generator, which is spent after a pass, is made anew.

    given: further arguments of the loader.

    Where the order is fixed by a declared seed, a generator made anew gets the next one.
    """
    return list(iterate_epochs(subject, dataset, batch_size, count, given))


def iterate_epochs(
    subject: Implementation,
    dataset: Any,
    batch_size: int,
    count: int,
    given: Mapping[str, Any] = NOTHING,
) -> Iterator[Epoch]:
    """As `epochs`, one at a time."""
    loader = subject(dataset, batch_size=batch_size, **given)
    seed = subject.options.get("seed")
    most = (2 if "endless" in subject.traits else 4) * -(-len(dataset) // batch_size) + 8
    for epoch in range(count):
        if epoch and isinstance(loader, (types.GeneratorType, map, filter, zip)):
            fresh = {seed: given.get(seed, 0) + epoch} if isinstance(seed, str) else {}
            loader = subject(dataset, batch_size=batch_size, **{**given, **fresh})
        promised = _promised(loader)
        batches = within_patience(loader, most, batch_size)
        columns = [columns_of(batch, dataset, subject) for batch in batches]
        yield Epoch(tuple(columns), promised)


def _promised(loader: Any) -> int | None:
    """`len(loader)`; None where it has none, as a DataLoader of an IterableDataset."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None
    except Exception as error:
        raise SubjectRaised(f"{type(error).__name__}: {error}") from error


def batches_of(
    loader: Any, dataset: DataSet, subject: Implementation, most: int
) -> Iterator[Batch]:
    """The first batches of one pass, as columns."""
    batches = within_patience(loader, most)
    return (columns_of(batch, dataset, subject) for batch in batches)


def within_patience(loader: Any, most: int, batch_size: int | None = None) -> list[Any]:
    """The first batches of a pass. Raises TrialTimeout where they do not come."""
    try:
        with time_limit(PATIENCE):
            return guarded(  # type: ignore[no-any-return]
                lambda: list(itertools.islice(copied(loader), most))
            )
    except TrialTimeout:
        size = "" if batch_size is None else f" in batches of {batch_size}"
        raise TrialTimeout(
            f"the loader neither gave {most} batches{size} nor ended within {PATIENCE:g} s: it "
            "waits for what will not come, or makes none of what it reads"
        ) from None


def copied(loader: Any) -> Iterator[Any]:
    """The batches, each copied before the next is asked for: a loader may reuse its memory."""
    for batch in loader:
        yield copy_of(batch)


def copy_of(batch: Any) -> Any:
    """The batch with its own memory: arrays as tensors, tuples as lists."""
    if isinstance(batch, Tensor):
        return batch.detach().clone()
    if isinstance(batch, np.ndarray):
        return torch.from_numpy(batch.copy())
    if isinstance(batch, Mapping):
        return {name: copy_of(part) for name, part in batch.items()}
    if isinstance(batch, (tuple, list)):
        return [copy_of(part) for part in batch]
    return batch


def columns_of(batch: Any, dataset: DataSet, subject: Implementation) -> Batch:
    """A batch as its columns, in the order of the data set's; ragged ones as wide as there."""
    names = list(subject.declared.inputs or subject.kind.inputs)
    wanted = len(dataset.tensors)
    parts = [batch] if isinstance(batch, Tensor) else batch
    if isinstance(parts, Mapping):
        chosen = names if set(names) <= set(parts) else list(parts)
        parts = [parts[name] for name in chosen]
    if isinstance(parts, list) and isinstance(dataset, Rows):
        parts = [
            widened(part, column, pad_of(subject, name)) if name in dataset.lengths else part
            for part, column, name in zip(parts, dataset.tensors, dataset.names, strict=False)
        ]
    fits = (
        isinstance(parts, list)
        and len(parts) == wanted
        and all(isinstance(part, Tensor) and part.dim() > 0 for part in parts)
        and len({len(part) for part in parts}) == 1
    )
    if not fits:
        raise SubjectError(
            f"{subject.declared.name} yielded {_described(batch)}; a batch of this data set is "
            f"{wanted} tensor(s) whose first dim counts the rows"
        )
    return tuple(parts)


def _described(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"dict({', '.join(f'{name}: {_described(part)}' for name, part in batch.items())})"
    if isinstance(batch, (list, tuple)):
        return f"{type(batch).__name__}({', '.join(_described(part) for part in batch)})"
    shape = f" {list(batch.shape)}" if isinstance(batch, Tensor) else ""
    return f"{type(batch).__name__}{shape}"


def batch_sizes(rows: int) -> list[int]:
    """Batch sizes where counting goes wrong: 1, divisors and their neighbours, N and past it."""
    return sorted({1, 2, 3, max(rows // 2, 1), max(rows - 1, 1), max(rows, 1), rows + 1})


def drop_last_settings(subject: Implementation) -> list[tuple[bool, dict[str, Any]]]:
    """(does it drop the short last batch, with which keywords): both where an argument says so.

    Undeclared means that every row comes.
    """
    option = subject.options.get("drop_last", False)
    if isinstance(option, str):
        return [(False, {option: False}), (True, {option: True})]
    return [(bool(option), {})]


def keeps_all(subject: Implementation) -> dict[str, Any]:
    """Keywords under which the short last batch is kept, where an argument says so."""
    return drop_last_settings(subject)[0][1]


def difference(found: Sequence[Key], wanted: Sequence[Key]) -> tuple[int, int]:
    """(rows missing, rows too many), as multisets."""
    have, want = Counter(found), Counter(wanted)
    return sum((want - have).values()), sum((have - want).values())


def seed_of(case: Case, salt: str) -> int:
    """A seed below 2³¹ for an argument of the subject."""
    return stream_seed(case.recipe.seed, salt) % 2**31
