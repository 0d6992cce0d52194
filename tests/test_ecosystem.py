"""The checks of the ecosystem: who runs them, what they excuse, what they leave as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlcheck.expansion import Overrides
from dlcheck.model import Outcome, Verdict
from dlcheck.runner import run_trial
from dlcheck.validation import trials_of

DEFAULT = {
    "survives_autocast", "survives_deepcopy", "survives_func_grad", "survives_pickle",
    "survives_weights_only_loading",
}  # fmt: skip
ASKED = {"survives_compile", "survives_export", "survives_meta_device", "survives_vmap"}


def outcome_of(subject: Any, check: str, **declared: Any) -> Outcome:
    declared.setdefault("inputs", {"x": "float b 4"})
    (trial,) = trials_of(
        subject=subject, checks=[check], overrides=Overrides(devices=("cpu",)), **declared
    )
    return run_trial(trial)


def names(**declared: Any) -> set[str]:
    trials = trials_of(
        subject=nn.ReLU(), kind="layer", inputs={"x": "float b 4"},
        overrides=Overrides(devices=("cpu",)), **declared,
    )  # fmt: skip
    return {t.check.name for t in trials if t.check.name.startswith("survives_")}


def test_the_dear_checks_run_where_they_are_asked_for() -> None:
    assert names() == DEFAULT
    assert names(options={"ecosystem": ["compile"]}) == DEFAULT | {"survives_compile"}
    assert names(checks=["survives_export"]) == {"survives_export"}
    assert names(checks=["survives_*"]) == DEFAULT | ASKED


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class OldProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_where_a_class_is_defined_is_no_property_of_it() -> None:
    class Local(Scaled):
        pass

    outcome = outcome_of(Local(), "survives_pickle")
    assert outcome.verdict is Verdict.SKIPPED
    assert "defined in a function" in outcome.message
    assert outcome_of(lambda x: x + 1, "survives_pickle", kind="op").verdict is Verdict.SKIPPED
    assert outcome_of(Scaled(), "survives_pickle").verdict is Verdict.PASSED


def test_a_lambda_that_an_importable_module_keeps_is_a_finding() -> None:
    module = Scaled()
    module.activation = lambda x: x
    outcome = outcome_of(module, "survives_pickle")
    assert outcome.verdict is Verdict.FAILED
    assert outcome.worst is not None
    assert "lambda" in outcome.worst.cause


def test_what_torch_lacks_is_excused_unless_it_is_promised() -> None:
    inputs = {"x": "float b n"}
    excused = outcome_of(OldProduct, "survives_func_grad", kind="op", inputs=inputs)
    assert excused.verdict is Verdict.SKIPPED
    assert "setup_context" in excused.message
    promised = outcome_of(
        OldProduct, "survives_func_grad", kind="op", inputs=inputs,
        options={"ecosystem": ["func_grad"]},
    )  # fmt: skip
    assert promised.verdict is Verdict.FAILED
    assert promised.evidence


@pytest.mark.parametrize("check", sorted(DEFAULT | ASKED))
def test_an_object_is_left_as_it_was(check: str) -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    before = copy.deepcopy(module.state_dict())
    outcome = outcome_of(module, check, traits=["stochastic", "batch_coupled", "updates_buffers"])
    assert outcome.verdict is Verdict.PASSED, (outcome.worst, outcome.message)
    assert module.training
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("check", sorted(DEFAULT | {"survives_vmap", "survives_meta_device"}))
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LazyLinear(3),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    ],
    ids=["lazy", "spectral_norm", "weight_norm"],
)
def test_unusual_modules_raise_no_alarm(make: Any, check: str) -> None:
    outcome = outcome_of(make(), check)
    assert outcome.verdict in (Verdict.PASSED, Verdict.SKIPPED), (outcome.worst, outcome.message)
