"""Losses and optimizers that are out of the ordinary: handled, or told what to declare."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dlcheck
from dlcheck.errors import DeclarationError
from dlcheck.model import Outcome, Verdict

CLASSES = {"task": "classification", "sizes": {"k": [2, 9]}}


def outcome(subject: Any, check: str, kind: str, **declared: Any) -> Outcome:
    """What one check says of it."""
    report = dlcheck.validate(subject, kind=kind, checks=[check], profile="quick", **declared)
    (found,) = report.outcomes
    return found


# --- losses ------------------------------------------------------------------------------------


def one_hot_cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """Wants a row of probabilities where the task gives labels."""
    return -(target * prediction.log_softmax(-1)).sum(-1).mean()


def test_another_type_of_target_is_told_as_a_domain() -> None:
    found = outcome(one_hot_cross_entropy, "takes_its_declared_inputs", "loss", options=CLASSES)
    assert found.verdict is Verdict.FAILED
    assert found.worst is not None
    assert 'target = "probability b k"' in found.worst.cause
    right = outcome(
        one_hot_cross_entropy,
        "is_least_at_a_perfect_prediction",
        "loss",
        inputs={"prediction": "logit b k", "target": "probability b k"},
        options=CLASSES,
    )
    assert right.verdict is Verdict.PASSED


def squared_rows(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean(-1)


def test_a_vector_is_no_mean_but_may_be_unreduced() -> None:
    declared = {"task": "regression", "reduction": "mean"}
    found = outcome(squared_rows, "reductions_agree", "loss", options=declared)
    assert found.verdict is Verdict.FAILED
    assert found.worst is not None
    assert found.worst.expected == "one number"
    declared["reduction"] = "none"
    assert outcome(squared_rows, "reductions_agree", "loss", options=declared).verdict is (
        Verdict.PASSED
    )


def log_likelihood(prediction: Tensor, target: Tensor) -> Tensor:
    return (5 * (prediction - target).square() - 2.0).mean()


def test_a_negative_loss_is_told_to_declare_its_range() -> None:
    found = outcome(log_likelihood, "is_nonnegative", "loss", options={"task": "regression"})
    assert found.verdict is Verdict.FAILED
    assert found.worst is not None
    assert "declare range" in found.worst.cause
    least = outcome(
        log_likelihood,
        "is_least_at_a_perfect_prediction",
        "loss",
        options={"task": "regression", "optimum": -2.0},
    )
    assert least.verdict is Verdict.PASSED


def knows_no_sum(prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    rows = (prediction - target).square().mean(-1)
    return rows.mean() if reduction == "mean" else rows


def test_a_sum_that_stays_open_fails() -> None:
    """As timm's AsymmetricLossSingleLabel: `sum` is taken, and not summed."""
    declared = {"task": "regression", "reduction": "reduction"}
    found = outcome(knows_no_sum, "reductions_agree", "loss", options=declared)
    assert found.verdict is Verdict.FAILED


def peak_signal_to_noise(prediction: Tensor, target: Tensor) -> Tensor:
    return 10 * (prediction - target).square().mean().log10()


def correlation(prediction: Tensor, target: Tensor) -> Tensor:
    """1 where the target is constant, whatever is predicted."""
    x, y = prediction - prediction.mean(), target - target.mean()
    return 1 - (x * y).sum() / (x.square().sum() * y.square().sum() + 1e-12).sqrt()


@pytest.mark.parametrize("loss", [peak_signal_to_noise, correlation])
def test_a_loss_that_says_nothing_of_some_batches_grows(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    report = dlcheck.validate(
        loss, kind="loss", task="regression", range=["-inf", "inf"],
        traits=["batch_coupled", "nonconvex"], checks=["grows_with_the_error"],
        sizes={"b": [3, 9], "d": [2, 9]},  # of two numbers the correlation is ±1
    )  # fmt: skip
    assert report.passed, str(report)


class Tempered(nn.Module):
    """A loss that learns its temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(0.3))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction * self.log_temperature.exp(), target)


def test_a_loss_with_parameters_is_a_module() -> None:
    report = dlcheck.validate(Tempered, kind="loss", options=CLASSES, profile="quick")
    assert not report.failures, str(report)
    trained = outcome(Tempered, "every_parameter_trains", "loss", options=CLASSES)
    assert trained.verdict is Verdict.PASSED


class Weighed(nn.Module):
    """Kendall's log-variance: what the best loss is depends on it."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.tensor(0.0))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        squares = (prediction - target).square()
        return (torch.exp(-self.log_variance) * squares + self.log_variance).mean()


def test_parameters_that_decide_what_is_best_are_named() -> None:
    found = outcome(
        Weighed, "is_least_at_a_perfect_prediction", "loss", options={"task": "regression"}
    )
    assert found.worst is not None
    assert "log_variance" in found.worst.cause
    assert "roles" in found.worst.cause


# --- optimizers --------------------------------------------------------------------------------


class Sharp(torch.optim.SGD):
    """Asks for its closure without a default, as SAM does."""

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            loss = closure()
        super().step()
        return loss


def test_a_closure_that_is_needed_is_asked_for_by_name() -> None:
    found = outcome(Sharp, "the_mirror_image_goes_the_mirrored_way", "optimizer")
    assert found.verdict is Verdict.FAILED
    assert "declare the trait needs_closure" in found.message
    right = outcome(
        Sharp, "the_mirror_image_goes_the_mirrored_way", "optimizer", traits=["needs_closure"]
    )
    assert right.verdict is Verdict.PASSED


def test_a_step_size_that_suits_is_found() -> None:
    """The default of 1e-3 goes nowhere in 300 steps; one of a thousand times that does."""
    found = outcome(torch.optim.SGD, "converges_on_a_convex_problem", "optimizer")
    assert found.verdict is Verdict.PASSED


class KeepsStateByName(torch.optim.SGD):
    """A state_dict keyed by names of its own."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1) -> None:
        super().__init__(params, lr=lr, momentum=0.9)

    def state_dict(self) -> dict[str, Any]:
        found = super().state_dict()
        named = {f"parameter.{key}": value for key, value in found["state"].items()}
        return {**found, "state": named}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = {int(k.rpartition(".")[2]): v for k, v in state_dict["state"].items()}
        super().load_state_dict({**state_dict, "state": state})


def test_a_state_by_name_resumes() -> None:
    found = outcome(KeepsStateByName, "optimizer_resumes_where_it_stopped", "optimizer")
    assert found.verdict is Verdict.PASSED


class EatsItsGradient(torch.optim.Optimizer):
    """Scales p.grad in place, and steps by it."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad.mul_(group["lr"]))
        return loss


def test_a_step_in_place_of_the_gradient_is_a_step() -> None:
    report = dlcheck.validate(EatsItsGradient, kind="optimizer", profile="quick")
    assert not report.failures, str(report)


def test_sparse_gradients_are_given_where_they_are_declared() -> None:
    inputs = {"embedding": "float n m", "another": "float k m"}
    refused = outcome(
        torch.optim.SparseAdam, "a_zero_gradient_is_finite", "optimizer", inputs=inputs
    )
    assert refused.verdict is Verdict.FAILED
    assert "dense gradients" in refused.message
    report = dlcheck.validate(
        torch.optim.SparseAdam,
        kind="optimizer",
        inputs=inputs,
        traits=["sparse_gradient"],
        profile="quick",
    )
    assert not report.failures, str(report)


def test_what_is_no_optimizer_is_told_so() -> None:
    found = outcome(lambda params: list(params), "a_zero_gradient_is_finite", "optimizer")
    assert found.verdict is Verdict.FAILED
    assert "has no step() or no param_groups" in found.message


def test_an_unknown_rule_is_told_with_what_is_known() -> None:
    found = outcome(
        torch.optim.Adam, "follows_its_recursion", "optimizer", options={"rule": "adan"}
    )
    assert found.verdict is Verdict.ERRORED
    assert "Did you mean 'adam'" in found.message


# --- declarations that say nothing -------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "kind", "options", "said"),
    [
        (nn.MSELoss, "loss", {"task": "regresion"}, "Did you mean 'regression'"),
        (
            "torch.nn:CrossEntropyLoss",
            "loss",
            {"task": "classification", "reduction": "average"},
            "value of reduction",
        ),
        (nn.NLLLoss, "loss", {**CLASSES, "prediction": "log_probs"}, "'log_probabilities'"),
        (nn.MSELoss, "loss", {"task": "regression", "roles": {"target": "y"}}, "no input named"),
        (nn.MSELoss, "loss", {"task": "regression", "roles": {"truth": "y"}}, "no role named"),
        (torch.optim.Adam, "optimizer", {"decay": "decopled"}, "Did you mean 'decoupled'"),
        (nn.utils.clip_grad_norm_, "clipping", {"by": "globalnorm"}, "'global_norm'"),
        (nn.utils.clip_grad_norm_, "clipping", {}, "needs the option by"),
    ],
)
def test_a_wrong_value_is_told_before_anything_runs(
    target: Any, kind: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(DeclarationError, match=said):
        dlcheck.validate(target, kind=kind, options=options)
