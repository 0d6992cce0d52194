"""Three strikes: a statistical claim fails iff three independent samples speak against it.

One test at level 10⁻³ on n, 4n and 16n numbers: a false alarm has probability at most 10⁻⁹, a
right implementation costs one sample but once in a thousand runs, and the smallest effect that is
missed with probability 10⁻³ is 6.38 σ/√n, against 9.20 for one test at 10⁻⁹. A p-value need be
right only at 10⁻³, where a normal approximation still is.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Figure
from dlcheck.stats.finding import ALPHA, GROWTH, STRIKES, Finding


@dataclass(frozen=True, slots=True)
class Stream:
    """One strike's source of randomness: it repeats for (root, claim, strike) and for no other."""

    sequence: np.random.SeedSequence
    numpy: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "numpy", np.random.Generator(np.random.PCG64(self.sequence)))

    @property
    def seed(self) -> int:
        """For generators that take one number; `torch` and the global ones have others."""
        return self._word(0)

    def torch(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A torch generator of this stream, the same each time."""
        return torch.Generator(device=device).manual_seed(self._word(1))

    def seed_globals(self) -> None:
        """Seed `random`, NumPy's and torch's global generators, which subjects draw from.

        Another seed than `torch` has: from equal ones a subject would draw the very numbers that
        its inputs were made of.
        """
        seed_everything(self._word(2))

    def _word(self, position: int) -> int:
        return int(self.sequence.generate_state(3, np.uint64)[position] >> 1)


Sample = Callable[[Stream, int], Finding]


def stream_of(root: int, claim: str, strike: int) -> Stream:
    """The stream of a claim's strike, keyed by the claim's name: it survives any reordering."""
    key = (zlib.crc32(claim.encode()), strike)
    return Stream(np.random.SeedSequence(root, spawn_key=key))


def three_strikes(
    root: int,
    claim: str,
    n: int,
    sample: Sample,
    *,
    what: str = "",
    unit: str = "",
    cause: str = "",
    resolution: float = 0.5,
    values: Mapping[str, float | str] | None = None,
    figures: Sequence[Figure] = (),
) -> Evidence:
    """Judge a statistical claim: failed iff p ≤ 10⁻³ on samples of n, 4n and 16n.

    `sample(stream, n)` draws n fresh numbers and tests them. Before each strike `random`, NumPy's
    and torch's global generators are seeded from the stream, since subjects draw from those. The
    strikes stop at the first p above 10⁻³, and at NaN, which fails. A check with several claims
    gives each its own name, `f"{case.claim}/mean"`.

    The evidence holds the deviation in the last sample, the smallest effect detectable from n
    numbers as its bound, and is inconclusive where that is more than `resolution` × signal.
    """
    if root < 0:
        raise ValueError(f"the root seed is {root}, but a seed sequence takes none below 0")
    findings: list[Finding] = []
    for strike in range(STRIKES):
        stream = stream_of(root, claim, strike)
        stream.seed_globals()
        findings.append(sample(stream, n * GROWTH**strike))
        if not findings[-1].p_value <= ALPHA:  # passes, or is NaN
            break
    first, last = findings[0], findings[-1]
    return Evidence(
        error=math.nan if math.isnan(last.p_value) else last.error,
        bound=first.detectable,
        signal=first.signal,
        unit=unit,
        what=what,
        expected=last.expected,
        got=last.got,
        where=last.where,
        cause=cause if len(findings) == STRIKES else "",
        resolution=resolution,
        p_values=tuple(found.p_value for found in findings),
        alpha=ALPHA,
        strikes=STRIKES,
        values={
            "false-alarm bound": ALPHA**STRIKES,
            "smallest detectable effect": first.detectable,
            "n": float(first.n),
            "n in the last strike": float(last.n),
            **(values or {}),
        },
        figures=tuple(figures),
    )
