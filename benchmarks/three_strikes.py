"""Three strikes, measured: false alarms, cost, and the smallest effect that is noticed.

    python benchmarks/three_strikes.py [--claims 1000000]
    python benchmarks/three_strikes.py --claims 0 --checks 1000 [--kinds dropout op layer …]

Seven families of tests are simulated under "the implementation is right" in their sufficient
statistics, so that a million claims cost seconds; then the same rule is run on a mean that is off
by 6.38 σ/√n. `--checks` runs every check tagged "statistical" over as many root seeds, on the
references and further subjects that it must accept: a first strike is due once in a thousand
claims, an alarm never.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import special, stats
from scipy.stats import binom

from dlcheck.model import Outcome, Trial, Verdict
from dlcheck.proof import accepted
from dlcheck.registry import catalogue
from dlcheck.runner import run_trial
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


@dataclass(slots=True)
class Tally:
    """What one check came to over all seeds: claims, first strikes, alarms, seconds."""

    subjects: int
    claims: int = 0
    first: int = 0
    alarms: list[str] = field(default_factory=list)
    undecided: int = 0
    seconds: float = 0.0

    def add(self, outcome: Outcome, seed: int) -> None:
        struck = [piece for piece in outcome.evidence if piece.p_values]
        self.claims += len(struck)
        self.first += sum(piece.p_values[0] <= ALPHA for piece in struck)
        if outcome.verdict in (Verdict.FAILED, Verdict.ERRORED):
            self.alarms.append(f"{outcome.subject}, seed {seed}: {outcome.worst} {outcome.message}")
        self.undecided += outcome.verdict is Verdict.INCONCLUSIVE
        self.seconds += outcome.seconds


def statistical_trials(kinds: Sequence[str]) -> dict[str, list[Trial]]:
    """The trials of every check tagged "statistical", on every subject that it must accept.

    kinds: those of the subjects; all of them where none is named. A new check is found by its tag.
    Left out are experiments, which train for seconds and are judged by one exact test.
    """
    found: dict[str, list[Trial]] = {}
    for name, check in sorted(catalogue().checks.items()):
        if "statistical" in check.tags and not {"opt_in", "experiment"} & check.tags:
            trials = [t for t in accepted(check) if not kinds or t.subject.kind in kinds]
            if trials:
                found[name] = trials
    return found


def calibrate_checks(
    seeds: int,
    kinds: Sequence[str],
    *,
    every_subject: bool,
    tell: Callable[[dict[str, Tally], int], None],
) -> dict[str, Tally]:
    """First strikes and alarms of each check over root seeds 1 … seeds.

    Each seed takes the next of a check's subjects, or all of them with every_subject. tell: is
    called with what was found so far every 50 seeds, so that a run that is cut off says something.
    """
    of_check = statistical_trials(kinds)
    tallies = {name: Tally(subjects=len(trials)) for name, trials in of_check.items()}
    for seed in range(1, seeds + 1):
        for name, trials in of_check.items():
            for trial in trials[:] if every_subject else trials[seed % len(trials) :][:1]:
                outcome = run_trial(replace(trial, seed=seed))
                if outcome.verdict is Verdict.SKIPPED and len(trials) > 1:
                    trials.remove(trial)  # the claim has no content for it
                tallies[name].add(outcome, seed)
        if seed % 50 == 0:
            tell(tallies, seed)
    return tallies


def table_of(tallies: dict[str, Tally], seeds: int) -> str:
    """A Markdown table, the total last."""
    rows = [f"Statistical checks on correct subjects, {seeds} root seeds", "",
            "| check | subjects | claims | first strikes | rate | alarms | undecided | s |",
            "|---|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    total = Tally(
        subjects=sum(t.subjects for t in tallies.values()),
        claims=sum(t.claims for t in tallies.values()),
        first=sum(t.first for t in tallies.values()),
        alarms=[alarm for t in tallies.values() for alarm in t.alarms],
        undecided=sum(t.undecided for t in tallies.values()),
        seconds=sum(t.seconds for t in tallies.values()),
    )
    for name, t in [*tallies.items(), ("**all**", total)]:
        rate = f"{t.first / t.claims:.2e}" if t.claims else "–"
        rows.append(f"| {name} | {t.subjects} | {t.claims:,} | {t.first} | {rate} | "
                    f"{len(t.alarms)} | {t.undecided} | {t.seconds:.1f} |")  # fmt: skip
    law = binom(max(total.claims, 1), ALPHA)
    rows += ["", f"Under an exact 10⁻³ the first strikes are {law.ppf(0.001):.0f} to "
             f"{law.isf(0.001):.0f} (99.8 %); discrete tests strike less often."]  # fmt: skip
    return "\n".join([*rows, *(f"ALARM {alarm}" for alarm in total.alarms)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--claims", type=int, default=1_000_000, help="simulated per family")
    parser.add_argument("--checks", type=int, default=0, metavar="SEEDS", help="run the checks")
    parser.add_argument("--kinds", nargs="*", default=[], help="of subjects; all by default")
    parser.add_argument("--every-subject", action="store_true", help="with each seed, not in turn")
    parser.add_argument("--output", type=Path, help="also write the table of the checks there")
    options = parser.parse_args()
    start = time.perf_counter()
    if options.claims:
        calibration(options.claims)
        power(options.claims)
    if options.checks:

        def keep(tallies: dict[str, Tally], seeds: int) -> None:
            if options.output is not None:
                options.output.write_text(table_of(tallies, seeds) + "\n", "utf-8")

        tallies = calibrate_checks(
            options.checks, options.kinds, every_subject=options.every_subject, tell=keep
        )
        print(table_of(tallies, options.checks))
        keep(tallies, options.checks)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
