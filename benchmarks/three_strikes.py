"""Three strikes, measured: false alarms, cost, and the smallest effect that is noticed.

    python benchmarks/three_strikes.py [--claims 1000000] [--dropout SEEDS]

Seven families of tests are simulated under "the implementation is right" in their sufficient
statistics, so that a million claims cost seconds; then the same rule is run on a mean that is off
by 6.38 σ/√n. `--dropout` runs the statistical checks of dropout over as many root seeds.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import special, stats

from dlcheck.stats.finding import ALPHA, GROWTH, STRIKES, detectable_effect

Family = Callable[[np.random.Generator, int, int], np.ndarray]  # (generator, claims, n) → p-values
_CHUNK = 2_000_000


def binomial(generator: np.random.Generator, claims: int, n: int) -> np.ndarray:
    return _two_sided(stats.binom(n, 0.7), generator.binomial(n, 0.7, claims), discrete=True)


def chi_squared(generator: np.random.Generator, claims: int, n: int) -> np.ndarray:
    return _two_sided(stats.chi2(n - 1), generator.chisquare(n - 1, claims), discrete=False)


def t_normal(generator: np.random.Generator, claims: int, n: int) -> np.ndarray:
    return 2 * stats.t.sf(np.abs(generator.standard_t(n - 1, claims)), n - 1)


def t_exponential(generator: np.random.Generator, claims: int, n: int) -> np.ndarray:
    """The central limit at work: the numbers are exponential, the test takes them for normal."""
    return np.concatenate(
        [
            _t_test(generator.exponential(size=(size, n)), 1.0)
            for size in _chunks(claims, n)
        ]
    )  # fmt: skip


def kolmogorov_smirnov(generator: np.random.Generator, claims: int, n: int) -> np.ndarray:
    """Stephens' approximation of the law of D, which is right at 10⁻³ from n = 100 on."""
    steps = np.arange(1, n + 1) / n
    found = []
    for size in _chunks(claims, n):
        u = np.sort(generator.random((size, n)), axis=1)
        d = np.maximum((steps - u).max(axis=1), (u - (steps - 1 / n)).max(axis=1))
        found.append(special.kolmogorov(d * (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n))))
    return np.concatenate(found)


def sign(generator: np.random.Generator, claims: int, n: int) -> np.ndarray:
    return stats.binom.cdf(generator.binomial(n, 0.5, claims), n, 0.5)


def permutation(generator: np.random.Generator, claims: int, n: int) -> np.ndarray:
    """Under exchangeability the rank of the statistic among 999 permuted ones is uniform."""
    return (1 + generator.integers(0, 1000, claims)) / 1000


FAMILIES: dict[str, tuple[Family, int, float]] = {  # first n, and the share of claims to spend
    "binomial, p = .7": (binomial, 1000, 1.0),
    "χ² of a variance": (chi_squared, 200, 1.0),
    "t, normal numbers": (t_normal, 50, 1.0),
    "t, exponential numbers": (t_exponential, 200, 0.2),
    "Kolmogorov–Smirnov": (kolmogorov_smirnov, 100, 0.2),
    "sign, 10 pairs": (sign, 10, 1.0),
    "permutation, 999": (permutation, 1, 1.0),
}


def _two_sided(law: object, found: np.ndarray, *, discrete: bool) -> np.ndarray:
    upper = law.sf(found - 1 if discrete else found)  # type: ignore[attr-defined]
    return np.minimum(1.0, 2 * np.minimum(law.cdf(found), upper))  # type: ignore[attr-defined]


def _t_test(x: np.ndarray, centre: float) -> np.ndarray:
    n = x.shape[1]
    t = (x.mean(axis=1) - centre) / (x.std(axis=1, ddof=1) / math.sqrt(n))
    return 2 * stats.t.sf(np.abs(t), n - 1)


def _chunks(claims: int, n: int) -> Iterator[int]:
    most = max(1, _CHUNK // n)
    for start in range(0, claims, most):
        yield min(most, claims - start)


def strikes(
    family: Family, generator: np.random.Generator, claims: int, n: int
) -> tuple[list[int], float]:
    """How many claims are still alarming after each strike, and the cost in first samples."""
    alive, counts, used = claims, [], 0
    for strike in range(STRIKES):
        used += alive * GROWTH**strike
        p_values = family(generator, alive, n * GROWTH**strike) if alive else np.ones(0)
        alive = int((p_values <= ALPHA).sum())
        counts.append(alive)
    return counts, used / claims


def calibration(claims: int) -> None:
    generator = np.random.default_rng(20240501)
    print(f"{'under the claim':26}{'claims':>10}{'first':>8}{'rate':>10}{'2nd':>5}{'alarms':>8}"
          f"{'cost':>8}")  # fmt: skip
    total, first, alarms, paid = 0, 0, 0, 0.0
    for name, (family, n, share) in FAMILIES.items():
        m = int(claims * share)
        counts, cost = strikes(family, generator, m, n)
        total, first, alarms, paid = (
            total + m,
            first + counts[0],
            alarms + counts[2],
            paid + m * cost,
        )
        print(f"{name:26}{m:>10,}{counts[0]:>8,}{counts[0] / m:>10.2e}{counts[1]:>5}{counts[2]:>8}"
              f"{'×':>4}{cost:.3f}")  # fmt: skip
    print(f"{'all':26}{total:>10,}{first:>8,}{first / total:>10.2e}{'':>5}{alarms:>8}"
          f"{'×':>4}{paid / total:.3f}\n")  # fmt: skip


def power(claims: int) -> None:
    """The mean of n normal numbers is off by d σ/√n; so by 2d and 4d in the later strikes."""
    generator = np.random.default_rng(7)
    critical = stats.norm.isf(ALPHA / 2)
    print(f"{'effect in σ/√n':26}{'missed':>10}{'cost':>8}")
    for d in (3.0, 4.0, 5.0, 6.0, detectable_effect(), 7.0, 8.0):
        alive, used = claims, 0
        for strike in range(STRIKES):
            used += alive * GROWTH**strike
            z = generator.normal(d * math.sqrt(GROWTH) ** strike, size=alive)
            alive = int((np.abs(z) >= critical).sum())
        print(f"{d:<26.2f}{1 - alive / claims:>10.5f}{'×':>3}{used / claims:.1f}")
    print()


def dropout(seeds: int) -> None:
    """First strikes and alarms of each statistical check of dropout, over root seeds 1 … seeds."""
    from dlcheck.expansion import Overrides, expand
    from dlcheck.model import Verdict
    from dlcheck.runner import run_trial
    from dlcheck.suite import read_suite

    suite = read_suite(Path(__file__).parent.parent / "suites" / "regularization.toml")
    claims: Counter[str] = Counter()
    first: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    for seed in range(1, seeds + 1):
        for trial in expand(suite, Overrides(devices=("cpu",), seed=seed)):
            if trial.subject.kind != "dropout" or "statistical" not in trial.check.tags:
                continue
            outcome = run_trial(trial)
            struck = [piece for piece in outcome.evidence if piece.p_values]
            claims[trial.check.name] += len(struck)
            first[trial.check.name] += sum(len(piece.p_values) > 1 for piece in struck)
            alarms[trial.check.name] += outcome.verdict is Verdict.FAILED
    print(f"{f'dropout, {seeds} root seeds':44}{'claims':>9}{'first':>7}{'rate':>10}{'alarms':>8}")
    for name in (*sorted(claims), "all"):
        m, k, a = ((c.total() if name == "all" else c[name]) for c in (claims, first, alarms))
        print(f"{name:44}{m:>9,}{k:>7}{k / m:>10.2e}{a:>8}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--claims", type=int, default=1_000_000, help="simulated per family")
    parser.add_argument("--dropout", type=int, default=0, metavar="SEEDS")
    options = parser.parse_args()
    start = time.perf_counter()
    calibration(options.claims)
    power(options.claims)
    if options.dropout:
        dropout(options.dropout)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
