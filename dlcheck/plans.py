"""The cases that no run leaves to chance: sizes, regimes and layouts in turn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dlcheck.domains import Input
from dlcheck.model import Recipe, Subject
from dlcheck.regimes import regimes_of
from dlcheck.registry import catalogue
from dlcheck.strategies import clipped, dim_names, layouts_of

_TILES = (1025, 257, 129, 127, 65, 33, 31)  # just past a tile, or one short of it
_ODD = (3, 5, 7, 2, 9, 4, 13, 17)
_CELLS = 2**14  # numbers that a case with a tile may hold
_PAIRS = 2**19  # pairs of positions that it may hold, of which there are many more than positions
_FEW = 3  # terms of a short sum
_ROWS = 9  # of which each rounds for itself: what shows a common factor


def planned_recipes(
    subject: Subject,
    specs: Mapping[str, Input],
    regimes: Sequence[str],
    seed: int,
    count: int,
) -> list[Recipe]:
    """The recipes that no run leaves to chance: regimes in turn × odd sizes, tiles and ones.

    The first is normal, contiguous and of odd sizes that all differ. Then every input goes
    through its regimes and layouts, each at its own pace. Every second case has long axes, first
    with normal values; some of the others have an axis of length 1, or an empty one. The second
    has one row for every other seed, so that half of the checks of a subject see a batch of one.
    """
    names = dim_names(subject, specs)
    made = []
    for turn in range(count):
        made.append(
            Recipe(
                sizes=_planned_sizes(subject, specs, names, turn, seed),
                regimes={
                    name: _planned_regime(regimes_of(spec, regimes), turn, place, len(specs))
                    for place, (name, spec) in enumerate(specs.items())
                },
                layouts={
                    name: _in_turn(layouts_of(subject, spec), turn // 2 + turn % 2, place)
                    for place, (name, spec) in enumerate(specs.items())
                },
                # Checks that take turns by the seed, in three types, see long axes in each.
                seed=(seed + 3 * turn + turn // 2) % 2**31,
            )
        )
    return made


def _is_long(turn: int) -> bool:
    return turn > 0 and turn % 2 == 0


def _planned_regime(choices: Sequence[str], turn: int, place: int, inputs: int) -> str:
    """The regimes in turn; where axes are long, normal values twice, then one input off normal.

    What a tile loses shows among terms of one size; an outlier or a common offset hides it. Mixed
    values, the last regime, show the rest: each row has another one.
    """
    if not _is_long(turn):
        return _in_turn(choices, (turn + 1) // 2, place)
    later = turn // 2 - 1 - 2
    if later < 0 or later // 2 % inputs != place or len(choices) < 2:
        return choices[0]
    return choices[-1 - later // (2 * inputs) % (len(choices) - 1)]


def _in_turn(choices: Sequence[str], turn: int, place: int) -> str:
    """The choice of this turn; inputs step at different paces, so that pairs differ."""
    step = 1 + place % max(len(choices) - 1, 1)
    return choices[turn * step % len(choices)]


def _planned_sizes(
    subject: Subject, specs: Mapping[str, Input], names: Sequence[str], turn: int, seed: int
) -> dict[str, int]:
    sizes = {
        name: clipped(subject, name, _ODD[(place + turn) % len(_ODD)])
        for place, name in enumerate(names)
    }
    if not names:
        return sizes
    if _is_long(turn):
        return _long_sizes(subject, specs, sizes, turn // 2 - 1)
    if turn == 1 and seed % 2 and len(names) > 1:
        sizes[names[0]] = clipped(subject, names[0], 1)
    chosen = names[-1 - turn // 6 % len(names)]  # the last axis first: rows are reduced
    if turn % 6 == 3:
        sizes[chosen] = clipped(subject, chosen, 1)
    elif "accepts_empty" in subject.traits and turn % 6 == 5:
        sizes[chosen] = clipped(subject, chosen, 0)
    return sizes


def _long_sizes(
    subject: Subject, specs: Mapping[str, Input], sizes: Mapping[str, int], turn: int
) -> dict[str, int]:
    """The two axes that are likeliest summed over long; or the second, and the first short.

    Those are the axes that most inputs share, the last ones first. What n steps round grows with
    √n, so one long sum shows most; what only short sums show, as an eps beside 1, needs many.
    """
    order = list(sizes)
    shared = {name: sum(name in spec.names for spec in specs.values()) for name in order}
    first, *second = sorted(order, key=lambda name: (-shared[name], -order.index(name)))[:2]
    chosen = second if turn % 2 and second else [first, *second]
    later = turn // 2
    start = 1 + later // 2 % (len(_TILES) - 1)
    longest = _TILES[start if later % 2 or first not in chosen else 0 :]
    for others in (_ROWS, 2):
        found = {name: clipped(subject, name, others) for name in order}
        found |= {name: max(sizes[name], found[name]) for name in chosen}
        found |= {first: clipped(subject, first, _FEW)} if first not in chosen else {}
        if _fits(subject, specs, {**found, chosen[0]: clipped(subject, chosen[0], longest[0])}):
            break
    for name in chosen:
        for tile in longest:
            longer = {**found, name: clipped(subject, name, tile)}
            if _fits(subject, specs, longer):
                found = longer
                break
        longest = _TILES[1:]  # both are summed over at most 257 × 1025 times
    return found


def _fits(subject: Subject, specs: Mapping[str, Input], sizes: Mapping[str, int]) -> bool:
    cells = sum(math.prod(spec.shape(sizes)) for spec in specs.values())
    return cells <= _CELLS and _pairs(subject, specs, sizes) <= _PAIRS


def _pairs(subject: Subject, specs: Mapping[str, Input], sizes: Mapping[str, int]) -> int:
    """The positions of the first input times those of the second, of a kind that takes pairs."""
    inputs = [spec for spec in specs.values() if spec.is_floating and len(spec.dims) > 1][:2]
    if not inputs or not catalogue().kind(subject.kind).pairs:
        return 0
    return math.prod(inputs[0].shape(sizes)[:-1]) * inputs[-1].shape(sizes)[-2]
