"""A page of the documentation, acted out: its files written, its commands and its code run.

Each page has a process of its own, forked from one that has torch loaded already (`sessions`), and
each command a fork of that. Commands are `dlcheck …` and `pytest …` without a shell; anything
else is given to bash.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pages import Block, Command, commands_of
from sessions import SERVER

_PATIENCE = 900.0  # seconds for a page, on a busy machine


@dataclass(frozen=True, slots=True)
class Came:
    """What one command, or one block of Python (`command` is -1), printed and how it ended."""

    block: int
    command: int
    lines: tuple[str, ...]
    code: int


def act(folder: Path, blocks: Sequence[Block], names: Mapping[str, str]) -> list[Came]:
    """Run the blocks of a page in a folder; what each of them printed.

    names: what the page takes for granted, as `{"MyLoss": "mypkg.losses:MyLoss"}`.
    """
    result = folder.with_suffix(".json")
    parts = [
        (b.place, b.language, b.title, b.text, b.reason, _texts(b))
        if not b.quotes
        else (b.place, "text", "", "", "", [])
        for b in blocks
    ]
    child = SERVER.Process(target=_page, args=(str(folder), parts, dict(names), str(result)))
    child.start()
    child.join(timeout=_PATIENCE)
    if child.is_alive():
        child.kill()
        raise TimeoutError(f"{blocks[0].page} took more than {_PATIENCE:.0f} s")
    if child.exitcode:
        raise RuntimeError(f"{blocks[0].page} ended with {child.exitcode}")
    found = json.loads(result.read_text())
    return [Came(b, c, tuple(map(as_for_a_person, lines)), code) for b, c, lines, code in found]


def as_for_a_person(line: str) -> str:
    """Without the count of warnings: pytest warns that its plugins were imported before it."""
    return re.sub(r", \d+ warnings?(?= in \d)", "", line)


def _texts(block: Block) -> list[str]:
    if block.language not in ("console", "bash"):
        return []
    return [command.text for command in commands_of(block)]


def _page(folder: str, parts: list[Any], names: dict[str, str], result: str) -> None:
    """In the child: every block in its order."""
    sys.path[:] = [folder, *(path for path in sys.path if path)]
    os.chdir(folder)
    kept = {n: v for n, v in os.environ.items() if "PYTEST" not in n and n != "COLUMNS"}
    os.environ.clear()
    os.environ.update(kept, PYTHONPATH=os.pathsep.join(sys.path), NO_COLOR="1")
    space: dict[str, Any] = {"__name__": "__main__"}
    for name, path in names.items():
        module, _, attribute = path.partition(":")
        value = __import__(module, fromlist=["_"])
        space[name] = getattr(value, attribute) if attribute else value
    came: list[tuple[int, int, list[str], int]] = []
    for k, (place, language, title, text, reason, commands) in enumerate(parts):
        if title and language != "text":
            _write(Path(title), text + "\n")
        elif reason:
            continue
        elif language == "python":
            came.append((k, -1, *_executed(text, place, space)))
        for n, command in enumerate(() if reason else commands):
            came.append((k, n, *_run(command)))
    Path(result).write_text(json.dumps(came))
    os._exit(0)


def _write(path: Path, text: str) -> None:
    """The file; entry points of a pyproject.toml are installed, as `pip install -e` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if path.name != "pyproject.toml":
        return
    groups = tomllib.loads(text).get("project", {}).get("entry-points", {})
    installed = Path("mypkg-1.dist-info")
    installed.mkdir(exist_ok=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1\n")
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (installed / "entry_points.txt").write_text("\n".join(lines) + "\n")


def _executed(text: str, place: str, space: dict[str, Any]) -> tuple[list[str], int]:
    """Python in the namespace of the page: what it printed; 1 and the traceback if it raised."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(text, place, "exec"), space)
    except Exception:
        return [*printed.getvalue().splitlines(), *traceback.format_exc().splitlines()], 1
    return printed.getvalue().splitlines(), 0


def _run(command: str) -> tuple[list[str], int]:
    """A command's output, stdout and stderr together, and its exit code."""
    with contextlib.suppress(ValueError):
        words = shlex.split(command.replace("\\\n", " "), comments=True)
        given = dict(word.split("=", 1) for word in itertools.takewhile(_is_setting, words))
        words = words[len(given) :]
        if words and words[0] in ("dlcheck", "pytest") and not {"|", "&&", ";", ">"} & {*words}:
            return _forked(words, given)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return _told(done.stdout), done.returncode


def _is_setting(word: str) -> bool:
    """Is it `NAME=value` before a command?"""
    return word.partition("=")[0].isupper() and "=" in word


def _forked(words: list[str], given: Mapping[str, str]) -> tuple[list[str], int]:
    path = Path(".printed")
    child = os.fork()
    if not child:
        os.environ.update(given)
        _become(words, path)
    _, status = os.waitpid(child, 0)
    text = path.read_text()
    path.unlink()
    return _told(text), os.waitstatus_to_exitcode(status)


def _become(words: list[str], path: Path) -> None:
    """In the fork: the command, until its end."""
    code = 99
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = _lines_to(1), _lines_to(2)
        sys.argv = words
        code = _main(words)
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _lines_to(descriptor: int) -> io.TextIOWrapper:
    """Line by line, so that both streams keep their order in one file."""
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", line_buffering=True)


def _main(words: list[str]) -> int:
    if words[0] == "pytest":
        import pytest

        return int(pytest.main(["-p", "no:randomly", *words[1:]]))
    from dlcheck.cli import main

    return main(words[1:])


def _told(text: str) -> list[str]:
    """The lines, without what this machine and moment add to paths."""
    return text.replace(f"{Path.cwd()}/", "").replace(str(Path.cwd()), ".").splitlines()


__all__ = ["Came", "Command", "act"]
