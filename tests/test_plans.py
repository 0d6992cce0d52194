"""The cases that no run leaves to chance."""

from __future__ import annotations

from dlcheck import Subject
from dlcheck.plans import planned_recipes
from dlcheck.taken import inputs_of


def test_half_of_the_checks_see_a_batch_of_one_among_few_cases() -> None:
    subject = Subject(name="f", target="torch:exp", kind="op", inputs={"x": "float b n"})
    specs = inputs_of(subject)
    batches = [[r.sizes["b"] for r in planned_recipes(subject, specs, (), seed, 5)]
               for seed in (10, 11)]  # fmt: skip
    assert [1 in sizes for sizes in batches] == [False, True]


def test_positions_in_pairs_are_few_enough_for_all_pairs() -> None:
    inputs = {"query": "float b t d", "key": "float b s d", "value": "float b s d"}
    subject = Subject(name="f", target="torch:exp", kind="attention", inputs=inputs)
    planned = planned_recipes(subject, inputs_of(subject), (), 0, 10)
    pairs = [r.sizes["b"] * r.sizes["t"] * r.sizes["s"] for r in planned]
    assert max(pairs) <= 2**19
    assert max(max(r.sizes.values()) for r in planned) >= 129
