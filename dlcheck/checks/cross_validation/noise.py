"""Labels of pure noise: an honest cross-validation is at chance, a dishonest one is not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import stats as laws

from dlcheck.checks.cross_validation import broken
from dlcheck.checks.cross_validation.recorder import (
    Folds,
    Numbers,
    as_scores,
    observed,
    plans,
    regressor_tags,
    table,
)
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence, Figure, Verdict
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.stats import Stream, binomial, three_strikes
from dlcheck.strategies import Case, stream_seed
from dlcheck.subjects import Implementation

_ROWS, _FEATURES, _CHOSEN, _TESTED = 50, 300, 10, 10
_TABLES = 30
_MODELS = 20  # candidates, each with some columns of its own
_SURE = 1e-9


class Centroids:
    """The class whose mean is nearest, in the columns that tell the classes apart best on train.

    columns: those that it may look at; chosen: how many of them it keeps.
    """

    def __init__(self, chosen: int = _CHOSEN, columns: Any = None) -> None:
        self.chosen, self.columns = chosen, columns

    def fit(self, x: Any, y: Any) -> Centroids:
        x, y = np.asarray(x), np.asarray(y) > 0.5
        x = x if self.columns is None else x[:, self.columns % x.shape[1]]
        self.kept = best_columns(x, y, self.chosen)
        self.low, self.high = (x[y == side][:, self.kept].mean(0) for side in (False, True))
        return self

    def score(self, x: Any, y: Any) -> float:
        """The share of the rows whose class is found."""
        x, y = np.asarray(x), np.asarray(y) > 0.5
        x = (x if self.columns is None else x[:, self.columns % x.shape[1]])[:, self.kept]
        is_high = ((x - self.high) ** 2).sum(1) < ((x - self.low) ** 2).sum(1)
        return float((is_high == y).mean())

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002
        return {"chosen": self.chosen, "columns": self.columns}

    __sklearn_tags__ = regressor_tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "kept")

    def __sklearn_clone__(self) -> Centroids:
        return Centroids(self.chosen, self.columns)


def best_columns(x: Numbers, y: Any, count: int) -> Any:
    """The columns with the largest difference of the class means against their deviation."""
    y = np.asarray(y) > 0.5
    if y.all() or not y.any():
        return np.arange(min(count, x.shape[1]))
    difference = np.abs(x[y].mean(0) - x[~y].mean(0)) / x.std(0)
    return np.argsort(difference)[::-1][:count]


@around
def chooses_features_on_all_rows(
    original: Any, build: Any, rows: Any, folds: Any, **more: Any
) -> Any:
    x, y = rows
    return original(build, (x[:, best_columns(x, y, _CHOSEN)], y), folds, **more)


@around
def encodes_targets_of_all_rows(
    original: Any, build: Any, rows: Any, folds: Any, **more: Any
) -> Any:
    """A category is replaced by the mean target of its rows, those of test among them."""
    x, y = rows
    category = np.argsort(np.argsort(x[:, 0])) // 2
    means = np.bincount(category, weights=y) / np.bincount(category)
    return original(build, (np.repeat(means[category][:, None], 3, 1), y), folds, **more)


@check(
    kind="cross_validation",
    options={"candidates": False, "folds": [None, "pairs"]},
    tags=["statistical"],
    rejects=[
        chooses_features_on_all_rows,
        encodes_targets_of_all_rows,
        broken.trains_on_all_rows,
        broken.scores_on_train,
    ],
    once=True,
    textbook={
        "id": "R10",
        "says": "Model selection by cross-validation",
        "verdict": "true if",
        "condition": "folds are disjoint and covering, and everything that is fitted, features and "
        "scales too, is fitted inside the fold",
    },
)
def noise_scores_at_chance(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """On labels that are fair coins a cross-validated score is that of guessing.

    50 rows of 300 normal columns; a model that keeps the 10 best columns of train and takes the
    nearest class mean. The 10 tested labels of a table are independent of the inputs and of train,
    so that the number of hits over n tables is binomial (10 n, ½) exactly; three strikes.
    Beside it, the counter-examples: the same, with the columns chosen on all rows first; and the
    best of 20 models by their own cross-validated score, where the choice made again inside each
    outer fold (nested) is at chance. Each must lie where chance is less than 10⁻⁹.
    Source: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., 7.10.2;
    Ambroise & McLachlan, PNAS 99, 2002; Varma & Simon, BMC Bioinformatics 7:91, 2006.
    """

    observed(subject, plans(subject, case)[0])

    def sample(stream: Stream, n: int) -> Any:
        hits = sum(_hits(subject, *_noise(stream.numpy, _FEATURES)) for _ in range(n))
        return binomial(hits, n * _TESTED, 0.5)

    drawn = _against_columns(subject, case)
    at_chance = three_strikes(
        case.root,
        case.claim,
        _TABLES * case.profile.effort,
        sample,
        what="accuracy on noise, columns chosen in each fold",
        figures=(drawn,),
    )
    yield at_chance
    if at_chance.verdict is Verdict.FAILED:
        return  # what is chosen by such scores shows nothing
    rate = dict(drawn.series["chosen on all rows first"])[_FEATURES]
    what = "accuracy on noise, columns chosen on all rows first"
    yield _above_chance(what, rate, _TABLES * _TESTED)
    yield from _best_of_many(subject, case)


def _noise(rng: np.random.Generator, features: int) -> tuple[Numbers, Numbers]:
    return rng.normal(size=(_ROWS, features)), rng.integers(0, 2, _ROWS).astype(np.float64)


def _hits(
    subject: Implementation, x: Numbers, y: Numbers, build: Callable[[], Any] = Centroids
) -> int:
    """How many of the rows of one fold are named rightly."""
    rows = np.arange(_ROWS)
    score = _mean_score(subject, x, y, [(rows[_TESTED:], rows[:_TESTED])], build)
    return round(score * _TESTED)


def _mean_score(
    subject: Implementation, x: Numbers, y: Numbers, folds: Folds, build: Callable[[], Any]
) -> float:
    scores = as_scores(subject, subject(build, table(subject, x, y), folds))
    if not scores:
        raise NotApplicable("it gave no scores; see scores_are_those_of_the_folds")
    if not np.isfinite(scores).all():
        raise SubjectError(f"{subject.declared.name} gave a score of {np.mean(scores)}")
    return float(np.mean(scores))


def _rng(case: Case, what: str) -> np.random.Generator:
    return np.random.default_rng(stream_seed(case.root, case.claim, what))


def _accuracy(subject: Implementation, case: Case, features: int, *, first: bool) -> float:
    """Over the tables, in one fold each; first: the columns are chosen on all rows before."""
    rng, hits = _rng(case, f"{features} columns"), 0
    for _ in range(_TABLES):
        x, y = _noise(rng, features)
        hits += _hits(subject, x[:, best_columns(x, y, _CHOSEN)] if first else x, y)
    return hits / (_TABLES * _TESTED)


def _above_chance(what: str, rate: float, n: int) -> Evidence:
    """A counter-example: the rate is one that n guesses reach less than once in 10⁹."""
    least = float(laws.binom.isf(_SURE, n, 0.5)) / n
    return Evidence(
        error=max(0.0, least - rate),
        bound=0.0,
        signal=least,
        what=what,
        expected=f"above {least:.3f}, though nothing can be known",
        got=f"{rate:.3f}",
        counterexample=True,
    )


def _best_of_many(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The best cross-validated score of many models, and what the choice is worth."""
    rng, best, hits = _rng(case, "models"), 0.0, 0
    rows = np.arange(_ROWS)
    for _ in range(_TABLES):
        x, y = _noise(rng, 3 * _MODELS)
        best += max(_scores_of_models(subject, x, y, rows)) / _TABLES
        inner = _scores_of_models(subject, x, y, rows[_TESTED:])
        hits += _hits(subject, x, y, _model(int(np.argmax(inner))))
    yield _above_chance(
        f"accuracy on noise of the best of {_MODELS} models by its own score",
        best,
        _TABLES * _ROWS,
    )
    n = _TABLES * _TESTED
    found = binomial(hits, n, 0.5)
    limit = float(laws.binom.isf(_SURE / 2, n, 0.5)) / n - 0.5
    yield Evidence(
        error=found.error,
        bound=limit,
        signal=0.5,
        resolution=0.5,
        what="accuracy on noise of the model chosen in the outer fold (nested), from chance",
        expected="0.5",
        got=f"{hits / n:.3f}",
    )


def _model(number: int) -> Callable[[], Centroids]:
    """A model with three columns of its own."""
    return functools.partial(Centroids, 3, np.arange(3 * number, 3 * number + 3))


def _scores_of_models(subject: Implementation, x: Numbers, y: Numbers, rows: Any) -> list[float]:
    """Each model's mean score over two folds of these rows."""
    halves = np.array_split(rows, 2)
    folds = [(halves[1], halves[0]), (halves[0], halves[1])]
    return [_mean_score(subject, x, y, folds, _model(number)) for number in range(_MODELS)]


def _against_columns(subject: Implementation, case: Case) -> Figure:
    """How the dishonest score grows with the number of columns to choose from."""
    numbers = (10, 30, 100, _FEATURES)
    series = {
        name: [(p, _accuracy(subject, case, p, first=first)) for p in numbers]
        for name, first in (("chosen on all rows first", True), ("chosen in each fold", False))
    }
    return Figure(
        title="Accuracy on labels of noise",
        x="columns of noise, of which 10 are chosen",
        y="accuracy",
        series={**series, "chance": [(p, 0.5) for p in numbers]},
        log_x=True,
        marks=("chosen on all rows first", "chosen in each fold"),
        note=f"{_TABLES} tables of {_ROWS} rows, of which {_TESTED} are tested; ESL 7.10.2",
    )
