"""Answers that are complex, whole or boolean numbers are judged, or left out with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import dlcheck
from dlcheck.checks.every import whole_numbers
from dlcheck.model import Evidence


def _complex_product(x: Tensor) -> Tensor:
    return torch.complex(x, x * x)


def _conjugated(x: Tensor) -> Tensor:
    return torch.fft.fft(x).conj()


def _largest(x: Tensor) -> tuple[Tensor, Tensor]:
    values, places = x.topk(1)
    return values, places


def _places(x: Tensor) -> Tensor:
    return x.argmax(-1)


class _WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.complex(x, 2 * x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].real - 2 * gradients[0].imag


def _rows_leak(x: Tensor) -> Tensor:
    return torch.complex(x, x.mean(0).expand_as(x))


RIGHT = [
    torch.fft.fft,
    _complex_product,
    _conjugated,
    _largest,
    _places,
    torch.isnan,
    torch.signbit,
]


@pytest.mark.parametrize("function", RIGHT)
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_a_right_function_passes(function: Callable[[Tensor], Any]) -> None:
    report = dlcheck.validate(
        function, kind="op", inputs={"x": "float b n"}, profile="quick", seed=1
    )
    bad = [outcome for outcome in report.outcomes if not outcome.verdict.is_good]
    assert not bad, "\n".join(f"{outcome.check}: {outcome.message}" for outcome in bad)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_a_wrong_complex_gradient_fails() -> None:
    report = dlcheck.validate(
        _WrongBackward, kind="op", inputs={"x": "float b n"}, profile="quick", seed=1
    )
    assert "gradient_matches_difference" in {failure.check for failure in report.failures}


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_a_complex_answer_that_mixes_rows_fails() -> None:
    report = dlcheck.validate(
        _rows_leak, kind="op", inputs={"x": "float b n"}, profile="quick", seed=1
    )
    assert "rows_are_independent" in {failure.check for failure in report.failures}


def test_a_draw_that_says_nothing_acquits_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Evidence(error=2.0, bound=0.0, signal=9.0, what="integers")
    draws = iter([[wrong], [], []])
    monkeypatch.setattr(whole_numbers, "_compared", lambda *_: next(draws))
    monkeypatch.setattr(whole_numbers, "redrawn", lambda case, _: case)
    assert whole_numbers.whole_numbers_agree(Any, Any) == [wrong]  # type: ignore[arg-type]


def test_a_tensor_among_the_arguments_of_a_function_takes_the_type_of_the_trial() -> None:
    def scaled(x: Tensor, scale: Tensor) -> Tensor:
        return x * scale

    report = dlcheck.validate(
        scaled,
        kind="op",
        inputs={"x": "float b 3"},
        args={"scale": torch.tensor([1.0, 2.0, 3.0])},
        profile="quick",
        seed=1,
    )
    report.raise_for_failures()
