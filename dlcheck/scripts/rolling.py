"""Lines that repeat but for their numbers, as a loop."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

Line = tuple[bool, str]  # is grad on, the text
_LONGEST = 8  # lines of a block
_LITERAL = re.compile(
    r"(?:torch\.(?:tensor|full|zeros|ones|empty)|np\.array)\((?=[\[(\-\d])"
    r"|(?<=seed\()\d+(?=\))|(?<=seed=)\d+|(?<=[(,] )\d+(?=[,)])|(?<=\w\()\d+(?=[,)])"
)
_ASSIGNED = re.compile(r"^([A-Za-z_]\w*) = ")
_SLOT = "\0"


def rolled(lines: Sequence[Line], after: list[str] | None = None) -> list[Line]:
    """The same program with blocks that stand several times in a row written once.

    A block is rolled up where its turns differ only in literals and in the names that they assign,
    and where only the names of the last turn are used afterwards, as in the lines `after` it, whose
    names are changed along.
    """
    found, behind = list(lines), after if after is not None else []
    place = 0
    while place < len(found):
        best = max(
            (
                roll
                for size in range(1, _LONGEST + 1)
                if (roll := _roll(found, place, size, behind))
            ),
            key=lambda roll: roll[0],
            default=None,
        )
        if best is None:
            place += 1
            continue
        _, length, loop, renamed = best
        rest = [(grad, _renamed(text, renamed)) for grad, text in found[place + length :]]
        behind[:] = [_renamed(text, renamed) for text in behind]
        found[place:] = [*loop, *rest]
        place += len(loop)
    return found


def _roll(
    lines: Sequence[Line], place: int, size: int, behind: Sequence[str] = ()
) -> tuple[int, int, list[Line], dict[str, str]] | None:
    """(lines saved, lines taken, the loop, new names of the last turn), or None."""
    turns: list[list[Line]] = []
    patterns: list[tuple[str, ...]] = []
    slots: list[list[str]] = []
    before: dict[str, int] = {}
    start = place
    while start + size <= len(lines):
        block = list(lines[start : start + size])
        pattern, literals, names = _pattern(block)
        if patterns and pattern != patterns[0]:
            break
        turns.append(block)
        patterns.append(pattern)
        slots.append(literals)
        before.update({name: len(turns) - 1 for name in names})
        start += size
    if len(turns) < 2 or len({grad for turn in turns for grad, _ in turn}) > 1:
        return None
    last = len(turns) - 1
    rest = "\n".join([*(text for _, text in lines[start:]), *behind])
    for name, turn in before.items():
        if turn != last and re.search(rf"\b{name}\b", rest):
            return None
    loop, renamed = _loop(turns, slots)
    saved = len(turns) * size - len(loop)
    return (saved, len(turns) * size, loop, renamed) if saved > 0 else None


def _loop(
    turns: Sequence[Sequence[Line]], slots: Sequence[Sequence[str]]
) -> tuple[list[Line], dict[str, str]]:
    grad = turns[0][0][0]
    varying = [k for k in range(len(slots[0])) if len({turn[k] for turn in slots}) > 1]
    names = {k: f"v{n + 1}" if len(varying) > 1 else "v" for n, k in enumerate(varying)}
    body, count = [], 0
    for _, text in turns[0]:
        pieces = []
        for piece, literal in _pieces(text):
            pieces.append(piece)
            if literal is not None:
                pieces.append(names.get(count, literal))
                count += 1
        body.append((grad, "    " + "".join(pieces)))
    if varying:
        rows = [", ".join(turn[k] for k in varying) for turn in slots]
        rows = [f"({row})" for row in rows] if len(varying) > 1 else rows
        over = f"for {', '.join(names.values())} in [{', '.join(rows)}]:"
    else:
        over = f"for _ in range({len(turns)}):"
    first, final = ([_name(text) for _, text in turn] for turn in (turns[0], turns[-1]))
    renamed = {b: a for a, b in zip(first, final, strict=True) if a and b}
    return [(grad, over), *body], renamed


def _pattern(block: Sequence[Line]) -> tuple[tuple[str, ...], list[str], list[str]]:
    """The lines without literals and with assigned names counted; the literals; those names."""
    literals: list[str] = []
    names: list[str] = []
    texts = []
    for _, text in block:
        bare = "".join(
            piece + (_SLOT if literal is not None else "") for piece, literal in _pieces(text)
        )
        literals += [literal for _, literal in _pieces(text) if literal is not None]
        if (name := _name(text)) is not None:
            names.append(name)
        for number, known in enumerate(names):
            bare = re.sub(rf"\b{known}\b", f"§{number}", bare)
        texts.append(bare)
    return tuple(texts), literals, names


def _name(text: str) -> str | None:
    found = _ASSIGNED.match(text)
    return found.group(1) if found else None


@functools.lru_cache(maxsize=4096)
def _pieces(text: str) -> tuple[tuple[str, str | None], ...]:
    """(text before a literal, the literal), and the text after the last."""
    return tuple(_cut(text))


def _cut(text: str) -> Iterator[tuple[str, str | None]]:
    start = 0
    for found in _LITERAL.finditer(text):
        if found.start() < start:
            continue
        end = found.end()
        if found.group().endswith("("):
            depth = 1
            while depth and end < len(text):
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                end += 1
        yield text[start : found.start()], text[found.start() : end]
        start = end
    yield text[start:], None


def _renamed(text: str, names: dict[str, str]) -> str:
    return re.sub(r"\b[A-Za-z_]\w*\b", lambda found: names.get(found.group(), found.group()), text)
