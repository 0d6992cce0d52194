"""Failures that can be run again, a JSON file each below `.dlcheck/failures`. Loads no torch.

A failure is found by its ID, its case is tried first when its trial runs next, and it is removed
when that passes. This is why Hypothesis runs without a database: what it would keep is a sequence
of its own choices, of the cases that it drew alone, lost with every change of a strategy. Here
it is the recipe, of planned and of drawn cases, that a person reads and `dlcheck replay` runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dlcheck.encoding import decode_recipe, encode_recipe
from dlcheck.errors import UsageError
from dlcheck.model import NOTHING, Outcome, Recipe, Suite, Trial, Verdict
from dlcheck.suite import to_toml

SCHEMA = 1
STRICT = "passed"  # the verdict of what failed because it passed, though it is declared to fail
MOST = 1000  # failures that are kept; the oldest make room
_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One trial that failed, and all that is needed to run its case again.

    `place` is the file that declares the subject, relative to the working directory, with the
    name of a Python suite or test in it: "tests/test_mine.py::SUITE". `declaration` is a suite
    file of this one subject; where it has none, `undeclared` says why.
    """

    id: str
    identity: str
    place: str
    subject: str
    check: str
    point: str
    device: str
    dtype: str
    target: str
    profile: str = "default"
    seed: int = 0
    timeout: float | None = None
    memory: int | None = None  # bytes; 0: any, None: most of what is left
    plugins: tuple[str, ...] = ()  # modules of --plugin
    recipe: Recipe | None = None  # None: the whole trial is run again
    verdict: str = "failed"  # or "expected", or STRICT
    case: str = ""
    told: str = ""  # what was measured, in a line
    script: str = ""  # shows it without dlcheck; also a file beside this one
    scriptless: str = ""  # why there is no script
    command: str = ""
    swaps: Mapping[str, str] = field(default_factory=lambda: NOTHING)  # of --subject
    declaration: str = ""
    undeclared: str = ""
    commit: str = ""
    date: str = ""

    def to_data(self) -> dict[str, Any]:
        """As JSON holds it."""
        data = {name: getattr(self, name) for name in self.__slots__}
        recipe = encode_recipe(self.recipe) if self.recipe else None
        plain = {"swaps": dict(self.swaps), "plugins": list(self.plugins), "recipe": recipe}
        return {"schema": SCHEMA, **data, **plain}

    @classmethod
    def from_data(cls, data: Mapping[str, Any], where: str) -> Failure:
        """What was written. Raises UsageError where it is damaged or of a later dlcheck."""
        try:
            schema = int(data["schema"])
            if schema > SCHEMA:
                raise UsageError(
                    f"{where} is of schema {schema}, newer than this dlcheck reads ({SCHEMA}): "
                    "upgrade dlcheck"
                )
            return _read(cls, data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:120]
            raise UsageError(
                f"{where} is damaged ({said}); remove it: the next run of the suite writes it anew"
            ) from None


def _read(cls: type[Failure], data: Mapping[str, Any]) -> Failure:
    texts = {name: data.get(name, "") for name in cls.__slots__ if name not in _OTHERS}
    if wrong := [name for name, value in texts.items() if not isinstance(value, str)]:
        raise TypeError(f"{wrong[0]} is no text")
    if not all(texts[name] for name in ("id", "subject", "check", "point", "device", "dtype")):
        raise ValueError("what failed is not named")
    return cls(
        **texts,
        seed=int(data["seed"]),
        timeout=float(data["timeout"]) if data.get("timeout") else None,
        memory=int(data["memory"]) if data.get("memory") is not None else None,
        plugins=tuple(map(str, data.get("plugins", ()))),
        recipe=decode_recipe(data["recipe"]) if data.get("recipe") else None,
        swaps={str(name): str(target) for name, target in data.get("swaps", {}).items()},
    )


_OTHERS = ("seed", "timeout", "memory", "plugins", "recipe", "swaps")


# --- trial, outcome → failure -------------------------------------------------------------------


def identity(trial: Trial, place: str) -> str:
    """Hex digits that name this claim about this subject at this point, in every run.

    Profile and seed are not in it: they decide which case shows the failure, not what failed.
    """
    target = trial.subject.target
    if not isinstance(target, str):
        target = f"{type(target).__module__}:{type(target).__qualname__}"
    parts = (place, trial.subject.name, target, trial.check.name, trial.point)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def with_replay(
    outcome: Outcome,
    trial: Trial,
    name: str,
    place: str,
    swaps: Mapping[str, str] = NOTHING,
    *,
    plugins: Sequence[str] = (),
) -> Outcome:
    """The outcome with what it does not say of its trial: where it is declared, and how.

    Only where a case failed: a mistake of ours, or an absent device, is no failure to keep.
    """
    if outcome.verdict not in (Verdict.FAILED, Verdict.EXPECTED):
        return outcome
    declaration, undeclared = "", ""
    try:
        declaration = to_toml(Suite(name=trial.suite, subjects=(trial.subject,)))
    except (UsageError, TypeError, ValueError) as error:
        undeclared = str(error)
    replay = {
        "identity": identity(trial, place),
        "place": place,
        "timeout": trial.timeout,
        "memory": trial.memory,
        "plugins": list(plugins),
        "swaps": dict(swaps),
        "declaration": declaration,
        "undeclared": undeclared,
    }
    return replace(outcome, failure=name, replay=replay)


def failure_of(outcome: Outcome, *, commit: str = "", date: str = "") -> Failure:
    """The failure in an outcome. Raises UsageError where it holds none."""
    if not outcome.failure or not outcome.replay:
        raise UsageError(f"the record does not say how to run {outcome.id} again")
    strict = outcome.verdict is Verdict.FAILED and _passed(outcome)
    told = str(outcome.worst) if outcome.worst else outcome.message.strip().rpartition("\n")[2]
    data = {
        **{name: getattr(outcome, name) for name in _SHARED},
        **{key: value for key, value in outcome.replay.items() if key in Failure.__slots__},
        "schema": SCHEMA,
        "id": outcome.failure,
        "recipe": encode_recipe(outcome.recipe) if outcome.recipe and not strict else None,
        "verdict": STRICT if strict else outcome.verdict.value,
        "told": told[:300],
        "command": outcome.reproduce,
        "commit": commit,
        "date": date,
    }
    return Failure.from_data(data, f"failure {outcome.failure}")


_SHARED = (
    "subject", "check", "point", "device", "dtype", "target", "profile", "seed", "case",
    "script", "scriptless",
)  # fmt: skip


def _passed(outcome: Outcome) -> bool:
    """Did it fail because it passed, though it is declared to fail?"""
    return outcome.worst is not None and outcome.worst.verdict is Verdict.PASSED


# --- the folder ---------------------------------------------------------------------------------


class Failures:
    """The failures that are kept below a folder. Reading never raises for want of the folder."""

    def __init__(self, root: Path) -> None:
        self.folder = root / ".dlcheck" / "failures"
        self._there: set[str] | None = None

    @property
    def names(self) -> set[str]:
        """The IDs that were there when it was first asked."""
        if self._there is None:
            try:
                self._there = {path.stem for path in self.folder.glob("*.json")}
            except OSError:
                self._there = set()
        return self._there

    def name_of(self, digits: str) -> str:
        """The ID of an identity: its first digits, more of them where another has the same."""
        for length in range(_DIGITS, len(digits) + 1, 4):
            name = digits[:length]
            if name not in self.names or self._is(name, digits):
                return name
        return digits

    def _is(self, name: str, digits: str) -> bool:
        try:
            return bool(self._text(name).get("identity", digits) == digits)
        except UsageError:
            return True  # damaged: it is written anew

    def witness(self, name: str, *, expected: bool = False) -> Recipe | None:
        """The case that failed last time; None where none is kept or can be read.

        That of an expected failure was never made small: it serves where one is expected again.
        """
        if name not in self.names:
            return None
        with contextlib.suppress(UsageError):
            kept = self.get(name)
            return kept.recipe if expected or kept.verdict == Verdict.FAILED.value else None
        return None

    def get(self, name: str) -> Failure:
        """Raises UsageError where there is none, or what is there cannot be read."""
        return Failure.from_data(self._text(name), str(self._path(name)))

    def _text(self, name: str) -> dict[str, Any]:
        path = self._path(name)
        try:
            return dict(json.loads(path.read_bytes()))
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
        except (ValueError, TypeError, RecursionError):
            raise UsageError(
                f"{path} is damaged: it is no JSON table; remove it, and run the suite again"
            ) from None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def put(self, failure: Failure) -> None:
        """Keep it, whole or not at all. Raises OSError where it cannot be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(failure.id)
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            text = json.dumps(failure.to_data(), indent=1, allow_nan=False)
            scratch.write_text(text + "\n", "utf-8")
            scratch.replace(path)
            self._put_script(failure)
        except OSError:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise
        self.names.add(failure.id)

    def _put_script(self, failure: Failure) -> None:
        path = self._path(failure.id).with_suffix(".py")
        if failure.script:
            path.write_text(failure.script, "utf-8")
        else:
            path.unlink(missing_ok=True)

    def make_room(self) -> None:
        """Forget what is more than MOST: expected ones, then the oldest. Raises OSError."""
        if not self._there or len(self._there) <= MOST:
            return
        paths = self._by_age()
        paths.sort(key=lambda path: not self._is_expected(path.stem))
        for path in paths[: max(len(paths) - MOST, 0)]:
            self.remove(path.stem)

    def _is_expected(self, name: str) -> bool:
        with contextlib.suppress(UsageError):
            return bool(self._text(name).get("verdict") == Verdict.EXPECTED.value)
        return False

    def _by_age(self) -> list[Path]:
        """The oldest first, but for what another process removes meanwhile."""
        ages = {}
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                ages[path] = path.stat().st_mtime_ns
        return sorted(ages, key=ages.__getitem__)

    def remove(self, name: str) -> None:
        """Forget it, and the script beside it. Raises OSError."""
        self._path(name).unlink(missing_ok=True)
        self._path(name).with_suffix(".py").unlink(missing_ok=True)
        self.names.discard(name)

    def newest_first(self) -> Iterator[Failure | UsageError]:
        """All of them; in the place of one that cannot be read, what is wrong with it."""
        for path in reversed(self._by_age()):
            try:
                yield self.get(path.stem)
            except UsageError as error:
                yield error
