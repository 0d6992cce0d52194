"""The JSON schema of suite files, for editors: `#:schema …/suite.schema.json`.

    python -m dlcheck.suite_schema > dlcheck/suite.schema.json

Generated from the keys of suite files and the kinds that ship, so that it cannot say otherwise. A
kind of a third party is allowed with whatever options it takes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlcheck import kinds
from dlcheck.model import Kind
from dlcheck.suite_records import (
    BENCHMARK_KEYS,
    DEVICES,
    DTYPES,
    EXPECT_KEYS,
    SUBJECT_KEYS,
    SUITE_KEYS,
    Key,
)

PATH = Path(__file__).with_name("suite.schema.json")
_FORMS: Mapping[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "table": {"type": "object"},
    "array": {"type": "array", "items": {"type": "string"}},
    "tables": {"type": "array"},
    "formula": {"type": ["number", "string"]},
}


def schema() -> dict[str, Any]:
    """The schema as plain data (JSON Schema, draft 7)."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "dlcheck suite",
        **_table(
            SUITE_KEYS,
            required=["suite"],
            defaults=_table({}, matrix={"$ref": "#/definitions/matrix"}),
            subject={"type": "array", "minItems": 1, "items": {"$ref": "#/definitions/subject"}},
            benchmark={
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/definitions/benchmark"},
            },
        ),
        "anyOf": [{"required": ["subject"]}, {"required": ["benchmark"]}],
        "definitions": {
            "matrix": _matrix(),
            "subject": _subject(),
            "benchmark": _benchmark(),
            "traits of_every_kind": {"enum": sorted(kinds.COMMON_TRAITS)},
            "options of_every_kind": {"enum": sorted(kinds.COMMON_OPTIONS)},
        },
    }


def _table(
    keys: Mapping[str, Key], *, required: list[str] | None = None, **forms: dict[str, Any]
) -> dict[str, Any]:
    """A table with these keys and no others; `forms` says more about some of them."""
    properties = {
        name: {"description": key.meaning, **forms.pop(name, _FORMS[key.form])}
        for name, key in keys.items()
    }
    table = {"type": "object", "additionalProperties": False, "properties": {**properties, **forms}}
    return {**table, "required": required} if required else table


def _matrix() -> dict[str, Any]:
    axes = {"type": "array", "minItems": 1, "uniqueItems": True}
    device = {"type": "string", "pattern": rf"^({'|'.join(DEVICES)})(:\d+)?$"}
    return {
        "type": "object",
        "additionalProperties": axes,
        "properties": {
            "device": {**axes, "items": device},
            "dtype": {**axes, "items": {"enum": list(DTYPES)}},
        },
    }


def _subject() -> dict[str, Any]:
    inputs = {"type": "object", "additionalProperties": {"type": "string"}}
    expected = _table(EXPECT_KEYS, required=["check", "reason"])
    return {
        **_table(
            SUBJECT_KEYS,
            required=["name", "target"],
            kind={"anyOf": [{"enum": sorted(kinds.BUILT_IN)}, {"type": "string"}]},
            inputs=inputs,
            options={"type": "object", "properties": _meanings(kinds.COMMON_OPTIONS)},
            matrix={"$ref": "#/definitions/matrix"},
            expect_failure={"type": "array", "items": expected},
        ),
        "allOf": [_of_kind(kind) for kind in kinds.BUILT_IN.values()],
    }


def _benchmark() -> dict[str, Any]:
    sizes = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}}
    return {
        **_table(
            BENCHMARK_KEYS,
            required=["name"],
            kind={"anyOf": [{"enum": sorted(kinds.BUILT_IN)}, {"type": "string"}]},
            inputs={"type": "object", "additionalProperties": {"type": "string"}},
            sizes=sizes,
            matrix={"$ref": "#/definitions/matrix"},
        ),
        "oneOf": [{"required": ["target"]}, {"required": ["subject"]}],
    }


def _meanings(options: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"description": meaning} for name, meaning in options.items()}


def _of_kind(kind: Kind) -> dict[str, Any]:
    """What a subject that states this kind may declare."""
    options = _meanings(kind.options)
    if kind.by_task:
        options["task"]["enum"] = list(kind.by_task)
    for option in kind.values.keys() - kind.named:
        options[option]["enum"] = list(kind.values[option])
    for option in kind.numbers:
        text = {"type": "string"} if option in kind.named else {"enum": list(kinds.INFINITE)}
        options[option]["anyOf"] = [{"type": "number"}, text]
    names = _common_or("options", kind.options)
    traits = {"type": "array", "items": _common_or("traits", kind.traits)}
    return {
        "if": {"properties": {"kind": {"const": kind.name}}, "required": ["kind"]},
        "then": {
            "properties": {
                "options": {"propertyNames": names, "properties": options},
                "traits": traits,
            }
        },
    }


def _common_or(noun: str, own: Mapping[str, str]) -> dict[str, Any]:
    common = {"$ref": f"#/definitions/{noun} of_every_kind"}
    return {"anyOf": [common, {"enum": sorted(own)}]} if own else common


def text() -> str:
    """The schema as it is committed."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
