"""The schema that editors read says what the reader of suite files says."""

from __future__ import annotations

import tomllib

import jsonschema
import pytest

from dlcheck.shipped import own_folder
from dlcheck.suite_schema import PATH, schema, text

SUITES = sorted(own_folder().glob("*.toml"))


def test_the_committed_schema_is_current() -> None:
    assert PATH.read_text("utf-8") == text(), "python -m dlcheck.suite_schema > " + PATH.name


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(schema())


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_shipped_suites_follow_it(path) -> None:
    jsonschema.validate(tomllib.loads(path.read_text("utf-8")), schema())


@pytest.mark.parametrize(
    "line",
    [
        'trait = ["causal"]',
        'traits = ["casual"]',
        "options = { strenth = 1 }",
        'matrix = { dtype = ["float63"] }',
        'matrix = { device = ["cdua"] }',
        "checks = 3",
        '[[subject.expect_failure]]\ncheck = "x"',
    ],
)
def test_mistakes_break_it(line: str) -> None:
    good = 'suite = "x"\n[[subject]]\nname = "l1"\ntarget = "a:b"\nkind = "penalty"\n'
    jsonschema.validate(tomllib.loads(good), schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(good + line), schema())
