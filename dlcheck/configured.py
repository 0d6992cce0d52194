"""Does anything outside the command line speak to dlcheck? Asked by every run of pytest.

It imports nothing of dlcheck: a project that does not use it pays a millisecond.
"""

from __future__ import annotations

import os
from pathlib import Path

SETTINGS = (
    "profile",
    "seed",
    "device",
    "dtype",
    "require",
    "timeout",
    "memory",
    "report",
    "plugin",
)


def variable_of(setting: str) -> str:
    return f"DLCHECK_{setting.upper()}"


def is_configured(folder: Path) -> bool:
    """Does the environment or a pyproject.toml at or above the folder speak to dlcheck?"""
    if any(os.environ.get(variable_of(name)) for name in SETTINGS):
        return True
    files = (place / "pyproject.toml" for place in (folder, *folder.parents))
    file = next((file for file in files if file.is_file()), None)
    try:
        return file is not None and b"dlcheck" in file.read_bytes()
    except OSError:
        return False
