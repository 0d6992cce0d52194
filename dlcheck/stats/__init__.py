"""Stochastic claims with a known false-alarm rate: exact tests, and three strikes over them."""

from dlcheck.stats.finding import Finding, bonferroni, detectable, detectable_effect
from dlcheck.stats.strikes import Stream, stream_of, three_strikes
from dlcheck.stats.tests import (
    at_least,
    binomial,
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
