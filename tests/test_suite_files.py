"""A wrong suite file gives every mistake at once, each with line and suggestion; none crashes."""

from __future__ import annotations

import contextlib
import dataclasses
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dlcheck.errors import Problem, SuiteError, UsageError
from dlcheck.expansion import expand
from dlcheck.model import ExpectedFailure, Subject, Suite, Verdict
from dlcheck.runner import run_trial
from dlcheck.shipped import is_optional, own_folder
from dlcheck.suite import check_suite, is_suite_file, parse_suite, read_suite, to_toml
from dlcheck.toml_text import KeyPath, Lines, to_toml_value

GOOD = """\
suite = "Good"
claim = "L1 is a norm."

[defaults]
matrix = { device = ["cpu"], dtype = ["float64"] }

[[subject]]
name = "l1"
target = "dlcheck.references.penalties.l1:l1_penalty"
kind = "penalty"
args = { strength = 0.1 }
inputs = { weights = "float n m" }
traits = ["nonnegative", "convex"]
options = { norm = 1, sizes = { n = [1, 17] } }
checks = ["leaves_inputs_unchanged"]
matrix = { dtype = ["float64", "float32"], strength = [0.1, 0.2] }
[[subject.expect_failure]]
check = "leaves_inputs_*"
when = { dtype = "float32" }
reason = "issue 41"

[[subject]]
name = "cross-entropy"
target = "torch.nn:CrossEntropyLoss"
kind = "loss"
options = { task = "classification" }
"""


def problems(tmp_path: Path, text: str | bytes) -> list[tuple[int, str]]:
    path = tmp_path / "wrong.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SuiteError) as caught:
        read_suite(path)
    assert str(caught.value).startswith(f"{path}:")
    return [(problem.line, problem.message) for problem in caught.value.problems]


def test_the_good_example_is_good(tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    assert [subject.line for subject in read_suite(path).subjects] == [7, 22]


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("claim =", "clam =", 2, "no key named 'clam'. Did you mean 'claim'?"),
        ('suite = "Good"', 'suite = ""', 1, "a suite needs a name"),
        ('suite = "Good"', "suite = 3", 1, "suite of a suite file is a string, not 3"),
        ("matrix = { device", "matrx = { device", 5, "Did you mean 'matrix'?"),
        ('device = ["cpu"]', 'device = ["gpu"]', 5, "no device named 'gpu'"),
        ('device = ["cpu"]', 'device = ["cuda:x"]', 5, "no device named 'cuda:x'"),
        ('device = ["cpu"]', "device = []", 5, "is a non-empty array"),
        ('dtype = ["float64"]', 'dtype = ["float46"]', 5, "Did you mean 'float64'?"),
        ('dtype = ["float64"]', 'dtype = ["float64", "float64"]', 5, "two values that test ids"),
        ("[[subject]]\nname = \"l1\"", "[[subject]]", 7, "a subject needs a name"),
        ('name = "l1"', 'name = "l 1"', 8, "cannot be a name"),
        ('name = "l1"', 'name = "__file__"', 8, "cannot be a name"),
        ('name = "l1"', 'name = "cross-entropy"', 23, "two subjects are named 'cross-entropy'"),
        (":l1_penalty", ":l1_penalt", 9, "Did you mean 'l1_penalty'?"),
        (".l1:l1", ".l11:l1", 9, "no module named 'l11'. Did you mean 'l1'?"),
        ("dlcheck.references", "nosuch.references", 9, "there is no module 'nosuch'"),
        ("penalties.l1:l1_penalty", "penalties:l1", 9, "is a module, which cannot be called"),
        ("dlcheck.references.penalties.l1:l1_penalty", "l1.py:x", 9, "there is no file l1.py"),
        ("dlcheck.references.penalties.l1:l1_penalty", "l1", 9, "is no import path"),
        ('"torch.nn:CrossEntropyLoss"', '"torch.nn:CrossEntropyLos"', 24, "'CrossEntropyLoss'?"),
        ('kind = "penalty"', 'kind = "penality"', 10, "Did you mean 'penalty'?"),
        ("strength = 0.1 }", "strenth = 0.1 }", 11, "Did you mean 'strength'?"),
        ("float n m", "flaot n m", 12, "Did you mean 'float'?"),
        ("float n m", "float b m", 14, "dim 'n' is used but never bound"),
        ("strength = 0.1 }", 'strength = { dim = "q" } }', 11, "dim 'q' is used but never bound"),
        ('"nonnegative"', '"nonegative"', 13, "Did you mean 'nonnegative'?"),
        ("traits = [", "trait = [", 13, "Did you mean 'traits'?"),
        ("norm = 1", "nrom = 1", 14, "Did you mean 'norm'?"),
        ("n = [1, 17]", "n = [17, 1]", 14, "is [lowest, highest]"),
        ('["leaves_inputs_unchanged"]', '["leaves_input_unchanged"]', 15, "Did you mean"),
        ('["leaves_inputs_unchanged"]', '["leaf_*"]', 15, "'leaf_*' matches no check"),
        ('["leaves_inputs_unchanged"]', '"leaves"', 15, "is an array of strings, not 'leaves'"),
        ("strength = [0.1, 0.2]", "strenght = [0.1]", 16, "Did you mean 'strength'?"),
        ('check = "leaves_inputs_*"', 'chek = "leaves_*"', 18, "Did you mean 'check'?"),
        ('"leaves_inputs_*"', '"leeves_*"', 18, "'leeves_*' matches no check"),
        ('{ dtype = "float32" }', '{ dtype = "bfloat16" }', 19, "matches nothing"),
        ('{ dtype = "float32" }', '{ dype = "float32" }', 19, "Did you mean 'dtype'?"),
        ('reason = "issue 41"\n', "", 17, "an expected failure needs a reason"),
        ('task = "classification"', 'task = "clasification"', 26, "'classification'?"),
        ('task = "classification"', "task = [1]", 26, "no task named [1]"),
        ('task = "classification"', 'reduction = "mean"', 26, "needs inputs, or the option task"),
        ('kind = "loss"', 'kind = "loss"\nskip = ["*"]', 22, "no check applies"),
        ('task = "classification"', "roles = { target = 3 }", 26, "'target' names an input"),
        ('task = "classification"', "roles = { data = [[]] }", 26, "'data' names an input"),
        ('kind = "loss"', 'kind = "loss"\ntags = ["a b"]', 26, "cannot be a pytest mark"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_line_and_advice(
    tmp_path: Path, old: str, new: str, line: int, said: str
) -> None:
    assert old in GOOD
    found = problems(tmp_path, GOOD.replace(old, new, 1))
    assert any(at == line and said in message for at, message in found), found


def test_all_mistakes_of_a_file_come_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("claim", "clam").replace("norm = 1", "nrom = 1")
    text = text.replace("float n m", "flaot n m").replace("CrossEntropyLoss", "CrossEntropy")
    assert [line for line, _ in problems(tmp_path, text)] == [2, 12, 14, 24]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n  \n", "is empty"),
        ("\ufeff", "is empty"),
        (b'suite = "x"\n\xff', "not UTF-8"),
        ("suite = ", "not TOML"),
        ('suite = "x"\nsuite = "y"', "not TOML"),
        ('suite = "x"', "has no [[subject]]"),
        ('suite = "x"\nsubject = []', "has no [[subject]]"),
        ('suite = "x"\nsubject = 3', "is an array of tables, not 3"),
        ('suite = "x"\nsubject = [3]', "a subject is a table, [[subject]], not 3"),
        ('suite = "x"\n[subject]\nname = "y"', "is an array of tables"),
        ('suite = "x"\ndefaults = 1', "defaults of a suite file is a table"),
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a = " + "9" * 5000, "not TOML"),
    ],
)
def test_what_is_no_suite_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert any(said in message for _, message in problems(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "said"), [(".", "a folder"), ("none.toml", "no such"), ("a\0b", "cannot be read")]
)
def test_no_file_is_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        read_suite(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('suite = "x"', True),
        ('\ufeff# a comment\r\n\n  suite="x"', True),
        ('"suite" = "x"', True),
        ('[tool]\nsuite = "x"', False),
        ('suites = "x"', False),
        ("", False),
    ],
)
def test_a_suite_file_begins_with_suite(tmp_path: Path, text: str, answer: bool) -> None:  # noqa: FBT001
    path = tmp_path / "x.toml"
    path.write_text(text)
    assert is_suite_file(path) is answer


# --- lines ------------------------------------------------------------------------------------

ODD = '''
suite = "x"  # a = 1, [[subject]]
claim = """
[[subject]]
name = 1 \\""" \'\'\'
"""""
[defaults]
matrix . "dev\\u0069ce" = [
  "cpu", # ]
  "cuda",
]
  [ defaults . "a b" ]
c = { d = 1, "e.f" = [ { g = 2 } ] }
[[subject]]
name = \'a"\'
when = 1979-05-27 07:32:00Z
[subject.options]
norm = 1
[subject.options.sizes]
n = [1,
 17]
[[subject.expect_failure]]
check = "x"
[[subject.expect_failure]]
check = \'\'\'
[y]\'\'\'\'
reason = "z"
[[ subject ]]
args.bias = true
args.deep.er = {}
[[subject.expect_failure]]
check = "w"
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("suite",), 2),
        (("claim",), 3),
        (("defaults",), 7),
        (("defaults", "matrix"), 8),
        (("defaults", "matrix", "device"), 8),
        (("defaults", "matrix", "device", 1), 10),
        (("defaults", "a b"), 12),
        (("defaults", "a b", "c", "e.f", 0, "g"), 13),
        (("subject",), 14),
        (("subject", 0), 14),
        (("subject", 0, "name"), 15),
        (("subject", 0, "when"), 16),
        (("subject", 0, "missing"), 14),
        (("subject", 0, "options"), 17),
        (("subject", 0, "options", "norm"), 18),
        (("subject", 0, "options", "sizes", "n"), 20),
        (("subject", 0, "expect_failure", 0), 22),
        (("subject", 0, "expect_failure", 1, "check"), 25),
        (("subject", 0, "expect_failure", 1, "reason"), 27),
        (("subject", 1), 28),
        (("subject", 1, "args", "bias"), 29),
        (("subject", 1, "args", "deep", "er"), 30),
        (("subject", 1, "expect_failure", 0, "check"), 32),
        (("nowhere",), 1),
    ],
)
def test_each_key_has_its_line(path: KeyPath, line: int) -> None:
    tomllib.loads(ODD)
    assert Lines(ODD).of(path) == line


keys = st.text(max_size=4)
values = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.datetimes(),
        st.dates(),
        st.times(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner,
                        max_size=3),
    ),
    max_leaves=8,
)  # fmt: skip


@given(values)
def test_values_read_back(value: Any) -> None:
    assert tomllib.loads(f"x = {to_toml_value(value)}") == {"x": value}


@given(st.dictionaries(st.sampled_from("abc"), values, min_size=1))
def test_every_key_of_any_text_has_a_line(data: dict[str, Any]) -> None:
    text = "\n".join(f"{key} = {to_toml_value(value)}" for key, value in data.items())
    lines = Lines(text)
    for number, (key, value) in enumerate(data.items(), 1):
        for path in paths(value):
            assert lines.of((key, *path)) == number
            assert (key, *path) in lines._found


def paths(value: Any) -> Iterator[KeyPath]:
    yield ()
    pairs = value.items() if isinstance(value, dict) else ()
    for key, part in enumerate(value) if isinstance(value, list) else pairs:
        yield from ((key, *path) for path in paths(part))


@pytest.mark.parametrize("value", [None, object(), {1: 2}, "\ud800", [None]])
def test_what_toml_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(UsageError):
        to_toml_value(value)


# --- anything at all --------------------------------------------------------------------------

SHIPPED = [path.read_text("utf-8") for path in sorted(own_folder().glob("*.toml"))]
FRAGMENTS = [
    *sorted({line for text in [GOOD, *SHIPPED] for line in text.splitlines()}),
    "[[subject]]", "[subject]", "subject = 1", "[[subject.expect_failure]]", "args = []", "= 1",
    "inputs = { x = 3 }", "matrix = { dtype = 3 }", "when = { dtype = [] }", 'checks = ["["]',
    "options = { task = {} }", "options = { sizes = [] }", "options = { wrt = 1 }", '"""', "'''",
    'target = ":"', 'target = ".py:x"', 'target = "..a:b"', 'target = "torch.nn:Linear.x"',
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A good file with lines dropped, doubled, replaced, cut or spliced."""
    lines = draw(st.sampled_from([GOOD, *SHIPPED])).splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(lines) - 1, 0)))
        other = draw(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=12)))
        cut = draw(st.integers(0, 12))
        line = lines[at] if lines else ""
        change = draw(st.sampled_from(["drop", "double", "replace", "insert", "cut"]))
        new = {
            "drop": [],
            "double": [line, line],
            "replace": [other],
            "insert": [line, other],
            "cut": [line[:cut] + line[cut + 1 :]],
        }
        lines[at : at + 1] = new[change]
    return "\n".join(lines)


texts = st.one_of(
    mutated(),
    st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("\n".join),
    st.text(),
)


@given(texts)
@example("suite = 1\n[[subject]]\n[[subject]]")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_suite_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert all(problem.line > 0 for problem in problems_in(path))


def problems_in(path: Path) -> tuple[Problem, ...]:
    try:
        read_suite(path)
    except SuiteError as error:
        return error.problems
    return ()


known_keys = st.sampled_from(
    ["name", "target", "kind", "args", "inputs", "matrix", "reference", "reference_args", "traits",
     "options", "checks", "skip", "tags", "expect_failure", "task", "sizes", "dtype", "when"]
)  # fmt: skip
nested = st.recursive(
    st.one_of(st.text(max_size=6), st.integers(), st.booleans(), st.floats(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(known_keys, keys), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "suite": nested,
            "claim": nested,
            "defaults": nested,
            "subject": st.one_of(nested, st.lists(st.dictionaries(known_keys, nested), max_size=3)),
        },
    )
)
def test_any_data_is_parsed_without_raising(data: dict[str, Any]) -> None:
    parsed = parse_suite(data)
    assert parsed.wrong or parsed.suite.name
    with contextlib.suppress(SuiteError):
        check_suite(parsed.suite)


# --- the Python form --------------------------------------------------------------------------

words = st.from_regex(r"[a-z][a-z_0-9]{0,6}", fullmatch=True)
word_tuples = st.lists(words, max_size=3, unique=True).map(tuple)
plain_tables = st.dictionaries(words, values, max_size=3)
axes = st.dictionaries(words, st.lists(values, min_size=1, max_size=3), max_size=2)
expected = st.builds(
    ExpectedFailure, check=words, reason=st.text("ab \"'\\\n#", min_size=1), when=plain_tables
)
subjects = st.builds(
    Subject,
    name=words,
    target=words,
    kind=words,
    args=plain_tables,
    inputs=st.dictionaries(words, words, max_size=2),
    matrix=axes,
    reference=st.one_of(st.none(), words),
    reference_args=plain_tables,
    traits=st.frozensets(words, max_size=3),
    options=plain_tables,
    checks=word_tuples,
    skip=word_tuples,
    tags=st.frozensets(words, max_size=2),
    requires=word_tuples,
    expect_failures=st.lists(expected, max_size=2).map(tuple),
)
suites = st.builds(
    Suite,
    name=words,
    claim=st.text(st.characters(exclude_categories=["Cs"])),
    matrix=axes,
    optional=st.booleans(),
    subjects=st.lists(subjects, max_size=3).map(tuple),
)


ELSEWHERE = """\
suite = "Peers"
optional = true

[defaults]
matrix = { device = ["cpu", "cuda"], dtype = ["float64", "float32"] }

[[subject]]
name = "theirs"
target = "no_such_package.losses:focal"
kind = "loss"
requires = ["no-such-package", "torch"]
options = { task = "classification" }
"""


def test_a_subject_whose_package_is_absent_is_one_skip(tmp_path: Path) -> None:
    path = tmp_path / "peers.toml"
    path.write_text(ELSEWHERE)
    (trial,) = expand(read_suite(path))
    outcome = run_trial(trial)
    assert outcome.verdict is Verdict.SKIPPED
    assert outcome.message == "not installed: no-such-package (pip install no-such-package)"
    path.write_text(ELSEWHERE.replace('"no-such-package", ', ""))
    with pytest.raises(SuiteError, match="no_such_package"):
        read_suite(path)


def test_an_optional_suite_says_so(tmp_path: Path) -> None:
    path = tmp_path / "peers.toml"
    path.write_text(ELSEWHERE)
    assert is_optional(path)
    path.write_text(ELSEWHERE.replace("optional = true", "optional = 1"))
    assert not is_optional(path)
    with pytest.raises(SuiteError, match="optional of a suite file is true or false, not 1"):
        read_suite(path)


@given(suites)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_suites_read_back_from_their_toml(suite: Suite) -> None:
    assert parse_suite(tomllib.loads(to_toml(suite))).suite == suite


@pytest.mark.parametrize("path", sorted(own_folder().glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_suites_are_good_and_read_back(path: Path, tmp_path: Path) -> None:
    suite = read_suite(path)
    copy = tmp_path / path.name
    copy.write_text(to_toml(suite), "utf-8")
    assert read_suite(copy) == suite
    check_suite(suite)


def test_an_object_has_no_toml() -> None:
    with pytest.raises(UsageError, match="only an import path"):
        to_toml(Suite(name="x", subjects=(Subject(name="y", target=print, kind="op"),)))


L1 = Subject(name="l1", target="dlcheck.references.penalties.l1:l1_penalty", kind="penalty")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": 3}, "name is a string, not 3"),
        ({"traits": "convex"}, "traits is a collection of strings"),
        ({"checks": "gradient_*"}, "checks is a collection of strings"),
        ({"checks": (3,)}, "checks is a collection of strings"),
        ({"args": {3: 4}}, "args is a table by name"),
        ({"options": None}, "options is a table by name"),
        ({"expect_failures": {"a": "b"}}, "expect_failures is a tuple of ExpectedFailure"),
        ({"expect_failures": ("a",)}, "expect_failures is a tuple of ExpectedFailure, not 'a'"),
        ({"matrix": {"strenght": (1, 2)}}, "Did you mean 'strength'?"),
        ({"matrix": {"strength": 1}}, "is a non-empty array"),
        ({"target": "nosuch:x"}, "there is no module 'nosuch'"),
        ({"kind": "penality"}, "Did you mean 'penalty'?"),
        ({"target": print, "kind": ""}, "needs a kind"),
    ],
)
def test_a_wrong_record_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SuiteError) as caught:
        check_suite(Suite(name="x", subjects=(dataclasses.replace(L1, **changes),)))
    assert said in str(caught.value)


def test_twins_are_refused() -> None:
    with pytest.raises(SuiteError, match="two subjects are named 'l1'"):
        check_suite(Suite(name="x", subjects=(L1, L1)))


@pytest.mark.parametrize("subjects", [(), None, (3,), L1])
def test_wrong_subjects_are_refused(subjects: Any) -> None:
    with pytest.raises(SuiteError):
        check_suite(Suite(name="x", subjects=subjects))
