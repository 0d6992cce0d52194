"""Which elements are wrong and what would mend them: told where it is so, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlcheck.checks.agreement import agreement
from dlcheck.model import Verdict
from dlcheck.numerics.localisation import pattern_of
from dlcheck.numerics.relations import relation

BOUND = 1e-12
NAMES = ("b", "i", "j")
SIZES = {"b": 5, "i": 7, "j": 6}


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def indices(*shape: int) -> dict[str, Tensor]:
    grid = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    return dict(zip(NAMES, grid, strict=False))


def meant(words: str, shape: tuple[int, ...]) -> Tensor:
    """The elements that a rule about places names, read from its words alone."""
    if words.startswith("not ("):
        return ~meant(words[5:-1], shape)
    at, holds = indices(*shape), torch.ones(shape, dtype=torch.bool)
    sizes = dict(zip(NAMES, shape, strict=False))
    for rule in words.split(" and " if "diagonal" not in words else "\0"):
        if rule.endswith(" is at its border"):
            names = rule.removesuffix(" is at its border").split(" or ")
            borders = [(at[n] == 0) | (at[n] == sizes[n] - 1) for n in names]
            holds &= torch.stack(borders).any(0)
            continue
        said = re.sub(r" \(.*?\)|, .*diagonal.*", "", rule)
        said = re.sub(r"(\w) is odd", r"\1 % 2 == 1", said)
        said = re.sub(r"(\w) is even", r"\1 % 2 == 0", said)
        said = re.sub(r"(\w) \+ (\w) %", r"(\1 + \2) %", said)
        said = re.sub(r"(\w) is a multiple of (\d+)", r"\1 % \2 == 0", said)
        said = re.sub(r"(\d+) ≤ (\w) ≤ (\d+)", r"(\2 >= \1) & (\2 <= \3)", said)
        if several := re.fullmatch(r"(\w) = ([\d, ]+) or (\d+)", said):
            name, first, last = several.groups()
            chosen = [int(i) for i in (*first.split(", "), last)]
            holds &= torch.isin(at[name], torch.tensor(chosen))
            continue
        for sign, code in (("≤", "<="), ("≥", ">="), ("≠", "!="), (" = ", " == ")):
            said = said.replace(sign, code)
        holds &= eval(said, {}, at)
    return holds


CHOICES: list[Callable[[Tensor, int], Tensor]] = [
    lambda at, n: at == n - 1,
    lambda at, n: at == n // 2,
    lambda at, n: at % 2 == 1,
    lambda at, n: at % 2 == 0,
    lambda at, n: at >= n // 2,
    lambda at, n: (at > 0) & (at < n - 1),
    lambda at, n: (at == 0) | (at == n - 1),
    lambda at, n: at >= 0,
]


@settings(max_examples=100)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    chosen=st.lists(st.sampled_from(CHOICES), min_size=3, max_size=3),
    inverted=st.booleans(),
)
def test_a_planted_box_is_named_by_words_that_mean_it(
    shape: tuple[int, ...],
    chosen: list[Callable[[Tensor, int], Tensor]],
    inverted: bool,  # noqa: FBT001
) -> None:
    wrong = torch.ones(shape, dtype=torch.bool)
    for (name, at), n in zip(indices(*shape).items(), shape, strict=True):
        wrong &= chosen[NAMES.index(name)](at, n)
    wrong = ~wrong if inverted else wrong
    words = pattern_of(wrong, names=NAMES[: len(shape)])
    if 1 < int(wrong.sum()) < wrong.numel():
        assert torch.equal(meant(words, shape), wrong), words


@settings(max_examples=150)
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    bits=st.integers(0, 2**125 - 1),
)
def test_no_place_is_claimed_that_the_wrong_elements_do_not_fill(
    shape: tuple[int, ...], bits: int
) -> None:
    count = torch.Size(shape).numel()
    wrong = torch.tensor([bits >> k & 1 == 1 for k in range(count)]).reshape(shape)
    if words := pattern_of(wrong, names=NAMES[: len(shape)]):
        assert torch.equal(meant(words, shape), wrong), words


X = values(5, 7)
TIED = torch.where(X.abs() < 0.5, 0.25, X)
MASK = values(12, seed=3) > 0
LABELS = torch.tensor([1, 0, 1, 2, 0, 2, 1, 0, 0, 2])


@pytest.mark.parametrize(
    ("wrong", "beside", "words"),
    [
        (X < 0, {"x": X}, "x < 0"),
        (TIED == 0.25, {"x": TIED}, "x is equal to another one"),
        (X.abs() > 1, {"x": X}, "|x| is above a limit between 1 and 1.06"),
        (MASK.expand(5, 12), {"x": X, "mask": MASK}, "mask is true"),
        ((LABELS == 1)[:, None].expand(10, 3), {"target": LABELS}, "target = 1"),
        (X.relu() == 0, {"x": X}, "x < 0"),
    ],
)
def test_planted_values_are_named(wrong: Tensor, beside: dict[str, Tensor], words: str) -> None:
    assert words in pattern_of(wrong, beside=beside)


def test_what_only_looks_like_a_rule_is_not_told() -> None:
    few = torch.tensor([0.3, -0.2, 1.0])
    assert "x" not in pattern_of(few < 0, beside={"x": few})  # one of three elements: an accident
    other = values(5, 7, seed=9)
    assert pattern_of(other > 0.3, beside={"x": X}) == ""


@pytest.mark.parametrize(("size", "tile"), [(33, 32), (35, 32), (130, 128), (1030, 1024)])
def test_the_last_tile_is_named(size: int, tile: int) -> None:
    wrong = torch.zeros(3, size, dtype=torch.bool)
    wrong[:, tile:] = True
    assert f"past the last whole {tile}" in pattern_of(wrong, names=("b", "n"))


# --- what would mend it -------------------------------------------------------------------------

E = values(5, 7, 6)
PLANTED: dict[str, tuple[Tensor, str]] = {
    "twice": (2 * E, "a factor 2 too many"),
    "half": (E / 2, "a factor 2 is missing"),
    "sign": (-E, "the sign is flipped"),
    "sum for mean": (7 * E, "i times too large: a sum where a mean is meant (i = 7)"),
    "mean over two": (E / 35, "b·i times too small: a mean where a sum is meant (b·i = 35)"),
    "root": (E * 6**0.5, "√j times too large: a division by it is missing (j = 6)"),
    "sample variance": (E * 7 / 6, "a variance over i − 1 where one over i is meant (i = 7)"),
    "fitted factor": (E * 1.2345, "it is 1.2345 times what it should be"),
    "constant": (E + 0.25, "it is 0.25 too large"),
    "zero": (0 * E, "it is 0"),
    "absolute": (E.abs(), "the sign is lost"),
    "root missing": (E.square(), "it is the square of what it should be"),
    "cut off": (E.clamp(-1, 1.5), "it is cut off above 1.5 and below -1"),
    "rounded": (E.bfloat16().double(), "it is rounded to bfloat16 on its way"),
    "shifted": (E.roll(1, 1), "it is shifted by one along i"),
    "reversed": (E.flip(2), "it is in reverse order along j"),
    "one row": (E[:1].expand_as(E), "it is the same for each b"),
    "factor of each": (E * torch.arange(1.5, 6).double()[:, None, None], "each b has a factor"),
    "constant of each": (E + values(6, seed=5), "each j is off by an amount of its own"),
    "half of them": (torch.where(E < 0, 3 * E, E), "there it is 3 times what it should be"),
    "transposed": (E.mT.contiguous(), "dims 1 and 2 are exchanged"),
    "not summed": (E, "the sum over dim 2 is missing"),
    "averaged": (E.mean(1), "it is averaged over dim 1"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_named(name: str) -> None:
    got, words = PLANTED[name]
    right = E.sum(2) if name == "not summed" else E
    assert words in relation(got, right, BOUND, sizes=SIZES, names=NAMES)


@pytest.mark.parametrize("name", PLANTED)
def test_nothing_is_named_that_one_element_contradicts(name: str) -> None:
    """The corrected answer meets the bound at every element, or it is no correction."""
    got = PLANTED[name][0].clone()
    got.view(-1)[17] += 0.01
    right = E.sum(2) if name == "not summed" else E
    assert relation(got, right, BOUND, sizes=SIZES, names=NAMES) == ""


@settings(max_examples=60)
@given(shape=st.lists(st.integers(1, 6), max_size=3).map(tuple), seed=st.integers(0, 2**20))
def test_unrelated_answers_have_no_relation(shape: tuple[int, ...], seed: int) -> None:
    right, got = values(*shape, seed=seed), values(*shape, seed=seed + 1)
    sizes = dict(zip(NAMES, shape, strict=False))
    assert relation(right, right, BOUND, sizes=sizes) == ""
    assert relation(got, right, BOUND, sizes=sizes) == ""


def test_numbers_beyond_the_range_of_float32_are_compared() -> None:
    x = torch.tensor([1e300, 2e300], dtype=torch.float64)
    assert agreement("x", x, x, room=1e285).verdict is Verdict.PASSED
    assert agreement("x", x.flip(0), x, room=1e285).verdict is Verdict.FAILED
