"""Is this what a page shows? Lines of `…` leave lines out, and measured times do not count.

Words must be the same. Numbers may differ by 1 %, and where both are of the size of rounding
(below 10⁻⁶) by a factor of 100: another processor rounds otherwise.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

_VOLATILE = (
    (re.compile(r"(?<=dlcheck replay )[0-9a-f]+"), "ID"),
    (re.compile(r"\b\d{8}T\d{6}-\w+(-\d+)?"), "RUN"),
    (re.compile(r"\b\d[\d,]*(\.\d+)? ?(s|ms|µs|ns|min)\b"), "TIME"),
    (re.compile(r" \(\d+:\d\d:\d\d\)"), ""),  # pytest, beyond a minute
    (re.compile(r"={3,}"), "==="),
    (re.compile(r"×10[⁰¹²³⁴-⁹⁻]+"), "TIMES"),
    (re.compile(r"\s+"), " "),
)
_NUMBER = re.compile(r"(?<![\w.])[-−+]?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?")
_ELISION = "…"


def differences(shown: Sequence[str], got: Sequence[str], *, numbers: bool = True) -> list[str]:
    """What is shown and did not come, as lines for a person; empty where all of it came."""
    parts, got = _parts(_trimmed(_steady(shown))), _trimmed(_steady(got))
    at = 0
    for k, part in enumerate(parts):
        last = len(got) - len(part)
        starts = range(at, last + 1) if 0 < k < len(parts) - 1 else [at] if k == 0 else [last]
        fits = (n for n in starts if n >= at and _begins(part, got[n:], numbers=numbers))
        start = next(fits, None)
        if start is None:
            return _first_difference(part, got[at:], anchored=k == 0, numbers=numbers)
        at = start + len(part)
    if len(parts) == 1 and at < len(got):
        return ["shown: nothing more", f"came:  {got[at]}"]
    return []


def _steady(lines: Sequence[str]) -> list[str]:
    """Without the line of a script: whether one is found in its seconds is a matter of load."""
    return [line for line in lines if not line.startswith("  script    ")]


def _begins(part: Sequence[str], got: Sequence[str], *, numbers: bool) -> bool:
    pairs = zip(part, got, strict=False)
    return len(part) <= len(got) and all(same(a, b, numbers=numbers) for a, b in pairs)


def _first_difference(
    part: Sequence[str], got: Sequence[str], *, anchored: bool, numbers: bool
) -> list[str]:
    """The first line that did not come, beside what stands in its place."""
    start = 0 if anchored else next((k for k, each in enumerate(got) if same(part[0], each)), None)
    if start is None:
        return [f"shown: {part[0]}", f"came:  {_nearest(part[0], got)}"]
    for line, other in zip(part, [*got[start:], *[""] * len(part)], strict=False):
        if not same(line, other, numbers=numbers):
            return [f"shown: {line}", f"came:  {other}"]
    return [f"shown: {part[-1]}", "came:  further lines below it"]


def same(shown: str, got: str, *, numbers: bool = True) -> bool:
    """Are two lines the same but for times, run ids and what rounding moves?"""
    shown, got = _settled(shown), _settled(got)
    words = ".*".join(re.escape(part) for part in _NUMBER.sub("#", shown).split(_ELISION))
    if re.fullmatch(words, _NUMBER.sub("#", got)) is None:
        return False
    if not numbers or _ELISION in shown:
        return True
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(got), strict=True)
    return all(_near(_value(a), _value(b)) for a, b in pairs)


def _settled(line: str) -> str:
    for pattern, name in _VOLATILE:
        line = pattern.sub(name, line)
    return line.rstrip()


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def _near(a: float, b: float) -> bool:
    larger, smaller = max(abs(a), abs(b)), min(abs(a), abs(b))
    if larger < 1e-6:
        return smaller * 100 >= larger or larger < 1e-14
    return abs(a - b) <= 0.01 * larger


def _trimmed(lines: Sequence[str]) -> list[str]:
    """Without the blank lines at the end."""
    kept = list(lines)
    while kept and not kept[-1].strip():
        kept.pop()
    return kept


def _nearest(line: str, lines: Sequence[str]) -> str:
    close = difflib.get_close_matches(line, lines, n=1, cutoff=0.3)
    return close[0] if close else "nothing like it"


# --- writing anew ------------------------------------------------------------------------------


def renewed(shown: Sequence[str], got: Sequence[str]) -> list[str]:
    """What came, with the same parts left out as in what was shown.

    Each part between two elisions is found again by its first and its last line, numbers aside.
    Raises LookupError where that fails: the page is then to be mended by hand.
    """
    parts, got = _parts(_trimmed(shown)), _trimmed(got)
    new: list[str] = []
    at = 0
    for k, part in enumerate(parts):
        if k:
            new.append(_ELISION)
        if not part:
            continue
        if k == len(parts) - 1 and len(part) == 1 < len(parts):
            first, at = len(got) - 1, len(got)  # the last word, whatever it is
        else:
            first = 0 if k == 0 else _found(part[0], got, at)
            at = len(got) if k == len(parts) - 1 else _found(part[-1], got, first) + 1
        new += got[first:at]
    return [*new, *shown[len(_trimmed(shown)) :]]


def _parts(lines: Sequence[str]) -> list[list[str]]:
    """The lines between elisions; an empty part where an elision begins or ends."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if line.strip() == _ELISION:
            parts.append([])
        else:
            parts[-1].append(line)
    return parts


def _found(line: str, got: Sequence[str], start: int) -> int:
    wanted = _NUMBER.sub("#", _settled(line))
    kept = [_NUMBER.sub("#", _settled(each)) for each in got[start:]]
    close = difflib.get_close_matches(wanted, kept, n=1, cutoff=0.6)
    if not close:
        raise LookupError(f"no line like {line!r}")
    return start + kept.index(close[0])
