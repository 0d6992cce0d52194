"""A failure comes with a program that fails until the subject is mended, and needs no dlcheck."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import scripts_run
import torch
from scripts_run import outcome_of, run_script
from sessions import SERVER

from dlcheck.model import Verdict
from dlcheck.proof import accepted, rejected
from dlcheck.registry import catalogue
from dlcheck.runner import run_trial
from dlcheck.scripts.literals import literal, tensor_text
from dlcheck.scripts.page import MOST_CHARACTERS, MOST_LINES
from dlcheck.scripts.rolling import rolled

# Quick ones of many families; the number is that of the mutant among those of the check.
SAMPLE = [
    ("rows_are_independent", 0),
    ("eval_is_deterministic", 0),
    ("gradients_are_left_alone", 0),
    ("steps_match_the_reference", 0),
    ("a_reset_stream_is_a_new_one", 0),
    ("independent_features_add_up", 0),
    ("odd", 0),
    ("reductions_agree", 0),
    ("is_the_log_prior", 0),  # its own number among those that equal it by chance
    ("no_weights_earn_a_reward", 0),  # the sign of an error
    ("fits_one_batch", 0),  # the call that changes nothing belongs to it
    ("epoch_is_a_permutation", 0),
    ("gradient_matches_difference", 0),
]


WRONG = """
import torch

class Scaled(torch.nn.Module):
    def __init__(self, mode="plain"):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.weight + x.mean(0)
"""


def test_a_script_fails_until_the_subject_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scaled_rows.py").write_text(WRONG)
    monkeypatch.chdir(tmp_path)
    mode = "x'\"\n'''; raise SystemExit(3)"
    outcome = outcome_of(
        "rows_are_independent",
        target="scaled_rows.py:Scaled",
        kind="layer",
        args={"mode": mode},
        inputs={"x": "float b 3"},
    )
    assert outcome.verdict is Verdict.FAILED, outcome.message
    script = outcome.script
    assert repr(mode) in script
    assert script.count("\n") <= MOST_LINES
    assert set(re.findall(r"^(?:import|from) (\S+)", script, re.M)) <= {"torch", "importlib.util"}
    assert "AssertionError" in run_script(script, tmp_path).stderr
    (tmp_path / "scaled_rows.py").write_text(WRONG.replace(" + x.mean(0)", ""))
    mended = run_script(script, tmp_path)
    assert mended.returncode == 0, mended.stderr


def test_what_the_subject_raises_is_raised_by_its_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raising.py").write_text("def f(x):\n    raise ValueError('no')\n")
    monkeypatch.chdir(tmp_path)
    outcome = outcome_of(
        "takes_its_declared_inputs", target="raising.py:f", kind="op", inputs={"x": "float n"}
    )
    assert outcome.verdict is Verdict.FAILED
    compile(outcome.script, "script.py", "exec")
    assert outcome.script.rstrip().endswith(")"), outcome.script


def test_a_subject_without_a_name_has_a_reason_instead() -> None:
    outcome = outcome_of(
        "rows_are_independent",
        target=lambda x: x + x.mean(0),
        kind="op",
        inputs={"x": "float b n"},
    )
    assert outcome.verdict is Verdict.FAILED
    assert not outcome.script
    assert "no module holds by name" in outcome.scriptless


def test_watching_changes_no_verdict_and_leaves_nothing() -> None:
    from dlcheck.isolation.listening import LISTENERS

    modes = torch._C._len_torch_function_stack()
    check = catalogue().checks["rows_are_independent"]
    for trial in [next(accepted(check)), next(rejected(check))]:
        quick = replace(trial, profile="quick", scripted=True)
        watched, plain = run_trial(quick), run_trial(replace(quick, minimal=False))
        assert watched.verdict is plain.verdict
    assert not LISTENERS
    assert torch._C._len_torch_function_stack() == modes


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "place"), SAMPLE, ids=lambda value: str(value))
def test_scripts_of_mutants_say_what_they_mean(name: str, place: int, tmp_path: Path) -> None:
    answer = tmp_path / "shown.json"
    child = SERVER.Process(target=scripts_run.write_shown, args=(name, place, str(answer)))
    child.start()
    child.join(timeout=100)
    found = json.loads(answer.read_text())
    assert found["script"] in ("natural", "fallback"), found
    assert found["fails"] is True, found
    assert found["passes"] is not False, found
    assert found["lines"] <= MOST_LINES
    assert len(found["text"]) <= MOST_CHARACTERS


TENSORS = [
    torch.tensor(0.1),
    torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0], dtype=torch.float64),
    torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).t(),
    torch.randn(3, 2, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16),
    torch.randn(5, generator=torch.Generator().manual_seed(2)).half(),
    torch.zeros(0, 4, dtype=torch.float64),
    torch.full((7,), 3, dtype=torch.int32),
    torch.ones(9, dtype=torch.uint8),
    torch.tensor([True, False]),
    torch.tensor([1 + 2j, -3j], dtype=torch.complex128),
]


@pytest.mark.parametrize("tensor", TENSORS, ids=lambda t: f"{t.dtype}{tuple(t.shape)}")
def test_a_literal_is_the_tensor_to_the_last_bit(tensor: torch.Tensor) -> None:
    made = eval(tensor_text(tensor), {"torch": torch})
    assert made.dtype == tensor.dtype
    assert made.shape == tensor.shape
    assert made.stride() == tensor.stride() or tensor.numel() < 2
    assert torch.equal(made.isnan(), tensor.isnan())
    assert torch.equal(made[~made.isnan()], tensor[~tensor.isnan()])
    if tensor.is_floating_point():
        assert torch.equal(made.signbit(), tensor.signbit())


def test_a_leaf_stays_a_leaf() -> None:
    x = torch.ones(2, 2, dtype=torch.float64).tril()
    for parameter in (False, True):
        text = tensor_text(x, requires_grad=True, parameter=parameter)
        made = eval(text, {"torch": torch})
        assert made.is_leaf
        assert made.requires_grad
        assert isinstance(made, torch.nn.Parameter) is parameter
    assert literal({"a": [1, (2.5, None)]}) == "{'a': [1, (2.5, None)]}"


def test_lines_that_repeat_become_a_loop_that_does_the_same() -> None:
    lines = ["total = 0", "y = f(torch.tensor([1.0]))", "total += y"]
    lines += ["y2 = f(torch.tensor([2.0]))", "total += y2", "y3 = f(torch.tensor([3.0]))"]
    lines += ["total += y3", "last = y3"]
    short = [text for _, text in rolled([(True, line) for line in lines])]
    assert len(short) == 5
    results = []
    for text in ("\n".join(lines), "\n".join(short)):
        names = {"torch": torch, "f": lambda x: float(x) * 2}
        exec(text, names)
        results.append((names["total"], names["last"]))
    assert results[0] == results[1] == (12.0, 6.0)


def test_a_turn_that_is_used_later_is_not_rolled_up() -> None:
    lines = ["y = f(torch.tensor([1.0]))", "y2 = f(torch.tensor([2.0]))", "z = y + y2"]
    assert [text for _, text in rolled([(True, line) for line in lines])] == lines
