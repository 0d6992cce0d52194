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
from dlcheck.scripts.tape import Node, Ref, Tape

_RECENT = 400  # numbers among which pairs are tried
_FEW = 12  # exact small integers are matched with the last ones only
Holds = Callable[[Mapping[int, Any]], bool]
Measures = Callable[[Tape, Sequence[Evidence]], bool]


@dataclass(frozen=True, slots=True)
class Claim:
    """What must hold of what the nodes give, and how it is written.

    natural: it says what is right; otherwise only that the answer is no longer the wrong one.
    measures: is it what the check measured in another run, with this tape and evidence? None of a
    claim that holds of everything that is right.
    """

    wanted: tuple[Ref, ...]
    holds: Holds
    lines: Callable[[Callable[[Ref], str], str], list[str]]
    collects: frozenset[int] = frozenset()  # nodes whose answers are compared
    answers: tuple[Any, ...] = ()  # these, and what was changed
    natural: bool = True
    raises: bool = False
    decides: bool = False  # it is what was judged, not a guess at it
    stateful: bool = False  # does it need what calls leave in the objects that they are made on?
    alone: bool = False  # is there no other that it could be?
    measures: Measures | None = None


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
    for place in range(len(tape.compared) - 1, -1, -1):
        got, expected, found = tape.compared[place]
        if (found.error, found.bound) == (evidence.error, evidence.bound):
            yield Claim(
                (got, expected),
                _same(got, expected, evidence.bound),
                _sameness(got, expected, evidence.bound),
                decides=True,
                measures=_compared_again(place, got, expected),
            )


def _compared_again(place: int, got: Ref, expected: Ref) -> Measures:
    def measures(tape: Tape, pieces: Sequence[Evidence]) -> bool:
        if place >= len(tape.compared) or tape.compared[place][:2] != (got, expected):
            return False
        return any(tape.compared[place][2].error == piece.error for piece in pieces)

    return measures


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
            f'f"{{got}}, not {{expected}}: " {message}',
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


# With its sign, each: that a difference is small on one side is what every bound on it says.
_ONE = (
    _Form("{0}", lambda a: a),
    _Form("-{0}", lambda a: -a),
    _Form("1.0 - {0}", lambda a: 1.0 - a),
    _Form("{0} - 1.0", lambda a: a - 1.0),
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
    _Form("{0} - {1}", lambda a, b: a - b),
    _Form("{0} / {1}", lambda a, b: a / b if b else math.nan),
    _Form("{0} / {1} - 1.0", lambda a, b: a / b - 1.0 if b else math.nan),
    _Form("1.0 - {0} / {1}", lambda a, b: 1.0 - a / b if b else math.nan),
    _Form("{0} + {1}", lambda a, b: a + b),
    _Form("-{0} - {1}", lambda a, b: -a - b),
)
_APART = _Form("abs({0} - {1})", lambda a, b: abs(a - b))
_MOST = 3  # pairs that are tried of a form


def _numbers(tape: Tape, evidence: Evidence) -> Iterator[Claim]:
    """Numbers that left the tensors and make up the error exactly."""
    error, bound = evidence.error, evidence.bound
    if not math.isfinite(error) or error <= bound:
        return
    first = max(len(tape.exits) - _RECENT, 0)
    places = list(range(first, len(tape.exits)))[::-1]
    for place in places:
        if tape.exits[place].value is error:  # the number itself, not one that equals it
            yield _number_claim(tape, _ONE[0], (place,), bound, decides=True)
    is_count = error == int(error) and abs(error) < 2**20
    singles = [
        (form, place)
        for place in (places[:_FEW] if is_count else places)
        if (form := _form_of(tape, place, error, is_count=is_count)) is not None
    ]
    for form, place in singles:
        yield _number_claim(tape, form, (place,), bound, alone=len(singles) == 1)
    if not is_count:
        yield from _pairs(tape, evidence, places)


def _form_of(tape: Tape, place: int, error: float, *, is_count: bool) -> _Form | None:
    """How the error is made of this number alone."""
    one = tape.exits[place]
    forms = _COUNTS.get(tape.nodes[one.ref.node].word, ()) if is_count else _ONE
    return next((form for form in forms if form.value(one.value) == error), None)


def _pairs(tape: Tape, evidence: Evidence, places: Sequence[int]) -> Iterator[Claim]:
    a = np.array([tape.exits[place].value for place in places])
    with np.errstate(all="ignore"):
        for form in _TWO:
            table = _table(form, a)
            is_made = (table == evidence.error) & (a[:, None] != 0) & (a[None, :] != 0)
            for i, j in np.argwhere(is_made)[:_MOST]:
                form = _APART if form is _TWO[0] and _tells_two(evidence) else form
                yield _number_claim(tape, form, (places[i], places[j]), evidence.bound)


def _table(form: _Form, a: Any) -> Any:
    """The form of every pair of numbers."""
    columns, rows = a[:, None], a[None, :]
    return (
        columns - rows,
        columns / rows,
        columns / rows - 1.0,
        1.0 - columns / rows,
        columns + rows,
        -columns - rows,
    )[_TWO.index(form)]


def _tells_two(evidence: Evidence) -> bool:
    """Is the error how far what it got is from what it expected, on both sides?"""
    try:
        apart = abs(float(evidence.got) - float(evidence.expected))
    except ValueError:
        return False
    return abs(apart - evidence.error) <= 1e-6 * abs(float(evidence.expected))


def _number_claim(
    tape: Tape,
    form: _Form,
    places: Sequence[int],
    bound: float,
    *,
    decides: bool = False,
    alone: bool = False,
) -> Claim:
    exits = [tape.exits[place] for place in places]
    refs = tuple(e.ref for e in exits)

    def holds(values: Mapping[int, Any]) -> bool:
        return form.value(*(_number(resolved(ref, values)) for ref in refs)) <= bound

    def lines(text: Callable[[Ref], str], message: str) -> list[str]:
        numbers = [text(e.ref) if e.way == "plain" else f"float({text(e.ref)})" for e in exits]
        error, most = form.text.format(*numbers), literal(bound)
        said = f'f"{{error}}, where {most} is allowed: " {message}'
        return [f"error = {error}", f"assert error <= {most}, {said}"]

    def measures(other: Tape, pieces: Sequence[Evidence]) -> bool:
        if max(places) >= len(other.exits):
            return False
        again = [other.exits[place] for place in places]
        if tuple(e.ref for e in again) != refs:
            return False
        error = form.value(*(e.value for e in again))
        return any(abs(error) == piece.error for piece in pieces)

    return Claim(refs, holds, lines, decides=decides, alone=alone, measures=measures)


def _number(value: Any) -> float:
    return float(value.detach() if isinstance(value, Tensor) else value)


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


def wrong_answer(
    program: Program, values: Mapping[int, Any], judged: frozenset[int]
) -> Claim | None:
    """That what the judged calls gave, and changed in place, is no longer what it was."""
    changed = set().union(*(program.nodes[index].writes for index in judged))
    refs: list[Ref] = []
    for index, node in program.nodes.items():
        if node.kind == "call" or node.word == "object":
            refs += _changed_parts(program, index, changed)
            refs += _told_attributes(node, index, values)
        elif node.creates & changed and isinstance(values[index], (Tensor, np.ndarray)):
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

    calls = tuple(Ref(index) for index in sorted(judged))
    answers = tuple(resolved(ref, values) for ref in refs)
    answers += tuple(values[index] for index in program.collects)
    return Claim(
        (*calls, *refs), lambda values: False, lines, program.collects, answers, natural=False
    )


def _told_attributes(node: Node, index: int, values: Mapping[int, Any]) -> list[Ref]:
    """What an object of the check remembers, where it can be said."""
    if node.kind != "value" or not node.answer.sources:
        return []
    held = Ref(index, (("path", "__dict__"),))
    has = hasattr(values[index], "__dict__") and bool(vars(values[index]))
    return [held] if has and plain_text(resolved(held, values)) else []


def _changed_parts(program: Program, index: int, changed: set[Any]) -> list[Ref]:
    """The parameters and buffers of a module built there that the calls changed."""
    parts = program.tape.parts.get(index, {})
    return [Ref(index, (("path", path),)) for path, place in parts.items() if place in changed]


_MOST_WRONG = 3000  # characters of an answer, of which a longer one is told by its checksum
