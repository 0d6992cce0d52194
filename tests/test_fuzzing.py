"""Broken suite files and command lines end in one clear message, never in a traceback."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzzed import (
    all_options,
    call_without_pytest,
    command_line,
    fault_of_command,
    fault_of_suite,
    in_folder,
    small_suites,
    suite_bytes,
)
from sessions import run_pytest

from dlcheck.cli import VERBS

SUITES, COMMANDS, PARTS = 2000, 400, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_fuzzed_suite_files_are_read_or_refused(part: int, tmp_path: Path) -> None:
    rng, suites, path = random.Random(part), small_suites(), tmp_path / "fuzzed.toml"
    for _ in range(SUITES // PARTS):
        path.write_bytes(suite_bytes(rng, suites))
        fault = fault_of_suite(path)
        assert fault is None, f"{fault.why}\n{fault.given}"


@pytest.mark.parametrize("part", range(PARTS))
def test_fuzzed_command_lines_end_with_a_message(part: int, tmp_path: Path) -> None:
    rng, options = random.Random(part), all_options()
    assert set(options) == set(VERBS)
    for _ in range(COMMANDS // PARTS):
        words = command_line(rng, options)
        with in_folder(tmp_path):
            fault = fault_of_command(words, call_without_pytest)
        assert fault is None, f"{fault.why}\n{fault.given}"


GOOD = 'suite = "G"\n[[subject]]\nname = "g"\ntarget = "torch.nn:GELU"\nkind = "activation"\n'


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--subject=nonsense", "--subject takes NAME=TARGET"),
        ("--subject=g=nopkg:G", "there is no module 'nopkg'"),
        ("--profile=quik", "Did you mean 'quick'?"),
        ("--device=gpux", "--device: no device named 'gpux'"),
        ("--dtype=float65", "Did you mean 'float64'?"),
        ("--seed=x", "--seed: seed is an integer or 'random'"),
        ("--trial-timeout=soon", "--trial-timeout: a timeout is a number of seconds"),
        ("--require=tpu", "--require: no device named 'tpu'"),
        ("--replicas=absent", "absent cannot be read"),
        ("--against=absent", "there is no record 'absent'"),
    ],
)
def test_a_wrong_option_of_pytest_is_told_before_collection(
    pytester: pytest.Pytester, option: str, message: str
) -> None:
    pytester.makefile(".toml", good=GOOD)
    result = run_pytest(pytester, "good.toml", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stdout.str() + result.stderr.str()
    assert message in said
    assert "Traceback" not in said
    assert "collecting" not in said
    assert len([line for line in said.splitlines() if line.strip()]) == 1


def test_a_wrong_setting_is_told_before_collection(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyprojecttoml('[tool.dlcheck]\nprofile = "quik"\n')
    pytester.makepyfile(test_mine="def test_mine(): pass\n")
    result = run_pytest(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*[[]tool.dlcheck[]]*Did you mean 'quick'?"])


def test_a_tag_that_nothing_has_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", good=GOOD)
    result = run_pytest(pytester, "good.toml", "-m", "statistcal and not slow")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no tag named 'statistcal'. Did you mean 'statistical'?"])
    assert run_pytest(pytester, "good.toml", "-m", "experiment").ret == 5
