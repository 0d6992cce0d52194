"""Training loops, evaluations and loaders of other frameworks, and what people give by mistake."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from dlcheck.adapters.torch_data import SameSettings
from dlcheck.checks.training import replicas_equal_one_process as replicas
from dlcheck.errors import TrialTimeout, UsageError
from dlcheck.isolation import time_limit
from dlcheck.model import Outcome, Subject, Verdict
from dlcheck.proof import trial_of
from dlcheck.references.training.minibatch_training import minibatch_training
from dlcheck.registry import catalogue
from dlcheck.runner import run_trial


def needs(*packages: str) -> pytest.MarkDecorator:
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(
        bool(absent), reason=f"an optional framework is not installed: {', '.join(absent)}"
    )


def outcome(check: str, kind: str, target: Any, **declared: Any) -> Outcome:
    """One check of a subject that is declared here."""
    traits = frozenset(declared.pop("traits", ()))
    subject = Subject(name="subject", target=target, kind=kind, traits=traits, **declared)
    return run_trial(replace(trial_of(catalogue().check(check), subject), profile="quick"))


def verdicts(checks: list[str], kind: str, target: Any, **declared: Any) -> dict[str, Verdict]:
    found = {name: outcome(name, kind, target, **declared) for name in checks}
    return {name: one.verdict for name, one in found.items()}


# --- adapters -----------------------------------------------------------------------------------


LOOP = ["every_sample_counts_each_epoch", "steps_are_taken_in_train_mode",
        "clipping_limits_each_step", "schedule_follows_optimizer_steps"]  # fmt: skip


@needs("lightning")
@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_lightning_passes() -> None:
    options = {"clip": "gradient_clip_val", "scheduler": "epoch", "window": "full",
               "validation": "validation", "resume": "checkpoint"}  # fmt: skip
    checks = [*LOOP, "evaluation_leaves_no_trace", "training_resumes_where_it_stopped"]
    found = verdicts(checks, "training", "dlcheck.adapters.lightning:training", options=options)
    assert set(found.values()) == {Verdict.PASSED}, found


@needs("lightning")
@pytest.mark.filterwarnings("ignore")
def test_a_lightning_module_is_trained_by_its_own_step() -> None:
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        factor = 1.0

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            x, y = batch
            return self.factor * nn.functional.cross_entropy(self(x), y)

    class Doubled(Module):
        factor = 2.0

    inputs = {"x": "float n 2", "y": "label[3] n"}
    for module, wanted in ((Module, Verdict.PASSED), (Doubled, Verdict.FAILED)):
        found = outcome(
            "each_step_uses_its_own_batch", "training", "dlcheck.adapters.lightning:training",
            inputs=inputs, options={"model": module, "window": "full"},
        )  # fmt: skip
        assert found.verdict is wanted, found.message


@needs("lightning")
@pytest.mark.filterwarnings("ignore")
def test_a_validation_of_lightning_counts_rows() -> None:
    checks = ["only_the_given_rows_count", "evaluates_in_evaluation_mode",
              "evaluation_changes_no_weight", "value_is_the_declared_metric"]  # fmt: skip
    found = verdicts(checks, "evaluation", "dlcheck.adapters.lightning:evaluation",
                     options={"metric": "mean_loss"})  # fmt: skip
    assert set(found.values()) == {Verdict.PASSED}, found


@needs("transformers", "accelerate")
@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_transformers_passes() -> None:
    options = {"clip": "max_grad_norm", "scheduler": "step", "ignore_index": -100}
    checks = [*LOOP, "accumulation_weighs_counted_labels"]
    found = verdicts(checks, "training", "dlcheck.adapters.transformers:training", options=options)
    assert set(found.values()) == {Verdict.PASSED}, found


@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_an_absent_framework_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def absent(wanted: str, *rest: Any) -> Any:
        if wanted.startswith("dlcheck"):
            return real(wanted, *rest)
        raise ImportError(f"No module named {wanted!r}")

    train = importlib.import_module(f"dlcheck.adapters.{name}").training
    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UsageError, match=f"pip install {name}"):
        train(nn.Linear(1, 1), [], None, None)


def test_a_loader_that_exists_is_taken_with_its_settings() -> None:
    loader = DataLoader(list(range(5)), batch_size=2, shuffle=True, drop_last=True)
    factory = SameSettings(loader)
    options = {"shuffle": True, "drop_last": "drop_last"}
    checks = ["epoch_is_a_permutation", "shuffle_differs_between_epochs"]
    found = verdicts(checks, "loader", factory, options=options)
    assert set(found.values()) == {Verdict.PASSED}
    chosen = DataLoader(list(range(5)), sampler=torch.utils.data.SubsetRandomSampler([1, 2]))
    with pytest.raises(UsageError, match="SubsetRandomSampler"):
        SameSettings(chosen)


# --- what people give ---------------------------------------------------------------------------


def one_epoch(model: Any, loader: Any, optimizer: Any, loss: Any) -> None:
    minibatch_training(model, loader, optimizer, loss)


def test_a_loop_without_counts_is_checked_for_one_epoch() -> None:
    assert outcome("each_step_uses_its_own_batch", "training", one_epoch).verdict is Verdict.PASSED
    assert outcome("fits_one_batch", "training", one_epoch).verdict is Verdict.PASSED
    found = outcome("accumulation_equals_the_big_batch", "training", one_epoch)
    assert found.verdict is Verdict.SKIPPED
    assert "takes no argument 'accumulate'" in found.message


def test_counts_may_have_other_names() -> None:
    def train(model: Any, loader: Any, optimizer: Any, loss: Any, n_epochs: int, k: int) -> None:
        minibatch_training(model, loader, optimizer, loss, epochs=n_epochs, accumulate=k)

    options = {"epochs": "n_epochs", "accumulate": "k"}
    checks = ["every_sample_counts_each_epoch", "accumulation_equals_the_big_batch"]
    assert set(verdicts(checks, "training", train, options=options).values()) == {Verdict.PASSED}


def test_a_wrong_divisor_is_named() -> None:
    def train(
        model: Any, loader: Any, optimizer: Any, loss: Any, *, accumulate: int = 1, epochs: int = 1
    ) -> None:
        for _ in range(epochs):
            optimizer.zero_grad()
            for number, (x, y) in enumerate(loader, start=1):
                (loss(model(x), y) / accumulate).backward()
                if number % accumulate == 0 or number == len(loader):
                    optimizer.step()
                    optimizer.zero_grad()

    check = "accumulation_equals_the_big_batch"
    found = outcome(check, "training", train)
    assert found.worst is not None
    assert "full count of batches" in found.worst.cause
    assert outcome(check, "training", train, options={"window": "full"}).verdict is Verdict.PASSED


def test_a_diverging_loop_fails_and_does_not_hang() -> None:
    def train(
        model: Any, loader: Any, optimizer: Any, loss: Any, *, accumulate: int = 1, epochs: int = 1
    ) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 1e200
        minibatch_training(model, loader, optimizer, loss, accumulate=accumulate, epochs=epochs)

    found = outcome("every_sample_counts_each_epoch", "training", train)
    assert found.verdict is Verdict.FAILED


def test_a_rank_that_raises_is_told() -> None:
    def train(
        model: Any, loader: Any, optimizer: Any, loss: Any, *, accumulate: int = 1, epochs: int = 1
    ) -> None:
        raise RuntimeError("no such bucket")

    found = outcome("replicas_equal_one_process", "training", train)
    assert found.verdict is Verdict.FAILED
    assert "no such bucket" in found.message


def test_an_unknown_metric_is_said_to_be_unknown() -> None:
    def evaluate(model: Any, loader: Any) -> float:
        return 0.0

    found = outcome("value_is_the_declared_metric", "evaluation", evaluate,
                    options={"metric": "f1"})  # fmt: skip
    assert found.verdict is Verdict.SKIPPED
    assert "accuracy, error_rate" in found.message


class Hanging:
    """A loader without end that gives only full batches: none of a data set that is smaller."""

    def __init__(self, dataset: Any, batch_size: int) -> None:
        self.dataset = dataset
        self.size = batch_size

    def __iter__(self) -> Iterator[Any]:
        while True:
            for start in range(0, len(self.dataset) - self.size + 1, self.size):
                rows = [self.dataset[i] for i in range(start, start + self.size)]
                yield torch.utils.data.default_collate(rows)


def test_a_loader_that_gives_nothing_and_never_ends_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dlcheck.checks.loader.epochs.PATIENCE", 0.3)
    found = outcome("pairs_stay_aligned", "loader", Hanging, traits=["endless"])
    assert found.verdict is Verdict.FAILED
    assert "waits for what will not come" in found.message


def test_a_limit_within_a_limit_leaves_the_outer_one() -> None:
    def inner() -> None:
        with pytest.raises(TrialTimeout), time_limit(0.05):
            time.sleep(5)

    def outer() -> None:
        inner()
        time.sleep(5)

    with pytest.raises(TrialTimeout), time_limit(0.3):
        outer()


@pytest.mark.parametrize("rows", [1, 2])
def test_a_data_set_of_one_row_has_an_epoch(rows: int) -> None:
    options = {"shuffle": True, "seed": "seed", "sizes": {"n": [rows, rows]}}
    target = "dlcheck.references.data.loaders:ShuffledLoader"
    checks = ["epoch_is_a_permutation", "batches_are_full_but_the_last", "pairs_stay_aligned"]
    found = verdicts(checks[: 1 + rows], "loader", target, options=options)
    assert set(found.values()) <= {Verdict.PASSED, Verdict.INCONCLUSIVE}
    assert found["epoch_is_a_permutation"] is Verdict.PASSED


@pytest.mark.nightly
def test_ranks_that_cannot_be_forked_are_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """As beside a GPU, where two ranks are spawned and the subject's import path is followed."""
    spawned = replicas._Meeting("spawn", "gloo")
    monkeypatch.setattr(replicas._Meeting, "on", lambda device: spawned)
    check = catalogue().check("replicas_equal_one_process")
    found = run_trial(trial_of(check, replicas.LOOP))
    assert found.verdict is Verdict.PASSED, found.message
    local = replace(replicas.LOOP, target=lambda *a, **b: None)
    assert "import path" in run_trial(trial_of(check, local)).message
