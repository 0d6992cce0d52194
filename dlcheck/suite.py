"""Suite files ⇄ `Suite`: TOML and Python are two forms of one record.

Reading a file finds every mistake in it at once, each with its line and a suggestion, without
importing any target. A suite file is any `*.toml` whose first key is `suite`.
"""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dlcheck import domains, kinds, targets
from dlcheck.errors import Problem, SuiteError, UsageError, unknown
from dlcheck.model import Check, ExpectedFailure, Kind, Subject, Suite
from dlcheck.registry import Catalogue, catalogue

DTYPES = ("float64", "float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda", "mps", "xpu")

_SUITE_KEYS = ("suite", "claim", "defaults", "subject")
_SUBJECT_KEYS = {
    "name": str,
    "target": str,
    "kind": str,
    "args": dict,
    "inputs": dict,
    "matrix": dict,
    "reference": str,
    "reference_args": dict,
    "traits": list,
    "options": dict,
    "checks": list,
    "skip": list,
    "tags": list,
    "expect_failure": list,
}
_EXPECT_KEYS = {"check": str, "reason": str, "when": dict}
_WORDS = {str: "a string", dict: "a table", list: "an array", int: "an integer"}
_NAME = re.compile(r"[A-Za-z_][\w.+-]*")
_FIRST_KEY = re.compile(r"(?:\ufeff)?(?:\s*(?:#[^\n]*)?\n)*\s*suite\s*=")

Path_ = tuple[str | int, ...]


def is_suite_file(path: Path) -> bool:
    """Is it a TOML file whose first key is `suite`? Reads no more than its first 4 KiB."""
    if path.suffix != ".toml" or not path.is_file():
        return False
    with path.open("rb") as file:
        return _FIRST_KEY.match(file.read(4096).decode("utf-8", "replace")) is not None


def read_suite(path: Path) -> Suite:
    """A suite file as a Suite. Raises SuiteError with every problem of the file."""
    text = _read_text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found[1]) if found else max(text.count("\n"), 1)
        raise SuiteError([Problem(f"this is not TOML: {error}", str(path), line)]) from None
    lines = Lines(text)
    suite, wrong = parse_suite(data, file=str(path), lines=lines)
    if not wrong and suite is not None:
        wrong = list(problems_of(suite))
    if wrong or suite is None:
        raise SuiteError(Problem(m, str(path), lines.of(where)) for where, m in wrong)
    return suite


def _read_text(path: Path) -> str:
    def refuse(message: str) -> SuiteError:
        return SuiteError([Problem(message, str(path), 1)])

    if path.is_dir():
        raise refuse("this is a folder, not a suite file; name the files in it")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise refuse("there is no such suite file") from None
    except UnicodeDecodeError as error:
        raise refuse(f"this is not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    except OSError as error:
        raise refuse(f"this cannot be read: {error.strerror}") from None
    if not text.strip():
        raise refuse('this suite file is empty; begin with suite = "name" (see dlcheck new)')
    return text


@dataclass(slots=True)
class Lines:
    """Where each key of a TOML text stands."""

    text: str

    def of(self, path: Path_) -> int:
        """The line of the deepest part of `path` that has a line of its own."""
        table = self._tables()
        for end in range(len(path), 0, -1):
            if path[:end] in table:
                return table[path[:end]]
        return 1

    def _tables(self) -> dict[Path_, int]:
        found: dict[Path_, int] = {}
        counts: dict[Path_, int] = {}
        here: Path_ = ()
        for number, line in enumerate(self.text.splitlines(), 1):
            if array := re.match(r"\s*\[\[\s*([\w.\s-]+?)\s*\]\]", line):
                key = self._within(tuple(re.split(r"\s*\.\s*", array[1])), counts)
                counts[key] = counts.get(key, -1) + 1
                here = (*key, counts[key])
                found.setdefault(here, number)
            elif header := re.match(r"\s*\[\s*([\w.\s\"-]+?)\s*\]\s*(#.*)?$", line):
                here = self._within(tuple(re.split(r"\s*\.\s*", header[1])), counts)
                found.setdefault(here, number)
            elif key_line := re.match(r"\s*([\w-]+|\"[^\"]*\")\s*((?:\.\s*[\w-]+\s*)*)=", line):
                parts = [key_line[1].strip('"')]
                parts += [part.strip() for part in key_line[2].split(".") if part.strip()]
                for end in range(1, len(parts) + 1):
                    found.setdefault((*here, *parts[:end]), number)
        return found

    @staticmethod
    def _within(key: tuple[str, ...], counts: Mapping[Path_, int]) -> Path_:
        """`subject.options` → ("subject", 2, "options") below the third [[subject]]."""
        path: Path_ = ()
        for position, part in enumerate(key):
            path = (*path, part)
            if path in counts and position < len(key) - 1:
                path = (*path, counts[path])
        return path


# --- TOML → record ----------------------------------------------------------------------------

_Wrong = list[tuple[Path_, str]]


def parse_suite(
    data: Mapping[str, Any], file: str = "", lines: Lines | None = None
) -> tuple[Suite | None, _Wrong]:
    """A Suite from plain data, and what is wrong with the data's shape: (path, message)."""
    wrong: _Wrong = [
        ((key,), unknown("key", key, _SUITE_KEYS) + " It stands at the top of a suite file.")
        for key in data
        if key not in _SUITE_KEYS
    ]
    name, claim = data.get("suite"), data.get("claim", "")
    if not isinstance(name, str) or not name:
        wrong.append((("suite",), f'a suite has a name: suite = "…", not {name!r}'))
    if not isinstance(claim, str):
        wrong.append((("claim",), f"claim is a string, not {claim!r}"))
    matrix = _defaults(data.get("defaults", {}), wrong)
    tables = data.get("subject", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        wrong.append((("subject",), "subjects are tables: write [[subject]]"))
        return None, wrong
    if not tables:
        wrong.append((("suite",), "the suite has no [[subject]]; see dlcheck new"))
    subjects = [
        _subject(table, ("subject", i), wrong, file, lines) for i, table in enumerate(tables)
    ]
    _find_duplicates(tables, wrong)
    if wrong:
        return None, wrong
    return Suite(
        name=str(name), claim=claim, matrix=matrix, subjects=tuple(subjects), file=file
    ), wrong


def _defaults(table: Any, wrong: _Wrong) -> dict[str, Any]:
    if not isinstance(table, dict):
        wrong.append((("defaults",), f"defaults is a table, not {table!r}"))
        return {}
    for key in table:
        if key != "matrix":
            wrong.append((("defaults", key), unknown("key", key, ["matrix"])))
    return _matrix(table.get("matrix", {}), ("defaults", "matrix"), wrong)


def _matrix(table: Any, path: Path_, wrong: _Wrong) -> dict[str, Any]:
    if not isinstance(table, dict):
        wrong.append((path, f"matrix is a table of arrays, not {table!r}"))
        return {}
    for axis, values in table.items():
        if not isinstance(values, list) or not values:
            wrong.append(((*path, axis), f"axis {axis!r} is a non-empty array, not {values!r}"))
            continue
        if len({json.dumps(value, sort_keys=True, default=str) for value in values}) < len(values):
            wrong.append(((*path, axis), f"axis {axis!r} names a value twice: {values!r}"))
        known = {"device": DEVICES, "dtype": DTYPES}.get(axis)
        for value in values if known else ():
            head = value.partition(":")[0] if axis == "device" and isinstance(value, str) else value
            if head not in known:  # type: ignore[operator]
                wrong.append(((*path, axis), unknown(axis, value, known)))  # type: ignore[arg-type]
    return table


def _subject(
    table: Mapping[str, Any], path: Path_, wrong: _Wrong, file: str, lines: Lines | None
) -> Subject:
    before = len(wrong)
    named = f" in subject {table.get('name')!r}" if isinstance(table.get("name"), str) else ""
    for key, value in table.items():
        if key not in _SUBJECT_KEYS:
            wrong.append(((*path, key), unknown("key", key, _SUBJECT_KEYS) + f" Found{named}."))
        elif not isinstance(value, _SUBJECT_KEYS[key]):
            words = _WORDS[_SUBJECT_KEYS[key]]
            wrong.append(((*path, key), f"{key} is {words}, not {value!r}"))
    for key in ("name", "target"):
        if key not in table:
            wrong.append((path, f"a subject needs a {key}{named}"))
    for key in ("traits", "checks", "skip", "tags"):
        for value in table.get(key, []) if isinstance(table.get(key, []), list) else []:
            if not isinstance(value, str):
                wrong.append(((*path, key), f"{key} is an array of strings, not {value!r}"))
    _matrix(table.get("matrix", {}), (*path, "matrix"), wrong)
    name = table.get("name")
    if isinstance(name, str) and not _NAME.fullmatch(name):
        wrong.append(
            ((*path, "name"), f"{name!r} cannot be a name: use letters, digits, and _ . + -")
        )
    expected = _expected(table.get("expect_failure", []), path, wrong)
    if len(wrong) > before:
        return Subject(name=str(name), target="", kind="")
    return Subject(
        name=table["name"],
        target=table["target"],
        kind=table.get("kind", ""),
        args=table.get("args", {}),
        inputs=table.get("inputs", {}),
        matrix=table.get("matrix", {}),
        reference=table.get("reference"),
        reference_args=table.get("reference_args", {}),
        traits=frozenset(table.get("traits", ())),
        options=table.get("options", {}),
        checks=tuple(table.get("checks", ())),
        skip=tuple(table.get("skip", ())),
        tags=frozenset(table.get("tags", ())),
        expect_failures=expected,
        file=file,
        line=lines.of(path) if lines else 0,
    )


def _expected(tables: Any, path: Path_, wrong: _Wrong) -> tuple[ExpectedFailure, ...]:
    found = []
    for i, table in enumerate(tables if isinstance(tables, list) else []):
        here = (*path, "expect_failure", i)
        if not isinstance(table, dict):
            wrong.append((here, "an expected failure is a table: [[subject.expect_failure]]"))
            continue
        bad = False
        for key, value in table.items():
            if key not in _EXPECT_KEYS:
                wrong.append(((*here, key), unknown("key", key, _EXPECT_KEYS)))
                bad = True
            elif not isinstance(value, _EXPECT_KEYS[key]):
                wrong.append(((*here, key), f"{key} is {_WORDS[_EXPECT_KEYS[key]]}, not {value!r}"))
                bad = True
        for key in ("check", "reason"):
            if key not in table:
                wrong.append((here, f"an expected failure needs a {key}"))
                bad = True
        if not bad:
            found.append(ExpectedFailure(**table))
    return tuple(found)


def _find_duplicates(tables: Sequence[Mapping[str, Any]], wrong: _Wrong) -> None:
    seen: set[object] = set()
    for i, table in enumerate(tables):
        name = table.get("name")
        if isinstance(name, str) and name in seen:
            wrong.append((("subject", i, "name"), f"two subjects are named {name!r}"))
        elif isinstance(name, str):
            seen.add(name)


# --- does the record make sense? --------------------------------------------------------------


def complete(subject: Subject, known: Catalogue | None = None) -> Subject:
    """The subject with what its registered reference declares; what the author states wins."""
    known = known or catalogue()
    own = known.reference_at(subject.target)
    other = known.reference_at(subject.reference)
    for reference in (own, other):
        if reference is None:
            continue
        subject = replace(
            subject,
            kind=subject.kind or reference.kind,
            inputs=subject.inputs or reference.inputs,
            traits=subject.traits or reference.traits,
            options={**reference.options, **subject.options},
            args={**reference.args, **subject.args} if reference is own else subject.args,
        )
    return subject


def problems_of(suite: Suite) -> Iterator[tuple[Path_, str]]:
    """What is wrong with what a suite says: names, globs, paths, inputs; (path, message)."""
    known = catalogue()
    for i, raw in enumerate(suite.subjects):
        path: Path_ = ("subject", i)
        subject = complete(raw, known)
        yield from ((path + where, message) for where, message in _problems_of_subject(
            subject, suite, known
        ))  # fmt: skip


def _problems_of_subject(
    subject: Subject, suite: Suite, known: Catalogue
) -> Iterator[tuple[Path_, str]]:
    if not subject.kind:
        yield ("kind",), f"subject {subject.name!r} needs a kind; see: dlcheck list kinds"
        return
    if subject.kind not in known.kinds:
        yield ("kind",), unknown("kind", subject.kind, known.kinds, see="dlcheck list kinds")
        return
    kind = known.kinds[subject.kind]
    yield from _problems_of_names(subject, kind)
    inputs = kinds.inputs_of(kind, subject.inputs, subject.options)
    yield from domains.problems_of(inputs, subject.args, subject.options)
    for key in ("target", "reference"):
        path = getattr(subject, key)
        if isinstance(path, str) and (problem := targets.problem_with(path, near=subject.file)):
            yield (key,), problem
    yield from _problems_of_arguments(subject)
    yield from _problems_of_checks(subject, suite, kind, known)


def _problems_of_names(subject: Subject, kind: Kind) -> Iterator[tuple[Path_, str]]:
    traits, options = kinds.traits_of(kind), kinds.options_of(kind)
    for trait in sorted(subject.traits):
        if trait not in traits:
            yield ("traits",), unknown("trait", trait, traits, see="dlcheck list traits")
    for option in subject.options:
        if option not in options:
            noun = f"option of kind {kind.name}"
            yield ("options", option), unknown(noun, option, options, see="dlcheck list kinds")
    for option in sorted(kind.required - set(subject.options)):
        yield ("options",), f"kind {kind.name!r} needs the option {option}: {options[option]}"
    task = subject.options.get("task")
    if kind.by_task and task is not None and task not in kind.by_task:
        yield ("options", "task"), unknown("task", task, kind.by_task)
    if kind.by_task and task is None and not subject.inputs:
        yield (
            ("options",),
            (
                f"kind {kind.name!r} needs the option task (one of {', '.join(kind.by_task)}) "
                "or inputs"
            ),
        )


def _problems_of_arguments(subject: Subject) -> Iterator[tuple[Path_, str]]:
    """Arguments that the target does not take, as far as its source tells."""
    accepted = (
        targets.argument_names(subject.target, near=subject.file)
        if isinstance(subject.target, str)
        else None
    )
    if accepted is None:
        return
    axes = [axis for axis in subject.matrix if axis not in ("device", "dtype")]
    for key, names in (("args", subject.args), ("matrix", axes)):
        for name in names:
            if name not in accepted:
                noun = f"argument of {subject.target}" if key == "args" else "axis or argument"
                yield (key, name), unknown(noun, name, [*accepted, *_axes(key)])


def _axes(key: str) -> tuple[str, ...]:
    return ("device", "dtype") if key == "matrix" else ()


def _problems_of_checks(
    subject: Subject, suite: Suite, kind: Kind, known: Catalogue
) -> Iterator[tuple[Path_, str]]:
    checks = list(known.checks.values())
    for key in ("checks", "skip"):
        for glob in getattr(subject, key):
            if not matching(glob, checks):
                yield (key,), _no_match(glob, checks)
            elif key == "checks" and not any(
                not check.why_not(subject) for check in matching(glob, checks)
            ):
                reasons = {check.why_not(subject) for check in matching(glob, checks)}
                yield (
                    (key,),
                    (
                        f"{glob!r} matches no check that applies to {subject.name!r}: "
                        + "; ".join(sorted(reasons))
                    ),
                )
    applicable = applying(subject, known)
    if not applicable:
        yield (), nothing_applies(subject, known)
    for i, expected in enumerate(subject.expect_failures):
        yield from (
            (("expect_failure", i, *where), message)
            for where, message in _problems_of_expected(expected, subject, suite, applicable)
        )


def _no_match(glob: str, checks: Iterable[Check]) -> str:
    names = [check.name for check in checks]
    if any(wild in glob for wild in "*?["):
        return f"{glob!r} matches no check; see: dlcheck list checks"
    return unknown("check", glob, names, see="dlcheck list checks")


def _problems_of_expected(
    expected: ExpectedFailure, subject: Subject, suite: Suite, applicable: Sequence[Check]
) -> Iterator[tuple[Path_, str]]:
    if not matching(expected.check, applicable):
        yield ("check",), f"{_no_match(expected.check, applicable)} None that applies is expected."
    matrix = matrix_of(subject, suite)
    for axis, value in expected.when.items():
        if axis not in matrix:
            yield ("when",), unknown("axis", axis, matrix)
        elif value not in matrix[axis]:
            yield (
                ("when",),
                (f"when {axis} = {value!r} matches nothing; the axis has {list(matrix[axis])!r}"),
            )


def matching(glob: str, checks: Iterable[Check]) -> list[Check]:
    return [check for check in checks if fnmatch.fnmatchcase(check.name, glob)]


def applying(subject: Subject, known: Catalogue | None = None) -> list[Check]:
    """The checks that a completed subject goes through, in order of name."""
    known = known or catalogue()
    chosen = []
    for check in sorted(known.checks.values(), key=lambda check: check.name):
        wanted = not subject.checks or any(matching(glob, [check]) for glob in subject.checks)
        skipped = any(matching(glob, [check]) for glob in subject.skip)
        if wanted and not skipped and not check.why_not(subject):
            chosen.append(check)
    return chosen


def nothing_applies(subject: Subject, known: Catalogue) -> str:
    """Why a subject meets no check, with the nearest ones and what they would need."""
    of_kind = [
        check
        for check in known.checks.values()
        if subject.kind in check.kinds or "*" in check.kinds
    ]
    message = f"no check applies to subject {subject.name!r} of kind {subject.kind!r}"
    reasons = [f"{check.name} {check.why_not(subject)}" for check in of_kind]
    reasons = [reason for check, reason in zip(of_kind, reasons, strict=True)
               if check.why_not(subject)]  # fmt: skip
    if reasons:
        message += ": " + "; ".join(reasons[:3])
    elif not of_kind:
        message += ": this kind has no checks yet; see dlcheck list checks"
    return message


def matrix_of(subject: Subject, suite: Suite) -> dict[str, Sequence[Any]]:
    """The axes of a subject: the suite's, then its own; device and dtype always there."""
    return {"device": ["cpu", "cuda"], "dtype": ["float64"], **suite.matrix, **subject.matrix}


def check_suite(suite: Suite) -> None:
    """Raise SuiteError if a suite made in Python does not make sense."""
    wrong: list[Problem] = []
    data, shape = parse_suite(to_data(suite, objects=True))
    if data is None:
        wrong = [Problem(f"{_dotted(path)}: {message}", suite.file) for path, message in shape]
    else:
        for path, message in problems_of(suite):
            subject = suite.subjects[path[1]] if len(path) > 1 else None  # type: ignore[index]
            wrong.append(
                Problem(
                    message, subject.file if subject else suite.file, subject.line if subject else 0
                )
            )
    if wrong:
        raise SuiteError(wrong)


def _dotted(path: Path_) -> str:
    return ".".join(str(part) for part in path)


# --- record → TOML ----------------------------------------------------------------------------


def to_data(suite: Suite, *, objects: bool = False) -> dict[str, Any]:
    """The suite as plain data, the way its TOML would parse; leaves out what is empty.

    A target that is an object has no TOML form: UsageError, unless `objects` asks for its name.
    """
    data: dict[str, Any] = {"suite": suite.name}
    if suite.claim:
        data["claim"] = suite.claim
    if suite.matrix:
        data["defaults"] = {"matrix": _plain(suite.matrix)}
    data["subject"] = [_subject_data(subject, objects=objects) for subject in suite.subjects]
    return data


def _subject_data(subject: Subject, *, objects: bool) -> dict[str, Any]:
    table: dict[str, Any] = {"name": subject.name}
    for key in ("target", "reference"):
        value = getattr(subject, key)
        if value is None:
            continue
        if not isinstance(value, str):
            if not objects:
                raise UsageError(
                    f"the {key} of subject {subject.name!r} is an object; only an import path "
                    "can be written to a suite file"
                )
            value = f"{type(value).__module__}:{type(value).__qualname__}"
        table[key] = value
    if subject.kind:
        table["kind"] = subject.kind
    for key in ("args", "inputs", "matrix", "reference_args", "options"):
        if value := getattr(subject, key):
            table[key] = _plain(value)
    for key in ("traits", "tags"):
        if value := getattr(subject, key):
            table[key] = sorted(value)
    for key in ("checks", "skip"):
        if value := getattr(subject, key):
            table[key] = list(value)
    if subject.expect_failures:
        table["expect_failure"] = [
            {"check": e.check, "reason": e.reason} | ({"when": _plain(e.when)} if e.when else {})
            for e in subject.expect_failures
        ]
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(part) for part in value]
    return value


def to_toml(suite: Suite) -> str:
    """The suite as a TOML text that reads back to an equal Suite. Raises UsageError."""
    data = to_data(suite)
    parts = [f"{key} = {_toml(data[key])}" for key in ("suite", "claim") if key in data]
    if "defaults" in data:
        parts += ["", "[defaults]", f"matrix = {_toml(data['defaults']['matrix'])}"]
    for table in data["subject"]:
        expected = table.pop("expect_failure", [])
        parts += ["", "[[subject]]"]
        parts += [f"{key} = {_toml(value)}" for key, value in table.items()]
        for entry in expected:
            parts += ["[[subject.expect_failure]]"]
            parts += [f"{key} = {_toml(value)}" for key, value in entry.items()]
    return "\n".join(parts) + "\n"


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _toml_string(value)
        case int():
            return str(value)
        case float():
            return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(repr(value), repr(value))
        case dict():
            inside = ", ".join(f"{_toml_key(key)} = {_toml(part)}" for key, part in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case list():
            return "[" + ", ".join(_toml(part) for part in value) + "]"
    raise UsageError(f"{value!r} ({type(value).__name__}) has no TOML form")


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_string(key)


def _toml_string(text: str) -> str:
    # JSON escapes are TOML escapes, but for DEL and for the pairs of surrogates.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
