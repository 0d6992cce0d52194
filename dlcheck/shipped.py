"""The suites that are installed: dlcheck's own and those of other packages. Loads no torch."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from dlcheck.errors import DeclarationError
from dlcheck.suite import is_suite_file
from dlcheck.targets import find_source

PACKAGE = Path(__file__).parent


def suite_paths() -> dict[str, Path]:
    """Every installed suite by name: the file's stem, prefixed by the entry point for others'."""
    found = {path.stem: path for path in _suites_in(own_folder())}
    for entry in entry_points(group="dlcheck.suites"):
        for path in _suites_in(_folder_of(entry)):
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


def _folder_of(entry: EntryPoint) -> Path:
    """`"package"` is that package's folder, `"package:folder"` a folder in it."""
    module, _, inside = entry.value.partition(":")
    source = find_source(module)
    folder = source.parent / inside if source is not None else Path()
    if source is None or not folder.is_dir():
        raise DeclarationError(
            f"entry point dlcheck.suites {entry.name!r} = {entry.value!r}: there is no such folder"
        )
    return folder
