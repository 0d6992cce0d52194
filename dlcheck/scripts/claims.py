"""What a script asserts: the failed evidence, traced back to the numbers that made it up."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlcheck.model import Evidence
from dlcheck.scripts.literals import literal
from dlcheck.scripts.plain import plain_text
from dlcheck.scripts.program import Program, resolved
from dlcheck.scripts.tape import Exit, Ref, Tape

_RECENT = 400  # numbers among which pairs are tried
_FEW = 12  # exact small integers are matched with the last ones only
Holds = Callable[[Mapping[int, Any]], bool]


@dataclass(frozen=True, slots=True)
class Claim:
    """What must hold of what the nodes give, and how it is written.

    natural: it says what is right; otherwise only that the answer is no longer the wrong one.
    """

    wanted: tuple[Ref, ...]
    holds: Holds
    lines: Callable[[Callable[[Ref], str], str], list[str]]
    collects: frozenset[int] = frozenset()  # answers that are compared
    natural: bool = True
    raises: bool = False
    decides: bool = False  # it is what was judged, not a guess at it


def claims_of(tape: Tape, evidence: Evidence | None) -> Iterator[Claim]:
    """Candidates, the most telling first."""
    if evidence is not None:
        yield from _comparisons(tape, evidence)
        yield from _numbers(tape, evidence)
    yield from _raised(tape)
    if evidence is None or not math.isfinite(evidence.error):
        yield from _finite(tape)


# --- value against value -------------------------------------------------------------------------


def _comparisons(tape: Tape, evidence: Evidence) -> Iterator[Claim]:
    """What two tensors that were told to be compared say, where it is this evidence."""
    for got, expected, found in reversed(tape.compared):
        if (found.error, found.bound) != (evidence.error, evidence.bound):
            continue
        holds, lines = (
            _same(got, expected, evidence.bound),
            _sameness(got, expected, evidence.bound),
        )
        yield Claim((got, expected), holds, lines, decides=True)


def _same(got: Ref, expected: Ref, bound: float) -> Holds:
    def holds(values: Mapping[int, Any]) -> bool:
        a, b = _tensor(resolved(got, values)), _tensor(resolved(expected, values))
        if a.shape != b.shape:
            return False
        if not a.numel():
            return True
        return bool((a.double() - b.double()).abs().max() <= bound) or bool(torch.equal(a, b))

    return holds


def _sameness(got: Ref, expected: Ref, bound: float) -> Any:
    def lines(text: Callable[[Ref], str], message: str) -> list[str]:
        return [
            f"got, expected = {text(got)}, {text(expected)}",
            'assert got.shape == expected.shape, f"{got.shape}, not {expected.shape}"',
            f"assert got.equal(expected) or (got - expected).abs().max() <= {literal(bound)}, "
            f"{message}",
        ]

    return lines


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)


# --- numbers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """A formula of one or two numbers: as Python, and as what it computes."""

    text: str
    value: Callable[..., float]


_ONE = (
    _Form("{0}", lambda a: a),
    _Form("abs({0})", abs),
    _Form("-{0}", lambda a: -a),
    _Form("max({0}, 0.0)", lambda a: max(a, 0.0)),
    _Form("1.0 - {0}", lambda a: 1.0 - a),
    _Form("abs({0} - 1.0)", lambda a: abs(a - 1.0)),
    _Form("{0} ** 0.5", lambda a: a**0.5 if a >= 0 else math.nan),
)
_COUNTS = {
    **dict.fromkeys(("sum", "count_nonzero"), _ONE[:1]),
    **dict.fromkeys(
        ("equal", "allclose", "all", "isfinite"), (_Form("float(not {0})", lambda a: float(not a)),)
    ),
    "any": (_Form("float({0})", lambda a: a),),
}
_TWO = (
    _Form("abs({0} - {1})", lambda a, b: abs(a - b)),
    _Form("{0} / {1}", lambda a, b: a / b if b else math.nan),
    _Form("abs({0} / {1} - 1.0)", lambda a, b: abs(a / b - 1.0) if b else math.nan),
    _Form("abs({0} + {1})", lambda a, b: abs(a + b)),
)


def _numbers(tape: Tape, evidence: Evidence) -> Iterator[Claim]:
    """Numbers that left the tensors and make up the error exactly."""
    error, bound = evidence.error, evidence.bound
    if not math.isfinite(error) or error <= bound:
        return
    exits = tape.exits[-_RECENT:][::-1]
    is_count = error == int(error) and abs(error) < 2**20
    for place, one in enumerate(exits):
        if is_count and place >= _FEW:
            break
        word = tape.nodes[one.ref.node].word
        for form in _COUNTS.get(word, ()) if is_count else _ONE:
            if form.value(one.value) == error:
                yield _number_claim(form, (one,), bound)
                break
    if is_count:
        return
    values = np.array([e.value for e in exits])
    with np.errstate(all="ignore"):
        for form, table in (
            (_TWO[0], np.abs(values[:, None] - values[None, :])),
            (_TWO[1], values[:, None] / values[None, :]),
            (_TWO[2], np.abs(values[:, None] / values[None, :] - 1.0)),
            (_TWO[3], np.abs(values[:, None] + values[None, :])),
        ):
            for a, b in np.argwhere(table == error)[:3]:
                yield _number_claim(form, (exits[a], exits[b]), bound)


def _number_claim(form: _Form, exits: Sequence[Exit], bound: float) -> Claim:
    refs = tuple(e.ref for e in exits)

    def holds(values: Mapping[int, Any]) -> bool:
        return form.value(*(float(resolved(ref, values)) for ref in refs)) <= bound

    def lines(text: Callable[[Ref], str], message: str) -> list[str]:
        numbers = [text(e.ref) if e.way == "plain" else f"float({text(e.ref)})" for e in exits]
        error = form.text.format(*numbers)
        return [f"error = {error}", f"assert error <= {literal(bound)}, {message}"]

    return Claim(refs, holds, lines)


# --- exceptions and NaN --------------------------------------------------------------------------


def _raised(tape: Tape) -> Iterator[Claim]:
    """The last call of the subject that raised."""
    for index in range(len(tape.nodes) - 1, -1, -1):
        if tape.nodes[index].raised is not None:
            yield Claim((Ref(index),), lambda values: True, lambda text, message: [], raises=True)
            return


def _finite(tape: Tape) -> Iterator[Claim]:
    """The last answers that hold NaN or infinity."""
    for index in range(len(tape.nodes) - 1, -1, -1):
        node = tape.nodes[index]
        if node.kind == "call" or node.word in ("grad", "backward"):
            yield Claim((Ref(index),), _is_finite(Ref(index)), _finiteness(Ref(index)))
            return


def _is_finite(ref: Ref) -> Holds:
    def holds(values: Mapping[int, Any]) -> bool:
        value = resolved(ref, values)
        return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())

    return holds


def _finiteness(ref: Ref) -> Any:
    def lines(text: Callable[[Ref], str], message: str) -> list[str]:
        return [f"y = {text(ref)}", f"assert torch.isfinite(y).all(), {message}"]

    return lines


# --- the answer that was judged wrong ------------------------------------------------------------


def wrong_answer(program: Program, values: Mapping[int, Any]) -> Claim | None:
    """That what the collected calls gave, and changed in place, is no longer what it was."""
    changed = set().union(*(program.nodes[index].writes for index in program.collects))
    refs: list[Ref] = []
    for index, node in program.nodes.items():
        if node.kind == "call":
            refs += _changed_parts(program, index, changed)
        elif node.kind == "value" and node.word in ("tensor", "array") and node.writes & changed:
            refs.append(Ref(index))
    said = [*program.told, *(plain_text(resolved(ref, values)) for ref in refs)]
    if not all(said) or set(said) <= {"[]", "'None'"}:
        return None
    whole = f"[{', '.join(said)}]"
    is_long = len(whole) > _MOST_WRONG

    def lines(text: Callable[[Ref], str], message: str) -> list[str]:
        more = [f"answers += plain([{', '.join(map(text, refs))}])"] if refs else []
        if is_long:
            answers, wrong = "zlib.crc32(repr(answers).encode())", str(zlib.crc32(whole.encode()))
            return [*more, "import zlib", f"assert {answers} != {wrong}, {message}"]
        return [*more, f"assert answers != {whole}, {message}"]

    calls = tuple(Ref(index) for index in sorted(program.collects))
    return Claim((*calls, *refs), lambda values: False, lines, program.collects, natural=False)


def _changed_parts(program: Program, index: int, changed: set[Any]) -> list[Ref]:
    """The parameters and buffers of a module built there that the calls changed."""
    parts = program.tape.parts.get(index, {})
    return [Ref(index, (("path", path),)) for path, place in parts.items() if place in changed]


_MOST_WRONG = 3000  # characters of an answer, of which a longer one is told by its checksum
