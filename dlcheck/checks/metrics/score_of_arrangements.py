"""Whether the Inception Score sees how the parts of a picture are arranged: its features decide."""

from __future__ import annotations

from collections.abc import Iterator

import torch

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
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


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
    seen, series = {}, {}
    for name, study in local_study(case.root).items():
        points = []
        for share in _SHARES:
            count = round(share * len(pictures))
            mixed = torch.cat([moved[:count], pictures[count:]])
            points.append((share, score_of(score, study.probabilities(mixed), case)))
        ratio = study.distance(moved) / study.distance(pictures)
        seen[name], series[name] = (points[0][1], points[-1][1], ratio), points
    figure = Figure(
        title="Score against the share of pictures with shuffled tiles",
        x="share of pictures whose tiles are shuffled",
        y="score",
        series=series,
        note="By the features of a classifier: pooled, kept in place, and of overlapping patches.",
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
