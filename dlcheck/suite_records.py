"""Plain data ⇄ `Suite`: the keys of a suite file and what form each has.

Reading finds everything wrong with the form of the data at once, and keeps what is right, so that
the rest of the file can be judged too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlcheck.benchmark_tables import plan_data, plan_from
from dlcheck.errors import UsageError, unknown
from dlcheck.model import BenchmarkPlan, ExpectedFailure, Subject, Suite, label
from dlcheck.toml_text import KeyPath, Lines

DTYPES = ("float64", "float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda", "mps", "xpu")

Found = Iterator[tuple[KeyPath, str]]  # what is wrong, and the key at which it stands


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a suite file: its form and what it means."""

    form: str  # "string", "boolean", "table", "array" of strings, "tables"
    meaning: str


SUITE_KEYS: Mapping[str, Key] = {
    "suite": Key("string", "name of the suite; the first key of every suite file"),
    "claim": Key("string", "what the suite stands for, in one sentence"),
    "defaults": Key("table", "what every subject of the suite shares"),
    "optional": Key("boolean", "true: run only where it is named"),
    "subject": Key("tables", "the things under test"),
    "benchmark": Key("tables", "what is timed, against what"),
}
SUBJECT_KEYS: Mapping[str, Key] = {
    "name": Key("string", "part of the test ids"),
    "target": Key("string", "package.module:attribute or path/file.py:attribute"),
    "kind": Key(
        "string", "its role; see dlcheck list kinds. A registered reference brings its own"
    ),
    "args": Key("table", 'constructor arguments; { dim = "d" } is the size of a dim'),
    "inputs": Key("table", 'argument → input, like { x = "float b n", target = "label[k] b" }'),
    "matrix": Key("table", "axis → values: device, dtype, or a constructor argument"),
    "reference": Key("string", "import path of a trusted implementation, called the same way"),
    "reference_args": Key("table", "constructor arguments of the reference"),
    "traits": Key("array", "declared facts; see dlcheck list traits"),
    "options": Key("table", "typed facts of the kind; see dlcheck list options"),
    "checks": Key("array", "globs over check names; every check that applies, if absent"),
    "skip": Key("array", "globs over check names that are left out"),
    "tags": Key("array", "pytest marks"),
    "requires": Key("array", "distributions, as pip names them, without which it is not run"),
    "expect_failure": Key("tables", "checks that are known to fail; strict"),
}
EXPECT_KEYS: Mapping[str, Key] = {
    "check": Key("string", "a glob over check names"),
    "reason": Key("string", "why it fails: an issue, a documented deviation"),
    "when": Key("table", "axis → value at which it fails; everywhere, if absent"),
}
BENCHMARK_KEYS: Mapping[str, Key] = {
    "name": Key("string", "part of the test ids"),
    "subject": Key("string", "name of a subject of this suite: its target, inputs, reference"),
    "target": Key("string", "package.module:attribute or path/file.py:attribute"),
    "against": Key("string", "import path of what it is timed against, called the same way"),
    "kind": SUBJECT_KEYS["kind"],
    "args": SUBJECT_KEYS["args"],
    "against_args": Key("table", "constructor arguments of what it is timed against"),
    "inputs": SUBJECT_KEYS["inputs"],
    "sizes": Key("table", "dim of the inputs → its size, like { b = 64, n = 1024 }"),
    "matrix": Key("table", "axis → values: device, dtype, a dim, or a constructor argument"),
    "backward": Key("boolean", "true: time the gradients too"),
    "items": Key("formula", "how many items a call works on, for the throughput"),
    "item": Key("string", "what one of them is: row, image, token"),
    "flops": Key("formula", "floating-point operations of a call, in the dims: 5 * b * n"),
    "bytes": Key("formula", "bytes that a call must read and write, in the dims and itemsize"),
    "options": SUBJECT_KEYS["options"],
    "traits": SUBJECT_KEYS["traits"],
    "tags": SUBJECT_KEYS["tags"],
    "requires": SUBJECT_KEYS["requires"],
}
_FORMS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "formula": ((int, float, str), "a number or a formula"),
    "string": (str, "a string"),
    "boolean": (bool, "true or false"),
    "table": (dict, "a table"),
    "array": (list, "an array of strings"),
    "tables": (list, "an array of tables"),
}
_NAME = re.compile(r"(?!__)[^\W\d][\w.+-]*")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_TAG = re.compile(r"[A-Za-z]\w*", re.ASCII)
_DEVICE = re.compile(rf"({'|'.join(DEVICES)})(:\d+)?")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A suite made of what is well formed, and what is not."""

    suite: Suite
    wrong: list[tuple[KeyPath, str]]

    def is_whole(self, number: int, tables: str = "subject") -> bool:
        """Is nothing wrong with the form of this subject, or of this benchmark?"""
        return not any(path[:2] == (tables, number) for path, _ in self.wrong)


def parse_suite(data: Mapping[str, Any], file: str = "", lines: Lines | None = None) -> Parsed:
    """A Suite from plain data. Wrong data is reported in `wrong`, never raised."""
    wrong = list(_wrong_form(data, SUITE_KEYS, (), "a suite file"))
    if not data.get("suite", "") or "suite" not in data:
        wrong.append((("suite",), 'a suite needs a name: suite = "…" is its first key'))
    defaults = data.get("defaults", {})
    if isinstance(defaults, dict):
        keys = {"matrix": Key("table", "axes of every subject")}
        wrong += _wrong_form(defaults, keys, ("defaults",), "[defaults]")
        wrong += _wrong_matrix(_table(defaults, "matrix"), ("defaults", "matrix"))
    if not data.get("subject", []) and not data.get("benchmark", []):
        wrong.append((("suite",), "the suite has no [[subject]]; see: dlcheck new"))
    tables, benchmarks = (
        given if isinstance(given := data.get(key, []), list) else []
        for key in ("subject", "benchmark")
    )
    for key, found, judge in (
        ("subject", tables, _wrong_subject),
        ("benchmark", benchmarks, _wrong_benchmark),
    ):
        for i, table in enumerate(found):
            if isinstance(table, dict):
                wrong += judge(table, (key, i))
            else:
                wrong.append(((key, i), f"a {key} is a table, [[{key}]], not {_say(table)}"))
        wrong += _duplicates(found, key)
    suite = Suite(
        name=_string(data, "suite"),
        claim=_string(data, "claim"),
        optional=data.get("optional") is True,
        matrix=_sound_axes(_table(defaults, "matrix")),
        subjects=tuple(
            _subject(table, file, lines.of(("subject", i)) if lines else 0)
            for i, table in enumerate(tables)
        ),
        benchmarks=tuple(
            plan_from(
                table if isinstance(table, dict) else {},
                file,
                lines.of(("benchmark", i)) if lines else 0,
            )
            for i, table in enumerate(benchmarks)
        ),
        file=file,
    )
    return Parsed(suite, wrong)


def _wrong_form(
    table: Mapping[str, Any], keys: Mapping[str, Key], path: KeyPath, owner: str
) -> Found:
    """Keys that `owner` does not have, and values of another form."""
    for key, value in table.items():
        if key not in keys:
            yield (*path, key), f"{unknown('key', key, keys)} Found in {owner}."
            continue
        form, words = _FORMS[keys[key].form]
        if not isinstance(value, form):
            yield (*path, key), f"{key} of {owner} is {words}, not {_say(value)}"
        elif isinstance(value, list):
            for part in value if keys[key].form == "array" else []:
                if not isinstance(part, str):
                    yield (*path, key), f"{key} of {owner} is {words}, not of {_say(part)}"


def _wrong_subject(table: Mapping[str, Any], path: KeyPath) -> Found:
    name = table.get("name")
    owner = f"subject {name!r}" if isinstance(name, str) else "a subject"
    yield from _wrong_form(table, SUBJECT_KEYS, path, owner)
    for key in ("name", "target"):
        if key not in table:
            yield path, f"{owner} needs a {key}"
    if isinstance(name, str) and not _NAME.fullmatch(name):
        yield (
            (*path, "name"),
            f"{name!r} cannot be a name: begin with a letter, go on with letters, digits, _ . + -",
        )
    for tag in _strings(table, "tags"):
        if not _TAG.fullmatch(tag):
            yield (*path, "tags"), f"tag {tag!r} cannot be a pytest mark: use letters, digits, _"
    yield from _wrong_matrix(_table(table, "matrix"), (*path, "matrix"))
    yield from _wrong_expected(table, path)


def _wrong_matrix(matrix: Mapping[str, Any], path: KeyPath) -> Found:
    for axis, values in matrix.items():
        here = (*path, axis)
        if not isinstance(values, list) or not values:
            yield here, f"axis {axis!r} is a non-empty array of values, not {_say(values)}"
            continue
        written: set[str] = set()
        for value in values:
            if label(value) in written:
                yield here, f"axis {axis!r} has two values that test ids write {label(value)!r}"
            written.add(label(value))
            if axis == "dtype" and value not in DTYPES:
                yield here, unknown("dtype", value, DTYPES)
            if axis == "device" and not (isinstance(value, str) and _DEVICE.fullmatch(value)):
                yield here, unknown("device", value, DEVICES)


def _wrong_expected(table: Mapping[str, Any], path: KeyPath) -> Found:
    tables = table.get("expect_failure", [])
    for i, expected in enumerate(tables if isinstance(tables, list) else []):
        here = (*path, "expect_failure", i)
        if not isinstance(expected, dict):
            yield here, f"an expected failure is a table, not {_say(expected)}"
            continue
        yield from _wrong_form(expected, EXPECT_KEYS, here, "an expected failure")
        for key in ("check", "reason"):
            if not expected.get(key):
                yield here, f"an expected failure needs a {key}"


def _wrong_benchmark(table: Mapping[str, Any], path: KeyPath) -> Found:
    name = table.get("name")
    owner = f"benchmark {name!r}" if isinstance(name, str) else "a benchmark"
    yield from _wrong_form(table, BENCHMARK_KEYS, path, owner)
    if "name" not in table:
        yield path, f"{owner} needs a name"
    elif isinstance(name, str) and not _IDENTIFIER.fullmatch(name):
        yield (*path, "name"), f"{name!r} cannot be a name: use letters, digits and _"
    if ("target" in table) == ("subject" in table):
        yield path, f"{owner} needs a target, or a subject of the suite, and not both"
    for tag in _strings(table, "tags"):
        if not _TAG.fullmatch(tag):
            yield (*path, "tags"), f"tag {tag!r} cannot be a pytest mark: use letters, digits, _"
    yield from _wrong_matrix(_table(table, "matrix"), (*path, "matrix"))


def _duplicates(tables: Sequence[Any], key: str = "subject") -> Found:
    seen: set[str] = set()
    for i, table in enumerate(tables):
        name = _string(table, "name")
        if name and name in seen:
            yield (key, i, "name"), f"two {key}s are named {name!r}"
        seen.add(name)


def _say(value: object) -> str:
    """A wrong value, short enough for one line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


# --- what is well formed ----------------------------------------------------------------------


def _string(table: Any, key: str) -> str:
    value = table.get(key, "") if isinstance(table, dict) else ""
    return value if isinstance(value, str) else ""


def _table(table: Any, key: str) -> dict[str, Any]:
    value = table.get(key, {}) if isinstance(table, dict) else {}
    return value if isinstance(value, dict) else {}


def _strings(table: Any, key: str) -> list[str]:
    values = table.get(key, []) if isinstance(table, dict) else []
    return [v for v in values if isinstance(v, str)] if isinstance(values, list) else []


def _sound_axes(matrix: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {axis: values for axis, values in matrix.items() if isinstance(values, list) and values}


def _subject(table: Any, file: str, line: int) -> Subject:
    expected = table.get("expect_failure", []) if isinstance(table, dict) else []
    return Subject(
        name=_string(table, "name"),
        target=_string(table, "target"),
        kind=_string(table, "kind"),
        args=_table(table, "args"),
        inputs=_table(table, "inputs"),
        matrix=_sound_axes(_table(table, "matrix")),
        reference=_string(table, "reference") or None,
        reference_args=_table(table, "reference_args"),
        traits=frozenset(_strings(table, "traits")),
        options=_table(table, "options"),
        checks=tuple(_strings(table, "checks")),
        skip=tuple(_strings(table, "skip")),
        tags=frozenset(_strings(table, "tags")),
        requires=tuple(_strings(table, "requires")),
        expect_failures=tuple(
            ExpectedFailure(
                check=_string(entry, "check"),
                reason=_string(entry, "reason"),
                when=_table(entry, "when"),
            )
            for entry in (expected if isinstance(expected, list) else [])
        ),
        file=file,
        line=line,
    )


# --- record → plain data ----------------------------------------------------------------------


def to_data(suite: Suite, *, objects: bool = False) -> dict[str, Any]:
    """The suite as plain data, the way its TOML would parse; leaves out what is empty.

    A target that is an object has no TOML form: UsageError, unless `objects` asks for its name.
    """
    data: dict[str, Any] = {"suite": suite.name}
    if suite.claim:
        data["claim"] = suite.claim
    if suite.optional:
        data["optional"] = True
    if suite.matrix:
        data["defaults"] = {"matrix": _plain(suite.matrix)}
    if suite.subjects or not suite.benchmarks:
        data["subject"] = [_subject_data(subject, objects=objects) for subject in suite.subjects]
    if suite.benchmarks:
        data["benchmark"] = [_benchmark_data(plan, objects=objects) for plan in suite.benchmarks]
    return data


def _benchmark_data(plan: BenchmarkPlan, *, objects: bool) -> dict[str, Any]:
    table = {key: _plain(value) for key, value in plan_data(plan).items()}
    for key in ("target", "against"):
        if key in table and not isinstance(table[key], str):
            table[key] = _named(table[key], key, objects=objects)
    return table


def _subject_data(subject: Subject, *, objects: bool) -> dict[str, Any]:
    table: dict[str, Any] = {"name": subject.name}
    for key in ("target", "reference"):
        value = getattr(subject, key)
        if value is not None:
            table[key] = value if isinstance(value, str) else _named(value, key, objects=objects)
    if subject.kind:
        table["kind"] = subject.kind
    for key in ("args", "inputs", "matrix", "reference_args", "options"):
        if value := getattr(subject, key):
            table[key] = _plain(value)
    for key in ("traits", "tags"):
        if value := getattr(subject, key):
            table[key] = sorted(value)
    for key in ("checks", "skip", "requires"):
        if value := getattr(subject, key):
            table[key] = list(value)
    if subject.expect_failures:
        table["expect_failure"] = [
            {"check": e.check, "reason": e.reason} | ({"when": _plain(e.when)} if e.when else {})
            for e in subject.expect_failures
        ]
    return table


def _named(value: object, key: str, *, objects: bool) -> str:
    if not objects:
        raise UsageError(
            f"the {key} is an object, {_say(value)}; only an import path can be written to a "
            "suite file"
        )
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _plain(value: Any) -> Any:
    """Mappings as dicts, sequences as lists; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return [_plain(part) for part in sorted(value, key=repr)]
    return value
