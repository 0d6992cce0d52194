"""Tests of one sample, each as a `Finding`: p-value, deviation, smallest detectable effect.

Exact where there is an exact law; elsewhere the central limit is used at 10⁻³, never further out.
Samples are any sequence of numbers; tensors are taken off their device first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dlcheck.stats.finding import ALPHA, MISSED, Finding, detectable

Numbers = NDArray[np.float64]

_MANY = 500  # counts: the law of their dispersion is normal to three digits


def binomial(successes: int, n: int, rate: float, *, signal: float | None = None) -> Finding:
    """Exact two-sided test of a success rate: p = 2 min(P(K ≤ k), P(K ≥ k)), at most 1.

    signal: what the deviation is held against; by default the standard deviation √(rate(1 − rate))
    of one trial, or 1 where that is 0.
    """
    law = stats.binom(n, rate)
    sigma = math.sqrt(rate * (1 - rate))
    return Finding(
        p_value=_two_sided(law.cdf(successes), law.sf(successes - 1)),
        error=abs(successes / n - rate),
        detectable=detectable(sigma, n),
        signal=signal if signal is not None else sigma or 1.0,
        n=n,
        expected=f"rate {rate:.6g}",
        got=f"{successes} of {n} = {successes / n:.6g}",
    )


def at_least(successes: int, n: int, rate: float) -> Finding:
    """Exact one-sided test of "in at least `rate` of the cases": p = P(K ≤ k).

    The detectable effect is how far below `rate` the true one may be before it is noticed: that of
    a normal approximation, capped at `rate`.
    """
    sigma = math.sqrt(rate * (1 - rate))
    return Finding(
        p_value=float(stats.binom.cdf(successes, n, rate)),
        error=max(0.0, rate - successes / n),
        detectable=min(detectable(sigma, n), rate),
        signal=rate,
        n=n,
        expected=f"at least {rate:g} of {n}",
        got=f"{successes} of {n} = {successes / n:.4g}",
    )


def sign(differences: Any, *, alternative: str = "two-sided") -> Finding:
    """Exact sign test that the median difference is 0; ties say nothing and are dropped.

    alternative: "two-sided", or the claim that was made: "positive", "negative". The p-value is
    then that of the claim being at least as good as a coin, P(K ≤ k) under ½.
    """
    d = numbers(differences)
    signs = d[d != 0]
    ups, n = int((signs > 0).sum()), len(signs)
    if n == 0:
        return Finding(p_value=1.0, error=0.0, detectable=math.inf, signal=0.5, n=0, got="all tied")
    law = stats.binom(n, 0.5)
    p_values = {
        "two-sided": _two_sided(law.cdf(ups), law.sf(ups - 1)),
        "positive": float(law.cdf(ups)),
        "negative": float(law.sf(ups - 1)),
    }
    return Finding(
        p_value=p_values[alternative],
        error=abs(ups / n - 0.5),
        detectable=min(0.5, detectable(0.5, n)),
        signal=0.5,
        n=n,
        expected=f"{alternative} differences",
        got=f"{ups} of {n} positive",
    )


def mean(
    sample: Any,
    expected: float,
    *,
    sigma: float | None = None,
    signal: float | None = None,
    rounding: float = 0.0,
) -> Finding:
    """One-sample t test of a mean: exact for normal numbers, by the central limit for others.

    sigma: the standard deviation under the claim, for the detectable effect only; by default that
    of the sample. rounding: how far floating point alone may move the mean; so much is no
    deviation, also where all numbers are equal. signal: |expected| or, at 0, sigma.
    """
    x = numbers(sample)
    n, centre, spread = len(x), float(x.mean()), float(x.std(ddof=1)) if len(x) > 1 else math.inf
    beyond = max(0.0, abs(centre - expected) - rounding) if math.isfinite(centre) else math.nan
    scale = spread if sigma is None else sigma
    return Finding(
        p_value=_t_two_sided(beyond, spread / math.sqrt(n), n - 1),
        error=abs(centre - expected),
        detectable=detectable(scale, n) + rounding,
        signal=signal if signal is not None else abs(expected) or scale,
        n=n,
        expected=f"mean {expected:.6g}",
        got=f"{centre:.6g} ± {spread / math.sqrt(n):.2g}",
    )


def _t_two_sided(deviation: float, error: float, freedom: int) -> float:
    if math.isnan(deviation) or math.isnan(error):
        return math.nan
    if error == 0:  # all numbers are equal: right or wrong without a doubt
        return 1.0 if deviation == 0 else 0.0
    return float(2 * stats.t.sf(deviation / error, freedom))


def variance(sample: Any, expected: float, *, centre: float, rounding: float = 0.0) -> Finding:
    """Test of E(x − centre)² = expected for numbers of any law, by the central limit.

    The t test of the squared deviations from the claimed mean: it needs no normality, where the
    χ² test takes a kurtosis other than 3 for a wrong variance.
    """
    squares = (numbers(sample) - centre) ** 2
    return mean(squares, expected, rounding=rounding)


def normal_variance(sample: Any, expected: float) -> Finding:
    """Exact χ² test of the variance of normal numbers: (n − 1)s²/σ² ~ χ²(n − 1).

    Var(s²) = 2σ⁴/(n − 1) gives the detectable effect.
    """
    x = numbers(sample)
    n, found = len(x), float(x.var(ddof=1))
    law = stats.chi2(n - 1)
    statistic = (n - 1) * found / expected
    return Finding(
        p_value=_two_sided(law.cdf(statistic), law.sf(statistic)),
        error=abs(found - expected),
        detectable=detectable(expected * math.sqrt(2.0), n - 1),
        signal=expected,
        n=n,
        expected=f"variance {expected:.6g}",
        got=f"{found:.6g}",
    )


def distribution(sample: Any, cdf: Callable[[Numbers], Numbers], name: str = "") -> Finding:
    """Kolmogorov–Smirnov: the sample's law is `cdf`, a continuous one.

    The deviation is D = sup|F̂ − F|. With k_α the critical √n·D, an effect of (k_α + e)/√n is seen
    unless F̂ is short of F by e/√n at one point: P ≤ exp(−2e²) (Hoeffding) = 10⁻³ at e = 1.86.
    """
    x = numbers(sample)
    if not np.isfinite(x).all():
        return _not_finite(x, "a distribution")
    found = stats.kstest(x, cdf)
    critical = float(stats.kstwobign.isf(ALPHA)) + math.sqrt(-math.log(MISSED) / 2)
    return Finding(
        p_value=float(found.pvalue),
        error=float(found.statistic),
        detectable=min(1.0, critical / math.sqrt(len(x))),
        signal=1.0,
        n=len(x),
        expected=name or "the claimed distribution",
        got=f"D = {found.statistic:.4g}",
        where=f"at {found.statistic_location:.4g}",
    )


def same_distribution(first: Any, second: Any) -> Finding:
    """Two-sample Kolmogorov–Smirnov; detectable as for one sample of nm/(n + m) numbers."""
    x, y = numbers(first), numbers(second)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return _not_finite(np.concatenate([x, y]), "two equal distributions")
    found = stats.ks_2samp(x, y)
    effective = len(x) * len(y) / (len(x) + len(y))
    critical = float(stats.kstwobign.isf(ALPHA)) + math.sqrt(-math.log(MISSED) / 2)
    return Finding(
        p_value=float(found.pvalue),
        error=float(found.statistic),
        detectable=min(1.0, critical / math.sqrt(effective)),
        signal=1.0,
        n=min(len(x), len(y)),
        expected="one distribution",
        got=f"D = {found.statistic:.4g}",
    )


def permutation(
    statistic: Callable[[Numbers, Numbers], float],
    first: Any,
    second: Any,
    generator: np.random.Generator,
    *,
    rounds: int = 1999,
) -> Finding:
    """Two samples are exchangeable: the rank of |statistic| among its values under permutation.

    p = (1 + #{permuted ≥ observed}) / (1 + rounds), exact for any statistic and any law. The
    detectable effect is 6.38 standard deviations of the permuted statistic.
    """
    x, y = numbers(first), numbers(second)
    together, n = np.concatenate([x, y]), len(x)
    observed = abs(statistic(x, y))
    permuted = np.empty(rounds)
    for i in range(rounds):
        shuffled = generator.permutation(together)
        permuted[i] = statistic(shuffled[:n], shuffled[n:])
    as_large = int((np.abs(permuted) >= observed * (1 - 1e-12)).sum())  # ties up to rounding
    spread = float(permuted.std())
    return Finding(
        p_value=math.nan if math.isnan(observed) else (1 + as_large) / (1 + rounds),
        error=observed,
        detectable=detectable(spread, 1),
        signal=max(float(np.abs(together).max()), spread),
        n=len(together),
        expected="no difference beyond that of shuffled labels",
        got=f"{observed:.4g}, shuffled ± {spread:.2g}",
    )


def independence(first: Any, second: Any) -> Finding:
    """Fisher's exact test that two binary sequences, paired, are independent; needs no rate.

    Given the margins the count of (1, 1) is hypergeometric. The deviation is the correlation φ,
    of variance 1/(n − 1) under independence. A constant sequence says nothing: detectable is ∞.
    """
    a, b = numbers(first) != 0, numbers(second) != 0
    n, ones, others, both = len(a), int(a.sum()), int(b.sum()), int((a & b).sum())
    if ones in (0, n) or others in (0, n):
        return Finding(p_value=1.0, error=0.0, detectable=math.inf, signal=1.0, n=n, got="constant")
    law = stats.hypergeom(n, ones, others)
    spread = math.sqrt(ones * (n - ones) * others * (n - others))
    phi = (n * both - ones * others) / spread
    return Finding(
        p_value=_two_sided(law.cdf(both), law.sf(both - 1)),
        error=abs(phi),
        detectable=detectable(1.0, n - 1),
        signal=1.0,
        n=n,
        expected="correlation 0",
        got=f"{phi:.4g}",
    )


def dispersion(
    counts: Any, size: int, generator: np.random.Generator, *, rounds: int = 1999
) -> Finding:
    """Counts out of `size` vary as those of independent trials with one unknown rate.

    The index Σ(Sᵢ − S̄)² / (size·q̂(1 − q̂)(C − 1)) is 1 on average. Given their total the C counts
    are multivariate hypergeometric: its rank among `rounds` drawn from there is an exact, two-sided
    p-value of at least 2/(1 + rounds). Its variance is close to 2(1 − 1/size)/(C − 1); for more
    than 500 counts it is taken as normal.
    """
    s = numbers(counts)
    n, total = len(s), int(s.sum())
    rate = total / (n * size)
    if rate in (0.0, 1.0) or size == 1 or n == 1:  # the counts have no freedom
        return Finding(p_value=1.0, error=0.0, detectable=math.inf, signal=1.0, n=n, got="constant")
    scale = size * rate * (1 - rate) * (n - 1)
    index = float(((s - total / n) ** 2).sum() / scale)
    if n > _MANY:
        spread = math.sqrt(2 * (1 - 1 / size) / (n - 1))
        p_value = float(2 * stats.norm.sf(abs(index - 1) / spread))
        return _dispersed(p_value, index, spread, n)
    drawn = generator.multivariate_hypergeometric(
        [size] * n, total, size=rounds, method="marginals"
    )
    permuted = ((drawn - total / n) ** 2).sum(axis=1) / scale
    below = int((permuted <= index * (1 + 1e-12)).sum())  # ties up to rounding
    above = int((permuted >= index * (1 - 1e-12)).sum())
    p_value = _two_sided((1 + below) / (1 + rounds), (1 + above) / (1 + rounds))
    return _dispersed(p_value, index, float(permuted.std()), n)


def _dispersed(p_value: float, index: float, spread: float, n: int) -> Finding:
    return Finding(
        p_value=p_value,
        error=abs(index - 1),
        detectable=detectable(spread, 1),
        signal=1.0,
        n=n,
        expected="dispersion 1",
        got=f"{index:.4g}",
    )


def _two_sided(lower: float, upper: float) -> float:
    """2 min(P(T ≤ t), P(T ≥ t)), at most 1; NaN if either is, which `min` alone would lose."""
    return float(np.minimum(1.0, 2.0 * np.minimum(lower, upper)))


def _not_finite(x: Numbers, expected: str) -> Finding:
    return Finding(
        p_value=math.nan,
        error=math.nan,
        detectable=math.nan,
        signal=1.0,
        n=len(x),
        expected=expected,
        got=f"{int((~np.isfinite(x)).sum())} numbers that are not finite",
    )


def numbers(sample: Any) -> Numbers:
    """A flat float64 array of a tensor on any device, an array or a sequence."""
    if hasattr(sample, "detach"):
        sample = sample.detach().double().cpu().numpy()
    return np.asarray(sample, dtype=np.float64).reshape(-1)
