"""A stream without end shows all rows equally often."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from dlcheck.checks.loader.altered import Seen
from dlcheck.checks.loader.epochs import Key, batches_of, data_set, joint_keys, keeps_all
from dlcheck.model import Evidence, Mutant
from dlcheck.mutants import rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROWS, _BATCH, _PASSES = 11, 4, 5


class _Stream:
    def __init__(self, loader: Any, fault: str) -> None:
        self.loader = loader
        self.fault = fault

    def __iter__(self) -> Iterator[Any]:
        count = -(-_ROWS // _BATCH)
        if self.fault == "ends_after_a_pass":
            return itertools.islice(iter(self.loader), count)
        if self.fault == "starts_each_pass_with_a_lost_batch":
            return (b for number, b in enumerate(self.loader) if number % count != 1)
        return itertools.cycle(list(itertools.islice(iter(self.loader), count - 1)))


def _stream(fault: str) -> Mutant:
    return rebuilt(fault, lambda factory: lambda *a, **b: _Stream(factory(*a, **b), fault))


def _drawn(dataset: Any, i: int) -> Any:
    return dataset[int(torch.randint(len(dataset), ()))]


draws_with_replacement = rebuilt(
    "draws_with_replacement",
    lambda factory: lambda dataset, **b: factory(Seen(dataset, _drawn, len(dataset)), **b),
)


@check(
    kind="loader",
    needs={"endless"},
    forbids={"with_replacement", "repacks", "stochastic"},
    rejects=[
        _stream("ends_after_a_pass"),
        _stream("starts_each_pass_with_a_lost_batch"),
        _stream("repeats_its_first_batches"),
        draws_with_replacement,
    ],
    once=True,
)
def endless_stream_is_fair(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """After any number of batches no row has come more than once oftener than another.

    11 rows in batches of 4, for five passes over the data set read through one iterator: a pass
    ends inside a batch or with a short one. With `drop_last` a row may miss once a pass. And the
    stream must not end. Exact: the bound is 0.
    Source: random reshuffling, Bottou 2009; an epoch that is a number of steps.
    """
    dataset = data_set(subject, case, _ROWS)
    wanted = joint_keys(dataset.tensors)
    drops = subject.options.get("drop_last", False) is True
    counts: Counter[Key] = Counter(dict.fromkeys(wanted, 0))
    allowed, unfair, rows, where = Counter(wanted), 0, 0, ""
    loader = subject(dataset, batch_size=_BATCH, **keeps_all(subject))
    for batch in batches_of(loader, dataset, subject, _PASSES * _ROWS // _BATCH):
        counts.update(found := joint_keys(batch))
        rows += len(found)
        shares = [counts[key] / allowed[key] for key in allowed]
        slack = 1 + (rows // len(wanted) + 1 if drops else 0)
        if max(shares) - min(shares) > slack:
            unfair += 1
            where = where or f"after {rows} rows some came {max(shares):g}, some {min(shares):g}×"
    strangers = sum(count for key, count in counts.items() if key not in allowed)
    least = (_PASSES - 1) * _ROWS
    yield Evidence(
        error=float(unfair + strangers),
        bound=0.0,
        signal=float(max(rows, 1)),
        unit="batches",
        what="batches after which a row had come twice oftener than another",
        where=where,
    )
    yield Evidence(
        error=float(max(0, least - rows)),
        bound=0.0,
        signal=float(least),
        unit="rows",
        what=f"rows that were missing of {least} when the stream ended",
    )
