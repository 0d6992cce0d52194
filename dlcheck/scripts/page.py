"""A program and its claim as the whole text of a script."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.model import Trial
from dlcheck.scripts.claims import Claim
from dlcheck.scripts.importing import Import
from dlcheck.scripts.plain import plain_source
from dlcheck.scripts.program import Program
from dlcheck.scripts.rolling import rolled
from dlcheck.scripts.tape import Unwritable
from dlcheck.scripts.wording import Words

MOST_LINES = 25
MOST_CHARACTERS = 60_000
_WIDEST = 160  # of a comment


@dataclass(frozen=True, slots=True)
class Page:
    """What the scripts of one failure share. inputs: of the case, by the names they are given."""

    trial: Trial
    imported: Import
    inputs: Mapping[str, Tensor]

    def text(self, program: Program, claim: Claim) -> str:
        """As it reads best; where that is too long, with what is used once where it is used.

        Raises Unwritable where it is too long all the same.
        """
        for compact in (False, True):
            text = self._text(program, claim, compact=compact)
            if text.count("\n") <= MOST_LINES:
                break
        if text.count("\n") > MOST_LINES:
            raise Unwritable(f"it would take {text.count(chr(10))} lines")
        if len(text) > MOST_CHARACTERS:
            raise Unwritable(f"it would take {len(text)} characters")
        return text

    def _text(self, program: Program, claim: Claim, *, compact: bool) -> str:
        built = self.trial.subject.kind.split("_")[-1]
        built = built if built not in ("op", self.imported.name) else "subject"
        known = {} if compact else self._known(program)
        words = Words(
            program, self.imported.name, built, known, collects=claim.collects, compact=compact
        )
        written = words.written(claim.wanted)
        asserted = words.with_calls(claim.lines(words.text, self._message()))
        lines = _blocks(rolled(written, asserted), graded=words.graded)
        imports = [*sorted(words.imports), "import torch"]
        first = [] if claim.natural else plain_source(claim.answers)
        made = [self._head(), *imports, *self.imported.lines, *words.sources, *first]
        return "\n".join([*made, *lines, *asserted]) + "\n"

    def _known(self, program: Program) -> dict[int, str]:
        """The inputs of the case among the literals, by their names."""
        found: dict[int, str] = {}
        for name, value in self.inputs.items():
            for index, node in program.nodes.items():
                is_literal = node.word == "tensor" and node.kind == "value"
                if is_literal and index not in found and _is_same(node.args[0], value):
                    found[index] = name
        return found

    def _head(self) -> str:
        check = self.trial.check
        return " ".join(f"# {check.name}: {check.claim}".split())[:_WIDEST]

    def _message(self) -> str:
        return repr(textwrap.shorten(self.trial.check.claim, 90, placeholder=" …"))


def _is_same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.numel() > 0 and bool(torch.equal(a, b))


_IN_PLACE = ("requires_grad", "Parameter", ".copy_(", "_(")


def _blocks(lines: list[tuple[bool, str]], *, graded: bool) -> list[str]:
    """The lines with those without gradients in blocks of their own."""
    asks = graded or any(
        any(word in text for word in _IN_PLACE) or "[" in text.partition("=")[0]
        for _, text in lines
    )
    if not asks:
        return [text for _, text in lines]
    found: list[str] = []
    inside = False
    for grad, text in lines:
        if grad:
            inside = False
            found.append(text)
            continue
        if not inside:
            found.append("with torch.no_grad():")
            inside = True
        found.append("    " + text)
    return found
