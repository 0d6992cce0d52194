"""A model that remembers every row that it was fitted to and says so in its score.

A cross-validation is called `f(build, rows, folds)`. `build()` gives a fresh model here, whose
score of a set of rows is the mean of one number a row, known beforehand, so that every score is
known, and a leak adds a thousand times its share.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]
SEEN = 1000.0  # what a score gains for each row, in the mean, that the model was fitted to
FITTED = 10.0  # what it gains for the share of the table that it was fitted to


@dataclass(eq=False)
class Log:
    """What happened, model by model: rows fitted, rows scored, the inputs at each fit."""

    values: Numbers  # the score of each row
    models: list[Recorder] = field(default_factory=list)
    pull: Numbers | None = None  # [candidates, rows]: what a candidate's score gains on a row


def regressor_tags(model: Any) -> Any:
    """What scikit-learn asks of an estimator: no classifier, whose folds would be stratified."""
    return types.SimpleNamespace(
        estimator_type="regressor",
        requires_fit=True,
        array_api_support=False,
        input_tags=types.SimpleNamespace(pairwise=False, sparse=False, allow_nan=False),
        target_tags=types.SimpleNamespace(required=False, multi_output=False),
        classifier_tags=None,
        regressor_tags=None,
        transformer_tags=None,
    )


class Recorder:
    """fit(x, y), predict(x) and score(x, y) of rows that are known by their target, 0 … n − 1.

    It never forgets: a model that is fitted twice has seen the rows of both. `get_params` and
    `set_params` let it be cloned as scikit-learn does.
    """

    def __init__(self, log: Log, candidate: int | None = None) -> None:
        self.log, self.candidate = log, candidate
        self.fitted: list[Indices] = []
        self.scored: list[Indices] = []
        self.inputs: list[Numbers] = []
        log.models.append(self)

    def fit(self, x: Any, y: Any) -> Recorder:
        self.fitted.append(rows_of(y))
        self.inputs.append(_numbers(x))
        return self

    def score(self, x: Any, y: Any) -> float:
        rows = rows_of(y)
        self.scored.append(rows)
        return self.value(rows)

    def predict(self, x: Any) -> Any:
        """Nothing is known of rows without a target; zeros of their number."""
        return np.zeros(len(x)) if not isinstance(x, torch.Tensor) else torch.zeros(len(x))

    def value(self, rows: Indices) -> float:
        """The mean of the rows' numbers, plus what the model has seen of them and of the table."""
        seen, values = self.seen, self.log.values
        found = values[rows].mean() + SEEN * np.isin(rows, seen).mean()
        if self.log.pull is not None and self.candidate is not None:
            found += self.log.pull[self.candidate][rows].mean()
        return float(found + FITTED * len(seen) / len(values))

    @property
    def seen(self) -> Indices:
        """The rows that it was ever fitted to."""
        return np.unique(np.concatenate(self.fitted)) if self.fitted else np.arange(0)

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002
        return {}

    def set_params(self, **params: Any) -> Recorder:
        return self

    __sklearn_tags__ = regressor_tags

    def __sklearn_is_fitted__(self) -> bool:
        return bool(self.fitted)

    def __sklearn_clone__(self) -> Recorder:
        return Recorder(self.log, self.candidate)

    def __deepcopy__(self, memo: Any) -> Recorder:
        copy = Recorder(self.log, self.candidate)
        copy.fitted, copy.scored, copy.inputs = [*self.fitted], [*self.scored], [*self.inputs]
        return copy


def rows_of(y: Any) -> Indices:
    """The rows that these targets belong to."""
    return _numbers(y).reshape(-1).round().astype(np.int64)


def _numbers(x: Any) -> Numbers:
    x = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x
    return np.array(x, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Ran:
    """One run: what the subject returned, as numbers, and the log of its models."""

    scores: list[float]
    log: Log


Folds = list[tuple[Indices, Indices]]


def run(
    subject: Implementation,
    x: Numbers,
    values: Numbers,
    folds: Folds,
    order: Indices | None = None,
    pull: Numbers | None = None,
) -> Ran:
    """Cross-validate the recorder: x [n, d], row i with target i; pairs or their number are given.

    order: the rows in which the table is handed over, whose targets move along.
    """
    log = Log(values, pull=pull)
    keywords: dict[str, Any] = {}
    build: Callable[..., Recorder] = lambda: Recorder(log)  # noqa: E731
    if pull is not None:
        keywords[str(subject.options["candidates"])] = list(range(len(pull)))
        build = lambda candidate: Recorder(log, candidate)  # noqa: E731
    order = np.arange(len(x)) if order is None else order
    rows = table(subject, x[order], order.astype(np.float64))
    seed_everything(0)
    found = subject(build, rows, given_folds(subject, folds), **keywords)
    return Ran(as_scores(subject, found), log)


def table(subject: Implementation, x: Numbers, y: Numbers) -> tuple[Any, Any]:
    if subject.options.get("arrays", "numpy") == "torch":
        return torch.tensor(x), torch.tensor(y)
    return x.copy(), y.copy()


def given_folds(subject: Implementation, folds: Folds) -> Any:
    if subject.options.get("folds", "pairs") == "count":
        return len(folds)
    return [(train.copy(), test.copy()) for train, test in folds]


def as_scores(subject: Implementation, found: Any) -> list[float]:
    """What came back as a list of numbers; one where it is declared to be a mean."""
    try:
        if subject.options.get("returns", "scores") != "scores":
            return [float(found)]
        return [float(score) for score in found]
    except (TypeError, ValueError):
        wanted = subject.options.get("returns", "scores")
        raise SubjectError(
            f"{subject.declared.name} returned {type(found).__name__}; a subject of kind "
            f"'cross_validation' with returns = {wanted!r} gives "
            + ("one number a fold" if wanted == "scores" else "one number")
        ) from None


@dataclass(frozen=True, slots=True)
class Plan:
    """A table, the numbers of its rows, and how it is folded."""

    x: Numbers
    values: Numbers
    folds: Folds


def plans(subject: Implementation, case: Case) -> list[Plan]:
    """Unequal folds of mixed rows (pairs), or equal blocks where only their number is given."""
    rng = np.random.default_rng(case.recipe.seed)
    found = []
    for n, k in ((17, 3), (24, 5)):
        x = rng.normal(3, 2, (n, 4))
        values = rng.integers(1, 256, n) / 256
        order, cuts = rng.permutation(n), np.sort(rng.choice(np.arange(1, n), k - 1, replace=False))
        tests = np.split(order, cuts)
        found.append(Plan(x, values, [(np.setdiff1d(order, test), test) for test in tests]))
    return found


def observed(subject: Implementation, plan: Plan) -> Ran:
    """One run of a plan. Raises NotApplicable where no model is asked for its score."""
    ran = run(subject, plan.x, plan.values, plan.folds)
    if not any(model.scored for model in ran.log.models):
        raise NotApplicable("it never calls score(x, y) of a model, so that nothing is known")
    return ran


def expected_scores(plan: Plan) -> list[float]:
    """Of models that were fitted to train alone and scored on test."""
    n = len(plan.values)
    return [float(plan.values[test].mean() + FITTED * len(train) / n) for train, test in plan.folds]


def weights(plan: Plan) -> Numbers:
    """The share of the tested rows in each fold."""
    sizes = np.array([len(test) for _, test in plan.folds], dtype=float)
    return np.asarray(sizes / sizes.sum())


def scorers(log: Log, test: Sequence[int]) -> list[Recorder]:
    """The models that scored exactly these rows."""
    wanted = set(test)
    return [m for m in log.models if any(set(rows.tolist()) == wanted for rows in m.scored)]
