"""Bugs of splits, transforms and cross-validations as people make them, each with its check."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import numpy as np
import torch

Indices = np.ndarray


def folds_that_drop_the_remainder(n: int, k: int = 5) -> list[tuple[Indices, Indices]]:
    """`fold_size = n // k`: the last rows are never tested."""
    size = n // k
    rows = np.arange(n)
    tests = [rows[i * size : (i + 1) * size] for i in range(k)]
    return [(np.setdiff1d(rows, test), test) for test in tests]


def folds_with_a_slice_too_long(n: int, k: int = 5) -> list[tuple[Indices, Indices]]:
    """`rows[start : end + 1]`: a row of the next fold is tested, and trained on, twice."""
    cuts = np.linspace(0, n, k + 1).astype(int)
    rows = np.arange(n)
    return [
        (np.concatenate([rows[:a], rows[b:]]), rows[a : b + 1]) for a, b in itertools.pairwise(cuts)
    ]


def folds_shuffled_at_every_step(n: int, k: int = 5, seed: int = 0) -> Any:
    """The order is drawn inside the loop: test parts of different folds overlap."""
    rng = np.random.default_rng(seed)
    size = -(-n // k)
    for i in range(k):
        order = rng.permutation(n)
        yield np.delete(order, np.s_[i * size : (i + 1) * size]), order[i * size : (i + 1) * size]


def folds_without_their_seed(n: int, k: int = 5, seed: int = 0) -> Any:
    """A generator is made and another one used."""
    np.random.default_rng(seed)
    order = np.random.permutation(n)
    return [(np.setdiff1d(order, test), test) for test in np.array_split(order, k)]


def folds_that_seed_the_program(n: int, k: int = 5, seed: int = 0) -> Any:
    np.random.seed(seed)
    order = np.random.permutation(n)
    return [(np.setdiff1d(order, test), test) for test in np.array_split(order, k)]


def stratified_by_first_appearance(n: int, labels: Any, k: int = 5) -> Any:
    """`np.unique` sorts its values, the dict does not: counts and rows of classes are swapped."""
    rows_of = defaultdict(list)
    for row, label in enumerate(labels):
        rows_of[label].append(row)
    _, counts = np.unique(labels, return_counts=True)
    tests: list[list[int]] = [[] for _ in range(k)]
    for rows, count in zip(rows_of.values(), counts, strict=True):
        for i in range(k):
            start, end = i * count // k, (i + 1) * count // k
            tests[i] += rows[start:end] if i < k - 1 else rows[start:]
    return [(np.setdiff1d(np.arange(n), test), np.array(test)) for test in tests]


def stratified_then_shuffled(n: int, labels: Any, share: float = 0.25, seed: int = 0) -> Any:
    """Rows are chosen class by class, then the whole is shuffled and cut at the same place."""
    rng = np.random.RandomState(seed)
    size = sum(round(share * count) for count in np.unique(labels, return_counts=True)[1])
    order = rng.permutation(n)
    return order[size:], order[:size]


def groups_cut_by_rows(n: int, labels: Any = None, groups: Any = None, k: int = 3) -> Any:
    """Rows sorted by group, cut into equal parts: the cut falls inside a group."""
    order = np.argsort(groups, kind="stable")
    return [(np.setdiff1d(order, test), test) for test in np.array_split(order, k)]


def groups_of_text_by_hash(n: int, labels: Any = None, groups: Any = None, k: int = 3) -> Any:
    """`int(group) % k` of what must be a number."""
    names = np.asarray(groups)
    number = names.astype(int) if names.dtype.kind in "iuf" else np.arange(n)
    rows = np.arange(n)
    return [(rows[number % k != i], rows[number % k == i]) for i in range(k)]


def time_folds_one_row_too_near(n: int, k: int = 4, gap: int = 3) -> Any:
    """`range(start - gap + 1)`."""
    size = n // (k + 1)
    for i in range(k):
        start = n - (k - i) * size
        yield np.arange(start - gap + 1), np.arange(start, start + size)


def time_folds_of_shuffled_rows(n: int, k: int = 4) -> Any:
    order = np.random.default_rng(0).permutation(n)
    size = n // (k + 1)
    for i in range(1, k + 1):
        yield order[: i * size], order[i * size : (i + 1) * size]


def bootstrap_tested_on_all(n: int, draws: int = 5, seed: int = 0) -> Any:
    """The .632 estimate without its out-of-bag part: test holds the rows that were drawn."""
    rng = np.random.RandomState(seed)
    return [(rng.randint(0, n, n), np.arange(n)) for _ in range(draws)]


def bootstrap_that_is_a_subsample(n: int, draws: int = 5, seed: int = 0) -> Any:
    rng = np.random.RandomState(seed)
    orders = [rng.permutation(n) for _ in range(draws)]
    return [(order[: (2 * n) // 3], order[(2 * n) // 3 :]) for order in orders]


def validation_share_of_the_rest(n: int, seed: int = 0) -> Any:
    """Twenty per cent of the eighty that are left."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    rest, test = order[: int(0.8 * n)], order[int(0.8 * n) :]
    return rest[: int(0.8 * len(rest))], rest[int(0.8 * len(rest)) :], test


def empty_folds(n: int, k: int = 5) -> Any:
    """`np.array_split` of fewer rows than folds."""
    return [(np.setdiff1d(np.arange(n), t), t) for t in np.array_split(np.arange(n), k)]


def unequal_remainder(n: int, k: int = 5) -> Any:
    """The last fold takes all that is left."""
    size = n // k
    tests = [np.arange(i * size, (i + 1) * size if i < k - 1 else n) for i in range(k)]
    return [(np.setdiff1d(np.arange(n), test), test) for test in tests]


K = {"args": {"k": 5}, "options": {"folds": "k"}}
GROUPED = {"args": {"k": 3}, "options": {"folds": "k", "grouped": True}}
SEEDED = {"options": {"folds": "k", "seed": "seed", "shuffle": True}, "args": {"k": 5, "seed": 0}}
BOOTSTRAP = {
    "args": {"seed": 0},
    "options": {"folds": 5, "seed": "seed"},
    "traits": ["with_replacement"],
}
# bug → the checks that find it, of which one is named, and its declaration
SPLITS: dict[Any, tuple[str, dict[str, Any]]] = {
    folds_that_drop_the_remainder: ("each_row_is_tested_once", K),
    folds_with_a_slice_too_long: ("parts_are_disjoint", K),
    folds_shuffled_at_every_step: ("each_row_is_tested_once", SEEDED),
    folds_without_their_seed: ("seed_decides_the_split", SEEDED),
    folds_that_seed_the_program: ("splitting_seeds_no_global_stream", SEEDED),
    stratified_by_first_appearance: (
        "classes_keep_their_proportions",
        {"args": {"k": 5}, "options": {"folds": "k", "stratified": True}},
    ),
    stratified_then_shuffled: (
        "classes_keep_their_proportions",
        {"options": {"folds": 1, "stratified": True, "seed": "seed"}},
    ),
    groups_cut_by_rows: ("groups_stay_whole", GROUPED),
    groups_of_text_by_hash: ("groups_are_only_names", GROUPED),
    time_folds_one_row_too_near: (
        "gap_is_left_out",
        {"args": {"k": 4, "gap": 3}, "options": {"folds": "k", "gap": "gap"},
         "traits": ["ordered"]},
    ),
    time_folds_of_shuffled_rows: (
        "train_comes_before_test",
        {"args": {"k": 4}, "options": {"folds": "k"}, "traits": ["ordered"]},
    ),
    bootstrap_tested_on_all: ("parts_are_disjoint", BOOTSTRAP),
    bootstrap_that_is_a_subsample: ("bootstrap_draws_every_row_alike", BOOTSTRAP),
    validation_share_of_the_rest: (
        "parts_have_their_shares",
        {"options": {"folds": 1, "shares": [0.6, 0.2, 0.2]}},
    ),
    empty_folds: ("refuses_what_cannot_be_split", {**K, "traits": ["validates"]}),
    unequal_remainder: ("folds_differ_by_at_most_one_row", K),
}  # fmt: skip


def scaled_over_both(train: torch.Tensor, test: torch.Tensor) -> tuple[Any, Any]:
    both = torch.cat([train, test])
    return (train - both.mean(0)) / both.std(0), (test - both.mean(0)) / both.std(0)


def scaled_each_by_itself(train: torch.Tensor, test: torch.Tensor) -> tuple[Any, Any]:
    return (train - train.mean(0)) / train.std(0), (test - test.mean(0)) / test.std(0)


def scaled_in_place(train: torch.Tensor, test: torch.Tensor) -> tuple[Any, Any]:
    mean, deviation = train.mean(0), train.std(0).clamp_min(1e-12)
    train -= mean
    test -= mean
    return train / deviation, test / deviation


def scaled_by_nothing(train: torch.Tensor, test: torch.Tensor) -> tuple[Any, Any]:
    mean, deviation = train.mean(0), train.std(0)
    return (train - mean) / deviation, (test - mean) / deviation


def filtered(train: torch.Tensor, test: torch.Tensor) -> tuple[Any, Any]:
    keep = (train.abs() < 2 * train.std(0) + 1e-9).all(1)
    return train[keep], test


class RunningScaler:
    """`fit` goes on where the last one ended."""

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0

    def fit(self, rows: np.ndarray) -> None:
        self.count += len(rows)
        self.total = self.total + rows.sum(0)

    def transform(self, rows: np.ndarray) -> np.ndarray:
        return rows - self.total / self.count


FITTED = {"traits": ["fits_on_train"]}
TRANSFORMS: dict[Any, tuple[str, dict[str, Any]]] = {
    scaled_over_both: ("train_ignores_the_test_rows", FITTED),
    scaled_each_by_itself: ("test_rows_are_transformed_alone", FITTED),
    scaled_in_place: ("transforming_leaves_the_rows", FITTED),
    scaled_by_nothing: ("constant_columns_stay_finite", FITTED),
    filtered: ("rows_keep_their_number", FITTED),
    RunningScaler: ("fitting_again_forgets", FITTED),
}


def one_model_for_all_folds(build: Any, rows: Any, folds: Any) -> list[float]:
    x, y = rows
    model, scores = build(), []
    for train, test in folds:
        model.fit(x[train], y[train])
        scores.append(model.score(x[test], y[test]))
    return scores


def scaled_before_the_folds(build: Any, rows: Any, folds: Any) -> list[float]:
    x, y = rows
    x = (x - x.mean(0)) / x.std(0)
    return [build().fit(x[a], y[a]).score(x[b], y[b]) for a, b in folds]


def features_chosen_before_the_folds(build: Any, rows: Any, folds: Any) -> list[float]:
    x, y = rows
    strength = np.abs(np.corrcoef(x.T, y)[-1, :-1])
    x = x[:, np.argsort(strength)[-10:]]
    return [build().fit(x[a], y[a]).score(x[b], y[b]) for a, b in folds]


def mean_of_unequal_folds(build: Any, rows: Any, folds: Any) -> float:
    """The mean over folds where that over rows is declared."""
    x, y = rows
    return float(np.mean([build().fit(x[a], y[a]).score(x[b], y[b]) for a, b in folds]))


def best_of_the_outer_scores(build: Any, rows: Any, folds: Any, candidates: Any) -> list[float]:
    """A grid search whose best score is reported."""
    x, y = rows
    scores = [[build(c).fit(x[a], y[a]).score(x[b], y[b]) for a, b in folds] for c in candidates]
    return max(scores, key=np.mean)


CROSS_VALIDATIONS: dict[Any, tuple[str, dict[str, Any]]] = {
    one_model_for_all_folds: ("scores_are_of_rows_never_seen", {}),
    scaled_before_the_folds: ("inputs_are_prepared_inside_the_fold", {}),
    features_chosen_before_the_folds: ("noise_scores_at_chance", {}),
    mean_of_unequal_folds: (
        "scores_are_those_of_the_folds",
        {"options": {"returns": "weighted_mean"}},
    ),
    best_of_the_outer_scores: (
        "candidates_are_chosen_without_the_test_rows",
        {"options": {"candidates": "candidates"}},
    ),
}
