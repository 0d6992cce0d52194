"""The difference engine: right slopes pass, wrong ones fail, kinks stay undecided."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dlcheck.numerics.differences import Line, Slope, slope
from dlcheck.numerics.perturbations import direction, root_mean_square
from dlcheck.numerics.rounding import gamma, unit_roundoff

SMOOTH = {
    "tanh": (torch.tanh, lambda x: 1 - torch.tanh(x) ** 2),
    "exponential": (torch.exp, torch.exp),
    "cube at 1e8": (lambda x: (1e8 * x) ** 3, lambda x: 3e24 * x**2),
    "cancellation": (lambda x: 1e8 + torch.sin(x), torch.cos),
    "fast oscillation": (lambda x: torch.sin(1e4 * x), lambda x: 1e4 * torch.cos(1e4 * x)),
    "tiny": (lambda x: 1e-8 * torch.sin(x), lambda x: 1e-8 * torch.cos(x)),
    "saturated": (lambda x: torch.sigmoid(30 * x), lambda x: 30 * _bell(30 * x)),
}


def _bell(z: Tensor) -> Tensor:
    return torch.sigmoid(z) * torch.sigmoid(-z)


def judged(
    function: Callable[[Tensor], Tensor],
    derivative: Callable[[Tensor], Tensor],
    seed: int,
    x: Tensor | None = None,
    spoil: Callable[[Tensor], Tensor] = lambda g: g,
) -> Slope:
    """The slope of an elementwise function along a random direction."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(12, generator=generator, dtype=torch.float64) if x is None else x
    v = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    u = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    line = Line(
        function=lambda point: function(point[0]),
        x=[x],
        u=[u],
        value=function(x),
        v=v,
        g=[spoil(v * derivative(x))],
    )
    return slope(line)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_right_gradient_lies_within_a_small_bound(name: str) -> None:
    for seed in range(15):
        found = judged(*SMOOTH[name], seed)
        assert abs(found.residual) <= found.bound
        assert found.is_resolved
        assert not found.is_suspicious


@pytest.mark.parametrize("name", ["tanh", "exponential", "cube at 1e8", "tiny"])
@pytest.mark.parametrize("factor", [-1.0, 2.0, 0.0, 1.0001, 1 + 1e-7])
def test_a_wrong_factor_exceeds_the_bound(name: str, factor: float) -> None:
    for seed in range(10):
        assert judged(*SMOOTH[name], seed, spoil=lambda g: factor * g).is_suspicious


def test_a_float32_backward_exceeds_the_bound() -> None:
    found = [judged(*SMOOTH["tanh"], seed, spoil=lambda g: g.float().double()) for seed in range(9)]
    assert all(one.is_suspicious for one in found)


@pytest.mark.parametrize("at", [0.0, 1e-9, -1e-13])
def test_a_kink_is_never_suspicious(at: float) -> None:
    x = torch.linspace(-2, 2, 11, dtype=torch.float64)
    x[5] = at
    for seed in range(15):
        found = judged(torch.relu, lambda x: (x > 0).double(), seed, x=x)
        assert not found.is_suspicious
    exact = judged(torch.relu, lambda x: (x > 0).double(), 0, x=torch.zeros_like(x))
    assert not exact.is_resolved


def test_float32_inside_widens_the_bound_and_still_catches_a_sign() -> None:
    def rounded(x: Tensor) -> Tensor:
        return torch.tanh(x.float()).double()

    for seed in range(10):
        right = judged(rounded, SMOOTH["tanh"][1], seed)
        assert not right.is_suspicious
        assert right.bound > 1e-9 * right.size
        assert judged(rounded, SMOOTH["tanh"][1], seed, spoil=lambda g: -g).is_suspicious


def test_a_constant_has_slope_zero_and_a_claimed_slope_is_wrong() -> None:
    constant = judged(torch.round, torch.zeros_like, 0, x=torch.full((4,), 0.3).double())
    assert constant.is_zero
    assert constant.residual == 0.0
    straight_through = judged(torch.round, torch.ones_like, 0, x=torch.full((4,), 0.3).double())
    assert straight_through.is_suspicious


def test_leaving_the_domain_shrinks_the_step() -> None:
    x = torch.full((6,), 1e-4, dtype=torch.float64)
    found = judged(torch.log, lambda x: 1 / x, 3, x=x)
    assert found.is_resolved
    assert not found.is_suspicious
    assert found.step < 1e-4


def test_directions_stay_in_their_domain() -> None:
    from dlcheck.domains import parse_input
    from dlcheck.strategies import make_values

    sizes = {"b": 5, "k": 4}
    for text in ("unit b k", "positive b k", "probability b k", "signed b k", "spd k k"):
        spec = parse_input(text)
        for seed in range(20):
            generator = torch.Generator().manual_seed(seed)
            x = make_values(spec, sizes, "normal", generator)
            moved = x + 2.0**-6 * direction(x, spec, generator, relative=False)
            match spec.element:
                case "unit":
                    assert bool(((moved > 0) & (moved < 1)).all())
                case "signed":
                    assert bool((moved.abs() < 1).all())
                case "positive":
                    assert bool((moved > 0).all())
                case "probability":
                    assert bool((moved > 0).all())
                    torch.testing.assert_close(moved.sum(-1), torch.ones(5).double())
                case "spd":
                    torch.testing.assert_close(moved, moved.mT)
                    assert bool((torch.linalg.eigvalsh(moved) > 0).all())


def test_rounding_units() -> None:
    assert unit_roundoff(torch.float64) == 2.0**-53
    assert unit_roundoff(torch.float32) == 2.0**-24
    assert gamma(0, torch.float32) == 0.0
    assert gamma(1000, torch.float64) == pytest.approx(1000 * 2.0**-53, rel=1e-10)
    assert math.isinf(gamma(2**24, torch.float32))
    assert root_mean_square(torch.zeros(3)) == 1.0
    huge = torch.tensor([3e200, 4e200], dtype=torch.float64)
    assert root_mean_square(huge) == pytest.approx(12.5**0.5 * 1e200)
