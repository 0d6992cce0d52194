"""A project that does not use dlcheck, or not only, is left as it is."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
from sessions import run_pytest
from test_pytest_plugin import GOOD_AND_BAD, SUBJECTS

from _dlcheck_pytest.recording import _exit_code
from _dlcheck_pytest.state import ONLY_REGRESSIONS
from dlcheck.configured import SETTINGS
from dlcheck.settings import READERS

PLAIN = """
import os, signal, sys
import pytest

class Trial:
    subject, device, plan = "mine", "cpu", "mine"

@pytest.mark.benchmark
@pytest.mark.parametrize("trial", [Trial()])
def test_a_word_of_ours(trial):
    loaded = {name for name in sys.modules if name.partition(".")[0] == "dlcheck"}
    assert loaded <= {"dlcheck", "dlcheck.configured"}, loaded
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert "OMP_NUM_THREADS" not in os.environ
"""
FORKS = """
import os, signal, time

def test_a_fork_ends_by_its_signal():
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    child = os.fork()
    if not child:
        time.sleep(60)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTEST_ADDOPTS", "GITHUB_STEP_SUMMARY", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_loaded_taken_or_set(pytester: pytest.Pytester) -> None:
    """In a fresh process: ours have loaded dlcheck before."""
    pytester.makepyfile(PLAIN)
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
    workers = pytester.runpytest_subprocess("-n", "2", "-p", "no:hypothesispytest")
    workers.assert_outcomes(passed=1)


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_the_forks_of_other_tests_end_by_their_signals(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(subjects_of_the_test=SUBJECTS, test_forks=FORKS)
    pytester.makefile(".toml", plugin=GOOD_AND_BAD)
    run_pytest(pytester, "plugin.toml", "test_forks.py", "-k", "good or fork").assert_outcomes(
        passed=2
    )


def test_a_mark_that_nothing_has_is_no_tag(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain(): pass")
    pytester.makepyprojecttoml("[tool.dlcheck]\nprofile = 'quick'")
    result = run_pytest(pytester, "-m", "word")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize(
    ("failed", "trends", "code"),
    [(0, [], 1), (1, [("slower", "")], ONLY_REGRESSIONS), (2, [("slower", "")], 1)],
)
def test_only_regressions_are_regressions(
    failed: int, trends: list[tuple[str, str]], code: int
) -> None:
    """A plugin, as pytest-cov, may fail a run in which no test did."""
    state: Any = SimpleNamespace(cut={}, trends=trends, failed=failed, usage_errors=0)
    assert _exit_code(pytest.ExitCode.TESTS_FAILED, state) == code


def test_every_setting_is_looked_for() -> None:
    assert set(SETTINGS) == set(READERS)
