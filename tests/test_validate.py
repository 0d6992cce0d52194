"""`validate`: any object or import path, never changed, and every mistake told clearly."""

from __future__ import annotations

import json
import os
import random
import re
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dlcheck
from dlcheck.errors import DeclarationError, UsageError, ValidationFailed
from dlcheck.model import Verdict

QUICK: dict[str, Any] = {"profile": "quick", "device": "cpu"}
KEPT = ["leaves_inputs_*"]
ONE: dict[str, Any] = {**QUICK, "kind": "op", "inputs": {"x": "float n"}, "checks": KEPT}


def twice(x: Tensor) -> Tensor:
    return 2 * x


class WrongSwish(torch.autograd.Function):
    """x σ(x) whose backward forgets the factor 1 − σ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        sigmoid = torch.sigmoid(x)
        ctx.save_for_backward(x, sigmoid)
        return x * sigmoid

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x, sigmoid = ctx.saved_tensors
        return gradients[0] * (sigmoid + x * sigmoid)


class Counting(nn.Module):
    """A layer that notes every call on itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x)


def test_finds_a_wrong_backward_without_a_reference() -> None:
    report = dlcheck.validate(WrongSwish, kind="activation", **QUICK)
    assert not report.passed
    assert "gradient_matches_difference" in [outcome.check for outcome in report.failures]
    with pytest.raises(ValidationFailed, match="gradient_matches_difference"):
        report.raise_for_failures()


def test_a_right_one_passes() -> None:
    report = dlcheck.validate(nn.SiLU(), kind="activation", **QUICK)
    assert report.passed, str(report)
    report.raise_for_failures()
    assert json.loads(report.to_json())["passed"] is True
    assert "<" in report._repr_html_()


def test_an_object_is_never_changed() -> None:
    layer = Counting()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    report = dlcheck.validate(layer, inputs={"x": "float b 3"}, **QUICK)
    assert report.passed, str(report)
    assert layer.calls == 0
    assert all(torch.equal(value, layer.state_dict()[name]) for name, value in before.items())
    assert next(layer.parameters()).dtype == torch.float32


def test_kinds_are_inferred_where_unambiguous() -> None:
    layer = dlcheck.validate(nn.Tanh, inputs={"x": "float b n"}, checks=KEPT, **QUICK)
    assert layer.outcomes[0].kind == "layer"
    loss = dlcheck.validate(nn.MSELoss, task="regression", checks=KEPT, **QUICK)
    assert loss.outcomes[0].kind == "loss"
    with pytest.raises(UsageError, match="what kind of subject is twice"):
        dlcheck.validate(twice, **QUICK)


def test_inputs_are_read_from_jaxtyping_annotations() -> None:
    class Float:  # what jaxtyping's Float[Tensor, "b n"] looks like
        dim_str, dtypes = "b n", ("float32", "float64")

    def annotated(x: Float) -> Tensor:
        return 2 * x  # type: ignore[operator]

    annotated.__annotations__ = {"x": Float, "return": Annotated[Tensor, ""]}
    report = dlcheck.validate(annotated, kind="op", checks=KEPT, **QUICK)
    assert report.passed, str(report)


def test_constructor_arguments_vary() -> None:
    report = dlcheck.validate(
        nn.Linear,
        kind="layer",
        args={"in_features": {"dim": "d"}, "out_features": 3},
        matrix={"bias": [True, False]},
        inputs={"x": "float b d"},
        checks=KEPT,
        **QUICK,
    )
    assert len(report.outcomes) == 2
    assert report.passed, str(report)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda x: None, "returned NoneType|returned builtins.NoneType"),
        (lambda x: x.detach().numpy(), "ndarray"),
        (lambda x: 3, "int"),
    ],
    ids=["None", "array", "int"],
)
def test_an_answer_that_is_no_tensor_fails_with_one_message(answer: Any, told: str) -> None:
    report = dlcheck.validate(
        answer, kind="op", inputs={"x": "float n"}, checks=["repeats_*", "gradient_*"], **QUICK
    )
    assert report.outcomes
    for outcome in report.outcomes:
        assert outcome.verdict is Verdict.FAILED, str(report)
        assert "Traceback" not in outcome.message
    assert any(re.search(told, outcome.message) for outcome in report.outcomes)


def test_a_construction_that_raises_is_a_failed_trial_with_its_own_traceback() -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            raise RuntimeError("no such width")

    report = dlcheck.validate(Breaks, kind="layer", inputs={"x": "float n"}, checks=KEPT, **QUICK)
    (outcome,) = report.failures
    assert "no such width" in outcome.message
    assert "dlcheck itself failed" not in outcome.message


def test_expected_failures_are_strict() -> None:
    def overwrites(x: Tensor) -> Tensor:
        return x.mul_(2)

    known = {"leaves_inputs_unchanged": "issue 41"}
    assert dlcheck.validate(overwrites, **ONE, expect_failures=known).passed
    report = dlcheck.validate(twice, **ONE, expect_failures=known)
    assert "declared to fail" in report.failures[0].message


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"kind": "opp"}, "no kind named 'opp'. Did you mean 'op'"),
        ({"traits": ["causl"]}, "Did you mean 'causal'"),
        ({"options": {"bound": 1}}, "Did you mean 'bounds'"),
        ({"checks": ["leave_*"]}, "matches no check"),
        ({"inputs": {"x": "flot n"}}, "Did you mean 'float'"),
        ({"args": {"width": {"dim": "d"}}}, "dim 'd' is used but never bound"),
        ({"profile": "quik"}, "no profile named 'quik'. Did you mean 'quick'"),
        ({"expect_failures": {"leaves_outputs": "x"}}, "no check named 'leaves_outputs'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_declaration_is_told(declared: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        dlcheck.validate(twice, **{**ONE, **declared})


def test_nothing_to_check_is_never_green() -> None:
    with pytest.raises(DeclarationError, match="no check applies"):
        dlcheck.validate(twice, kind="activation", skip=["*"], **QUICK)
    assert not dlcheck.Report([], {}).passed


def test_an_endless_subject_fails_at_its_timeout() -> None:
    def endless(x: Tensor) -> Tensor:
        while True:
            pass

    report = dlcheck.validate(endless, **ONE, timeout=0.5)
    assert "timeout of 0.5 s" in report.failures[0].message


def test_the_same_seed_gives_the_same_evidence() -> None:
    noisy = {"kind": "dropout", **QUICK, "options": {"p": "p"}, "checks": ["drops_at_*"]}
    first, again, other = (
        dlcheck.validate(nn.Dropout, args={"p": 0.3}, seed=seed, **noisy).outcomes[0].worst
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_numpy_streams_are_put_back() -> None:
    before = np.random.get_state()[1].tolist()
    dlcheck.validate(lambda x: x * float(np.random.rand()), **ONE)
    assert np.random.get_state()[1].tolist() == before


def test_values_whose_squares_overflow_are_no_error_of_ours() -> None:
    """exp of an outlier is about 1e170: representable, while its square is not."""
    report = dlcheck.validate(
        nn.PoissonNLLLoss,
        kind="loss",
        inputs={"p": "float b d", "t": "positive b d"},
        checks=["gradient_*"],
        device="cpu",
    )
    assert report.passed, str(report)


def test_an_instance_takes_no_arguments() -> None:
    report = dlcheck.validate(
        nn.Linear(3, 2), args={"bias": False}, inputs={"x": "float b 3"}, checks=KEPT,
        **QUICK,
    )  # fmt: skip
    assert not report.passed
    assert "pass the class instead of an instance" in report.failures[0].message


def test_flags_that_torch_testing_has_frozen_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = torch.backends.flags_frozen.__globals__
    monkeypatch.setitem(known, "__allow_nonbracketed_mutation_flag", 0)
    with pytest.raises(RuntimeError, match="not allowed to set"):
        torch.backends.cudnn.deterministic = torch.backends.cudnn.deterministic
    assert dlcheck.validate(twice, **ONE).passed


class _ReadsMemoryInOrder(torch.autograd.Function):
    """Its backward takes its saved input for contiguous, whatever the strides say."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        flat = x.as_strided(x.shape, torch.empty(x.shape).stride())
        return gradients[0] * torch.cos(flat)


def test_gradients_are_taken_in_the_declared_layouts_only() -> None:
    declared: dict[str, Any] = {"kind": "op", "inputs": {"x": "float b n"}, "profile": "quick"}
    only = {"checks": ["gradient_matches_difference"]}
    assert not dlcheck.validate(_ReadsMemoryInOrder, **declared, **only).passed
    contiguous = {"layouts": ["contiguous"]}
    assert dlcheck.validate(_ReadsMemoryInOrder, **declared, **only, options=contiguous).passed


def rude(x: Tensor) -> Tensor:
    """Changes what every later trial would see."""
    torch.set_default_dtype(torch.float16)
    torch.set_grad_enabled(mode=False)
    torch.set_num_threads(1 if torch.get_num_threads() > 1 else 2)
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    os.environ["RUDE"] = "1"
    return x * 2


def test_state_is_restored_after_every_trial() -> None:
    def state() -> tuple[object, ...]:
        return (
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark,
            torch.get_float32_matmul_precision(),
            torch.get_rng_state().tolist(),
            random.getstate(),
            np.random.get_state()[1].tolist(),
            os.environ.get("RUDE"),
        )

    before = state()
    report = dlcheck.validate(
        rude, kind="op", inputs={"x": "float n"}, checks=["leaves_inputs_unchanged"],
        profile="quick", device="cpu",
    )  # fmt: skip
    assert state() == before
    assert report.passed


@pytest.mark.parametrize(
    ("layer", "args", "inputs", "traits"),
    [
        (nn.LazyLinear, {"out_features": 3}, {"x": "float b 4"}, []),
        (nn.LazyConv2d, {"out_channels": 3, "kernel_size": 2}, {"x": "float b 2 4 5"}, []),
        (nn.LazyBatchNorm1d, {}, {"x": "float b 3"}, ["batch_coupled", "updates_buffers"]),
        (nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(2)), {}, {"x": "float b 3"}, []),
    ],
    ids=["linear", "convolution", "batch normalization", "instance"],
)
def test_a_lazy_layer_sees_its_inputs_first(
    layer: Any, args: dict[str, Any], inputs: dict[str, str], traits: list[str]
) -> None:
    dlcheck.validate(
        layer, kind="layer", args=args, inputs=inputs, traits=traits, profile="quick",
        options={"sizes": {"b": [2, 5]}},
    ).raise_for_failures()  # fmt: skip
