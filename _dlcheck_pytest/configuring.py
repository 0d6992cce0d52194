"""The options, the marks and the recorder."""

from __future__ import annotations

from pathlib import Path

import pytest

from _dlcheck_pytest.recording import Recorder
from _dlcheck_pytest.state import OPTIONS, dest_of, state_of


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dlcheck", "dlcheck: suites of deep-learning checks")
    for name, (action, metavar, text) in OPTIONS.items():
        safe = f"--dlcheck-{name.removeprefix('--')}"
        options = {"action": action, "help": text, "dest": dest_of(name)}
        if metavar:
            options["metavar"] = metavar
        try:
            group.addoption(name, safe, default=None, **options)
        except ValueError:  # another plugin took the short name
            group.addoption(safe, default=None, **options)


def pytest_configure(config: pytest.Config) -> None:
    for mark, meaning in {
        "statistical": "judges a random sample with a stated false-alarm rate",
        "benchmark": "measures time or memory",
        "gpu": "runs on a GPU",
        "slow": "takes more than a few seconds",
        "experiment": "trains for seconds; runs where a suite names it in checks",
    }.items():
        config.addinivalue_line("markers", f"{mark}: {meaning} (dlcheck)")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(config), "dlcheck-recorder")
        given = any(config.getoption(dest_of(option)) for option in OPTIONS)
        if given or _is_configured(config.invocation_params.dir):
            state_of(config)  # a mistake is told before anything is collected


def _is_configured(folder: Path) -> bool:
    from dlcheck.configured import is_configured

    return is_configured(folder)
