"""Of the smallest case that failed: which parts of its recipe matter, and what a larger one tells.

One part of the recipe is varied at a time. Where every variation fails too, that part may be
anything. A size that only needs to be as large as it is may be larger. A failure in two elements
has many explanations, so it is looked at once more with all that may be larger enlarged.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from dlcheck.checks.difference import Fitted
from dlcheck.domains import Input
from dlcheck.model import Evidence, Recipe, Subject, Verdict
from dlcheck.numerics.localisation import names_a_pattern, without_pattern
from dlcheck.numerics.relations import named_factors, relation
from dlcheck.regimes import regimes_of
from dlcheck.strategies import layouts_of, sizes_of

ANY, OR_MORE = "any", "or more"
_TRIES = 3  # variations of a part
_JUDGED = 2  # of them that must say something
_MOST = 24  # cases that are run for it
_SLOWEST = 1.5  # seconds of a case that is not varied
_LONGEST = 3.0  # seconds of all
_LARGER = (7, 5, 9, 11, 6, 13, 8)  # sizes of a larger case, where no two are the same
_DIGITS = 2e-6  # relative precision of numbers in the text of evidence
_CASES = 3  # in which a scalar must be off by the same, to name it


class Run(Protocol):
    """What a case came to, nothing where it says nothing. explains: look into a failure."""

    def __call__(self, recipe: Recipe, *, explains: bool) -> Sequence[Evidence]: ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which parts of a recipe may be otherwise, how, and the evidence with what was found."""

    free: Mapping[str, str]
    evidence: Sequence[Evidence]


@dataclass(slots=True)
class Varied:
    """Runs cases until the time is up, and keeps what each failure said.

    The time is that of the processor: a busy machine does not make a message shorter.
    """

    run: Run
    until: float
    failed: list[tuple[Recipe, Evidence]] = field(default_factory=list)
    cases: int = 0

    def fails(self, recipe: Recipe, *, explains: bool = False) -> bool | None:
        """Does it? None where the case says nothing, or there is no time."""
        if time.process_time() > self.until or self.cases >= _MOST:
            return None
        self.cases += 1
        pieces = self.run(recipe, explains=explains)
        if not pieces or pieces[0].verdict is Verdict.INCONCLUSIVE:
            return None
        if pieces[0].verdict is not Verdict.FAILED:
            return False
        self.failed.append((recipe, pieces[0]))
        return True

    def all_fail(self, recipes: Iterator[Recipe]) -> bool:
        judged = 0
        for recipe in recipes:
            found = self.fails(recipe)
            if found is False:
                return False
            judged += found is True
        return judged >= _JUDGED


def explained(
    recipe: Recipe,
    evidence: Sequence[Evidence],
    choices: Mapping[str, Sequence[object]],
    run: Run,
    *,
    known: bool,
    took: float,
) -> Explanation:
    """Vary what the recipe says, and word what that tells of its evidence.

    evidence: of the recipe itself, the deciding piece first, a failure. choices: of each part, as
    `choices_of` gives them. known: whether the cause was known before the failure was looked into.
    took: the seconds of the processor that the look took.
    """
    if took > _SLOWEST:
        return Explanation({}, evidence)
    varied = Varied(run, time.process_time() + _LONGEST)
    deciding = evidence[0]
    larger = _enlarged(recipe, choices, list(recipe.sizes))
    is_larger = larger != recipe and varied.fails(larger, explains=True) is True
    free = dict(_free(recipe, choices, varied))
    if not is_larger:
        sizes = [name for name in recipe.sizes if f"sizes.{name}" in free]
        larger = _enlarged(recipe, choices, sizes)
        is_larger = larger != recipe and varied.fails(larger, explains=True) is True
    found = next((piece for case, piece in varied.failed if case == larger), None)
    if is_larger and found is not None:
        deciding = _told_by(deciding, larger, found, known=known)
    same = [(recipe, evidence[0]), *varied.failed]
    if not deciding.cause and (cause := _common_cause(same)):
        deciding = replace(deciding, cause=cause)
    return Explanation(free, [deciding, *evidence[1:]])


def choices_of(
    subject: Subject, specs: Mapping[str, Input], recipe: Recipe, regimes: Sequence[str]
) -> dict[str, Sequence[object]]:
    """What each part that the recipe shows may be, as the search draws it, by its key."""
    made: dict[str, Sequence[object]] = {}
    for name in recipe.sizes:
        made[f"sizes.{name}"] = sorted(sizes_of(subject, name))
    for name, regime in recipe.regimes.items():
        if regime != "normal":
            made[f"regimes.{name}"] = regimes_of(specs[name], regimes)
    for name, layout in recipe.layouts.items():
        if layout != "contiguous":
            made[f"layouts.{name}"] = layouts_of(subject, specs[name])
    made["seed"] = range(recipe.seed + 1, recipe.seed + 1 + _TRIES)
    return made


def _free(
    recipe: Recipe, choices: Mapping[str, Sequence[object]], varied: Varied
) -> Iterator[tuple[str, str]]:
    for key, values in choices.items():
        now = _part(recipe, key)
        others = [value for value in values if value != now]
        if key.startswith("sizes."):
            smaller = [size for size in others if int(str(size)) < int(str(now))]
            larger = [size for size in others if size not in smaller]
            if not varied.all_fail(_changed(recipe, key, _spread(larger))):
                continue
            all_fail = all(
                varied.fails(each) is not False for each in _changed(recipe, key, _spread(smaller))
            )
            yield key, ANY if all_fail else OR_MORE
        elif varied.all_fail(_changed(recipe, key, _spread(others))):
            yield key, ANY


def _spread(values: Sequence[object]) -> list[object]:
    """The first, the last and one between."""
    if len(values) <= _TRIES:
        return list(values)
    return [values[0], values[len(values) // 2], values[-1]]


def _part(recipe: Recipe, key: str) -> object:
    group, _, name = key.partition(".")
    found = getattr(recipe, group)
    return found[name] if name else found


def _changed(recipe: Recipe, key: str, values: Sequence[object]) -> Iterator[Recipe]:
    group, _, name = key.partition(".")
    for value in values:
        part = {**getattr(recipe, group), name: value} if name else value
        yield replace(recipe, **{group: part})  # type: ignore[arg-type]


def _enlarged(
    recipe: Recipe, choices: Mapping[str, Sequence[object]], names: Sequence[str]
) -> Recipe:
    """Those sizes larger, where they may be, each another one."""
    sizes, left = dict(recipe.sizes), list(_LARGER)
    for name in names:
        most = max((int(str(size)) for size in choices[f"sizes.{name}"]), default=0)
        if fits := [size for size in left if sizes[name] < size <= most]:
            sizes[name] = fits[0]
            left.remove(fits[0])
    return replace(recipe, sizes=sizes)


def _told_by(small: Evidence, larger: Recipe, found: Evidence, *, known: bool) -> Evidence:
    """The evidence of the small case, with the pattern and the cause that show in a larger one.

    A cause that was fitted to few elements and does not fit many is an accident: it is left out.
    """
    where, fitted = without_pattern(small.where), isinstance(small.cause, Fitted)
    if _unnumbered(small.what) != _unnumbered(found.what):  # another measurement is worst there
        confirmed = not fitted or found.cause == small.cause
        return replace(small, where=where, cause=small.cause if confirmed else "")
    if names_a_pattern(found.where):
        sizes = " ".join(f"{name}={size}" for name, size in larger.sizes.items())
        pattern = found.where.rpartition("; ")[0]
        where = f"{where}; at {sizes}: {pattern}" if where else f"at {sizes}: {pattern}"
    kept = "" if known or fitted else small.cause
    return replace(small, where=where, cause=found.cause or kept)


def _unnumbered(what: str) -> str:
    return re.sub(r"\d+", "", what)


# --- numbers that the text of several cases tells -----------------------------------------------


def _common_cause(failed: Sequence[tuple[Recipe, Evidence]]) -> str:
    """What relates `got` to `expected` in every case that failed, where both are numbers."""
    numbers = [(recipe, _numbers(piece)) for recipe, piece in failed]
    known = [(recipe, pair) for recipe, pair in numbers if pair is not None]
    if len(known) < len(failed) or len({pair for _, pair in known}) < _CASES:
        return ""
    if len({wanted for _, (_, wanted) in known}) < _CASES:
        return ""
    found = [_meanings(recipe, *pair) for recipe, pair in known]
    common = [said for said in found[0] if all(said in others for others in found)]
    if common:
        return f"in each of {len(known)} cases {common[0]}"
    got, wanted = torch.tensor([pair for _, pair in known], dtype=torch.float64).T
    said = relation(got, wanted, _DIGITS * torch.maximum(got.abs(), wanted.abs()))
    said = said.removeprefix("there ").removesuffix(", everywhere")
    return f"in each of {len(known)} cases {said}" if said else ""


def _meanings(recipe: Recipe, got: float, wanted: float) -> list[str]:
    return [
        named.meaning
        for named in named_factors(recipe.sizes)
        if wanted and math.isclose(got / wanted, named.factor, rel_tol=_DIGITS)
    ]


def _numbers(piece: Evidence) -> tuple[float, float] | None:
    try:
        return float(piece.got), float(piece.expected)
    except ValueError:
        return None
