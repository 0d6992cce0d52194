"""Stochastic claims with a known false-alarm rate: exact tests, and three strikes over them.

def sample(stream: Stream, n: int) -> Finding:
    return binomial(count_kept(n), n, 0.9)

return three_strikes(case.root, case.claim, 10_000, sample, what="keep rate")
"""

from dlcheck.stats.finding import Finding, bonferroni, detectable, detectable_effect
from dlcheck.stats.strikes import Stream, stream_of, three_strikes
from dlcheck.stats.tests import (
    at_least,
    binomial,
    dispersion,
    distribution,
    independence,
    mean,
    normal_variance,
    permutation,
    same_distribution,
    sign,
    variance,
)

__all__ = [
    "Finding",
    "Stream",
    "at_least",
    "binomial",
    "bonferroni",
    "detectable",
    "detectable_effect",
    "dispersion",
    "distribution",
    "independence",
    "mean",
    "normal_variance",
    "permutation",
    "same_distribution",
    "sign",
    "stream_of",
    "three_strikes",
    "variance",
]
