"""HTML and SVG built from tags: text is escaped and elements are closed by construction."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Markup:
    """Text that is markup already. Anything else is escaped when it becomes a child."""

    text: str

    def __str__(self) -> str:
        return self.text


Child = Markup | str | int | float | None | Iterable["Child"]
Attribute = str | int | float | bool | None

_BARE = re.compile(r"[\w.#:%+-]+", re.ASCII)  # what HTML reads right without quotes
_VOID = frozenset({"br", "hr", "link", "meta"})
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# What neither HTML nor a reader takes: controls, halves of surrogate pairs, marks that turn the
# direction of writing (and so let `safe` stand where `unsafe` is meant), what has no width.
_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff"
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufffe\uffff]"
)


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """An element. Attributes: `class_` is class, `aria_label` is aria-label; None and False are
    left out, True stands without a value."""
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(*children)}</{name}>")


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = html.escape(clean(str(value)))
    return f" {name}={text}" if _BARE.fullmatch(text) else f' {name}="{text}"'


def join(*children: Child) -> Markup:
    """Children one after the other, each escaped unless it is markup."""
    return Markup("".join(_text(child) for child in children))


def breakable(name: str) -> list[Markup]:
    """A name that may be broken after an underscore."""
    parts = name.split("_")
    return [join(part, Markup("_<wbr>")) for part in parts[:-1]] + [join(parts[-1])]


def heading(names: Iterable[str]) -> Markup:
    """The head of a table. A column without a name has no heading."""
    return tag(
        "thead",
        tag("tr", [tag("th", name, scope="col") if name else tag("td") for name in names]),
    )


def _text(child: Child) -> str:
    match child:
        case None:
            return ""
        case Markup():
            return child.text
        case str() | int() | float():
            return html.escape(clean(str(child)), quote=False)
    return "".join(_text(part) for part in child)


def clean(text: str) -> str:
    """Text of strangers without colour codes and without characters that HTML forbids."""
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text).replace("\r", ""))


def clipped(text: str, limit: int) -> str:
    """At most so many characters, the end being what tells most of a traceback."""
    if len(text) <= limit:
        return text
    head = limit // 4
    return f"{text[:head]}\n… {len(text) - limit:,} characters left out …\n{text[head - limit :]}"
