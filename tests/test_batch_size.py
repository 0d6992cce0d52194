"""The loaders, the law of the batch gradient, and what the batch-size checks rest on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from dlcheck.checks.loader.epochs import difference, keys
from dlcheck.checks.loader.gradient_noise import gradient, population
from dlcheck.checks.loader.uniform_shuffle import places_are_uniform, successors_are_uniform
from dlcheck.references.data.loaders import (
    BootstrapLoader,
    SequentialLoader,
    ShardedLoader,
    ShuffledLoader,
)

NUMBERS = TensorDataset(torch.arange(10), torch.arange(10) ** 2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Teams of threads on a busy machine wait for each other a hundred times longer than work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows(loader: object) -> list[int]:
    return [int(i) for x, _ in loader for i in x]  # type: ignore[attr-defined]


def test_the_sequential_loader_keeps_the_order() -> None:
    batches = list(SequentialLoader(NUMBERS, 4))
    assert [x.tolist() for x, _ in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [len(x) for x, _ in SequentialLoader(NUMBERS, 4, drop_last=True)] == [4, 4]
    assert (len(SequentialLoader(NUMBERS, 4)), len(SequentialLoader(NUMBERS, 11))) == (3, 1)


def test_the_shuffled_loader_permutes_anew_and_repeats_with_its_seed() -> None:
    first, second = ShuffledLoader(NUMBERS, 3, seed=1), ShuffledLoader(NUMBERS, 5, seed=1)
    orders = [rows(first), rows(first)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert [rows(second), rows(second)] == orders
    assert rows(ShuffledLoader(NUMBERS, 3, seed=2)) != orders[0]


def test_the_bootstrap_repeats_rows_and_loses_a_share_of_one_in_e() -> None:
    large = TensorDataset(torch.arange(3000), torch.arange(3000))
    seen = rows(BootstrapLoader(large, 100, seed=0))
    assert len(seen) == 3000
    assert len(set(seen)) / 3000 == pytest.approx(1 - np.exp(-1), abs=0.02)


def test_shards_partition_each_epoch() -> None:
    ranks = [ShardedLoader(NUMBERS, 2, rank=r, count=3, seed=4) for r in range(3)]
    for _ in range(2):
        assert sorted(i for rank in ranks for i in rows(rank)) == list(range(10))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_keys_tell_rows_apart_by_value_and_dtype(dtype: torch.dtype) -> None:
    column = torch.tensor([[0, 1], [1, 0], [0, 1]]).to(dtype)
    a, b, c = keys(column)
    assert a == c != b
    assert keys(column.T.contiguous().T) == [a, b, c]
    assert keys(column[:, :1])[0] != a
    assert keys(torch.stack([column, column], 1)[:, 0][1:2]) == [b]  # a view of one row
    assert difference([a, b, b], [a, c, b]) == (1, 1)


def test_the_closed_gradient_is_that_of_autograd() -> None:
    law = population()
    weights = law.weights.clone().requires_grad_()
    x, y = law.x[:7], law.y[:7]
    inputs = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    torch.nn.functional.cross_entropy(inputs @ weights.T, y).backward()
    torch.testing.assert_close(gradient(law.weights, x, y), weights.grad, rtol=1e-12, atol=1e-14)


def test_the_variance_of_a_batch_gradient_follows_the_finite_population() -> None:
    law = population()
    generator = torch.Generator().manual_seed(0)
    for size in (4, 96):
        draws = [torch.randperm(len(law.x), generator=generator)[:size] for _ in range(2000)]
        g = torch.stack([gradient(law.weights, law.x[i], law.y[i]) for i in draws])
        square = (g - law.full).square().sum((1, 2))
        error = 5 * float(square.std()) / 2000**0.5
        assert float(square.mean()) == pytest.approx(law.variance(size), abs=error)
        root = float((g * law.full).sum((1, 2)).mean()) / float(
            law.full.norm() * g.square().sum((1, 2)).mean().sqrt()
        )
        assert root == pytest.approx(law.cosine(size), rel=0.02)
    assert law.variance(len(law.x)) == 0


def test_the_tests_of_uniformity_keep_their_level() -> None:
    generator = np.random.default_rng(0)
    places, successors = [], []
    for _ in range(300):
        orders = np.argsort(generator.random((40, 64)), axis=1)
        places.append(places_are_uniform(orders, 8).p_value)
        successors.append(successors_are_uniform(orders).p_value)
    for found in (places, successors):
        assert np.mean(np.asarray(found) <= 0.05) == pytest.approx(0.05, abs=0.045)
        assert np.mean(found) == pytest.approx(0.5, abs=0.07)


def test_the_tests_of_uniformity_see_clumps_and_rounds() -> None:
    generator = np.random.default_rng(1)
    rounds = (np.arange(64) + generator.integers(64, size=(40, 1))) % 64
    assert successors_are_uniform(rounds).p_value < 1e-6
    inside = np.concatenate(
        [np.argsort(generator.random((40, 16)), axis=1) + 16 * i for i in range(4)], axis=1
    )
    assert places_are_uniform(inside, 8).p_value < 1e-6
