"""Why a pass may mean less than it seems: said of the trial, without failing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dlcheck.model import Verdict


def doubts(
    verdict: Verdict, cases: int, conclusive: int, refusals: Sequence[str], skips: Sequence[str]
) -> Iterator[str]:
    """Of a trial that passed: most of its cases were refused, left out, or said nothing.

    cases: those that were judged; conclusive: in how many the bound was small against the signal;
    refusals, skips: why each of the others was not judged.
    """
    tried = cases + len(refusals) + len(skips)
    if verdict is not Verdict.PASSED or tried < _FEW:
        return
    if 2 * len(refusals) > tried:
        last = refusals[-1].splitlines()[-1]
        yield f"the subject refused {len(refusals)} of {tried} cases of its declared inputs: {last}"
    elif 2 * len(skips) > tried:
        yield f"the claim has no content in {len(skips)} of {tried} cases: {skips[-1]}"
    if 2 * (cases - conclusive) > cases:
        yield f"in {cases - conclusive} of {cases} cases the bound was too wide to say anything"


_FEW = 4
