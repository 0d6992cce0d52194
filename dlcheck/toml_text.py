"""TOML as text: the line on which each key stands, and plain data written out.

`tomllib` reads values but forgets where they stood, and writes nothing.
"""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from dlcheck.errors import UsageError

KeyPath = tuple[str | int, ...]

_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:\\[\s\S]|[^\\])*?"""(?!")'  # may end in up to five quotes
    r"|'''[\s\S]*?'''(?!')"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
)
_KEY = re.compile(r"[A-Za-z0-9_-]+|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Lines:
    """Where each key of a valid TOML text stands, by its path: ("subject", 2, "args", "bias")."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._tables: dict[KeyPath, int] = {}  # arrays of tables → index of the last one
        self._found: dict[KeyPath, int] = {}
        self._document()

    def of(self, path: KeyPath) -> int:
        """The line of the deepest part of `path` that has a line of its own."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._found:
                return self._found[path[:end]]
        return 1

    def _document(self) -> None:
        here: KeyPath = ()
        while self._skip(_GAP) < len(self._text):
            if self._take("[["):
                here = self._array_header()
            elif self._take("["):
                here = self._inside(self._key())
                self._note(here)
            else:
                self._assignment(here)
                continue
            self._at = self._text.find("]", self._at)
            while self._take("]"):
                pass

    def _array_header(self) -> KeyPath:
        path = self._inside(self._key())
        self._tables[path] = self._tables.get(path, -1) + 1
        here = (*path, self._tables[path])
        self._note(path)
        self._note(here)
        return here

    def _inside(self, key: list[str]) -> KeyPath:
        """`subject.options` → ("subject", 2, "options") below the third [[subject]]."""
        path: KeyPath = ()
        for part in key[:-1]:
            path = (*path, part)
            if path in self._tables:
                path = (*path, self._tables[path])
        return (*path, key[-1])

    def _assignment(self, here: KeyPath) -> None:
        start = self._at
        path = here
        for part in self._key():
            path = (*path, part)
            self._note(path, start)
        self._skip(_SPACE)
        self._take("=")
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        if string := _STRING.match(self._text, self._at):
            self._at = string.end()
        elif self._take("["):
            self._array(path)
        elif self._take("{"):
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        index = 0
        while self._skip(_GAP) < len(self._text) and not self._take("]"):
            self._note((*path, index))
            self._value((*path, index))
            self._skip(_GAP)
            self._take(",")
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        while self._skip(_GAP) < len(self._text) and not self._take("}"):
            self._assignment(path)
            self._skip(_GAP)
            self._take(",")

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip(_SPACE)
            found = _KEY.match(self._text, self._at)
            if found is None:
                raise ValueError(f"no TOML key at offset {self._at}")
            self._at = found.end()
            parts.append(_plain_key(found[0]))
            self._skip(_SPACE)
            if not self._take("."):
                return parts

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _take(self, token: str) -> bool:
        found = self._text.startswith(token, self._at)
        self._at += len(token) * found
        return found

    def _note(self, path: KeyPath, at: int | None = None) -> None:
        offset = self._at if at is None else at
        self._found.setdefault(path, bisect_right(self._breaks, offset - 1) + 1)


def _plain_key(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    if key[0] != '"':
        return key
    return str(tomllib.loads(f"key = {key}")["key"]) if "\\" in key else key[1:-1]


# --- writing ----------------------------------------------------------------------------------


def to_toml_value(value: Any) -> str:
    """Plain data as TOML. Raises UsageError for what TOML cannot hold: None, objects."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case int():
            return repr(int(value))
        case float():
            return repr(float(value))
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case Mapping():
            inside = ", ".join(f"{_key(key)} = {to_toml_value(v)}" for key, v in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple():
            return "[" + ", ".join(to_toml_value(part) for part in value) + "]"
        case set() | frozenset():
            return to_toml_value(sorted(value, key=repr))
    raise UsageError(f"{value!r} ({type(value).__name__}) has no TOML form")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise UsageError(f"a TOML key is a string, not {key!r}")
    return key if _BARE.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UsageError(f"{text!r} has half a surrogate pair, which TOML cannot hold")
    # JSON escapes are TOML escapes; DEL, which JSON leaves bare, TOML forbids.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
