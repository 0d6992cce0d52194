"""What is declared is found by reading; what is declared wrongly says so in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import dlcheck
from dlcheck.declarations import read_module
from dlcheck.errors import DeclarationError, UsageError
from dlcheck.registry import catalogue

GOOD = '''
from dlcheck import check, reference

@check(kind="op", rejects=[broken, other(2)], needs={"linear"}, options={"sizes": True}, once=True)
def sums_are_sums(subject, case):
    """A sum is a sum.

    Source: algebra.
    """
    return 1

@reference(kind="op", formula="x", source="x", inputs={"x": "float n"})
def identity(x):
    """The identity."""
    return x
'''


def read(tmp_path: Path, text: str) -> list[object]:
    path = tmp_path / "declared.py"
    path.write_text(text)
    return list(read_module("declared", path))


@pytest.mark.parametrize("style", ["plain", "odd"])
def test_declarations_are_read_without_importing(tmp_path: Path, style: str) -> None:
    # The odd style makes the reader parse the whole file instead of the heads.
    text = GOOD if style == "plain" else GOOD.replace('"""', "'''")
    check, reference = read(tmp_path, text)
    assert (check.name, check.claim, check.line) == ("sums_are_sums", "A sum is a sum.", 4)
    assert check.function == "declared:sums_are_sums"
    assert check.rejects == ("broken", "other(2)")
    assert (check.needs, check.options, check.once) == ({"linear"}, {"sizes": True}, True)
    assert (reference.name, reference.target, reference.line) == (
        "identity",
        "declared:identity",
        12,
    )


def test_a_declaration_in_a_string_is_none(tmp_path: Path) -> None:
    text = '"""An example:\n\n@check(kind="op")\ndef f():\n    \'\'\'x\'\'\'\n"""\n' + GOOD
    assert len(read(tmp_path, text)) == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind="op", rejects', "kind=KIND, rejects", "declared.py:4: kind must be a literal"),
        ('kind="op", rejects', "rejects", "needs a kind"),
        ('needs={"linear"}', 'nedes={"linear"}', "Did you mean 'needs'?"),
        ('needs={"linear"}', 'needs="linear"', "needs is a collection of names, not 'linear'"),
        ('options={"sizes": True}', "options=3", "options is a dict, not 3"),
        ("rejects=[broken, other(2)]", "rejects=[]", "rejects nothing"),
        ('@check(kind="op"', '@check("x", kind="op"', "are given by name"),
        ("once=True", "**more", "** cannot be read"),
        ('    """A sum is a sum.\n\n    Source: algebra.\n    """\n', "", "needs a docstring"),
        ('formula="x", ', "", "reference 'identity' needs a formula"),
        ("float n", "flaot n", "Did you mean 'float'?"),
        ("def identity", "def sums_are_sums", "is already defined in line 4"),
    ],
)
def test_a_wrong_declaration_says_so(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(DeclarationError) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert said in str(caught.value)
    assert "declared.py:" in str(caught.value)


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(DeclarationError, match="Did you mean 'leaves_inputs_unchanged'"):
        catalogue().check("leaves_input_unchanged")
    with pytest.raises(DeclarationError, match="Did you mean 'penalty'"):
        catalogue().kind("penality")


def test_a_cell_that_runs_again_replaces_its_check() -> None:
    known = catalogue()

    def broken(subject: dlcheck.Subject) -> dlcheck.Subject:
        return subject

    def declare(claim: str) -> None:
        def a_check_of_this_test(subject: object, case: object) -> dlcheck.Evidence:
            return dlcheck.Evidence(error=0, bound=0, signal=1)

        a_check_of_this_test.__doc__ = claim
        dlcheck.check(kind="op", rejects=[broken])(a_check_of_this_test)

    try:
        declare("First.")
        declare("Second.")
        assert known.checks["a_check_of_this_test"].claim == "Second."
        assert "a_check_of_this_test" in {check.name for check in known.checks_of("op")}
        with pytest.raises(DeclarationError, match="no trait named 'caussal'"):
            dlcheck.check(kind="op", rejects=[broken], needs={"caussal"})(
                type("Third", (), {"__doc__": "x"})
            )
    finally:
        del known.checks["a_check_of_this_test"]
        known._by_kind.clear()


# --- another distribution ---------------------------------------------------------------------

KIND = """
from dlcheck.model import Kind
simulator = Kind(name="simulator", form="function", call="f(x)", summary="a test kind",
                 inputs={"x": "float n"}, options={"horizon": "steps"})
"""
CHECK = GOOD.replace('kind="op"', 'kind="simulator"').replace('needs={"linear"}, ', "").replace(
    '"sizes"', '"horizon"'
)  # fmt: skip
SUITE = """
suite = "Theirs"
[[subject]]
name = "identity"
target = "theirs.declared:identity"
options = { horizon = 3 }
"""
ENTRIES = """
[dlcheck.kinds]
simulator = theirs.kind:simulator
[dlcheck.checks]
theirs = theirs.declared
[dlcheck.references]
theirs = theirs.declared
[dlcheck.suites]
theirs = theirs:suites
"""


@pytest.fixture
def distribution(tmp_path: Path) -> Path:
    """An installed distribution with a kind, a check, a reference and a suite."""
    package, info = tmp_path / "theirs", tmp_path / "theirs-1.0.dist-info"
    (package / "suites").mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "kind.py").write_text(KIND)
    (package / "declared.py").write_text(CHECK)
    (package / "suites" / "theirs.toml").write_text(SUITE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    return tmp_path


def python(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    paths = f"{Path(__file__).parents[1]}:{folder}"
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


FIND = """
import sys
from dlcheck.expansion import expand
from dlcheck.registry import catalogue
from dlcheck.shipped import suite_paths
from dlcheck.suite import read_suite
known = catalogue()
assert "simulator" in known.kinds
assert "sums_are_sums" in known.checks and "identity" in known.references
trials = list(expand(read_suite(suite_paths()["theirs"])))
names = [trial.check.name for trial in trials if "*" not in trial.check.kinds]
assert names == ["sums_are_sums", "sums_are_sums"]
assert "torch" not in sys.modules and "theirs.declared" not in sys.modules
"""


def test_another_distribution_adds_its_own(distribution: Path) -> None:
    done = python(distribution, FIND)
    assert done.returncode == 0, done.stderr


BROKEN = """
import warnings
from dlcheck.registry import catalogue
from dlcheck.shipped import suite_paths
with warnings.catch_warnings(record=True) as seen:
    known, paths = catalogue(), suite_paths()
for each in seen:
    print(each.category.__name__, each.message)
assert "theirs" not in paths, "its suites need what is left out"
assert "gradient_matches_difference" in known.checks and "backprop" in paths
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("theirs.kind:simulator", "theirs.kind:nosuch", "does not load: AttributeError"),
        ("theirs.kind:simulator", "theirs.declared:check", "does not load: NameError"),
        ("theirs.kind:simulator", "dlcheck.model:Kind", "is type, not a dlcheck.Kind"),
        ("theirs = theirs.declared", "theirs = theirs.declred", "Did you mean 'declared'?"),
        ("theirs = theirs.declared", "theirs = theirs.declared:x", "is no module or package"),
        ("theirs = theirs:suites", "theirs = theirs:nosuch", "there is no such folder"),
    ],
)
def test_a_broken_package_is_one_warning_and_the_rest_works(
    distribution: Path, old: str, new: str, said: str
) -> None:
    entries = distribution / "theirs-1.0.dist-info" / "entry_points.txt"
    entries.write_text(ENTRIES.replace(old, new, 1))
    done = python(distribution, BROKEN)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("PluginWarning")
    assert "entry point dlcheck." in done.stdout
    assert said in done.stdout


def test_a_package_that_takes_a_name_of_ours_is_left_out(distribution: Path) -> None:
    """A check named as one of dlcheck's own would decide in its place."""
    source = distribution / "theirs" / "declared.py"
    source.write_text(source.read_text().replace("sums_are_sums", "gradient_matches_difference"))
    done = python(distribution, BROKEN)
    assert done.returncode == 0, done.stderr
    assert "is already defined in" in done.stdout


def test_a_module_named_by_the_person_is_read_and_must_be_right(distribution: Path) -> None:
    (distribution / "theirs-1.0.dist-info" / "entry_points.txt").write_text(
        "[dlcheck.kinds]\nsimulator = theirs.kind:simulator\n"
    )
    program = """
from dlcheck.registry import catalogue, use_plugins
use_plugins([{!r}])
print([(each.name, each.checks) for each in catalogue().plugins])
"""
    done = python(distribution, program.format("theirs.declared"))
    assert "('theirs.declared', ('sums_are_sums',))" in done.stdout
    done = python(distribution, program.format("theirs.declred"))
    assert "--plugin theirs.declred names no module" in done.stderr


def test_usage_errors_are_declarations() -> None:
    assert issubclass(DeclarationError, UsageError)


@pytest.mark.parametrize(
    ("named", "runs"),
    [((), False), (("gradient_*",), False), (("penalty_narrows_the_gap",), True), (("*",), False)],
)
def test_an_experiment_runs_where_a_suite_names_it(named: tuple[str, ...], *, runs: bool) -> None:
    check = catalogue().check("penalty_narrows_the_gap")
    subject = dlcheck.Subject(
        name="l1", target="m:f", kind="penalty", options={"norm": 1}, checks=named
    )
    assert bool(check.why_not(subject)) is not runs
