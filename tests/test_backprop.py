"""Gradients, references by hand, training loops: right ones pass, and the cause is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dlcheck.model import Evidence, Outcome, Subject, Trial, Verdict
from dlcheck.mutants import around, on_tensors, scaled_gradient, through_backward
from dlcheck.references.training.backpropagation import backpropagation
from dlcheck.references.training.minibatch_training import minibatch_training
from dlcheck.references.training.multilayer_perceptron import (
    AutogradPerceptron,
    MultilayerPerceptron,
)
from dlcheck.registry import catalogue
from dlcheck.runner import run_trial
from dlcheck.suite import complete

LINEAR = Subject(
    name="linear",
    target=nn.Linear,
    kind="layer",
    args={"in_features": {"dim": "d"}, "out_features": 3},
    inputs={"x": "float b d"},
)


def outcome(check: str, subject: Subject, seed: int = 0) -> Outcome:
    return run_trial(
        Trial(
            suite="test",
            subject=complete(subject),
            check=catalogue().check(check),
            device="cpu",
            dtype="float64",
            seed=seed,
        )
    )


def deciding(check: str, subject: Subject, seed: int = 0) -> Evidence:
    worst = outcome(check, subject, seed).worst
    assert worst is not None
    return worst


def op(function: Callable[..., Any], **inputs: str) -> Subject:
    return Subject(name="f", target=function, kind="op", inputs=inputs)


# --- gradients ---


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        (scaled_gradient(-1.0)(LINEAR), "sign is flipped"),
        (scaled_gradient(2.0)(LINEAR), "factor 2 too many"),
        (scaled_gradient(0.5)(LINEAR), "factor 2 is missing"),
        (scaled_gradient(1.0001)(LINEAR), "1.0001 times"),
    ],
)
def test_a_wrong_factor_is_named(subject: Subject, words: str) -> None:
    assert words in deciding("gradient_matches_difference", subject).cause


def test_a_missing_gradient_is_named() -> None:
    evidence = deciding(
        "gradient_matches_difference",
        op(lambda x, w: torch.tanh(x) * w.detach(), x="float n", w="float n"),
    )
    assert evidence.verdict is Verdict.FAILED
    assert evidence.what.startswith("gradient of w")
    assert "no gradient arrives" in evidence.cause


def test_ignored_strides_are_named() -> None:
    def reads_memory(gradient: Tensor) -> Tensor:
        if gradient.is_contiguous() or 0 in gradient.stride():
            return gradient
        flat = gradient.as_strided((gradient.numel(),), (1,))
        return flat.view(gradient.shape)

    @around
    def ignores_strides(original: Any, *inputs: Any) -> Any:
        return on_tensors(original(*inputs), lambda y: through_backward(y, reads_memory))

    assert "strides" in deciding("gradient_matches_difference", ignores_strides(LINEAR)).cause


def test_a_nan_behind_a_where_fails_and_says_so() -> None:
    def guarded_root(x: Tensor) -> Tensor:
        return torch.where(x > 0, x.sqrt(), torch.zeros_like(x)) + x

    result = outcome("gradient_matches_difference", op(guarded_root, x="float n"))
    assert result.verdict is Verdict.FAILED
    assert result.worst is not None
    assert "0 · ∞" in result.worst.cause


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "subject",
    [
        op(lambda x: x.abs().sum(-1), x="float b n"),
        op(lambda x: x.amax(-1), x="float b n"),
        op(lambda x: x.sort(-1).values * torch.arange(x.shape[-1]), x="float b n"),
        op(lambda a: torch.linalg.cholesky(a), a="spd k k"),
        op(lambda p: -(torch.special.xlogy(p, p)).sum(-1), p="probability b k"),
        op(lambda x: F.dropout(x, 0.5), x="float b n"),
        op(lambda x: (torch.tanh(x.float())).double(), x="float b n"),
        op(lambda x, i: x[i], x="float n d", i="index[n] b"),
        op(lambda x: (x.sin(), {"c": x.cos(), "n": x.argmax()}), x="float n"),
    ],
    ids=["abs", "max", "sort", "cholesky", "entropy", "dropout", "float32", "gather", "nested"],
)
def test_hard_but_right_functions_pass(subject: Subject, seed: int) -> None:
    assert outcome("gradient_matches_difference", subject, seed).verdict is Verdict.PASSED


def test_a_declared_stop_is_respected() -> None:
    subject = op(lambda x, t: (x * t.detach()).sum(), x="float n", t="float n")
    assert outcome("gradient_matches_difference", subject).verdict is Verdict.FAILED
    stopped = dataclasses.replace(subject, options={"stop_gradient": ["t"]})
    assert outcome("gradient_matches_difference", stopped).verdict is Verdict.PASSED
    wanted = dataclasses.replace(subject, options={"wrt": ["x"]})
    assert outcome("gradient_matches_difference", wanted).verdict is Verdict.PASSED


def test_a_loss_may_leave_its_target_without_gradient() -> None:
    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target.detach()).square().mean()

    subject = Subject(name="loss", target=loss, kind="loss", options={"task": "regression"})
    assert outcome("gradient_matches_difference", subject).verdict is Verdict.PASSED


def test_the_parameters_are_left_as_they_were_built() -> None:
    layer = nn.Linear(4, 3).double()
    before = [p.detach().clone() for p in layer.parameters()]
    subject = Subject(name="layer", target=layer, kind="layer", inputs={"x": "float b 4"})
    assert outcome("gradient_matches_difference", subject).verdict is Verdict.PASSED
    assert all(torch.equal(p, q) for p, q in zip(layer.parameters(), before, strict=True))


# --- references by hand ---


def test_the_network_by_hand_is_that_of_autograd() -> None:
    torch.manual_seed(0)
    by_hand = MultilayerPerceptron(6, 5, 3).double()
    by_autograd = AutogradPerceptron(6, 5, 3).double()
    by_autograd.load_state_dict(by_hand.state_dict())
    x, v = torch.randn(7, 6).double(), torch.randn(7, 3).double()
    found = []
    for network in (by_hand, by_autograd):
        leaf = x.clone().requires_grad_()
        y = network(leaf)
        found.append([y.detach(), *torch.autograd.grad(y, [leaf, *network.parameters()], v)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss()], ids=["entropy", "squares"])
def test_the_loop_by_hand_is_that_of_torch(loss: nn.Module, accumulate: int) -> None:
    torch.manual_seed(1)
    x = torch.randn(11, 6).double()
    y = torch.randn(11, 4).double() if isinstance(loss, nn.MSELoss) else torch.arange(11) % 4
    first = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 4))
    start, ends = first.double().state_dict(), []
    start = {name: value.clone() for name, value in start.items()}
    for train in (backpropagation, minibatch_training):
        first.load_state_dict(start)
        optimizer = torch.optim.SGD(first.parameters(), lr=0.2, momentum=0.9)
        loader: DataLoader[Any] = DataLoader(TensorDataset(x, y), batch_size=4)
        history = train(first, loader, optimizer, loss, accumulate=accumulate, epochs=3)
        ends.append([p.detach().clone() for p in first.parameters()])
        assert len(history) == 3
        assert history[-1] < history[0]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-11, atol=1e-12)


def test_the_loop_by_hand_refuses_what_it_cannot() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="cross-entropy"):
        backpropagation(model, [], sgd, nn.HuberLoss())
    with pytest.raises(TypeError, match="Sequential of Linear, Tanh and ReLU, not GELU"):
        backpropagation(nn.Sequential(nn.GELU()), [], sgd, nn.MSELoss())
    with pytest.raises(TypeError, match="updates as SGD, not Adam"):
        backpropagation(model, [], torch.optim.Adam(model.parameters()), nn.MSELoss())


# --- comparisons with a reference ---


def test_a_reference_gets_the_parameters_under_its_own_names() -> None:
    class Renamed(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(size))
            self.factor = nn.Parameter(torch.ones(size))

        def forward(self, x: Tensor) -> Tensor:
            return F.layer_norm(x, x.shape[-1:], self.factor, self.shift)

    subject = Subject(
        name="renamed",
        target=Renamed,
        kind="normalization",
        args={"size": {"dim": "d"}},
        inputs={"x": "float b d"},
        options={
            "axes": [-1],
            "sizes": {"d": [3, 9]},
            "reference_state": {"weight": "factor", "bias": "shift"},
        },
        reference=nn.LayerNorm,
        reference_args={"normalized_shape": {"dim": "d"}},
    )
    assert outcome("matches_reference", subject).verdict is Verdict.PASSED
    swapped = dataclasses.replace(
        subject,
        options={**subject.options, "reference_state": {"weight": "shift", "bias": "factor"}},
    )
    assert outcome("matches_reference", swapped).verdict is Verdict.FAILED


def test_a_check_that_needs_a_reference_says_so() -> None:
    check = catalogue().check("matches_reference")
    assert check.why_not(LINEAR) == "needs the option reference"
    assert not check.why_not(dataclasses.replace(LINEAR, reference=nn.Linear))
