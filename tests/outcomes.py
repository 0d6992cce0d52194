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


def rich(k: int, verdict: Verdict) -> Outcome:
    """An outcome as full as those of real suites."""
    number = k / 997
    figure = Figure(
        title=f"Distance against noise {k}",
        x="noise",
        y="distance",
        series={f"s{j}": [(i, i * number + j) for i in range(60)] for j in range(5)},
    )
    pieces = tuple(
        Evidence(
            error=number * 1e-13 if verdict is Verdict.PASSED else 1.0 + j,
            bound=1e-12,
            signal=1.0 + number,
            unit="relative",
            what=f"gradient of weight {j} along a random direction",
            expected=f"{number:.10f} ± 2e-13",
            got=f"{1 - number:.10f}",
            where="element 0 of shape [2, 2]",
            p_values=(0.2 + number / 2,) if k % 4 == 0 and verdict is Verdict.PASSED else (),
            figures=(figure,) if k % 20 == 0 and j == 0 else (),
            values={"n": 1000.0, "smallest detectable effect": number},
        )
        for j in range(3)
    )
    return outcome(
        f"the_gradient_of_everything_matches_its_difference_{k % 50}",
        subject=f"subject_of_the_suite_{k // 50}",
        claim="The gradient of every input and parameter is the derivative that differences show.",
        verdict=verdict,
        evidence=pieces,
        case="n=13 m=7, x: ties, x: transposed, seed=31234",
        cases=20,
        conclusive=19,
        message="" if verdict is Verdict.PASSED else "Traceback\n" + "  frame of a stack\n" * 200,
        reproduce=f"pytest 'suites/regularization.toml::subject_{k}::the_gradient[cpu-float64]'",
        seconds=number,
        target="package.module.submodule:Implementation",
        file="/home/me/project/suites/regularization.toml",
        line=10 + k // 50,
    )
