"""The cases that no run leaves to chance: sizes, regimes and layouts in turn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dlcheck.domains import Input
from dlcheck.model import Recipe, Subject
from dlcheck.regimes import regimes_of
from dlcheck.strategies import clipped, dim_names, layouts_of

_TILES = (257, 129, 127, 65, 33, 31)  # just past a tile, or one short of it
_ODD = (3, 5, 7, 2, 9, 4, 13, 17)
_CELLS = 2**14  # numbers that a case with a tile may hold


def planned_recipes(
    subject: Subject,
    specs: Mapping[str, Input],
    regimes: Sequence[str],
    seed: int,
    count: int,
) -> list[Recipe]:
    """The recipes that no run leaves to chance: regimes in turn × odd sizes, tiles and ones.

    The first is normal, contiguous and of odd sizes that all differ. Then every input goes
    through its regimes and layouts, each at its own pace; every third case has one or two long
    axes, first with normal values, and every fifth an axis of length 1.
    """
    names = dim_names(subject, specs)
    made = []
    for turn in range(count):
        made.append(
            Recipe(
                sizes=_planned_sizes(subject, specs, names, turn),
                regimes={
                    name: _planned_regime(regimes_of(spec, regimes), turn, place, len(specs))
                    for place, (name, spec) in enumerate(specs.items())
                },
                layouts={
                    name: _in_turn(layouts_of(subject, spec), turn + turn // 3, place)
                    for place, (name, spec) in enumerate(specs.items())
                },
                # Checks that take turns by the seed, in three types, see long axes in each.
                seed=(seed + 3 * turn + (turn + 1) // 3) % 2**31,
            )
        )
    return made


def _planned_regime(choices: Sequence[str], turn: int, place: int, inputs: int) -> str:
    """The regimes in turn; where axes are long, normal values twice, then one input off normal.

    What a tile loses shows among terms of one size; an outlier or a common offset hides it.
    """
    if turn % 3 != 2:
        return _in_turn(choices, turn - (turn + 1) // 3, place)
    later = turn // 3 - 2
    if later < 0 or later % inputs != place or len(choices) < 2:
        return choices[0]
    return choices[1 + later // inputs % (len(choices) - 1)]


def _in_turn(choices: Sequence[str], turn: int, place: int) -> str:
    """The choice of this turn; inputs step at different paces, so that pairs differ."""
    step = 1 + place % max(len(choices) - 1, 1)
    return choices[turn * step % len(choices)]


def _planned_sizes(
    subject: Subject, specs: Mapping[str, Input], names: Sequence[str], turn: int
) -> dict[str, int]:
    sizes = {
        name: clipped(subject, name, _ODD[(place + turn) % len(_ODD)])
        for place, name in enumerate(names)
    }
    if not names:
        return sizes
    if turn % 3 == 2:
        return _long_sizes(subject, specs, sizes, turn // 3)
    chosen = names[-1 - turn // 3 % len(names)]  # the last axis first: rows are reduced
    if turn % 5 == 4:
        sizes[chosen] = clipped(subject, chosen, 1)
    elif "accepts_empty" in subject.traits and turn % 7 == 6:
        sizes[chosen] = clipped(subject, chosen, 0)
    return sizes


def _long_sizes(
    subject: Subject, specs: Mapping[str, Input], sizes: Mapping[str, int], turn: int
) -> dict[str, int]:
    """Two axes as long as fits, the others of length 2.

    The two that are likeliest summed over, the longer one in turn: those that most inputs share,
    the last ones first. What n steps round grows with √n, so one long sum shows most.
    """
    order = list(sizes)
    shared = {name: sum(name in spec.names for spec in specs.values()) for name in order}
    ranked = sorted(order, key=lambda name: (-shared[name], -order.index(name)))[:2]
    found = {name: clipped(subject, name, 2) for name in order}
    found |= {name: sizes[name] for name in ranked}
    longest = _TILES[turn // 2 % len(_TILES) :]
    for name in ranked[:: -1 if turn % 2 else 1]:
        for tile in longest:
            longer = {**found, name: clipped(subject, name, tile)}
            if _cells(specs, longer) <= _CELLS:
                found = longer
                break
        longest = _TILES
    return found


def _cells(specs: Mapping[str, Input], sizes: Mapping[str, int]) -> int:
    return sum(math.prod(spec.shape(sizes)) for spec in specs.values())
