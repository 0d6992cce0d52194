"""The gradient engine: right gradients never fail, wrong ones do, bad input is named."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradient_cases import Draw
from right_gradients import RIGHT
from torch import Tensor
from wrong_gradients import WRONG

from dlcheck import check_gradient
from dlcheck.errors import GradientMismatch, GradientWarning, SubjectRaised, UsageError
from dlcheck.gradients.evidence import GradientEvidence
from dlcheck.model import Verdict

CERTAIN = [name for name, case in WRONG.items() if math.isinf(case.below)]
SEEN = 1e-2  # an error that escapes with a greater probability need not be found


def checked(f: Callable[..., Any], inputs: Any, **options: Any) -> GradientEvidence:
    """The evidence, whatever the verdict."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradientWarning)
        return check_gradient(f, inputs, raises=False, **options)


def several_seeds(now: int, nightly: int, *, big: int = 2) -> pytest.MarkDecorator:
    """How many seeds of a case, and of a big one: a few each time, more at night."""
    at_night = pytest.param(nightly, big, marks=pytest.mark.nightly)
    return pytest.mark.parametrize(("seeds", "big"), [(now, 1), at_night], ids=["few", "more"])


@several_seeds(3, nightly=10)
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_never_fails(name: str, seeds: int, big: int) -> None:
    case = RIGHT[name]
    for seed in range(big if case.big else seeds):
        found = checked(*case.build(seed), order=case.order, expect=case.expect, seed=seed)
        assert found.verdict is not Verdict.FAILED, f"seed {seed}: {found}"
        assert found.passed or found.reason, f"seed {seed}: undecided without a reason"


@several_seeds(2, nightly=5)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_gradient_fails(name: str, seeds: int, big: int) -> None:
    case = WRONG[name]
    for seed in range(big if case.big else seeds):
        found = checked(*case.build(seed), order=case.order, regimes=case.regimes, seed=seed)
        visible = found.miss(case.below / found.certificate) < SEEN
        assert found.verdict is Verdict.FAILED or not visible, f"seed {seed}: {found}"


@pytest.mark.parametrize("name", [name for name in CERTAIN if WRONG[name].elements])
def test_single_wrong_elements_are_named(name: str) -> None:
    found = checked(*WRONG[name].build(0))
    (result,) = found.tensors
    named = {element.index for element in result.elements}
    assert named
    assert named <= set(WRONG[name].elements)
    assert found.element in result.elements


@pytest.mark.parametrize("name", [name for name in CERTAIN if WRONG[name].cause])
def test_the_cause_is_in_the_diagnosis(name: str) -> None:
    case = WRONG[name]
    found = checked(*case.build(0), order=case.order, regimes=case.regimes)
    assert re.search(case.cause, f"{found.cause} {found.reason}".lower()), (
        f"{case.cause!r} not in: {found}"
    )


# --- bad input ------------------------------------------------------------------------------------


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return Draw(seed).leaf(*shape)


def inconclusive(f: Callable[..., Any], inputs: Any) -> str:
    """The reason, which must be there, for which nothing was decided."""
    with pytest.warns(GradientWarning):
        found = check_gradient(f, inputs)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert math.isinf(found.certificate)
    return found.reason


def test_a_function_without_a_fixed_answer_is_not_decided() -> None:
    noise = Draw(1)
    reason = inconclusive(lambda x: torch.sin(x) + noise(*x.shape), leaf(8))
    assert "not deterministic" in reason


def test_a_function_that_returns_no_tensor_is_named() -> None:
    assert "returns no tensor" in inconclusive(lambda x: float(x.detach().sum()), leaf(4))
    assert "returns no tensor" in inconclusive(lambda x: None, leaf(4))


def test_inputs_without_gradient_are_named() -> None:
    assert "no input requires a gradient" in inconclusive(torch.sin, leaf(4).detach())


def test_integers_have_no_derivative() -> None:
    assert "int64" in inconclusive(lambda x: x.argmax(), leaf(4))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_output_that_is_not_finite_has_no_derivative(value: float) -> None:
    assert "NaN or infinite" in inconclusive(lambda x: x.sum() * value, leaf(4))


def test_inputs_that_are_not_finite_are_named() -> None:
    x = torch.full((3,), math.nan, dtype=torch.float64, requires_grad=True)
    assert "no finite number" in inconclusive(torch.sin, x)


def test_a_function_that_changes_its_input_fails() -> None:
    def doubled(x: Tensor) -> Tensor:
        x.data.mul_(2)
        return torch.sin(x)

    x = leaf(4)
    before = x.detach().clone()
    with pytest.raises(GradientMismatch, match="changes its input x") as caught:
        check_gradient(doubled, x)
    assert caught.value.evidence.verdict is Verdict.FAILED
    assert torch.equal(x, before), "the caller's tensor is a private copy"


def test_a_function_that_changes_an_input_without_gradient_fails() -> None:
    def centred(x: Tensor, offset: Tensor) -> Tensor:
        offset.zero_()
        return x - offset

    assert "changes its input offset" in checked(centred, [leaf(4), torch.ones(4)]).reason


def test_a_function_that_raises_at_its_input_is_reported_as_raising() -> None:
    def refuses(x: Tensor) -> Tensor:
        raise ValueError("not today")

    with pytest.raises(SubjectRaised, match="not today"):
        check_gradient(refuses, leaf(4))


def test_a_function_that_raises_beside_its_input_is_not_decided() -> None:
    x = leaf(4)
    home = x.detach().clone()

    def only_at_home(y: Tensor) -> Tensor:
        if not torch.equal(y, home):
            raise ValueError("outside of its domain")
        return torch.sin(y)

    found = checked(only_at_home, x)
    assert found.verdict is Verdict.INCONCLUSIVE
    said = " ".join([found.reason, *found.notes])
    assert "raised at a shifted point" in said
    assert "outside of its domain" in said


def test_a_function_that_raises_further_away_is_checked_close_by() -> None:
    x = leaf(6)
    home = x.detach().clone()

    def near_home(y: Tensor) -> Tensor:
        if (y - home).abs().max() > 1e-3:
            raise ValueError("outside of its domain")
        return torch.sin(y)

    assert checked(near_home, x).passed


def test_a_constant_function_has_a_zero_gradient() -> None:
    found = check_gradient(lambda x: 0 * x + 3, leaf(4))
    assert found.passed
    assert any("constant" in note for note in found.notes)


def test_an_answer_without_a_graph_is_wrong_where_it_depends_on_the_input() -> None:
    assert checked(lambda x: torch.sin(x.detach()), leaf(4)).verdict is Verdict.FAILED
    assert check_gradient(lambda x: torch.ones(3), leaf(4)).passed


def test_empty_tensors_are_named() -> None:
    assert "empty" in inconclusive(torch.sin, leaf(0, 3))
    assert "empty" in inconclusive(lambda x: x[:0], leaf(4))


def test_an_empty_tensor_beside_a_full_one_does_not_matter() -> None:
    assert check_gradient(lambda x, rest: torch.cat([x, rest]).sin(), [leaf(4), leaf(0)]).passed


def test_inputs_on_different_devices_are_named() -> None:
    on_meta = torch.ones(4, dtype=torch.float64, device="meta", requires_grad=True)
    reason = inconclusive(lambda x, y: x + y, [leaf(4), on_meta])
    assert "meta" in reason


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "fast"}, "mode"),
        ({"order": 3}, "order"),
        ({"regimes": ["odds"]}, "regime"),
        ({"wrt": ["y"]}, "input"),
        ({"expect": "nothing"}, "expect"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_gradient(torch.sin, leaf(4), **options)


def test_something_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        check_gradient(3, leaf(4))  # type: ignore[arg-type]


# --- what the evidence promises -------------------------------------------------------------------


def test_a_seed_repeats_its_verdict_and_numbers() -> None:
    build = RIGHT["dense_layer"].build
    first, again, other = (checked(*build(0), seed=seed) for seed in (3, 3, 4))
    assert (first.error, first.certificate, first.got) == (
        again.error,
        again.certificate,
        again.got,
    )
    assert other.got != first.got


def test_the_streams_of_the_caller_go_on_as_if_nothing_happened() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check_gradient(*RIGHT["dropout_of_squares"].build(0))
    assert torch.equal(torch.rand(3), expected)


def test_a_module_is_left_as_it_was() -> None:
    module, inputs = RIGHT["batch_norm_in_training"].build(0)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert check_gradient(module, inputs).passed
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_parameters_are_checked_by_name() -> None:
    found = checked(*WRONG["weight_read_through_data"].build(0))
    wrong = [tensor.name for tensor in found.tensors if tensor.verdict is Verdict.FAILED]
    assert wrong == ["weight"]


def test_an_error_outside_of_wrt_is_not_looked_for() -> None:
    f, inputs = WRONG["weight_sign_flipped"].build(0)
    assert check_gradient(f, inputs, wrt=["input 0", "input 2"]).passed


def test_lite_costs_less() -> None:
    f, inputs = RIGHT["dense_layer"].build(0)
    full, lite = (check_gradient(f, inputs, mode=mode) for mode in ("full", "lite"))
    assert lite.backwards < full.backwards
    assert lite.forwards < full.forwards
