"""Imports go one way, and what reads declarations loads no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Low to high. A module may import its own layer and those below; a package stands for all in it.
LAYERS = (
    ("arguments", "configured", "errors", "model", "domains", "formulas", "kinds", "sources",
     "targets", "toml_text", "declarations", "ratio", "benchmark", "benchmark_tables",
     "regression", "trends"),
    ("registry", "suite", "suite_records", "suite_problems", "suite_schema", "selection",
     "inherited", "expansion", "settings", "shipped", "requirements", "benchmark_plans",
     "shards", "machine"),
    ("numerics", "stats", "measure", "datasets", "isolation", "originals", "features",
     "gradients", "human_judgements", "lanes"),
    ("arrangement", "constructors", "subject_source", "taken", "subjects", "mutants", "regimes",
     "inside", "strategies", "plans"),
    ("references", "checks", "benchmarks", "adapters"),
    ("explanations", "overwriting", "scripts", "vacuity", "raised", "cases", "smallest", "search",
     "runner", "proof"),
    ("results", "encoding", "environment", "history", "processes", "gate",
     "sameness", "merging", "failures", "suite_lock", "crashes", "sentinel"),
    ("reporting",),
    ("validation", "study", "scoring", "timing", "replaying"),
    ("cli", "_dlcheck_pytest", "__main__"),
)  # fmt: skip
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FOR_REFERENCES = {"model", "registry", "numerics", "references"}
TORCH_FREE = [
    "dlcheck", "dlcheck.model", "dlcheck.domains", "dlcheck.kinds", "dlcheck.sources",
    "dlcheck.targets", "dlcheck.suite", "dlcheck.suite_schema", "dlcheck.registry",
    "dlcheck.expansion", "dlcheck.settings", "dlcheck.shipped", "dlcheck.benchmark",
    "dlcheck.results", "dlcheck.encoding", "dlcheck.merging",
    "dlcheck.failures", "dlcheck.replaying",
    *sorted(
        "dlcheck." + ".".join(path.relative_to(ROOT / "dlcheck").with_suffix("").parts)
        for package in ("reporting", "cli")
        for path in (ROOT / "dlcheck" / package).glob("*.py")
        if path.stem != "__init__"
    ),
    "_dlcheck_pytest",
]  # fmt: skip


def files() -> list[Path]:
    return [
        path
        for package in ("dlcheck", "_dlcheck_pytest")
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def unit(module: str) -> str:
    """`dlcheck.checks.every.x` → `checks`: the part that has a layer."""
    parts = module.split(".")
    return parts[1] if parts[0] == "dlcheck" and len(parts) > 1 else parts[0]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too, but not for type checking only."""
    todo: list[ast.AST] = [ast.parse(path.read_bytes())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            whole = node.module == "dlcheck"
            yield from (f"dlcheck.{a.name}" for a in node.names) if whole else [str(node.module)]


@pytest.mark.parametrize("path", files(), ids=module_of)
def test_imports_go_one_way(path: Path) -> None:
    own = unit(module_of(path))
    if own == "dlcheck":
        assert not [name for name in imports(path) if name.startswith("dlcheck")]
        return
    assert own in RANK, f"give {own!r} a layer in {Path(__file__).name}"
    for name in imports(path):
        other = unit(name)
        if name in ("dlcheck", "dlcheck.__version__") or "dlcheck" not in name.split(".")[0]:
            continue
        assert other in RANK, f"{own} imports {name}, which has no layer"
        assert RANK[other] <= RANK[own], f"{own} may not import {name}"
        if own in ("references", "checks") and RANK[other] == RANK[own]:
            assert other == own, f"{own} may not import {name}"


@pytest.mark.parametrize("path", files(), ids=module_of)
def test_an_oracle_shares_no_code_with_its_judge(path: Path) -> None:
    if unit(module_of(path)) != "references":
        return
    used = {unit(name) for name in imports(path) if name.startswith("dlcheck")}
    assert used <= FOR_REFERENCES


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("hypothesis", {"dlcheck.strategies", "dlcheck.search"}),
        ("pytest", {"_dlcheck_pytest", "dlcheck.cli.run"}),
        ("ray", {"_dlcheck_pytest"}),
    ],
)
def test_a_library_has_its_place(library: str, allowed: set[str]) -> None:
    users = {
        module_of(path) for path in files() if library in {n.split(".")[0] for n in imports(path)}
    }
    users = {name if name.startswith("dlcheck") else name.split(".")[0] for name in users}
    assert users <= allowed


@pytest.mark.parametrize("path", files(), ids=module_of)
def test_no_file_is_a_drawer(path: Path) -> None:
    drawers = {"utils", "util", "helpers", "common", "base", "misc"}
    assert not drawers & {path.stem.lstrip("_"), path.parent.name}


def test_reading_loads_no_torch() -> None:
    """Each module in turn, in one process, so that the first that loads torch is named."""
    program = (
        "import importlib, sys\n"
        f"for name in {TORCH_FREE!r}:\n"
        "    importlib.import_module(name)\n"
        "    loaded = {'torch', 'hypothesis', 'numpy'} & set(sys.modules)\n"
        "    assert not loaded, f'importing {name} loads {loaded}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_collecting_loads_no_torch() -> None:
    program = (
        "import sys\n"
        "from dlcheck.shipped import suite_paths\n"
        "from dlcheck.suite import read_suite\n"
        "from dlcheck.expansion import expand\n"
        "assert sum(len(list(expand(read_suite(path)))) for path in suite_paths().values())\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
