"""Suite files ⇄ `Suite`: TOML and Python are two forms of one record.

Reading a file finds every mistake in it at once, each with its line and a suggestion, without
importing any target. A suite file is any `*.toml` whose first key is `suite`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any, NoReturn

from dlcheck.benchmark_plans import plan_problems
from dlcheck.errors import Problem, SuiteError
from dlcheck.model import BenchmarkPlan, ExpectedFailure, Subject, Suite
from dlcheck.selection import applying, complete, matching, matrix_of, nothing_applies
from dlcheck.suite_problems import problems_of
from dlcheck.suite_records import DEVICES, DTYPES, Parsed, parse_suite, to_data
from dlcheck.toml_text import KeyPath, Lines, to_toml_value

__all__ = [
    "DEVICES",
    "DTYPES",
    "applying",
    "check_suite",
    "complete",
    "is_suite_file",
    "matching",
    "matrix_of",
    "nothing_applies",
    "parse_suite",
    "problems_of",
    "read_suite",
    "to_data",
    "to_toml",
    "to_toml_value",
]

_FIRST_KEY = re.compile(r"(?:\ufeff)?(?:\s*(?:#[^\n]*)?\n)*\s*([\"']?)suite\1\s*=")


def is_suite_file(path: Path) -> bool:
    """Is it a TOML file whose first key is `suite`? Reads no more than its first 4 KiB."""
    if path.suffix != ".toml":
        return False
    try:
        with path.open("rb") as file:
            return _FIRST_KEY.match(file.read(4096).decode("utf-8", "replace")) is not None
    except (OSError, ValueError):
        return False


def read_suite(path: Path) -> Suite:
    """A suite file as a Suite. Raises SuiteError with every problem of the file."""
    try:
        return _read(path)
    except RecursionError:
        _refuse(path, "this is nested too deeply to be read")


def _read(path: Path) -> Suite:
    text = _text_of(path)
    try:
        data = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or an integer of too many digits
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + (not text.endswith("\n"))
        _refuse(path, f"this is not TOML: {error}", max(line, 1))
    lines = Lines(text)
    parsed = parse_suite(data, file=str(path), lines=lines)
    wrong = [*parsed.wrong, *_senseless(parsed.suite, parsed)]
    if wrong:
        raise SuiteError(_problem(message, where, path, lines) for where, message in wrong)
    return parsed.suite


def _senseless(suite: Suite, parsed: Parsed) -> Iterator[tuple[KeyPath, str]]:
    """What does not make sense in a suite of which the form has been read."""
    yield from problems_of(suite, [parsed.is_whole(i) for i in range(len(suite.subjects))])
    whole = [parsed.is_whole(i, "benchmark") for i in range(len(suite.benchmarks))]
    yield from plan_problems(suite, whole)


def _problem(message: str, where: KeyPath, path: Path, lines: Lines) -> Problem:
    return Problem(message, str(path), lines.of(where))


def _refuse(path: Path, message: str, line: int = 1) -> NoReturn:
    raise SuiteError([Problem(message, str(path), line)])


def _text_of(path: Path) -> str:
    try:
        if path.is_dir():
            _refuse(path, "this is a folder, not a suite file; name the files in it")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        _refuse(path, "there is no such suite file")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        _refuse(path, f"this is not UTF-8 (byte {error.start}); save the file as UTF-8", line)
    except (OSError, ValueError) as error:
        _refuse(path, f"this cannot be read: {getattr(error, 'strerror', None) or error}")
    if not text.strip():
        _refuse(path, 'this suite file is empty; begin with suite = "name" (see: dlcheck new)')
    return text


# --- the Python form --------------------------------------------------------------------------


def check_suite(suite: Suite) -> None:
    """Raise SuiteError, with every problem, if a suite made in Python does not make sense."""
    wrong = list(_wrong_types(suite))
    if not wrong:
        parsed = parse_suite(to_data(suite, objects=True))
        wrong = parsed.wrong
        wrong += _senseless(suite, parsed)
    if wrong:
        raise SuiteError(_python_problem(suite, path, message) for path, message in wrong)


def _python_problem(suite: Suite, path: KeyPath, message: str) -> Problem:
    """The problem with the place of its subject, or with the subject's name if it has none."""
    match path:
        case ("subject", int(i), *_) if isinstance(suite.subjects[i], Subject):
            subject = suite.subjects[i]
            if repr(subject.name) not in message:
                message = f"subject {subject.name!r}: {message}"
            return Problem(message, subject.file or suite.file, subject.line)
        case ("benchmark", int(i), *_) if isinstance(suite.benchmarks[i], BenchmarkPlan):
            plan = suite.benchmarks[i]
            return Problem(message, plan.file or suite.file, plan.line)
    return Problem(message, suite.file if isinstance(suite.file, str) else "")


_Types = Mapping[str, tuple[tuple[type, ...], str]]
_STRINGS = ((tuple, list, Set), "a collection of strings")
_SUBJECT_TYPES: _Types = {
    **dict.fromkeys(("name", "kind", "file"), ((str,), "a string")),
    **dict.fromkeys(
        ("args", "inputs", "reference_args", "options"), ((Mapping,), "a table by name")
    ),
    "matrix": ((Mapping,), "a table of axes"),
    **dict.fromkeys(("traits", "checks", "skip", "tags", "requires"), _STRINGS),
    "expect_failures": ((tuple, list), "a tuple of ExpectedFailure"),
}
_EXPECTED_TYPES: _Types = {
    **dict.fromkeys(("check", "reason"), ((str,), "a string")),
    "when": ((Mapping,), "a table of axes"),
}
_SUITE_TYPES: _Types = {
    **dict.fromkeys(("name", "claim", "file"), ((str,), "a string")),
    "matrix": ((Mapping,), "a table of axes"),
    "optional": ((bool,), "true or false"),
    "subjects": ((tuple, list), "a tuple of Subject"),
    "benchmarks": ((tuple, list), "a tuple of BenchmarkPlan"),
}
_PLAN_TYPES: _Types = {
    **dict.fromkeys(("name", "subject", "kind", "item", "file"), ((str,), "a string")),
    **dict.fromkeys(
        ("args", "against_args", "inputs", "sizes", "matrix", "options"),
        ((Mapping,), "a table by name"),
    ),
    "backward": ((bool,), "true or false"),
    **dict.fromkeys(("traits", "tags", "requires"), _STRINGS),
}


def _wrong_types(suite: Any) -> Iterator[tuple[KeyPath, str]]:
    yield from _wrong_fields(suite, _SUITE_TYPES, ())
    yield from _wrong_plans(suite)
    subjects = suite.subjects if isinstance(suite.subjects, (tuple, list)) else ()
    for i, given in enumerate(subjects):
        path: KeyPath = ("subject", i)
        subject: Any = given
        if not isinstance(subject, Subject):
            yield path, f"subjects is a tuple of Subject, not of {type(subject).__name__}"
            continue
        yield from _wrong_fields(subject, _SUBJECT_TYPES, path)
        expected: Any = subject.expect_failures
        for entry in expected if isinstance(expected, (tuple, list)) else ():
            if isinstance(entry, ExpectedFailure):
                yield from _wrong_fields(entry, _EXPECTED_TYPES, path)
            else:
                yield path, f"expect_failures is a tuple of ExpectedFailure, not {entry!r}"


def _wrong_plans(suite: Any) -> Iterator[tuple[KeyPath, str]]:
    for i, plan in enumerate(
        suite.benchmarks if isinstance(suite.benchmarks, (tuple, list)) else ()
    ):
        if isinstance(plan, BenchmarkPlan):
            yield from _wrong_fields(plan, _PLAN_TYPES, ("benchmark", i))
        else:
            yield (), f"benchmarks is a tuple of BenchmarkPlan, not of {type(plan).__name__}"


def _wrong_fields(record: Any, types: _Types, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    for field, (allowed, words) in types.items():
        value = getattr(record, field)
        strings = allowed in (_STRINGS[0], (Mapping,))  # a mapping's keys are strings too
        if not isinstance(value, allowed) or (strings and not _all_strings(value)):
            yield path, f"{field} is {words}, not {value!r}"


def _all_strings(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


# --- record → TOML ----------------------------------------------------------------------------


def to_toml(suite: Suite) -> str:
    """The suite as a TOML text that reads back to an equal Suite.

    A tuple is written as an array, and so reads back as a list. Raises UsageError for what TOML
    cannot hold: an object as target, None.
    """
    data = to_data(suite)
    parts = _assignments({key: data[key] for key in ("suite", "claim", "optional") if key in data})
    if "defaults" in data:
        parts += ["", "[defaults]", *_assignments(data["defaults"])]
    for table in data.get("subject", []):
        expected = table.pop("expect_failure", [])
        parts += ["", "[[subject]]", *_assignments(table)]
        for entry in expected:
            parts += ["[[subject.expect_failure]]", *_assignments(entry)]
    for table in data.get("benchmark", []):
        parts += ["", "[[benchmark]]", *_assignments(table)]
    return "\n".join(parts) + "\n"


def _assignments(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {to_toml_value(value)}" for key, value in table.items()]
