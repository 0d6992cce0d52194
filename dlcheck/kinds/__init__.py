"""The kinds: the role a subject plays, how it is called, and what may be declared about it.

A third party adds its own kind with an entry point of the group `dlcheck.kinds` that names a
`Kind` record. What an option or a trait means in full stands in `dlcheck list kinds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dlcheck.kinds import data, loops, metrics, optimization, tensors
from dlcheck.kinds.inputs import inputs_of as inputs_of
from dlcheck.kinds.of_every_kind import COMMON_OPTIONS as COMMON_OPTIONS
from dlcheck.kinds.of_every_kind import COMMON_TRAITS as COMMON_TRAITS
from dlcheck.kinds.of_every_kind import INFINITE as INFINITE
from dlcheck.model import Kind

_KINDS = (
    *tensors.KINDS,
    *optimization.KINDS,
    *data.KINDS,
    *loops.KINDS,
    *metrics.KINDS,
)

BUILT_IN: Mapping[str, Kind] = {kind.name: kind for kind in _KINDS}
# What a check may name in place of a list of kinds.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "tensors": tuple(kind.name for kind in _KINDS if kind.returns_tensors),
}


def spelled_out(names: Iterable[str]) -> tuple[str, ...]:
    """Names of kinds with every group replaced by its members."""
    return tuple(dict.fromkeys(member for name in names for member in GROUPS.get(name, (name,))))


def options_of(kind: Kind) -> dict[str, str]:
    """Every option that a subject of this kind may declare, with its meaning."""
    return {**COMMON_OPTIONS, **kind.options}


def traits_of(kind: Kind) -> dict[str, str]:
    """Every trait that a subject of this kind may declare, with its meaning."""
    return {**COMMON_TRAITS, **kind.traits}
