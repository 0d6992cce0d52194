"""The examples pass, their broken twins fail where the docs say, and in these words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dlcheck.expansion import Overrides, expand
from dlcheck.model import Outcome, Verdict
from dlcheck.numerics.recursions import RECURSIONS
from dlcheck.reporting.terminal import describe
from dlcheck.runner import run_trial
from dlcheck.study import batch_size
from dlcheck.suite import read_suite

ROOT = Path(__file__).parent.parent
DOCS = "".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))


def outcomes(name: str, target: str = "", profile: str = "quick", only: str = "") -> list[Outcome]:
    """What the suite of an example comes to, with another implementation if one is named.

    only: a part of the path of the checks that are run.
    """
    suite = read_suite(ROOT / "examples" / f"{name}.toml")
    trials = expand(suite, Overrides(devices=("cpu",), profile=profile), suite.name)
    found = []
    for trial in trials:
        if only not in trial.check.function:
            continue
        subject = replace(trial.subject, target=target or trial.subject.target)
        found.append(run_trial(replace(trial, subject=subject)))
    return found


@pytest.mark.parametrize(
    "name", ["focal_loss", "adabelief", "drop_path", "mixup", "training_loop", "frechet_distance"]
)
def test_the_example_passes(name: str) -> None:
    found = outcomes(name)
    assert all(one.verdict in (Verdict.PASSED, Verdict.SKIPPED) for one in found), [
        str(one.worst) for one in found if not one.verdict.is_good
    ]
    assert sum(one.verdict is Verdict.PASSED for one in found) >= 12


@pytest.mark.parametrize(
    ("name", "twin", "check"),
    [
        ("focal_loss", "focal_loss.py:BrokenFocalLoss", "grows_with_the_error"),
        ("adabelief", "adabelief.py:BrokenAdaBelief", "decay_shrinks_weights"),
        ("mixup", "mixup.py:BrokenMixup", "labels_weigh_what_pixels_cover"),
        (
            "frechet_distance",
            "frechet_distance.py:BrokenFrechetDistance",
            "a_transport_costs_what_it_moves",
        ),
    ],
)
def test_the_twin_fails_as_the_docs_say(name: str, twin: str, check: str) -> None:
    failed = [one for one in outcomes(name, twin) if one.verdict is Verdict.FAILED]
    assert check in [one.check for one in failed]
    said = describe(next(one for one in failed if one.check == check))
    head = said[: said.index("measured")].strip()
    assert head in DOCS, head


@pytest.mark.parametrize(
    ("twin", "checks"),
    [
        ("BrokenDropPath", {"masks_are_shared_along_declared_axes"}),
        ("UnscaledDropPath", {"values_are_dropped_or_rescaled", "keeps_the_mean_as_declared"}),
        ("BatchDropPath", {"its_masks_average_to_a_ridge_penalty"}),
        ("EverLastingDropPath", {"is_the_identity_in_evaluation"}),
    ],
)
def test_each_broken_drop_path_fails_where_it_is_wrong(twin: str, checks: set[str]) -> None:
    found = outcomes("drop_path", f"drop_path.py:{twin}", only="checks.dropout")
    assert checks <= {one.check for one in found if one.verdict is Verdict.FAILED}


@pytest.mark.parametrize(
    ("kind", "twin", "check"),
    [
        ("training", "training_loop.py:broken_train", "accumulation_equals_the_big_batch"),
        ("evaluation", "training_loop.py:broken_evaluate", "batch_size_changes_nothing"),
    ],
)
def test_the_twin_of_a_loop_fails_as_the_docs_say(kind: str, twin: str, check: str) -> None:
    suite = read_suite(ROOT / "examples" / "training_loop.toml")
    trials = expand(suite, Overrides(devices=("cpu",), profile="quick"), suite.name)
    trial = next(t for t in trials if (t.subject.kind, t.check.name) == (kind, check))
    failed = run_trial(replace(trial, subject=replace(trial.subject, target=twin)))
    assert failed.verdict is Verdict.FAILED
    said = describe(failed)
    assert said[: said.index("            error")].strip() in DOCS, said


def test_the_study_of_batch_sizes_answers() -> None:
    setup = f"{ROOT / 'examples' / 'batch_size.py'}:setup"
    study = batch_size(setup, sizes=[16, 64, 256], profile="quick", seconds=1.0)
    assert study.rows == 1797
    assert len(study.points) >= 3
    assert study.recommended is not None


def test_the_docs_name_every_recursion() -> None:
    for name in RECURSIONS:
        assert f"`{name}`" in DOCS
