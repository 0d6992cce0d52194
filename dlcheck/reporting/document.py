"""What is around every page and every cell of a notebook: style, policy and script.

A content policy allows no network at all, and no script but the few lines of `page.js`, named by
their hash.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from dlcheck.reporting.markup import Child, Markup, tag

_HERE = Path(__file__).parent
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath d='M3 8.5 6.5 12 13 4' fill='none' stroke='%23287a4b' stroke-width='2.4'/%3E%3C/svg%3E"
)


def document(title: str, content: Child) -> str:
    """One page around its content: style, policy and script inside."""
    style = _terse((_HERE / "page.css").read_text("utf-8"))
    script = _terse((_HERE / "page.js").read_text("utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href=_ICON),
        tag("style", Markup(style)),
    )
    body = tag("body", content, tag("script", Markup(script)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _terse(code: str) -> str:
    """Without indentation and lines that only comment."""
    lines = (line.strip() for line in code.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = {
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'",
    }
    return "; ".join(["default-src 'none'", *(" ".join(rule) for rule in allowed.items())])


def notebook(content: Child) -> str:
    """A cell of a notebook: a fragment with its own style, for light and dark."""
    style = _terse((_HERE / "fragment.css").read_text("utf-8"))
    return str(tag("div", tag("style", Markup(style)), content, class_="dlcheck"))
