"""Every verb does what its help says, and a mistake gets one clear message."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dlcheck.cli import USAGE_ERROR, VERBS, main, parse_value, run
from dlcheck.cli.run import pytest_arguments
from dlcheck.errors import UsageError
from dlcheck.kinds import BUILT_IN
from dlcheck.registry import catalogue
from dlcheck.shipped import is_optional, suite_paths
from dlcheck.suite import read_suite

SUBJECT = "def twice(x):\n    return 2 * x\n\ndef overwrites(x):\n    return x.mul_(2)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a file of subjects."""
    (tmp_path / "mine.py").write_text(SUBJECT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)


def test_help_loads_next_to_nothing() -> None:
    code = (
        "import sys; from dlcheck.cli import main; main(['--help']); "
        "heavy = {'torch', 'numpy', 'pytest', 'hypothesis', 'dlcheck.model'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "run"])
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([verb, "--help"])
    assert done.value.code == 0
    assert f"dlcheck {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "no verb named 'rum'. Did you mean 'run'?"),
        (["explain", "gradient_match"], "Did you mean 'gradient_matches_difference'?"),
        (["new", "los"], "no kind named 'los'. Did you mean 'loss'?"),
        (["list", "checks", "--kind", "los"], "Did you mean 'loss'?"),
        (["report", "20010101"], "there is no record '20010101'"),
        (["report"], "nothing is recorded"),
        (["run", "regularisation"], "Did you mean 'regularization'?"),
        (["validate", "mine.py:twise", "--kind", "op"], "Did you mean 'twice'?"),
        (["validate", "nowhere:f", "--kind", "op"], "there is no module 'nowhere'"),
        (["validate", "mine.py:twice"], "what kind of subject is twice?"),
        (["validate", "mine.py:twice", "--kind", "op"], "declare its inputs"),
        (["validate", "mine.py:twice", "--kind", "op", "--input", "x"], "takes NAME=VALUE"),
        (["validate", "mine.py:twice", "--kind", "op", "--input", "x=flot n"], "'float'"),
        (["validate", "mine.py:twice", "--kind", "op", "--input", "x=float n", "--check", "foo"],
         "no check named 'foo'"),
        (["validate", "mine.py:twice", "--kind", "op", "--device", "gpu"], "no device named 'gpu'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_gets_one_message(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == USAGE_ERROR
    text = capsys.readouterr().err
    assert message in text
    assert "Traceback" not in text


@pytest.mark.parametrize("what", ["checks", "kinds", "traits", "options", "references", "suites",
                                  "elements", "profiles"])  # fmt: skip
def test_lists(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_lists_every_mutant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "checks", "--mutants"]) == 0
    text = capsys.readouterr().out
    for check in catalogue().checks.values():
        assert check.name in text
        assert all(mutant in text for mutant in check.rejects)


@pytest.mark.parametrize("name", ["gradient_matches_difference", "loss", "causal", "l1_penalty",
                                  "spd", "reduction"])  # fmt: skip
def test_explains(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", name]) == 0
    assert name in capsys.readouterr().out


@pytest.mark.parametrize("kind", sorted(BUILT_IN))
def test_a_new_suite_parses(kind: str, folder: Path) -> None:
    """It is valid as it stands, but for kinds that have no check yet, and says so then."""
    assert main(["new", kind, "--target", "mine.py:twice", "-o", "new.toml"]) == 0
    has_checks = any({kind, "*"} & set(check.kinds) for check in catalogue().checks.values())
    if has_checks:
        assert read_suite(folder / "new.toml").subjects[0].kind == kind
        return
    with pytest.raises(UsageError, match="no check"):
        read_suite(folder / "new.toml")


def test_new_never_overwrites(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "op", "-o", "mine.py"]) == USAGE_ERROR
    assert "exists already" in capsys.readouterr().err
    assert (folder / "mine.py").read_text() == SUBJECT


def test_validate_passes_and_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [
        "--kind",
        "op",
        "--input",
        "x=float n",
        "--check",
        "leaves_inputs_unchanged",
        "--device",
        "cpu",
    ]
    assert main(["validate", "mine.py:twice", *common]) == 0
    assert "1 passed" in capsys.readouterr().out
    assert main(["validate", "mine.py:overwrites", *common]) == 1
    text = capsys.readouterr().out
    assert "changed elements of x" in text
    assert "dlcheck validate mine.py:overwrites --kind op" in text
    assert "Traceback" not in text


def test_validate_prints_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["validate", "mine.py:twice", "--kind", "op", "--input", "x=float n", "--device", "cpu",
          "--check", "leaves_inputs_unchanged", "--json"])  # fmt: skip
    assert json.loads(capsys.readouterr().out)["passed"] is True


def test_report_renders_the_latest_record(folder: Path) -> None:
    main(["validate", "mine.py:twice", "--kind", "op", "--input", "x=float n", "--device", "cpu",
          "--check", "leaves_inputs_unchanged"])  # fmt: skip
    assert main(["report", "-o", "out"]) == 0
    assert "leaves_inputs_unchanged" in (folder / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('{ dim = "d" }', {"dim": "d"}),
        ("mean", "mean"),
        ("float b n", "float b n"),
    ],
)
def test_values_read_as_toml(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_run_names_the_shipped_suites_by_default(folder: Path) -> None:
    words = pytest_arguments(["-k", "regularization", "--profile", "quick"])
    for path in suite_paths().values():
        assert (str(path) in words) is not is_optional(path)
    assert words.count("regularization") == 1  # the value of -k, and no suite
    assert "--report" in words


def test_run_takes_names_files_and_nodes(folder: Path) -> None:
    (folder / "own.toml").write_text('suite = "own"\n')
    place = str(suite_paths()["metrics"])
    words = pytest_arguments(["metrics::fid", "own.toml", "-n", "2", "--report", "out"])
    assert f"{place}::fid" in words
    assert "own.toml" in words
    assert words.count("--report") == 1


def test_run_without_arguments_runs_the_shipped_suites(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    started: list[str] = []
    monkeypatch.setattr(run, "_pytest", lambda words: started.extend(pytest_arguments(words)) or 0)
    assert main(["run"]) == 0
    assert any(word.endswith("backprop.toml") for word in started)
