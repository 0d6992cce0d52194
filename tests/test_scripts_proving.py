"""A script is shown only where it fails as it says, of what the check measured."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripts_run import outcome_of, run_script

from dlcheck.model import Verdict
from dlcheck.proof import rejected
from dlcheck.registry import catalogue
from dlcheck.runner import run_trial
from dlcheck.scripts.proving import hold_to
from dlcheck.scripts.rolling import rolled
from dlcheck.scripts.sway import LARGE, NONE, SMALL, TINY, Sway
from dlcheck.scripts.tape import Unwritable

IMPORT = ("from nowhere import f",)


def _refuse(x: Any) -> None:
    raise AssertionError("inside")


@pytest.mark.parametrize(
    ("text", "subject", "raised", "told"),
    [
        ("assert f(1) == 2, 'no'", lambda x: x, None, ""),
        ("assert f(1) == 1, 'no'", lambda x: x, None, "does not fail"),
        ("assert f(1) == 1, 'no'", _refuse, None, "fails inside the subject"),
        ("assert g(1) == 1", lambda x: x, None, "does not run: NameError"),
        ("assert (", lambda x: x, None, "does not run: SyntaxError"),
        ("f(1)", lambda x: [][x], IndexError, ""),
        ("f(1)", lambda x: x, IndexError, "does not fail"),
        ("import torch\nassert torch.rand(()) == f(0), 'no'", lambda x: x, None, ""),
    ],
)
def test_a_text_is_held_to_its_failure(
    text: str, subject: Any, raised: type | None, told: str
) -> None:
    before = torch.get_rng_state()
    whole = f"{IMPORT[0]}\n{text}\n"
    if told:
        with pytest.raises(Unwritable, match=told):
            hold_to(whole, IMPORT, {"f": subject}, raised)
    else:
        hold_to(whole, IMPORT, {"f": subject}, raised)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sway_changes_every_number_and_no_structure() -> None:
    answer = {"a": (torch.tensor([0.0, 2.0]), 3), "b": [1.5, "text", np.array([1, 4, 2])]}
    small = Sway(SMALL).moved(answer, [])
    assert (small["a"][0] != answer["a"][0]).all()
    assert small["a"][1] == 3
    assert small["b"][0] != 1.5
    assert small["b"][1] == "text"
    assert small["b"][2].tolist() == [1, 4, 2]
    assert Sway(LARGE).moved(answer, [])["b"][2].tolist() == [4, 1, 3]  # still indices of 1 … 4
    assert Sway(NONE).moved(answer, [])["a"][0].tolist() == [0.0, 0.0]
    tiny = Sway(TINY).moved(torch.ones(3, dtype=torch.float64), [])
    assert 0 < (tiny - 1).abs().max() < 2e-14
    weights = torch.ones(3)
    given = Sway(SMALL).moved(weights, [weights])
    assert given is weights, "what was changed in place is changed in place"
    assert (weights != 1).all()


def test_a_name_that_is_used_after_a_loop_is_that_of_its_last_turn() -> None:
    lines = [f"y{k} = f(torch.tensor([{k}.0]))" for k in (1, 2, 3)]
    assert len(rolled([(True, line) for line in lines], ["assert y1 == y3"])) == 3, "y1 is used"
    after = ["assert y3 == 2"]
    assert [text for _, text in rolled([(True, line) for line in lines], after)] == [
        "for v in [torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([3.0])]:",
        "    y1 = f(v)",
    ]
    assert after == ["assert y1 == 2"]


def test_what_does_not_follow_from_the_answers_has_no_script() -> None:
    check = catalogue().checks["leaves_other_code_alone"]
    trial = next(t for t in rejected(check) if "own_allclose" in t.subject.name)
    home = sys.modules.setdefault("rejected_subjects", types.ModuleType("rejected_subjects"))
    home.subject = trial.subject.target  # type: ignore[attr-defined]
    outcome = run_trial(replace(trial, profile="quick", scripted=True))
    assert outcome.verdict is Verdict.FAILED
    assert not outcome.script
    assert "does not follow from the answers" in outcome.scriptless


TRAINING = """
def train(model, loader, optimizer, loss, *, epochs=1):
    for _ in range(epochs):
        for x, y in loader:
            loss(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
"""
WRONG_TRAINING = TRAINING.replace(".backward()", ".mul(2).backward()")
LOADER = """
class Loader:
    def __init__(self, dataset, batch_size=1):
        self.dataset, self.size = dataset, batch_size

    def __len__(self):
        return -(-len(self.dataset) // self.size)

    def __iter__(self):
        for start in range(0, len(self.dataset), self.size):
            yield self.dataset[start:start + self.size]
"""
WRONG_LOADER = LOADER.replace("range(0, len", "range(self.size, len")


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("check", "wrong", "right", "target", "kind"),
    [
        ("each_step_uses_its_own_batch", WRONG_TRAINING, TRAINING, "train", "training"),
        ("epoch_is_a_permutation", WRONG_LOADER, LOADER, "Loader", "loader"),
    ],
)
def test_objects_of_torch_stand_in_a_script_as_what_constructs_them(
    check: str,
    wrong: str,
    right: str,
    target: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "given_objects.py").write_text(wrong)
    monkeypatch.chdir(tmp_path)
    outcome = outcome_of(check, target=f"given_objects.py:{target}", kind=kind)
    assert outcome.verdict is Verdict.FAILED, outcome.message
    assert outcome.script, outcome.scriptless
    assert "torch.utils.data." in outcome.script
    assert "AssertionError" in run_script(outcome.script, tmp_path).stderr
    (tmp_path / "given_objects.py").write_text(right)
    mended = run_script(outcome.script, tmp_path)
    assert mended.returncode == 0, mended.stderr
