"""What dropout does to mean and variance, and so to a linear regression."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from scipy.stats import norm
from torch import Tensor

from dlcheck.checks.dropout.broken import Declared, broken, follows_another_convention
from dlcheck.checks.dropout.draws import affordable, draw, inputs, sample
from dlcheck.checks.dropout.law import Law, at_several_rates, law_of, ratio
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject, Verdict
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, detectable, distribution, mean, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

N = 10_000


class moves_the_mean_by_the_detectable_effect(Declared):
    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        y = super().apply_noise(x, noise)
        shift = detectable(math.sqrt(self.law.variance), N)
        return y + (shift if self.law.rescale == "alpha" else shift * x)


class draws_more_without_rescaling(Declared):
    """The scale belongs to another p than the mask."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        if self.law.noise == "gaussian":
            return super().apply_noise(x, noise - 0.2)
        fewer = (torch.rand(noise.shape, device=x.device) < 0.8).to(x.dtype)
        return super().apply_noise(x, noise * fewer)


@check(
    kind="dropout",
    options={"p": True, "rescale": ["train", "eval", "none", "alpha"], "block": False},
    rejects=[
        broken(moves_the_mean_by_the_detectable_effect),
        broken(follows_another_convention),
        broken(draws_more_without_rescaling),
    ],
    tags=["statistical"],
    once=True,
)
def keeps_the_mean_as_declared(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The mean over masks is the input, (1 − p) of it, or 0 for alpha dropout, as declared.

    A t test of the mean of y/x over 10⁴ fresh units by three strikes, and of 1,000 at
    p = ¼ and ¾; for alpha dropout of y itself, x being standard normal.
    Source: Srivastava et al., Dropout, JMLR 15, 2014, §4 and §10 (E = p·w of their p, the
    probability of keeping); Klambauer et al., Self-Normalizing Neural Networks, NeurIPS 2017.
    """
    yield from _moment(subject, case, power=1)


class averages_two_masks(Declared):
    """The mean is right and half of the noise is gone."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        other = super().apply_noise(x, self.noise(x))
        return (super().apply_noise(x, noise) + other) / 2


class takes_the_variance_for_a_deviation(Declared):
    """Noise of the standard deviation v where √v was meant."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        law = self.law
        factor = 2 if law.rescale == "alpha" else math.sqrt(law.variance)
        centre = law.mean * x
        return centre + factor * (super().apply_noise(x, noise) - centre)


class widens_the_noise_by_the_detectable_effect(Declared):
    """Var y/x, or Var y, is larger by 6.38 standard deviations of its estimate."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        law = self.law
        wider = math.sqrt(1 + detectable(law.deviation_of_square, N) / law.variance)
        centre = law.mean * x
        return centre + wider * (super().apply_noise(x, noise) - centre)


@check(
    kind="dropout",
    options={"p": True, "rescale": ["train", "eval", "none", "alpha"], "block": False},
    rejects=[
        broken(averages_two_masks),
        broken(takes_the_variance_for_a_deviation),
        broken(widens_the_noise_by_the_detectable_effect),
    ],
    tags=["statistical"],
    once=True,
)
def has_the_declared_variance(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The variance over masks is p/(1 − p)·x², p(1 − p)·x², or 1 for alpha dropout, as declared.

    A t test of E(y/x)² = variance + mean² over 10⁴ fresh units: the second moment is linear in the
    sample, where the sample variance of a two-valued factor is degenerate at p = ½. For alpha
    dropout E y² = 1, x being standard normal.
    Source: Srivastava et al., Dropout, JMLR 15, 2014, §10; Klambauer et al., Self-Normalizing
    Neural Networks, NeurIPS 2017.
    """
    yield from _moment(subject, case, power=2)


def _moment(subject: Implementation, case: Case, power: int) -> Iterator[Evidence]:
    """Three strikes over the mean of the first or second power of y/x, at several rates."""
    for built in at_several_rates(subject):
        law = law_of(built)
        if law.rescale == "alpha" and not _is_normal(case):
            raise NotApplicable("alpha dropout keeps the moments of normal inputs alone")

        means: list[float] = []  # of the factor, in each strike

        def test(
            stream: Stream,
            n: int,
            built: Implementation = built,
            law: Law = law,
            means: list[float] = means,
        ) -> Finding:
            x, y = sample(built, case, law, stream.torch(), n)
            factor = y.double() if law.rescale == "alpha" else ratio(x, y)
            means.append(float(factor.mean()))
            expected = law.mean if power == 1 else law.variance + law.mean**2
            sigma = math.sqrt(law.variance) if power == 1 else law.deviation_of_square
            rounding = gamma(24, case.dtype) / law.keep * max(1.0, expected)
            return mean(factor**power, expected, sigma=sigma, rounding=rounding)

        what = f"{'mean' if power == 1 else 'second moment'} at p = {law.p:g}"
        claim = f"{case.claim}/p={law.p:g}"
        units = (N if built is subject else N // 10) * case.profile.effort
        units = affordable(built, case, law, units)
        evidence = three_strikes(case.root, claim, units, test, what=what)
        if evidence.verdict is Verdict.FAILED and law.rescale == "train" and means:
            evidence = replace(evidence, cause=_of_the_mean(means[-1], law.p))
        yield evidence


def _of_the_mean(found: float, p: float) -> str:
    """What the mean of the factor says, where it should be 1."""
    for mean_, said in (
        (1 - p, "nothing is rescaled: divide by 1 − p, or declare rescale = none"),
        (p / (1 - p), "p is taken for the share that stays"),
        ((1 - p) / p, "it is rescaled by 1/p, where 1/(1 − p) keeps the mean"),
        (1 / (1 - p), "it is rescaled by 1/(1 − p)², or what is dropped stays"),
    ):
        if math.isclose(found, mean_, rel_tol=0.02) and not math.isclose(mean_, 1.0, rel_tol=0.1):
            return said
    return ""


def _is_normal(case: Case) -> bool:
    spec = case.specs[case.floating[0]]
    return spec.element == "float" and spec.low is None


class rescales_by_the_declared_rate(Declared):
    """By 1/(1 − p) where the realized share was promised."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        return x * noise / self.law.keep


class does_not_rescale(Declared):
    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        return x * noise


DROP_BLOCK = Subject(
    name="drop_block",
    target="torchvision.ops:DropBlock2d",
    kind="dropout",
    args={"p": 0.1, "block_size": 3},
    inputs={"x": "float b c h w"},
    traits=frozenset({"stochastic"}),
    options={
        "p": "p",
        "rescale": "realized",
        "block": "block_size",
        "eps": "eps",
        "sizes": {"h": [5, 12], "w": [5, 12]},
    },
)


@check(
    kind="dropout",
    options={"rescale": ["realized"]},
    rejects=[
        broken(rescales_by_the_declared_rate),
        broken(does_not_rescale),
    ],
    accepts=[DROP_BLOCK],
    once=True,
)
def keeps_the_realized_mean(subject: Implementation, case: Case) -> Evidence:
    """Dividing by the realized share of what was kept keeps the mean of a constant exactly.

    On an input of ones the mean output is 1, over the whole call, or over each row that kept
    anything, whichever the share was taken over. With N ones rounding moves it by γ_{N+4}, and a
    declared ε in N/(ε + kept) by at most ε.
    Source: Ghiasi et al., DropBlock, NeurIPS 2018, algorithm 1, line 7.
    """
    law = law_of(subject)
    errors, count = [], 0
    for x in inputs(subject, case, law, case.generator("values"), 200):
        factor = ratio(x, draw(subject, case, law, x).y)
        rows = factor.flatten(1).mean(1)
        alive = rows[rows != 0]
        if len(alive):
            apart = (rows.mean() - 1).abs(), (alive - 1).abs().max()
            errors.append(float(min(apart)))
            count = max(count, factor.numel())
    if not errors:
        raise NotApplicable("nothing was kept in any call")
    return Evidence(
        error=max(errors) if all(map(math.isfinite, errors)) else math.nan,
        bound=gamma(count + 4, case.dtype) + float(subject.argument("eps", 0.0)),
        signal=1.0,
        what="mean of an input of ones",
    )


class draws_uniform_noise(Declared):
    """Mean and variance are right, the law is not."""

    def noise(self, x: Tensor) -> Tensor:
        unit = torch.rand(self.unit_shape(x), dtype=x.dtype, device=x.device)
        return math.sqrt(12) * (unit - 0.5)


class takes_the_odds_for_the_deviation(Declared):
    """Standard deviation p/(1 − p) where that is the variance."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        return x * (1 + self.law.p / self.law.keep * noise)


class inverts_the_odds(Declared):
    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        return x * (1 + math.sqrt(self.law.keep / self.law.p) * noise)


class clips_the_noise(Declared):
    """No factor below 0: the tail is folded."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        return x * (1 + math.sqrt(self.law.variance) * noise).clamp(min=0)


@check(
    kind="dropout",
    options={"p": True, "noise": ["gaussian"]},
    rejects=[
        broken(draws_uniform_noise),
        broken(takes_the_odds_for_the_deviation),
        broken(inverts_the_odds),
        broken(clips_the_noise),
    ],
    tags=["statistical"],
    once=True,
)
def noise_is_normal(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The factor of Gaussian dropout is normal with mean 1 and variance p/(1 − p).

    Kolmogorov and Smirnov's test of y/x over 10⁴ units by three strikes, and over 1,000 at p = ¼
    and ¾.
    Source: Srivastava et al., Dropout, JMLR 15, 2014, §10.
    """
    for built in at_several_rates(subject):
        law = law_of(built)

        def test(stream: Stream, n: int, built: Implementation = built, law: Law = law) -> Finding:
            factor = ratio(*sample(built, case, law, stream.torch(), n))
            z = (factor - 1) / math.sqrt(law.variance)
            return distribution(z, norm.cdf, "N(1, p/(1 − p))")

        claim, what = f"{case.claim}/p={law.p:g}", f"law of the factor at p = {law.p:g}"
        units = (N if built is subject else N // 10) * case.profile.effort
        units = affordable(built, case, law, units)
        yield three_strikes(case.root, claim, units, test, what=what)
