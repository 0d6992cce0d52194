"""What a run is told from outside: command line > DLCHECK_* > [tool.dlcheck] > suite > default.

Standard library only. `dlcheck doctor` prints where each value came from.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlcheck.configured import variable_of
from dlcheck.errors import UsageError, unknown
from dlcheck.model import PROFILES

LONGEST = 100_000_000  # seconds that a timer takes anywhere: three years
DEFAULT = "default"  # the source of what nobody said


@dataclass(frozen=True, slots=True)
class Setting:
    """One value with its source, for the person who wonders."""

    value: Any
    source: str
    drawn: bool = False  # at random, for this run


def _profile(value: Any) -> str:
    if value not in PROFILES:
        raise ValueError(unknown("profile", value, PROFILES))
    return str(value)


def _seed(value: Any) -> int:
    if value == "random":
        return int.from_bytes(os.urandom(4), "big")
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"seed is an integer or 'random', not {value!r}") from None


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"this is a list of names, not {value!r}")
    return tuple(name.strip() for name in value if name.strip())


def _devices(value: Any) -> tuple[str, ...]:
    from dlcheck.suite import DEVICES

    for name in (names := _names(value)):
        if name.partition(":")[0] not in (*DEVICES, "auto"):
            raise ValueError(unknown("device", name, (*DEVICES, "auto")))
    return names


def _dtypes(value: Any) -> tuple[str, ...]:
    from dlcheck.suite import DTYPES

    for name in (names := _names(value)):
        if name not in DTYPES:
            raise ValueError(unknown("dtype", name, DTYPES))
    return names


def read_seconds(value: Any) -> float:
    """A timeout. Raises ValueError."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"a timeout is a number of seconds, not {value!r}") from None
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"a timeout is positive, at most {LONGEST:,} s, not {value!r}")
    return seconds


# Those that are called otherwise on the command line.
_OPTIONS = {"timeout": "trial-timeout", "memory": "trial-memory"}

_UNITS = {"": 1, "B": 1, **{f"{letter}{i}B": (1024 if i else 1000) ** power
          for power, letter in enumerate("KMGT", 1) for i in ("", "i")}}  # fmt: skip


def read_bytes(value: Any) -> int:
    """`4GiB`, `512MB`, a number of bytes; "none" is 0, no limit. Raises ValueError."""
    if value == "none" or value == 0:
        return 0
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    units = {unit.lower(): size for unit, size in _UNITS.items()}
    if isinstance(value, bool) or found is None or found[2].lower() not in units:
        raise ValueError(f"memory is an amount like '4GiB' or '512MB', or 'none', not {value!r}")
    return int(float(found[1]) * units[found[2].lower()])


READERS: Mapping[str, tuple[Callable[[Any], Any], Any]] = {
    "profile": (_profile, "default"),
    "seed": (_seed, 0),
    "device": (_devices, ()),
    "dtype": (_dtypes, ()),
    "require": (_devices, ()),
    "timeout": (read_seconds, 600.0),
    "memory": (read_bytes, None),
    "report": (str, ""),
    "plugin": (_names, ()),
}


def read_settings(given: Mapping[str, Any], folder: Path) -> dict[str, Setting]:
    """Every setting with its source. `given` is the command line; None or empty is not given.

    Raises UsageError that says where the wrong value stands.
    """
    table, file = project_table(folder)
    for name in table:
        if name not in READERS:
            raise UsageError(f"{file}: [tool.dlcheck]: {unknown('setting', name, READERS)}")
    found = {name: _setting(name, given, table, file) for name in READERS}
    profile = found["profile"]
    if PROFILES[profile.value].draws_its_seed and found["seed"].source == DEFAULT:
        found["seed"] = Setting(
            _seed("random"), f"profile {profile.value}, {profile.source}", drawn=True
        )
    return found


def _setting(name: str, given: Mapping[str, Any], table: Mapping[str, Any], file: str) -> Setting:
    read, default = READERS[name]
    variable = variable_of(name)
    for value, source in (
        (given.get(name), f"--{_OPTIONS.get(name, name)}"),
        (os.environ.get(variable), variable),
        (table.get(name), f"[tool.dlcheck] in {file}"),
    ):
        if value is None or value == "" or value == []:
            continue
        try:
            return Setting(read(value), source, drawn=name == "seed" and value == "random")
        except ValueError as error:
            raise UsageError(f"{source}: {error}") from None
    return Setting(default, DEFAULT)


def project_table(folder: Path) -> tuple[dict[str, Any], str]:
    """`[tool.dlcheck]` of the nearest pyproject.toml at or above a folder, with its path."""
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            data = tomllib.loads(file.read_text("utf-8"))
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{file}: this is not TOML: {error}") from None
        tool = data.get("tool", {})
        table = tool.get("dlcheck", {}) if isinstance(tool, dict) else {}
        if not isinstance(table, dict):
            raise UsageError(f"{file}: [tool.dlcheck] is a table")
        return table, str(file)
    return {}, ""
