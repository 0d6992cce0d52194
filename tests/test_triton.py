"""Triton kernels without a GPU: the examples pass in the interpreter, and broken ones are found.

Triton settles when it is imported whether it interprets, so each test has a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dlcheck import lanes
from dlcheck.lanes import has_triton, why_no_lane
from dlcheck.measure.kernel_builds import SHARED_LIMITS, built
from dlcheck.model import Subject

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
needs_triton = pytest.mark.skipif(not has_triton(), reason="triton is not installed")

# What carries the proof: values, gradients, memory layouts, builds. `dlcheck run` has the rest.
DECIDING = (
    "matches_reference", "gradient_matches_difference", "ignores_memory_layout",
    "backward_can_repeat", "repeats_exactly", "compiles_for_gpus",
)  # fmt: skip

SOFTMAX = {
    "reads zeros beyond the row": ('other=-float("inf")', "other=0.0"),
    "ignores the strides of x": (
        "x_ptr + row * x_row + at * x_column",
        "x_ptr + row * columns + at",
    ),
    "does not subtract the maximum": ("tl.exp(x - tl.max(x, axis=0))", "tl.exp(x)"),
    "sums in half precision": ('"inf")).to(WIDE)', '"inf")).to(tl.float16)'),
    "backward without the projection": ("y * (v - tl.sum(v * y, axis=0))", "y * v"),
    "backward ignores the strides of v": (
        "v_ptr + row * v_row + at * v_column",
        "v_ptr + row * row_stride + at",
    ),
}
LAYERNORM = {
    "eps outside the root": (
        "1.0 / tl.sqrt(tl.sum(centred * centred, axis=0) / columns + eps)",
        "1.0 / (tl.sqrt(tl.sum(centred * centred, axis=0) / columns) + eps)",
    ),
    "counts what is beyond the row": ("tl.where(inside, x - mean, 0.0)", "x - mean"),
    "divides by n - 1": ("axis=0) / columns + eps", "axis=0) / (columns - 1) + eps"),
    "backward without the projection": ("weighted - shift - hat * stretch", "weighted - shift"),
    "backward of weight without the scale": (" * tl.load(scale_ptr + row)\n", "\n"),
    "backward sees the first columns only": (
        "tl.program_id(0) * BLOCK + tl.arange",
        "tl.arange",
    ),
}
BROKEN = {"softmax": SOFTMAX, "layernorm": LAYERNORM}


def in_a_process(program: str, *arguments: str) -> str:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


RUN = """
import json, sys
from dataclasses import replace
from pathlib import Path
from dlcheck.expansion import Overrides, expand
from dlcheck.runner import run_trial
from dlcheck.suite import read_suite

name, targets, checks = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3].split()
suite = read_suite(Path("examples/triton.toml"))
overrides = Overrides(devices=("cpu",), dtypes=("float64", "float32"), profile="quick")
trials = [t for t in expand(suite, overrides) if t.subject.name == name]
trials = sorted(
    (t for t in trials if t.check.name in checks),
    key=lambda t: (checks.index(t.check.name), t.dtype == "float32"),
)
for label, target in targets.items():
    found = {}
    for trial in trials:
        subject = replace(trial.subject, target=target) if target else trial.subject
        outcome = run_trial(replace(trial, subject=subject, minimal=False))
        found[trial.check.name + " " + trial.dtype] = [outcome.verdict.value, outcome.message]
        if target and outcome.verdict.value == "failed" and outcome.evidence:
            break
    print(json.dumps([label, found]))
"""


@needs_triton
@pytest.mark.parametrize(
    "subject", ["softmax", pytest.param("layer_norm", marks=pytest.mark.nightly)]
)
def test_the_examples_pass_in_the_interpreter(subject: str) -> None:
    lines = in_a_process(RUN, subject, json.dumps({"right": ""}), " ".join(DECIDING))
    _, found = json.loads(lines.splitlines()[-1])
    assert len(found) >= 2 * len(DECIDING) - 3, found
    verdicts = {check: verdict for check, (verdict, _) in found.items()}
    assert set(verdicts.values()) == {"passed"}, found


@needs_triton
@pytest.mark.parametrize("name", [pytest.param("layernorm", marks=pytest.mark.nightly), "softmax"])
def test_broken_kernels_are_found(name: str, tmp_path: Path) -> None:
    source = (EXAMPLES / f"triton_{name}.py").read_text()
    function = {"softmax": "softmax", "layernorm": "layer_norm"}[name]
    targets = {}
    for place, (label, (old, new)) in enumerate(BROKEN[name].items()):
        assert source.count(old) >= 1, label
        path = tmp_path / f"broken_{name}_{place}.py"
        path.write_text(source.replace(old, new))
        targets[label] = f"{path}:{function}"
    lines = in_a_process(RUN, function, json.dumps(targets), " ".join(DECIDING[:-1]))
    found = dict(json.loads(line) for line in lines.splitlines())
    assert found.keys() == targets.keys()
    missed = {
        label: outcomes
        for label, outcomes in found.items()
        if not any(verdict == "failed" for verdict, _ in outcomes.values())
    }
    assert not missed


@needs_triton
def test_the_command_line_interprets_on_its_own() -> None:
    """No variable is set: the lane of a machine without a GPU is the interpreter."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("the kernels run on the GPU here")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from dlcheck.cli import main; sys.exit(main())",
         "run", "examples/triton.toml", "-q", "--profile", "quick", "-p", "no:cacheprovider",
         "-k", "softmax and (repeats_exactly or leaves_inputs_unchanged)", "-rs"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "computes wrong numbers in bfloat16" in done.stdout
    assert "cuda is absent" in done.stdout
    assert "4 passed" in done.stdout, done.stdout  # two checks in two types
    assert "TRITON_INTERPRET (put back)" not in done.stdout


def test_a_lane_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = {"k": {"jit": "examples/triton_softmax.py:softmax_forward", "signature": {}}}
    subject = Subject(name="s", target="x:y", kind="op", options={"kernels": kernels})
    plain = Subject(name="s", target="x:y", kind="op")
    assert why_no_lane(plain, "cpu", "bfloat16") == ""
    monkeypatch.setattr(lanes, "has_triton", lambda: False)
    assert "not installed" in why_no_lane(subject, "cpu", "float32")
    monkeypatch.setattr(lanes, "has_triton", lambda: True)
    assert "bfloat16" in why_no_lane(subject, "cpu", "bfloat16")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "TRITON_INTERPRET is set" in why_no_lane(subject, "cuda", "float32")
    monkeypatch.delenv("TRITON_INTERPRET")
    assert why_no_lane(subject, "cuda", "float32") == ""
    assert "do not run on meta" in why_no_lane(subject, "meta", "float32")


@needs_triton
def test_a_compiler_that_dies_is_an_error_of_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "dies.py"
    path.write_text("import os\nos._exit(3)\n")
    (found,) = built({"k": {"jit": f"{path}:k", "signature": {}, "targets": [80]}}, "")
    assert "died (3)" in found.error


@needs_triton
def test_shared_memory_is_measured(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "triton_softmax.py", tmp_path)
    kernel = {
        "jit": f"{tmp_path}/triton_softmax.py:softmax_forward",
        "signature": {"y_ptr": "*fp32", "x_ptr": "*fp32", "y_row": "i32", "x_row": "i32",
                      "x_column": "i32", "columns": "i32"},
        "constexprs": {"BLOCK": 256, "WIDE": "tl.float32"},
        "targets": [80],
    }  # fmt: skip
    (build,) = built({"forward": kernel}, "")
    assert not build.error
    assert 0 < build.shared < SHARED_LIMITS[80]
