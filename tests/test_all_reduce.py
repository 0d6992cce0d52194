"""Streams over the ranks of a process group: one stream of all rows, or one clear message."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import Finding, on_ranks

from dlcheck.checks.metrics.feeds import Feed, Rows
from dlcheck.model import Subject, Verdict
from dlcheck.references.metrics.accuracy import TopKAccuracy
from dlcheck.references.metrics.all_reduce import all_reduce
from dlcheck.references.metrics.calibration import ExpectedCalibrationError
from dlcheck.references.metrics.frechet_distance import (
    StreamingFrechetDistance,
    frechet_distance,
)
from dlcheck.references.metrics.image_streams import MeanOverPairs, StreamingPSNR
from dlcheck.references.metrics.inception_score import StreamingInceptionScore
from dlcheck.references.metrics.kernel_distance import StreamingKernelInceptionDistance
from dlcheck.references.metrics.ranking import AreaUnderROC
from dlcheck.registry import catalogue
from dlcheck.shipped import suite_paths
from dlcheck.strategies import Case, materialize, typical_recipe
from dlcheck.subjects import build
from dlcheck.suite import read_suite
from dlcheck.taken import inputs_of

RANKS = 3
_CPU = torch.device("cpu")


@cache
def mergeable() -> dict[str, Subject]:
    """Every reference for metrics that merges, and the streams of the shipped suite."""
    registered = [reference.subject() for reference in catalogue().references.values()]
    shipped = read_suite(suite_paths()["metrics"]).subjects
    found = [each for each in [*registered, *shipped] if each.options.get("merge") == "merge"]
    return {each.name: each for each in found}


def feed_of(subject: Subject) -> Feed:
    specs = inputs_of(subject)
    recipe = typical_recipe(subject, specs, 0)
    inputs = materialize(recipe, specs, _CPU, torch.float64)
    case = Case(recipe=recipe, specs=specs, inputs=inputs, device=_CPU, dtype=torch.float64)
    return Feed.of(build(subject, recipe.sizes, _CPU, torch.float64, 0), case)


def shares(feed: Feed, rows: Rows) -> Iterator[tuple[str, list[list[Rows]]]]:
    """Batches of each rank: uneven, with a rank that has none, all on the last one."""
    n = feed.count
    uneven = feed.split(rows, [1, 2, n - 3] if feed.least == 1 else [2, 2, n - 4])
    yield "uneven", [[uneven[0]], [uneven[1]], [uneven[2]]]
    yield "a rank without rows", [uneven[:2], [], uneven[2:]]
    yield "the last alone", [[], [], [rows]]


# --- what ranks run -------------------------------------------------------------------------------


def values(rank: int) -> Iterator[Finding]:
    for name, subject in mergeable().items():
        feed = feed_of(subject)
        for share, batches in shares(feed, feed.draw("ranks")):
            stream = feed.fresh()
            feed.update(stream, *batches[rank])
            yield f"{name}, {share}", feed.read(all_reduce(stream))


def later(rank: int) -> Iterator[Finding]:
    """A stream goes on after it was reduced, and is reduced again; and in a group of two."""
    rows = torch.arange(12.0, dtype=torch.float64).view(3, 4)[rank]
    stream = MeanOverPairs(_difference)
    for number in range(2):
        stream.update(rows, 0 * rows)
        yield f"reduced {number}", float(all_reduce(stream).compute())
    yield "own", float(stream.compute())
    pair = dist.new_group([0, 2])
    if rank != 1:
        yield "pair", float(all_reduce(stream, pair).compute())
    else:
        yield "outside", _raised(all_reduce, stream, pair)


def large(rank: int) -> Iterator[Finding]:
    """Features that no longer wait for a covariance; rank 1 has none."""
    own = StreamingFrechetDistance()
    if rank != 1:
        own.update(*features()[rank // 2])
    yield "large", all_reduce(own).compute()


def features() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of 600 and 1500 rows a side, about a large common offset."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2100, 6, generator=generator, dtype=torch.float64)
    first, second = x[0] + 1e4, 1.5 * x[1] + 1e4
    return list(zip(first.split([600, 1500]), second.split([600, 1500]), strict=True))


def memory() -> Iterator[Finding]:
    """By how many MB the peak rises from 10,000 rows a side to 100,000, of 16 features."""
    for kind in (StreamingFrechetDistance, StreamingKernelInceptionDistance):
        metric, batch = kind(), torch.ones(500, 16, dtype=torch.float64)
        for number in range(200):
            if number == 20:
                Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
                before = _peak()
            metric.update(batch, batch)
        yield f"memory of {kind.__name__}", _peak() - before


def _peak() -> float:
    text = Path("/proc/self/status").read_text()
    return float(text.partition("VmHWM:")[2].split()[0]) / 1000


def _difference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x - y


class _Opaque(TopKAccuracy):
    def state_dict(self) -> dict[str, Any]:
        return {"state": lambda: None}


def mistakes(rank: int) -> Iterator[Finding]:
    two = rank == 2
    wide = StreamingFrechetDistance()
    wide.update(torch.ones(3, 4 + two), torch.ones(3, 4 + two))
    for name, stream in {
        "data range": StreamingPSNR(255.0 if two else 1.0),
        "range of a named metric": MeanOverPairs("ssim", data_range=255.0 if two else 1.0),
        "bins": ExpectedCalibrationError(10 if two else 15),
        "splits": StreamingInceptionScore(splits=10 if two else 1),
        "class": AreaUnderROC() if two else TopKAccuracy(),
        "width": wide,
        "state": _Opaque() if two else TopKAccuracy(),
        "no stream": torch.nn.ReLU(),
    }.items():
        yield name, _raised(all_reduce, stream)
    yield "afterwards", len(all_reduce(AreaUnderROC())._parts)


def deaths(rank: int) -> Iterator[Finding]:
    if rank == 2:
        yield "stops", time.monotonic()
        os._exit(1)
    if rank == 1:
        time.sleep(0.2)  # asked by nobody else meanwhile
        yield "late", True
        time.sleep(1.3)
    yield "told", _raised(all_reduce, TopKAccuracy(), None, timedelta(seconds=0.5))


def _raised(call: Any, *arguments: Any) -> str:
    try:
        call(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def program(rank: int) -> Iterator[Finding]:
    if rank == 0 and Path("/proc/self/clear_refs").exists():
        yield from memory()  # first, while no memory that was used before lies ready
    yield from values(rank)
    yield from later(rank)
    yield from large(rank)
    yield from mistakes(rank)
    yield from deaths(rank)


# --- what they found ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One group of processes for all tests of this file."""
    ranks = on_ranks(Path(tmp_path_factory.mktemp("ranks")), RANKS, program)
    assert not [rank["failed"] for rank in ranks if "failed" in rank], ranks
    return ranks


@pytest.mark.parametrize("name", mergeable())
def test_a_stream_over_ranks_is_that_of_all_rows(name: str, found: list[dict[str, Any]]) -> None:
    feed = feed_of(mergeable()[name])
    rows = feed.draw("ranks")
    whole = feed.whole(rows)
    for share, _ in shares(feed, rows):
        got = [rank[f"{name}, {share}"] for rank in found]
        assert feed.same(whole, got[0], rows, share).verdict is Verdict.PASSED
        for other in got[1:]:
            torch.testing.assert_close(other, got[0], rtol=0, atol=0, equal_nan=True)


def test_every_stream_of_the_references_is_compared() -> None:
    assert len(mergeable()) > 20
    names = " ".join(str(subject.target) for subject in mergeable().values())
    for stream in ("Frechet", "Kernel", "Inception", "PSNR", "MeanOverPairs", "AreaUnderROC"):
        assert stream in names


def test_a_reduced_stream_goes_on_and_counts_nothing_twice(found: list[dict[str, Any]]) -> None:
    for rank, own in zip(found, (1.5, 5.5, 9.5), strict=True):
        assert (rank["reduced 0"], rank["reduced 1"], rank["own"]) == (5.5, 5.5, own)
    assert found[0]["pair"] == found[2]["pair"] == 5.5
    assert "rank 1 is not in this group" in found[1]["outside"]


def test_covariances_are_merged_to_rounding(found: list[dict[str, Any]]) -> None:
    whole = frechet_distance(*map(torch.cat, zip(*features(), strict=True)))
    # Rows 10⁴ from 0 are known to 10⁴ u, in units of which a distance of deviations of 1 is off.
    for rank in found:
        torch.testing.assert_close(
            rank["large"], whole, rtol=1e4 * torch.finfo(torch.float64).eps, atol=0
        )


def test_memory_does_not_grow_with_the_rows(found: list[dict[str, Any]]) -> None:
    """90,000 more rows a side have 23 MB; a metric that keeps its rows shows that they are seen."""
    if "memory of StreamingFrechetDistance" not in found[0]:
        pytest.skip("the peak of a process cannot be reset here")
    assert found[0]["memory of StreamingFrechetDistance"] < 2
    assert found[0]["memory of StreamingKernelInceptionDistance"] > 8


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ("data range", "rank 0 has StreamingPSNR(data_range=1.0, over='pairs') and rank 2 has "
         "StreamingPSNR(data_range=255.0"),
        ("range of a named metric", "ssim(data_range=255.0)"),
        ("bins", "ExpectedCalibrationError(bins=10)"),
        ("splits", "splits=10"),
        ("class", "rank 2 has AreaUnderROC()"),
        ("width", "ranks 0 and 2 do not merge: this stream has 4 features and the other 5"),
        ("state", "the state of rank 2 cannot be sent"),
        ("no stream", "ReLU has no reset and no merge"),
    ],
)  # fmt: skip
def test_ranks_that_disagree_all_get_one_message(
    mistake: str, told: str, found: list[dict[str, Any]]
) -> None:
    messages = {rank[mistake] for rank in found}
    assert len(messages) == 1
    assert told in messages.pop()


def test_a_group_is_usable_after_a_mistake(found: list[dict[str, Any]]) -> None:
    assert [rank["afterwards"] for rank in found] == [0, 0, 0]


def test_a_rank_that_stopped_or_is_late_is_named(found: list[dict[str, Any]]) -> None:
    assert found[0]["told"].startswith("TimeoutError: rank 0 of 3 waited for rank 1")
    assert "within 0.5 s" in found[0]["told"]
    assert found[1]["told"].startswith("ConnectionError: rank 1 of 3 waited for rank 0")


def test_no_process_group_is_one_message() -> None:
    with pytest.raises(RuntimeError, match="init_process_group"):
        all_reduce(TopKAccuracy())
