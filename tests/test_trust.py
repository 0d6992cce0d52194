"""Every cheat is flagged, no honest operation is, and the process is put back after both."""

from __future__ import annotations

import time

import pytest
import torch
from cheats import CHEATS, Cheat, softmax
from honest_operations import HONEST

import dlcheck
from dlcheck import originals
from dlcheck.checks import agreement
from dlcheck.model import Verdict
from dlcheck.reporting.report import Report


def some_and_all(name: str, some: object, everything: object) -> pytest.MarkDecorator:
    """One value each time, and another that takes minutes."""
    return pytest.mark.parametrize(
        name, [some, pytest.param(everything, marks=pytest.mark.nightly)], ids=["some", "all"]
    )


# The check that tells each cheat by its reason; others may see it too.
SEEN_BY = {
    "uninitialised": "reads_no_uninitialised_memory",
    "uninitialised_with_the_right_gradient": "reads_no_uninitialised_memory",
    "uniform": "matches_reference",
    "tail_unwritten": "reads_no_uninitialised_memory",
    "copies_what_looks_right": "answers_alike_beside_its_reference",
    "looks_up_the_stack": "answers_alike_beside_its_reference",
    "knows_the_public_seeds": "matches_reference",
    "knows_how_dlcheck_draws": "leaves_other_code_alone",
    "only_contiguous": "ignores_memory_layout",
    "only_contiguous_without_a_reference": "ignores_memory_layout",
    "product_ignores_offsets": "ignores_memory_layout",
    "product_ignores_the_stride_of_the_second": "ignores_memory_layout",
    "only_multiples_of_four": "matches_reference",
    "without_the_maximum": "matches_reference",
    "half_inside": "matches_reference",
    "hides_nan": "a_nan_is_not_hidden",
    "reads_past_the_rows": "stays_inside_its_inputs",
    "masks_by_multiplying_past_the_end": "stays_inside_its_inputs",
    "shifts_by_the_global_maximum": "a_nan_stays_in_its_row",
    "caches_by_pointer": "sees_what_its_inputs_hold_now",
    "caches_by_version": "sees_what_its_inputs_hold_now",
    "caches_by_shape": "gradient_matches_difference",
    "caches_by_corners": "sees_what_its_inputs_hold_now",
    "caches_by_every_third_element": "sees_what_its_inputs_hold_now",
    "caches_the_norm_of_each_row_start": "sees_what_its_inputs_hold_now",
    "returns_its_scratch_memory": "earlier_results_stay",
    "saves_on_the_class": "earlier_results_stay",
    "gradient_ignores_strides": "gradient_matches_difference",
    "folds_its_weight_once": "sees_what_its_parameters_hold_now",
    "keeps_the_weight_of_its_first_evaluation": "sees_what_its_parameters_hold_now",
    "answers_lazily": "results_are_plain_tensors",
    "finishes_later": "answers_when_it_returns",
    "improves_its_answer_later": "answers_when_it_returns",
    "zeroes_its_input": "leaves_inputs_unchanged",
    "touches_its_input": "leaves_inputs_unchanged",
    "writes_past_its_input": "stays_inside_its_inputs",
    "stops_the_clock": "leaves_other_code_alone",
    "agrees_with_itself": "leaves_other_code_alone",
    "agrees_with_itself_when_it_is_loaded": "leaves_other_code_alone",
    "replaces_the_reference": "leaves_other_code_alone",
    "never_synchronises": "leaves_other_code_alone",
    "judges_itself": "leaves_other_code_alone",
    "always_seeds": "leaves_the_process_unchanged",
    "sets_the_default_dtype": "leaves_the_process_unchanged",
    "hooks_every_module": "leaves_other_code_alone",
    "is_not_the_same_twice": "repeats_exactly",
    "calls_softmax": "computes_it_itself",
    "falls_back": "computes_it_itself",
    "calls_softmax_for_odd_rows": "computes_it_itself",
    "calls_layer_norm": "computes_it_itself",
    "calls_gelu": "computes_it_itself",
    "calls_mm": "computes_it_itself",
}
TRUST = [
    "a_nan_*", "answers_*", "earlier_results_stay", "ignores_memory_layout",
    "leaves_other_code_alone", "reads_no_uninitialised_memory", "results_are_plain_tensors",
    "sees_what_*", "stays_inside_its_inputs",
]  # fmt: skip


def validated(case: Cheat, checks: list[str] | None, seed: int = 0) -> Report:
    return dlcheck.validate(
        case.make(),
        kind=case.kind,
        args=case.args,
        inputs=case.inputs,
        reference=case.reference,
        options=case.options,
        checks=checks,
        profile="quick",
        seed=seed,
        device="cpu",
    )


@pytest.fixture(scope="module", autouse=True)
def _a_trial_before() -> None:
    """dlcheck notes its own functions when a trial begins; cheats are loaded later than that."""
    dlcheck.validate(torch.exp, kind="op", inputs={"x": "float n"}, checks=["repeats_exactly"])


def test_there_are_enough_of_both() -> None:
    assert len(CHEATS) >= 30
    assert len(HONEST) >= 12
    assert set(SEEN_BY) == set(CHEATS)


@pytest.mark.filterwarnings("ignore")
@some_and_all("whole", some=False, everything=True)
@pytest.mark.parametrize("name", CHEATS)
def test_flags_every_cheat_for_its_reason(name: str, *, whole: bool) -> None:
    report = validated(CHEATS[name], None if whole else [SEEN_BY[name]])
    found = {outcome.check: outcome for outcome in report.outcomes}
    assert not report.passed
    assert found[SEEN_BY[name]].verdict is Verdict.FAILED, found[SEEN_BY[name]]


@pytest.mark.parametrize("seed", range(10))
def test_sees_an_unwritten_tail_whatever_lies_in_memory(seed: int) -> None:
    (found,) = validated(CHEATS["tail_unwritten"], ["reads_no_uninitialised_memory"], seed).outcomes
    assert found.verdict is Verdict.FAILED


@pytest.mark.filterwarnings("ignore")
@some_and_all("seeds", some=1, everything=20)
@pytest.mark.parametrize("name", HONEST)
def test_clears_every_honest_operation(name: str, seeds: int) -> None:
    case = HONEST[name]
    claims = ["computes_it_itself"] if case.options.get("own_kernel") else []
    for seed in range(seeds):
        report = validated(case, [*TRUST, *claims], seed)
        bad = [o for o in report.outcomes if not o.verdict.is_good]
        assert not bad, f"seed {seed}: {bad[0].check} {bad[0].case} {bad[0].worst}"


def test_puts_back_what_a_cheat_replaces_and_blames_nobody_else() -> None:
    clock, allclose = time.perf_counter, torch.allclose
    for name in ("stops_the_clock", "agrees_with_itself_when_it_is_loaded"):
        assert not validated(CHEATS[name], ["leaves_other_code_alone"]).passed
    assert time.perf_counter is clock
    assert torch.allclose is allclose
    assert not originals.replaced()
    honest = dlcheck.validate(
        softmax,  # of the same module as the cheats
        kind="op",
        inputs={"x": "float b n"},
        checks=["leaves_other_code_alone"],
        device="cpu",
    )
    assert honest.passed


@pytest.mark.parametrize("check", ["leaves_other_code_alone", "repeats_exactly"])
def test_puts_back_its_own_functions_whatever_the_check(check: str) -> None:
    honest = agreement.largest_of
    validated(CHEATS["judges_itself"], [check])
    assert agreement.largest_of is honest


def test_leaves_alone_what_was_replaced_before() -> None:
    """A library may have good reasons for another softmax."""
    right, other = torch.softmax, lambda x, dim: softmax(x)
    torch.softmax = other
    try:
        report = dlcheck.validate(
            torch.exp, kind="op", inputs={"x": "float n"}, checks=["repeats_exactly"], device="cpu"
        )
        assert report.passed
        assert torch.softmax is other
    finally:
        torch.softmax = right
