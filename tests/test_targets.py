"""Import paths are followed by reading: right ones pass, wrong ones get advice, torch stays out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dlcheck.errors import TargetError
from dlcheck.targets import argument_names, load_target, problem_with


@pytest.mark.parametrize(
    "target",
    [
        "json:loads",
        "os.path:join",
        "functools:partial",
        "itertools:chain",
        "itertools:chain.from_iterable",
        "math:sqrt",
        "enum:Enum",
        "torch.nn:Linear",
        "torch.nn:Linear.forward",
        "torch.nn.functional:relu",
        "torch.optim:AdamW",
        "torchvision.ops:sigmoid_focal_loss",
        "scipy.stats:norm",
        "sklearn.linear_model:Lasso",
        "skimage.metrics:structural_similarity",
        "numpy:sin",
        "dlcheck:validate",
    ],
)
def test_what_can_be_called_has_no_problem(target: str) -> None:
    assert problem_with(target) == ""


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("torch.nn:Linea", "torch.nn has no attribute named 'Linea'. Did you mean 'Linear'?"),
        ("torch.nn.functional:reluu", "Did you mean 'relu'?"),
        ("torch.optim:Adamw", "Did you mean 'AdamW'?"),
        ("torch.nnn:Linear", "torch has no module named 'nnn'. Did you mean 'nn'?"),
        ("torch.nn:functional", "has"),
        ("nosuch:x", "there is no module 'nosuch'; install it"),
        ("json.decodr:x", "Did you mean 'decoder'?"),
        ("dlcheck.cli:COULD_NOT_MEASURE", "is 7, which cannot be called"),
        ("dlcheck.references:penalties", "is a module, which cannot be called"),
        ("nosuch.py:x", "there is no file nosuch.py"),
        ("x" * 5000 + ".py:x", "there is no file"),
        ("json", "is no import path"),
        ("json:", "is no import path"),
        (":loads", "is no import path"),
        ("a b:c", "is no import path"),
        ("..a:b", "is no import path"),
        ("", "is no import path"),
    ],
)
def test_a_wrong_path_gets_advice(target: str, said: str) -> None:
    problem = problem_with(target)
    if target == "torch.nn:functional":  # imported as a module: reading may leave it to the run
        assert problem == "" or "is a module" in problem
        return
    assert said in problem


SOURCE = """
import os
from os.path import join
from functools import lru_cache as cache
try:
    from nowhere import fast
except ImportError:
    fast = None
if os.name == "never":
    either = 3
else:
    either = print
TABLE = {"a": 1}
NUMBER = -3
TEXT: str = "x"
ROWS = [1, 2]
pair, other = print, 3
later = 3
later = print
declared: int
class Plain:
    def __init__(self, width, *, bias=True): ...
    def run(self): ...
class Child(Plain): ...
class Free:
    def __init__(self, **anything): ...
def function(x, /, strength, *rest, eps=1e-8): ...
def open_ended(x, **more): ...
@cache
def wrapped(x): ...
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Plain", ""),
        ("Plain.run", ""),
        ("Plain.rum", "Plain has no attribute named 'rum'. Did you mean 'run'?"),
        ("Child.whatever", ""),
        ("function", ""),
        ("wrapped", ""),
        ("join", ""),
        ("fast", ""),
        ("either", ""),
        ("pair", ""),
        ("other", ""),
        ("later", ""),
        ("os", "is a module"),
        ("TABLE", "is {'a': 1}, which cannot be called"),
        ("NUMBER", "which cannot be called"),
        ("TEXT", "is 'x', which cannot be called"),
        ("ROWS", "is [1, 2], which cannot be called"),
        ("declared", "has no attribute"),
        ("functio", "Did you mean 'function'?"),
    ],
)
def test_names_of_a_file(file: Path, name: str, said: str) -> None:
    problem = problem_with(f"{file}:{name}")
    assert (said in problem) if said else problem == ""


def test_a_file_is_found_near_the_suite(file: Path) -> None:
    near = str(file.parent / "suite.toml")
    assert problem_with("mine.py:Plain", near) == ""
    assert "there is no file" in problem_with("mine.py:Plain")
    assert load_target("mine.py:Plain", near).__name__ == "Plain"


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("Plain", ["width", "bias"]),
        ("Child", None),
        ("Free", None),
        ("function", ["strength", "eps"]),
        ("open_ended", None),
        ("wrapped", None),
        ("fast", None),
        ("nosuch", None),
        ("Plain.run", None),
    ],
)
def test_arguments_are_read(file: Path, name: str, names: list[str] | None) -> None:
    assert argument_names(f"{file}:{name}") == names


def test_arguments_are_read_through_imports() -> None:
    assert argument_names("torch.nn:Linear") == [
        "in_features", "out_features", "bias", "device", "dtype"]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "def __getattr__(name): ...",
        "__getattr__, __dir__ = make(), None",
        "globals().update(made())",
        "for name in ['a']: setattr(module, name, 1)",
        "exec('a = 1')",
        "from math import *",
        "import sys; sys.modules[__name__] = object()",
    ],
)
def test_what_reading_cannot_tell_is_left_to_the_run(tmp_path: Path, line: str) -> None:
    path = tmp_path / "dynamic.py"
    path.write_text(line + "\n")
    assert problem_with(f"{path}:anything") == ""


def test_a_file_that_is_not_python_says_where(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ndef f(:\n")
    assert f"{path}:2: this is not Python" in problem_with(f"{path}:f")
    path.write_text("def f(): ...\n")  # mended, and read again
    assert problem_with(f"{path}:f") == ""


def test_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = tmp_path / "a_namespace_of_the_test"
    (space / "inner").mkdir(parents=True)
    (space / "module.py").write_text("def f(): ...\n")
    lazy = tmp_path / "a_lazy_package_of_the_test"
    lazy.mkdir()
    (lazy / "__init__.py").write_text("def __getattr__(name): return print\n")
    (lazy / "one.py").write_text("from .two import *\n")
    (lazy / "two.py").write_text("from .one import *\nf = print\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert problem_with("a_namespace_of_the_test.module:f") == ""
    assert "Did you mean 'module'?" in problem_with("a_namespace_of_the_test.modul:f")
    assert "is a module" in problem_with("a_namespace_of_the_test:module")
    assert problem_with("a_lazy_package_of_the_test:anything") == ""
    assert problem_with("a_lazy_package_of_the_test.one:f") == ""


def test_loading_says_the_same(file: Path) -> None:
    for name in ("functio", "TABLE", "os"):
        with pytest.raises(TargetError, match=r"has no attribute|cannot be called"):
            load_target(f"{file}:{name}")
    with pytest.raises(TargetError, match="there is no module 'nosuch'"):
        load_target("nosuch:x")
    assert load_target(print) is print


def test_reading_loads_neither_torch_nor_the_target(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("raise SystemExit(3)\ndef f(): ...\n")
    program = (
        "import sys\n"
        "from dlcheck.targets import argument_names, problem_with\n"
        "assert not problem_with('loud:f') and not problem_with('torch.nn:Linear')\n"
        "assert argument_names('torch.nn:Linear') and problem_with('torch.nn.functional:x')\n"
        "assert 'torch' not in sys.modules and 'loud' not in sys.modules\n"
    )
    root = str(Path(__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": root}, check=True
    )
