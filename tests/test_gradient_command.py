"""`dlcheck gradient` says whether a gradient is right, and which bugs in it would be found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dlcheck.cli import COULD_NOT_MEASURE, USAGE_ERROR, main
from dlcheck.errors import UsageError
from dlcheck.gradients.bugs import BUGS
from dlcheck.gradients.self_test import SelfTest, self_test
from dlcheck.model import Verdict

TARGETS = '''
import torch


def layer(x, weight, bias):
    """tanh(xW + b)"""
    return torch.tanh(x @ weight + bias)


def raising(x):
    raise ValueError("too wide for me")


class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.linear = torch.nn.Linear(width, 3)

    def forward(self, x):
        return torch.tanh(self.linear(x))


built = Net(6)


class WrongBelowZero(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x.cos() + 0.01 * (x < 0))


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return -g


def identity(x):
    return x


def soft(x):
    return x.sigmoid()


class HardInSoftClothes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x)

    @staticmethod
    def backward(ctx, g):
        y = ctx.saved_tensors[0].sigmoid()
        return g * y * (1 - y)
'''
LAYER = ["--inputs", "x=float b n", "weight=float n m", "bias=float m"]
NET = ["mine.py:Net", "--inputs", "x=float b n", "--args", 'width={dim="n"}']
X = ["--inputs", "x=float b n"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a file of targets."""
    (tmp_path / "mine.py").write_text(TARGETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gradient(*arguments: str) -> int:
    return main(["gradient", *arguments, "--device", "cpu", "--seed", "3"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mine.py:layer", *LAYER, "--size", "b=4", "n=2"], "x (4×2): right to"),
        (["mine.py:layer", "--inputs", "bias=float m", "weight=float n m", "x=float b n"],
         "weight (7×6): right to"),
        ([*NET], "linear.weight (3×6): right to"),
        (["mine.py:built", *X], "linear.bias (3): right to"),
        (["mine.py:Net", "--inputs", "x=float b 6", "--arg", "width=6", "--wrt", "linear.bias"],
         "linear.bias (3): right to"),
        (["torch:tanh", *X, "--mode", "lite"], "x (5×6): right to"),
        (["torch:tanh", *X, "--order", "2"], "incoming gradient 0 (5×6): right to"),
        (["torch:exp", *X, "--regimes", "negative", "tiny"], "inputs are negative: passed"),
        (["torch.nn:CrossEntropyLoss", "--inputs", "input=logit b k", "target=label[k] b"],
         "input (5×6): right to"),
        (["mine.py:Reversal", *X, "--expect", "reversed"], "the gradient is right"),
        (["mine.py:Reversal", *X, "--expect", "-1.0"], "the gradient is right"),
        (["mine.py:HardInSoftClothes", *X, "--expect", "mine.py:soft"], "the gradient is right"),
        (["torch:tanh", *X, "--dtype", "float32"], "the gradient is right"),
        (["dlcheck.references.penalties.l1:l1_penalty", "--wrt", "weights"],
         "weights (6×5): right to"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_right_gradient_passes(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = gradient(*arguments)
    text = capsys.readouterr().out
    assert code == 0, text
    assert said in text


def test_a_wrong_gradient_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gradient("mine.py:WrongBelowZero", *X) == 1
    text = capsys.readouterr().out
    assert text.startswith("the gradient is wrong")
    assert "should be" in text
    assert "Traceback" not in text


def test_what_is_meant_to_differ_differs_otherwise(folder: Path) -> None:
    assert gradient("mine.py:Reversal", *X) == 1
    assert gradient("mine.py:identity", *X, "--expect", "reversed") == 1
    assert gradient("mine.py:HardInSoftClothes", *X, "--expect", "torch:tanh") == 1


def test_nothing_to_differentiate_is_not_decided(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gradient("torch:argmax", *X) == COULD_NOT_MEASURE
    assert "which has no derivative" in capsys.readouterr().out


def test_a_target_that_raises_shows_its_own_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gradient("mine.py:raising", *X) == 1
    text = capsys.readouterr().out
    assert "too wide for me" in text
    assert "mine.py" in text
    assert "dlcheck/gradients" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine.py:layer"], "does not say what it takes"),
        (["mine.py:layer", *X], "missing a required argument: 'weight'"),
        (["mine.py:layer", "--inputs", "x=flot b n"], "no element named 'flot'"),
        (["mine.py:layer", "--inputs", "x"], "takes NAME=VALUE"),
        (["mine.py:layer", "--inputs", "x=3"], "an input is a text like"),
        (["mine.py:layers", *X], "Did you mean 'layer'?"),
        (["yours.py:layer", *X], "there is no file yours.py"),
        (["nowhere:layer", *X], "there is no module 'nowhere'"),
        (["mine.py:layer", *LAYER, "--size", "c=3"], "dim 'c' is used but never bound"),
        (["mine.py:layer", *LAYER, "--wrt", "wieght"], "Did you mean 'weight'?"),
        (["mine.py:Net", *X, "--args", "depth=2"], "depth"),
        (["torch:tanh", *X, "--mode", "medium"], "no mode named 'medium'"),
        (["torch:tanh", *X, "--order", "3"], "order is 1 or 2"),
        (["torch:tanh", *X, "--regimes", "huge"], "no regime named 'huge'"),
        (["torch:tanh", *X, "--expect", "flipped"], "no expectation named 'flipped'"),
        (["torch:tanh", *X, "--expect", "mine.py:nothing"], "mine.py:nothing"),
        (["torch:tanh", *X, "--dtype", "float7"], "no dtype named 'float7'"),
        (["torch.optim:SGD", *X], "kind optimizer, which has no gradient"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_message(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = gradient(*arguments)
    said = capsys.readouterr()
    assert code == USAGE_ERROR, said
    assert message in said.err
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_an_absent_device_gets_one_message(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gradient", "torch:tanh", *X, "--device", "cuda:99"]) == USAGE_ERROR
    assert "cuda:99 is absent" in capsys.readouterr().err


def test_json_holds_the_evidence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gradient("mine.py:layer", *LAYER, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "passed"
    assert found["certificate"] < 1e-6
    assert [tensor["name"] for tensor in found["tensors"]] == ["x", "weight", "bias"]
    assert gradient("mine.py:WrongBelowZero", *X, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "failed"
    assert found["element"]["tensor"] == "x"


# --- the self-test ------------------------------------------------------------------------------


def test_the_self_test_prints_what_would_be_found(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gradient(*NET, "--wrt", "x", "--self-test") == 0
    text = capsys.readouterr().out
    assert "✓ sign flipped" in text
    assert "found in x\n" in text
    assert text.rstrip().endswith("found 32 of 32 that have an effect")


def test_the_self_test_in_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gradient("torch:tanh", *X, "--mode", "lite", "--self-test", "--json") == 0
    found = json.loads(capsys.readouterr().out)["self_test"]
    assert len(found["classes"]) == len(BUGS)
    assert {"found", "missed", "no effect"} == {each["outcome"] for each in found["classes"]}


def test_a_wrong_gradient_has_no_self_test(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gradient("mine.py:WrongBelowZero", *X, "--self-test") == 1
    assert "self-test: bugs can be told from a right gradient only" in capsys.readouterr().out


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def outcomes(tested: SelfTest) -> dict[str, str]:
    assert tested.sound.verdict is Verdict.PASSED
    return {each.name: each.outcome for each in tested.classes}


def test_every_class_has_an_effect_on_some_function_and_is_found() -> None:
    tested = self_test(lambda z: z * z.abs(), normal(3, 3, seed=0, dtype=torch.complex128), seed=2)
    assert outcomes(tested) == {bug.name: "found" for bug in BUGS}


def test_lite_misses_what_it_says() -> None:
    x, weight = normal(4, 5, seed=3), normal(5, 5, seed=4)
    tested = self_test(lambda x, weight: torch.tanh(x @ weight), (x, weight), mode="lite", seed=0)
    found = outcomes(tested)
    missed = {name for name, outcome in found.items() if outcome == "missed"}
    circumstances = {bug.name for bug in BUGS if bug.shows and bug.shows != "another call"}
    assert missed - {"rounded to float32"} == circumstances
    assert {name for name, outcome in found.items() if outcome == "no effect"} == {"not conjugated"}
    assert all("which mode full tries" in each.remark
               for each in tested.of("missed") if each.name in circumstances)  # fmt: skip


def test_an_error_below_the_certificate_is_told() -> None:
    x = normal(5, seed=5)
    # Differences of a function of size 10⁹ whose slope is of order 1 lose nine digits.
    tested = self_test(lambda x: 1e9 + x.sin(), x, seed=0)
    found = {each.name: each for each in tested.classes}
    assert found["too large by 1e-6"].outcome in ("found", "missed")
    assert found["rounded to float32"].outcome == "missed"
    assert "is below what can be seen" in found["rounded to float32"].remark
    assert found["sign flipped"].outcome == "found"


def test_a_gradient_that_is_zero_but_for_rounding_is_left_out() -> None:
    torch.manual_seed(6)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)).double()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    tested = self_test(module, normal(5, 3, seed=7), mode="lite", seed=0)
    assert tested.left_out == ("0.bias",)
    assert not any(part.tensor == "0.bias" for each in tested.classes for part in each.injected)
    assert "nothing was put into 0.bias" in tested.summary
    # The module itself stays as it was.
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_second_gradients_and_sparse_ones() -> None:
    x = normal(3, 4, seed=8)
    second = self_test(lambda x: x.sin(), x, order=2, mode="lite", seed=0)
    assert outcomes(second)["too large by 1e-4"] == "found"
    embedding = nn.Embedding(6, 3, sparse=True).double()
    tested = self_test(embedding, torch.tensor([1, 1, 4]), mode="lite", seed=0)
    assert outcomes(tested)["one element dropped"] == "found"


@pytest.mark.parametrize("reference", [None, lambda x: x.sin()], ids=["itself", "reference"])
def test_low_precision_is_as_good_as_its_twin(reference: Callable[..., Any] | None) -> None:
    x = normal(4, 3, seed=11, dtype=torch.float32)
    tested = self_test(lambda x: x.sin(), x, reference=reference, mode="lite", seed=0)
    found = outcomes(tested)
    assert found["too large by 1e-4"] == "found"
    assert found["rounded to float32"] == "no effect"
    # Another call, or another layout, is tried on the code that is certified.
    kept = next(each for each in tested.classes if each.name == "state kept from the last call")
    assert kept.outcome == ("missed" if reference else "found")
    assert ("is tried in float64 only" in kept.remark) == (kept.outcome == "missed")


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="no mode named 'medium'"):
        self_test(torch.sin, normal(2, seed=0), mode="medium")
    with pytest.raises(UsageError, match="order is 1 or 2"):
        self_test(torch.sin, normal(2, seed=0), order=3)
