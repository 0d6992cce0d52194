"""Whether the Inception Score sees how the parts of a picture are arranged: its features decide."""

from __future__ import annotations

from collections.abc import Iterator

from dlcheck.checks.metrics.class_probabilities import in_one_or_fixed, resolvable, score_of
from dlcheck.checks.metrics.score_laws import negates_the_divergence
from dlcheck.checks.metrics.score_on_digits import (
    forgets_all_but_the_last_batch,
    needs_ten_classes,
)
from dlcheck.checks.metrics.score_values import averages_over_classes_too
from dlcheck.features import digits_study, local_study, shuffled_tiles
from dlcheck.model import Evidence, Figure
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ENOUGH = 450


@check(
    kind="score_metric",
    once=True,
    rejects=[
        averages_over_classes_too,
        forgets_all_but_the_last_batch,
        negates_the_divergence,
    ],
    textbook={
        "id": "M6",
        "says": "Both see features and are blind to their arrangement",
        "verdict": "true if",
        "condition": "local features are pooled over the whole picture",
    },
)
def shuffled_tiles_score_as_their_features_say(
    score: Implementation, case: Case
) -> Iterator[Evidence]:
    """With features of tiles that are pooled, digits with shuffled tiles score the same.

    450 held-out digits whose four tiles of 4 × 4 pixels lie in a random order. Pooled features of
    the tiles, and with them the probabilities and the Fréchet distance, are the same up to
    rounding. Two ways in which networks do see the order: the same features kept in place (a 2 ×
    2 grid), and pooled features of patches that overlap the seams. Both scores fall, by 14
    to 60 % over 24 classifiers, and the distances grow thirtyfold or more.
    """
    score = in_one_or_fixed(score)
    needs_ten_classes(score, case)
    pictures = digits_study(case.root).unseen[:_ENOUGH]
    moved = shuffled_tiles(pictures, case.generator("tiles"))
    seen = {}
    for name, study in local_study(case.root).items():
        whole, shuffled = (score_of(score, study.probabilities(x), case) for x in (pictures, moved))
        ratio = study.distance(moved) / study.distance(pictures)
        seen[name] = (whole, shuffled, ratio)
    figure = Figure(
        title="Score of real and of shuffled digits",
        x="0: as they are, 1: tiles shuffled",
        y="score",
        series={name: [(0.0, a), (1.0, b)] for name, (a, b, _) in seen.items()},
    )
    whole, shuffled, ratio = seen.pop("pooled")
    yield Evidence(
        error=abs(shuffled - whole),
        bound=resolvable(score, case, whole),
        signal=whole,
        what="change of the score for shuffled tiles, features pooled",
        expected=f"{whole:.6g}",
        got=f"{shuffled:.6g}, at {ratio:.3g} times the Fréchet distance",
        figures=(figure,),
    )
    for name, (whole, shuffled, ratio) in seen.items():
        yield Evidence(
            error=shuffled / whole if whole else float("nan"),
            bound=0.95,
            signal=1.0,
            resolution=0.95,
            unit="of the score of real digits",
            what=f"score of shuffled tiles, features {name}",
            expected=f"below {whole:.3g}",
            got=f"{shuffled:.3g}, at {ratio:.3g} times the Fréchet distance",
            counterexample=True,
        )
