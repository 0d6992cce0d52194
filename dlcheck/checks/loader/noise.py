"""Randomness in rows: fresh for every row of every epoch and worker, and fixed by the seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, TensorDataset, get_worker_info

from dlcheck.checks.loader.altered import Batches, batches_changed
from dlcheck.checks.loader.epochs import Key, data_set, epochs, keeps_all, seed_of
from dlcheck.checks.loader.ragged import DataSet, is_ragged
from dlcheck.checks.loader.shards_and_workers import DATA_LOADER
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROWS, _BATCH, _WORKERS, _PASSES = 12, 3, 2, 2


@batches_changed
def adds_one_noise_to_a_batch(batches: Batches, epoch: int) -> Batches:
    return [(b[0][:1].expand_as(b[0]).clone(), *b[1:]) for b in batches]


class _FirstEpochAgain:
    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.kept: list[Any] = []

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        self.kept = self.kept or list(self.loader)
        return iter(self.kept)


repeats_the_noise_of_the_first_epoch = rebuilt(
    "repeats_the_noise_of_the_first_epoch",
    lambda factory: lambda *a, **b: _FirstEpochAgain(factory(*a, **b)),
)


@batches_changed
def noise_ignores_the_seed(batches: Batches, epoch: int) -> Batches:
    return [(b[0] + torch.rand_like(b[0]), *b[1:]) for b in batches]


@batches_changed
def makes_no_noise(batches: Batches, epoch: int) -> Batches:
    return [(torch.ones_like(b[0]), *b[1:]) for b in batches]


@check(
    kind="loader",
    needs={"stochastic"},
    forbids={"repacks", "endless"},
    dtypes=["float64"],
    rejects=[
        adds_one_noise_to_a_batch,
        repeats_the_noise_of_the_first_epoch,
        noise_ignores_the_seed,
        makes_no_noise,
    ],
    once=True,
)
def noise_is_fresh(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Equal rows come out different, in every row, epoch and worker; and again with the seed.

    12 equal rows, two epochs, and with two workers where `workers` names them: no two of the 24
    rows that come may be equal in their floating columns, which float64 noise is with
    probability below 10⁻¹². A run with the same seeds must repeat them. Exact: the bound is 0.
    Source: Bishop, Training with Noise, 1995: noise is independent between presentations.
    """
    dataset = _equal_rows(data_set(subject, case, _ROWS))
    floating = [i for i, c in enumerate(dataset.tensors) if c.is_floating_point()]
    if not floating:
        raise NotApplicable("no declared column is floating: noise cannot be told from a label")

    def noise(given: Mapping[str, Any]) -> list[tuple[Key, ...]]:
        passes = epochs(subject, dataset, _BATCH, _PASSES, given)
        return [row for epoch in passes for row in zip(*map(epoch.column, floating), strict=True)]

    elsewhere = isinstance(subject.options.get("seed"), str)  # then the global streams are not it
    yield from _fresh_and_repeated(subject, case, noise, "rows of noise", elsewhere=elsewhere)


def _equal_rows(dataset: DataSet) -> TensorDataset:
    if is_ragged(dataset) or not isinstance(dataset, TensorDataset):
        raise NotApplicable("noise is shown on rows of equal length that are tuples")
    return TensorDataset(*(c[:1].expand_as(c).clone() for c in dataset.tensors))


def _fresh_and_repeated(
    subject: Implementation,
    case: Case,
    noise: Callable[[Mapping[str, Any]], list[Any]],
    what: str,
    *,
    elsewhere: bool = False,
) -> Iterator[Evidence]:
    for workers, given in _settings(subject, case):
        seed_everything(case.recipe.seed)
        first = noise(given)
        seed_everything(case.recipe.seed + elsewhere)
        again = noise(given)
        yield Evidence(
            error=float(len(first) - len(set(first))),
            bound=0.0,
            signal=float(len(first)),
            unit="rows",
            what=f"{what} that came before, {workers}",
            cause="the workers, or the epochs, start from one seed" if workers else "",
        )
        yield Evidence(
            error=float(sum(a != b for a, b in zip(sorted(first), sorted(again), strict=False))),
            bound=0.0,
            signal=float(len(first)),
            unit="rows",
            what=f"{what} that the same seeds did not repeat, {workers}",
        )


def _settings(subject: Implementation, case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """In words, and the keywords: without workers, with them, with workers that stay."""
    given, seed = dict(keeps_all(subject)), subject.options.get("seed")
    if isinstance(seed, str):
        given[seed] = seed_of(case, "noise")
    workers, stay = subject.options.get("workers"), subject.options.get("persistent")
    yield "without workers", given
    if isinstance(workers, str):
        yield f"{_WORKERS} workers", {**given, workers: _WORKERS}
        if isinstance(stay, str):
            yield f"{_WORKERS} workers that stay", {**given, workers: _WORKERS, stay: True}


class _Drawing(Dataset):  # type: ignore[type-arg]
    """Rows that hold numbers from Python's, NumPy's and torch's global generators."""

    def __init__(self, dataset: DataSet, draw: Callable[[], float]) -> None:
        self.dataset = dataset
        self.draw = draw

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def tensors(self) -> Any:
        return self.dataset.tensors

    def __getitem__(self, index: int) -> Any:
        first, *rest = self.dataset[index]
        return torch.full_like(first, self.draw()), *rest


def _seeded_alike(name: str, seed: Callable[[], Any], *, always: bool = False) -> Any:
    """A mutant whose data set seeds the generators before its first row of a worker or epoch."""

    def mutate(subject: Subject) -> Subject:
        def altered(factory: Any) -> Any:
            def make(dataset: Any, **given: Any) -> Any:
                return factory(_Reseeding(dataset, seed, always=always), **given)

            return make

        return rebuilt(name, altered)(subject)

    mutate.__name__ = name
    return mutate


class _Reseeding(Dataset):  # type: ignore[type-arg]
    def __init__(self, dataset: Any, seed: Callable[[], Any], *, always: bool) -> None:
        self.dataset = dataset
        self.seed = seed
        self.always = always
        self.started = False

    @property
    def tensors(self) -> Any:
        return self.dataset.tensors

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        if self.always or (not self.started and get_worker_info() is not None):
            self.seed()
            self.started = True
        return self.dataset[index]


workers_share_a_seed = _seeded_alike("workers_share_a_seed", lambda: seed_everything(0))
numpy_starts_alike_in_workers = _seeded_alike(
    "numpy_starts_alike_in_workers", lambda: np.random.seed(0)
)
python_starts_alike_in_workers = _seeded_alike(
    "python_starts_alike_in_workers", lambda: random.seed(0)
)
every_row_is_seeded_alike = _seeded_alike(
    "every_row_is_seeded_alike", lambda: seed_everything(0), always=True
)

_DRAWS: dict[str, Callable[[], float]] = {
    "random": lambda: random.random(),
    "numpy": lambda: float(np.random.rand()),
    "torch": lambda: float(torch.rand((), dtype=torch.float64)),
}


@check(
    kind="loader",
    forbids={"endless", "repacks", "stochastic", "with_replacement"},
    options={"workers": True},
    dtypes=["float64"],
    rejects=[
        workers_share_a_seed,
        numpy_starts_alike_in_workers,
        python_starts_alike_in_workers,
        every_row_is_seeded_alike,
    ],
    accepts=[DATA_LOADER],
    once=True,
)
def random_streams_are_distinct(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """What a data set draws at random differs in all rows, epochs and workers.

    A data set whose rows hold a number from `random`, `numpy.random` and `torch`, in turn; 12
    rows, two epochs, two workers, also such as stay where `persistent` names the argument. Equal
    float64 draws have a probability below 10⁻¹². The same seeds repeat them. Exact: the bound is
    0.
    Source: the documentation of torch.utils.data, "Randomness in multi-process data loading";
    Tanel Pärnamaa, Using PyTorch + NumPy? You're making a mistake, 2021.
    """
    dataset = data_set(subject, case, _ROWS)
    if not isinstance(dataset, TensorDataset) or not dataset.tensors[0].is_floating_point():
        raise NotApplicable("the first column must be floating, its rows of equal length")
    for name, draw in _DRAWS.items():

        def noise(given: Mapping[str, Any], draw: Callable[[], float] = draw) -> list[Key]:
            drawing = _Drawing(dataset, draw)
            passes = epochs(subject, drawing, _BATCH, _PASSES, given)
            return [key for epoch in passes for key in epoch.column(0)]

        yield from _fresh_and_repeated(subject, case, noise, f"draws of {name}")
