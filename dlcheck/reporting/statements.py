"""The textbook's statements: what is said, how far it is so, and the numbers on both sides.

A statement may have several checks as its experiment, each on several subjects. It stands as ruled
where all of them came to what their law says; its counter-examples are measured beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dlcheck.model import Evidence, Statement, Verdict
from dlcheck.reporting.coverage import GRAVITY, Cell
from dlcheck.reporting.markup import Child, Markup, clipped, join, tag
from dlcheck.reporting.numbers import counted, typeset
from dlcheck.reporting.tables import link, table
from dlcheck.reporting.trials import verdict_mark

_SHOWN = 3  # measurements a side
_TEXT = 240


@dataclass(frozen=True, slots=True)
class Told:
    """One statement with the cells that measured it."""

    statement: Statement
    rulings: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def verdict(self) -> Verdict:
        return max((cell.verdict for cell in self.cells), key=GRAVITY.index)

    def measured(self, *, counterexample: bool) -> list[str]:
        """What was measured on one side, in words and numbers, each quantity once."""
        found: dict[str, str] = {}
        for cell in self.cells:
            for outcome in cell.outcomes:
                for piece in outcome.evidence:
                    if piece.counterexample is counterexample and piece.what:
                        found.setdefault(piece.what, _in_words(piece))
        return [f"{what}: {said}" for what, said in found.items()]


def statements_of(cells: Iterable[Cell]) -> list[Told]:
    """The statements that a run has evidence of, in the order of their numbers.

    A subject that is declared to fail the experiment says nothing of the statement beside others.
    """
    by_id: dict[str, list[Cell]] = {}
    first: dict[str, Statement] = {}
    for cell in cells:
        if (statement := cell.outcomes[0].textbook) is not None:
            by_id.setdefault(statement.id, []).append(cell)
            first.setdefault(statement.id, statement)
    return [
        Told(first[name], _rulings(by_id[name]), _telling(by_id[name]))
        for name in sorted(by_id, key=lambda name: first[name].place)
    ]


def _telling(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    found = tuple(cell for cell in cells if cell.verdict is not Verdict.EXPECTED)
    return found or tuple(cells)


def _rulings(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Each ruling once; a plain "true" says nothing beside one with a condition."""
    stated = (cell.outcomes[0].textbook for cell in cells)
    found = dict.fromkeys(statement.ruling for statement in stated if statement)
    conditional = tuple(ruling for ruling in found if ruling != "true")
    return conditional or tuple(found)


def _in_words(piece: Evidence) -> str:
    unit = f" {piece.unit}" if piece.unit else ""
    if piece.got:
        said = f"{piece.got} (expected {piece.expected})" if piece.expected else piece.got
    elif piece.p_values:
        said = f"off by {typeset(piece.error)}{unit}, detectable {typeset(piece.bound)}"
    elif piece.bound == 0:
        said = f"{typeset(piece.error)}{unit}"
    else:
        said = f"off by {typeset(piece.error)}{unit}, allowed {typeset(piece.bound)}"
    return " ".join(said.split())


def statements(cells: Sequence[Cell]) -> Markup | None:
    """The page of the textbook: a row a statement, with links to its trials."""
    found = statements_of(cells)
    if not found:
        return None
    confirmed = sum(each.verdict is Verdict.PASSED for each in found)
    text = (
        f"What an introduction to deep learning says, held against its law: {confirmed} of "
        f"{counted(len(found), 'statement')} came out as ruled here. A statement that is only half "
        "true has the case where it fails measured beside it."
    )
    head = ("no.", "the textbook says", "it is", "measured", "where it fails", "trials")
    rows = [_row(each) for each in found]
    return join(tag("p", text, class_="quiet"), table(head, rows, "statements"))


def _row(told: Told) -> list[Child]:
    return [
        [verdict_mark(told.verdict), " ", told.statement.id],
        told.statement.says,
        ruling_of(told),
        _lines(told.measured(counterexample=False)),
        _lines(told.measured(counterexample=True)),
        _lines(_links(told)),
    ]


def ruling_of(told: Told) -> str:
    """How far the statement is so, or why this run does not say."""
    return _UNSETTLED.get(told.verdict) or "; ".join(told.rulings)


_UNSETTLED = {
    Verdict.SKIPPED: "not checked",
    Verdict.INCONCLUSIVE: "not settled by this run",
    Verdict.ERRORED: "not checked: dlcheck failed",
    Verdict.FAILED: "not confirmed by this run",
}


def _links(told: Told) -> Iterator[Markup]:
    for cell in told.cells:
        yield join(link(cell), f" of {cell.subject}")


def _lines(parts: Iterable[Child]) -> Markup:
    every = list(parts)
    kept = [clipped(part, _TEXT) if isinstance(part, str) else part for part in every[:_SHOWN]]
    if len(every) > _SHOWN:
        kept.append(f"and {len(every) - _SHOWN} more")
    return join([join(tag("br") if k else None, part) for k, part in enumerate(kept)])
