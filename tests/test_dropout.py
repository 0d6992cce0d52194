"""The laws of dropout by enumeration of all masks, and the checks on what is right by them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dlcheck.checks.dropout.broken import Declared, broken
from dlcheck.checks.dropout.law import Law
from dlcheck.expansion import Overrides, expand_subject
from dlcheck.model import Outcome, Subject, Suite, Verdict
from dlcheck.references.layers.dropout import ChannelDropout, Dropout, GaussianDropout
from dlcheck.runner import run_trial
from dlcheck.suite import complete


def outcomes(subject: Subject, seed: int = 0) -> list[Outcome]:
    """The dropout checks of one subject on the CPU."""
    suite = Suite(name="test", subjects=(subject,), matrix={"device": ["cpu"]})
    trials = expand_subject(complete(subject), suite, Overrides(seed=seed))
    return [run_trial(trial) for trial in trials if "checks.dropout" in trial.check.function]


def all_masks(n: int) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=torch.float64)


@pytest.mark.parametrize("rescale", ["train", "none"])
def test_enumerated_masks_have_the_moments_of_the_law(rescale: str) -> None:
    law = Law(p=0.3, rescale=rescale, noise="bernoulli", axes=())
    masks = all_masks(2)
    weights = law.keep ** masks.sum(1) * law.p ** (2 - masks.sum(1))
    factor = law.factor * masks[:, 0]
    mean = (weights * factor).sum()
    assert float(mean) == pytest.approx(law.mean)
    assert float((weights * factor**2).sum() - mean**2) == pytest.approx(law.variance)
    fourth = (weights * factor**4).sum() - (weights * factor**2).sum() ** 2
    assert math.sqrt(float(fourth)) == pytest.approx(law.deviation_of_square)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_alpha_keeps_mean_and_variance_of_a_standard_normal(p: float) -> None:
    """With y = a·x + c or d: E y = (1 − p)c + p·d = 0, E y² = (1 − p)(a² + c²) + p·d² = 1."""
    law = Law(p=p, rescale="alpha", noise="bernoulli", axes=())
    assert law.keep * law.offset + p * law.dropped == pytest.approx(0.0, abs=1e-15)
    square = law.keep * (law.factor**2 + law.offset**2) + p * law.dropped**2
    assert square == pytest.approx(1.0)


def test_enumerated_dropout_is_a_ridge_penalty() -> None:
    """All 2¹⁰ masks of ten features: E‖t − (m ⊙ X)w‖² = ‖t − Xw‖² + p/(1 − p) Σ wⱼ² Σ xᵢⱼ²."""
    generator = torch.Generator().manual_seed(0)
    x, w, t = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((7, 10), 10, 7)
    )
    p = 0.3
    masks = all_masks(10)
    chances = (1 - p) ** masks.sum(1) * p ** (10 - masks.sum(1))
    losses = (t - (masks / (1 - p) * w) @ x.T).square().sum(1)
    ridge = (t - x @ w).square().sum() + p / (1 - p) * (w**2 * (x**2).sum(0)).sum()
    assert float((chances * losses).sum()) == pytest.approx(float(ridge), rel=1e-13)


@pytest.mark.parametrize("make", [Dropout, ChannelDropout, GaussianDropout])
def test_references_agree_with_autograd(make: Callable[[float], nn.Module]) -> None:
    torch.manual_seed(0)
    module = make(0.4).train()
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)

    def same_mask(x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return module(x)  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(same_mask, x)
    assert torch.autograd.gradgradcheck(same_mask, x)


@pytest.mark.parametrize("make", [Dropout, ChannelDropout])
def test_references_survive_their_edges(make: Callable[[float], nn.Module]) -> None:
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(make(0.0)(x), x)
    assert torch.equal(make(1.0)(x), torch.zeros_like(x))
    assert torch.equal(make(1.0).eval()(x), x)
    with pytest.raises(ValueError, match=r"1\.5"):
        make(1.5)


def test_float16_drops_at_its_rate() -> None:
    torch.manual_seed(0)
    kept = Dropout(0.001)(torch.ones(2_000_000, dtype=torch.float16)) != 0
    assert float(kept.float().mean()) == pytest.approx(0.999, abs=1.5e-4)


IMAGE = {"x": "float b c h w"}
DECLARATIONS = {
    "plain": ({}, {"rescale": "none"}),
    "evaluation": ({}, {"rescale": "eval"}),
    "realized": ({}, {"rescale": "realized"}),
    "gaussian_channels": (IMAGE, {"rescale": "train", "noise": "gaussian", "axes": [2, 3]}),
    "alpha_channels": (IMAGE, {"rescale": "alpha", "axes": [-1, -2]}),
    "paths": (IMAGE, {"rescale": "train", "axes": [1, 2, 3]}),
    "locked_in_time": ({"x": "float t b d"}, {"rescale": "train", "axes": [0]}),
    "one_mask_a_call": (IMAGE, {"rescale": "train", "axes": [0, 1, 2, 3]}),
    "fixed_sizes": ({"x": "float 4 6"}, {"rescale": "train"}),
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_what_follows_its_declaration_passes(name: str) -> None:
    inputs, options = DECLARATIONS[name]
    given = Subject(name=name, target=nn.Identity, kind="dropout", args={"p": 0.3}, inputs=inputs,
                    traits=frozenset({"stochastic"}), options={"p": "p", **options})  # fmt: skip
    found = outcomes(broken(Declared)(given))
    bad = [str(o.id) + o.message for o in found if not o.verdict.is_good]
    assert not bad
    assert sum(o.verdict is Verdict.PASSED for o in found) >= 5


def test_an_undeclared_scale_is_not_assumed() -> None:
    given = Subject(name="bare", target=nn.Dropout, kind="dropout", options={"p": "p"})
    checked = {outcome.check for outcome in outcomes(given)}
    assert "drops_at_the_declared_rate" in checked
    assert not checked & {"keeps_the_mean_as_declared", "values_are_dropped_or_rescaled"}


class Monte(nn.Module):
    """Monte-Carlo dropout: drops in evaluation too, as it says."""

    def __init__(self, p: float = 0.3) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.p, training=True)


def test_monte_carlo_dropout_passes_when_it_says_so() -> None:
    options = {"p": "p", "rescale": "train"}
    honest = Subject(name="honest", target=Monte, kind="dropout", options=options,
                     traits=frozenset({"stochastic_in_eval"}))  # fmt: skip
    silent = Subject(name="silent", target=Monte, kind="dropout", options=options)
    assert all(outcome.verdict.is_good for outcome in outcomes(honest))
    failed = {o.check for o in outcomes(silent) if o.verdict is Verdict.FAILED}
    assert failed == {"is_the_identity_in_evaluation"}
