"""Outcomes for tests: any that can be recorded, and plain ones."""

from __future__ import annotations

from hypothesis import strategies as st

from dlcheck.model import Evidence, Figure, Outcome, Statement, Verdict

TEXT = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["nan", "inf", "-inf", "\u2028", "\ud800"]
)
NUMBERS = st.floats()
FIGURES = st.builds(
    Figure,
    title=TEXT,
    x=TEXT,
    y=TEXT,
    series=st.dictionaries(
        TEXT, st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3).map(tuple), max_size=2
    ),
    log_x=st.booleans(),
    log_y=st.booleans(),
    marks=st.lists(TEXT, max_size=2).map(tuple),
    steps=st.lists(TEXT, max_size=2).map(tuple),
    note=TEXT,
)
EVIDENCE = st.builds(
    Evidence,
    error=NUMBERS,
    bound=NUMBERS,
    signal=NUMBERS,
    unit=TEXT,
    what=TEXT,
    expected=TEXT,
    got=TEXT,
    where=TEXT,
    cause=TEXT,
    resolution=NUMBERS,
    p_values=st.lists(NUMBERS, max_size=3).map(tuple),
    alpha=NUMBERS,
    strikes=st.integers(1, 9),
    values=st.dictionaries(TEXT, NUMBERS | TEXT | st.integers() | st.booleans(), max_size=3),
    figures=st.lists(FIGURES, max_size=2).map(tuple),
    counterexample=st.booleans(),
)
STATEMENTS = st.builds(Statement, id=TEXT, says=TEXT, verdict=TEXT, condition=TEXT)
OUTCOMES = st.builds(
    Outcome,
    **dict.fromkeys(("suite", "subject", "kind", "check", "claim", "device", "dtype"), TEXT),
    **dict.fromkeys(("point", "case", "message", "reproduce", "profile", "target", "file"), TEXT),
    **dict.fromkeys(("cases", "conclusive", "seed", "line"), st.integers(0)),
    verdict=st.sampled_from(Verdict),
    evidence=st.lists(EVIDENCE, max_size=2).map(tuple),
    seconds=NUMBERS,
    tags=st.lists(TEXT, max_size=2).map(tuple),
    textbook=st.none() | STATEMENTS,
)


def outcome(check: str = "zeroes_weights_exactly", **more: object) -> Outcome:
    """An outcome with little in it."""
    given = {
        "suite": "s.toml",
        "subject": "l1",
        "kind": "penalty",
        "claim": "L1 zeroes weights.",
        "device": "cpu",
        "dtype": "float64",
        "point": "cpu-float64",
        "verdict": Verdict.PASSED,
        **more,
    }
    return Outcome(check=check, **given)  # type: ignore[arg-type]
