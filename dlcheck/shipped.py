"""The suites that are installed: dlcheck's own and those of other packages. Loads no torch."""

from __future__ import annotations

import tomllib
import warnings
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from dlcheck.errors import PluginWarning
from dlcheck.registry import catalogue
from dlcheck.suite import is_suite_file
from dlcheck.targets import find_source

PACKAGE = Path(__file__).parent


def suite_paths() -> dict[str, Path]:
    """Every installed suite by name: the file's stem, prefixed by the entry point for others'.

    Those of an installed package that is broken are left out with one PluginWarning.
    """
    found = {path.stem: path for path in _suites_in(own_folder())}
    installed = entry_points(group="dlcheck.suites")
    broken = {each.name for each in catalogue().plugins if each.problem} if installed else ()
    for entry in installed:
        if entry.dist is not None and entry.dist.name in broken:
            continue
        folder = _folder_of(entry)
        if folder is None:
            warnings.warn(
                f"entry point dlcheck.suites {entry.name!r} = {entry.value!r}: there is no such "
                "folder, so its suites are left out",
                PluginWarning,
                stacklevel=2,
            )
            continue
        for path in _suites_in(folder):
            found[path.stem if path.stem not in found else f"{entry.name}.{path.stem}"] = path
    return found


def is_optional(path: Path) -> bool:
    """Does the suite say that it is run only where it is named? What cannot be read is not."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig")).get("optional") is True
    except (OSError, ValueError):
        return False


def own_folder() -> Path:
    """Beside the code in a wheel, beside the package in the repository."""
    packaged = PACKAGE / "_suites"
    return packaged if packaged.is_dir() else PACKAGE.parent / "suites"


def _suites_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.toml")) if is_suite_file(path)]


def _folder_of(entry: EntryPoint) -> Path | None:
    """`"package"` is that package's folder, `"package:folder"` a folder in it; None: absent."""
    module, _, inside = entry.value.partition(":")
    source = find_source(module)
    folder = source.parent / inside if source is not None else None
    return folder if folder is not None and folder.is_dir() else None
