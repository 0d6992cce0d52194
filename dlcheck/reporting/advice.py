"""What to do about a trial that is neither right nor wrong."""

from __future__ import annotations

from dlcheck.model import Outcome, Verdict

OWN_MISTAKE = "dlcheck itself failed"  # how the message of our own exception begins


def next_step(outcome: Outcome) -> str:
    """The next thing to try, in words; empty where the message itself says what is to be done."""
    match outcome.verdict:
        case Verdict.ERRORED if outcome.message.startswith(OWN_MISTAKE):
            return (
                "this is a mistake of dlcheck or of the check, not of the subject: report it with "
                "this message, and leave the check out meanwhile (skip)"
            )
        case Verdict.ERRORED if "ran no case" in outcome.message:
            return "declare inputs or sizes that the check can use, or leave it out (skip)"
        case Verdict.INCONCLUSIVE:
            return _of_a_loose_bound(outcome)
    return ""


def _of_a_loose_bound(outcome: Outcome) -> str:
    worst = outcome.worst
    if "benchmark" in outcome.tags:
        return "measure again on a quieter machine"
    if worst is not None and worst.p_values:
        more = "take more samples: --profile thorough"
        return more if outcome.profile != "thorough" else "give it sizes with a larger effect"
    if outcome.dtype not in ("float64", "complex128", ""):
        return f"judge it in float64, where rounding hides less than in {outcome.dtype}"
    if outcome.profile in ("quick", "default", "ci"):
        return (
            "look at more cases (--profile thorough), or declare inputs and sizes where the "
            "effect is larger than rounding"
        )
    return (
        "declare inputs or sizes where the effect is larger than rounding, or leave it out (skip)"
    )
