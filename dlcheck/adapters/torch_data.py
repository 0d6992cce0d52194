"""A DataLoader that exists already, as the factory that a subject of kind `loader` is."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, RandomSampler

from dlcheck.errors import UsageError


class SameSettings:
    """Makes loaders of other data sets with the settings of a given one.

    factory(dataset, batch_size=…, **changes) → DataLoader: shuffled iff the given loader was,
    with its collation, workers, drop_last and worker_init_fn. A sampler of another class is bound
    to its own data set and cannot be moved: pass a function that makes the loader instead.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        name = type(loader.sampler).__name__
        if name not in ("RandomSampler", "SequentialSampler"):
            raise UsageError(
                f"the loader's sampler is a {name}, which belongs to its data set; pass a function "
                "f(dataset, batch_size) that makes the loader"
            )
        self.settings = {
            "shuffle": isinstance(loader.sampler, RandomSampler),
            "collate_fn": loader.collate_fn,
            "drop_last": loader.drop_last,
            "num_workers": loader.num_workers,
            "worker_init_fn": loader.worker_init_fn,
            "persistent_workers": loader.persistent_workers,
        }

    def __call__(self, dataset: Any, *, batch_size: int, **changes: Any) -> DataLoader[Any]:
        settings = {**self.settings, **changes}
        if not settings["num_workers"]:
            settings["persistent_workers"] = False
        return DataLoader(dataset, batch_size=batch_size, **settings)
