"""Three strikes: the rule, its streams, and the exact tests against scipy and closed forms."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from dlcheck.model import Verdict
from dlcheck.stats import (
    Finding,
    Stream,
    at_least,
    binomial,
    bonferroni,
    detectable,
    detectable_effect,
    dispersion,
    distribution,
    independence,
    mean,
    normal_variance,
    permutation,
    same_distribution,
    sign,
    stream_of,
    three_strikes,
    variance,
)


def finding(p_value: float, **fields: float) -> Finding:
    given = {"error": 0.1, "detectable": 0.2, "signal": 1.0, "n": 10} | fields
    return Finding(p_value=p_value, **given)  # type: ignore[arg-type]


def scripted(p_values: list[float], seen: list[int]) -> Callable[[Stream, int], Finding]:
    def sample(stream: Stream, n: int) -> Finding:
        seen.append(n)
        return finding(p_values[len(seen) - 1], n=n)

    return sample


@pytest.mark.parametrize(
    ("p_values", "sizes", "verdict"),
    [
        ([0.5], [100], Verdict.PASSED),
        ([1e-4, 0.0011], [100, 400], Verdict.PASSED),
        ([1e-4, 1e-4, 0.2], [100, 400, 1600], Verdict.PASSED),
        ([1e-3, 1e-3, 1e-3], [100, 400, 1600], Verdict.FAILED),
        ([math.nan], [100], Verdict.FAILED),
        ([1e-4, math.nan], [100, 400], Verdict.FAILED),
    ],
)
def test_fails_only_on_the_third_strike(
    p_values: list[float], sizes: list[int], verdict: Verdict
) -> None:
    seen: list[int] = []
    evidence = three_strikes(0, "claim", 100, scripted(p_values, seen))
    assert seen == sizes
    assert evidence.verdict is verdict


def test_an_effect_too_large_to_see_is_inconclusive() -> None:
    evidence = three_strikes(0, "claim", 10, lambda stream, n: finding(0.5, detectable=0.51))
    assert evidence.verdict is Verdict.INCONCLUSIVE


def test_evidence_says_what_it_could_have_seen() -> None:
    evidence = three_strikes(0, "claim", 10_000, lambda s, n: binomial(9 * n // 10, n, 0.9))
    assert evidence.values["false-alarm bound"] == pytest.approx(1e-9)
    assert evidence.values["smallest detectable effect"] == pytest.approx(0.01914, rel=1e-3)
    assert evidence.bound == pytest.approx(0.01914, rel=1e-3)


def draw_from(where: str) -> Callable[[Stream], float]:
    return {
        "numpy": lambda stream: stream.numpy.random(),
        "torch": lambda stream: float(torch.rand((), generator=stream.torch())),
        "global random": lambda stream: random.random(),
        "global numpy": lambda stream: float(np.random.rand()),
        "global torch": lambda stream: float(torch.rand(())),
    }[where]


@pytest.mark.parametrize(
    "where", ["numpy", "torch", "global random", "global numpy", "global torch"]
)
def test_streams_repeat_and_differ_by_root_claim_and_strike(where: str) -> None:
    def drawn(root: int, claim: str) -> list[float]:
        seen: list[float] = []

        def sample(stream: Stream, n: int) -> Finding:
            seen.append(draw_from(where)(stream))
            return finding(0.0)

        three_strikes(root, claim, 1, sample)
        return seen

    assert drawn(0, "a") == drawn(0, "a")
    numbers = [*drawn(0, "a"), *drawn(1, "a"), *drawn(0, "b")]
    assert len(set(numbers)) == 9


def test_a_subject_does_not_draw_what_its_inputs_were_made_of() -> None:
    stream = stream_of(0, "claim", 0)
    stream.seed_globals()
    assert not torch.equal(torch.rand(5), torch.rand(5, generator=stream.torch()))


def test_the_detectable_effect_is_missed_once_in_a_thousand() -> None:
    assert detectable_effect() == pytest.approx(6.38, abs=0.005)
    generator, claims = np.random.default_rng(0), 200_000
    alive = claims
    for strike in range(3):
        z = generator.normal(detectable_effect() * 2**strike, size=alive)
        alive = int((2 * stats.norm.sf(np.abs(z)) <= 1e-3).sum())
    missed = claims - alive
    assert stats.binomtest(missed, claims, 1e-3).pvalue > 1e-3
    assert detectable(0.3, 10_000) == pytest.approx(0.01914, rel=1e-3)
    assert detectable(1.0, 100, coordinates=10) > detectable(1.0, 100)


@pytest.mark.parametrize(("k", "n", "rate"), [(0, 10, 0.3), (7, 10, 0.5), (880, 1000, 0.9)])
def test_binomial_doubles_the_smaller_tail(k: int, n: int, rate: float) -> None:
    tails = [stats.binomtest(k, n, rate, alternative=side).pvalue for side in ("less", "greater")]
    assert binomial(k, n, rate).p_value == pytest.approx(min(1.0, 2 * min(tails)))


def test_a_rate_of_one_admits_no_miss() -> None:
    assert binomial(10, 10, 1.0).p_value == 1.0
    assert binomial(9, 10, 1.0).p_value == 0.0


def test_at_least_is_one_sided() -> None:
    assert at_least(40, 40, 0.9).p_value == pytest.approx(1.0)
    expected = stats.binomtest(20, 40, 0.9, alternative="less").pvalue
    assert at_least(20, 40, 0.9).p_value == pytest.approx(expected)


def test_sign_test_drops_ties() -> None:
    d = [1.0, 2.0, 0.0, -1.0, 3.0, 0.5, 0.0]
    assert sign(d).p_value == pytest.approx(2 * stats.binom.sf(3, 5, 0.5))
    assert sign(d, alternative="negative").p_value == pytest.approx(stats.binom.sf(3, 5, 0.5))
    assert sign(d, alternative="positive").p_value == pytest.approx(stats.binom.cdf(4, 5, 0.5))
    assert math.isinf(sign([0.0, 0.0]).detectable)


def test_mean_is_the_t_test() -> None:
    x = np.random.default_rng(1).normal(0.3, 2.0, 50)
    assert mean(x, 0.0).p_value == pytest.approx(stats.ttest_1samp(x, 0.0).pvalue)
    assert mean(torch.tensor(x), 0.0).p_value == pytest.approx(stats.ttest_1samp(x, 0.0).pvalue)


def test_a_constant_sample_is_right_or_wrong_up_to_rounding() -> None:
    x = np.full(100, 1.0 + 1e-15)
    assert mean(x, 1.0).p_value < 1e-9
    assert mean(np.full(100, 1.5), 1.0).p_value == 0.0
    assert mean(x, 1.0, rounding=1e-14).p_value == 1.0
    assert math.isnan(mean([1.0, math.nan], 1.0).p_value)


def test_variances_agree_where_both_are_right() -> None:
    x = np.random.default_rng(2).normal(0.0, 3.0, 2000)
    assert normal_variance(x, 9.0).p_value > 0.01
    assert variance(x, 9.0, centre=0.0).p_value > 0.01
    assert normal_variance(x, 12.0).p_value < 1e-6
    assert variance(x, 12.0, centre=0.0).p_value < 1e-6


def test_the_chi_squared_test_needs_normal_numbers() -> None:
    generator = np.random.default_rng(3)
    x = generator.laplace(size=(300, 200)) / math.sqrt(2)  # variance 1, kurtosis 6
    alarms = sum(normal_variance(row, 1.0).p_value < 0.01 for row in x)
    robust = sum(variance(row, 1.0, centre=0.0).p_value < 0.01 for row in x)
    assert alarms > 15  # 3 are due
    assert robust < alarms / 2


def test_distributions_are_kolmogorov_and_smirnov() -> None:
    generator = np.random.default_rng(4)
    x, y = generator.normal(size=400), generator.normal(0.5, 1.0, size=300)
    assert distribution(x, stats.norm.cdf).p_value == pytest.approx(stats.kstest(x, "norm").pvalue)
    assert same_distribution(x, y).p_value == pytest.approx(stats.ks_2samp(x, y).pvalue)
    assert math.isnan(normal_variance([math.nan, 0.0], 1.0).p_value)
    assert math.isnan(distribution([math.nan, 0.0], stats.norm.cdf).p_value)


def test_permutation_is_uniform_under_exchange_and_sees_a_shift() -> None:
    generator = np.random.default_rng(5)

    def difference(a: np.ndarray, b: np.ndarray) -> float:
        return float(a.mean() - b.mean())

    null = [
        permutation(
            difference, generator.exponential(size=8), generator.exponential(size=8), generator,
            rounds=99,
        ).p_value
        for _ in range(300)
    ]  # fmt: skip
    assert stats.kstest(null, "uniform").pvalue > 1e-3
    shifted = permutation(difference, generator.normal(3, 1, 20), generator.normal(0, 1, 20),
                          generator)  # fmt: skip
    assert shifted.p_value == pytest.approx(1 / 2000)


def test_independence_is_fishers_exact_test() -> None:
    a = np.array([1] * 30 + [0] * 20)
    b = np.array([1] * 25 + [0] * 15 + [1] * 10)
    table = [[int((a & b).sum()), int((a & ~b & 1).sum())],
             [int((~a & 1 & b).sum()), int(((1 - a) & (1 - b)).sum())]]  # fmt: skip
    sides = [stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
    assert independence(a, b).p_value == pytest.approx(min(1.0, 2 * min(sides)))
    assert independence(a, b).error == pytest.approx(abs(np.corrcoef(a, b)[0, 1]))
    assert math.isinf(independence(np.ones(10), b[:10]).detectable)


@pytest.mark.parametrize("counts", [200, 1500])
def test_dispersion_tells_binomial_from_fixed_and_clumped(counts: int) -> None:
    generator = np.random.default_rng(6)
    right = generator.binomial(30, 0.2, counts)
    clumped = generator.binomial(30, generator.beta(0.5, 2.0, counts))
    assert dispersion(right, 30, generator).p_value > 1e-3
    assert dispersion(np.full(counts, 6), 30, generator).p_value <= 1e-3
    assert dispersion(clumped, 30, generator).p_value <= 1e-3


def test_dispersion_of_many_counts_is_normal_enough() -> None:
    generator = np.random.default_rng(8)
    p_values = [
        dispersion(generator.binomial(7, 0.15, 600), 7, generator).p_value for _ in range(2000)
    ]
    for level in (0.1, 0.01):
        hits = sum(p <= level for p in p_values)
        assert stats.binomtest(hits, 2000, level).pvalue > 1e-3


def test_bonferroni_multiplies_the_least_p_value_and_widens_the_effect() -> None:
    joined = bonferroni([finding(0.2), finding(1e-4, error=0.7), finding(0.9)])
    assert joined.p_value == pytest.approx(3e-4)
    assert joined.error == 0.7
    assert joined.detectable > 0.2
    assert bonferroni([finding(0.2)]) == finding(0.2)
    assert math.isnan(bonferroni([finding(0.2), finding(math.nan)]).p_value)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_a_rate_off_by_the_detectable_effect_is_caught(shift: float) -> None:
    """Dropout at p = .1: ± .019 with n = 10⁴, over 20 roots."""
    rate = 0.9 - shift * detectable(0.3, 10_000)
    verdicts = [
        three_strikes(
            root,
            "keep rate",
            10_000,
            lambda stream, n: binomial(int(stream.numpy.binomial(n, rate)), n, 0.9),
        ).verdict
        for root in range(20)
    ]
    assert set(verdicts) == {Verdict.FAILED if shift else Verdict.PASSED}
