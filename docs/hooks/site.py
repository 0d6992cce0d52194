"""What MkDocs calls when it builds the site: pages from the registry, and files that pages link.

Pages of docs/ link files of the repository as GitHub shows them (`../examples/mixup.py`). On the
site each of these becomes a page of its own, so that nothing leads outside.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

import catalogue
import interface

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<=\])\((?!\w+:)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".sh": "bash", ".txt": "text"}
_WIDE = ("index.md", "textbook.md", "catalogue/index.md")  # tables rather than headings
_HERE = "repository"  # the folder of the site for files of the repository


def on_config(config: Any) -> Any:
    """Give the catalogue its menu; leave out what is written but not there yet."""
    found = catalogue.pages()
    config.nav = [
        {"Catalogue": catalogue.navigation(found)} if "Catalogue" in entry else entry
        for entry in _present(config.nav)
    ]
    return config


def _present(entries: list[Any]) -> list[Any]:
    """The menu without pages that another branch brings."""
    kept: list[Any] = []
    for entry in entries:
        if isinstance(entry, str):
            kept += [entry] * _is_there(entry)
        else:
            ((title, inside),) = entry.items()
            if isinstance(inside, list):
                kept.append({title: _present(inside)})
            elif _is_there(inside):
                kept.append({title: inside})
    return kept


def _is_there(page: str) -> bool:
    written = page.startswith(("catalogue/", "interface/", f"{_HERE}/"))
    return written or (ROOT / "docs" / page).exists()


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages and the linked files."""
    for path, text in {**catalogue.pages(), **interface.pages()}.items():
        files.append(File.generated(config, path, content=text))
    waiting = sorted(linked_from(files))
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        files.append(_as_file(path, config))
        if path.suffix == ".md":
            text = (ROOT / path).read_text(encoding="utf-8")
            new = {each for each in links_of(text, path.parent) if each not in seen}
            seen |= new
            waiting += sorted(new)
    return files


def linked_from(files: Files) -> set[Path]:
    """Files of the repository, outside docs/, that its pages link."""
    found: set[Path] = set()
    for file in files.documentation_pages():
        if not file.generated_by:
            here = Path("docs") / Path(file.src_uri).parent
            found |= set(links_of(file.content_string, here))
    return found


def links_of(text: str, folder: Path) -> Iterator[Path]:
    """The files outside docs/ that a text in a folder of the repository links."""
    for link in _LINK.finditer(text):
        path = _resolved(link["path"], folder)
        if path.parts[0] not in ("docs", "..") and (ROOT / path).is_file():
            yield path


def _resolved(link: str, folder: Path) -> Path:
    return Path(posixpath.normpath((folder / link).as_posix()))


def _as_file(path: Path, config: Any) -> File:
    """A page of Markdown, source in a page of its own, or a copy of anything else."""
    if path.suffix == ".md":
        text = (ROOT / path).read_text(encoding="utf-8")
        return File.generated(config, f"{_HERE}/{path}", content=text)
    if path.suffix in _LANGUAGES:
        source = (ROOT / path).read_text(encoding="utf-8")
        text = f"# {path}\n\n````{_LANGUAGES[path.suffix]}\n{source.rstrip()}\n````\n"
        return File.generated(config, f"{_HERE}/{path}.md", content=text)
    return File.generated(config, f"{_HERE}/{path}", abs_src_path=str(ROOT / path))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill in the textbook's table; lead links out of docs/ to the pages of those files."""
    del config, files
    uri = page.file.src_uri
    if uri in _WIDE:
        page.meta.setdefault("hide", ["toc"])
    inside = uri.startswith(f"{_HERE}/")
    folder = Path(uri).parent
    folder = folder.relative_to(_HERE) if inside else Path("docs") / folder

    def led(link: re.Match[str]) -> str:
        path = _resolved(link["path"], folder)
        if path.parts[0] == "docs":
            target = path.relative_to("docs").as_posix()
        elif (ROOT / path).is_file():
            target = f"{_HERE}/{path}" + ".md" * (path.suffix in _LANGUAGES)
        else:
            return link[0]
        start = posixpath.dirname(uri) or "."
        return f"({posixpath.relpath(target, start)}{link['anchor'] or ''})"

    return _LINK.sub(led, markdown.replace("<!-- textbook -->", interface.textbook()))
