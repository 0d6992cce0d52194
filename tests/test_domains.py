"""The input language reads what it writes, and says what is wrong with the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlcheck.domains import ELEMENTS, Dim, Input, parse_dim, parse_input, problems_of, resolve_args
from dlcheck.errors import DeclarationError

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
dims = st.one_of(
    st.builds(Dim, st.just(""), st.integers(0, 512), st.booleans()),
    st.builds(Dim, names, st.integers(1, 9), st.booleans()),
)
finite = st.floats(-1e9, 1e9)


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    element = draw(st.sampled_from(sorted(ELEMENTS)))
    axes = draw(st.lists(dims, min_size=2, max_size=4))
    if element in ("spd", "orthogonal"):
        axes[-1] = axes[-2]
    takes = ELEMENTS[element][0]
    if takes == "count":
        count = draw(dims.filter(lambda dim: not dim.ragged))
        return Input(element, tuple(axes), count=count)
    if takes == "range" or (takes == "range?" and draw(st.booleans())):
        ends = st.integers(-99, 99).map(float) if element == "int" else finite
        low, high = draw(st.tuples(ends, ends).filter(lambda pair: pair[0] < pair[1]))
        return Input(element, tuple(axes), low=low, high=high)
    return Input(element, tuple(axes))


@given(inputs())
def test_what_is_written_reads_back(declared: Input) -> None:
    assert parse_input(str(declared)) == declared


@given(st.one_of(st.text(), st.text("float[]:*~ bnk0123456789"), st.integers(), st.none()))
def test_any_text_parses_or_is_refused(text: object) -> None:
    try:
        parsed = parse_input(text)  # type: ignore[arg-type]
    except DeclarationError:
        return
    assert parse_input(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flaot b", "Did you mean 'float'"),
        ("", "write an element and its dims"),
        ("float b*", "'b*' is no dim"),
        ("float b*0", "'b*0' is no dim"),
        ("float 2.5", "'2.5' is no dim"),
        ("label b", "write label[k]"),
        ("label[] b", "is no dim"),
        ("label[k~] b", "not ragged"),
        ("int b", "write int[lo:hi]"),
        ("int[3:1] b", "lo < hi"),
        ("int[0.5:2] b", "in integers"),
        ("float[0:inf] b", "in finite numbers"),
        ("float[nan:1] b", "in finite numbers"),
        ("positive[0:1] b", "takes no brackets"),
        ("spd n m", "the last two dims of spd are the same"),
        ("spd n", "needs at least 2 dims"),
        ("int[0:" + "9" * 500 + "] b", "lo < hi"),
        ("float " + "9" * 5000, "is no dim"),
    ],
)
def test_a_wrong_input_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parse_input(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("args", "options", "path", "said"),
    [
        ({"width": {"dim": "e"}}, {}, ("args", "width"), "'e' is used but never bound"),
        ({"width": {"dim": "d*"}}, {}, ("args", "width"), "'d*' is no dim"),
        ({}, {"sizes": {"e": [1, 2]}}, ("options", "sizes", "e"), "'e' is used but never bound"),
        ({}, {"sizes": {"d": [3, 2]}}, ("options", "sizes", "d"), "[lowest, highest]"),
        ({}, {"sizes": {"d": True}}, ("options", "sizes", "d"), "[lowest, highest]"),
        ({}, {"sizes": 3}, ("options", "sizes"), "sizes is a table"),
        ({}, {"output": "float b e"}, ("options", "output"), "'e' is used but never bound"),
        ({}, {"output": 3}, ("options", "output"), "an input is a string"),
    ],
)
def test_a_dim_must_be_bound(
    args: dict[str, object], options: dict[str, object], path: tuple[str, ...], said: str
) -> None:
    ((where, message),) = problems_of({"x": "float b d"}, args, options)
    assert where == path
    assert said in message


def test_sizes_are_products() -> None:
    assert parse_dim("d*4").size({"d": 3}) == 12
    assert parse_input("label[k] b 2").shape({"b": 5, "k": 3}) == (5, 2)
    args = {"width": {"dim": "d*2"}, "betas": {"first": 0.9}}
    assert resolve_args(args, {"d": 3}) == {"width": 6, "betas": {"first": 0.9}}
