"""The recipes of docs/ci: well-formed YAML, whole on the page, with commands that exist."""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from _pytest.config import _prepareconfig
from pages import blocks_of

from dlcheck.cli import Parser, main
from dlcheck.cli.repeated import OPTIONS, value_of, without
from dlcheck.cli.run import pytest_arguments
from dlcheck.errors import UsageError
from dlcheck.settings import read_settings
from dlcheck.shards import read_shard

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "docs" / "ci").glob("*.y*ml"))
GIVEN = {"github.base_ref": "main", "github.ref_name": "main", "PWD": ".", "GITHUB_PATH": "path"}


class Understood(Exception):
    """The options of a command were read; that is all that is wanted."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the recipes take for granted: suites."""
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "speed.toml").write_text('suite = "Speed"\n')
    monkeypatch.chdir(tmp_path)

    def only_parsed(self: Parser, *given: Any, **named: Any) -> None:
        super(Parser, self).parse_args(*given, **named)
        raise Understood

    monkeypatch.setattr(Parser, "parse_args", only_parsed)
    return tmp_path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_command_of_a_recipe_is_understood(path: Path, project: Path) -> None:
    commands = [words for line in lines_of(path) for words in commands_in(line)]
    ours = [words for words in commands if words[0] in ("dlcheck", "pytest")]
    assert ours
    for words in ours:
        understand(words)


@pytest.mark.parametrize(
    "line",
    [
        "dlcheck rum",
        "dlcheck run suites --shards 1/4",
        "dlcheck run suites --shard 5/4",
        "dlcheck run nosuite",
        "dlcheck run suites --dtype float65",
        "dlcheck run suites --since HEAD --process 8",
        "dlcheck merge parts --reports reports",
        "dlcheck doctor --timings",
        "pytest suites --devices cuda",
        "true || dlcheck bench",
    ],
)
def test_a_command_that_does_not_exist_is_found(
    line: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = commands_in(line)[-1]
    with pytest.raises((UsageError, SystemExit, pytest.UsageError, AssertionError, ValueError)):
        understand(words)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_page_shows_the_whole_recipe(path: Path) -> None:
    shown = [block.text for block in blocks_of(ROOT, "docs/ci.md") if block.quotes]
    assert path.read_text().rstrip("\n") in shown


def lines_of(path: Path) -> Iterator[str]:
    """Every line of shell in a recipe, once for each point of its matrix."""
    recipe = yaml.safe_load(path.read_text())
    if "repos" in recipe:
        hooks = [hook for repo in recipe["repos"] for hook in repo["hooks"]]
        yield from (hook["entry"] for hook in hooks)
        return
    jobs = recipe.get("jobs", recipe)
    for job in jobs.values():
        if not isinstance(job, dict):
            continue
        steps = [step["run"] for step in job.get("steps", []) if "run" in step]
        steps += [*job.get("before_script", []), *job.get("script", [])]
        for point in points(job):
            for line in "\n".join(steps).splitlines():
                yield filled(line, point)


def points(job: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The points of a matrix, as GitHub and as GitLab name them."""
    parallel = job.get("parallel", {})
    if isinstance(parallel, int):
        for k in range(1, parallel + 1):
            yield {"CI_NODE_INDEX": str(k), "CI_NODE_TOTAL": str(parallel)}
        return
    matrices = parallel.get("matrix") or [job.get("strategy", {}).get("matrix", {})]
    for matrix in matrices:
        for values in itertools.product(*matrix.values()):
            yield dict(zip(matrix, map(str, values), strict=True))


def filled(line: str, point: Mapping[str, str]) -> str:
    """A line with its variables. One that nothing gives is a mistake of the recipe."""
    known = {**GIVEN, **point, **{f"matrix.{name}": value for name, value in point.items()}}
    line = re.sub(r"\$\{\{\s*([\w.]+)\s*\}\}", lambda found: known[found[1]], line)
    return re.sub(r"\$\{?(\w+)\}?", lambda found: known[found[1]], line.replace("$?", "0"))


def commands_in(line: str) -> list[list[str]]:
    """The simple commands of a line, without what redirects them."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    groups = itertools.groupby(words, key=lambda word: bool(set(word) <= set(";&|<>()")))
    return [list(group) for is_operator, group in groups if not is_operator]


def understand(words: Sequence[str]) -> None:
    """Read the options of a command as it would itself, and do nothing. Raises what it raises."""
    command, rest = words[0], list(words[1:])
    if command == "dlcheck" and rest[:1] != ["run"]:
        with contextlib.suppress(Understood):
            raise UsageError(f"{shlex.join(words)} ended with {main(rest)}")
        return
    if command == "dlcheck":
        rest = rest[1:]
        processes = value_of("--processes", rest)
        assert processes is None or int(processes) >= 1
        rest = pytest_arguments(without(rest, OPTIONS))
    config = _prepareconfig(rest, plugins=[])
    try:
        given = {
            name: config.getoption(f"dlcheck_{name}")
            for name in ("device", "dtype", "profile", "seed", "require", "report")
        }
        read_settings({**given, "timeout": config.getoption("dlcheck_trial_timeout")}, Path.cwd())
        if shard := config.getoption("dlcheck_shard"):
            read_shard(shard)
    finally:
        config._ensure_unconfigure()
